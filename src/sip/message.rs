//! A parsed message: spans over received bytes, and the values read from them when somebody asks.
//!
//! `Message` borrows both the bytes and the scratch that `parse` filled; it is three words to copy.

use core::cell::Cell;
use core::iter;
use core::net::IpAddr;
use core::ops::Range;

use super::error::{Malformed, MalformedKind};
use super::grammar::decimal;
use super::header::{HeaderId, Shape};
use super::params::{top_level_comma, trimmed};
use super::parse::Scratch;
use super::start_line::StartKind;
use super::usual::Usual;
use super::{CSeq, Method, NameAddr, Uri, Via};
use crate::base::HashKey;

/// One header field: where its line, name and value are. Sixteen octets, so that its place among
/// others is a shift and not a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(16))]
pub struct Field {
    pub id: HeaderId,
    pub(super) start: u16,
    pub(super) name_end: u16,
    pub(super) value_start: u16,
    pub(super) value_end: u16,
    pub(super) end: u16,
    /// The next field of this id, plus one; 0 behind the last.
    pub(super) next: u16,
}

impl Field {
    /// A place for one.
    pub(super) const NONE: Field = Field {
        id: HeaderId::Unknown,
        start: 0,
        name_end: 0,
        value_start: 0,
        value_end: 0,
        end: 0,
        next: 0,
    };

    /// The whole field with its line end and continuation lines.
    pub fn line(&self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }

    /// The name without the blanks behind it.
    pub fn name_range(&self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.name_end)
    }

    /// The value without white space around it; folds inside stay.
    pub fn value_range(&self) -> Range<usize> {
        usize::from(self.value_start)..usize::from(self.value_end)
    }

    /// The name as the sender wrote it.
    pub fn name<'a>(&self, message: &Message<'a>) -> &'a [u8] {
        message.text(self.name_range())
    }

    /// The value without white space around it.
    pub fn value<'a>(&self, message: &Message<'a>) -> &'a [u8] {
        message.text(self.value_range())
    }
}

/// A part of a message's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// A range inside a message, which is no longer than `MESSAGE_MAX`.
    fn new(range: Range<usize>) -> Span {
        Span {
            start: range.start as u16,
            end: range.end as u16,
        }
    }

    pub fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }
}

/// What was read of a message and is asked for again and again: most steps of a proxy look at
/// the tags and the CSeq.
#[derive(Clone, Debug, Default)]
pub(super) struct Memo {
    from_tag: Cell<Option<Option<Span>>>,
    to_tag: Cell<Option<Option<Span>>>,
    cseq: Cell<Option<(u32, Method, Span)>>,
    /// The hash of the Call-ID, and the first word of its key.
    call_id_hash: Cell<Option<(u64, u64)>>,
    stamp: Cell<Option<Stamp>>,
}

/// What a node's own words in the top Via of a request depend on (RFC 3261 §18.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The Via's first and last octet.
    pub value: Span,
    pub rport: Option<Span>,
    pub received: Option<Span>,
    /// The address in its sent-by, if it is one.
    pub ip: Option<IpAddr>,
}

impl Stamp {
    /// What the value that starts at `start` says.
    pub fn of(via: &Via<'_>, value: &Range<usize>) -> Stamp {
        let place =
            |range: &Range<usize>| Span::new(range.start + value.start..range.end + value.start);
        Stamp {
            value: Span::new(value.clone()),
            rport: via.rport_range.as_ref().map(place),
            received: via.received_range.as_ref().map(place),
            ip: via.host.ip(),
        }
    }
}

impl Memo {
    /// The place of the To tag, or of the From tag for any other header.
    fn tag(&self, id: HeaderId) -> &Cell<Option<Option<Span>>> {
        if id == HeaderId::To {
            &self.to_tag
        } else {
            &self.from_tag
        }
    }
}

/// The first line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    Request {
        method: Method,
        method_text: &'a [u8],
        uri: &'a [u8],
        uri_range: Range<usize>,
    },
    Response {
        status: u16,
        reason: &'a [u8],
    },
}

/// One element of a comma-separated list, or the whole value where commas do not separate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    pub bytes: &'a [u8],
    /// Where it is in [`Message::bytes`].
    pub range: Range<usize>,
    /// The index of its field in [`Message::fields`].
    pub field: usize,
}

/// A message, indexed.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    index: &'a Scratch,
}

