//! Overload control parameters of a Via (RFC 7339 §4): `oc`, `oc-algo`, `oc-validity`, `oc-seq`.
//! They go one hop: a sender asks for feedback in its own Via, and reads it there when the answer
//! comes back. Only the algorithm `loss` is spoken, which every implementation must know.

use core::ops::Range;

use super::grammar::decimal;
use super::params::Params;
use crate::base::Cursor;

/// What a server asks of the one who sends to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// Of a hundred new requests, so many are not to be sent.
    pub percent: u8,
    /// How long that holds; 0 = it asks for nothing any more.
    pub validity_ms: u32,
    pub seq: Seq,
}

/// Orders feedback: a time stamp, whole seconds and hundred-thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq {
    pub seconds: u64,
    pub fraction: u32,
}

/// Where the parameters stand, as ranges of the text that they were looked for in.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    ranges: [Range<usize>; Places::MAX],
    count: usize,
}

/// What the answer's top Via says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing: the server does not speak of its load.
    Nothing,
    /// Something that is no feedback.
    Garbage,
    Feedback(Feedback),
}

/// How long feedback holds that does not say.
//= rfc7339#4.3
const VALIDITY_DEFAULT_MS: u32 = 500;
/// Nobody can mean more; it keeps a slip of the pen from stopping traffic for days.
const VALIDITY_MAX_MS: u32 = 3_600_000;

/// What our own Via asks with.
//= rfc7339#4.1
//= rfc7339#4.2
pub const ASK: &[u8] = b";oc;oc-algo=\"loss\"";

impl Places {
    /// Each parameter once, and a few that a sender without manners wrote twice.
    const MAX: usize = 8;

    /// Looks through the parameters of a Via; `None` when it does not ask for feedback, or not for
    /// an algorithm that we know.
    pub(super) fn find(params: &[u8]) -> Option<Places> {
        if !may_be_in(params) {
            return None;
        }
        let mut places = Places::default();
        let (mut asks, mut algorithm) = (false, None);
        for param in Params::new(params).map_while(Result::ok) {
            let is = |name: &[u8]| param.name.eq_ignore_ascii_case(name);
            let is_oc = is(b"oc");
            let is_algorithm = is(b"oc-algo");
            if !is_oc && !is_algorithm && !is(b"oc-validity") && !is(b"oc-seq") {
                continue;
            }
            asks |= is_oc;
            if is_algorithm {
                algorithm = param.value;
            }
            if let Some(place) = places.ranges.get_mut(places.count) {
                *place = param.range;
                places.count += 1;
            }
        }
        (asks && algorithm.is_none_or(names_loss)).then_some(places)
    }

    /// The ranges, in order.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.ranges[..self.count].iter().cloned()
    }
}

/// Whether the sender of a request wants to hear how loaded we are, by the parameters of its Via.
//= rfc7339#5.1
pub fn asks(params: &[u8]) -> bool {
    Places::find(params).is_some()
}

impl Feedback {
    /// Writes the parameters.
    //= rfc7339#5.2
    pub fn put(&self, out: &mut Cursor<'_>) {
        out.put(b";oc=");
        out.put_decimal(self.percent.into());
        out.put(b";oc-algo=\"loss\";oc-validity=");
        out.put_decimal(self.validity_ms.into());
        out.put(b";oc-seq=");
        out.put_decimal(self.seq.seconds);
        out.put(b".");
        let fraction = self.seq.fraction % 100_000;
        for unit in [10_000, 1_000, 100, 10, 1] {
            out.put(&[b'0' + (fraction / unit % 10) as u8]);
        }
    }
}

impl Heard {
    /// Reads the parameters of our own Via as an answer brought it back.
    //= rfc7339#5.4
    pub fn read(params: &[u8]) -> Heard {
        let mut percent = None;
        let mut validity_ms = Some(VALIDITY_DEFAULT_MS);
        let mut seq = None;
        let mut algorithm = None;
        for param in Params::new(params).map_while(Result::ok) {
            let is = |name: &[u8]| param.name.eq_ignore_ascii_case(name);
            if is(b"oc") {
                percent = param.value;
            } else if is(b"oc-algo") {
                algorithm = param.value;
            } else if is(b"oc-validity") {
                validity_ms = param.value.and_then(decimal).map(|ms| {
                    u32::try_from(ms).map_or(VALIDITY_MAX_MS, |ms| ms.min(VALIDITY_MAX_MS))
                });
            } else if is(b"oc-seq") {
                seq = Some(param.value.and_then(Seq::read));
            }
        }
        // A server that does not know the parameter gives it back as it was.
        let Some(percent) = percent else {
            return Heard::Nothing;
        };
        let percent = decimal(percent).and_then(|percent| u8::try_from(percent).ok());
        let percent = percent.filter(|percent| *percent <= 100);
        match (percent, validity_ms, seq.flatten()) {
            (Some(percent), Some(validity_ms), Some(seq)) if algorithm.is_none_or(names_loss) => {
                Heard::Feedback(Feedback {
                    percent,
                    validity_ms,
                    seq,
                })
            }
            _ => Heard::Garbage,
        }
    }
}

