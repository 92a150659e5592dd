//! Where every SIP message of the shard passes once, in the order of the wire: it is noted for the
//! ladder of `why`, and copied for those who capture. Without a capture that is one branch more.
//!
//! A message that comes in is looked at after it was worked on: what it led to stands in the outbox,
//! and the call knows its trunks by then.

use super::Shard;
use super::messages::Summary;
use crate::base::Instant;
use crate::capture::{Direction, Selection, Subject, Tap, glance};
use crate::net::{Flow, Outbox};
use crate::sip::Message;

/// Trunks that one message and what it led to may touch; more are not looked at.
const TRUNKS_MAX: usize = 8;

impl Shard {
    /// Copies messages for others from here on, or no more.
    pub fn set_tap(&mut self, tap: Option<std::sync::Arc<Tap>>) {
        self.tap = tap;
    }

    /// A message was worked on; what it led to is in the outbox from `mark` on.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        from: Flow,
        message: &Message<'_>,
        mark: usize,
        out: &Outbox,
    ) {
        if self.messages.are_kept() {
            let call_id = message.call_id_hash(&self.secret);
            let received = Summary::received(now, from, call_id, message);
            self.messages.add(received);
            // All of it belongs to this call: nothing else has happened in between.
            for at in mark..out.len() {
                if let Some(sent) = out.datagram(at) {
                    let cause = Some((message, &received));
                    let sent = Summary::sent(now, sent.to, call_id, sent.bytes, cause);
                    self.messages.add(sent);
                }
            }
        }
        if self.tap.is_some() {
            self.copy(
                now,
                Some((from, message.bytes())),
                message.call_id(),
                mark..out.len(),
                out,
            );
        }
    }

    /// What did not parse was dropped or answered.
    pub(super) fn observe_malformed(
        &mut self,
        now: Instant,
        from: Flow,
        bytes: &[u8],
        mark: usize,
        out: &Outbox,
    ) {
        if self.tap.is_some() {
            let call_id = glance(bytes).call_id;
            self.copy(now, Some((from, bytes)), call_id, mark..out.len(), out);
        }
    }

    /// Time or an operator had the shard send what is in the outbox from `mark` on.
    pub(super) fn observe_sent(&mut self, now: Instant, mark: usize, out: &Outbox) {
        for at in mark..out.len() {
            let Some(sent) = out.datagram(at) else { break };
            let call_id = glance(sent.bytes).call_id;
            let hash = self.secret.hash(call_id);
            self.messages
                .add(Summary::sent(now, sent.to, hash, sent.bytes, None));
            if self.tap.is_some() {
                self.copy(now, None, call_id, at..at + 1, out);
            }
        }
    }

    /// Copies messages of one call for those who want them.
    #[cold]
    fn copy(
        &self,
        now: Instant,
        received: Option<(Flow, &[u8])>,
        call_id: &[u8],
        sent: core::ops::Range<usize>,
        out: &Outbox,
    ) {
        let Some(tap) = &self.tap else { return };
        let mut trunks = [0; TRUNKS_MAX];
        let by_trunk = |want: &crate::capture::Want| matches!(want.selection, Selection::Trunks(_));
        let touched = match tap.wants.iter().any(by_trunk) {
            true => self.touched(
                received.map(|(from, _)| from),
                call_id,
                sent.clone(),
                out,
                &mut trunks,
            ),
            false => 0,
        };
        let wanted_by = tap.wanted_by(&Subject {
            call_id,
            trunks: &trunks[..touched],
        });
        if let Some((from, bytes)) = received {
            tap.put(now, Direction::Received, from, bytes, wanted_by);
        }
        for datagram in sent.filter_map(|at| out.datagram(at)) {
            tap.put(now, Direction::Sent, datagram.to, datagram.bytes, wanted_by);
        }
    }

    /// The trunks of the live call, and those whose addresses were heard of or sent to; how many.
    fn touched(
        &self,
        from: Option<Flow>,
        call_id: &[u8],
        sent: core::ops::Range<usize>,
        out: &Outbox,
        trunks: &mut [u16; TRUNKS_MAX],
    ) -> usize {
        let call = self
            .calls
            .find_call_id(self.secret.hash(call_id))
            .and_then(|key| self.calls.call(key));
        let of_call = call.map(|call| [Some(call.trunk_in), call.trunk_out()]);
        let sent = sent.filter_map(|at| out.datagram(at)).map(|sent| sent.to);
        let of_address = from
            .into_iter()
            .chain(sent)
            .filter_map(|flow| self.sources.lookup(flow.remote))
            .map(|(trunk, _)| self.plan.routing.trunk(trunk).slot);
        let found = of_call.into_iter().flatten().flatten().chain(of_address);
        let mut count = 0;
        for (place, slot) in trunks.iter_mut().zip(found) {
            *place = slot;
            count += 1;
        }
        count
    }
}
