//! What time asks for: transactions that ran out, alarms of calls, probes that are due.

use super::Shard;
use super::journal::Step;
use super::ledger::GRACE;
use super::refusal::Refusal;
use super::relay::{Alarm, Attempt, Purpose, Relay};
use crate::base::Instant;
use crate::cdr::AttemptEnd;
use crate::dialog::{CallKey, Due, Phase};
use crate::metrics::TrunkCounter;
use crate::net::Outbox;
use crate::route::health::Passive;
use crate::sip::Method;
use crate::transaction::{ClientId, Event, ServerId};

impl Shard {
    /// Does everything that is due at `now`.
    pub fn on_deadline(&mut self, now: Instant, out: &mut Outbox) {
        self.journal.set_time(now);
        let mark = out.len();
        self.do_what_is_due(now, out);
        self.observe_sent(now, mark, out);
    }

    fn do_what_is_due(&mut self, now: Instant, out: &mut Outbox) {
        self.settle(now, out);
        while let Some(alarm) = self.alarms.pop_expired(now) {
            self.ring(now, alarm, out);
            if out.is_nearly_full() {
                return;
            }
        }
        while let Some((call, due)) = self.calls.pop_due(now) {
            self.call_is_due(now, call, due, out);
            if out.is_nearly_full() {
                return;
            }
        }
        self.probe_due(now, out);
        self.settle(now, out);
    }

    /// Lets the transactions repeat and end what is due, and hears of it.
    pub(super) fn settle(&mut self, now: Instant, out: &mut Outbox) {
        while !out.is_nearly_full() {
            let Some(event) = self.transactions.expire(now, out) else {
                return;
            };
            match event {
                Event::ClientTimedOut(client) => self.timed_out(now, client, out),
                Event::ClientFailed(client) => self.failed(now, client, out),
                Event::ClientGone(client, attempt) => self.gone(now, client, attempt, out),
                Event::ServerTimedOut(_) => {}
                Event::ServerGone(_, relay) => self.forget(relay),
            }
        }
    }

    /// A client transaction is gone. Where its server transaction was never answered, because the
    /// outbox was full when the answer came, nobody else will.
    fn gone(&mut self, now: Instant, client: ClientId, attempt: Attempt, out: &mut Outbox) {
        let Attempt::Relay { server, .. } = attempt else {
            return;
        };
        let Some(relay) = self
            .transactions
            .server_user(server)
            .filter(|relay| relay.client == Some(client))
        else {
            return;
        };
        let (method, purpose) = (relay.method, relay.purpose);
        if self.is_answered(server) {
            return;
        }
        self.disarm(server);
        match purpose {
            Purpose::Setup(setup) => {
                self.with_request(server, |shard, message| {
                    shard.fail_setup(now, server, &setup, message, Refusal::ALL_503, out);
                });
            }
            Purpose::InDialog { .. } | Purpose::Outside { .. } | Purpose::Local
                if method == Method::Invite =>
            {
                self.with_request(server, |shard, message| {
                    shard.refuse_server(now, server, message, Refusal::ALL_503, out);
                });
            }
            Purpose::InDialog { .. } | Purpose::Outside { .. } | Purpose::Local => {
                self.transactions.abandon_server(server);
            }
        }
    }

    /// A server transaction is gone: what was kept for it goes too.
    fn forget(&mut self, relay: Relay) {
        self.requests.free(relay.request);
        self.requests.free(relay.cancel_reason);
        self.alarms.cancel(relay.timer);
        if let Purpose::Setup(setup) = relay.purpose
            && self
                .calls
                .call(setup.call)
                .is_some_and(|call| call.phase == Phase::Ringing)
        {
            self.end_call(setup.call, "its INVITE was forgotten");
        }
    }

    fn ring(&mut self, now: Instant, alarm: Alarm, out: &mut Outbox) {
        match alarm {
            Alarm::Congest(server) => self.congested(now, server, out),
            Alarm::TimerC(server) => self.timer_c(now, server, out),
            Alarm::Trying(server) => self.try_longer(now, server, out),
            Alarm::Silence(server) => self.transactions.abandon_server(server),
            Alarm::CancelAgain(server) => self.cancel_again(now, server, out),
        }
    }

    /// A timer of a call rings.
    fn call_is_due(&mut self, now: Instant, call: CallKey, due: Due, out: &mut Outbox) {
        match due {
            Due::Session => self.end_call(call, "nobody refreshed the session"),
            // Its end is on the way already: a BYE of ours would cross it. No longer than a BYE is
            // repeated.
            Due::CallTime if self.calls.is_hanging_up(call) => {
                self.calls.put_call_time_off(call, now + GRACE);
            }
            Due::CallTime | Due::CallTimeAgain => {
                self.note_call(
                    call,
                    Step::Ended {
                        why: "call_time_max, BYE to both",
                    },
                );
                self.account_reason(call, "call_time_max");
                self.hang_up(now, call, b"Q.850;cause=102;text=\"call_time_max\"", out);
            }
        }
    }

    /// Nobody answered the attempt at all: the next candidate.
    fn congested(&mut self, now: Instant, server: ServerId, out: &mut Outbox) {
        let Some(setup) = self
            .setup_of(server)
            .filter(|_| self.is_pending_setup(server))
        else {
            return;
        };
        let Some(relay) = self.transactions.server_user(server) else {
            return;
        };
        let (client, cancelled) = (relay.client, relay.cancelled);
        if let Some(client) = client {
            self.transactions.abandon_client(now, client);
        }
        self.signal_silence(now, &setup);
        if cancelled {
            return self.answer_cancelled(now, server, out);
        }
        self.next_after(now, server, out, AttemptEnd::Silence, |passed| {
            passed.congested = true;
        });
    }

