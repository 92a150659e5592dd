//! Everything known of one live call, for an operator who names it.

use core::time::Duration;

use super::Shard;
use super::mail::{CallDetail, ForkDetail, SetupDetail};
use super::relay::{Destination, Purpose};
use crate::base::Instant;
use crate::dialog::{CallKey, Part, Side};
use crate::limit::KeptLease;
use crate::transaction::ServerId;

impl Shard {
    /// The live calls with this Call-ID: more than one where a call spirals.
    pub(super) fn call_details(&self, now: Instant, call_id: &[u8]) -> Vec<CallDetail> {
        let keys = self.calls.with_call_id(self.secret.hash(call_id));
        let details = keys.into_iter().map(|key| self.call_detail(now, key));
        details.flatten().collect()
    }

    fn call_detail(&self, now: Instant, key: CallKey) -> Option<CallDetail> {
        let call = self.calls.call(key)?;
        let kept = self.calls.words(key);
        let words = |part| String::from_utf8_lossy(kept.word(part)).into_owned();
        let left = |due: Option<Instant>| due.map(|due| left_until(now, due));
        let slots = |kept: &KeptLease| self.leases.look(kept).1.to_vec();
        let mut forks: Vec<ForkDetail> = self
            .calls
            .forks_of(key)
            .map(|(_, fork)| ForkDetail {
                confirmed: fork.confirmed,
                ended: fork.ended,
                caller_cseq: fork.cseq(Side::Caller),
                callee_cseq: fork.cseq(Side::Callee),
            })
            .collect();
        forks.reverse();
        Some(CallDetail {
            row: self.call_row(now, key)?,
            invite_cseq: call.invite_cseq,
            nonce: call.nonce,
            lease_in: call.lease_in.as_ref().map(slots),
            lease_out: call.lease_out.as_ref().map(slots),
            session_left: left(call.session_due()),
            call_time_left: left(call.call_time_due()),
            recorded: call.record.is_some(),
            caller_listener: self.calls.caller(call)?.listener.0,
            callee_listener: self.calls.callee(call).map(|callee| callee.listener.0),
            caller_contact: words(Part::CallerContact),
            caller_route: words(Part::CallerRoute),
            callee_contact: words(Part::CalleeContact),
            callee_route: words(Part::CalleeRoute),
            forks,
            setup: self
                .calls
                .set_up(key)
                .and_then(|kept| self.setup_detail(now, kept.invite?)),
        })
    }

    fn setup_detail(&self, now: Instant, server: ServerId) -> Option<SetupDetail> {
        let relay = self.transactions.server_user(server)?;
        let Purpose::Setup(setup) = relay.purpose else {
            return None;
        };
        let (Destination::Trunk(to_slot) | Destination::Group(to_slot)) = setup.to;
        Some(SetupDetail {
            transaction: self.transactions.server_state(server)?,
            last_status: self.transactions.last_status(server),
            to_slot,
            address_index: setup.address_index,
            sent_for: now.since(setup.sent),
            cancelled: relay.cancelled,
        })
    }
}

/// Zero for what is over.
fn left_until(now: Instant, due: Instant) -> Duration {
    due.since(now)
}
