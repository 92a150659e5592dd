//! Parameters behind a semicolon: `;name=value;flag;text="a; b"` (RFC 3261 §25.1 generic-param).

use core::ops::Range;

use super::error::{Malformed, MalformedKind};
use super::grammar::{Reader, is_lws, is_value_octet, quoted_end};

/// One parameter of a header value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    pub name: &'a [u8],
    /// None when there is no `=`; a quoted string keeps its quotes.
    pub value: Option<&'a [u8]>,
    /// From the semicolon to the end of the parameter, in the text given to [`Params::new`].
    pub range: Range<usize>,
}

/// The parameters of a text that starts at the first semicolon, in order.
#[derive(Clone, Debug)]
pub struct Params<'a> {
    reader: Reader<'a>,
    failed: bool,
}

impl<'a> Params<'a> {
    /// Reads `text`, which is empty or starts (after white space) with a semicolon.
    pub fn new(text: &'a [u8]) -> Params<'a> {
        Params {
            reader: Reader::new(text),
            failed: false,
        }
    }

    fn read(&mut self) -> Result<Option<Param<'a>>, Malformed> {
        self.reader.skip_lws();
        if self.reader.is_done() {
            return Ok(None);
        }
        let start = self.reader.at;
        if !self.reader.eat(b';') {
            return Err(self.reader.fault(MalformedKind::Parameter));
        }
        self.reader.skip_lws();
        let name = self.reader.token(MalformedKind::Parameter)?;
        let mut end = self.reader.at;
        let mut value = None;
        if self.reader.eat_separator(b'=') {
            value = Some(self.read_value()?);
            end = self.reader.at;
        }
        Ok(Some(Param {
            name,
            value,
            range: start..end,
        }))
    }

    /// A token, a host (IPv6 with or without brackets) or a quoted string; it may be empty, since
    /// devices write `;tag=` and a proxy has no need to refuse that.
    fn read_value(&mut self) -> Result<&'a [u8], Malformed> {
        if self.reader.peek() == Some(b'"') {
            return self.reader.quoted();
        }
        Ok(self.reader.take_while(is_value_octet))
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = Result<Param<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.read().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

/// The value of parameter `name` in `text`: none when it is absent, `Some(None)` when it has no value.
pub fn find<'a>(text: &'a [u8], name: &[u8]) -> Option<Option<&'a [u8]>> {
    Params::new(text)
        .map_while(Result::ok)
        .find(|param| param.name.eq_ignore_ascii_case(name))
        .map(|param| param.value)
}

/// Where the first comma outside of quotes and angle brackets is, at or behind `start`.
pub fn top_level_comma(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        at += memchr::memchr3(b',', b'"', b'<', text.get(at..)?)?;
        match text.get(at)? {
            b',' => return Some(at),
            b'"' => at = quoted_end(text, at)?,
            _ => at += 1 + memchr::memchr(b'>', text.get(at + 1..)?)?,
        }
    }
}

/// The range of `text[range]` without linear white space at both ends.
pub(super) fn trimmed(text: &[u8], range: Range<usize>) -> Range<usize> {
    let Range { mut start, mut end } = range;
    while start < end && text.get(start).copied().is_some_and(is_lws) {
        start += 1;
    }
    while start < end && text.get(end - 1).copied().is_some_and(is_lws) {
        end -= 1;
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_values_and_quotes_are_told_apart() {
        let text = b" ; a = 1;flag ;text=\"x;y\\\"\" ;host=[::1]";
        let all: Vec<_> = Params::new(text)
            .map(|param| param.expect("well formed"))
            .map(|param| (param.name, param.value))
            .collect();
        assert_eq!(
            all,
            [
                (&b"a"[..], Some(&b"1"[..])),
                (b"flag", None),
                (b"text", Some(b"\"x;y\\\"\"")),
                (b"host", Some(b"[::1]")),
            ]
        );
        assert_eq!(find(text, b"FLAG"), Some(None));
        assert_eq!(find(text, b"absent"), None);
    }

    #[test]
    fn an_empty_parameter_is_a_fault() {
        assert!(Params::new(b";;").next().expect("one").is_err());
        assert!(Params::new(b";a;").nth(1).expect("one").is_err());
        assert!(Params::new(b"a").next().expect("one").is_err());
    }

    #[test]
    fn commas_in_quotes_and_brackets_do_not_separate() {
        let text = b"\"a,b\" <sip:x,y@z>;q=1, <sip:c>";
        assert_eq!(top_level_comma(text, 0), Some(21));
        assert_eq!(top_level_comma(text, 22), None);
    }
}
