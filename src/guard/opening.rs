//! Whether a datagram asks for something new, seen without parsing it: what an overloaded shard may
//! drop first. Whatever is out of the ordinary counts as not new and is left to the parser.

/// Methods that begin something outside of a dialog, with the blank behind them.
const METHODS: [&[u8]; 6] = [
    b"INVITE ",
    b"REGISTER ",
    b"OPTIONS ",
    b"SUBSCRIBE ",
    b"MESSAGE ",
    b"PUBLISH ",
];

/// Whether this is a request that begins something: one of [`METHODS`], and a To without a tag.
pub fn opens(bytes: &[u8]) -> bool {
    METHODS.iter().any(|method| bytes.starts_with(method)) && to_value(bytes).is_some_and(is_bare)
}

/// The value of the first To, up to the end of its line; `None` without one, or where it is folded.
fn to_value(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = memchr::memchr(b'\n', bytes)? + 1;
    loop {
        let rest = bytes.get(at..)?;
        let end = memchr::memchr(b'\n', rest)?;
        let line = &rest[..end];
        if line.is_empty() || line == b"\r" {
            return None;
        }
        if let Some(value) = value_of_to(line) {
            let is_folded = matches!(rest.get(end + 1), Some(b' ' | b'\t'));
            return (!is_folded).then_some(value);
        }
        at += end + 1;
    }
}

fn value_of_to(line: &[u8]) -> Option<&[u8]> {
    let rest = match line {
        [b'T' | b't', b'O' | b'o', rest @ ..] | [b'T' | b't', rest @ ..] => rest,
        _ => return None,
    };
    let blanks = rest
        .iter()
        .take_while(|octet| matches!(octet, b' ' | b'\t'));
    let colon = blanks.count();
    match rest.get(colon) {
        Some(b':') => Some(&rest[colon + 1..]),
        Some(_) | None => None,
    }
}

/// No parameter `tag`; text in quotes that looks like one counts as one.
fn is_bare(value: &[u8]) -> bool {
    memchr::memchr_iter(b';', value).all(|at| {
        let param = value[at + 1..].trim_ascii_start();
        !param
            .get(..3)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"tag"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, to: &str) -> String {
        format!(
            "{method} sip:b@c SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z\r\n{to}\r\nCSeq: 1 {method}\r\n\r\n"
        )
    }

    #[test]
    fn new_requests_are_told_from_those_in_dialogs() {
        for to in [
            "To: <sip:b@c>",
            "t:<sip:b@c;tagged=1>;x=y",
            "TO \t: sip:b@c",
        ] {
            let is_to_tagged = to.contains("tagged");
            assert_eq!(
                opens(request("INVITE", to).as_bytes()),
                !is_to_tagged,
                "{to}"
            );
        }
        for to in [
            "To: <sip:b@c>;tag=1",
            "t: sip:b@c ; TAG=1",
            "To: \"a;tag=\" <sip:b@c>",
        ] {
            assert!(!opens(request("INVITE", to).as_bytes()), "{to}");
        }
        assert!(opens(request("REGISTER", "To: <sip:b@c>").as_bytes()));
    }

    #[test]
    fn all_that_is_not_new_or_not_plain_is_left_to_the_parser() {
        for method in [
            "ACK", "BYE", "CANCEL", "PRACK", "UPDATE", "INFO", "REFER", "NOTIFY", "invite",
        ] {
            assert!(
                !opens(request(method, "To: <sip:b@c>").as_bytes()),
                "{method}"
            );
        }
        for text in [
            "SIP/2.0 200 OK\r\nTo: <sip:b@c>\r\n\r\n",
            "INVITE sip:b@c SIP/2.0\r\nTo: <sip:b@c>\r\n ;tag=1\r\n\r\n",
            "INVITE sip:b@c SIP/2.0\r\n\r\nTo: <sip:b@c>\r\n",
            "INVITE sip:b@c SIP/2.0\r\nTo: <sip:b@c>",
            "INVITE sip:b@c SIP/2.0",
            "INVITE ",
            "INVITE",
            "",
            "\r\nINVITE sip:b@c SIP/2.0\r\nTo: <sip:b@c>\r\n\r\n",
        ] {
            assert!(!opens(text.as_bytes()), "{text:?}");
        }
    }
}
