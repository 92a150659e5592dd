//! What the live calls hold of the limits, counted from their leases; and calls that may be over.

use core::time::Duration;

use super::Shard;
use super::mail::{Recount, Suspect};
use crate::base::Instant;
use crate::dialog::{Call, CallKey};
use crate::limit::{Direction, KeptLease, SlotId};
use crate::route::health::State;

/// Suspects that one shard names: an operator looks at the first few.
const SUSPECTS_MAX: usize = 100;
/// An alarm rings within a batch; one that is so late was lost.
const LATE: Duration = Duration::from_secs(5);
/// Few calls are so long, and nothing would end this one.
const LONG: Duration = Duration::from_secs(12 * 3600);

impl Shard {
    /// Counts the leases of all live calls.
    pub(super) fn recount(&self, now: Instant) -> Recount {
        let mut recount = Recount {
            calls: self.calls.len(),
            ..Recount::default()
        };
        let mut from = 0;
        while let Some(key) = self.calls.next_from(from) {
            from = key.0.index + 1;
            let Some(call) = self.calls.call(key) else {
                continue;
            };
            for kept in [&call.lease_in, &call.lease_out].into_iter().flatten() {
                let (direction, slots) = self.leases.look(kept);
                hold(&mut recount.held, direction, slots);
            }
            recount.suspects.extend(
                self.suspicion(now, call)
                    .filter(|_| recount.suspects.len() < SUSPECTS_MAX)
                    .and_then(|why| self.suspect(now, key, why)),
            );
        }
        recount
    }

    fn suspect(&self, now: Instant, key: CallKey, why: &'static str) -> Option<Suspect> {
        let row = self.call_row(now, key)?;
        Some(Suspect { why, row })
    }

    /// Why a call may be over.
    fn suspicion(&self, now: Instant, call: &Call<KeptLease>) -> Option<&'static str> {
        let answered = call.answered?;
        let is_late = |due: Option<Instant>| due.is_some_and(|due| now.since(due) > LATE);
        let is_down = |slot: u16| {
            self.trunk_at(slot)
                .is_some_and(|trunk| self.shared.board.state(trunk.slot) == State::Down)
        };
        let talked = now.since(answered);
        let is_watched = call.session_due().is_some() || call.call_time_due().is_some();
        if is_late(call.session_due()) {
            Some("past its session timer")
        } else if is_late(call.call_time_due()) {
            Some("past call_time_max")
        } else if is_down(call.trunk_in) || call.trunk_out().is_some_and(is_down) {
            Some("its peer is down")
        } else if talked > LONG && !is_watched {
            Some("up for 12 hours without a session timer")
        } else {
            None
        }
    }
}

/// Adds a lease to what its slots hold; few slots, sorted.
fn hold(held: &mut Vec<(SlotId, u32, u32)>, direction: Direction, slots: &[SlotId]) {
    for slot in slots {
        let at = held.partition_point(|(other, ..)| other < slot);
        if held.get(at).is_none_or(|(other, ..)| other != slot) {
            held.insert(at, (*slot, 0, 0));
        }
        match direction {
            Direction::In => held[at].1 += 1,
            Direction::Out => held[at].2 += 1,
        }
    }
}
