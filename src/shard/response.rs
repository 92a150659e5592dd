//! The walk of a response (RFC 3261 §16.7): whose request is it for, does it end an attempt or the
//! whole transaction, and what does it teach about the call.

use core::mem;

use super::Shard;
use super::branch::{self, Branch};
use super::journal::Step;
use super::relay::{Alarm, Attempt, Purpose, Setup};
use crate::base::Instant;
use crate::cdr::AttemptEnd;
use crate::guard::strangers::Offence;
use crate::metrics::{Counter, Leg, TrunkCounter};
use crate::net::{Flow, Outbox};
use crate::route::health::Passive;
use crate::sip::{HeaderId, Message, Method, validate_response_and};
use crate::transaction::{ClientId, ServerId, Timer, Verdict};

impl Shard {
    /// Takes one response.
    pub(super) fn on_response(
        &mut self,
        now: Instant,
        from: Flow,
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        // The transaction is looked for while the rest of the message is read.
        let mut token = None;
        let valid = validate_response_and(message, |via| {
            token = via.branch.and_then(Branch::parse).map(|ours| ours.token);
            if let Some(token) = token {
                self.transactions.expect_client(token, message.method());
            }
        });
        let Ok(via) = valid else {
            return self.metrics.count(Counter::DroppedMalformedResponse);
        };
        //= rfc3261#18.1.2
        if !self.is_us(&via.host, via.port) {
            self.note_stranger(now, from, Offence::Unasked);
            return self.metrics.count(Counter::DroppedForeignVia);
        }
        let Some(token) = token.filter(|token| {
            branch::is_ours(&self.secret, *token, message.call_id_hash(&self.secret))
        }) else {
            self.note_stranger(now, from, Offence::Unasked);
            return self.metrics.count(Counter::DroppedStrayResponse);
        };
        match self.transactions.find_client(token, message.method()) {
            Some(client) => self.on_answer(now, client, message, out),
            None => self.on_forgotten(now, from, message, out),
        }
    }

    /// A response to a request of ours: the transaction looks at it first.
    fn on_answer(
        &mut self,
        now: Instant,
        client: ClientId,
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        if !self.has_way_back(client, message) {
            return self.metrics.count(Counter::DroppedMalformedResponse);
        }
        let mut scratch = self.take_replay_scratch();
        let verdict = self
            .transactions
            .received(now, client, message, &mut scratch, out);
        self.replay_scratch = Some(scratch);
        let attempt = match verdict {
            Verdict::PassUp => self.transactions.client_user(client).copied(),
            Verdict::Absorb => None,
        };
        match attempt {
            Some(Attempt::Relay { server, trunk_out }) => {
                if let Some(slot) = trunk_out {
                    self.count_answer(slot, message.status());
                    self.hear_feedback(now, slot, message);
                    if message.status() != 503 {
                        self.hear(now, slot);
                    }
                }
                self.on_relayed(now, server, client, message, out);
            }
            Some(Attempt::Probe {
                slot,
                address_index,
                sent,
            }) => {
                if message.status() >= 200 {
                    let rtt = now.since(sent);
                    let is_alive = self.keeper.probe_answered(
                        now,
                        slot,
                        usize::from(address_index),
                        message.status(),
                        rtt,
                    );
                    if !is_alive {
                        self.metrics.count_trunk(slot, TrunkCounter::ProbesFailed);
                    }
                }
            }
            Some(Attempt::Cancel | Attempt::Bye) => {}
            None => self.metrics.count(Counter::Retransmissions),
        }
    }

    /// Whether the answer to a forwarded request still has the Via of the one who sent it to us;
    /// without that he could do nothing with it.
    //= rfc3261#16.7
    fn has_way_back(&self, client: ClientId, message: &Message<'_>) -> bool {
        match self.transactions.client_user(client) {
            Some(Attempt::Relay { .. }) => message.values(HeaderId::Via).nth(1).is_some(),
            Some(Attempt::Cancel | Attempt::Probe { .. } | Attempt::Bye) | None => true,
        }
    }

