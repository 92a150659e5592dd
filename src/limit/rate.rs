//! New calls per second of one slot: the generic cell rate algorithm in one atomic word.
//!
//! The word is the moment at which the bucket would be full again if nobody came. A call moves it
//! on by one interval and is refused when it would lie more than `burst` intervals ahead: exact
//! over all shards, without a timer that refills.

use crate::base::Instant;
use crate::base::atomics::{AtomicU64, Ordering::Relaxed};

/// How many new calls per second a trunk or group takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cps {
    /// Calls per second in the long run.
    pub sustain: f64,
    /// How many may come at once; 0 counts as 1.
    pub burst: u32,
}

/// The rate of one slot, shared by all shards.
#[derive(Debug)]
pub struct Rate {
    /// One call's share of time; 0 = not limited.
    interval_ns: AtomicU64,
    /// How far ahead of the clock the bucket may be before a call: `burst` - 1 intervals.
    tolerance_ns: AtomicU64,
    /// When the bucket is full again, in nanoseconds since the start of the node.
    full_at_ns: AtomicU64,
}

/// A call's share of the rate, in case it must be given back.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    interval_ns: u64,
}

/// A rate slower than one call in a year is this one: the arithmetic stays far from its ends.
const INTERVAL_NS_MAX: f64 = 365.0 * 86_400.0 * 1e9;

impl Rate {
    /// A rate without a limit.
    pub fn unlimited() -> Rate {
        Rate {
            interval_ns: AtomicU64::new(0),
            tolerance_ns: AtomicU64::new(0),
            full_at_ns: AtomicU64::new(0),
        }
    }

    /// Sets the rate. One that differs from the rate before starts with a full bucket: a debt that
    /// was run up at a slow rate could otherwise shut a fast one for hours.
    pub fn set(&self, cps: Option<Cps>) {
        let interval = cps.map_or(0, interval_ns);
        let burst = cps.map_or(1, |cps| u64::from(cps.burst.max(1)));
        let tolerance = interval.saturating_mul(burst - 1);
        let interval_before = self.interval_ns.swap(interval, Relaxed);
        let tolerance_before = self.tolerance_ns.swap(tolerance, Relaxed);
        if (interval, tolerance) != (interval_before, tolerance_before) {
            self.full_at_ns.store(0, Relaxed);
        }
    }

    /// Takes one call's share at `now`, or says after how many whole seconds it is worth a try.
    pub fn take(&self, now: Instant) -> Result<Token, u32> {
        let interval_ns = self.interval_ns.load(Relaxed);
        if interval_ns == 0 {
            return Ok(Token { interval_ns });
        }
        let now_ns = now.as_micros().saturating_mul(1000);
        let latest_ns = now_ns.saturating_add(self.tolerance_ns.load(Relaxed));
        self.full_at_ns
            .fetch_update(Relaxed, Relaxed, |full_at| {
                (full_at <= latest_ns).then(|| full_at.max(now_ns).saturating_add(interval_ns))
            })
            .map(|_| Token { interval_ns })
            .map_err(|full_at| whole_seconds(full_at - latest_ns))
    }

    /// How many calls the rate allows at `now`, and at most; `None` = not limited.
    pub fn left(&self, now: Instant) -> Option<(u32, u32)> {
        let interval_ns = self.interval_ns.load(Relaxed);
        if interval_ns == 0 {
            return None;
        }
        let tolerance_ns = self.tolerance_ns.load(Relaxed);
        let now_ns = now.as_micros().saturating_mul(1000);
        let ahead_ns = self.full_at_ns.load(Relaxed).saturating_sub(now_ns);
        let room_ns = tolerance_ns
            .saturating_add(interval_ns)
            .saturating_sub(ahead_ns);
        let calls = |ns: u64| u32::try_from(ns / interval_ns).unwrap_or(u32::MAX);
        Some((calls(room_ns), calls(tolerance_ns).saturating_add(1)))
    }

    /// Gives a share back that was taken for a call which another limit refused.
    pub fn refund(&self, token: Token) {
        if token.interval_ns == 0 {
            return;
        }
        // Saturating: a reload may have emptied the word in between.
        let _ = self.full_at_ns.fetch_update(Relaxed, Relaxed, |full_at| {
            Some(full_at.saturating_sub(token.interval_ns))
        });
    }
}

