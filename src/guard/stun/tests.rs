//! STUN against the vectors of RFC 5769, by hand, and against hostile lengths.

use super::*;

/// RFC 5769 §2.1, the attributes of a request up to FINGERPRINT: SOFTWARE, PRIORITY,
/// ICE-CONTROLLED, USERNAME, MESSAGE-INTEGRITY.
const SAMPLE_REQUEST: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\
    \xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x10STUN test client\
    \x00\x24\x00\x04\x6e\x00\x01\xff\
    \x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
    \x00\x06\x00\x09evtj:h6vY\x20\x20\x20\
    \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\
    \xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
    \x80\x28\x00\x04\xe5\x7a\x3b\xcf";

/// RFC 5769 §2.2 and §2.3: XOR-MAPPED-ADDRESS of 192.0.2.1 and of an IPv6 address, port 32853.
const MAPPED_V4: &[u8] = b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43";
const MAPPED_V6: &[u8] = b"\x00\x20\x00\x14\x00\x02\xa1\x47\
    \x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9";

const TRANSACTION: &[u8; 16] = b"\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

const V4: &str = "192.0.2.1:32853";
const V6: &str = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";

/// A message with a right length.
fn message(kind: u16, transaction: &[u8; 16], attributes: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend((attributes.len() as u16).to_be_bytes());
    bytes.extend(transaction);
    bytes.extend(attributes);
    bytes
}

fn request(attributes: &[u8]) -> Vec<u8> {
    message(BINDING_REQUEST, TRANSACTION, attributes)
}

/// The same with a FINGERPRINT at its end.
fn with_fingerprint(mut bytes: Vec<u8>) -> Vec<u8> {
    let len = (bytes.len() - HEADER_LEN + FINGERPRINT_LEN) as u16;
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    let value = fingerprint(&bytes);
    bytes.extend([0x80, 0x28, 0, 4]);
    bytes.extend(value.to_be_bytes());
    bytes
}

fn answered(bytes: &[u8], source: &str) -> Option<Vec<u8>> {
    let mut buffer = [0; 256];
    let mut out = Cursor::new(&mut buffer);
    let source = source.parse().expect("a literal address");
    let answered = answer(bytes, source, &mut out);
    assert_eq!(answered.is_some(), !out.is_empty());
    answered.map(|()| out.written().to_vec())
}

//= rfc5389#15.5
#[test]
fn the_fingerprint_of_the_sample_request_is_right() {
    let (message, value) = SAMPLE_REQUEST.split_at(SAMPLE_REQUEST.len() - FINGERPRINT_LEN);
    assert_eq!(fingerprint(message).to_be_bytes(), value[4..]);
}

//= rfc5389#15.2
#[test]
fn a_bare_request_is_answered_with_its_source() {
    let wanted = message(BINDING_SUCCESS, TRANSACTION, MAPPED_V4);
    assert_eq!(answered(&request(b""), V4), Some(wanted));
    let wanted = message(BINDING_SUCCESS, TRANSACTION, MAPPED_V6);
    assert_eq!(answered(&request(b""), V6), Some(wanted));
}

#[test]
fn an_ipv4_mapped_source_is_told_its_ipv4_address() {
    let wanted = message(BINDING_SUCCESS, TRANSACTION, MAPPED_V4);
    let mapped = "[::ffff:192.0.2.1]:32853";
    assert_eq!(answered(&request(b""), mapped), Some(wanted));
}

//= rfc5389#15.5
#[test]
fn an_answer_has_a_fingerprint_when_the_request_has_a_right_one() {
    let asked = with_fingerprint(request(b"\x80\x22\x00\x03abc\0"));
    let wanted = with_fingerprint(message(BINDING_SUCCESS, TRANSACTION, MAPPED_V4));
    assert_eq!(answered(&asked, V4), Some(wanted));
}

#[test]
fn a_wrong_fingerprint_or_one_that_is_not_last_is_not_answered() {
    let mut wrong = with_fingerprint(request(b""));
    *wrong.last_mut().expect("octets") ^= 1;
    assert_eq!(answered(&wrong, V4), None);
    let mut early = with_fingerprint(request(b""));
    early.extend(b"\x80\x22\x00\x00");
    early[3] += 4;
    assert_eq!(answered(&early, V4), None);
}

//= rfc5389#7.3.1
#[test]
fn the_sample_request_is_refused_for_its_ice_priority() {
    let wanted = b"\x00\x09\x00\x04\x00\x00\x04\x14\x00\x0a\x00\x02\x00\x24\x00\x00";
    let wanted = with_fingerprint(message(BINDING_ERROR, TRANSACTION, wanted));
    assert_eq!(answered(SAMPLE_REQUEST, V4), Some(wanted));
}

