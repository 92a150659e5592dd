//! How session attempts went, counted by trunk and leg for the ratios of RFC 6076: the last answer to
//! each INVITE that starts a call, the delay until the caller hears how it goes, and the calls that
//! were hung up in the end.

use super::Shard;
use super::relay::Setup;
use crate::base::Instant;
use crate::dialog::CallKey;
use crate::metrics::{Leg, TrunkCounter};
use crate::route::TrunkId;
use crate::sip::Message;

impl Shard {
    /// The trunk's INVITE was answered by us without an attempt.
    pub(super) fn session_refused(
        &self,
        trunk: Option<TrunkId>,
        message: &Message<'_>,
        status: u16,
    ) {
        // With a To tag it belongs to a dialog, and starts no session.
        if let Some(trunk) = trunk.filter(|_| message.to_tag().is_none()) {
            let slot = self.plan.routing.trunk(trunk).slot;
            self.session_ended(Some(slot), Leg::In, status);
        }
    }

    /// The last answer to an INVITE of a trunk, or to it.
    pub(super) fn session_ended(&self, slot: Option<u16>, leg: Leg, status: u16) {
        if let Some(slot) = slot {
            self.metrics
                .count_trunk(slot, TrunkCounter::of_session(leg, status));
        }
    }

    /// A call was answered.
    pub(super) fn session_answered(&self, setup: &Setup) {
        self.session_ended(Some(setup.trunk_in), Leg::In, 200);
        self.session_ended(setup.trunk_out, Leg::Out, 200);
    }

    /// An 18x or a 2xx is about to pass: the first one of the call ends its set-up delay.
    pub(super) fn session_indicated(&mut self, now: Instant, setup: &Setup) {
        let Some(call) = self.calls.call_mut(setup.call) else {
            return;
        };
        if core::mem::replace(&mut call.indicated, true) {
            return;
        }
        let histograms = &self.metrics.histograms;
        histograms.observe_setup_delay(setup.trunk_in, Leg::In, now.since(call.admitted));
        if let Some(slot) = setup.trunk_out {
            histograms.observe_setup_delay(slot, Leg::Out, now.since(setup.sent));
        }
    }

    /// An answered call was hung up.
    pub(super) fn session_completed(&self, key: CallKey) {
        let Some(call) = self.calls.call(key) else {
            return;
        };
        self.metrics
            .count_trunk(call.trunk_in, TrunkCounter::CompletedIn);
        if let Some(slot) = call.trunk_out() {
            self.metrics.count_trunk(slot, TrunkCounter::CompletedOut);
        }
    }
}
