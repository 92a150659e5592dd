//! Reads values in the form that nearly all have: a Via, an address, a SIP URI without blanks,
//! escapes or IPv6 literals. One look per name at the bits of `marks` replaces a loop per class.
//!
//! Each function gives what the full readers (`via`, `name_addr`, `uri`, and `validate` on top of
//! them) give for the same octets, or none: then it is for the full reader to say what it is. The
//! tests hold the two against each other.

use core::ops::Range;

use super::grammar::{is_param_value_octet, port};
use super::marks::Marks;
use super::plain::{host, number};
use super::{CSeq, Host, Method, Param, Scheme, Uri, Via};

/// Walks over one value of a message from left to right.
pub(super) struct Usual<'a, 'm> {
    text: &'a [u8],
    marks: &'m Marks,
    at: usize,
    end: usize,
}

/// An address that passed all checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address<'a> {
    pub uri: Uri<'a>,
    pub uri_range: Range<usize>,
    /// None where there is none, or an empty one.
    pub tag: Option<&'a [u8]>,
}

impl<'a, 'm> Usual<'a, 'm> {
    /// Will read `range` of `text`, whose header section `marks` were made of.
    #[inline(always)]
    pub fn new(text: &'a [u8], marks: &'m Marks, range: Range<usize>) -> Usual<'a, 'm> {
        debug_assert!(range.start <= range.end && range.end <= text.len());
        Usual {
            text,
            marks,
            at: range.start,
            end: range.end,
        }
    }

