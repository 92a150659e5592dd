//! The shard's own notion of time: microseconds since the node started.
//!
//! `std::time::Instant` cannot be made in a test; this one is a number that the caller passes in.

use core::time::Duration;

/// A moment, in microseconds since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The start of the node.
    pub const START: Instant = Instant(0);

    /// Makes the moment `us` microseconds after the start.
    pub const fn from_micros(us: u64) -> Instant {
        Instant(us)
    }

    /// Microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the start, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1000
    }

    /// The time from `earlier` to this moment; zero when `earlier` lies after it.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates at the end of time instead of wrapping: a deadline of "never" stays never.
    fn add(self, span: Duration) -> Instant {
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_saturates_and_a_difference_never_wraps() {
        let late = Instant::from_micros(u64::MAX - 1) + Duration::from_secs(1);
        assert_eq!(late.as_micros(), u64::MAX);
        assert_eq!(Instant::START.since(late), Duration::ZERO);
        assert_eq!(late.since(Instant::START), Duration::from_micros(u64::MAX));
    }
}
