//! Messages of this node's own: responses, the ACK and CANCEL of our client transactions, probes.
//!
//! Each function writes to a cursor and never looks back; a text that does not fit shows as
//! `Cursor::overflowed`. Requests may be partial (rejected by `parse`): what is there is copied.

use core::fmt::Write;
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use super::edit::{needs_received, put_received, put_rport};
use super::message::Span;
use super::oc::{Feedback, Places};
use super::{HeaderId, Message, Value};
use crate::base::Cursor;

/// Hops a request of our own may take (RFC 3261 §8.1.1.6).
const MAX_FORWARDS: &[u8] = b"Max-Forwards: 70\r\n";

/// Whom a response goes to, as far as its Vias say so.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Where the request came from.
    pub source: SocketAddr,
    /// What it is told about our load, where its Via asks for that.
    pub feedback: Option<Feedback>,
}

/// Writes the response to `request`, which came from `asker`.
///
/// `to_tag` is added to a To without tag; `extra` are field names and values.
//= rfc3261#8.2.6.2
pub fn response(
    out: &mut Cursor<'_>,
    request: &Message<'_>,
    asker: Asker,
    status: u16,
    reason: &str,
    to_tag: Option<&[u8]>,
    extra: &[(&[u8], &[u8])],
) {
    out.put(b"SIP/2.0 ");
    out.put_decimal(status.into());
    out.put(b" ");
    out.put(reason.as_bytes());
    out.put(b"\r\n");
    put_vias(out, request, asker);
    put_first(out, request, HeaderId::From);
    put_to(out, request, to_tag);
    put_first(out, request, HeaderId::CallId);
    put_first(out, request, HeaderId::CSeq);
    if status == 100 {
        put_first(out, request, HeaderId::Timestamp);
    }
    for (name, value) in extra {
        put_field(out, name, value);
    }
    out.put(b"Content-Length: 0\r\n\r\n");
}

/// Writes the ACK for a non-2xx `response` to the INVITE `request`, as this node sent it.
//= rfc3261#17.1.1.3
pub fn ack(out: &mut Cursor<'_>, request: &Message<'_>, response: &Message<'_>) {
    put_same_hop(out, request, b"ACK", |out| {
        put_first(out, response, HeaderId::To);
    });
    out.put(b"Content-Length: 0\r\n\r\n");
}

/// Writes the CANCEL for the INVITE `request`, as this node sent it; `reason` is the value of a
/// Reason field (RFC 3326).
//= rfc3261#9.1
pub fn cancel(out: &mut Cursor<'_>, request: &Message<'_>, reason: Option<&[u8]>) {
    put_same_hop(out, request, b"CANCEL", |out| {
        put_first(out, request, HeaderId::To);
    });
    if let Some(reason) = reason {
        put_field(out, b"Reason", reason);
    }
    out.put(b"Content-Length: 0\r\n\r\n");
}

/// The parts of an OPTIONS that asks whether a trunk is alive.
#[derive(Clone, Copy, Debug)]
pub struct OptionsProbe<'a> {
    /// Where it goes; its Request-URI and To.
    pub target: SocketAddr,
    /// Our host and port as others reach us, IPv6 in brackets.
    pub sent_by: &'a [u8],
    /// With the magic cookie.
    pub branch: &'a [u8],
    pub from_tag: &'a [u8],
    pub call_id: &'a [u8],
    pub cseq: u32,
}

/// Writes an OPTIONS outside of any dialog.
//= rfc3261#11.1
pub fn options(out: &mut Cursor<'_>, probe: &OptionsProbe<'_>) {
    let target = probe.target;
    put_text(
        out,
        format_args!("OPTIONS sip:{target} SIP/2.0\r\nVia: SIP/2.0/UDP "),
    );
    out.put(probe.sent_by);
    out.put(b";branch=");
    out.put(probe.branch);
    out.put(b";rport\r\n");
    out.put(MAX_FORWARDS);
    out.put(b"From: <sip:");
    out.put(probe.sent_by);
    out.put(b">;tag=");
    out.put(probe.from_tag);
    put_text(out, format_args!("\r\nTo: <sip:{target}>\r\n"));
    put_field(out, b"Call-ID", probe.call_id);
    put_text(out, format_args!("CSeq: {} OPTIONS\r\n", probe.cseq));
    out.put(b"Contact: <sip:");
    out.put(probe.sent_by);
    out.put(b">\r\nAccept: application/sdp\r\nContent-Length: 0\r\n\r\n");
}

