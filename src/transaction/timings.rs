//! The timer values of RFC 3261 table 4, for unreliable transports.

use core::time::Duration;

/// Base values from which timers A to M are derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Round-trip estimate; first retransmission interval.
    pub t1: Duration,
    /// Longest retransmission interval of non-INVITE requests and INVITE responses.
    pub t2: Duration,
    /// How long a message stays in the network.
    pub t4: Duration,
    /// How long a proxied INVITE may ring (RFC 3261 §16.6 step 11: more than 3 minutes).
    pub timer_c: Duration,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            timer_c: Duration::from_secs(181),
        }
    }
}
