//! What a shard does for trunk health: sends the probes of the trunks it keeps, and tells the keeper
//! of a trunk what its calls taught.

use super::Shard;
use super::branch::{self, Branch};
use super::mail::Mail;
use super::relay::{Attempt, Setup};
use crate::base::{Cursor, Instant};
use crate::metrics::TrunkCounter;
use crate::net::{Flow, Outbox, owner};
use crate::route::health::{Passive, Probe, State};
use crate::sip::Method;

impl Shard {
    /// Tells the keeper of a trunk how an attempt went.
    pub(super) fn signal(&mut self, now: Instant, setup: &Setup, signal: Passive) {
        if let Some(slot) = setup.trunk_out {
            self.signal_slot(now, slot, setup.address_index, signal);
        }
    }

    /// An attempt was not answered. It says nothing about a trunk that has answered others since:
    /// one silent phone behind it is not a dead trunk, and calls that ring elsewhere show it.
    pub(super) fn signal_silence(&mut self, now: Instant, setup: &Setup) {
        let Some(slot) = setup.trunk_out else { return };
        let heard = self.heard.get(usize::from(slot)).copied().flatten();
        if heard.is_none_or(|heard| heard <= setup.sent) {
            self.signal(now, setup, Passive::TimedOut);
        }
    }

    /// A trunk answered a request of ours.
    pub(super) fn hear(&mut self, now: Instant, slot: u16) {
        if let Some(heard) = self.heard.get_mut(usize::from(slot)) {
            *heard = Some(now);
        }
    }

    /// Tells the keeper of a trunk what one of its addresses did. Good news of a trunk that is well
    /// is no news: it would only fill the rings.
    pub(super) fn signal_slot(
        &mut self,
        now: Instant,
        slot: u16,
        address_index: u8,
        signal: Passive,
    ) {
        let board = &self.shared.board;
        let is_well = board.state(slot) == State::Up && board.failures(slot) == 0;
        if matches!(signal, Passive::Answered) && is_well {
            return;
        }
        if self.keeper.keeps(slot) {
            return self
                .keeper
                .passive(now, slot, usize::from(address_index), signal);
        }
        let keeper = slot % self.shared.mail.shards() as u16;
        let _lost_when_full = self.shared.mail.post(
            usize::from(keeper),
            Mail::Passive {
                slot,
                address_index,
                signal,
            },
        );
    }

    /// Sends the OPTIONS probes that are due.
    pub(super) fn probe_due(&mut self, now: Instant, out: &mut Outbox) {
        while !out.is_nearly_full() {
            let Some(probe) = self.keeper.due(now) else {
                return;
            };
            if !self.send_probe(now, &probe, out) {
                self.keeper.probe_unsent(probe.slot, probe.address_index);
            }
        }
    }

    fn send_probe(&mut self, now: Instant, probe: &Probe, out: &mut Outbox) -> bool {
        let address = self
            .trunk_at(probe.slot)
            .and_then(|trunk| trunk.addresses.get(probe.address_index).copied());
        let Some(to) = address.and_then(|address| self.flow_to(address)) else {
            return false;
        };
        let call_id = self.own_call_id();
        let tag = self.random.next_u64();
        let nonce = self.random.next_u64() as u32;
        let branch = Branch {
            token: branch::token(&self.secret, nonce, self.secret.hash(&call_id)),
            loop_check: 0,
        };
        let attempt = Attempt::Probe {
            slot: probe.slot,
            address_index: probe.address_index as u8,
            sent: now,
        };
        let mut text = [0u8; 1024];
        let mut cursor = Cursor::new(&mut text);
        self.put_probe(&mut cursor, to, branch, &call_id, tag);
        let text = cursor.written();
        let compose = |out: &mut Cursor<'_>| out.put(text);
        let sent = self.transactions.send(
            now,
            branch.token,
            Method::Options,
            to,
            attempt,
            compose,
            out,
        );
        self.count_sent(sent.is_ok());
        self.metrics
            .count_trunk(probe.slot, TrunkCounter::ProbesSent);
        sent.is_ok()
    }

    //= rfc3261#11.1
    fn put_probe(&self, out: &mut Cursor<'_>, to: Flow, branch: Branch, call_id: &[u8], tag: u64) {
        use core::fmt::Write;
        let _overflow_is_flagged = write!(
            out,
            "OPTIONS sip:{} SIP/2.0\r\nVia: SIP/2.0/UDP ",
            to.remote
        );
        self.put_sent_by(to.listener, out);
        out.put(b";branch=");
        branch.put(out);
        out.put(b"\r\nMax-Forwards: 70\r\nFrom: <sip:");
        self.put_sent_by(to.listener, out);
        out.put(b">;tag=");
        out.put_hex(tag);
        let _overflow_is_flagged = write!(out, "\r\nTo: <sip:{}>\r\nCall-ID: ", to.remote);
        out.put(call_id);
        out.put(b"\r\nCSeq: 1 OPTIONS\r\nContact: <sip:");
        self.put_sent_by(to.listener, out);
        out.put(b">\r\nAccept: application/sdp\r\nContent-Length: 0\r\n\r\n");
    }

    /// A Call-ID of our own whose messages come back to this shard.
    fn own_call_id(&mut self) -> [u8; 16] {
        let shards = self.shared.mail.shards() as u16;
        loop {
            let mut call_id = [0u8; 16];
            Cursor::new(&mut call_id).put_hex(self.random.next_u64());
            if owner(&call_id, &self.shared.owner_key, shards) == self.id {
                return call_id;
            }
        }
    }
}
