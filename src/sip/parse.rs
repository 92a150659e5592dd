//! Bytes to spans in one pass: where the start line, each field and the body are (RFC 3261 §7).
//!
//! Values stay unread until somebody asks (`message.rs`); what is checked here is what is needed
//! to find them. All memory is in `Scratch`, which a shard makes once.

use core::ops::Range;

use super::error::{Malformed, MalformedKind};
use super::grammar::{decimal, is_token};
use super::header::HeaderId;
use super::marks::Marks;
use super::message::{Field, Memo, Message};
use super::name_index::lookup_short;
use super::params::trimmed;
use super::scan::{self, Width, first_colon, window_at};
use super::start_line::{Start, StartKind};

/// Offsets are 16 bits wide; a datagram is never longer.
pub const MESSAGE_MAX: usize = 65_535;

/// Memory for parsing one message at a time, taken once.
#[derive(Clone, Debug)]
pub struct Scratch {
    width: Width,
    /// Offsets of the line feeds.
    feeds: Box<[u16]>,
    /// Room for as many fields as there may be; the first `fields_count` are this message's.
    pub(super) fields: Box<[Field]>,
    pub(super) fields_count: usize,
    /// The first field of each id, plus one; 0 when there is none.
    pub(super) first: [u16; HeaderId::COUNT],
    pub(super) memo: Memo,
    pub(super) marks: Box<Marks>,
    pub(super) start: Start,
    pub(super) header_end: usize,
    pub(super) body_start: usize,
}

impl Scratch {
    /// Room for `fields_max` fields, each folded over up to four lines on average.
    pub fn new(fields_max: usize) -> Scratch {
        Scratch {
            width: Width::widest(),
            feeds: vec![0; 4 * fields_max + 4].into_boxed_slice(),
            fields: vec![Field::NONE; fields_max].into_boxed_slice(),
            fields_count: 0,
            first: [0; HeaderId::COUNT],
            memo: Memo::default(),
            marks: Box::default(),
            start: Start::default(),
            header_end: 0,
            body_start: 0,
        }
    }

    fn clear(&mut self) {
        self.fields_count = 0;
        self.first = [0; HeaderId::COUNT];
        self.memo = Memo::default();
        self.start = Start::default();
        self.header_end = 0;
        self.body_start = 0;
    }

    /// Says of each of the first `count` fields which one of its id follows, and of each id which
    /// one is the first. From the last to the first, so that no field is looked for.
    #[inline(always)]
    fn link(&mut self, count: usize) {
        self.fields_count = count;
        let mut link = count as u16;
        let fields = self.fields.get_mut(..count).unwrap_or_default();
        for field in fields.iter_mut().rev() {
            let first = &mut self.first[field.id as usize];
            field.next = *first;
            *first = link;
            link = link.wrapping_sub(1);
        }
    }
}

/// A message that is not SIP, with what could be read of it.
#[derive(Clone, Copy, Debug)]
pub struct Rejected<'a> {
    pub fault: Malformed,
    /// A request of which enough could be read to answer it with 400 (or 505).
    pub partial: Option<Message<'a>>,
}

/// Indexes the message in `bytes`, one datagram.
//= rfc3261#7.5 empty lines in front of the start line are ignored
pub fn parse<'a>(bytes: &'a [u8], scratch: &'a mut Scratch) -> Result<Message<'a>, Rejected<'a>> {
    let skipped = bytes
        .iter()
        .position(|&octet| octet != b'\r' && octet != b'\n')
        .unwrap_or(bytes.len());
    let text = &bytes[skipped..];
    scratch.clear();
    let outcome = index(text, scratch);
    let scratch: &'a Scratch = scratch;
    match outcome {
        Ok(end) => Ok(Message::new(&text[..end], scratch)),
        Err(fault) => {
            let is_request = matches!(scratch.start.kind, StartKind::Request(_));
            Err(Rejected {
                fault: fault.shifted(skipped),
                partial: is_request.then(|| Message::new(text, scratch)),
            })
        }
    }
}

