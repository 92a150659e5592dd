//! The index of a message, whole and broken.

use super::*;
use crate::sip::{Method, StartLine};

const OPTIONS: &str = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n";

fn faults(text: &[u8]) -> (MalformedKind, bool) {
    let mut scratch = Scratch::new(16);
    let rejected = parse(text, &mut scratch).expect_err("malformed");
    (rejected.fault.what, rejected.partial.is_some())
}

/// What was indexed of a text, in the way of `index`.
fn indexed(
    text: &[u8],
    width: Width,
    index: impl Fn(&[u8], &mut Scratch) -> Result<usize, Malformed>,
) -> (Result<usize, Malformed>, String) {
    let mut scratch = Scratch::new(24);
    scratch.width = width;
    scratch.clear(text.len());
    let outcome = index(text, &mut scratch);
    let Scratch {
        fields,
        fields_count,
        first,
        start,
        header_end,
        body_start,
        ..
    } = scratch;
    let found = (
        &fields[..fields_count],
        first,
        start,
        header_end,
        body_start,
    );
    (outcome, format!("{found:?}"))
}

/// A sound message with a few octets gone wrong.
fn spoilt(state: &mut u64) -> Vec<u8> {
    const OCTETS: &[u8] = b"\r\n\t :,;av\0\xff";
    let mut below = |bound: usize| {
        *state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (*state >> 33) as usize % bound
    };
    let lines: &[&str] = &[
        "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\r\n",
        "v:SIP/2.0/UDP h\r\n",
        "Max-Forwards: 70\r\n",
        "X-Something-Of-Somebody: with a value\r\n",
        "X-Short-1: with a value\r\n",
        "P-Asserted-Identity: <sip:a@b>\r\n",
        "CSeq: 1 INVITE\r\n",
        "Subject:\r\n",
        "Contact : <sip:a@b>\r\n",
        "Contact: <sip:a@b>,\r\n <sip:c@d>\r\n",
        "Content-Length: 4 \r\n",
        "l: 4\r\n",
        "To: a\r\n",
    ];
    let start = ["INVITE sip:a@b SIP/2.0\r\n", "SIP/2.0 200 OK\r\n"];
    let mut text = start[below(2)].as_bytes().to_vec();
    for _ in 0..below(30) {
        text.extend_from_slice(lines[below(lines.len())].as_bytes());
    }
    text.extend_from_slice(b"\r\n");
    let body = below(100);
    text.extend((0..body).map(|at| b"ab\r\n"[at % 4]));
    for _ in 0..below(3) {
        let (at, octet) = (below(text.len()), OCTETS[below(OCTETS.len())]);
        match below(3) {
            0 => text[at] = octet,
            1 => text.insert(at, octet),
            _ => text.truncate(at + 1),
        }
    }
    text
}

#[test]
fn even_lines_are_indexed_as_any_are() {
    let mut state = 1;
    let widest = Width::widest();
    let mut even = 0;
    for _ in 0..40_000 {
        let text = spoilt(&mut state);
        let skipped = text.iter().take_while(|octet| b"\r\n".contains(octet));
        let text = &text[skipped.count()..];
        let want = indexed(text, Width::NARROW, index_uneven);
        for width in [Width::NARROW, widest] {
            let found = indexed(text, width, index);
            assert_eq!(found, want, "{}", text.escape_ascii());
        }
        let mut scratch = Scratch::new(24);
        scratch.clear(text.len());
        even += usize::from(index_even(text, &mut scratch, widest).is_some());
    }
    assert!(
        (10_000..35_000).contains(&even),
        "{even} went the short way"
    );
}

