//! CANCEL (RFC 3261 §9.2, §16.10): answered at once, passed to the attempt under way as soon as
//! that one may be cancelled.

use core::mem;

use super::Shard;
use super::journal::Step;
use super::refusal::Refusal;
use super::relay::Attempt;
use crate::base::Instant;
use crate::metrics::Leg;
use crate::net::{Flow, Outbox};
use crate::sip::{self, HeaderId, Message, Method, Via, compose};
use crate::transaction::{ClientId, ServerId};

impl Shard {
    /// Takes one CANCEL.
    pub(super) fn on_cancel(
        &mut self,
        now: Instant,
        from: Flow,
        message: &Message<'_>,
        via: &Via<'_>,
        out: &mut Outbox,
    ) {
        let target = self.transactions.cancel_target_key(message, via);
        let Some(server) = self.transactions.find_server(&target) else {
            return self.refuse_stateless(from, message, Refusal::NO_TRANSACTION, out);
        };
        if !self.is_same_hop(server, from) {
            return self.refuse_stateless(from, message, Refusal::FOREIGN_CANCEL, out);
        }
        let tag = self.own_tag(message);
        let asker = self.asker(from);
        self.answer_stateless(from, message, out, |cursor| {
            compose::response(cursor, message, asker, 200, "OK", Some(&tag), &[]);
        });
        if self.is_answered(server) {
            return;
        }
        self.note(message, Step::Cancelled);
        if let Some(setup) = self.setup_of(server) {
            self.account_cancelled(setup.call);
        }
        let mut buffer = [0; REASON_OCTETS_MAX];
        let reason = reasons(message, &mut buffer);
        self.cancel_attempt(now, server, reason, out);
    }

    /// Whether a CANCEL comes from the hop that sent the request: the same address, or the same trunk
    /// at another of its own. Branches and Call-IDs of callers can often be guessed, addresses cannot.
    //= rfc3261#9.1
    fn is_same_hop(&self, server: ServerId, from: Flow) -> bool {
        let Some(relay) = self.transactions.server_user(server) else {
            return false;
        };
        let trunk = |flow: Flow| self.sources.lookup(flow.remote).map(|(trunk, _)| trunk);
        relay.from.remote.ip() == from.remote.ip()
            || trunk(from).is_some() && trunk(from) == trunk(relay.from)
    }

    pub(super) fn is_answered(&self, server: ServerId) -> bool {
        self.transactions
            .last_status(server)
            .is_some_and(|status| status >= 200)
    }

    /// Cancels the attempt under way, at once or with its first provisional answer.
    //= rfc3261#9.1
    pub(super) fn cancel_attempt(
        &mut self,
        now: Instant,
        server: ServerId,
        reason: Option<&[u8]>,
        out: &mut Outbox,
    ) {
        let Some(relay) = self.transactions.server_user_mut(server) else {
            return;
        };
        let is_first = !mem::replace(&mut relay.cancelled, true);
        if !is_first || relay.method != Method::Invite {
            return;
        }
        match relay.client {
            Some(client) if relay.provisional => self.send_cancel(now, client, reason, out),
            Some(_) => {
                let reason = reason.and_then(|reason| self.requests.store(reason));
                relay.cancel_reason = reason.unwrap_or_default();
            }
            None => return self.answer_cancelled(now, server, out),
        }
        self.record_setup(server);
    }

    /// Cancels the attempt under way because nobody waits for its answer: where it has not answered
    /// at all the INVITE is not repeated, and a phone that rings later is cancelled then.
    pub(super) fn give_up_attempt(&mut self, now: Instant, server: ServerId, out: &mut Outbox) {
        self.cancel_attempt(now, server, None, out);
        let relay = self.transactions.server_user(server);
        if let Some(client) = relay.and_then(|relay| relay.client) {
            self.transactions.abandon_client(now, client);
        }
    }

    /// Sends the CANCEL that waited for the first provisional answer.
    pub(super) fn send_waiting_cancel(
        &mut self,
        now: Instant,
        server: ServerId,
        client: ClientId,
        out: &mut Outbox,
    ) {
        let kept = self
            .transactions
            .server_user(server)
            .map(|relay| self.requests.get(relay.cancel_reason))
            .unwrap_or_default();
        let mut buffer = [0; REASON_OCTETS_MAX];
        let reason = buffer.get_mut(..kept.len()).map(|room| {
            room.copy_from_slice(kept);
            &*room
        });
        let reason = reason.filter(|reason| !reason.is_empty());
        self.send_cancel(now, client, reason, out);
    }

    /// What the caller is told of an INVITE that was cancelled: 487 for its own CANCEL, 408 where
    /// timer C was the reason.
    //= rfc3261#16.8
    pub(super) fn why_cancelled(&self, server: ServerId) -> Refusal {
        match self.transactions.server_user(server) {
            Some(relay) if relay.rang_out => Refusal::TIMED_OUT,
            Some(_) | None => Refusal::CANCELLED,
        }
    }

    /// An answer of our own, where none of the callee can be waited for.
    pub(super) fn answer_cancelled(&mut self, now: Instant, server: ServerId, out: &mut Outbox) {
        let refusal = self.why_cancelled(server);
        self.with_request(server, |shard, message| match shard.setup_of(server) {
            Some(setup) => {
                shard.session_ended(setup.trunk_out, Leg::Out, 487);
                shard.fail_setup(now, server, &setup, message, refusal, out);
            }
            None => shard.refuse_server(now, server, message, refusal, out),
        });
    }

    /// Sends the CANCEL of an attempt, unless one is under way; its transaction then waits 64*T1 for
    /// a final answer.
    pub(super) fn send_cancel(
        &mut self,
        now: Instant,
        client: ClientId,
        reason: Option<&[u8]>,
        out: &mut Outbox,
    ) {
        let Some(to) = self.transactions.client_flow(client) else {
            return;
        };
        let mut bytes = mem::take(&mut self.replay);
        let mut scratch = self.take_replay_scratch();
        let request = self.transactions.client_request(client).unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(request);
        if let Ok(invite) = sip::parse(&bytes, &mut scratch)
            && let Some(token) = own_token(&invite)
            && self
                .transactions
                .find_client(token, Method::Cancel)
                .is_none()
        {
            let compose =
                |cursor: &mut crate::base::Cursor<'_>| compose::cancel(cursor, &invite, reason);
            let sent = self.transactions.send(
                now,
                token,
                Method::Cancel,
                to,
                Attempt::Cancel,
                compose,
                out,
            );
            self.count_sent(sent.is_ok());
            self.transactions.cancelled(now, client);
        }
        self.replay = bytes;
        self.replay_scratch = Some(scratch);
    }
}

/// Room for the Reason of a CANCEL; a longer one is left out.
const REASON_OCTETS_MAX: usize = 512;

/// All Reason values of a message as one list (RFC 3326 §2).
fn reasons<'b>(message: &Message<'_>, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let mut cursor = crate::base::Cursor::new(buffer);
    let fields = message.fields().iter();
    for field in fields.filter(|field| field.id == HeaderId::Reason) {
        if !cursor.is_empty() {
            cursor.put(b", ");
        }
        cursor.put(field.value(message));
    }
    let len = if cursor.overflowed() { 0 } else { cursor.len() };
    (len > 0).then(|| &buffer[..len])
}

fn own_token(sent: &Message<'_>) -> Option<u64> {
    let via = sent.top_via().ok()?;
    via.branch
        .and_then(super::branch::Branch::parse)
        .map(|branch| branch.token)
}