    /// The callee rang for too long.
    //= rfc3261#16.8
    fn timer_c(&mut self, now: Instant, server: ServerId, out: &mut Outbox) {
        if let Some(relay) = self.transactions.server_user_mut(server) {
            relay.rang_out = !relay.cancelled;
        }
        self.cancel_attempt(now, server, None, out);
    }

    /// 100 to a request that is no INVITE, so that its sender repeats it less often.
    //= rfc4320#4.1
    fn try_longer(&mut self, now: Instant, server: ServerId, out: &mut Outbox) {
        if self.transactions.last_status(server).is_some() {
            return;
        }
        self.with_request(server, |shard, message| {
            shard.answer_trying(now, server, message, out);
        });
    }

    /// A request was never answered (timers B and F, or the wait after a CANCEL).
    fn timed_out(&mut self, now: Instant, client: ClientId, out: &mut Outbox) {
        match self.transactions.client_user(client).copied() {
            Some(Attempt::Relay { server, .. }) => self.relay_timed_out(now, server, client, out),
            Some(Attempt::Probe {
                slot,
                address_index,
                ..
            }) => {
                self.metrics.count_trunk(slot, TrunkCounter::ProbesFailed);
                self.keeper
                    .probe_timed_out(now, slot, usize::from(address_index));
            }
            Some(Attempt::Cancel | Attempt::Bye) | None => {}
        }
    }

    fn relay_timed_out(
        &mut self,
        now: Instant,
        server: ServerId,
        client: ClientId,
        out: &mut Outbox,
    ) {
        let Some(relay) = self
            .transactions
            .server_user(server)
            .filter(|relay| relay.client == Some(client))
        else {
            return;
        };
        let (purpose, method, cancelled) = (relay.purpose, relay.method, relay.cancelled);
        self.disarm(server);
        match purpose {
            Purpose::Setup(_) if cancelled => self.answer_cancelled(now, server, out),
            Purpose::Setup(setup) => {
                self.count_timeout(setup.trunk_out);
                self.signal_silence(now, &setup);
                self.next_after(now, server, out, AttemptEnd::Silence, |passed| {
                    passed.congested = true;
                });
            }
            Purpose::InDialog { call, fork } if method == Method::Bye => {
                self.transactions.abandon_server(server);
                self.end_fork(call, fork);
            }
            Purpose::InDialog { .. } | Purpose::Outside { .. } | Purpose::Local
                if method == Method::Invite =>
            {
                let refusal = if cancelled {
                    self.why_cancelled(server)
                } else {
                    Refusal::TIMED_OUT
                };
                self.with_request(server, |shard, message| {
                    shard.refuse_server(now, server, message, refusal, out);
                });
            }
            // RFC 4320 §4.2: a 408 to anything but an INVITE comes too late to be of use.
            Purpose::InDialog { .. } | Purpose::Local => self.transactions.abandon_server(server),
            Purpose::Outside {
                trunk_out,
                address_index,
            } => {
                self.count_timeout(trunk_out);
                if let Some(slot) = trunk_out {
                    self.signal_slot(now, slot, address_index, Passive::TimedOut);
                }
                self.transactions.abandon_server(server);
            }
        }
    }

    fn count_timeout(&self, slot: Option<u16>) {
        if let Some(slot) = slot {
            self.metrics.count_trunk(slot, TrunkCounter::TimedOut);
        }
    }

    /// The network refused a request of ours.
    fn failed(&mut self, now: Instant, client: ClientId, out: &mut Outbox) {
        match self.transactions.client_user(client).copied() {
            Some(Attempt::Relay { server, .. }) => self.relay_failed(now, server, client, out),
            Some(Attempt::Probe {
                slot,
                address_index,
                ..
            }) => {
                self.metrics.count_trunk(slot, TrunkCounter::ProbesFailed);
                self.keeper
                    .probe_refused(now, slot, usize::from(address_index));
            }
            Some(Attempt::Cancel | Attempt::Bye) | None => {}
        }
    }

    //= rfc3261#16.9
    fn relay_failed(&mut self, now: Instant, server: ServerId, client: ClientId, out: &mut Outbox) {
        let Some(relay) = self
            .transactions
            .server_user(server)
            .filter(|relay| relay.client == Some(client))
        else {
            return;
        };
        let (purpose, method, cancelled) = (relay.purpose, relay.method, relay.cancelled);
        self.disarm(server);
        match purpose {
            Purpose::Setup(_) if cancelled => return self.answer_cancelled(now, server, out),
            Purpose::Setup(setup) => {
                self.signal(now, &setup, Passive::Refused);
                return self.next_after(now, server, out, AttemptEnd::Unreachable, |passed| {
                    passed.down = true;
                });
            }
            Purpose::InDialog { .. } | Purpose::Local => {}
            Purpose::Outside {
                trunk_out,
                address_index,
            } => {
                if let Some(slot) = trunk_out {
                    self.signal_slot(now, slot, address_index, Passive::Refused);
                }
            }
        }
        self.with_request(server, |shard, message| {
            shard.refuse_server(now, server, message, Refusal::ALL_503, out);
        });
        match purpose {
            Purpose::InDialog { call, fork } if method == Method::Bye => self.end_fork(call, fork),
            _ => {}
        }
    }
}