#[test]
fn a_request_is_split_into_its_parts() {
    let text = b"\r\n\r\nINVITE sip:a@b SIP/2.0\r\nVia : SIP/2.0/UDP h;branch=z9hG4bK1\r\nv:SIP/2.0/TCP i,\r\n SIP/2.0/UDP j\r\nX-Long-Name-Of-Somebody:  y z \t\r\nl: 2\r\n\r\nabcd";
    let mut scratch = Scratch::new(16);
    let message = parse(text, &mut scratch).expect("well formed");
    assert_eq!(
        message.start(),
        StartLine::Request {
            method: Method::Invite,
            method_text: b"INVITE",
            uri: b"sip:a@b",
            uri_range: 7..14
        }
    );
    assert_eq!(message.bytes(), &text[4..text.len() - 2]);
    assert_eq!(message.body(), b"ab");
    assert_eq!(message.count(HeaderId::Via), 2);
    let vias: Vec<&[u8]> = message
        .values(HeaderId::Via)
        .map(|value| value.bytes)
        .collect();
    assert_eq!(
        vias,
        [
            &b"SIP/2.0/UDP h;branch=z9hG4bK1"[..],
            b"SIP/2.0/TCP i",
            b"SIP/2.0/UDP j"
        ]
    );
    let unknown = &message.fields()[2];
    assert_eq!(unknown.id, HeaderId::Unknown);
    assert_eq!(unknown.name(&message), b"X-Long-Name-Of-Somebody");
    assert_eq!(unknown.value(&message), b"y z");
    assert_eq!(
        message.bytes()[message.header_end()..].get(..2),
        Some(&b"\r\n"[..])
    );
}

#[test]
fn a_response_has_a_status_and_a_reason() {
    let mut scratch = Scratch::new(16);
    let message = parse(b"sip/2.0 100 \nCSeq: 1 INVITE\n\n", &mut scratch).expect("well formed");
    assert_eq!(
        message.start(),
        StartLine::Response {
            status: 100,
            reason: b""
        }
    );
    assert_eq!(message.method(), Method::Invite);
    assert_eq!(message.status(), 100);
}

#[test]
fn a_faulty_request_line_still_gives_something_to_answer() {
    let with = |line: &str| faults(format!("{line}\r\nVia: SIP/2.0/UDP h\r\n\r\n").as_bytes());
    assert_eq!(
        with("INVITE  sip:a@b  SIP/2.0"),
        (MalformedKind::RequestLineSpaces, true)
    );
    assert_eq!(
        with("INVITE sip:a@b SIP/2.0  "),
        (MalformedKind::RequestLineSpaces, true)
    );
    assert_eq!(
        with("INVITE sip:a@b; lr SIP/2.0"),
        (MalformedKind::RequestLineSpaces, true)
    );
    assert_eq!(
        with("INVITE sip:a@b SIP/7.0"),
        (MalformedKind::Version, true)
    );
    assert_eq!(with("INVITE  SIP/2.0"), (MalformedKind::RequestUri, true));
    assert_eq!(with("INVITE SIP/2.0"), (MalformedKind::RequestUri, true));
    assert_eq!(with("INVITE sip:a@b"), (MalformedKind::StartLine, false));
    assert_eq!(
        with("INVITE sip:a@b HTTP/1.1"),
        (MalformedKind::StartLine, false)
    );
    assert_eq!(
        with("IN\"VITE sip:a@b SIP/2.0"),
        (MalformedKind::StartLine, false)
    );
    assert_eq!(with(" sip:a@b SIP/2.0"), (MalformedKind::StartLine, false));
    assert_eq!(with("garbage"), (MalformedKind::StartLine, false));
}

#[test]
fn a_status_code_has_three_digits_in_range() {
    for line in [
        "SIP/2.0 4294967301 x",
        "SIP/2.0 99 x",
        "SIP/2.0 700 x",
        "SIP/2.0 20x x",
        "SIP/2.0  200 x",
        "SIP/2.0 200",
        "SIP/3.0 200 OK",
    ] {
        let (what, has_partial) = faults(format!("{line}\r\n\r\n").as_bytes());
        assert!(
            matches!(what, MalformedKind::StatusCode | MalformedKind::Version),
            "{line}"
        );
        assert!(!has_partial, "a response is never answered");
    }
}