/// Fills `scratch`; gives the message's length. The first fault is told, but indexing goes on
/// behind it, so that there is something to answer with.
#[inline(always)]
fn index(text: &[u8], scratch: &mut Scratch) -> Result<usize, Malformed> {
    if text.is_empty() {
        return Err(Malformed::new(MalformedKind::Empty, 0));
    }
    if text.len() > MESSAGE_MAX {
        return Err(Malformed::new(MalformedKind::TooLong, MESSAGE_MAX));
    }
    scratch.header_end = text.len();
    scratch.body_start = text.len();
    // Two functions and not one: each has its own variables in registers.
    let lines = scratch.width.run(
        #[inline(always)]
        |width| scan::lines(text, &mut scratch.feeds, &mut scratch.marks, width),
    );
    let start_fault = index_start_line(text, lines.count, scratch)?;
    let field_fault = scratch.width.run_scalar(
        #[inline(always)]
        || index_fields(text, lines.count, scratch),
    );
    let end_fault = check_lines(&lines, text.len());
    if let Some(fault) = start_fault.or(field_fault).or(end_fault) {
        return Err(fault);
    }
    body_end(text, scratch)
}

/// A fault of the line structure.
fn check_lines(lines: &scan::Lines, len: usize) -> Option<Malformed> {
    if lines.is_full {
        Some(Malformed::new(MalformedKind::TooManyFields, len))
    } else if let Some(at) = lines.stray_cr {
        Some(Malformed::new(MalformedKind::StrayCarriageReturn, at))
    } else if !lines.is_ended {
        Some(Malformed::new(MalformedKind::NoEmptyLine, len))
    } else {
        None
    }
}

/// Where the text of the line ends whose line feed is at `feed`.
#[inline(always)]
fn content_end(text: &[u8], start: usize, feed: usize) -> usize {
    let has_cr = feed > start && text.get(feed - 1) == Some(&b'\r');
    feed - usize::from(has_cr)
}

/// Reads the first line. `Err`: it is no SIP at all. `Ok(Some)`: it is SIP with a fault.
#[inline(always)]
fn index_start_line(
    text: &[u8],
    feeds: usize,
    scratch: &mut Scratch,
) -> Result<Option<Malformed>, Malformed> {
    let Some(&feed) = scratch.feeds[..feeds].first() else {
        return Err(Malformed::new(MalformedKind::StartLine, 0));
    };
    let feed = usize::from(feed);
    let line = &text[..content_end(text, 0, feed)];
    let start = &mut scratch.start;
    start.end = feed + 1;
    start.read(text, line)
}

/// Indexes the fields between the start line and the empty line; gives the first fault.
#[inline(always)]
fn index_fields(text: &[u8], feeds: usize, scratch: &mut Scratch) -> Option<Malformed> {
    let mut fault = None;
    let mut start = scratch.start.end;
    let mut count = 0;
    let mut is_continuable = false;
    let feeds = scratch.feeds.get(1..feeds).unwrap_or_default();
    let fields = &mut scratch.fields;
    for &feed in feeds {
        let line = start..usize::from(feed);
        // In front of an empty line is a line feed and no carriage return.
        let has_cr = text.get(line.end.wrapping_sub(1)) == Some(&b'\r');
        let end = line.end - usize::from(has_cr);
        start = line.end + 1;
        if end == line.start {
            scratch.header_end = end;
            scratch.body_start = start;
            break;
        }
        let window = window_at(text, line.start);
        let len = first_colon(&window);
        if let Some(id) = lookup_short(&window, len)
            && let Some(place) = fields.get_mut(count)
        {
            *place = field(text, id, line.start + len, &line, end);
            is_continuable = true;
            count += 1;
            continue;
        }
        let outcome = index_other_line(text, line, end, is_continuable, fields, &mut count);
        is_continuable = outcome.is_ok();
        if let Err(at_fault) = outcome {
            fault = fault.or(Some(at_fault));
            if at_fault.what == MalformedKind::TooManyFields {
                break;
            }
        }
    }
    scratch.link(count);
    fault
}

/// A line that continues the one in front of it, a field whose name is unknown, over 15 octets or
/// has blanks behind it, or one too many. `line` ends at its line feed, its text at `end`.
#[inline(never)]
fn index_other_line(
    text: &[u8],
    line: Range<usize>,
    end: usize,
    is_continuable: bool,
    fields: &mut [Field],
    count: &mut usize,
) -> Result<(), Malformed> {
    if is_blank(text[line.start]) {
        let last = fields[..*count].last_mut().filter(|_| is_continuable);
        return continue_field(text, end, line.end + 1, last);
    }
    let field = other_field(text, line.clone(), end)?;
    let full = Malformed::new(MalformedKind::TooManyFields, line.start);
    *fields.get_mut(*count).ok_or(full)? = field;
    *count += 1;
    Ok(())
}

