//! What a shard's thread shows to the rest of the node: that it lives, and how full it is.
//!
//! The loop writes, the supervisor and the control threads read. A seat outlives the shard on it:
//! a restarted shard takes the same one, so counters go on.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::Instant;
use crate::base::ring::Wake;
use crate::io::DriverCounters;
use crate::metrics::Metrics;
use crate::shard::mail::Census;

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

/// One shard's place in the node.
pub struct Seat {
    pub shard: usize,
    pub cpu: Option<usize>,
    pub metrics: Arc<Metrics>,
    beat_us: AtomicU64,
    condition: AtomicU8,
    restarts: AtomicU64,
    census: Mutex<Census>,
    driver: Mutex<DriverCounters>,
    /// Sums of the drivers that ran on this seat before the present one.
    past_drivers: Mutex<Vec<u64>>,
    waker: Mutex<Option<Arc<dyn Wake>>>,
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
            past_drivers: Mutex::new(vec![0; DriverCounters::ROWS.len()]),
            waker: Mutex::new(None),
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
        let last = std::mem::take(&mut *lock(&self.driver));
        for (past, count) in lock(&self.past_drivers).iter_mut().zip(last.values()) {
            *past += count;
        }
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
        *lock(&self.driver) = counters;
    }

    /// What all drivers on this seat counted, in the order of [`DriverCounters::ROWS`].
    pub fn driver_totals(&self) -> Vec<u64> {
        let present = *lock(&self.driver);
        let past = lock(&self.past_drivers);
        past.iter()
            .zip(present.values())
            .map(|(past, present)| past + present)
            .collect()
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

/// A panic elsewhere leaves plain numbers behind, so a poisoned lock is as good as another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
