//! Requests of the operator, answered between two datagrams.

use std::sync::Arc;

use super::Shard;
use super::mail::{Ask, CallFilter, CallRow, CallsPage, Census, TrunkOrder};
use crate::base::Instant;
use crate::dialog::{CallKey, Part};
use crate::net::Outbox;
use crate::route::health::Order;
use crate::transaction;

impl Shard {
    /// Answers one request; an asker who went away loses the answer, nothing else.
    pub(super) fn answer(&mut self, now: Instant, ask: Ask, out: &mut Outbox) {
        match ask {
            Ask::Swap { plan, done } => {
                *self.plan = Arc::unwrap_or_clone(plan);
                self.adopt(now);
                let _gone = done.send(());
            }
            Ask::Account { accounting, done } => {
                self.account_to(accounting.map(|accounting| *accounting));
                let _gone = done.send(());
            }
            Ask::Calls {
                from_index,
                rows_max,
                filter,
                reply,
            } => {
                let _gone = reply.send(self.calls_page(now, from_index, rows_max, &filter));
            }
            Ask::Call { call_id, reply } => {
                let _gone = reply.send(self.call_details(now, &call_id));
            }
            Ask::Trunk { slot, order, done } => {
                let order = match order {
                    TrunkOrder::Drain => Order::Drain,
                    TrunkOrder::Enable => Order::Enable,
                    TrunkOrder::Disable => Order::Disable,
                    TrunkOrder::Probe => Order::Probe,
                };
                let _gone = done.send(
                    self.keeper
                        .order(now, slot, order)
                        .map_err(|fault| fault.text()),
                );
            }
            Ask::Transitions { reply } => {
                let _gone = reply.send(self.keeper.transitions().copied().collect());
            }
            Ask::Recount { reply } => {
                let _gone = reply.send(self.recount(now));
            }
            Ask::Census { reply } => {
                let _gone = reply.send(self.census());
            }
            Ask::Why { call_id, reply } => {
                let _gone = reply.send(self.why(now, &call_id));
            }
            Ask::Messages { call_id, reply } => {
                let _gone = reply.send(self.messages_of(now, &call_id));
            }
            Ask::Tap { tap, done } => {
                self.set_tap(tap);
                let _gone = done.send(());
            }
            Ask::EndCall { call_id, reply } => {
                let found = self.calls.find_call_id(self.secret.hash(&call_id));
                if let Some(call) = found {
                    self.account_reason(call, "ended by operator");
                    self.hang_up(now, call, b"Q.850;cause=16;text=\"ended by operator\"", out);
                }
                let _gone = reply.send(found.is_some());
            }
            #[expect(
                clippy::panic,
                reason = "the operator asked for it, to see the supervisor at work"
            )]
            Ask::Panic => panic!("asked for by `callgate debug panic-shard`"),
            Ask::Stall { until } => {
                let _other_end_gone = until.recv();
            }
        }
    }

    /// How full the tables are.
    pub fn census(&self) -> Census {
        Census {
            calls: self.calls.len(),
            dialogs: self.calls.forks_len(),
            dialogs_max: self.calls.capacity(),
            server_transactions: self.transactions.servers_len(),
            client_transactions: self.transactions.clients_len(),
            transactions_max: self.transactions.capacity(),
            stored_bytes: self.transactions.stored_bytes() + self.requests.used(),
            stored_bytes_max: self.requests.capacity(),
            timers: self.transactions.timers_len() + self.alarms.len() + self.calls.timers_len(),
            overload: self.overload(),
        }
    }

    /// What the transaction table did by itself.
    pub fn transaction_counters(&self) -> transaction::Counters {
        self.transactions.counters()
    }

    fn calls_page(
        &self,
        now: Instant,
        from: u32,
        rows_max: usize,
        filter: &CallFilter,
    ) -> CallsPage {
        let mut rows = Vec::with_capacity(rows_max.min(1024));
        let mut at = from;
        let mut looked_at = 0;
        while let Some(key) = self.calls.next_from(at) {
            // Calls looked at, not rows: a filter that matches nothing must not hold up the shard.
            if looked_at == rows_max {
                return CallsPage {
                    rows,
                    next_index: Some(key.0.index),
                };
            }
            looked_at += 1;
            at = key.0.index + 1;
            if self.is_wanted(now, key, filter) {
                rows.extend(self.call_row(now, key));
            }
        }
        CallsPage {
            rows,
            next_index: None,
        }
    }

    fn is_wanted(&self, now: Instant, key: CallKey, filter: &CallFilter) -> bool {
        self.calls.call(key).is_some_and(|call| {
            let over = |slot| call.trunk_in == slot || call.trunk_out() == Some(slot);
            filter.trunk_slot.is_none_or(over)
                && filter.phase.is_none_or(|phase| call.phase == phase)
                && call.age(now) >= filter.age_min
        })
    }

    /// A live call as lists show it.
    pub(super) fn call_row(&self, now: Instant, key: CallKey) -> Option<CallRow> {
        let call = self.calls.call(key)?;
        let kept = self.calls.words(key);
        let words = |part| String::from_utf8_lossy(kept.word(part)).into_owned();
        Some(CallRow {
            call_id: words(Part::CallId),
            state: call.phase.text(),
            trunk_in_slot: call.trunk_in,
            trunk_out_slot: call.trunk_out(),
            age: call.age(now),
            answered_for: call.answered.map(|answered| now.since(answered)),
            caller: self.calls.caller(call)?.remote,
            callee: self.calls.callee(call).map(|callee| callee.remote),
            from: words(Part::From),
            to: words(Part::To),
        })
    }
}
