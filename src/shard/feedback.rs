//! RFC 7339 in both roles: what we tell those who ask how loaded we are, and what those tell us
//! whom we send calls to.

use super::Shard;
use crate::base::Instant;
use crate::dialog::store::Wall;
use crate::metrics::{Counter, TrunkCounter};
use crate::sip::oc::{Feedback, Heard, Seq};
use crate::sip::{HeaderId, Message};

/// What a trunk asked of us last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    percent: u8,
    until: Instant,
    seq: Seq,
}

/// How long our own word holds: a hundred intervals of the controller at its default target, and
/// what RFC 7339 takes where nothing is said.
const VALIDITY_MS: u32 = 500;

impl Shard {
    /// Says what the wall clock shows, from which the order of feedback is made: it has to go on
    /// across a restart.
    pub fn tell_wall(&mut self, wall: Wall) {
        self.wall = wall;
    }

    /// What we tell those who ask.
    //= rfc7339#5.3
    pub(super) fn feedback(&self) -> Feedback {
        let shed = self.overload.shown().shed;
        let seq_us = self
            .wall
            .start_us
            .saturating_add(self.journal.time().as_micros());
        Feedback {
            // Rounded up: a hundredth too much for the next half second, not too little.
            percent: (shed * 100.0).ceil().clamp(0.0, 100.0) as u8,
            validity_ms: if shed > 0.0 { VALIDITY_MS } else { 0 },
            seq: Seq {
                seconds: seq_us / 1_000_000 % 1_000_000_000_000,
                fraction: (seq_us % 1_000_000 / 10) as u32,
            },
        }
    }

    /// Whether a trunk is asked how loaded it is.
    pub(super) fn asks_load(&self, slot: u16) -> bool {
        self.trunk_at(slot).is_some_and(|trunk| trunk.oc)
    }

    /// Reads what a trunk's answer says about its load.
    //= rfc7339#5.4
    pub(super) fn hear_feedback(&mut self, now: Instant, slot: u16, answer: &Message<'_>) {
        if !self.asks_load(slot) {
            return;
        }
        let top = answer.values(HeaderId::Via).next();
        let Some(via) = top.and_then(|value| answer.via(&value).ok()) else {
            return;
        };
        let feedback = match Heard::read(via.params) {
            Heard::Nothing => return,
            Heard::Garbage => return self.metrics.count(Counter::FeedbackGarbage),
            Heard::Feedback(feedback) => feedback,
        };
        let Some(asked) = self.asked.get_mut(usize::from(slot)) else {
            return;
        };
        // Answers overtake each other. What is over binds nobody, also not to its order: a server
        // whose clock was set back is heard again after that.
        if now < asked.until && feedback.seq <= asked.seq {
            return;
        }
        let span = core::time::Duration::from_millis(feedback.validity_ms.into());
        *asked = Asked {
            percent: feedback.percent,
            until: now + span,
            seq: feedback.seq,
        };
    }

    /// Whether a new call is not sent to a trunk because it asked for less.
    //= rfc7339#5.5
    pub(super) fn is_held_back(&mut self, now: Instant, slot: u16) -> bool {
        let Some(asked) = self.asked.get(usize::from(slot)) else {
            return false;
        };
        if asked.percent == 0 || now >= asked.until {
            return false;
        }
        let is_held_back = self.random.below(100) < u64::from(asked.percent);
        if is_held_back {
            self.metrics.count_trunk(slot, TrunkCounter::HeldBack);
        }
        is_held_back
    }
}
