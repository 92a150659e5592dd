//! What an overloaded shard does with requests for something new: the cheapest refusal there is, or
//! none at all. Everything else passes: answers, requests inside of dialogs, retransmissions of
//! known transactions, probes.

use super::Shard;
use super::refusal::Refusal;
use crate::base::Instant;
use crate::guard;
use crate::guard::overload::{Backlog, Overload, Shown, Standing, TurnstileKind};
use crate::guard::strangers::Offence;
use crate::limit::SlotId;
use crate::metrics::Counter;
use crate::net::{Flow, Outbox};
use crate::route::TrunkId;
use crate::sip::{HeaderId, Message, Method, oc};

/// How far the kernel's part of the work goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turnstile {
    steps: u32,
    /// Of 2^32 new INVITEs so many are dropped.
    pub drop_below: u32,
}

impl Shard {
    /// Whether [`Shard::on_backlog`] does anything, so that the driver need not be asked.
    pub fn weighs_backlog(&self) -> bool {
        self.plan.overload.target.is_some()
    }

    /// Hears what waited in the sockets when the last batch was taken from them.
    pub fn on_backlog(&mut self, now: Instant, seen: Backlog) {
        self.overload.observe(now, seen);
    }

    /// Of 2^32 INVITEs that begin a call, how many are to be dropped before they are queued, when
    /// that has changed.
    pub fn turnstile_wanted(&self) -> Option<Turnstile> {
        let steps = self.overload.turnstile_wanted()?;
        Some(Turnstile {
            steps,
            drop_below: Overload::turnstile_drops(steps),
        })
    }

    /// Hears what that was done with; without anything the shard refuses all of them itself.
    pub fn turnstile_stands(&mut self, turnstile: Turnstile, kind: TurnstileKind) {
        self.overload.turnstile_stands(turnstile.steps, kind);
    }

    /// How loaded the shard is.
    pub fn overload(&self) -> Shown {
        self.overload.shown()
    }

    /// Whether a datagram is dropped before it is parsed: the new requests of strangers, who would
    /// be refused in any case, and those past what can be refused in words.
    pub(super) fn drops_unread(&mut self, now: Instant, from: Flow, bytes: &[u8]) -> bool {
        if !self.overload.is_on() || !guard::opens(bytes) {
            return false;
        }
        let counter = if self.sources.lookup(from.remote).is_none() {
            self.note_stranger(now, from, Offence::Unasked);
            Counter::DroppedOverloadStranger
        } else if self.overload.drops(self.random.next_u64() as u32) {
            Counter::DroppedOverload
        } else {
            return false;
        };
        self.metrics.count(counter);
        true
    }

    /// Refuses a new request where the load asks for it; `true` when that was done.
    ///
    /// Nothing is kept: the answer to a retransmission is the same, with the same tag, as long as
    /// the load is no less, and the ACK ends at its tag.
    //= rfc3261#8.2.7
    pub(super) fn sheds(
        &mut self,
        now: Instant,
        from: Flow,
        message: &Message<'_>,
        out: &mut Outbox,
    ) -> bool {
        if !self.overload.is_on() || !self.is_new(message) {
            return false;
        }
        let Some((trunk, _)) = self.sources.lookup(from.remote) else {
            self.metrics.count(Counter::DroppedOverloadStranger);
            self.note_stranger(now, from, Offence::Unasked);
            return true;
        };
        let number = self.tag_number(message);
        if !self
            .overload
            .sheds((number >> 32) as u32, self.standing(trunk, message))
        {
            return false;
        }
        // Spread, so that those who were refused together do not come back together.
        let refusal = Refusal::OVERLOADED.retry_after(1 + (number & 3) as u32);
        self.refuse_stateless(from, message, refusal, out);
        true
    }

    /// Whether a request asks for something outside of any dialog. OPTIONS to the node itself is
    /// answered all the same: a 200 costs what a 503 does, and its sender would take us for dead.
    fn is_new(&self, message: &Message<'_>) -> bool {
        if message.to_tag().is_some() {
            return false;
        }
        match message.method() {
            Method::Register | Method::Subscribe | Method::Publish | Method::Message => true,
            Method::Options => !self.is_for_us(message, &self.path(message)),
            // Without a Route it cannot carry our cookie, by which a call without tags is known.
            Method::Invite => {
                message.value(HeaderId::Route).is_none()
                    || !self.is_in_tagless_dialog(message, &self.path(message))
            }
            Method::Ack
            | Method::Bye
            | Method::Cancel
            | Method::Prack
            | Method::Update
            | Method::Info
            | Method::Refer
            | Method::Notify
            | Method::Other => false,
        }
    }

    fn standing(&self, trunk: TrunkId, message: &Message<'_>) -> Standing {
        let top = message.values(HeaderId::Via).next();
        let via = top.and_then(|value| message.via(&value).ok());
        //= rfc7339#5.10.2
        if via.is_some_and(|via| oc::asks(via.params)) {
            return Standing::Heeding;
        }
        let slot = self.plan.routing.trunk(trunk).slot;
        let used = self.shared.limits.used(SlotId(slot));
        match used.in_calls.saturating_add(used.out_calls) {
            0 => Standing::Known,
            _ => Standing::Talking,
        }
    }
}