impl<'a> Message<'a> {
    pub(super) fn new(bytes: &'a [u8], index: &'a Scratch) -> Message<'a> {
        Message { bytes, index }
    }

    /// The octets in `range`, which was made while these bytes were parsed.
    pub(super) fn text(&self, range: Range<usize>) -> &'a [u8] {
        debug_assert!(range.start <= range.end && range.end <= self.bytes.len());
        self.bytes.get(range).unwrap_or_default()
    }

    /// From the start line to the end of the body.
    //= rfc3261#18.3 octets behind the body are no part of the message
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The first line.
    pub fn start(&self) -> StartLine<'a> {
        let start = &self.index.start;
        match start.kind {
            StartKind::Request(method) => StartLine::Request {
                method,
                method_text: self.text(start.first.clone()),
                uri: self.text(start.second.clone()),
                uri_range: start.second.clone(),
            },
            StartKind::Response(status) => StartLine::Response {
                status,
                reason: self.text(start.second.clone()),
            },
        }
    }

    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.index.start.kind, StartKind::Request(_))
    }

    /// The request's method; of a response, that of its CSeq.
    pub fn method(&self) -> Method {
        match self.index.start.kind {
            StartKind::Request(method) => method,
            StartKind::Response(_) => self.cseq().map_or(Method::Other, |cseq| cseq.method),
        }
    }

    /// The method as it is spelled; of a response, that of its CSeq.
    pub fn method_text(&self) -> &'a [u8] {
        match self.index.start.kind {
            StartKind::Request(_) => self.text(self.index.start.first.clone()),
            StartKind::Response(_) => self.cseq().map_or(b"", |cseq| cseq.method_text),
        }
    }

    /// The status code; 0 for a request.
    pub fn status(&self) -> u16 {
        match self.index.start.kind {
            StartKind::Request(_) => 0,
            StartKind::Response(status) => status,
        }
    }

    /// The Request-URI; empty for a response.
    pub fn request_uri(&self) -> &'a [u8] {
        self.text(self.request_uri_range())
    }

    /// Where the Request-URI is; empty for a response.
    pub fn request_uri_range(&self) -> Range<usize> {
        match self.index.start.kind {
            StartKind::Request(_) => self.index.start.second.clone(),
            StartKind::Response(_) => 0..0,
        }
    }

    /// Where the first header field starts: behind the start line.
    pub fn header_start(&self) -> usize {
        self.index.start.end
    }

    /// Where the empty line starts; of a partial message, the end of what was read.
    pub fn header_end(&self) -> usize {
        self.index.header_end
    }

    /// What follows the empty line, by Content-Length.
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(self.index.body_start..).unwrap_or_default()
    }

    /// All fields in order.
    pub fn fields(&self) -> &'a [Field] {
        let fields = self.index.fields.get(..self.index.fields_count);
        fields.unwrap_or_default()
    }

    /// The first field of this id.
    pub fn field(&self, id: HeaderId) -> Option<&'a Field> {
        self.linked(self.index.first[id as usize])
    }

    /// The field that `first` or `next` names.
    #[inline(always)]
    fn linked(&self, link: u16) -> Option<&'a Field> {
        self.index.fields.get(usize::from(link).checked_sub(1)?)
    }

    /// The fields of this id in order.
    pub fn fields_of(&self, id: HeaderId) -> impl Iterator<Item = &'a Field> {
        let message = *self;
        iter::successors(self.field(id), move |field| message.linked(field.next))
    }

    /// The value of the first field of this id.
    pub fn value(&self, id: HeaderId) -> Option<&'a [u8]> {
        self.field(id).map(|field| field.value(self))
    }

    /// How many fields have this id.
    pub fn count(&self, id: HeaderId) -> usize {
        self.fields_of(id).count()
    }

    /// Whether more than one field has this id.
    pub fn is_repeated(&self, id: HeaderId) -> bool {
        self.field(id).is_some_and(|field| field.next != 0)
    }

    /// The elements of all fields of this id in order; empty ones are left out.
    pub fn values(&self, id: HeaderId) -> Values<'a> {
        Values {
            message: *self,
            is_list: id.shape() == Shape::List,
            link: self.index.first[id as usize],
            at: None,
        }
    }

    /// The Via of the hop that sent this message.
    pub fn top_via(&self) -> Result<Via<'a>, Malformed> {
        let value = self.values(HeaderId::Via).next().ok_or(self.missing())?;
        self.via(&value)
    }

    /// A value of this message as a Via.
    pub fn via(&self, value: &Value<'a>) -> Result<Via<'a>, Malformed> {
        match self.usual(value.range.clone()).via() {
            Some(via) => Ok(via),
            None => Via::parse(value.bytes).map_err(|fault| fault.shifted(value.range.start)),
        }
    }

    /// The Request-URI, read; the fault's place counts from its start.
    pub fn read_request_uri(&self) -> Result<Uri<'a>, Malformed> {
        match self.usual(self.request_uri_range()).uri() {
            Some(uri) => Ok(uri),
            None => Uri::parse(self.request_uri()),
        }
    }

    /// The URI of an address, as text and, where it can be, read.
    pub fn address_uri(&self, value: &Value<'a>) -> Option<(&'a [u8], Option<Uri<'a>>)> {
        if let Some(address) = self.usual(value.range.clone()).address() {
            return Some((self.text(address.uri_range), Some(address.uri)));
        }
        let uri = NameAddr::parse(value.bytes).ok()?.uri;
        Some((uri, Uri::parse(uri).ok()))
    }

    /// A reader of the form that nearly all values have.
    pub(super) fn usual(&self, range: Range<usize>) -> Usual<'a, 'a> {
        Usual::new(self.bytes, &self.index.marks, range)
    }

    /// The CSeq.
    pub fn cseq(&self) -> Result<CSeq<'a>, Malformed> {
        let memo = &self.index.memo.cseq;
        if let Some((number, method, text)) = memo.get() {
            return Ok(CSeq {
                number,
                method,
                method_text: self.text(text.range()),
            });
        }
        let cseq = self.read_cseq()?;
        memo.set(Some((
            cseq.number,
            cseq.method,
            self.span(cseq.method_text),
        )));
        Ok(cseq)
    }

    fn read_cseq(&self) -> Result<CSeq<'a>, Malformed> {
        let field = self.field(HeaderId::CSeq).ok_or(self.missing())?;
        let range = field.value_range();
        match self.usual(range.clone()).cseq() {
            Some(cseq) => Ok(cseq),
            None => {
                CSeq::parse(self.text(range.clone())).map_err(|fault| fault.shifted(range.start))
            }
        }
    }

    /// The Call-ID; empty when there is none.
    pub fn call_id(&self) -> &'a [u8] {
        self.value(HeaderId::CallId).unwrap_or_default()
    }

    /// The keyed hash of the Call-ID, worked out once for the key that asks first.
    pub fn call_id_hash(&self, key: &HashKey) -> u64 {
        let [word, _] = key.words();
        match self.index.memo.call_id_hash.get() {
            Some((of, hash)) if of == word => hash,
            _ => {
                let hash = key.hash(self.call_id());
                self.index.memo.call_id_hash.set(Some((word, hash)));
                hash
            }
        }
    }

    /// What decides how the top Via is stamped; none when it cannot be read.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        if let Some(stamp) = self.index.memo.stamp.get() {
            return Some(stamp);
        }
        let value = self.values(HeaderId::Via).next()?;
        let stamp = Stamp::of(&self.via(&value).ok()?, &value.range);
        self.index.memo.stamp.set(Some(stamp));
        Some(stamp)
    }

    /// Keeps what `stamp` gives, since whoever checks the top Via has read it already.
    pub(super) fn remember_stamp(&self, via: &Via<'a>, value: &Range<usize>) {
        self.index.memo.stamp.set(Some(Stamp::of(via, value)));
    }

    /// Whom the message is from.
    pub fn from(&self) -> Result<NameAddr<'a>, Malformed> {
        self.address(HeaderId::From)
    }

    /// Whom the message is for.
    pub fn to(&self) -> Result<NameAddr<'a>, Malformed> {
        self.address(HeaderId::To)
    }

    /// The first field of this id as an address.
    pub fn address(&self, id: HeaderId) -> Result<NameAddr<'a>, Malformed> {
        let (value, at) = self.single(id)?;
        NameAddr::parse(value).map_err(|fault| fault.shifted(at))
    }

    /// The From tag; none when there is none or From is malformed.
    pub fn from_tag(&self) -> Option<&'a [u8]> {
        self.tag(HeaderId::From)
    }

    /// The To tag; none when there is none or To is malformed.
    pub fn to_tag(&self) -> Option<&'a [u8]> {
        self.tag(HeaderId::To)
    }

    /// Max-Forwards, when there is one.
    //= rfc3261#20.22 an integer in the range 0-255
    pub fn max_forwards(&self) -> Result<Option<u8>, Malformed> {
        let Some(field) = self.field(HeaderId::MaxForwards) else {
            return Ok(None);
        };
        decimal(field.value(self))
            .and_then(|number| u8::try_from(number).ok())
            .map(Some)
            .ok_or(Malformed::new(
                MalformedKind::MaxForwards,
                field.value_range().start,
            ))
    }

    /// Max-Breadth, when there is one; a number too large for `u64` is its largest.
    //= rfc5393#5.3.3
    pub fn max_breadth(&self) -> Result<Option<u64>, Malformed> {
        let Some(field) = self.field(HeaderId::MaxBreadth) else {
            return Ok(None);
        };
        let digits = field.value(self);
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            let at = field.value_range().start;
            return Err(Malformed::new(MalformedKind::MaxBreadth, at));
        }
        Ok(Some(decimal(digits).unwrap_or(u64::MAX)))
    }

    /// Content-Length, when there is a sound one.
    pub fn content_length(&self) -> Option<u64> {
        self.value(HeaderId::ContentLength).and_then(decimal)
    }

    fn tag(&self, id: HeaderId) -> Option<&'a [u8]> {
        if let Some(span) = self.index.memo.tag(id).get() {
            return span.map(|span| self.text(span.range()));
        }
        let address = self.address(id).ok();
        let tag = address.and_then(|address| address.tag());
        self.remember_tag(id, tag);
        tag
    }

    /// Keeps the tag of From or To, a part of this message's bytes, for whoever asks next.
    pub(super) fn remember_tag(&self, id: HeaderId, tag: Option<&'a [u8]>) {
        let span = tag.map(|tag| self.span(tag));
        self.index.memo.tag(id).set(Some(span));
    }

    /// Where a part of this message's bytes is.
    fn span(&self, part: &'a [u8]) -> Span {
        let start = part.as_ptr().addr() - self.bytes.as_ptr().addr();
        Span::new(start..start + part.len())
    }

    fn single(&self, id: HeaderId) -> Result<(&'a [u8], usize), Malformed> {
        let field = self.field(id).ok_or(self.missing())?;
        Ok((field.value(self), field.value_range().start))
    }

    fn missing(&self) -> Malformed {
        Malformed::new(MalformedKind::MissingField, self.header_end())
    }
}

