//! A line that repeats is written once a second, with the number of those that were held back.
//!
//! Lines are the same when they come from one place with one message; their fields may differ. The
//! table is bounded: with more than [`REASONS_MAX`] reasons in a second, the oldest is forgotten and
//! its count told.

use core::time::Duration;
use std::collections::VecDeque;

use super::line::Parts;
use crate::base::Instant;

/// How long a line is held back after the same one was written.
const QUIET: Duration = Duration::from_secs(1);
/// Reasons that are remembered at the same time.
pub const REASONS_MAX: usize = 256;

/// What becomes of a line.
pub enum Verdict {
    Write,
    /// Write this one about others before it.
    WriteAfter(Parts),
    Hold,
}

/// The lines of the last second, the oldest first.
#[derive(Default)]
pub struct Flood(VecDeque<Reason>);

struct Reason {
    /// The last line that was held back, or the one that was written.
    last: Parts,
    written: Instant,
    held: u64,
}

impl Flood {
    /// Decides about a line.
    pub fn judge(&mut self, now: Instant, parts: &Parts) -> Verdict {
        if let Some(at) = self
            .0
            .iter()
            .position(|reason| reason.last.is_same_reason(parts))
        {
            let reason = &mut self.0[at];
            if now.since(reason.written) < QUIET {
                reason.held += 1;
                reason.last = parts.clone();
                return Verdict::Hold;
            }
            let held = self.0.remove(at).and_then(Reason::told);
            self.remember(now, parts);
            return held.map_or(Verdict::Write, Verdict::WriteAfter);
        }
        let evicted = match self.0.len() >= REASONS_MAX {
            true => self.0.pop_front().and_then(Reason::told),
            false => None,
        };
        self.remember(now, parts);
        evicted.map_or(Verdict::Write, Verdict::WriteAfter)
    }

    /// The counts whose second is over.
    pub fn due(&mut self, now: Instant) -> Vec<Parts> {
        let is_over = |reason: &Reason| now.since(reason.written) >= QUIET;
        let over: Vec<Reason> = {
            let (over, left) = std::mem::take(&mut self.0).into_iter().partition(is_over);
            self.0 = left;
            Vec::from(over as VecDeque<Reason>)
        };
        over.into_iter().filter_map(Reason::told).collect()
    }

    fn remember(&mut self, now: Instant, parts: &Parts) {
        self.0.push_back(Reason {
            last: parts.clone(),
            written: now,
            held: 0,
        });
    }
}

impl Reason {
    /// The last line held back, with the number of all; `None` where none was.
    fn told(self) -> Option<Parts> {
        (self.held > 0).then(|| self.last.repeated(self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Look;
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn text(parts: &Parts) -> String {
        parts.text(Look::Journal)
    }

    #[test]
    fn a_flood_is_one_line_a_second_with_a_count() {
        let mut flood = Flood::default();
        let line = Parts::sample("the inbox is full");
        assert!(matches!(flood.judge(at(0), &line), Verdict::Write));
        for ms in 1..1000 {
            assert!(matches!(flood.judge(at(ms), &line), Verdict::Hold));
        }
        let Verdict::WriteAfter(held) = flood.judge(at(1000), &line) else {
            panic!("the second is over");
        };
        assert!(text(&held).contains("the inbox is full"), "{}", text(&held));
        assert!(text(&held).contains("repeated=999"), "{}", text(&held));
    }

    #[test]
    fn a_count_is_told_when_nothing_more_comes() {
        let mut flood = Flood::default();
        let line = Parts::sample("full");
        flood.judge(at(0), &line);
        flood.judge(at(10), &line);
        assert!(flood.due(at(999)).is_empty());
        let told = flood.due(at(1000));
        assert_eq!(told.len(), 1);
        assert!(text(&told[0]).contains("repeated=1"));
        assert!(flood.due(at(5000)).is_empty(), "once");
    }

    #[test]
    fn other_messages_are_not_held_back() {
        let mut flood = Flood::default();
        for trunk in 0..10 {
            let line = Parts::sample(&format!("trunk {trunk} added"));
            assert!(matches!(flood.judge(at(0), &line), Verdict::Write));
        }
    }

    #[test]
    fn more_reasons_than_are_remembered_lose_no_count() {
        let mut flood = Flood::default();
        let first = Parts::sample("first");
        flood.judge(at(0), &first);
        flood.judge(at(0), &first);
        for reason in 0..REASONS_MAX {
            let line = Parts::sample(&format!("reason {reason}"));
            if let Verdict::WriteAfter(held) = flood.judge(at(1), &line) {
                assert!(text(&held).contains("first") && text(&held).contains("repeated=1"));
                return;
            }
        }
        panic!("the oldest was not told");
    }
}