impl Seq {
    /// Reads `1282321615.782`: at most twelve digits and five.
    //= rfc7339#4.4
    fn read(text: &[u8]) -> Option<Seq> {
        let point = memchr::memchr(b'.', text)?;
        let (seconds, fraction) = (&text[..point], &text[point + 1..]);
        if seconds.len() > 12 || fraction.is_empty() || fraction.len() > 5 {
            return None;
        }
        let scale = 10_u64.pow(5 - fraction.len() as u32);
        Some(Seq {
            seconds: decimal(seconds)?,
            fraction: u32::try_from(decimal(fraction)? * scale).ok()?,
        })
    }
}

/// Whether the parameters may stand in a text. Most Vias have none: one look spares reading them.
pub(super) fn may_be_in(text: &[u8]) -> bool {
    memchr::memchr2_iter(b'o', b'O', text).any(|at| {
        text.get(at + 1)
            .is_some_and(|next| next.eq_ignore_ascii_case(&b'c'))
    })
}

/// Whether a list of algorithms, in quotes, has the one that we know.
fn names_loss(list: &[u8]) -> bool {
    let bare = list.strip_prefix(b"\"").unwrap_or(list);
    let bare = bare.strip_suffix(b"\"").unwrap_or(bare);
    bare.split(|octet| *octet == b',')
        .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"loss"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(params: &str) -> Heard {
        Heard::read(params.as_bytes())
    }

    #[test]
    fn feedback_is_written_and_read_alike() {
        let feedback = Feedback {
            percent: 42,
            validity_ms: 500,
            seq: Seq {
                seconds: 1_282_321_615,
                fraction: 78_200,
            },
        };
        let mut buffer = [0u8; 128];
        let mut out = Cursor::new(&mut buffer);
        feedback.put(&mut out);
        let text = core::str::from_utf8(out.written()).expect("text");
        assert_eq!(
            text,
            ";oc=42;oc-algo=\"loss\";oc-validity=500;oc-seq=1282321615.78200"
        );
        assert_eq!(heard(text), Heard::Feedback(feedback));
        let short = heard(";oc=42;oc-algo=loss;oc-seq=1282321615.782");
        assert_eq!(short, Heard::Feedback(feedback));
    }

    #[test]
    fn what_is_no_feedback_is_told_from_none() {
        for silent in ["", ";branch=z9hG4bKoc", ";oc;oc-algo=\"loss\"", ";rport"] {
            assert_eq!(heard(silent), Heard::Nothing, "{silent}");
        }
        for garbage in [
            ";oc=101;oc-seq=1.0",
            ";oc=-1;oc-seq=1.0",
            ";oc=256;oc-seq=1.0",
            ";oc=99999999999999999999;oc-seq=1.0",
            ";oc=;oc-seq=1.0",
            ";oc=20",
            ";oc=20;oc-seq=1",
            ";oc=20;oc-seq=1.",
            ";oc=20;oc-seq=.1",
            ";oc=20;oc-seq=1234567890123.1",
            ";oc=20;oc-seq=1.123456",
            ";oc=20;oc-seq=a.b",
            ";oc=20;oc-seq=1.0;oc-validity=soon",
            ";oc=20;oc-seq=1.0;oc-algo=\"rate\"",
        ] {
            assert_eq!(heard(garbage), Heard::Garbage, "{garbage}");
        }
    }

    #[test]
    fn a_validity_of_days_is_cut() {
        let Heard::Feedback(feedback) = heard(";oc=1;oc-seq=1.0;oc-validity=99999999999") else {
            panic!("it is feedback");
        };
        assert_eq!(feedback.validity_ms, VALIDITY_MAX_MS);
    }

    #[test]
    fn who_asks_is_seen_by_the_parameter_and_the_algorithm() {
        for asking in [
            ";branch=z;oc",
            ";oc;oc-algo=\"loss\"",
            "; OC ; oc-algo=\"rate,LOSS\"",
            ";oc=;x=1",
        ] {
            assert!(asks(asking.as_bytes()), "{asking}");
        }
        for other in [
            "",
            ";branch=z9hG4bKoc",
            ";oc-algo=\"loss\"",
            ";oc;oc-algo=\"rate\"",
        ] {
            assert!(!asks(other.as_bytes()), "{other}");
        }
        let many = ";oc".repeat(1_000);
        assert_eq!(
            Places::find(many.as_bytes())
                .expect("it asks")
                .ranges()
                .count(),
            8
        );
    }
}
