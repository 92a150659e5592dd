//! The strict checks that an element makes on a message before it acts on it (RFC 3261 §16.3
//! step 1, RFC 4475). Headers that a proxy need not understand are left to those who do.

use core::ops::Range;

use super::error::{Malformed, MalformedKind};
use super::grammar::{is_call_id, is_param_value, is_quotable};
use super::{CSeq, HeaderId, Message, NameAddr, Param, Params, Scheme, Uri, Via};

/// Legal bytes that ask for something illegal, or bytes too broken to act on: the answer to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misbehaved {
    pub status: u16,
    /// What is wrong, for the reason phrase.
    pub reason: &'static str,
    /// Where in the message.
    pub at: usize,
}

impl From<Malformed> for Misbehaved {
    fn from(fault: Malformed) -> Misbehaved {
        let status = match fault.what {
            MalformedKind::Version => 505,
            MalformedKind::TooLong => 513,
            _ => 400,
        };
        Misbehaved {
            status,
            reason: fault.what.text(),
            at: fault.at,
        }
    }
}

/// Checks what a proxy must be able to rely on in a request; gives its top Via.
//= rfc3261#16.3 step 1
pub fn validate_request<'a>(message: &Message<'a>) -> Result<Via<'a>, Misbehaved> {
    validate_request_and(message, |_| {})
}

/// The same; `seen` is told the top Via as soon as it is read, whatever the rest is like.
pub fn validate_request_and<'a>(
    message: &Message<'a>,
    seen: impl FnOnce(&Via<'a>),
) -> Result<Via<'a>, Misbehaved> {
    let via = check_common(message, seen)?;
    message.max_forwards()?;
    check_count(message, HeaderId::MaxBreadth, false)?;
    message.max_breadth()?;
    check_cseq_method(message)?;
    check_addresses(message, HeaderId::Route)?;
    check_addresses(message, HeaderId::RecordRoute)?;
    check_contacts(message)?;
    check_request_uri(message)?;
    Ok(via)
}

/// Checks what a proxy must be able to rely on in a response; gives its top Via.
pub fn validate_response<'a>(message: &Message<'a>) -> Result<Via<'a>, Malformed> {
    validate_response_and(message, |_| {})
}

/// The same; `seen` is told the top Via as soon as it is read, whatever the rest is like.
pub fn validate_response_and<'a>(
    message: &Message<'a>,
    seen: impl FnOnce(&Via<'a>),
) -> Result<Via<'a>, Malformed> {
    check_common(message, seen)
}

/// Fields of which a message has one, with whether it must have it.
const SINGLE: [(HeaderId, bool); 6] = [
    (HeaderId::CallId, true),
    (HeaderId::From, true),
    (HeaderId::To, true),
    (HeaderId::CSeq, true),
    (HeaderId::MaxForwards, false),
    (HeaderId::ContentLength, false),
];

fn check_common<'a>(
    message: &Message<'a>,
    seen: impl FnOnce(&Via<'a>),
) -> Result<Via<'a>, Malformed> {
    for (id, is_mandatory) in SINGLE {
        check_count(message, id, is_mandatory)?;
    }
    let via = check_vias(message, seen)?;
    check_tagged(message, HeaderId::From)?;
    check_tagged(message, HeaderId::To)?;
    message.cseq()?;
    check_call_id(message)?;
    Ok(via)
}

fn check_count(message: &Message<'_>, id: HeaderId, is_mandatory: bool) -> Result<(), Malformed> {
    match (message.field(id), message.is_repeated(id)) {
        (Some(_), false) => Ok(()),
        (None, _) if !is_mandatory => Ok(()),
        (None, _) => Err(missing(message)),
        (Some(_), true) => Err(fault_at(message, id, MalformedKind::RepeatedField)),
    }
}

fn fault_at(message: &Message<'_>, id: HeaderId, what: MalformedKind) -> Malformed {
    let at = message.field(id).map_or(0, |field| field.line().start);
    Malformed::new(what, at)
}

/// Gives the top one.
#[inline]
fn check_vias<'a>(
    message: &Message<'a>,
    seen: impl FnOnce(&Via<'a>),
) -> Result<Via<'a>, Malformed> {
    let mut values = message.values(HeaderId::Via);
    let top = values.next().ok_or_else(|| missing(message))?;
    let via = match message.usual(top.range.clone()).via() {
        Some(via) => via,
        None => check_via(top.bytes).map_err(|fault| fault.shifted(top.range.start))?,
    };
    message.remember_stamp(&via, &top.range);
    seen(&via);
    for value in values {
        if !message.usual(value.range.clone()).reads_as_via() {
            check_via(value.bytes).map_err(|fault| fault.shifted(value.range.start))?;
        }
    }
    Ok(via)
}

pub(super) fn check_via(value: &[u8]) -> Result<Via<'_>, Malformed> {
    let via = Via::read(value, check_param)?;
    if via.version != b"2.0" {
        return Err(Malformed::new(MalformedKind::Via, 0));
    }
    Ok(via)
}

