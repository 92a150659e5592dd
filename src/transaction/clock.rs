//! The timers of all transactions of a shard on one wheel. A transaction never has more than two:
//! one that repeats a message (A, E, G) and one that ends a state (all others).

use core::time::Duration;

use super::table::{ClientId, ServerId};
use super::timings::{Timer, Timings, is_reliable};
use crate::base::{Fresh, Instant, TimerId, Wheel};
use crate::net::Transport;

/// Whose timer it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    Server(ServerId),
    Client(ClientId),
}

/// What the wheel gives back when a timer fires.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    pub owner: Owner,
    pub timer: Timer,
}

/// The timers of one transaction.
#[derive(Debug, Default)]
pub(super) struct Running {
    repeat: TimerId,
    interval: Duration,
    ending: TimerId,
}

/// The wheel and the values it is fed with.
#[derive(Debug)]
pub(super) struct Clock {
    wheel: Wheel<Expiry>,
    timings: Timings,
}

impl Clock {
    /// Room for two timers in each of `transactions_max` transactions.
    pub fn new(transactions_max: usize, timings: Timings, now: Instant) -> Clock {
        Clock {
            wheel: Wheel::new(2 * transactions_max, now),
            timings,
        }
    }

    /// Memory that no timer ever took.
    pub fn fresh(&self) -> Fresh {
        self.wheel.fresh()
    }

    /// Takes other timer values for timers that start from here on.
    pub fn set_timings(&mut self, timings: Timings) {
        self.timings = timings;
    }

    /// Starts the repetition of a message, where the transport needs one.
    pub fn start_repeat(&mut self, now: Instant, expiry: Expiry, over: Transport) -> Running {
        let mut running = Running::default();
        if let Some(first) = self.timings.first(expiry.timer, is_reliable(over)) {
            self.repeat_after(now, &mut running, expiry, first);
        }
        running
    }

    /// Arms the next repetition after an interval twice as long as the last.
    pub fn repeat_doubled(&mut self, now: Instant, running: &mut Running, expiry: Expiry) {
        let interval = self.timings.doubled(running.interval);
        self.repeat_after(now, running, expiry, interval);
    }

    /// Arms the next repetition after an interval twice as long as the last, at most T2.
    pub fn repeat_doubled_to_t2(&mut self, now: Instant, running: &mut Running, expiry: Expiry) {
        let interval = self.timings.doubled_to_t2(running.interval);
        self.repeat_after(now, running, expiry, interval);
    }

    /// Arms the next repetition after T2.
    pub fn repeat_at_t2(&mut self, now: Instant, running: &mut Running, expiry: Expiry) {
        self.repeat_after(now, running, expiry, self.timings.t2);
    }

    /// Arms the timer that ends the state, in place of the one before.
    pub fn end_after(
        &mut self,
        now: Instant,
        running: &mut Running,
        expiry: Expiry,
        over: Transport,
    ) {
        self.wheel.cancel(running.ending);
        let span = self.timings.first(expiry.timer, is_reliable(over));
        running.ending = self.arm(now + span.unwrap_or_default(), expiry);
    }

    /// Stops both timers.
    pub fn stop(&mut self, running: &mut Running) {
        self.wheel.cancel(running.repeat);
        self.wheel.cancel(running.ending);
        *running = Running::default();
    }

    /// The next timer that is due.
    pub fn pop_expired(&mut self, now: Instant) -> Option<Expiry> {
        self.wheel.pop_expired(now)
    }

    /// Whose timers are the next two that are due with the one that came last.
    pub fn upcoming(&self) -> [Option<Owner>; 2] {
        self.wheel
            .upcoming()
            .map(|expiry| expiry.map(|expiry| expiry.owner))
    }

    /// When the next timer may be due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next_deadline()
    }

    /// Timers that are armed.
    pub fn len(&self) -> usize {
        self.wheel.len()
    }

    fn repeat_after(
        &mut self,
        now: Instant,
        running: &mut Running,
        expiry: Expiry,
        interval: Duration,
    ) {
        self.wheel.cancel(running.repeat);
        running.interval = interval;
        running.repeat = self.arm(now + interval, expiry);
    }

    /// The wheel has two timers for every record that the slabs can hold, so it is never full.
    fn arm(&mut self, at: Instant, expiry: Expiry) -> TimerId {
        let armed = self.wheel.arm(at, expiry);
        debug_assert!(armed.is_ok(), "a transaction has more than two timers");
        armed.unwrap_or_default()
    }
}