#[test]
fn unknown_attributes_are_listed_up_to_eight() {
    let attributes: Vec<u8> = (0..9).flat_map(|at| [0x70, at, 0, 0]).collect();
    let refused = answered(&request(&attributes), V4).expect("an answer");
    assert_eq!(refused[..2], BINDING_ERROR.to_be_bytes());
    assert_eq!(refused[28..32], [0, 0x0a, 0, 16]);
    assert_eq!(refused.len(), 48);
}

#[test]
fn attributes_behind_message_integrity_do_not_count() {
    let mut attributes = b"\x00\x08\x00\x14".to_vec();
    attributes.extend([7; 20]);
    attributes.extend(b"\x70\x00\x00\x00");
    let wanted = message(BINDING_SUCCESS, TRANSACTION, MAPPED_V4);
    assert_eq!(answered(&request(&attributes), V4), Some(wanted));
}

/// RFC 3489 §8.1.
#[test]
fn a_classic_request_gets_a_plain_mapped_address() {
    let id = b"0123456789abcdef";
    let asked = message(BINDING_REQUEST, id, b"\x00\x03\x00\x04\0\0\0\0");
    let mapped = b"\x00\x01\x00\x08\x00\x01\x80\x55\xc0\x00\x02\x01";
    assert_eq!(
        answered(&asked, V4),
        Some(message(BINDING_SUCCESS, id, mapped))
    );
}

#[test]
fn an_answer_never_comes_from_or_goes_to_another_address() {
    for attribute in [
        &b"\x00\x03\x00\x04\x00\x00\x00\x06"[..],
        b"\x00\x02\x00\x08\x00\x01\x13\xc4\xc6\x33\x64\x01",
    ] {
        let refused = answered(
            &message(BINDING_REQUEST, b"0123456789abcdef", attribute),
            V4,
        );
        let refused = refused.expect("an answer");
        assert_eq!(refused[..2], BINDING_ERROR.to_be_bytes());
    }
}

#[test]
fn responses_indications_and_other_methods_are_not_answered() {
    for kind in [0x0101, 0x0111, 0x0011, 0x0003, 0x0000] {
        assert_eq!(answered(&message(kind, TRANSACTION, b""), V4), None);
    }
}

#[test]
fn hostile_lengths_are_not_answered_and_never_panic() {
    for cut in 0..SAMPLE_REQUEST.len() {
        assert_eq!(answered(&SAMPLE_REQUEST[..cut], V4), None);
    }
    for len in 0..=u16::MAX {
        let mut bytes = request(b"\x80\x22\x00\x04abcd");
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        assert_eq!(answered(&bytes, V4).is_some(), len == 8);
        let mut bytes = request(b"\x80\x22\x00\x04abcd");
        bytes[22..24].copy_from_slice(&len.to_be_bytes());
        let fits = (1..=4).contains(&len);
        assert_eq!(answered(&bytes, V4).is_some(), fits, "{len}");
    }
    let mut large = request(&[0x80; 65_484]);
    assert_eq!(answered(&large, V4), None);
    large.truncate(3);
    assert_eq!(answered(&large, V4), None);
}

#[test]
fn every_single_octet_may_be_wrong() {
    for at in 0..SAMPLE_REQUEST.len() {
        for octet in 0..=u8::MAX {
            let mut bytes = SAMPLE_REQUEST.to_vec();
            bytes[at] = octet;
            answered(&bytes, V6);
        }
    }
}

#[test]
fn with_its_headers_an_answer_is_never_half_as_large_again_as_its_request() {
    let unknown: Vec<u8> = (0..8).flat_map(|at| [0x70, at, 0, 0]).collect();
    for attributes in [&b""[..], &unknown[..4], &unknown[..12], &unknown] {
        for (source, headers) in [(V4, 28), (V6, 48)] {
            let asked = request(attributes);
            for asked in [with_fingerprint(asked.clone()), asked] {
                let answer = answered(&asked, source).expect("an answer");
                assert!(2 * (answer.len() + headers) <= 3 * (asked.len() + headers));
            }
        }
    }
}

#[test]
fn a_full_buffer_gets_no_part_of_an_answer() {
    let mut buffer = [0; 31];
    let mut out = Cursor::new(&mut buffer);
    let source = V4.parse().expect("a literal address");
    assert_eq!(answer(&request(b""), source, &mut out), None);
    assert!(out.is_empty());
}