/// A field of any name.
fn other_field(text: &[u8], line: Range<usize>, end: usize) -> Result<Field, Malformed> {
    let start = line.start;
    let content = &text[start..end];
    let colon =
        memchr::memchr(b':', content).ok_or(Malformed::new(MalformedKind::MissingColon, start))?;
    let name_end = trim_blanks(content, 0..colon).end;
    let name = &content[..name_end];
    if !is_token(name) {
        return Err(Malformed::new(MalformedKind::FieldName, start));
    }
    let mut field = field(text, HeaderId::parse(name), start + colon, &line, end);
    field.name_end = (start + name_end) as u16;
    Ok(field)
}

/// The field whose colon is at `colon`, right behind its name.
#[inline(always)]
fn field(text: &[u8], id: HeaderId, colon: usize, line: &Range<usize>, end: usize) -> Field {
    // One blank in front and none behind are the rule: that much needs no loop.
    let mut value = colon + 1..end;
    value.start += usize::from(text.get(value.start) == Some(&b' '));
    let is_trimmed = text.get(value.start).is_some_and(|&octet| octet > b' ')
        && text.get(end - 1).is_some_and(|&octet| octet > b' ');
    if !is_trimmed {
        value = trim_blanks(text, colon + 1..end);
    }
    Field {
        id,
        start: line.start as u16,
        name_end: colon as u16,
        value_start: value.start as u16,
        value_end: value.end as u16,
        end: (line.end + 1) as u16,
        next: 0,
    }
}

fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// `range` without blanks at both ends.
#[inline(never)]
fn trim_blanks(text: &[u8], range: Range<usize>) -> Range<usize> {
    let Range { mut start, mut end } = range;
    while start < end && is_blank(text[start]) {
        start += 1;
    }
    while start < end && is_blank(text[end - 1]) {
        end -= 1;
    }
    start..end
}

/// Adds the continuation line that ends at `end` to `last`, the field in front of it, if there is
/// one (RFC 3261 §7.3.1).
#[cold]
fn continue_field(
    text: &[u8],
    end: usize,
    line_end: usize,
    last: Option<&mut Field>,
) -> Result<(), Malformed> {
    let field = last.ok_or(Malformed::new(MalformedKind::FieldName, end))?;
    let value = trimmed(text, usize::from(field.value_start)..end);
    field.value_start = value.start as u16;
    field.value_end = value.end as u16;
    field.end = line_end as u16;
    Ok(())
}

/// Where the body ends: by Content-Length, or with the datagram when there is none.
//= rfc3261#18.3 a body shorter than Content-Length is an error, octets behind it are dropped
#[inline(always)]
fn body_end(text: &[u8], scratch: &Scratch) -> Result<usize, Malformed> {
    let body_start = scratch.body_start;
    let first = scratch.first[HeaderId::ContentLength as usize];
    let Some(at) = usize::from(first).checked_sub(1) else {
        return Ok(text.len());
    };
    let value = scratch.fields[at].value_range();
    let length = decimal(&text[value.clone()])
        .ok_or(Malformed::new(MalformedKind::ContentLength, value.start))?;
    if length > (text.len() - body_start) as u64 {
        return Err(Malformed::new(MalformedKind::BodyShort, text.len()));
    }
    Ok(body_start + length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Method, StartLine};

    const OPTIONS: &str = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n";

    fn faults(text: &[u8]) -> (MalformedKind, bool) {
        let mut scratch = Scratch::new(16);
        let rejected = parse(text, &mut scratch).expect_err("malformed");
        (rejected.fault.what, rejected.partial.is_some())
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
        let message =
            parse(b"sip/2.0 100 \nCSeq: 1 INVITE\n\n", &mut scratch).expect("well formed");
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
        let text = format!(
            "{OPTIONS}TO :\r\n sip:v@c ;   tag    = 1n\r\nSubject:\r\n\t\r\n x\r\n \r\n\r\n"
        );
        let mut scratch = Scratch::new(16);
        let message = parse(text.as_bytes(), &mut scratch).expect("well formed");
        assert_eq!(message.to_tag(), Some(&b"1n"[..]));
        assert_eq!(message.value(HeaderId::Subject), Some(&b"x"[..]));
        let last = message.fields().last().expect("one");
        assert_eq!(last.line().end, message.header_end());
    }
}