/// Writes an address as a Via's `received` has it: IPv6 without brackets.
pub fn put_ip(out: &mut Cursor<'_>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => out.put_dotted(ip.octets()),
        IpAddr::V6(ip) => put_text(out, format_args!("{ip}")),
    }
}

/// Writes an address as a URI has it: IPv6 in brackets, with the port.
pub fn put_address(out: &mut Cursor<'_>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(_) => put_ip(out, address.ip()),
        IpAddr::V6(ip) => put_text(out, format_args!("[{ip}]")),
    }
    out.put(b":");
    out.put_decimal(address.port().into());
}

/// Writes one field line.
pub fn put_field(out: &mut Cursor<'_>, name: &[u8], value: &[u8]) {
    out.put(name);
    out.put(b": ");
    out.put(value);
    out.put(b"\r\n");
}

/// The cursor remembers a text that does not fit; the error says nothing more.
fn put_text(out: &mut Cursor<'_>, text: core::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// A request that goes the way of `request` and matches its transaction: same URI, top Via, Route,
/// From, Call-ID and CSeq number; `put_to` writes the To.
fn put_same_hop(
    out: &mut Cursor<'_>,
    request: &Message<'_>,
    method: &[u8],
    put_to: impl FnOnce(&mut Cursor<'_>),
) {
    out.put(method);
    out.put(b" ");
    out.put(request.request_uri());
    out.put(b" SIP/2.0\r\n");
    if let Some(via) = request.values(HeaderId::Via).next() {
        put_field(out, b"Via", via.bytes);
    }
    put_all(out, request, HeaderId::Route);
    out.put(MAX_FORWARDS);
    put_first(out, request, HeaderId::From);
    put_to(out);
    put_first(out, request, HeaderId::CallId);
    if let Ok(cseq) = request.cseq() {
        out.put(b"CSeq: ");
        out.put_decimal(cseq.number.into());
        out.put(b" ");
        out.put(method);
        out.put(b"\r\n");
    }
}

fn put_first(out: &mut Cursor<'_>, message: &Message<'_>, id: HeaderId) {
    if let Some(value) = message.value(id) {
        put_field(out, id.name().as_bytes(), value);
    }
}

fn put_all(out: &mut Cursor<'_>, message: &Message<'_>, id: HeaderId) {
    for field in message.fields().iter().filter(|field| field.id == id) {
        put_field(out, id.name().as_bytes(), field.value(message));
    }
}

/// To, with our tag when the request has none.
fn put_to(out: &mut Cursor<'_>, request: &Message<'_>, to_tag: Option<&[u8]>) {
    let Some(value) = request.value(HeaderId::To) else {
        return;
    };
    out.put(b"To: ");
    out.put(value);
    // A To that cannot be read may have a tag already; a second one would help nobody.
    let is_without_tag = || request.to().is_ok_and(|to| to.param(b"tag").is_none());
    if let Some(tag) = to_tag.filter(|_| is_without_tag()) {
        out.put(b";tag=");
        out.put(tag);
    }
    out.put(b"\r\n");
}

/// All Via fields; the top one says where the request came from.
fn put_vias(out: &mut Cursor<'_>, request: &Message<'_>, asker: Asker) {
    let top = request.values(HeaderId::Via).next();
    let fields = request.fields().iter().enumerate();
    for (i, field) in fields.filter(|(_, field)| field.id == HeaderId::Via) {
        match &top {
            Some(top) if top.field == i => {
                out.put(b"Via: ");
                put_stamped(out, request, top, asker);
                let rest = top.range.end..field.value_range().end;
                out.put(request.text(rest));
                out.put(b"\r\n");
            }
            _ => put_field(out, b"Via", field.value(request)),
        }
    }
}

/// The top Via with `received` and `rport` as its request's source demands, and our load where it
/// asks for that; as it is when it cannot be read.
//= rfc3261#18.2.1
//= rfc3581#4
fn put_stamped(out: &mut Cursor<'_>, request: &Message<'_>, top: &Value<'_>, asker: Asker) {
    let Some(stamp) = request.stamp() else {
        out.put(top.bytes);
        return;
    };
    let feedback = asker.feedback.and_then(|feedback| {
        let params = request.via(top).ok()?.params;
        Some((
            feedback,
            Places::find(params)?,
            top.range.end - params.len(),
        ))
    });
    let [rport, received] = [stamp.rport, stamp.received].map(|span| span.map(Span::range));
    let mut cuts = Cuts::default();
    cuts.add(received);
    cuts.add(rport.clone());
    if let Some((_, places, params_at)) = &feedback {
        for range in places.ranges() {
            cuts.add(Some(range.start + params_at..range.end + params_at));
        }
    }
    let mut at = top.range.start;
    for range in cuts.in_order() {
        out.put(request.text(at..range.start));
        if rport.as_ref() == Some(range) {
            put_rport(out, asker.source);
        }
        at = range.end;
    }
    out.put(request.text(at..top.range.end));
    if needs_received(&stamp, asker.source) {
        put_received(out, asker.source);
    }
    if let Some((feedback, ..)) = feedback {
        feedback.put(out);
    }
}

/// Parameters of a Via that are left out or replaced.
#[derive(Default)]
struct Cuts {
    ranges: [Range<usize>; Cuts::MAX],
    count: usize,
}

impl Cuts {
    const MAX: usize = 10;

    fn add(&mut self, range: Option<Range<usize>>) {
        if let (Some(range), Some(room)) = (range, self.ranges.get_mut(self.count)) {
            *room = range;
            self.count += 1;
        }
    }

    fn in_order(&mut self) -> &[Range<usize>] {
        let cuts = &mut self.ranges[..self.count];
        cuts.sort_unstable_by_key(|range| range.start);
        cuts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Scratch, parse};

    const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
        v: SIP/2.0/UDP 10.0.0.1:5070;rport;branch=z9hG4bKa, SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKb\r\n\
        Via: SIP/2.0/UDP 10.0.0.3;branch=z9hG4bKc\r\n\
        Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>\r\n\
        f: <sip:alice@example.com>;tag=a\r\nt: <sip:bob@example.com>\r\n\
        i: call-1\r\nCSeq: 7 INVITE\r\nTimestamp: 54\r\n\r\n";

    fn composed(text: &str, compose: impl FnOnce(&mut Cursor<'_>, &Message<'_>)) -> String {
        let mut scratch = Scratch::new(32);
        let message = match parse(text.as_bytes(), &mut scratch) {
            Ok(message) => message,
            Err(rejected) => rejected.partial.expect("a request"),
        };
        let mut buffer = [0u8; 2048];
        let mut out = Cursor::new(&mut buffer);
        compose(&mut out, &message);
        assert!(!out.overflowed());
        String::from_utf8(out.written().to_vec()).expect("text")
    }

    fn answer(text: &str, status: u16, to_tag: Option<&[u8]>) -> String {
        let source = "192.0.2.9:40000".parse().expect("a literal");
        composed(text, |out, message| {
            let extra: &[(&[u8], &[u8])] = &[(b"Reason", b"Q.850;cause=17")];
            let asker = Asker {
                source,
                feedback: None,
            };
            response(out, message, asker, status, "Why", to_tag, extra);
        })
    }

    //= rfc3261#8.2.6.2
    //= rfc3581#4
    #[test]
    fn a_response_copies_all_vias_and_stamps_the_top_one() {
        assert_eq!(
            answer(INVITE, 486, Some(b"x")),
            "SIP/2.0 486 Why\r\n\
            Via: SIP/2.0/UDP 10.0.0.1:5070;rport=40000;branch=z9hG4bKa;received=192.0.2.9, SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKb\r\n\
            Via: SIP/2.0/UDP 10.0.0.3;branch=z9hG4bKc\r\n\
            From: <sip:alice@example.com>;tag=a\r\nTo: <sip:bob@example.com>;tag=x\r\n\
            Call-ID: call-1\r\nCSeq: 7 INVITE\r\nReason: Q.850;cause=17\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_100_copies_the_timestamp_and_needs_no_tag() {
        let trying = answer(INVITE, 100, None);
        assert!(trying.contains("\r\nTimestamp: 54\r\n"));
        assert!(trying.contains("\r\nTo: <sip:bob@example.com>\r\n"));
    }

    #[test]
    fn what_the_sender_says_of_its_address_is_not_believed() {
        for via in [
            "10.0.0.1;received=6.6.6.6;branch=z9hG4bKa;rport=1",
            "10.0.0.1;rport=1;branch=z9hG4bKa;received=6.6.6.6",
        ] {
            let text = format!("OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP {via}\r\n\r\n");
            let answer = answer(&text, 400, None);
            assert!(answer.contains(";rport=40000"), "{answer}");
            assert!(answer.contains(";received=192.0.2.9\r\n"), "{answer}");
            assert!(
                !answer.contains("6.6.6.6") && !answer.contains("rport=1"),
                "{answer}"
            );
        }
    }

    #[test]
    fn a_sender_at_the_address_it_names_gets_no_received() {
        let text =
            "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKa\r\n\r\n";
        assert!(
            answer(text, 200, None)
                .contains("\r\nVia: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKa\r\n")
        );
    }

    #[test]
    fn a_rejected_request_is_answered_with_what_it_has() {
        let text = "OPTIONS sip:a@b SIP/7.0\r\nVia: SIP/7.0/UDP h\r\nno colon\r\nTo: \"x\r\n\r\n";
        assert_eq!(
            answer(text, 505, Some(b"x")),
            "SIP/2.0 505 Why\r\nVia: SIP/7.0/UDP h;received=192.0.2.9\r\nTo: \"x\r\n\
            Reason: Q.850;cause=17\r\nContent-Length: 0\r\n\r\n"
        );
    }

    //= rfc3261#17.1.1.3
    #[test]
    fn an_ack_has_the_route_and_top_via_of_its_invite_and_the_to_of_the_response() {
        let busy = answer(INVITE, 486, Some(b"x"));
        let mut scratch = Scratch::new(32);
        let busy = parse(busy.as_bytes(), &mut scratch).expect("our own");
        assert_eq!(
            composed(INVITE, |out, invite| ack(out, invite, &busy)),
            "ACK sip:bob@example.com SIP/2.0\r\n\
            Via: SIP/2.0/UDP 10.0.0.1:5070;rport;branch=z9hG4bKa\r\n\
            Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>\r\nMax-Forwards: 70\r\n\
            From: <sip:alice@example.com>;tag=a\r\nTo: <sip:bob@example.com>;tag=x\r\n\
            Call-ID: call-1\r\nCSeq: 7 ACK\r\nContent-Length: 0\r\n\r\n"
        );
    }

    //= rfc3261#9.1
    #[test]
    fn a_cancel_differs_from_its_invite_in_the_method_only() {
        assert_eq!(
            composed(INVITE, |out, invite| cancel(
                out,
                invite,
                Some(b"SIP;cause=487")
            )),
            "CANCEL sip:bob@example.com SIP/2.0\r\n\
            Via: SIP/2.0/UDP 10.0.0.1:5070;rport;branch=z9hG4bKa\r\n\
            Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>\r\nMax-Forwards: 70\r\n\
            From: <sip:alice@example.com>;tag=a\r\nTo: <sip:bob@example.com>\r\n\
            Call-ID: call-1\r\nCSeq: 7 CANCEL\r\nReason: SIP;cause=487\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_probe_is_a_sound_request() {
        let probe = OptionsProbe {
            target: "[2001:db8::7]:5080".parse().expect("a literal"),
            sent_by: b"203.0.113.7:5060",
            branch: b"z9hG4bKp",
            from_tag: b"t",
            call_id: b"probe-1",
            cseq: 3,
        };
        let mut buffer = [0u8; 1024];
        let mut out = Cursor::new(&mut buffer);
        options(&mut out, &probe);
        let mut scratch = Scratch::new(32);
        let message = parse(out.written(), &mut scratch).expect("our own");
        assert!(crate::sip::validate_request(&message).is_ok());
        assert_eq!(message.request_uri(), b"sip:[2001:db8::7]:5080");
    }
}
