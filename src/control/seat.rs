//! What a shard's thread shows to the rest of the node: that it lives, and how full it is.
//!
//! The loop writes, the supervisor and the control threads read. A seat outlives the shard on it:
//! a restarted shard takes the same one, so counters go on.

use core::time::Duration;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::base::ring::Wake;
use crate::base::{Fresh, Instant};
use crate::capture::{Spool, Tap};
use crate::io::DriverCounters;
use crate::metrics::Metrics;
use crate::shard::FRESH_COUNT;
use crate::shard::mail::Census;
use crate::transaction;

/// Whether a shard takes traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Condition {
    Starting,
    Running,
    /// No heartbeat for longer than allowed; its thread cannot be ended from outside.
    Stalled,
    /// Its thread panicked or its driver failed; the supervisor replaces it.
    Fallen,
    Stopped,
}

impl Condition {
    const ALL: [Condition; 5] = [
        Condition::Starting,
        Condition::Running,
        Condition::Stalled,
        Condition::Fallen,
        Condition::Stopped,
    ];

    /// The word that operators see.
    pub fn word(self) -> &'static str {
        match self {
            Condition::Starting => "starting",
            Condition::Running => "running",
            Condition::Stalled => "stalled",
            Condition::Fallen => "fallen",
            Condition::Stopped => "stopped",
        }
    }
}

/// How a shard waited in the last second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// How long it lets datagrams gather; `None`: each may wake it.
    pub tick: Option<Duration>,
    /// Waits that were over, per second.
    pub wakes_per_s: f64,
    pub datagrams_per_wake: f64,
}

/// One shard's place in the node. Its thread writes here on each turn, so it has its cache lines to
/// itself.
#[repr(align(128))]
pub struct Seat {
    pub shard: usize,
    pub cpu: Option<usize>,
    pub metrics: Arc<Metrics>,
    beat_us: AtomicU64,
    condition: AtomicU8,
    restarts: AtomicU64,
    census: Mutex<Census>,
    pace: Mutex<Pace>,
    driver: Mutex<Kept<{ DriverCounters::COUNT }>>,
    transactions: Mutex<Kept<{ transaction::Counters::COUNT }>>,
    stalls: AtomicU64,
    /// The kernel's number of the shard's thread; 0 = not known.
    thread: AtomicU32,
    waker: Mutex<Option<Arc<dyn Wake>>>,
    cpu_us: AtomicU64,
    /// Where the shard's copies of messages wait; made when the first is wanted.
    pub spool: OnceLock<Arc<Spool>>,
    tap: Mutex<Option<Arc<Tap>>>,
    fresh: Mutex<[Fresh; FRESH_COUNT]>,
}

impl Seat {
    /// An empty seat.
    pub fn new(shard: usize, cpu: Option<usize>, metrics: Arc<Metrics>) -> Seat {
        Seat {
            shard,
            cpu,
            metrics,
            beat_us: AtomicU64::new(0),
            condition: AtomicU8::new(Condition::Starting as u8),
            restarts: AtomicU64::new(0),
            census: Mutex::default(),
            driver: Mutex::default(),
            pace: Mutex::default(),
            transactions: Mutex::default(),
            stalls: AtomicU64::new(0),
            thread: AtomicU32::new(0),
            waker: Mutex::new(None),
            cpu_us: AtomicU64::new(0),
            spool: OnceLock::new(),
            tap: Mutex::new(None),
            fresh: Mutex::default(),
        }
    }

    /// The shard's loop came round at `now`.
    pub fn beat(&self, now: Instant) {
        self.beat_us.store(now.as_micros(), Ordering::Relaxed);
    }

    /// When the shard's loop came round last.
    pub fn last_beat(&self) -> Instant {
        Instant::from_micros(self.beat_us.load(Ordering::Relaxed))
    }

    /// How the shard is.
    pub fn condition(&self) -> Condition {
        let stored = self.condition.load(Ordering::Acquire);
        Condition::ALL[usize::from(stored)]
    }

    /// Says how the shard is.
    pub fn set_condition(&self, condition: Condition) {
        self.condition.store(condition as u8, Ordering::Release);
    }

