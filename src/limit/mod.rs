//! How many calls a trunk or group may have: counters that all shards share.
//!
//! A call is admitted in all its slots or in none: each slot is checked and taken in one atomic
//! step, and what was taken is given back when a later slot refuses. Rates are taken last, since a
//! call that a full trunk refuses has not used up its second. Codes and causes for the answer are
//! the shard's business.

mod book;
mod lease;
mod rate;
mod slot;

pub use book::{KeptLease, LeaseBook};
pub use lease::Lease;
pub use rate::Cps;

use crate::base::Instant;
use rate::Token;
use slot::Slot;

/// Place of a trunk or group in the counters: one per name, the same over reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u16);

/// Which way a call goes, seen from the trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The trunk sent the INVITE.
    In,
    /// The INVITE goes to the trunk.
    Out,
}

/// What a slot allows; `None` = as many as there are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Maxima {
    /// Calls of both directions together.
    pub calls_max: Option<u32>,
    pub calls_in_max: Option<u32>,
    pub calls_out_max: Option<u32>,
    pub cps: Option<Cps>,
}

/// Calls at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub in_calls: u32,
    pub out_calls: u32,
}

impl Used {
    /// Calls of both directions.
    pub fn total(self) -> u64 {
        u64::from(self.in_calls) + u64::from(self.out_calls)
    }
}

/// Which slot refused a call, and by which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub slot: SlotId,
    pub why: Why,
}

/// The limit that refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    CallsMax,
    CallsInMax,
    CallsOutMax,
    /// Too many new calls; at least 1 s.
    Cps {
        retry_after_s: u32,
    },
}

/// Limits of one slot with their values at one moment; `None` = not limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Calls of the direction, and how many it may have.
    pub own: u32,
    pub own_max: Option<u32>,
    /// Calls of both directions.
    pub calls: u32,
    pub calls_max: Option<u32>,
    /// New calls that the rate allows at once, and at most.
    pub rate: Option<(u32, u32)>,
}

/// All counters of the node, shared by its shards.
#[derive(Debug)]
pub struct Limits {
    slots: Box<[Slot]>,
}

impl Limits {
    /// Counters for `slots_max` trunks and groups, all at zero and without limits.
    pub fn new(slots_max: usize) -> Limits {
        Limits {
            slots: (0..slots_max).map(|_| Slot::new()).collect(),
        }
    }

    /// Sets what a slot allows, at start and at a reload. Calls above a lowered maximum go on.
    pub fn set(&self, slot: SlotId, maxima: &Maxima) {
        self.slot(slot).set(maxima);
    }

    /// Counts a new call in each of `slots` (at most [`Lease::SLOTS_MAX`], each once), or in none.
    pub fn admit(
        &self,
        direction: Direction,
        slots: &[SlotId],
        now: Instant,
    ) -> Result<Lease, Refused> {
        assert!(slots.len() <= Lease::SLOTS_MAX, "a trunk has few groups");
        self.take_calls(direction, slots)?;
        self.take_rates(slots, now).inspect_err(|_| {
            self.give_back_calls(direction, slots);
        })?;
        for &slot in slots {
            self.slot(slot).note_peak();
        }
        Ok(Lease::new(direction, slots))
    }

    /// Counts a call that was live before a restart, whatever the maxima say: it cannot be undone.
    pub fn restore(&self, direction: Direction, slots: &[SlotId]) -> Lease {
        assert!(slots.len() <= Lease::SLOTS_MAX, "a trunk has few groups");
        for &slot in slots {
            self.slot(slot).take_regardless(direction);
            self.slot(slot).note_peak();
        }
        Lease::new(direction, slots)
    }

    /// Ends the call of `lease`.
    pub fn give_back(&self, lease: Lease) {
        self.give_back_calls(lease.direction(), lease.slots());
        core::mem::forget(lease); // its drop counts the lost ones
    }

    /// Calls in a slot at this moment.
    pub fn used(&self, slot: SlotId) -> Used {
        self.slot(slot).used()
    }

    /// What a slot allows and what it has left at `now`, for whoever must be told; `None` = it has no
    /// limit that a call of this direction could meet.
    pub fn look(&self, slot: SlotId, direction: Direction, now: Instant) -> Option<Look> {
        self.slot(slot).look(direction, now)
    }

    /// The largest number of calls that a slot ever had at once.
    pub fn peak(&self, slot: SlotId) -> u32 {
        self.slot(slot).peak()
    }

    /// The sum over all slots and directions: equals the slots held by all leases when nothing moves.
    pub fn total_used(&self) -> u64 {
        self.slots.iter().map(|slot| slot.used().total()).sum()
    }

    /// How many slots there are.
    pub fn slots_max(&self) -> usize {
        self.slots.len()
    }

    fn take_calls(&self, direction: Direction, slots: &[SlotId]) -> Result<(), Refused> {
        for (taken, &slot) in slots.iter().enumerate() {
            if let Err(why) = self.slot(slot).take(direction) {
                self.give_back_calls(direction, &slots[..taken]);
                return Err(Refused { slot, why });
            }
        }
        Ok(())
    }

    fn take_rates(&self, slots: &[SlotId], now: Instant) -> Result<(), Refused> {
        let mut tokens = [None::<Token>; Lease::SLOTS_MAX];
        for (taken, &slot) in slots.iter().enumerate() {
            match self.slot(slot).rate.take(now) {
                Ok(token) => tokens[taken] = Some(token),
                Err(retry_after_s) => {
                    self.refund(slots, &tokens);
                    let why = Why::Cps { retry_after_s };
                    return Err(Refused { slot, why });
                }
            }
        }
        Ok(())
    }

    fn refund(&self, slots: &[SlotId], tokens: &[Option<Token>]) {
        for (&slot, token) in slots.iter().zip(tokens.iter().flatten()) {
            self.slot(slot).rate.refund(*token);
        }
    }

    fn give_back_calls(&self, direction: Direction, slots: &[SlotId]) {
        for &slot in slots {
            self.slot(slot).give_back(direction);
        }
    }

    /// Slots come from the checked configuration, which numbers them below `slots_max`.
    fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[usize::from(id.0)]
    }
}
