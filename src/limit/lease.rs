//! The right to one call in one direction over a trunk and the groups it belongs to.
//!
//! Whoever holds the lease is the call as far as the limits are concerned: it can be neither copied
//! nor given back twice, and one that is lost is counted, as its call would be counted for ever.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Direction, SlotId};

/// One call's places in the counters. [`Limits::give_back`](super::Limits::give_back) takes it.
#[must_use = "a lease that is not given back counts its call for ever"]
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    slots: [SlotId; Lease::SLOTS_MAX],
    len: u8,
    direction: Direction,
}

/// Leases dropped without being given back. Not part of [`Limits`](super::Limits): a lease that
/// knew them would be half as large again, and each dialog keeps two.
static LOST: AtomicU64 = AtomicU64::new(0);

impl Lease {
    /// A trunk and seven groups.
    pub const SLOTS_MAX: usize = 8;

    pub(super) fn new(direction: Direction, slots: &[SlotId]) -> Lease {
        let mut kept = [SlotId(0); Lease::SLOTS_MAX];
        kept[..slots.len()].copy_from_slice(slots);
        Lease {
            slots: kept,
            len: slots.len() as u8,
            direction,
        }
    }

    /// The direction of the call as its trunk sees it.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// The slots in which the call counts.
    pub fn slots(&self) -> &[SlotId] {
        &self.slots[..usize::from(self.len)]
    }

    /// How many leases of this process were dropped without being given back: zero, or a bug.
    pub fn lost() -> u64 {
        LOST.load(Relaxed)
    }
}

impl Drop for Lease {
    /// Given-back leases are forgotten and never come here.
    fn drop(&mut self) {
        note_lost();
    }
}

/// Counts a lease that was dropped.
pub(super) fn note_lost() {
    LOST.fetch_add(1, Relaxed);
}
