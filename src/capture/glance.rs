//! The Call-ID and the CSeq of a message that this node wrote or has parsed already, by one walk over
//! its lines: cheaper than a parse, and good for nothing else.

use memchr::memchr;

/// What a walk over the header lines found; empty where a header is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glance<'a> {
    pub call_id: &'a [u8],
    pub cseq: &'a [u8],
}

/// Looks for both headers and stops when it has them or at the empty line.
pub fn glance(message: &[u8]) -> Glance<'_> {
    let mut found = Glance::default();
    let mut rest = after_line(message);
    while let Some(first) = rest.first() {
        match first {
            b'\r' | b'\n' => break,
            b'c' | b'C' | b'i' | b'I' => {
                if let Some(value) = value_of(rest, &[b"call-id", b"i"]) {
                    found.call_id = value;
                } else if let Some(value) = value_of(rest, &[b"cseq"]) {
                    found.cseq = value;
                }
                if !found.call_id.is_empty() && !found.cseq.is_empty() {
                    break;
                }
            }
            _ => {}
        }
        rest = after_line(rest);
    }
    found
}

fn after_line(text: &[u8]) -> &[u8] {
    memchr(b'\n', text).map_or(&[], |end| &text[end + 1..])
}

/// The value of the header that `lines` begins with, folds included, when it has one of these names.
//= rfc3261#7.3.1
fn value_of<'a>(lines: &'a [u8], names: &[&[u8]]) -> Option<&'a [u8]> {
    // The longest name is seven octets; blanks may stand before the colon.
    let colon = memchr(b':', &lines[..lines.len().min(32)])?;
    let name = lines[..colon].trim_ascii_end();
    if !names.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return None;
    }
    let mut end = colon + 1;
    loop {
        let line_end = memchr(b'\n', &lines[end..]).map_or(lines.len(), |at| end + at);
        let folds = matches!(lines.get(line_end + 1), Some(b' ' | b'\t'));
        end = (line_end + 1).min(lines.len());
        if !folds {
            return Some(lines[colon + 1..line_end].trim_ascii());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &str) -> (String, String) {
        let found = glance(text.as_bytes());
        let owned = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (owned(found.call_id), owned(found.cseq))
    }

    #[test]
    fn both_headers_are_found_in_every_spelling() {
        let wanted = ("a@b".to_owned(), "1 INVITE".to_owned());
        for text in [
            "INVITE sip:a SIP/2.0\r\nCall-ID: a@b\r\nCSeq: 1 INVITE\r\n\r\n",
            "INVITE sip:a SIP/2.0\r\nContact: x\r\nCSEQ : 1 INVITE\r\ni:a@b\r\n\r\ncall-id: body",
            "SIP/2.0 200 OK\ncall-id :\t a@b \nCSeq:\n 1 INVITE\n\n",
        ] {
            assert_eq!(look(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_cut_off_or_missing_is_empty() {
        assert_eq!(look(""), Default::default());
        assert_eq!(look("INVITE sip:a SIP/2.0"), Default::default());
        assert_eq!(look("X y\r\n\r\nCall-ID: a"), Default::default());
        assert_eq!(look("X y\r\nCall-ID: a").0, "a");
        assert_eq!(look("X y\r\nCall-ID:\r\n").0, "");
        assert_eq!(look("X y\r\nC"), Default::default());
    }
}