/// Iterator over the elements of one header.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    message: Message<'a>,
    is_list: bool,
    /// The field at hand, plus one; 0 when there is none.
    link: u16,
    /// Where to go on within the field; none at its start.
    at: Option<usize>,
}

impl<'a> Values<'a> {
    /// The next element of the field at hand, empty or not; none behind its last one.
    #[inline(never)]
    fn next_in(&mut self, field: &Field) -> Option<Value<'a>> {
        let whole = field.value_range();
        let start = self.at.unwrap_or(whole.start);
        if start > whole.end {
            return None;
        }
        let text = self.message.text(0..whole.end);
        let comma = match self.is_list {
            true => top_level_comma(text, start),
            false => None,
        };
        let end = comma.unwrap_or(whole.end);
        self.at = Some(end + 1);
        Some(self.value(trimmed(text, start..end)))
    }

    #[inline(always)]
    fn value(&self, range: Range<usize>) -> Value<'a> {
        Value {
            bytes: self.message.text(range.clone()),
            range,
            field: usize::from(self.link).saturating_sub(1),
        }
    }

    /// Whether the field is one element as a whole.
    #[inline(always)]
    fn is_whole(&self, field: &Field) -> bool {
        let range = field.value_range();
        let marks = &self.message.index.marks;
        self.at.is_none() && !(self.is_list && marks.has_comma(range.start, range.end))
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        loop {
            let field = self.message.linked(self.link)?;
            if self.is_whole(field) {
                let range = field.value_range();
                let value = self.value(range);
                self.link = field.next;
                if !value.bytes.is_empty() {
                    return Some(value);
                }
                continue;
            }
            match self.next_in(field) {
                Some(value) if value.bytes.is_empty() => {}
                Some(value) => return Some(value),
                None => {
                    self.link = field.next;
                    self.at = None;
                }
            }
        }
    }
}
