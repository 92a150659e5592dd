//! Why a call went the way it went: the last decisions of a shard, oldest overwritten first.
//!
//! A note is a few words of plain data; it becomes text only when an operator asks. The ring is
//! taken at start, so that noting costs one store and the path of a call allocates nothing.

use core::net::SocketAddr;

use super::Shard;
use super::mail::WhyRow;
use super::refusal::Refusal;
use super::relay::Destination;
use crate::base::{Fresh, Instant};
use crate::cdr::AttemptEnd;
use crate::dialog::{CallKey, Side};
use crate::limit::{Direction, Look, Refused, SlotId, Why};
use crate::metrics::Counter;
use crate::route::health::State;
use crate::route::sources::Rule;
use crate::sip::Message;

/// One decision taken for a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// An INVITE came in and its source was matched to a trunk.
    Came {
        from: SocketAddr,
        trunk: u16,
        rule: Rule,
    },
    /// An INVITE came from an address that belongs to no trunk.
    Stranger { from: SocketAddr },
    /// A line of the route table decided.
    Line { line: u32, to: Destination },
    /// A trunk or group was asked for a place, and had these values then: with the call, where it
    /// was taken, else without.
    Limit {
        slot: u16,
        direction: Direction,
        look: Look,
        refused: Option<Why>,
    },
    /// The caller's side of the limits was taken.
    Admitted { trunk: u16 },
    /// The policy of a group named the next candidate.
    Chosen { group: u16, trunk: u16 },
    /// A candidate was not tried.
    PassedOver { trunk: u16, why: Obstacle },
    /// The INVITE was sent to a candidate.
    Sent {
        trunk: u16,
        to: SocketAddr,
        state: State,
    },
    /// The candidate answered.
    Answer { status: u16 },
    /// The attempt failed; the next candidate is looked for.
    Failed { why: AttemptEnd },
    /// The caller was told so by us.
    Refused {
        status: u16,
        q850: Option<u8>,
        counter: Counter,
    },
    /// The caller gave up.
    Cancelled,
    /// One side sent BYE.
    HungUp { side: Side },
    /// The call is over and its leases are given back.
    Ended { why: &'static str },
}

/// Why a candidate was not tried.
#[derive(Clone, Copy, Debug)]
pub(super) enum Obstacle {
    /// The state of the trunk takes no calls.
    State(State),
    /// It is up, and each of its addresses is down.
    AddressesDown,
    Codec,
    CallsLimit,
    Rate,
    /// RFC 7339.
    AsksForLess,
}

#[derive(Clone, Copy, Debug)]
struct Note {
    call_id: u64,
    at: Instant,
    step: Step,
}

/// The ring of notes.
#[derive(Debug)]
pub(super) struct Journal {
    notes: Vec<Note>,
    notes_max: usize,
    next: usize,
    now: Instant,
}

impl Journal {
    /// Room for `notes_max` notes; a plain call leaves about ten.
    pub fn new(notes_max: usize) -> Journal {
        Journal {
            notes: Vec::with_capacity(notes_max),
            notes_max,
            next: 0,
            now: Instant::START,
        }
    }

    /// Memory that no note was ever in.
    pub fn fresh(&self) -> Fresh {
        Fresh::of_vec(&self.notes)
    }

    /// What time it is.
    pub fn time(&self) -> Instant {
        self.now
    }

    /// Room for the decisions of so many calls.
    pub fn of_calls(calls: usize) -> Journal {
        Journal::new(calls * NOTES_EACH)
    }

    /// Says what time it is for the notes that follow.
    pub fn set_time(&mut self, now: Instant) {
        self.now = now;
    }

    /// What time it is.
    pub fn now(&self) -> Instant {
        self.now
    }

    fn add(&mut self, call_id: u64, step: Step) {
        let note = Note {
            call_id,
            at: self.now,
            step,
        };
        if self.notes.len() < self.notes_max {
            self.notes.push(note);
        } else if let Some(oldest) = self.notes.get_mut(self.next) {
            *oldest = note;
            self.next = (self.next + 1) % self.notes_max;
        }
    }

    fn of_call(&self, call_id: u64) -> impl Iterator<Item = &Note> {
        let (newer, older) = self.notes.split_at(self.next.min(self.notes.len()));
        older
            .iter()
            .chain(newer)
            .filter(move |note| note.call_id == call_id)
    }
}

impl Shard {
    /// Notes a decision about the call of a message.
    pub(super) fn note(&mut self, message: &Message<'_>, step: Step) {
        let call_id = message.call_id_hash(&self.secret);
        self.journal.add(call_id, step);
    }

    /// Notes a decision about a live call.
    pub(super) fn note_call(&mut self, key: CallKey, step: Step) {
        if let Some(call) = self.calls.call(key) {
            self.journal.add(call.call_id(), step);
        }
    }

    /// Notes an answer of our own.
    pub(super) fn note_refusal(&mut self, message: &Message<'_>, refusal: Refusal) {
        let Refusal {
            status,
            q850,
            counter,
            ..
        } = refusal;
        self.note(
            message,
            Step::Refused {
                status,
                q850,
                counter,
            },
        );
    }

    /// Notes the limits of all slots that a call asked for, with their values.
    pub(super) fn note_limits(
        &mut self,
        now: Instant,
        call_id: u64,
        direction: Direction,
        slots: &[SlotId],
        refused: Option<Refused>,
    ) {
        for &slot in slots {
            let Some(look) = self.shared.limits.look(slot, direction, now) else {
                continue;
            };
            let is_it = refused.filter(|refused| refused.slot == slot);
            let step = Step::Limit {
                slot: slot.0,
                direction,
                look,
                refused: is_it.map(|refused| refused.why),
            };
            self.journal.add(call_id, step);
            if is_it.is_some() {
                // Those behind it were not asked.
                return;
            }
        }
    }

    /// Remembers the decisions of so many calls, in place of the usual number.
    pub fn keep_decisions(&mut self, calls: usize) {
        self.journal = Journal::of_calls(calls);
    }

    /// Octets that the decisions of one call take, for the memory budget.
    pub const fn octets_of_decisions() -> usize {
        NOTES_EACH * size_of::<Note>()
    }

    /// Every decision still remembered for a Call-ID, oldest first.
    pub(super) fn why(&self, now: Instant, call_id: &[u8]) -> Vec<WhyRow> {
        let notes = self.journal.of_call(self.secret.hash(call_id));
        notes
            .map(|note| WhyRow {
                age: now.since(note.at),
                ..self.tell(note.step)
            })
            .collect()
    }
}

/// Notes of one plain call with a limit on each side.
const NOTES_EACH: usize = 12;

/// Calls whose decisions a shard remembers.
pub const DECISIONS_MAX: usize = 8_000;

/// The reason by which a refusal is counted: what stands in the label of its metric.
pub(super) fn reason_of(counter: Counter) -> &'static str {
    let (_, labels, _) = Counter::ROWS[counter as usize];
    labels.split('"').nth(1).unwrap_or(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_notes_in_order() {
        let mut journal = Journal::new(3);
        for status in [100, 180, 200, 486] {
            journal.add(7, Step::Answer { status });
        }
        journal.add(8, Step::Cancelled);
        let statuses: Vec<u16> = journal
            .of_call(7)
            .filter_map(|note| match note.step {
                Step::Answer { status } => Some(status),
                _ => None,
            })
            .collect();
        assert_eq!(statuses, [200, 486]);
    }

    #[test]
    fn a_refusal_is_told_by_the_label_of_its_metric() {
        assert_eq!(reason_of(Counter::RefusedLimitIn), "limit_in");
    }
}
