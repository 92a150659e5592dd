//! The only clock of the node: monotonic microseconds since the start.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::Instant;
use crate::dialog::store::Wall;

/// Counts from the moment it was made; copies count from the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// Starts to count.
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    pub fn start() -> Clock {
        Clock {
            start: std::time::Instant::now(),
        }
    }

    /// Reads the clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    pub fn now(&self) -> Instant {
        let since = std::time::Instant::now().duration_since(self.start);
        Instant::START + since
    }

    /// What the wall clock shows, tied to this clock; it is read once, so that a step of the wall
    /// clock while the node runs moves no deadline.
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    pub fn wall(&self) -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let wall_us = since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0));
        Wall {
            start_us: wall_us.saturating_sub(self.now().as_micros()),
        }
    }
}