    /// One Via value and nothing else.
    #[inline(never)]
    pub fn via(mut self) -> Option<Via<'a>> {
        const PROTOCOL: &[u8] = b"SIP/2.0/UDP ";
        let start = self.at;
        let protocol = self.text.get(start..start + PROTOCOL.len())?;
        if protocol != PROTOCOL {
            return None;
        }
        self.at = start + PROTOCOL.len();
        let sent_by = self.at;
        let (host, port) = self.host_port()?;
        let params_at = self.at;
        let mut via = Via {
            version: &protocol[4..7],
            transport: &protocol[8..11],
            sent_by: self.text.get(sent_by..params_at)?,
            host,
            port,
            branch: None,
            received: None,
            received_range: None,
            rport: None,
            rport_range: None,
            maddr: None,
            ttl: None,
            params: self.text.get(params_at..self.end)?,
        };
        while self.at < self.end {
            let mut param = self.param()?;
            match (param.name, param.value) {
                (b"branch", Some(branch)) if !branch.is_empty() && via.branch.is_none() => {
                    via.branch = Some(branch);
                }
                (b"rport", None) if via.rport_range.is_none() => {
                    via.rport = Some(None);
                    via.rport_range = Some(param.range.start - start..param.range.end - start);
                }
                (name, Some(b"")) if !name.eq_ignore_ascii_case(b"rport") => return None,
                _ => {
                    param.range = param.range.start - params_at..param.range.end - params_at;
                    via.take(param, params_at - start).ok()?;
                }
            }
        }
        if self.at != self.end {
            return None;
        }
        Some(via)
    }

    /// Whether it is one Via value whose parameters are those that most have, each once.
    #[inline(never)]
    pub fn reads_as_via(mut self) -> bool {
        self.passes_via().is_some() && self.at == self.end
    }

    fn passes_via(&mut self) -> Option<()> {
        const PROTOCOL: &[u8] = b"SIP/2.0/UDP ";
        let start = self.at;
        if self.text.get(start..start + PROTOCOL.len())? != PROTOCOL {
            return None;
        }
        self.at = start + PROTOCOL.len();
        self.host_port()?;
        let mut seen = 0u32;
        while self.at < self.end {
            let param = self.param()?;
            let bit = match (param.name, param.value) {
                (b"branch", Some(value)) if !value.is_empty() => 1,
                (b"rport", None) => 2,
                (b"rport", Some(digits)) if port(digits).is_some() => 2,
                (b"received", Some(value)) if !value.is_empty() => 4,
                _ => return None,
            };
            if seen & bit != 0 {
                return None;
            }
            seen |= bit;
        }
        Some(())
    }

    /// One address in angle brackets, with or without a name in front of it, and nothing else.
    #[inline(never)]
    pub fn address(mut self) -> Option<Address<'a>> {
        self.read_address()
    }

    /// The tag of such an address, none where there is none; for whom nothing else of it is needed.
    #[inline(never)]
    pub fn tag(mut self) -> Option<Option<&'a [u8]>> {
        self.read_address().map(|address| address.tag)
    }

    #[inline(always)]
    fn read_address(&mut self) -> Option<Address<'a>> {
        self.display()?;
        let uri_start = self.at;
        let uri = self.sip_uri()?;
        let uri_range = uri_start..self.at;
        self.expect(b'>')?;
        let mut tag = None;
        while self.at < self.end {
            let param = self.param()?;
            if param.value.is_some_and(<[u8]>::is_empty) {
                return None;
            }
            if param.name == b"tag" || param.name.eq_ignore_ascii_case(b"tag") {
                // How many there may be depends on the message.
                if tag.is_some() {
                    return None;
                }
                tag = Some(param.value);
            }
        }
        (self.at == self.end).then_some(Address {
            uri,
            uri_range,
            tag: tag.flatten(),
        })
    }

    /// One SIP URI and nothing else.
    #[inline(never)]
    pub fn uri(mut self) -> Option<Uri<'a>> {
        let uri = self.sip_uri()?;
        (self.at == self.end).then_some(uri)
    }

    /// A number of up to nine digits, one blank, and a method.
    #[inline(always)]
    pub fn cseq(mut self) -> Option<CSeq<'a>> {
        let start = self.at;
        let end = self.marks.word_end(start);
        let number = match end - start {
            // One digit more, as some count from a random number.
            9 => 10 * number(self.text, start, 8)? + number(self.text, start + 8, 1)?,
            len => number(self.text, start, len)?,
        };
        self.at = end;
        self.expect(b' ')?;
        let method_text = self.word()?;
        let is_whole = self.at == self.end && !method_text.is_empty();
        is_whole.then(|| CSeq {
            number,
            method: Method::parse(method_text),
            method_text,
        })
    }

    /// Whether it is one word, or two with `@` between them.
    #[inline(always)]
    pub fn reads_as_call_id(mut self) -> bool {
        let start = self.at;
        self.at = self.marks.word_end(start);
        if self.at > start && self.at < self.end && self.peek() == Some(b'@') {
            let second = self.at + 1;
            self.at = self.marks.word_end(second);
            return self.at == self.end && self.at > second;
        }
        self.at == self.end && self.at > start
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline(always)]
    fn expect(&mut self, octet: u8) -> Option<()> {
        let is_next = self.peek() == Some(octet);
        self.at += 1;
        is_next.then_some(())
    }

    /// Letters, digits, `-`, `.` and `_`, maybe none.
    #[inline(always)]
    fn word(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        self.at = self.marks.word_end(start);
        self.text.get(start..self.at)
    }

    /// Goes behind the `<`.
    #[inline(always)]
    fn display(&mut self) -> Option<()> {
        match self.peek()? {
            b'<' => {}
            b'"' => {
                self.at += 1;
                self.quoted()?;
                if self.peek()? == b' ' {
                    self.at += 1;
                }
            }
            _ => {
                while self.peek()? != b'<' {
                    let before = self.at;
                    self.word()?;
                    if self.peek()? == b' ' {
                        self.at += 1;
                    }
                    if self.at == before {
                        return None;
                    }
                }
            }
        }
        self.expect(b'<')
    }

    /// Goes behind the closing quote.
    #[inline(always)]
    fn quoted(&mut self) -> Option<()> {
        loop {
            self.word()?;
            match self.peek()? {
                b'"' => break,
                octet if octet >= b' ' && octet != b'\\' && octet != 0x7f => self.at += 1,
                _ => return None,
            }
        }
        self.at += 1;
        Some(())
    }

    /// `sip:[user@]host[:port]*(;name[=value])`
    #[inline(always)]
    fn sip_uri(&mut self) -> Option<Uri<'a>> {
        const SCHEME: &[u8; 4] = b"sip:";
        let start = self.at;
        let scheme = self.text.get(start..)?.first_chunk::<4>()?;
        if scheme != SCHEME {
            return None;
        }
        let opaque_at = start + SCHEME.len();
        let has_plus = self.text.get(opaque_at) == Some(&b'+');
        self.at = opaque_at + usize::from(has_plus);
        self.word()?;
        let mut user = None;
        if self.peek() == Some(b'@') {
            user = Some(self.text.get(opaque_at..self.at)?).filter(|user| !user.is_empty());
            user?;
            self.at += 1;
        } else {
            self.at = opaque_at;
        }
        let (host, port) = self.host_port()?;
        let params_at = self.at;
        while self.peek() == Some(b';') {
            self.at += 1;
            self.word()?;
            if self.peek() == Some(b'=') {
                self.at += 1;
                self.word()?;
            }
        }
        Some(Uri {
            scheme: Scheme::Sip,
            scheme_text: &scheme[..3],
            user,
            password: None,
            host,
            port,
            params: self.text.get(params_at..self.at)?,
            headers: b"",
            opaque: self.text.get(opaque_at..self.at)?,
        })
    }

    #[inline(always)]
    fn host_port(&mut self) -> Option<(Host<'a>, Option<u16>)> {
        let host = host(self.text, self.at, self.word()?)?;
        if self.peek() != Some(b':') {
            return Some((host, None));
        }
        let start = self.at + 1;
        self.at = self.marks.word_end(start);
        let len = self.at - start;
        if len > 5 {
            return None;
        }
        let port = number(self.text, start, len)?;
        Some((host, Some(u16::try_from(port).ok()?)))
    }

    /// `;name` or `;name=value` up to the next semicolon or the end.
    #[inline(always)]
    fn param(&mut self) -> Option<Param<'a>> {
        let start = self.at;
        self.expect(b';')?;
        let name = self.word()?;
        if name.is_empty() {
            return None;
        }
        let mut value = None;
        if self.at < self.end && self.peek() == Some(b'=') {
            self.at += 1;
            value = Some(self.value()?);
        }
        let is_ended = self.at == self.end || self.peek() == Some(b';');
        is_ended.then_some(Param {
            name,
            value,
            range: start..self.at,
        })
    }

    #[inline(always)]
    fn value(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        self.word()?;
        // Base64 and the like; not in front, where the full reader has a rule of its own.
        while self.at < self.end && self.at > start && is_param_value_octet(self.peek()?) {
            self.at += 1;
            self.word()?;
        }
        self.text.get(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::validate::{check_name_addr, check_via};
    use crate::sip::{HeaderId, Message, NameAddr, Scratch, parse};

    const VIAS: &[&str] = &[
        "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKcg0123456789abcdef.0000000000000007",
        "SIP/2.0/UDP host-1.example.com:5070;rport;branch=z9hG4bK+a/b=;received=203.0.113.7",
        "SIP/2.0/UDP 198.51.100.255;rport=65535;RECEIVED=2001:db8::1;ttl=7;maddr=224.0.1.75;x",
        "SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bK7;rport=",
        "SIP / 2.0 / UDP first.example.com : 4000 ; ttl = 16",
        "SIP/2.0/TCP 10.0.0.1;branch=\"quoted\"",
    ];
    const ADDRESSES: &[&str] = &[
        "\"Alice Example\" <sip:+4915112345678@carrier.example>;tag=a81ff0001",
        "Bob <sip:bob@192.0.2.4:5060;transport=udp;lr>;tag=x.y-z_1;expires=3600",
        "<sip:192.0.2.1:5060;lr;cg=0123456789abcdef>",
        "<sip:a@b;;x=;=y>;q=0.5;tag=;flag",
        "\"O\\\"Neill \u{fc}\" <sip:o%20n:pw@example.com?subject=x>;tag=1=2/3",
        "sip:bare@example.com;tag=7",
        "<tel:+1-201-555-0123;phone-context=example.com>",
        "<sips:a@[2001:db8::1]:5061>",
        "a b  c<sip:3com.example.>",
    ];

    /// What is put into values: separators, and what each class ends at.
    const ODD: &[u8] = b"a0.-_+ \t;=:,@<>\"\\%/?[]()'~*!&$#{}|^\x01\x7f\xc3\xa9256\xff\r\n";

    /// Calls `check` with each value as a To, and with values that differ from them in an octet or two.
    fn with_variants(values: &[&str], check: impl Fn(&Message<'_>, Range<usize>)) {
        let mut scratch = Scratch::new(16);
        let mut look = |value: &[u8]| {
            let text = [&b"OPTIONS sip:a SIP/2.0\r\nTo: "[..], value, b"\r\n\r\n"].concat();
            if let Ok(message) = parse(&text, &mut scratch)
                && let Some(field) = message.field(HeaderId::To)
            {
                check(&message, field.value_range());
            }
        };
        for value in values {
            let value = value.as_bytes();
            for at in 0..=value.len() {
                look(&value[..at]);
                look(&value[at..]);
                for (second, odd) in ODD.iter().enumerate() {
                    let rest = &value[(at + 1).min(value.len())..];
                    look(&[&value[..at], &[*odd], rest].concat());
                    look(&[&value[..at], &[*odd], &value[at..]].concat());
                    let other = ODD[(second * 7 + at) % ODD.len()];
                    look(&[&value[..at], &[*odd, other], rest].concat());
                }
            }
        }
    }

    #[test]
    fn a_usual_via_is_what_the_full_reader_reads() {
        let (taken, left) = (core::cell::Cell::new(0), core::cell::Cell::new(0));
        with_variants(VIAS, |message, range| {
            let text = message.text(range.clone());
            let full = check_via(text);
            let is_via = message.usual(range.clone()).reads_as_via();
            assert!(!is_via || full.is_ok(), "{}", text.escape_ascii());
            match message.usual(range).via() {
                Some(via) => {
                    assert_eq!(Ok(via), full, "{}", text.escape_ascii());
                    taken.set(taken.get() + 1);
                }
                None => left.set(left.get() + u32::from(full.is_ok())),
            }
        });
        assert!(
            taken.get() > 5_000,
            "{} usual, {} other",
            taken.get(),
            left.get()
        );
    }

    #[test]
    fn a_usual_address_is_what_the_full_readers_read() {
        let taken = core::cell::Cell::new(0);
        with_variants(ADDRESSES, |message, range| {
            let text = message.text(range.clone());
            let Some(address) = message.usual(range.clone()).address() else {
                return;
            };
            let shown = text.escape_ascii();
            assert_eq!(
                message.usual(range.clone()).tag(),
                Some(address.tag),
                "{shown}"
            );
            assert_eq!(check_name_addr(text, 1), Ok(address.tag), "{shown}");
            let full = NameAddr::parse(text).expect("checked");
            let place = full.uri_range.start + range.start..full.uri_range.end + range.start;
            assert_eq!(address.uri_range, place, "{shown}");
            assert_eq!(Uri::parse(full.uri), Ok(address.uri), "{shown}");
            taken.set(taken.get() + 1);
        });
        assert!(taken.get() > 4_000, "{} usual", taken.get());
    }

    #[test]
    fn a_usual_uri_is_what_the_full_reader_reads() {
        let taken = core::cell::Cell::new(0);
        let uris: Vec<&str> = ADDRESSES
            .iter()
            .filter_map(|address| Some(address.split_once('<')?.1.split_once('>')?.0))
            .collect();
        with_variants(&uris, |message, range| {
            let text = message.text(range.clone());
            if let Some(uri) = message.usual(range).uri() {
                assert_eq!(Uri::parse(text), Ok(uri), "{}", text.escape_ascii());
                taken.set(taken.get() + 1);
            }
        });
        assert!(taken.get() > 500, "{} usual", taken.get());
    }

    #[test]
    fn a_usual_cseq_or_call_id_is_what_the_full_reader_reads() {
        let values = [
            "102 INVITE",
            "2147483648 BYE",
            "000000007 X-1",
            "a.b-c_1@host.example",
        ];
        let taken = core::cell::Cell::new(0);
        with_variants(&values, |message, range| {
            let text = message.text(range.clone());
            let shown = text.escape_ascii();
            if let Some(cseq) = message.usual(range.clone()).cseq() {
                assert_eq!(CSeq::parse(text), Ok(cseq), "{shown}");
                taken.set(taken.get() + 1);
            }
            if message.usual(range).reads_as_call_id() {
                assert!(crate::sip::grammar::is_call_id(text), "{shown}");
                taken.set(taken.get() + 1);
            }
        });
        assert!(taken.get() > 500, "{} usual", taken.get());
    }
}
