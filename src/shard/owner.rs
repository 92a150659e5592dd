//! Whose datagram is it? The owner of a message is decided by a keyed hash of its Call-ID; what
//! belongs to another shard is mailed to it and nothing else changes (design, invariant 6).

use super::Shard;
use super::branch::Branch;
use super::mail::{Letter, Mail};
use crate::base::Instant;
use crate::guard::strangers::Offence;
use crate::guard::{self, Kind};
use crate::metrics::Counter;
use crate::net::{Flow, Outbox, owner};
use crate::sip::{self, HeaderId, Message, Rejected};

/// How a datagram came in; mail is never mailed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Socket,
    Inbox,
}

impl Shard {
    /// Sorts a datagram by its first octets and parses what may be SIP.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        from: Flow,
        bytes: &[u8],
        door: Door,
        out: &mut Outbox,
    ) {
        if door == Door::Socket && self.turns_back(now, from) {
            return;
        }
        match guard::classify(bytes) {
            Kind::Sip if door == Door::Socket && self.drops_unread(now, from, bytes) => {}
            Kind::Sip => self.receive_sip(now, from, bytes, door, out),
            Kind::KeepAliveCrlf => self.answer_keep_alive(from, out),
            Kind::Stun => self.answer_stun(from, bytes, out),
            Kind::Empty | Kind::Garbage => {
                self.metrics.count(Counter::DroppedGarbage);
                self.note_stranger(now, from, Offence::Malformed);
            }
        }
    }

    fn receive_sip(
        &mut self,
        now: Instant,
        from: Flow,
        bytes: &[u8],
        door: Door,
        out: &mut Outbox,
    ) {
        let mut scratch = self.take_scratch();
        let mark = out.len();
        match sip::parse(bytes, &mut scratch) {
            Ok(message) => {
                if !self.passed_on(from, message.call_id(), bytes, door) {
                    let call_id = message.call_id_hash(&self.secret);
                    self.calls.expect(call_id);
                    out.of_call(Some(call_id));
                    self.on_message(now, from, &message, out);
                    out.of_call(None);
                    self.observe(now, from, &message, mark, out);
                }
            }
            Err(Rejected { fault, partial }) => {
                self.refuse_malformed(from, fault, partial, out);
                self.observe_malformed(now, from, bytes, mark, out);
                self.note_stranger(now, from, Offence::Malformed);
            }
        }
        self.scratch = Some(scratch);
    }

    fn on_message(&mut self, now: Instant, from: Flow, message: &Message<'_>, out: &mut Outbox) {
        if message.is_request() {
            self.metrics.count(Counter::RequestsReceived);
            self.on_request(now, from, message, out);
        } else {
            self.metrics.count(Counter::ResponsesReceived);
            self.on_response(now, from, message, out);
        }
    }

    /// Mails a datagram of another shard's call to that shard; `true` when it is out of our hands.
    fn passed_on(&mut self, from: Flow, call_id: &[u8], bytes: &[u8], door: Door) -> bool {
        let shards = self.shared.mail.shards() as u16;
        if door == Door::Inbox || shards < 2 {
            return false;
        }
        let owner = owner(call_id, &self.shared.owner_key, shards);
        if owner == self.id {
            return false;
        }
        self.mail_to(owner, from, false, bytes);
        true
    }

    fn mail_to(&self, owner: u16, from: Flow, bounced: bool, bytes: &[u8]) {
        let taken = self
            .shared
            .mail
            .hand_over(usize::from(owner), from, bounced, bytes);
        self.metrics.count(if taken {
            Counter::HandedOver
        } else {
            Counter::DroppedInboxFull
        });
    }

    /// Reads the inbox until it is empty.
    pub fn on_mail(&mut self, now: Instant, out: &mut Outbox) {
        self.journal.set_time(now);
        // Bounded, so that a shard whose inbox fills as fast as it reads still serves its socket.
        for _ in 0..Self::MAIL_BATCH {
            match self.shared.mail.take(usize::from(self.id)) {
                Some(Mail::Datagram(letter)) => self.read_letter(now, letter, out),
                Some(Mail::Passive {
                    slot,
                    address_index,
                    signal,
                }) => {
                    self.keeper
                        .passive(now, slot, usize::from(address_index), signal);
                }
                Some(Mail::Ask(ask)) => {
                    let mark = out.len();
                    self.answer(now, *ask, out);
                    self.observe_sent(now, mark, out);
                }
                None => return,
            }
            if out.is_nearly_full() {
                return;
            }
        }
    }

    const MAIL_BATCH: usize = 256;

    fn read_letter(&mut self, now: Instant, letter: Letter, out: &mut Outbox) {
        let Letter {
            from,
            bounced,
            bytes,
        } = letter;
        if bounced {
            let mark = out.len();
            self.bounced(now, from, &bytes, Door::Inbox, out);
            self.observe_sent(now, mark, out);
        } else {
            self.receive(now, from, &bytes, Door::Inbox, out);
        }
        self.shared.mail.hand_back(usize::from(self.id), bytes);
    }

    /// An ICMP error about a datagram of ours: the attempt that it belongs to has failed.
    //= rfc3261#18.4
    pub(super) fn bounced(
        &mut self,
        now: Instant,
        to: Flow,
        quoted: &[u8],
        door: Door,
        out: &mut Outbox,
    ) {
        let Some(branch) = Branch::search(quoted) else {
            return;
        };
        if quoted.starts_with(b"SIP/") {
            return;
        }
        let method = sip::Method::parse(
            quoted
                .split(|octet| *octet == b' ')
                .next()
                .unwrap_or_default(),
        );
        match self.transactions.find_client(branch.token, method) {
            Some(client)
                if self
                    .transactions
                    .client_flow(client)
                    .is_some_and(|flow| flow.remote == to.remote) =>
            {
                self.metrics.count(Counter::Unreachable);
                self.transactions.unreachable(now, client);
                self.settle(now, out);
            }
            Some(_) => {}
            None if door == Door::Socket => self.mail_bounce(to, quoted),
            None => {}
        }
    }

    /// The kernel may report an error on another shard's socket than the one that sent.
    fn mail_bounce(&mut self, to: Flow, quoted: &[u8]) {
        let shards = self.shared.mail.shards() as u16;
        let mut scratch = self.take_scratch();
        let call_id = match sip::parse(quoted, &mut scratch) {
            Ok(message) => message.value(HeaderId::CallId),
            Err(rejected) => rejected
                .partial
                .and_then(|message| message.value(HeaderId::CallId)),
        };
        let owner = call_id.map(|call_id| owner(call_id, &self.shared.owner_key, shards));
        self.scratch = Some(scratch);
        if let Some(owner) = owner.filter(|owner| *owner != self.id) {
            self.mail_to(owner, to, true, quoted);
        }
    }
}
