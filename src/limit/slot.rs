//! The concurrent calls of one trunk or group: both directions in one atomic word.
//!
//! All access is relaxed: each counter is a single word that is checked and changed in one step, and
//! nothing else is published through it.
//!
//! One word, since `calls_max` bounds their sum: two counters could each be fine and the sum not.

use super::rate::Rate;
use super::{Direction, Look, Maxima, Used, Why};
use crate::base::Instant;
use crate::base::atomics::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Counters and maxima of one slot, alone on its cache lines: shards that work on other slots must
/// not wait for this one. 128, since the hardware fetches lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub struct Slot {
    /// Incoming calls in the low half, outgoing ones in the high half.
    calls: AtomicU64,
    /// Largest number of calls there ever was.
    peak: AtomicU32,
    calls_max: AtomicU32,
    calls_in_max: AtomicU32,
    calls_out_max: AtomicU32,
    pub rate: Rate,
}

const _: () = assert!(
    size_of::<Slot>().is_multiple_of(128),
    "two slots share no line"
);

/// A maximum that is not set: no count reaches it, since each call takes memory elsewhere.
const UNLIMITED: u32 = u32::MAX;

impl Slot {
    /// An unused slot without limits.
    pub fn new() -> Slot {
        Slot {
            calls: AtomicU64::new(0),
            peak: AtomicU32::new(0),
            calls_max: AtomicU32::new(UNLIMITED),
            calls_in_max: AtomicU32::new(UNLIMITED),
            calls_out_max: AtomicU32::new(UNLIMITED),
            rate: Rate::unlimited(),
        }
    }

    /// Sets the maxima. Calls above a lowered one go on; new ones wait until there is room.
    pub fn set(&self, maxima: &Maxima) {
        let max = |value: Option<u32>| value.unwrap_or(UNLIMITED);
        self.calls_max.store(max(maxima.calls_max), Relaxed);
        self.calls_in_max.store(max(maxima.calls_in_max), Relaxed);
        self.calls_out_max.store(max(maxima.calls_out_max), Relaxed);
        self.rate.set(maxima.cps);
    }

    /// Counts one more call if every maximum allows it.
    pub fn take(&self, direction: Direction) -> Result<(), Why> {
        let mut calls = self.calls.load(Relaxed);
        loop {
            self.check(Used::unpack(calls), direction)?;
            let more = calls + unit(direction);
            match self
                .calls
                .compare_exchange_weak(calls, more, Relaxed, Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(seen) => calls = seen,
            }
        }
    }

    /// Counts one more call whatever the maxima say: one that was live before a restart.
    pub fn take_regardless(&self, direction: Direction) {
        self.calls.fetch_add(unit(direction), Relaxed);
    }

    /// Counts one call less.
    pub fn give_back(&self, direction: Direction) {
        let before = self.calls.fetch_sub(unit(direction), Relaxed);
        debug_assert_ne!(
            Used::unpack(before).of(direction),
            0,
            "a call is given back once"
        );
    }

    /// Calls at this moment.
    pub fn used(&self) -> Used {
        Used::unpack(self.calls.load(Relaxed))
    }

    /// Its limits for a direction with their values; `None` = it has none.
    pub fn look(&self, direction: Direction, now: Instant) -> Option<Look> {
        let limited = |max: &AtomicU32| Some(max.load(Relaxed)).filter(|max| *max != UNLIMITED);
        let own_max = match direction {
            Direction::In => &self.calls_in_max,
            Direction::Out => &self.calls_out_max,
        };
        let used = self.used();
        let look = Look {
            own: used.of(direction),
            own_max: limited(own_max),
            calls: used.in_calls.saturating_add(used.out_calls),
            calls_max: limited(&self.calls_max),
            rate: self.rate.left(now),
        };
        let is_limited = look.own_max.is_some() || look.calls_max.is_some() || look.rate.is_some();
        is_limited.then_some(look)
    }

    /// Raises the peak to the present number of calls.
    pub fn note_peak(&self) {
        let total = u32::try_from(self.used().total()).unwrap_or(u32::MAX);
        // A look first: the line is shared, and a new peak is rare.
        if total > self.peak.load(Relaxed) {
            self.peak.fetch_max(total, Relaxed);
        }
    }

    /// The largest number of calls there ever was.
    pub fn peak(&self) -> u32 {
        self.peak.load(Relaxed)
    }

    fn check(&self, used: Used, direction: Direction) -> Result<(), Why> {
        let (own_max, why) = match direction {
            Direction::In => (&self.calls_in_max, Why::CallsInMax),
            Direction::Out => (&self.calls_out_max, Why::CallsOutMax),
        };
        if used.of(direction) >= own_max.load(Relaxed) {
            return Err(why);
        }
        if used.total() >= u64::from(self.calls_max.load(Relaxed)) {
            return Err(Why::CallsMax);
        }
        Ok(())
    }
}

impl Used {
    fn unpack(calls: u64) -> Used {
        Used {
            in_calls: calls as u32,
            out_calls: (calls >> 32) as u32,
        }
    }

    fn of(self, direction: Direction) -> u32 {
        match direction {
            Direction::In => self.in_calls,
            Direction::Out => self.out_calls,
        }
    }
}

fn unit(direction: Direction) -> u64 {
    match direction {
        Direction::In => 1,
        Direction::Out => 1 << 32,
    }
}