/// One call's share, rounded up: the rate that was configured is never exceeded.
fn interval_ns(cps: Cps) -> u64 {
    let exact = 1e9 / cps.sustain;
    if exact > 0.0 {
        exact.ceil().min(INTERVAL_NS_MAX) as u64
    } else {
        INTERVAL_NS_MAX as u64 // negative or not a number: as good as none
    }
}

/// At least 1: `Retry-After: 0` would invite the call back at once.
fn whole_seconds(ns: u64) -> u32 {
    u32::try_from(ns.div_ceil(1_000_000_000).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(sustain: f64, burst: u32) -> Rate {
        let rate = Rate::unlimited();
        rate.set(Some(Cps { sustain, burst }));
        rate
    }

    fn ms(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    /// How many of `tries` calls at one moment get through.
    fn taken(rate: &Rate, now: Instant, tries: usize) -> usize {
        (0..tries).filter(|_| rate.take(now).is_ok()).count()
    }

    #[test]
    fn a_burst_passes_at_once_and_then_one_call_per_interval() {
        let rate = limited(10.0, 3);
        assert_eq!(taken(&rate, ms(5000), 10), 3);
        assert_eq!(taken(&rate, ms(5099), 10), 0);
        assert_eq!(taken(&rate, ms(5100), 10), 1);
        assert_eq!(taken(&rate, ms(5300), 10), 2);
        assert_eq!(taken(&rate, ms(60_000), 10), 3);
    }

    #[test]
    fn retry_after_is_the_wait_in_whole_seconds_and_never_zero() {
        let rate = limited(0.25, 1);
        assert!(rate.take(ms(0)).is_ok());
        assert_eq!(rate.take(ms(0)).unwrap_err(), 4);
        assert_eq!(rate.take(ms(1)).unwrap_err(), 4);
        assert_eq!(rate.take(ms(1000)).unwrap_err(), 3);
        assert_eq!(rate.take(ms(3999)).unwrap_err(), 1);
        assert!(rate.take(ms(4000)).is_ok());
    }

    #[test]
    fn what_is_left_of_a_rate_is_what_can_be_taken() {
        assert_eq!(Rate::unlimited().left(ms(0)), None);
        let rate = limited(10.0, 3);
        for now in [5000, 5050, 5100, 5250, 9000] {
            let (left, most) = rate.left(ms(now)).expect("limited");
            assert_eq!(most, 3);
            assert_eq!(taken(&rate, ms(now), 10), left as usize, "{now}");
            assert_eq!(rate.left(ms(now)), Some((0, 3)));
        }
    }

    #[test]
    fn a_refunded_share_can_be_taken_again() {
        let rate = limited(1.0, 2);
        let first = rate.take(ms(0)).unwrap();
        rate.take(ms(0)).unwrap();
        assert!(rate.take(ms(0)).is_err());
        rate.refund(first);
        assert!(rate.take(ms(0)).is_ok());
        assert!(rate.take(ms(0)).is_err());
    }

    #[test]
    fn a_refund_never_gives_more_than_a_full_bucket() {
        let rate = limited(1.0, 2);
        let token = rate.take(ms(0)).unwrap();
        rate.refund(token);
        rate.refund(token);
        assert_eq!(taken(&rate, ms(100_000), 10), 2);
    }

    #[test]
    fn a_changed_rate_starts_with_a_full_bucket_and_the_same_rate_keeps_its_debt() {
        let rate = limited(0.01, 5);
        assert_eq!(taken(&rate, ms(0), 10), 5);
        rate.set(Some(Cps {
            sustain: 0.01,
            burst: 5,
        }));
        assert_eq!(taken(&rate, ms(0), 10), 0);
        rate.set(Some(Cps {
            sustain: 100.0,
            burst: 2,
        }));
        assert_eq!(taken(&rate, ms(0), 10), 2);
        rate.set(None);
        assert_eq!(taken(&rate, ms(0), 10), 10);
    }

    #[test]
    fn a_senseless_rate_neither_panics_nor_opens_the_gate() {
        for sustain in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY, 1e-300] {
            let rate = limited(sustain, 0);
            assert_eq!(taken(&rate, ms(1), 10), 1, "{sustain}");
            assert!(rate.take(Instant::from_micros(1 << 40)).is_err());
        }
        let rate = limited(f64::INFINITY, u32::MAX);
        assert_eq!(taken(&rate, Instant::from_micros(u64::MAX), 10), 10);
    }
}
