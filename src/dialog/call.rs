//! One call: its record, and each To-tag that answered it. Millions of both are held, so that nothing
//! in them is larger than it must be.

use core::num::NonZeroU32;
use core::time::Duration;

use crate::base::{Halves, Instant, Links, Tick};
use crate::net::CompactFlow;
use crate::transaction::ServerId;

use super::store::{Position, SetupPosition};
use super::texts::Texts;

/// Which end of a call sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Caller,
    Callee,
}

impl Side {
    /// The other end.
    pub const fn other(self) -> Side {
        match self {
            Side::Caller => Side::Callee,
            Side::Callee => Side::Caller,
        }
    }
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The INVITE was admitted, no 2xx yet.
    Ringing,
    /// A 2xx was passed on.
    Answered,
    /// A BYE is under way.
    Ending,
}

impl Phase {
    /// The word that operators read.
    pub const fn text(self) -> &'static str {
        match self {
            Phase::Ringing => "ringing",
            Phase::Answered => "answered",
            Phase::Ending => "ending",
        }
    }
}

/// One admitted INVITE and what grew from it.
#[derive(Debug)]
pub struct Call<L> {
    owner: Halves,
    call_id: Halves,
    caller_tag: Halves,
    pub admitted: Instant,
    pub answered: Option<Instant>,
    /// The one that was there first.
    pub(super) first_fork: Option<Fork>,
    /// Tells this passage through the node from another one of the same call (a spiral); also
    /// written into our Record-Route.
    pub nonce: u32,
    pub invite_cseq: u32,
    pub lease_in: Option<L>,
    pub lease_out: Option<L>,
    /// What only a set-up needs, by number; [`NONE`] = nothing.
    pub(super) set_up: u32,
    /// Where the call stands in the store from its 2xx on.
    pub record: Option<Position>,
    /// When its two timers ring, and its place among those of other calls: see `timers`.
    pub(super) session_due: Option<Tick>,
    pub(super) call_time_due: Option<Tick>,
    pub(super) links: Links,
    pub(super) texts: Texts,
    pub(super) caller: Option<CompactFlow>,
    pub(super) callee: Option<CompactFlow>,
    pub trunk_in: u16,
    trunk_out: u16,
    pub phase: Phase,
    /// The caller has heard how it goes: an 18x or a 2xx was passed on.
    pub indicated: bool,
    /// It was live before this process was.
    pub restored: bool,
    /// `call_time_max` was over when its end was on the way already.
    pub(super) is_put_off: bool,
}

/// No number, no trunk.
pub(super) const NONE: u32 = u32::MAX;
const NO_TRUNK: u16 = u16::MAX;

/// What only a call that is being set up needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetUp {
    /// The INVITE's server transaction; stale once that has ended.
    pub invite: Option<ServerId>,
    /// Where the set-up stands in the store.
    pub record: Option<SetupPosition>,
}

impl<L> Call<L> {
    /// A call in its first moment: ringing, without ends, leases, forks and texts. `owner` is the
    /// hash of its Call-ID that decides its shard, `call_id` and `caller_tag` are those that the
    /// table finds it by.
    pub fn ringing(
        owner: u64,
        call_id: u64,
        caller_tag: u64,
        nonce: u32,
        admitted: Instant,
    ) -> Call<L> {
        Call {
            owner: Halves::new(owner),
            call_id: Halves::new(call_id),
            caller_tag: Halves::new(caller_tag),
            admitted,
            answered: None,
            first_fork: None,
            nonce,
            invite_cseq: 0,
            lease_in: None,
            lease_out: None,
            set_up: NONE,
            record: None,
            session_due: None,
            call_time_due: None,
            links: Links::IDLE,
            texts: Texts::default(),
            caller: None,
            callee: None,
            trunk_in: 0,
            trunk_out: NO_TRUNK,
            phase: Phase::Ringing,
            indicated: false,
            restored: false,
            is_put_off: false,
        }
    }

    /// Hash of the Call-ID under the node's key: decides the shard.
    pub fn owner(&self) -> u64 {
        self.owner.number()
    }

    /// Keyed hash of the Call-ID.
    pub fn call_id(&self) -> u64 {
        self.call_id.number()
    }

    /// Keyed hash of the caller's From tag.
    pub fn caller_tag(&self) -> u64 {
        self.caller_tag.number()
    }

    /// Slot of the trunk of the last attempt.
    pub fn trunk_out(&self) -> Option<u16> {
        Some(self.trunk_out).filter(|slot| *slot != NO_TRUNK)
    }

    /// Notes the trunk of an attempt.
    pub fn set_trunk_out(&mut self, slot: Option<u16>) {
        self.trunk_out = slot.unwrap_or(NO_TRUNK);
    }

    /// How long the call has lived, also before a restart.
    pub fn age(&self, now: Instant) -> Duration {
        now.since(self.admitted)
    }

    /// When nobody will have refreshed its session.
    pub fn session_due(&self) -> Option<Instant> {
        self.session_due.map(Tick::at)
    }

    /// When its `call_time_max` is over.
    pub fn call_time_due(&self) -> Option<Instant> {
        self.call_time_due.map(Tick::at)
    }
}

/// One To-tag that answered the INVITE: an early or confirmed dialog.
#[derive(Clone, Copy, Debug)]
pub struct Fork {
    callee_tag: Halves,
    /// One more than the highest CSeq seen of each side; `None` = it has not sent a request.
    above_caller_cseq: Option<NonZeroU32>,
    above_callee_cseq: Option<NonZeroU32>,
    /// Of a call's first fork the number of its newest further one, of that the next older one.
    pub(super) next: u32,
    pub confirmed: bool,
    /// A BYE for it was passed on, be it before its 2xx.
    pub hung_up: bool,
    /// Its BYE was answered, or there is nobody left to answer it.
    pub ended: bool,
}

impl Fork {
    /// An early one that takes the caller's CSeq from the INVITE.
    pub(super) fn early(callee_tag: u64, invite_cseq: u32) -> Fork {
        Fork {
            callee_tag: Halves::new(callee_tag),
            above_caller_cseq: Some(one_above(invite_cseq)),
            above_callee_cseq: None,
            next: NONE,
            confirmed: false,
            hung_up: false,
            ended: false,
        }
    }

    /// The same with this one behind it.
    pub(super) fn in_front_of(self, next: u32) -> Fork {
        Fork { next, ..self }
    }

    /// Keyed hash of its To tag.
    pub fn callee_tag(&self) -> u64 {
        self.callee_tag.number()
    }

    /// The highest CSeq seen from `side`; `None` = it has not sent a request.
    pub fn cseq(&self, side: Side) -> Option<u32> {
        let above = match side {
            Side::Caller => self.above_caller_cseq,
            Side::Callee => self.above_callee_cseq,
        };
        above.map(|above| above.get() - 1)
    }

    /// Notes the highest CSeq of `side`.
    pub fn set_cseq(&mut self, side: Side, cseq: Option<u32>) {
        let above = match side {
            Side::Caller => &mut self.above_caller_cseq,
            Side::Callee => &mut self.above_callee_cseq,
        };
        *above = cseq.map(one_above);
    }
}

/// Less than 2^31 is what a CSeq may be, so that there is a number above it.
fn one_above(cseq: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(cseq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Slab;

    #[test]
    fn a_call_and_a_fork_take_no_more_room_than_they_are_meant_to() {
        assert_eq!(size_of::<Call<crate::limit::KeptLease>>(), 148);
        assert_eq!(Slab::<Call<crate::limit::KeptLease>>::OCTETS_EACH, 152);
        assert_eq!(size_of::<Option<Fork>>(), 24);
    }
}
