//! The messages of the last calls, in short: the ladder of `why`. A ring like that of the decisions
//! (`journal`), always on: some words per message, taken at start, oldest overwritten first.

use core::net::SocketAddr;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::Shard;
use super::mail::MessageRow;
use crate::base::{Fresh, Instant};
use crate::capture::{Direction, glance};
use crate::net::Flow;
use crate::sip::status::phrase;
use crate::sip::{Field, HeaderId, Message, Method};

/// What a start line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Request(Method),
    Status(u16),
}

/// One message in short.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    call_id: u64,
    at: Instant,
    remote: SocketAddr,
    listener: u16,
    octets: u32,
    cseq: u32,
    method: Method,
    start: Start,
    direction: Direction,
    has_body: bool,
}

impl Summary {
    /// A message that came in.
    pub(super) fn received(
        now: Instant,
        from: Flow,
        call_id: u64,
        message: &Message<'_>,
    ) -> Summary {
        let cseq = message.cseq().ok();
        Summary {
            call_id,
            at: now,
            remote: from.remote,
            listener: from.listener.0,
            octets: message.bytes().len() as u32,
            cseq: cseq.as_ref().map_or(0, |cseq| cseq.number),
            method: cseq.map_or(Method::Other, |cseq| cseq.method),
            start: match message.status() {
                0 => Start::Request(message.method()),
                status => Start::Status(status),
            },
            direction: Direction::Received,
            has_body: !message.body().is_empty(),
        }
    }

    /// A message that goes out: ours, or spliced from one that was parsed. `cause` is the message
    /// that came in and led to it, with its summary.
    pub(super) fn sent(
        now: Instant,
        to: Flow,
        call_id: u64,
        bytes: &[u8],
        cause: Option<(&Message<'_>, &Summary)>,
    ) -> Summary {
        let passed_on = cause.filter(|(cause, _)| has_cseq_of(bytes, cause));
        let (cseq, method) =
            passed_on.map_or_else(|| cseq_of(bytes), |(_, cause)| (cause.cseq, cause.method));
        Summary {
            call_id,
            at: now,
            remote: to.remote,
            listener: to.listener.0,
            octets: bytes.len() as u32,
            cseq,
            method,
            start: start_of(bytes),
            direction: Direction::Sent,
            has_body: !bytes.ends_with(b"\r\n\r\n"),
        }
    }
}

fn start_of(bytes: &[u8]) -> Start {
    if let Some(rest) = bytes.strip_prefix(b"SIP/2.0 ") {
        let digits = rest
            .iter()
            .take(3)
            .take_while(|octet| octet.is_ascii_digit());
        return Start::Status(
            digits.fold(0, |number, digit| number * 10 + u16::from(digit - b'0')),
        );
    }
    let end = memchr::memchr(b' ', &bytes[..bytes.len().min(32)]).unwrap_or(0);
    Start::Request(Method::parse(&bytes[..end]))
}

/// Whether the CSeq of the message that led to this one stands here as it stood there, with all that
/// was changed in front of it, as it is where that message is passed on.
fn has_cseq_of(bytes: &[u8], cause: &Message<'_>) -> bool {
    let Some(line) = cause.field(HeaderId::CSeq).map(Field::line) else {
        return false;
    };
    // With the line end in front, so that it is a line here too.
    let from = line.start.saturating_sub(1);
    let text = cause.bytes().get(from..line.end).unwrap_or_default();
    let at = (from + bytes.len()).checked_sub(cause.bytes().len());
    let here = at.and_then(|at| bytes.get(at..at + text.len()));
    here == Some(text)
}

/// Number and method of the CSeq; spelled as usual it is found by one search.
fn cseq_of(bytes: &[u8]) -> (u32, Method) {
    // Made once: a finder costs more than its search here.
    static USUAL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\nCSeq: "));
    let value = match USUAL.find(bytes) {
        Some(at) => &bytes[at + USUAL.needle().len()..],
        None => glance(bytes).cseq,
    };
    let digits = value
        .iter()
        .take(10)
        .take_while(|octet| octet.is_ascii_digit());
    let len = digits.clone().count();
    let number = digits.fold(0_u32, |number, digit| {
        number
            .wrapping_mul(10)
            .wrapping_add(u32::from(digit - b'0'))
    });
    let rest = value[len..].trim_ascii_start();
    let is_token = |octet: &&u8| !octet.is_ascii_whitespace();
    let word = rest.iter().take(32).take_while(is_token).count();
    (number, Method::parse(&rest[..word]))
}

/// The ring.
#[derive(Debug)]
pub(super) struct Messages {
    kept: Vec<Summary>,
    kept_max: usize,
    next: usize,
}

impl Messages {
    /// Room for so many messages; a plain call has fourteen. 0 keeps none.
    pub(super) fn new(kept_max: usize) -> Messages {
        Messages {
            kept: Vec::with_capacity(kept_max),
            kept_max,
            next: 0,
        }
    }

    /// Memory that no message was ever in.
    pub(super) fn fresh(&self) -> Fresh {
        Fresh::of_vec(&self.kept)
    }

