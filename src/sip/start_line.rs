//! The start line: a request's or a response's (RFC 3261 §7.1, §7.2).

use core::ops::Range;

use super::Method;
use super::error::{Malformed, MalformedKind};
use super::grammar::{decimal, is_token};
use super::params::trimmed;
use super::width::{BLOCK, Width};
use super::window::{first_blank, window_at};

/// Where the parts of the start line are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    pub kind: StartKind,
    /// The method; empty in a response.
    pub first: Range<usize>,
    /// The Request-URI, or the reason phrase.
    pub second: Range<usize>,
    /// Behind the line's end.
    pub end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartKind {
    Request(Method),
    Response(u16),
}

impl Default for StartKind {
    fn default() -> StartKind {
        StartKind::Response(0)
    }
}

impl Start {
    /// Reads the first line of `text`. `Err`: it is no SIP at all. `Ok(Some)`: it is SIP with a fault.
    #[inline(always)]
    pub fn read(
        &mut self,
        text: &[u8],
        line: &[u8],
        width: Width,
    ) -> Result<Option<Malformed>, Malformed> {
        let is_response = line.first().is_some_and(|first| first | 0x20 == b's')
            && line
                .get(..4)
                .is_some_and(|begin| begin.eq_ignore_ascii_case(b"SIP/"));
        if is_response {
            return read_status_line(line, self).map(|()| None);
        }
        read_request_line(text, line, self, width)
    }
}

/// `SIP/2.0 SP 3DIGIT SP reason`
#[inline(always)]
fn read_status_line(line: &[u8], start: &mut Start) -> Result<(), Malformed> {
    if !line
        .first_chunk::<8>()
        .is_some_and(|version| version == b"SIP/2.0 " || version.eq_ignore_ascii_case(b"SIP/2.0 "))
    {
        return Err(Malformed::new(MalformedKind::Version, 4));
    }
    let status = match line.get(8..12) {
        Some([digits @ .., b' ']) => decimal(digits),
        _ => None,
    };
    let status = status
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (100..=699).contains(status))
        .ok_or(Malformed::new(MalformedKind::StatusCode, 8))?;
    start.kind = StartKind::Response(status);
    start.second = 12..line.len();
    Ok(())
}

/// `method SP uri SP SIP/2.0`, in the first line of `text`.
#[inline(always)]
fn read_request_line(
    text: &[u8],
    line: &[u8],
    start: &mut Start,
    width: Width,
) -> Result<Option<Malformed>, Malformed> {
    let fault = Malformed::new(MalformedKind::StartLine, 0);
    let blanks = match only_two_blanks(text, line.len(), width) {
        Some(blanks) => blanks,
        None => first_blanks(text, line.len()),
    };
    // A tab in front of the first blank would be in the method.
    if line.get(blanks.0) != Some(&b' ') {
        return Err(fault);
    }
    let word = &line[..blanks.0];
    let method = Method::parse(word);
    if method == Method::Other && !is_token(word) {
        return Err(fault);
    }
    let uri_start = blanks.0 + 1;
    let uri_end = line.len().saturating_sub(VERSION.len());
    let is_sound = uri_end > uri_start && blanks.1 == uri_end && ends_with_version(line);
    let fault = if is_sound {
        start.second = uri_start..uri_end;
        None
    } else {
        Some(read_faulty_request_line(line, uri_start, start)?)
    };
    start.first = 0..blanks.0;
    start.kind = StartKind::Request(method);
    Ok(fault)
}

/// Where the two blanks of a request line of `len` octets are, if it is short and has nothing else
/// that is no visible character.
#[inline(always)]
fn only_two_blanks(text: &[u8], len: usize, width: Width) -> Option<(usize, usize)> {
    let block = text.first_chunk::<BLOCK>()?;
    if len >= BLOCK {
        return None;
    }
    let low = width.blank_or_control(block) & ((1 << len) - 1);
    let (first, last) = (low.trailing_zeros(), low.leading_zeros() ^ 63);
    (low.count_ones() == 2).then_some((first as usize, last as usize))
}

/// The offset of the first blank or tab of a line of `len` octets, and of the one behind it, as far as
/// the version at the line's end.
#[inline(never)]
fn first_blanks(text: &[u8], len: usize) -> (usize, usize) {
    let first = blank_in(text, 0, len);
    let uri_end = len.saturating_sub(VERSION.len());
    (first, blank_in(text, first + 1, uri_end))
}

#[inline(always)]
fn ends_with_version(line: &[u8]) -> bool {
    line.last_chunk::<{ VERSION.len() }>()
        .is_some_and(|end| end == VERSION || end.eq_ignore_ascii_case(VERSION))
}

/// The offset of the first blank or tab of `start..end`; `end` when there is none.
#[inline(always)]
fn blank_in(text: &[u8], start: usize, end: usize) -> usize {
    let mut at = start;
    while at < end {
        let len = first_blank(&window_at(text, at));
        at += len;
        if len < 16 {
            break;
        }
    }
    at.min(end)
}

/// How a request line ends.
const VERSION: &[u8; 8] = b" SIP/2.0";

/// Says what is wrong with a request line, if it is one: its last word must be a SIP version.
#[cold]
fn read_faulty_request_line(
    line: &[u8],
    uri_start: usize,
    start: &mut Start,
) -> Result<Malformed, Malformed> {
    let not_sip = Malformed::new(MalformedKind::StartLine, 0);
    let trimmed_len = line.trim_ascii_end().len();
    let space = memchr::memrchr(b' ', &line[..trimmed_len]).ok_or(not_sip)?;
    let version = &line[space + 1..trimmed_len];
    let number = version.get(4..).unwrap_or_default();
    let is_version = version.len() > 4
        && version[..4].eq_ignore_ascii_case(b"SIP/")
        && number
            .iter()
            .all(|&octet| octet.is_ascii_digit() || octet == b'.');
    if !is_version {
        return Err(not_sip);
    }
    start.second = trimmed(line, uri_start.min(space)..space);
    let uri = &line[start.second.clone()];
    Ok(if number != b"2.0" {
        Malformed::new(MalformedKind::Version, space + 1)
    } else if uri.is_empty() {
        Malformed::new(MalformedKind::RequestUri, uri_start)
    } else {
        Malformed::new(MalformedKind::RequestLineSpaces, uri_start)
    })
}