    /// A response to a request that we forwarded.
    fn on_relayed(
        &mut self,
        now: Instant,
        server: ServerId,
        client: ClientId,
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        let Some(relay) = self.transactions.server_user(server) else {
            return self.on_orphaned(now, client, message, out);
        };
        let (purpose, is_current) = (relay.purpose, relay.client == Some(client));
        let is_invite = relay.method == Method::Invite;
        if !is_current {
            return self.on_abandoned(now, server, client, message, out);
        }
        if let Purpose::Setup(_) = purpose {
            self.note(
                message,
                Step::Answer {
                    status: message.status(),
                },
            );
        }
        match (message.status(), purpose) {
            (100, _) => self.note_trying(now, server, client, out),
            //= rfc4320#4.1
            (101..=199, _) if !is_invite => self.metrics.count(Counter::DroppedNonInviteAnswer),
            //= rfc4320#4.2
            (408, _) if !is_invite => self.keep_silent(now, server, purpose, message),
            (101..=199, _) => {
                self.note_provisional(now, server, client, out);
                self.learn_early(purpose, message);
                if let Purpose::Setup(setup) = purpose
                    && message.status() >= 180
                {
                    self.account_ringing(now, setup.call);
                    self.session_indicated(now, &setup);
                }
                self.pass_up(now, server, message, out);
            }
            (200..=299, Purpose::Setup(setup)) => self.answered(now, server, &setup, message, out),
            (_, Purpose::Setup(setup)) => self.attempt_refused(now, server, &setup, message, out),
            (_, Purpose::InDialog { .. } | Purpose::Outside { .. } | Purpose::Local) => {
                self.relayed_final(now, server, purpose, message, out);
            }
        }
    }

    fn count_answer(&self, slot: u16, status: u16) {
        let counter = match status / 100 {
            1 => TrunkCounter::Final1xx,
            2 => TrunkCounter::Final2xx,
            3 => TrunkCounter::Final3xx,
            4 => TrunkCounter::Final4xx,
            5 => TrunkCounter::Final5xx,
            _ => TrunkCounter::Final6xx,
        };
        self.metrics.count_trunk(slot, counter);
    }

    /// An answer whose request is over for its sender: a phone that rings is told to stop.
    fn on_orphaned(
        &mut self,
        now: Instant,
        client: ClientId,
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        if message.status() < 200 && message.method() == Method::Invite {
            self.send_cancel(now, client, None, out);
        } else {
            self.pass_late(message, out);
        }
    }

    /// An answer of an attempt that was given up: a phone that rings is told to stop, a 2xx is still
    /// the caller's.
    fn on_abandoned(
        &mut self,
        now: Instant,
        server: ServerId,
        client: ClientId,
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        match message.status() {
            100..=199 => self.send_cancel(now, client, None, out),
            200..=299 => {
                let attempt = self.transactions.client_user(client).copied();
                if let Some(Attempt::Relay {
                    trunk_out: Some(slot),
                    ..
                }) = attempt.filter(|_| self.is_pending_setup(server))
                {
                    let callee = self.transactions.client_flow(client);
                    self.return_to(now, server, Some(client), slot, callee, out);
                }
                if let Some(setup) = self.setup_of(server) {
                    self.answered(now, server, &setup, message, out);
                }
            }
            _ => {}
        }
    }

    /// A given-up attempt was answered before the one under way: the call moves back to its trunk,
    /// with its lease whatever the limits say, and the attempt under way is given up.
    pub(super) fn return_to(
        &mut self,
        now: Instant,
        server: ServerId,
        client: Option<ClientId>,
        slot: u16,
        callee: Option<Flow>,
        out: &mut Outbox,
    ) {
        let Some(relay) = self.transactions.server_user_mut(server) else {
            return;
        };
        let overtaken = mem::replace(&mut relay.client, client);
        let rings = mem::replace(&mut relay.provisional, true);
        let Purpose::Setup(setup) = &mut relay.purpose else {
            return;
        };
        let call = setup.call;
        setup.trunk_out = Some(slot);
        self.account_returned(now, call, slot);
        if let Some(overtaken) = overtaken {
            if rings {
                self.send_cancel(now, overtaken, None, out);
            }
            self.transactions.abandon_client(now, overtaken);
        }
        self.metrics.count(Counter::CallsReturned);
        self.move_call(call, slot, callee);
    }

