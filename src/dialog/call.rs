//! One call: its record, and each To-tag that answered it. Millions of both are held, so that nothing
//! in them is larger than it must be.

use core::num::NonZeroU32;
use core::time::Duration;

use crate::base::{Instant, TimerId};
use crate::net::{CompactFlow, Flow};
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
    /// Hash of the Call-ID under the node's key: decides the shard.
    pub owner: u64,
    /// Keyed hashes of the Call-ID and of the caller's From tag.
    pub call_id: u64,
    pub caller_tag: u64,
    /// Tells this passage through the node from another one of the same call (a spiral); also
    /// written into our Record-Route.
    pub nonce: u32,
    pub phase: Phase,
    pub lease_in: Option<L>,
    pub lease_out: Option<L>,
    pub trunk_in: u16,
    pub trunk_out: Option<u16>,
    pub(super) caller: CompactFlow,
    pub(super) callee: Option<CompactFlow>,
    pub admitted: Instant,
    pub answered: Option<Instant>,
    /// The caller has heard how it goes: an 18x or a 2xx was passed on.
    pub indicated: bool,
    pub invite_cseq: u32,
    /// The INVITE's server transaction; stale once that has ended.
    pub invite: Option<ServerId>,
    pub session_timer: TimerId,
    pub call_time_timer: TimerId,
    /// When these two ring.
    pub session_due: Option<Instant>,
    pub call_time_due: Option<Instant>,
    /// Where the call stands in the store: while it is being set up, and from its 2xx on.
    pub setup_record: Option<SetupPosition>,
    pub record: Option<Position>,
    /// Microseconds that the call had lived and talked before it was restored from there.
    age_before_us: u64,
    talk_before_us: u64,
    pub(super) texts: Texts,
    /// Index of its newest fork, or [`NO_FORK`].
    pub(super) first_fork: u32,
}

impl<L> Call<L> {
    /// A call in its first moment: ringing, without leases, forks and texts.
    pub fn ringing(
        call_id: u64,
        caller_tag: u64,
        nonce: u32,
        caller: Flow,
        admitted: Instant,
    ) -> Call<L> {
        Call {
            owner: 0,
            call_id,
            caller_tag,
            nonce,
            phase: Phase::Ringing,
            lease_in: None,
            lease_out: None,
            trunk_in: 0,
            trunk_out: None,
            caller: caller.into(),
            callee: None,
            admitted,
            answered: None,
            indicated: false,
            invite_cseq: 0,
            invite: None,
            session_timer: TimerId::NONE,
            call_time_timer: TimerId::NONE,
            session_due: None,
            call_time_due: None,
            setup_record: None,
            record: None,
            age_before_us: 0,
            talk_before_us: 0,
            texts: Texts::default(),
            first_fork: NO_FORK,
        }
    }

    /// Where the caller is.
    pub fn caller(&self) -> Flow {
        self.caller.into()
    }

    /// Where the last attempt was sent.
    pub fn callee(&self) -> Option<Flow> {
        self.callee.map(Flow::from)
    }

    /// Notes where an attempt is sent.
    pub fn set_callee(&mut self, callee: Option<Flow>) {
        self.callee = callee.map(CompactFlow::from);
    }

    /// How long the call had lived before it was restored from a store.
    pub fn age_before(&self) -> Duration {
        Duration::from_micros(self.age_before_us)
    }

    /// How long it had talked before that.
    pub fn talk_before(&self) -> Duration {
        Duration::from_micros(self.talk_before_us)
    }

    /// Notes that the call is restored and how long it lived and talked before.
    pub fn set_before(&mut self, age: Duration, talk: Duration) {
        let us = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        (self.age_before_us, self.talk_before_us) = (us(age), us(talk));
    }
}

/// One To-tag that answered the INVITE: an early or confirmed dialog.
#[derive(Clone, Copy, Debug)]
pub struct Fork {
    pub callee_tag: u64,
    pub confirmed: bool,
    /// A BYE for it was passed on, be it before its 2xx.
    pub hung_up: bool,
    /// Its BYE was answered, or there is nobody left to answer it.
    pub ended: bool,
    /// One more than the highest CSeq seen of each side; `None` = it has not sent a request.
    pub(super) above_caller_cseq: Option<NonZeroU32>,
    pub(super) above_callee_cseq: Option<NonZeroU32>,
    /// Index of the next older fork of its call, or [`NO_FORK`].
    pub(super) next: u32,
}

/// Behind the oldest fork of a call.
pub(super) const NO_FORK: u32 = u32::MAX;

impl Fork {
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
pub(super) fn one_above(cseq: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(cseq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_and_its_fork_take_no_more_room_than_they_are_meant_to() {
        assert_eq!(size_of::<Call<crate::limit::Lease>>(), 240);
        assert_eq!(size_of::<Fork>(), 24);
    }
}
