//! The shard's own notion of time: microseconds since the node started.
//!
//! `std::time::Instant` cannot be made in a test; this one is a number that the caller passes in.

use core::num::NonZeroU32;
use core::time::Duration;

/// A moment, in microseconds since the node started.
///
/// Each call has several, so that an `Option` of it takes no more room, and it needs no place that is
/// a multiple of eight. Inside it is a number of which a quarter lies before the start: calls outlive
/// a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    high: NonZeroU32,
    low: u32,
}

impl Instant {
    /// The start of the node.
    pub const START: Instant = Instant::of_number(START);

    /// Makes the moment `us` microseconds after the start, or the last one there is.
    pub const fn from_micros(us: u64) -> Instant {
        Instant::of_number(START.saturating_add(us))
    }

    /// Microseconds since the start; zero for a moment before it.
    pub const fn as_micros(self) -> u64 {
        self.number().saturating_sub(START)
    }

    /// Microseconds since the start, negative for a moment before it.
    pub const fn offset_us(self) -> i64 {
        self.number().wrapping_sub(START) as i64
    }

    /// Whole milliseconds since the start, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.as_micros() / 1000
    }

    /// The time from `earlier` to this moment; zero when `earlier` lies after it.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.number().saturating_sub(earlier.number()))
    }

    /// The moment that lies `span` before this one, be it before the start.
    pub fn before(self, span: Duration) -> Instant {
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Instant::of_number(self.number().saturating_sub(us))
    }

    const fn of_number(number: u64) -> Instant {
        Instant {
            high: match NonZeroU32::new((number >> 32) as u32) {
                Some(high) => high,
                None => NonZeroU32::MIN,
            },
            low: number as u32,
        }
    }

    const fn number(self) -> u64 {
        (self.high.get() as u64) << 32 | self.low as u64
    }
}

/// The number of the start.
const START: u64 = 1 << 62;

impl Default for Instant {
    fn default() -> Instant {
        Instant::START
    }
}

impl core::fmt::Debug for Instant {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(out, "Instant({})", self.offset_us())
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates at the end of time instead of wrapping: a deadline of "never" stays never.
    fn add(self, span: Duration) -> Instant {
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Instant::of_number(self.number().saturating_add(us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_moment_at_all_takes_no_more_room_than_one() {
        assert_eq!(size_of::<Option<Instant>>(), 8);
        assert_eq!(align_of::<Instant>(), 4);
        assert_eq!(Instant::from_micros(7).as_micros(), 7);
        assert_eq!(Instant::from_micros(0), Instant::START);
    }

    #[test]
    fn a_sum_saturates_and_a_difference_never_wraps() {
        let last = Instant::from_micros(u64::MAX);
        assert_eq!(last + Duration::from_secs(1), last);
        assert_eq!(
            Instant::from_micros(last.as_micros() - 1) + Duration::from_secs(1),
            last
        );
        assert_eq!(last.as_micros(), last.offset_us() as u64);
        assert_eq!(Instant::START.since(last), Duration::ZERO);
        assert_eq!(
            last.since(Instant::START),
            Duration::from_micros(last.as_micros())
        );
    }

    #[test]
    fn what_was_before_the_start_is_as_far_from_it_as_what_comes_after() {
        let hour = Duration::from_secs(3600);
        let early = Instant::from_micros(7).before(hour);
        assert_eq!(early.as_micros(), 0);
        assert_eq!(early.offset_us(), 7 - 3_600_000_000);
        assert_eq!(Instant::from_micros(7).since(early), hour);
        assert_eq!(early + hour, Instant::from_micros(7));
        assert!(early < Instant::START);
        assert!(Instant::START.before(Duration::MAX) < early);
    }
}