    /// A first provisional answer ends auto-congest and starts timer C; each further one starts
    /// timer C again. A CANCEL that waited for it goes out.
    //= rfc3261#16.7
    pub(super) fn note_provisional(
        &mut self,
        now: Instant,
        server: ServerId,
        client: ClientId,
        out: &mut Outbox,
    ) {
        let timer_c = self.plan.timings.timer_c;
        let Some(relay) = self.transactions.server_user_mut(server) else {
            return;
        };
        if relay.method != Method::Invite {
            return;
        }
        let is_first = !mem::replace(&mut relay.provisional, true);
        let cancel_waits = is_first && relay.cancelled;
        self.alarms.cancel(relay.timer);
        relay.timer = self
            .alarms
            .arm(now + timer_c, Alarm::TimerC(server))
            .unwrap_or_default();
        if cancel_waits {
            self.send_waiting_cancel(now, server, client, out);
        }
        if is_first {
            self.record_setup(server);
            self.learn_alive(now, server);
        }
    }

    /// A 100 starts timer C as any first answer does, but a later one does not start it again.
    //= rfc3261#16.7
    fn note_trying(&mut self, now: Instant, server: ServerId, client: ClientId, out: &mut Outbox) {
        let relay = self.transactions.server_user(server);
        if relay.is_some_and(|relay| !relay.provisional) {
            self.note_provisional(now, server, client, out);
        }
    }

    fn learn_alive(&mut self, now: Instant, server: ServerId) {
        if let Some(setup) = self.setup_of(server) {
            self.signal(now, &setup, Passive::Answered);
        }
    }

    fn learn_early(&mut self, purpose: Purpose, message: &Message<'_>) {
        if let (Purpose::Setup(setup), Some(tag)) = (purpose, message.to_tag()) {
            // Full: the response still passes; only requests inside that early dialog are not known.
            let _known = self.calls.learn_fork(setup.call, self.secret.hash(tag));
        }
    }

