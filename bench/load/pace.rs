//! When calls start: by the clock alone, so that a slow answer never slows the offer down.

use core::time::Duration;

use callgate::base::Instant;

/// The schedule of one thread.
#[derive(Debug)]
pub struct Pace {
    start: Instant,
    end: Instant,
    interval_us: f64,
    started: u64,
    share: u64,
}

impl Pace {
    /// `share` calls at `rate` per second from `start` on, none after `time`.
    pub fn new(start: Instant, rate: f64, share: u64, time: Duration) -> Pace {
        Pace {
            start,
            end: start + time,
            interval_us: 1e6 / rate,
            started: 0,
            share,
        }
    }

    /// When the next call is due; none when there are no more.
    pub fn next_due(&self) -> Option<Instant> {
        // Multiplied, not summed: rounding must not drift over millions of calls.
        let offset = Duration::from_micros((self.started as f64 * self.interval_us) as u64);
        let due = self.start + offset;
        (self.started < self.share && due < self.end).then_some(due)
    }

    /// Takes the next call if it is due, and gives the moment it was due at. Those that could not
    /// be started in time are left out once the time is over.
    pub fn take_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next_due().filter(|due| *due <= now)?;
        if now >= self.end + LATE_MAX {
            self.share = self.started;
            return None;
        }
        self.started += 1;
        Some(due)
    }

    /// Ends the schedule.
    pub fn stop(&mut self) {
        self.share = self.started;
    }
}

/// How long after the end calls that were due before it may still start.
const LATE_MAX: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    #[test]
    fn a_late_thread_catches_up_but_not_beyond_the_end() {
        let mut pace = Pace::new(at(0), 1000.0, 1_000_000, Duration::from_millis(50));
        let mut due = |now| {
            let mut count = 0;
            while pace.take_due(now).is_some() {
                count += 1;
            }
            count
        };
        assert_eq!(due(at(0)), 1);
        assert_eq!(due(at(10)), 10);
        assert_eq!(due(at(60)), 39);
        assert_eq!(due(at(1000)), 0);
    }

    #[test]
    fn the_number_of_calls_is_a_bound_too() {
        let mut pace = Pace::new(at(0), 1000.0, 2, Duration::from_secs(1));
        assert_eq!(pace.take_due(at(5)), Some(at(0)));
        assert_eq!(pace.take_due(at(5)), Some(at(1)));
        assert_eq!(pace.take_due(at(5)), None);
        assert_eq!(pace.next_due(), None);
    }
}