    /// Whether any message is kept.
    pub(super) fn are_kept(&self) -> bool {
        self.kept_max > 0
    }

    /// Keeps a message in place of the oldest.
    pub(super) fn add(&mut self, message: Summary) {
        if self.kept.len() < self.kept_max {
            self.kept.push(message);
        } else if let Some(oldest) = self.kept.get_mut(self.next) {
            *oldest = message;
            self.next = (self.next + 1) % self.kept_max;
        }
    }

    fn of_call(&self, call_id: u64) -> impl Iterator<Item = &Summary> {
        let (newer, older) = self.kept.split_at(self.next.min(self.kept.len()));
        older
            .iter()
            .chain(newer)
            .filter(move |message| message.call_id == call_id)
    }
}

impl Shard {
    /// Keeps the summaries of so many messages from here on; those kept before are forgotten.
    pub fn keep_messages(&mut self, count: usize) {
        self.messages = Messages::new(count);
    }

    /// Octets that one kept summary takes, for the memory budget.
    pub const fn octets_of_a_message() -> usize {
        size_of::<Summary>()
    }

    /// The messages still remembered for a Call-ID, oldest first.
    pub(super) fn messages_of(&self, now: Instant, call_id: &[u8]) -> Vec<MessageRow> {
        let messages = self.messages.of_call(self.secret.hash(call_id));
        messages
            .map(|message| MessageRow {
                age: now.since(message.at),
                direction: message.direction,
                listener: message.listener,
                remote: message.remote,
                text: match message.start {
                    Start::Request(method) => method.as_str().to_owned(),
                    Start::Status(status) => format!("{status} {}", phrase(status)),
                },
                cseq: format!("{} {}", message.cseq, message.method.as_str()),
                octets: message.octets,
                has_body: message.has_body,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_fits_into_96_octets() {
        assert!(Shard::octets_of_a_message() <= 96);
    }

    #[test]
    fn start_line_and_cseq_of_what_is_sent_are_read() {
        let of = |text: &str| (start_of(text.as_bytes()), cseq_of(text.as_bytes()));
        assert_eq!(
            of("SIP/2.0 180 Ringing\r\nCSeq: 7 INVITE\r\n\r\n"),
            (Start::Status(180), (7, Method::Invite))
        );
        assert_eq!(
            of("BYE sip:a SIP/2.0\r\ncseq:\r\n 4294967295   BYE\r\n\r\n"),
            (Start::Request(Method::Bye), (u32::MAX, Method::Bye))
        );
        assert_eq!(of(""), (Start::Request(Method::Other), (0, Method::Other)));
        assert_eq!(of("SIP/2.0 "), (Start::Status(0), (0, Method::Other)));
    }

    #[test]
    fn the_cseq_of_what_is_passed_on_is_that_of_what_came() {
        let flow = Flow::udp(
            crate::net::ListenerId(0),
            "192.0.2.1:5060".parse().expect("an address"),
        );
        let text = |via: &str, cseq: &str| {
            format!("INVITE sip:a@b SIP/2.0\r\n{via}From: <sip:a@b>;tag=1\r\nCSeq: {cseq}\r\n\r\n")
        };
        let came = text("Via: SIP/2.0/UDP h\r\n", "17 INVITE");
        let mut scratch = crate::sip::Scratch::new(8);
        let cause = crate::sip::parse(came.as_bytes(), &mut scratch).expect("sound");
        let summary = Summary::received(Instant::START, flow, 7, &cause);
        let more = "Via: SIP/2.0/UDP other;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP h\r\n";
        for (via, cseq, is_passed_on) in [
            (more, "17 INVITE", true),
            ("", "17 INVITE", true),
            (more, "18 INVITE", false),
            (more, "17 ACK", false),
            ("", "117 INVITE", false),
        ] {
            let sent = text(via, cseq);
            assert_eq!(has_cseq_of(sent.as_bytes(), &cause), is_passed_on, "{cseq}");
            let told = Summary::sent(
                Instant::START,
                flow,
                7,
                sent.as_bytes(),
                Some((&cause, &summary)),
            );
            assert_eq!((told.cseq, told.method), cseq_of(sent.as_bytes()));
        }
        assert!(!has_cseq_of(b"", &cause));
    }

    #[test]
    fn the_ring_keeps_the_newest_messages_in_order_and_an_empty_one_keeps_none() {
        let flow = Flow::udp(
            crate::net::ListenerId(0),
            "192.0.2.1:5060".parse().expect("an address"),
        );
        let message = |status: u16| {
            let text = format!("SIP/2.0 {status} X\r\n\r\n");
            Summary::sent(Instant::START, flow, 7, text.as_bytes(), None)
        };
        let mut ring = Messages::new(2);
        for status in [100, 180, 200] {
            ring.add(message(status));
        }
        let kept: Vec<Start> = ring.of_call(7).map(|message| message.start).collect();
        assert_eq!(kept, [Start::Status(180), Start::Status(200)]);
        let mut none = Messages::new(0);
        none.add(message(100));
        assert_eq!(none.of_call(7).count(), 0);
    }
}