#[test]
fn a_content_length_is_bounded_by_what_is_there() {
    let with = |value: &str| {
        let text = format!(
            "{OPTIONS}Content-Length: {value}\r\n\r\nbody of more than 32 octets, for the wrap"
        );
        let mut scratch = Scratch::new(16);
        parse(text.as_bytes(), &mut scratch)
            .map(|message| message.body().len())
            .map_err(|rejected| rejected.fault.what)
    };
    assert_eq!(with("4"), Ok(4));
    assert_eq!(with("0004"), Ok(4));
    assert_eq!(with("4294967328"), Err(MalformedKind::BodyShort));
    assert_eq!(
        with("18446744073709551648"),
        Err(MalformedKind::ContentLength)
    );
    assert_eq!(with("-1"), Err(MalformedKind::ContentLength));
    assert_eq!(with(""), Err(MalformedKind::ContentLength));
    assert_eq!(with("4 5"), Err(MalformedKind::ContentLength));
}

#[test]
fn faults_of_fields_are_told_and_the_rest_is_indexed() {
    assert_eq!(
        faults(format!("{OPTIONS}no colon\r\n\r\n").as_bytes()),
        (MalformedKind::MissingColon, true)
    );
    assert_eq!(
        faults(format!("{OPTIONS}: x\r\n\r\n").as_bytes()),
        (MalformedKind::FieldName, true)
    );
    assert_eq!(
        faults(format!("{OPTIONS}T\0: x\r\n\r\n").as_bytes()),
        (MalformedKind::FieldName, true)
    );
    assert_eq!(
        faults(format!("{OPTIONS}a b: x\r\n\r\n").as_bytes()),
        (MalformedKind::FieldName, true)
    );
    for octet in [0, b':', 0xff] {
        let name = [octet; 16];
        let text = [OPTIONS.as_bytes(), &name, b": x\r\n\r\n"].concat();
        assert_eq!(faults(&text), (MalformedKind::FieldName, true));
    }
    assert_eq!(
        faults(format!("{OPTIONS}a: x\rb: y\r\n\r\n").as_bytes()),
        (MalformedKind::StrayCarriageReturn, true)
    );
    assert_eq!(
        faults(OPTIONS.as_bytes()),
        (MalformedKind::NoEmptyLine, true)
    );
    assert_eq!(
        faults(b"OPTIONS sip:a@b SIP/2.0\r\n folded\r\n\r\n"),
        (MalformedKind::FieldName, true)
    );
    assert_eq!(faults(b""), (MalformedKind::Empty, false));
    assert_eq!(faults(b"\r\n\r\n"), (MalformedKind::Empty, false));
    assert_eq!(
        faults(&vec![b'a'; MESSAGE_MAX + 1]),
        (MalformedKind::TooLong, false)
    );
    let text = format!("{OPTIONS}no colon\r\nCSeq: 7 OPTIONS\r\n\r\n");
    let mut scratch = Scratch::new(16);
    let partial = parse(text.as_bytes(), &mut scratch)
        .expect_err("malformed")
        .partial
        .expect("a request");
    assert_eq!(partial.cseq().expect("indexed").number, 7);
}

#[test]
fn too_many_fields_end_the_indexing_and_are_told() {
    let many = "a: b\r\n".repeat(16);
    assert_eq!(
        faults(format!("{OPTIONS}{many}\r\n").as_bytes()),
        (MalformedKind::TooManyFields, true)
    );
    let many = "a: b\r\n".repeat(1000);
    assert_eq!(
        faults(format!("{OPTIONS}{many}\r\n").as_bytes()),
        (MalformedKind::TooManyFields, true)
    );
}

#[test]
fn a_fold_belongs_to_the_value_and_a_blank_line_of_spaces_too() {
    let text =
        format!("{OPTIONS}TO :\r\n sip:v@c ;   tag    = 1n\r\nSubject:\r\n\t\r\n x\r\n \r\n\r\n");
    let mut scratch = Scratch::new(16);
    let message = parse(text.as_bytes(), &mut scratch).expect("well formed");
    assert_eq!(message.to_tag(), Some(&b"1n"[..]));
    assert_eq!(message.value(HeaderId::Subject), Some(&b"x"[..]));
    let last = message.fields().last().expect("one");
    assert_eq!(last.line().end, message.header_end());
}
