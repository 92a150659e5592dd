//! Bytes to spans in one pass: where the start line, each field and the body are (RFC 3261 §7).
//!
//! Values stay unread until somebody asks (`message.rs`); what is checked here is what is needed
//! to find them. All memory is in `Scratch`, which a shard makes once.

use core::ops::Range;

use super::error::{Malformed, MalformedKind};
use super::even;
use super::grammar::{decimal, is_token};
use super::header::HeaderId;
use super::marks::Marks;
use super::message::{Field, Memo, Message};
use super::params::trimmed;
use super::scan;
use super::start_line::{Start, StartKind};
use super::width::Width;

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
            feeds: vec![0; 4 * fields_max + 4 + even::SLACK].into_boxed_slice(),
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

    /// Forgets the message before, for one of `len` octets that has no fields yet.
    #[inline(always)]
    fn clear(&mut self, len: usize) {
        self.fields_count = 0;
        self.first = [0; HeaderId::COUNT];
        self.memo = Memo::default();
        self.start = Start::default();
        self.header_end = len;
        self.body_start = len;
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
    let even = scratch.width.run(
        #[inline(always)]
        |width| {
            scratch.clear(text.len());
            index_even(text, scratch, width)
        },
    );
    match even {
        Some(Ok(())) => body_end(text, scratch),
        Some(Err(fault)) => Err(fault),
        None => index_uneven(text, scratch),
    }
}

/// Indexes a message whose lines all end with CR LF; nothing where this is not one.
#[inline(always)]
fn index_even(text: &[u8], scratch: &mut Scratch, width: Width) -> Option<Result<(), Malformed>> {
    if text.len() > MESSAGE_MAX {
        return None;
    }
    let (feeds, marks) = (&mut scratch.feeds, &mut scratch.marks);
    let count = even::lines(text, feeds, marks, width)?;
    let start_fault = match index_start_line(text, count, scratch, width) {
        Ok(fault) => fault,
        Err(fault) => return Some(Err(fault)),
    };
    let field_fault = index_even_fields(text, count, scratch);
    Some(start_fault.or(field_fault).map_or(Ok(()), Err))
}

/// Indexes any other message, or what is none.
#[cold]
fn index_uneven(text: &[u8], scratch: &mut Scratch) -> Result<usize, Malformed> {
    if text.is_empty() {
        return Err(Malformed::new(MalformedKind::Empty, 0));
    }
    if text.len() > MESSAGE_MAX {
        return Err(Malformed::new(MalformedKind::TooLong, MESSAGE_MAX));
    }
    let (feeds, marks) = (&mut scratch.feeds, &mut scratch.marks);
    let lines = scan::lines(text, feeds, marks);
    let start_fault = index_start_line(text, lines.count, scratch, Width::NARROW)?;
    let field_fault = index_fields(text, lines.count, scratch);
    let end_fault = check_lines(&lines, text.len());
    match start_fault.or(field_fault).or(end_fault) {
        Some(fault) => Err(fault),
        None => body_end(text, scratch),
    }
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
    width: Width,
) -> Result<Option<Malformed>, Malformed> {
    let Some(&feed) = scratch.feeds[..feeds].first() else {
        return Err(Malformed::new(MalformedKind::StartLine, 0));
    };
    let feed = usize::from(feed);
    let line = &text[..content_end(text, 0, feed)];
    let start = &mut scratch.start;
    start.end = feed + 1;
    start.read(text, line, width)
}

/// Indexes the fields between the start line and the empty line, which ends at the last of `count`
/// line feeds, none of them without a carriage return; gives the first fault.
#[inline(always)]
fn index_even_fields(text: &[u8], count: usize, scratch: &mut Scratch) -> Option<Malformed> {
    let [first, feeds @ .., last] = scratch.feeds.get(..count)? else {
        return None;
    };
    let last = usize::from(*last);
    let mut walk = FieldWalk::new(&mut scratch.fields, scratch.start.end);
    let (mut before, mut rest) = (*first, feeds);
    loop {
        let room = walk.fields.get_mut(walk.count..).unwrap_or_default();
        let taken = even::fields(text, before, rest, room);
        if let Some(&feed) = taken.checked_sub(1).and_then(|last| rest.get(last)) {
            walk.count += taken;
            walk.start = usize::from(feed) + 1;
            walk.is_continuable = true;
        }
        let Some((&feed, further)) = rest.get(taken..).and_then(<[u16]>::split_first) else {
            (scratch.header_end, scratch.body_start) = (last.saturating_sub(1), last + 1);
            break;
        };
        (before, rest) = (feed, further);
        let feed = usize::from(feed);
        if !walk.take_line(text, feed, feed - 1) {
            break;
        }
    }
    let FieldWalk { count, fault, .. } = walk;
    scratch.link(count);
    fault
}

/// The same, whatever the lines end with.
#[cold]
fn index_fields(text: &[u8], feeds: usize, scratch: &mut Scratch) -> Option<Malformed> {
    let mut walk = FieldWalk::new(&mut scratch.fields, scratch.start.end);
    for &feed in scratch.feeds.get(1..feeds).unwrap_or_default() {
        let feed = usize::from(feed);
        let end = content_end(text, walk.start, feed);
        if end == walk.start {
            scratch.header_end = end;
            scratch.body_start = feed + 1;
            break;
        }
        if !walk.take_line(text, feed, end) {
            break;
        }
    }
    let FieldWalk { count, fault, .. } = walk;
    scratch.link(count);
    fault
}

/// Where the walk over the lines of a header section has come to.
struct FieldWalk<'f> {
    fields: &'f mut [Field],
    count: usize,
    /// Where the next line begins.
    start: usize,
    /// Whether the line in front was a field, or continued one.
    is_continuable: bool,
    /// The first that was found.
    fault: Option<Malformed>,
}

impl<'f> FieldWalk<'f> {
    fn new(fields: &'f mut [Field], start: usize) -> FieldWalk<'f> {
        FieldWalk {
            fields,
            count: 0,
            start,
            is_continuable: false,
            fault: None,
        }
    }

    /// Takes the next line, of any kind but an empty one. Its text ends at `end`, its line feed is at
    /// `feed`. `false`: there is no room for more.
    #[inline(never)]
    fn take_line(&mut self, text: &[u8], feed: usize, end: usize) -> bool {
        let line = self.start..feed;
        self.start = feed + 1;
        let outcome = index_line(text, line, end, self);
        self.is_continuable = outcome.is_ok();
        let Err(fault) = outcome else {
            return true;
        };
        self.fault = self.fault.or(Some(fault));
        fault.what != MalformedKind::TooManyFields
    }
}

/// One line: a field, or the continuation of the one in front of it.
fn index_line(
    text: &[u8],
    line: Range<usize>,
    end: usize,
    walk: &mut FieldWalk<'_>,
) -> Result<(), Malformed> {
    if is_blank(text[line.start]) {
        let last = walk.fields[..walk.count].last_mut();
        let last = last.filter(|_| walk.is_continuable);
        return continue_field(text, end, line.end + 1, last);
    }
    let field = any_field(text, line.clone(), end)?;
    let full = Malformed::new(MalformedKind::TooManyFields, line.start);
    *walk.fields.get_mut(walk.count).ok_or(full)? = field;
    walk.count += 1;
    Ok(())
}

/// A field of any name.
fn any_field(text: &[u8], line: Range<usize>, end: usize) -> Result<Field, Malformed> {
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
mod tests;