    /// A 2xx to the INVITE of a call.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        server: ServerId,
        setup: &Setup,
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        self.disarm(server);
        self.confirm(now, server, setup, message);
        self.pass_up(now, server, message, out);
    }

    /// A final answer that is no success: the next candidate after a 503, else it is the caller's.
    fn attempt_refused(
        &mut self,
        now: Instant,
        server: ServerId,
        setup: &Setup,
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        self.disarm(server);
        match message.status() {
            503 => self.signal(now, setup, Passive::Status503),
            // Somebody behind the trunk was silent: that says nothing about the trunk.
            408 => {}
            _ => self.signal(now, setup, Passive::Answered),
        }
        if message.status() != 503 {
            self.account_final(now, setup.call, message);
            self.session_ended(setup.trunk_out, Leg::Out, message.status());
            self.session_ended(Some(setup.trunk_in), Leg::In, message.status());
            self.pass_up(now, server, message, out);
            return self.end_call(setup.call, "refused by the callee");
        }
        if self
            .transactions
            .server_user(server)
            .is_some_and(|relay| relay.cancelled)
        {
            return self.answer_cancelled(now, server, out);
        }
        self.next_after(now, server, out, AttemptEnd::Status, |passed| {
            passed.answered_503 = true
        });
    }

    /// Notes why the attempt failed and tries the next candidate.
    pub(super) fn next_after(
        &mut self,
        now: Instant,
        server: ServerId,
        out: &mut Outbox,
        why: AttemptEnd,
        note: impl FnOnce(&mut super::relay::Passed),
    ) {
        if let Some(relay) = self.transactions.server_user_mut(server)
            && let Purpose::Setup(setup) = &mut relay.purpose
        {
            note(&mut setup.passed);
            let (call, trunk_out) = (setup.call, setup.trunk_out);
            relay.client = None;
            relay.provisional = false;
            let code = if why == AttemptEnd::Status { 503 } else { 0 };
            self.account_attempt_over(now, call, why, code);
            self.note_call(call, Step::Failed { why });
            self.session_ended(trunk_out, Leg::Out, 503);
        }
        self.fail_over(now, server, out);
    }

    /// A final answer to a request that is not a call set-up.
    fn relayed_final(
        &mut self,
        now: Instant,
        server: ServerId,
        purpose: Purpose,
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        self.disarm(server);
        if let Purpose::InDialog { call, fork } = purpose {
            match message.method() {
                Method::Bye => self.end_fork(call, fork),
                Method::Invite | Method::Update if message.status() / 100 == 2 => {
                    let granted = self.granted(server, message);
                    self.refresh_session(now, call, granted);
                }
                _ => {}
            }
        }
        self.pass_up(now, server, message, out);
    }

    /// A 408 to a request that is no INVITE: its sender has given up or soon will, and must not be
    /// told. The request stays known that long, so that its copies are absorbed.
    //= rfc4320#4.2
    fn keep_silent(
        &mut self,
        now: Instant,
        server: ServerId,
        purpose: Purpose,
        message: &Message<'_>,
    ) {
        self.metrics.count(Counter::DroppedNonInviteAnswer);
        self.disarm(server);
        let wait = self.plan.timings.first(Timer::F, false);
        let alarm = wait.and_then(|wait| self.alarms.arm(now + wait, Alarm::Silence(server)).ok());
        match (self.transactions.server_user_mut(server), alarm) {
            (Some(relay), Some(alarm)) => {
                relay.client = None;
                relay.timer = alarm;
            }
            (Some(_), None) => self.transactions.abandon_server(server),
            (None, alarm) => {
                self.alarms.cancel(alarm.unwrap_or_default());
            }
        }
        match purpose {
            Purpose::InDialog { call, fork } if message.method() == Method::Bye => {
                self.end_fork(call, fork);
            }
            _ => {}
        }
    }

    /// Sends a response on to where the request came from, without our Via.
    pub(super) fn pass_up(
        &mut self,
        now: Instant,
        server: ServerId,
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        let is_refused = self
            .transactions
            .last_status(server)
            .is_some_and(|status| status >= 300);
        //= rfc3261#16.7 a 2xx passes even behind another final answer
        if is_refused && message.status() / 100 == 2 {
            return self.pass_late(message, out);
        }
        self.splice_response(message);
        self.splice_granted(server, message);
        let edit = &self.edit;
        // A 503 that is passed on would stop the caller's side from using us at all (§16.7 step 6).
        let status = if message.status() == 503 {
            500
        } else {
            message.status()
        };
        let sent = self.transactions.respond(
            now,
            server,
            status,
            |cursor| {
                if edit.write(message.bytes(), cursor).is_err() {
                    cursor.spoil();
                }
            },
            out,
        );
        self.count_sent(sent.is_ok());
        // The callee repeats a 2xx to an INVITE; nobody repeats any other final answer.
        let comes_again = status < 200 || status < 300 && message.method() == Method::Invite;
        if sent.is_err() && !comes_again {
            self.transactions.abandon_server(server);
        }
    }

    /// Takes our Via off; a 503 becomes a 500.
    //= rfc3261#16.7
    pub(super) fn splice_response(&mut self, message: &Message<'_>) {
        self.edit.begin();
        self.edit.remove_top_via(message);
        let feedback = self.feedback();
        self.edit.tell_load(message, &feedback);
        if message.status() == 503 {
            self.edit.replace(status_range(message), b"500");
        }
    }
}

/// The three digits of a status line.
fn status_range(message: &Message<'_>) -> core::ops::Range<usize> {
    // A parsed status line has exactly one space in front of its code.
    let code = memchr::memchr(b' ', message.bytes()).map_or(0, |at| at + 1);
    code..code + 3
}
