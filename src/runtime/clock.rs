//! The only clock of the node: monotonic microseconds since the start.

use crate::base::Instant;

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
}
