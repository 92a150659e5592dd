//! The value of From, To, Contact, Route and their like: `"Name" <uri>;params` or `uri;params`
//! (RFC 3261 §20.10, §25.1 name-addr and addr-spec).

use core::ops::Range;

use super::error::{Malformed, MalformedKind};
use super::grammar::{Reader, are_tokens, is_lws, is_quotable, is_uric, quoted_end, trim_lws};
use super::params;

/// An address with what is shown for it and what is said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// As written: with its quotes, without the white space around it; empty when there is none.
    pub display: &'a [u8],
    /// Without angle brackets.
    pub uri: &'a [u8],
    /// Where the URI is in the value.
    pub uri_range: Range<usize>,
    /// The header's parameters, from their first semicolon; empty when there are none.
    pub params: &'a [u8],
}

impl<'a> NameAddr<'a> {
    /// Reads one value; checks the frame, not the URI's inside (see `validate`).
    pub fn parse(value: &'a [u8]) -> Result<NameAddr<'a>, Malformed> {
        match find_bracket(value)? {
            Some(open) => parse_bracketed(value, open),
            None => parse_bare(value),
        }
    }

    /// The value of header parameter `name`: none when absent, `Some(None)` when it has no value.
    pub fn param(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        params::find(self.params, name)
    }

    /// The tag, unless there is none or it is empty.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.param(b"tag").flatten().filter(|tag| !tag.is_empty())
    }
}

/// Where the `<` in front of the URI is; a display name in quotes is stepped over.
fn find_bracket(value: &[u8]) -> Result<Option<usize>, Malformed> {
    let start = value.iter().position(|&octet| !is_lws(octet)).unwrap_or(0);
    if value.get(start) != Some(&b'"') {
        return Ok(memchr::memchr(b'<', value));
    }
    let end = quoted_end(value, start).ok_or(Malformed::new(MalformedKind::Quote, start))?;
    let mut reader = Reader::new(value);
    reader.at = end;
    reader.skip_lws();
    match reader.peek() {
        Some(b'<') => Ok(Some(reader.at)),
        _ => Err(reader.fault(MalformedKind::NameAddr)),
    }
}

fn parse_bracketed(value: &[u8], open: usize) -> Result<NameAddr<'_>, Malformed> {
    let display = trim_lws(&value[..open]);
    check_display(display)?;
    let fault = Malformed::new(MalformedKind::NameAddr, open);
    let close = memchr::memchr(b'>', &value[open..]).ok_or(fault)? + open;
    let uri_range = open + 1..close;
    build(value, display, uri_range, close + 1)
}

//= rfc3261#20.10 without brackets, parameters belong to the header; `?` and `,` cannot be there
fn parse_bare(value: &[u8]) -> Result<NameAddr<'_>, Malformed> {
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    let uri_range = params::trimmed(value, 0..end);
    if let Some(at) = memchr::memchr2(b'?', b',', &value[..end]) {
        return Err(Malformed::new(MalformedKind::NameAddr, at));
    }
    build(value, b"", uri_range, end)
}

fn build<'a>(
    value: &'a [u8],
    display: &'a [u8],
    uri_range: Range<usize>,
    params_at: usize,
) -> Result<NameAddr<'a>, Malformed> {
    let uri = value.get(uri_range.clone()).unwrap_or_default();
    if !is_uric(uri) {
        return Err(Malformed::new(MalformedKind::NameAddr, uri_range.start));
    }
    Ok(NameAddr {
        display,
        uri,
        uri_range,
        params: trim_lws(value.get(params_at..).unwrap_or_default()),
    })
}

/// A display name is a quoted string or tokens.
fn check_display(display: &[u8]) -> Result<(), Malformed> {
    let is_sound = match display.strip_prefix(b"\"") {
        Some(quoted) => is_quotable(quoted),
        None => are_tokens(display),
    };
    if is_sound {
        return Ok(());
    }
    Err(Malformed::new(MalformedKind::NameAddr, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &'static [u8]) -> NameAddr<'static> {
        NameAddr::parse(value).expect("well formed")
    }

    #[test]
    fn all_three_forms_are_read() {
        let quoted = read(b"\"Bell, \\\"A\\\" <x>\" <sip:a@b;lr> ; tag = 1");
        assert_eq!(quoted.display, b"\"Bell, \\\"A\\\" <x>\"");
        assert_eq!(quoted.uri, b"sip:a@b;lr");
        assert_eq!(quoted.tag(), Some(&b"1"[..]));
        let words = read(b"token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;tag=t");
        assert_eq!(words.display, b"token1~` token2'+_ token3*%!.-");
        let bare = read(b"sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n");
        assert_eq!(bare.uri, b"sip:vivekg@chair-dnrc.example.com");
        assert_eq!(bare.tag(), Some(&b"1918181833n"[..]));
        assert_eq!(
            read(b"caller<sip:caller@example.com>;tag=323").display,
            b"caller"
        );
        // Not by the grammar; devices write it, see docs/security.md.
        assert_eq!(read(b"J\xc3\xbcrgen <sip:a@b>").display, b"J\xc3\xbcrgen");
        assert_eq!(read(b"<sip:a@b>").tag(), None);
        assert_eq!(read(b"<sip:a@b>;tag=").tag(), None);
    }

    #[test]
    fn a_malformed_frame_is_refused() {
        for value in [
            &b""[..],
            b"\"Mr. J. User <sip:j.user@example.com>",
            b"Bell, Alexander <sip:a@b>;tag=43",
            b"\"W\" < sip:t.watson@example.org >",
            b"sip:user@example.com?Route=%3Csip:sip.example.com%3E",
            b"<sip:a@b",
            b"\"a\" sip:a@b",
            b"<>",
            b"sip:a b@c",
            b"sip:a>",
            b":: <sip:a@b>",
            b"\"a\0b\" <sip:a@b>",
        ] {
            assert!(NameAddr::parse(value).is_err(), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn the_uri_range_points_into_the_value() {
        let value = b"\"x\" <sip:a@b>;tag=1";
        assert_eq!(&value[read(value).uri_range], b"sip:a@b");
    }
}
