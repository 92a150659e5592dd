//! Whole messages: what can be read of any octets, and that what a proxy writes means what came in.

use std::net::SocketAddr;

use callgate::base::Cursor;
use callgate::sip::{
    Edit, HeaderId, Message, NameAddr, Scratch, Uri, Via, compose, validate_request,
    validate_response,
};

const FIELDS_MAX: usize = 256;

fn source() -> SocketAddr {
    "192.0.2.77:4711".parse().expect("a literal")
}

/// Any octets: nothing panics, and all that is found lies where it is said to lie.
pub fn parse(bytes: &[u8]) {
    let mut scratch = Scratch::new(FIELDS_MAX);
    match callgate::sip::parse(bytes, &mut scratch) {
        Ok(message) => read_all(&message, true),
        Err(rejected) => {
            assert!(rejected.fault.at <= bytes.len());
            if let Some(partial) = rejected.partial {
                read_all(&partial, false);
            }
        }
    }
}

fn read_all(message: &Message<'_>, is_whole: bool) {
    let end = message.bytes().len();
    let mut last = message.header_start();
    for field in message.fields() {
        let (line, name, value) = (field.line(), field.name_range(), field.value_range());
        assert!(last <= line.start && line.start == name.start && name.end <= value.start);
        assert!(value.end <= line.end && line.end <= end);
        last = line.end;
        for value in message.values(field.id) {
            assert_eq!(&message.bytes()[value.range.clone()], value.bytes);
            let _ = Via::parse(value.bytes);
            let _ = NameAddr::parse(value.bytes).map(|address| Uri::parse(address.uri).is_ok());
        }
    }
    assert!(last <= message.header_end() && message.header_end() <= end);
    let _ = (
        message.cseq(),
        message.max_forwards(),
        message.max_breadth(),
    );
    let _ = (message.from_tag(), message.to_tag(), message.method());
    callgate::sip::sdp::audio_codecs(message.body(), |_| {});
    answer(message, is_whole);
}

/// Our answer to a sound request is sound and names the same transaction.
fn answer(request: &Message<'_>, is_whole: bool) {
    let mut buffer = vec![0; 140_000];
    let mut out = Cursor::new(&mut buffer);
    let asker = compose::Asker {
        source: source(),
        feedback: None,
    };
    compose::response(&mut out, request, asker, 486, "Busy", Some(b"t"), &[]);
    let is_sound = is_whole && request.is_request() && validate_request(request).is_ok();
    if !is_sound || out.overflowed() || out.len() > callgate::sip::MESSAGE_MAX {
        let _ = validate_response(request);
        return;
    }
    let mut scratch = Scratch::new(FIELDS_MAX + 8);
    let answer = callgate::sip::parse(out.written(), &mut scratch).expect("our answer parses");
    validate_response(&answer).expect("our answer is sound");
    assert_eq!(answer.call_id(), request.call_id());
    assert_eq!(answer.from_tag(), request.from_tag());
    assert_eq!(answer.cseq(), request.cseq());
    assert_eq!(
        answer.values(HeaderId::Via).count(),
        request.values(HeaderId::Via).count()
    );
    if let Some(tag) = request.to_tag() {
        assert_eq!(answer.to_tag(), Some(tag));
    }
}

/// Parse, change as a proxy does, parse: sound again, and all that is not a proxy's is as it came.
pub fn edit(bytes: &[u8]) {
    let mut scratch = Scratch::new(FIELDS_MAX);
    let Ok(message) = callgate::sip::parse(bytes, &mut scratch) else {
        return;
    };
    if message.is_request() {
        if validate_request(&message).is_ok() {
            forward(&message);
        }
    } else if validate_response(&message).is_ok() {
        pass_up(&message);
    }
}

fn forward(request: &Message<'_>) {
    let mut edit = Edit::new(64, 16 * 1024);
    edit.begin();
    edit.stamp_top_via(request, source());
    edit.insert_top_via(request, |out| {
        out.put(b"SIP/2.0/UDP gate;branch=z9hG4bKnew")
    });
    edit.decrement_max_forwards(request);
    edit.limit_max_breadth(request);
    edit.insert_record_route(request, |out| out.put(b"<sip:gate;lr>"));
    edit.remove_top_route(request);
    let mut buffer = vec![0; request.bytes().len() + 1024];
    let mut out = Cursor::new(&mut buffer);
    edit.write(request.bytes(), &mut out).expect("a sound edit");
    if out.len() > callgate::sip::MESSAGE_MAX {
        return;
    }
    let mut scratch = Scratch::new(FIELDS_MAX + 8);
    let again = callgate::sip::parse(out.written(), &mut scratch).expect("it still parses");
    let top = validate_request(&again).expect("it is still sound");
    assert_eq!(top.branch, Some(&b"z9hG4bKnew"[..]));
    check_forwarded(request, &again);
}

fn check_forwarded(request: &Message<'_>, again: &Message<'_>) {
    assert_eq!(request.request_uri(), again.request_uri());
    assert_eq!(request.method_text(), again.method_text());
    assert_eq!(request.body(), again.body());
    assert_eq!(others(request), others(again));
    let values = |message: &Message<'_>, id| -> Vec<Vec<u8>> {
        message
            .values(id)
            .map(|value| value.bytes.to_vec())
            .collect()
    };
    let (before, after) = (values(request, HeaderId::Via), values(again, HeaderId::Via));
    assert_eq!(before[1..], after[2..], "only the top Via is stamped");
    let (old, new) = (Via::parse(&before[0]), Via::parse(&after[1]));
    let (old, new) = (old.expect("it was sound"), new.expect("it is sound"));
    assert_eq!(
        (old.branch, old.host, old.port),
        (new.branch, new.host, new.port)
    );
    let to = callgate::sip::reply_address(&old, source());
    assert!(new.received.is_none() || new.received == Some(b"192.0.2.77"));
    assert_eq!(to.ip(), source().ip());
    let routes = values(request, HeaderId::Route);
    assert_eq!(
        routes.get(1..).unwrap_or_default(),
        values(again, HeaderId::Route)
    );
    assert_eq!(again.count(HeaderId::MaxForwards), 1);
    assert_eq!(again.count(HeaderId::MaxBreadth), 1);
    let hops = |message: &Message<'_>| message.max_forwards().ok().flatten();
    assert_eq!(
        hops(again),
        Some(hops(request).map_or(70, |hops| hops.saturating_sub(1)))
    );
}

/// Fields that a proxy has no business with.
fn others(message: &Message<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let fields = message.fields().iter();
    fields
        .filter(|field| {
            !matches!(
                field.id,
                HeaderId::Via
                    | HeaderId::Route
                    | HeaderId::RecordRoute
                    | HeaderId::MaxForwards
                    | HeaderId::MaxBreadth
            )
        })
        .map(|field| (field.name(message).to_vec(), field.value(message).to_vec()))
        .collect()
}

fn pass_up(response: &Message<'_>) {
    let mut edit = Edit::new(64, 1024);
    edit.begin();
    edit.remove_top_via(response);
    let mut buffer = vec![0; response.bytes().len()];
    let mut out = Cursor::new(&mut buffer);
    edit.write(response.bytes(), &mut out).expect("one removal");
    let mut scratch = Scratch::new(FIELDS_MAX);
    let again = callgate::sip::parse(out.written(), &mut scratch).expect("it still parses");
    let vias = |message: &Message<'_>| message.values(HeaderId::Via).count();
    assert_eq!(vias(&again) + 1, vias(response));
    assert_eq!(others(&again), others(response));
    assert_eq!(again.body(), response.body());
    assert_eq!(again.status(), response.status());
}
