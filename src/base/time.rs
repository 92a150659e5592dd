//! The shard's own notion of time: microseconds since the node started.
//!
//! `std::time::Instant` cannot be made in a test; this one is a number that the caller passes in.

use core::num::NonZeroU64;
use core::time::Duration;

/// A moment, in microseconds since the node started.
///
/// Inside it is one more than that, so that an `Option` of it takes no more room: each call has
/// several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(NonZeroU64);

impl Instant {
    /// The start of the node.
    pub const START: Instant = Instant(NonZeroU64::MIN);

    /// Makes the moment `us` microseconds after the start; the last one there is lies one before
    /// `u64::MAX`.
    pub const fn from_micros(us: u64) -> Instant {
        Instant(NonZeroU64::MIN.saturating_add(us))
    }

    /// Microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0.get() - 1
    }

    /// Whole milliseconds since the start, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.as_micros() / 1000
    }

    /// The time from `earlier` to this moment; zero when `earlier` lies after it.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Default for Instant {
    fn default() -> Instant {
        Instant::START
    }
}

impl core::fmt::Debug for Instant {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(out, "Instant({})", self.as_micros())
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
    fn no_moment_at_all_takes_no_more_room_than_one() {
        assert_eq!(size_of::<Option<Instant>>(), 8);
        assert_eq!(Instant::from_micros(7).as_micros(), 7);
        assert_eq!(Instant::from_micros(0), Instant::START);
    }

    #[test]
    fn a_sum_saturates_and_a_difference_never_wraps() {
        let late = Instant::from_micros(u64::MAX - 1) + Duration::from_secs(1);
        assert_eq!(late.as_micros(), u64::MAX - 1);
        assert_eq!(late, Instant::from_micros(u64::MAX));
        assert_eq!(Instant::START.since(late), Duration::ZERO);
        assert_eq!(
            late.since(Instant::START),
            Duration::from_micros(u64::MAX - 1)
        );
    }
}