    /// How often a shard on this seat was replaced.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Counts one replacement of the shard or of its driver; what the driver counted is kept.
    pub fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        lock(&self.driver).retire();
    }

    /// How often the shard stalled.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// Counts one stall.
    pub fn count_stall(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }

    /// The kernel's number of the shard's thread.
    pub fn thread(&self) -> Option<u32> {
        Some(self.thread.load(Ordering::Relaxed)).filter(|thread| *thread != 0)
    }

    /// Another shard takes the seat, on this thread; what the former one counted is kept.
    pub fn take(&self, thread: Option<u32>) {
        self.thread.store(thread.unwrap_or(0), Ordering::Relaxed);
        lock(&self.transactions).retire();
    }

    /// Publishes how full the shard is. The loop does so before it sleeps and often while it is
    /// busy, so that what is read here is at most a fraction of a second old.
    pub fn publish_census(&self, census: Census) {
        *lock(&self.census) = census;
    }

    /// How full the shard is.
    pub fn census(&self) -> Census {
        *lock(&self.census)
    }

    /// Publishes what the present driver counted.
    pub fn publish_driver(&self, counters: DriverCounters) {
        lock(&self.driver).present = counters.values();
    }

    /// What all drivers on this seat counted, in the order of [`DriverCounters::ROWS`].
    pub fn driver_totals(&self) -> [u64; DriverCounters::COUNT] {
        lock(&self.driver).totals()
    }

    /// Publishes what the present shard's transaction table counted.
    pub fn publish_transactions(&self, counters: transaction::Counters) {
        lock(&self.transactions).present = counters.values();
    }

    /// What all tables on this seat counted, in the order of [`transaction::Counters::ROWS`].
    pub fn transaction_totals(&self) -> [u64; transaction::Counters::COUNT] {
        lock(&self.transactions).totals()
    }

    /// Publishes the CPU time of the shard's thread; the loop does so once a second.
    pub fn publish_cpu_time(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.cpu_us.store(us, Ordering::Relaxed);
    }

    /// CPU time of the shard's thread; another thread begins at nothing.
    pub fn cpu_time(&self) -> Duration {
        Duration::from_micros(self.cpu_us.load(Ordering::Relaxed))
    }

    /// Publishes how the shard waited; the loop does so once a second.
    pub fn publish_pace(&self, pace: Pace) {
        *lock(&self.pace) = pace;
    }

    /// How the shard waited.
    pub fn pace(&self) -> Pace {
        *lock(&self.pace)
    }

    /// Says which copies a shard on this seat makes; the shard itself is told by mail.
    pub fn set_tap(&self, tap: Option<Arc<Tap>>) {
        *lock(&self.tap) = tap;
    }

    /// Which copies a shard that takes this seat makes.
    pub fn tap(&self) -> Option<Arc<Tap>> {
        lock(&self.tap).clone()
    }

    /// Publishes what memory of the shard was never used; the loop does so several times a second.
    pub fn publish_fresh(&self, fresh: [Fresh; FRESH_COUNT]) {
        *lock(&self.fresh) = fresh;
    }

    /// What memory of the shard was never used, as it was lately.
    pub fn fresh(&self) -> [Fresh; FRESH_COUNT] {
        *lock(&self.fresh)
    }

    /// Says how the present driver is woken; a replaced shard has another driver.
    pub fn set_waker(&self, waker: Arc<dyn Wake>) {
        *lock(&self.waker) = Some(waker);
    }
}

impl Wake for Seat {
    fn wake(&self) {
        if let Some(waker) = lock(&self.waker).as_ref() {
            waker.wake();
        }
    }
}

/// Counters of something that is replaced now and then, and the sums of its predecessors.
struct Kept<const N: usize> {
    present: [u64; N],
    past: [u64; N],
}

impl<const N: usize> Default for Kept<N> {
    fn default() -> Self {
        Kept {
            present: [0; N],
            past: [0; N],
        }
    }
}

impl<const N: usize> Kept<N> {
    fn totals(&self) -> [u64; N] {
        core::array::from_fn(|row| self.past[row] + self.present[row])
    }

    /// The present one counts no more.
    fn retire(&mut self) {
        self.past = self.totals();
        self.present = [0; N];
    }
}

/// A panic elsewhere leaves plain numbers behind, so a poisoned lock is as good as another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_go_on_when_a_driver_or_a_shard_is_replaced() {
        let seat = Seat::new(0, None, Arc::new(Metrics::new(1)));
        let transactions = transaction::Counters {
            requests_resent: 2,
            ..transaction::Counters::default()
        };
        let driver = DriverCounters {
            received: 5,
            ..DriverCounters::default()
        };
        for replaced in 1..=2 {
            seat.publish_transactions(transactions);
            seat.publish_driver(driver);
            assert_eq!(seat.transaction_totals()[0], 2 * replaced);
            assert_eq!(seat.driver_totals()[0], 5 * replaced);
            seat.count_restart();
            seat.take(None);
        }
        assert_eq!(seat.transaction_totals()[0], 4);
        assert_eq!(seat.restarts(), 2);
    }
}
