//! What a front-end wants to know of an SDP body: which audio codecs it offers (RFC 4566, RFC 3551).
//!
//! Lines are read where they lie; a body that is not SDP has no codecs.

use super::grammar::decimal;

/// Calls `visit` with the encoding name of each audio format, in the order of the `m=` lines. Every
/// line is read once, however many formats and mappings there are.
pub fn audio_codecs(body: &[u8], mut visit: impl FnMut(&[u8])) {
    let mut section = body;
    while let Some((formats, attributes, rest)) = next_audio(section) {
        let mapped = Mapped::read(attributes);
        for format in formats
            .split(|&octet| octet == b' ')
            .filter(|format| !format.is_empty())
        {
            if let Some(name) = mapped.name(format).or_else(|| static_name(format)) {
                visit(name);
            }
        }
        section = rest;
    }
}

/// Whether the body describes a session with at least one media line.
pub fn has_offer(body: &[u8]) -> bool {
    body.starts_with(b"v=") && lines(body).any(|(line, _)| line.starts_with(b"m="))
}

/// The formats of the next audio line, the attribute lines that belong to it, and what follows.
fn next_audio(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (line, behind) = lines(text).find(|(line, _)| line.starts_with(b"m=audio "))?;
    let rest = &text[behind..];
    let end = lines(rest)
        .find(|(line, _)| line.starts_with(b"m="))
        .map_or(rest.len(), |(line, behind)| start_of(rest, line, behind));
    Some((formats_of(line), &rest[..end], &rest[end..]))
}

/// Where `line` starts in `text`, when `behind` is the offset behind its line end.
fn start_of(text: &[u8], line: &[u8], behind: usize) -> usize {
    let ended = &text[..behind];
    let without_end = ended.strip_suffix(b"\n").unwrap_or(ended);
    let without_end = without_end.strip_suffix(b"\r").unwrap_or(without_end);
    without_end.len() - line.len()
}

/// `m=audio port profile` are three words; formats follow.
fn formats_of(line: &[u8]) -> &[u8] {
    let mut words = line.splitn(4, |&octet| octet == b' ');
    words.nth(3).unwrap_or_default()
}

/// Each line without its end, and the offset behind its end.
fn lines(text: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let len = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        at += (len + 1).min(rest.len());
        let line = &rest[..len];
        Some((line.strip_suffix(b"\r").unwrap_or(line), at))
    })
}

/// Payload types have seven bits (RFC 3550 §5.1).
const PAYLOAD_TYPES: usize = 128;

/// The rtpmap lines of one section, by payload type.
struct Mapped<'a>([&'a [u8]; PAYLOAD_TYPES]);

impl<'a> Mapped<'a> {
    /// Reads attribute lines; the first mapping of a payload type counts.
    fn read(attributes: &'a [u8]) -> Mapped<'a> {
        let mut names: [&[u8]; PAYLOAD_TYPES] = [b""; PAYLOAD_TYPES];
        for (line, _) in lines(attributes) {
            if let Some((format, name)) = mapping(line)
                && let Some(place) = names.get_mut(format)
                && place.is_empty()
            {
                *place = name;
            }
        }
        Mapped(names)
    }

    fn name(&self, format: &[u8]) -> Option<&'a [u8]> {
        let name = self.0.get(payload_type(format)?)?;
        (!name.is_empty()).then_some(*name)
    }
}

/// `a=rtpmap:96 opus/48000/2`
fn mapping(line: &[u8]) -> Option<(usize, &[u8])> {
    let mapping = line.strip_prefix(b"a=rtpmap:")?;
    let space = memchr::memchr(b' ', mapping)?;
    let name = mapping[space + 1..].trim_ascii_start();
    let end = memchr::memchr(b'/', name).unwrap_or(name.len());
    Some((payload_type(&mapping[..space])?, &name[..end]))
}

fn payload_type(text: &[u8]) -> Option<usize> {
    decimal(text).and_then(|number| usize::try_from(number).ok())
}

/// Static audio payload types (RFC 3551 §6, table 4).
fn static_name(format: &[u8]) -> Option<&'static [u8]> {
    Some(match format {
        b"0" => b"PCMU",
        b"3" => b"GSM",
        b"4" => b"G723",
        b"5" | b"6" | b"16" | b"17" => b"DVI4",
        b"7" => b"LPC",
        b"8" => b"PCMA",
        b"9" => b"G722",
        b"10" | b"11" => b"L16",
        b"12" => b"QCELP",
        b"13" => b"CN",
        b"14" => b"MPA",
        b"15" => b"G728",
        b"18" => b"G729",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codecs(body: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        audio_codecs(body, |name| {
            names.push(String::from_utf8_lossy(name).into_owned())
        });
        names
    }

    #[test]
    fn static_and_mapped_formats_of_all_audio_lines_are_named() {
        let body = b"v=0\r\ns=-\r\nm=audio 4000 RTP/AVP 8 0 101 97\r\na=rtpmap:101 telephone-event/8000\r\n\
            a=rtpmap:97 opus/48000/2\r\nm=video 4002 RTP/AVP 31\r\na=rtpmap:31 LPC\r\nm=audio 4004 RTP/AVP 18";
        assert_eq!(
            codecs(body),
            ["PCMA", "PCMU", "telephone-event", "opus", "G729"]
        );
        assert!(has_offer(body));
    }

    #[test]
    fn a_mapping_wins_over_the_static_table_and_belongs_to_its_media() {
        assert_eq!(codecs(b"v=0\nm=audio 1 RTP/AVP 0 99\na=rtpmap:0 X/8000\nm=audio 1 RTP/AVP 99\na=rtpmap:99 Y/8000\n"), ["X", "Y"]);
    }

    #[test]
    fn what_is_not_sdp_has_no_codecs() {
        for body in [
            &b""[..],
            b"\r\n",
            b"m=audio",
            b"m=audio ",
            b"hello",
            b"m=audio 1 RTP/AVP",
            b"a=rtpmap:0 PCMU",
        ] {
            assert_eq!(codecs(body), [""; 0]);
        }
        assert!(!has_offer(b"v=0\r\n"));
        assert!(!has_offer(b"m=audio 1 RTP/AVP 0"));
    }
}
