//! Leases where there are millions of them: all calls over a trunk hold the same slots, so that the
//! slots are kept once and each call keeps a number.

use core::num::NonZeroU32;

use super::lease::note_lost;
use super::{Direction, Lease, SlotId};

/// A lease in a [`LeaseBook`]. Only the book that made it can turn it into a lease again.
#[must_use = "a lease that is not given back counts its call for ever"]
#[derive(Debug, PartialEq, Eq)]
pub struct KeptLease(NonZeroU32);

impl Drop for KeptLease {
    /// Those that are turned into leases again are forgotten and never come here.
    fn drop(&mut self) {
        note_lost();
    }
}

/// What the leases of one shard hold.
#[derive(Debug)]
pub struct LeaseBook {
    pages: Vec<Page>,
    /// By the first slot and the direction: the newest page, one more than its place; 0 = none.
    newest: Box<[[u32; 2]]>,
}

/// The slots of all leases that hold the same ones.
#[derive(Debug)]
struct Page {
    slots: [SlotId; Lease::SLOTS_MAX],
    len: u8,
    direction: Direction,
    leases: u32,
    /// Of the same first slot and direction.
    older: u32,
}

impl Page {
    fn slots(&self) -> &[SlotId] {
        &self.slots[..usize::from(self.len)]
    }
}

impl LeaseBook {
    /// An empty book for leases of so many slots.
    pub fn new(slots_max: usize) -> LeaseBook {
        LeaseBook {
            pages: Vec::new(),
            newest: vec![[0; 2]; slots_max].into_boxed_slice(),
        }
    }

    /// Takes memory for the leases of a plan with so many trunks, so that none is taken as calls come.
    pub fn expect(&mut self, trunks: usize) {
        self.pages.reserve(2 * trunks);
    }

    /// Writes a lease down.
    pub fn keep(&mut self, lease: Lease) -> KeptLease {
        let at = self.page_of(lease.direction(), lease.slots());
        self.pages[at as usize].leases += 1;
        core::mem::forget(lease); // it lives on as what is returned
        KeptLease(NonZeroU32::MIN.saturating_add(at))
    }

    /// The lease that was written down.
    pub fn take(&mut self, kept: KeptLease) -> Lease {
        let page = &mut self.pages[place(&kept)];
        core::mem::forget(kept);
        page.leases -= 1;
        Lease::new(page.direction, page.slots())
    }

    /// The slots that a lease holds, and its direction.
    pub fn look(&self, kept: &KeptLease) -> (Direction, &[SlotId]) {
        let page = &self.pages[place(kept)];
        (page.direction, page.slots())
    }

    /// The page of these slots: the one that there is, one that nobody needs any more, or a new one.
    fn page_of(&mut self, direction: Direction, slots: &[SlotId]) -> u32 {
        let first = slots.first().map_or(0, |slot| usize::from(slot.0));
        let newest = self.newest[first][direction as usize];
        let (mut next, mut unused) = (newest, None);
        while let Some(at) = next.checked_sub(1) {
            let page = &self.pages[at as usize];
            if page.slots() == slots {
                return at;
            }
            if page.leases == 0 {
                unused = Some(at);
            }
            next = page.older;
        }
        let older = unused.map_or(newest, |at| self.pages[at as usize].older);
        let mut kept = [SlotId(0); Lease::SLOTS_MAX];
        kept[..slots.len()].copy_from_slice(slots);
        let page = Page {
            slots: kept,
            len: slots.len() as u8,
            direction,
            leases: 0,
            older,
        };
        match unused {
            Some(at) => {
                self.pages[at as usize] = page;
                at
            }
            None => {
                self.pages.push(page);
                let at = self.pages.len() as u32 - 1;
                self.newest[first][direction as usize] = at + 1;
                at
            }
        }
    }
}

fn place(kept: &KeptLease) -> usize {
    kept.0.get() as usize - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Instant, Random};
    use crate::limit::Limits;

    #[test]
    fn a_kept_lease_takes_four_octets_and_comes_back_as_it_was() {
        assert_eq!(size_of::<Option<KeptLease>>(), 4);
        let limits = Limits::new(8);
        let mut book = LeaseBook::new(8);
        let mut random = Random::new([3; 4]);
        let mut kept = Vec::new();
        for round in 0..10_000 {
            let direction = [Direction::In, Direction::Out][round % 2];
            let first = random.below(8) as u16;
            let groups = random.below(4) as u16;
            let slots: Vec<SlotId> = (0..=groups).map(|at| SlotId((first + at) % 8)).collect();
            if kept.len() < 50 {
                let lease = limits.admit(direction, &slots, Instant::START).unwrap();
                kept.push((direction, slots, book.keep(lease)));
            } else {
                let at = random.below(kept.len() as u64) as usize;
                let (direction, slots, lease) = kept.swap_remove(at);
                assert_eq!(book.look(&lease), (direction, &slots[..]));
                let lease = book.take(lease);
                assert_eq!((lease.direction(), lease.slots()), (direction, &slots[..]));
                limits.give_back(lease);
            }
        }
        for (.., lease) in kept {
            limits.give_back(book.take(lease));
        }
        assert_eq!(limits.total_used(), 0);
        // Four lengths for each slot and direction.
        assert!(book.pages.len() <= 64, "{} pages", book.pages.len());
    }

    #[test]
    fn pages_that_nobody_needs_are_used_again() {
        let limits = Limits::new(300);
        let mut book = LeaseBook::new(300);
        book.expect(2);
        let reserved = book.pages.capacity();
        for group in 1..300 {
            let slots = [SlotId(0), SlotId(group)];
            let lease = book.keep(limits.restore(Direction::Out, &slots));
            limits.give_back(book.take(lease));
        }
        assert_eq!((book.pages.len(), book.pages.capacity()), (1, reserved));
    }
}