/// The value of a parameter is a token, a host or a quoted string; `;rport=` is let through.
fn check_param(param: &Param<'_>) -> Result<(), Malformed> {
    let is_sound = match param.value {
        None => true,
        Some(quoted) if quoted.starts_with(b"\"") => is_quotable(quoted),
        Some(b"") => param.name.eq_ignore_ascii_case(b"rport"),
        Some(value) => is_param_value(value),
    };
    if is_sound {
        Ok(())
    } else {
        Err(Malformed::new(MalformedKind::Parameter, param.range.start))
    }
}

fn missing(message: &Message<'_>) -> Malformed {
    Malformed::new(MalformedKind::MissingField, message.header_end())
}

fn check_call_id(message: &Message<'_>) -> Result<(), Malformed> {
    let Some(field) = message.field(HeaderId::CallId) else {
        return Err(missing(message));
    };
    if message.usual(field.value_range()).reads_as_call_id() || is_call_id(message.call_id()) {
        return Ok(());
    }
    Err(fault_at(message, HeaderId::CallId, MalformedKind::CallId))
}

/// The frame, the URI and the parameters of the address in `range`; gives its first tag.
fn check_address<'a>(
    message: &Message<'a>,
    range: Range<usize>,
    tags_max: u8,
) -> Result<Option<&'a [u8]>, Malformed> {
    match message.usual(range.clone()).tag() {
        Some(tag) => Ok(tag),
        None => check_name_addr(message.text(range.clone()), tags_max)
            .map_err(|fault| fault.shifted(range.start)),
    }
}

pub(super) fn check_name_addr(value: &[u8], tags_max: u8) -> Result<Option<&[u8]>, Malformed> {
    let address = NameAddr::parse(value)?;
    Uri::parse(address.uri).map_err(|fault| fault.shifted(address.uri_range.start))?;
    let (mut tag, mut tags) = (None, 0);
    for param in Params::new(address.params) {
        let param = param?;
        check_param(&param)?;
        if param.name.eq_ignore_ascii_case(b"tag") {
            tag = tag.or(Some(param.value));
            tags = u8::saturating_add(tags, 1);
            //= rfc3261#7.3.1 no parameter name may appear twice
            if tags > tags_max {
                return Err(Malformed::new(MalformedKind::Parameter, param.range.start));
            }
        }
    }
    Ok(tag.flatten().filter(|tag| !tag.is_empty()))
}

/// From or To; the tag is remembered, since most of the steps that follow ask for it.
fn check_tagged(message: &Message<'_>, id: HeaderId) -> Result<(), Malformed> {
    let Some(field) = message.field(id) else {
        return Ok(());
    };
    // Callees are known that append a tag of theirs to each answer, a second one too; a caller
    // whom no two readers understand alike is told so.
    let tags_max = if message.is_request() { 1 } else { u8::MAX };
    let tag = check_address(message, field.value_range(), tags_max)?;
    message.remember_tag(id, tag);
    Ok(())
}

fn check_addresses(message: &Message<'_>, id: HeaderId) -> Result<(), Malformed> {
    for value in message.values(id) {
        check_address(message, value.range, 1)?;
    }
    Ok(())
}

/// `Contact: *` is the one value that is no address (RFC 3261 §10.2.2).
fn check_contacts(message: &Message<'_>) -> Result<(), Malformed> {
    if message.value(HeaderId::Contact) == Some(b"*") {
        return Ok(());
    }
    check_addresses(message, HeaderId::Contact)
}

//= rfc3261#8.1.1.5 the method of CSeq must be the request's
fn check_cseq_method(message: &Message<'_>) -> Result<(), Misbehaved> {
    let CSeq { method_text, .. } = message.cseq()?;
    if method_text == message.method_text() {
        return Ok(());
    }
    Err(Misbehaved {
        status: 400,
        reason: "CSeq method differs from the request's",
        at: fault_at(message, HeaderId::CSeq, MalformedKind::CSeq).at,
    })
}

//= rfc3261#16.3 step 2
fn check_request_uri(message: &Message<'_>) -> Result<(), Misbehaved> {
    let range = message.request_uri_range();
    let uri = message.read_request_uri().map_err(|fault| {
        Misbehaved::from(Malformed {
            what: MalformedKind::RequestUri,
            at: fault.at + range.start,
        })
    })?;
    match uri.scheme {
        Scheme::Other => Err(Misbehaved {
            status: 416,
            reason: super::status::phrase(416),
            at: range.start,
        }),
        //= rfc3261#19.1.1 headers are not allowed in a Request-URI
        _ if !uri.headers.is_empty() => Err(Misbehaved {
            status: 400,
            reason: "Header fields in the Request-URI",
            at: range.start,
        }),
        Scheme::Sip | Scheme::Sips | Scheme::Tel => Ok(()),
    }
}
