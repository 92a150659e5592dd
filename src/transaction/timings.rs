//! The timers of RFC 3261 §17 and RFC 6026 by name, and their values from the three base values.

use core::time::Duration;

use super::listed::listed;
use crate::net::Transport;

listed! {
    /// A timer by its name in RFC 3261 table 4 and RFC 6026.
    pub enum Timer {
        /// INVITE client: the request again, doubling without a cap.
        A,
        /// INVITE client: no answer at all.
        B,
        /// Proxy: an INVITE that rings for too long; belongs to the response context.
        C,
        /// INVITE client: how long an acknowledged final is recognised.
        D,
        /// Non-INVITE client: the request again, doubling up to T2.
        E,
        /// Non-INVITE client: no final answer.
        F,
        /// INVITE server: the final answer again, doubling up to T2.
        G,
        /// INVITE server: no ACK.
        H,
        /// INVITE server: how long further ACKs are absorbed.
        I,
        /// Non-INVITE server: how long a request is recognised as answered.
        J,
        /// Non-INVITE client: how long further finals are absorbed.
        K,
        /// INVITE server: how long an INVITE is recognised as accepted (RFC 6026).
        L,
        /// INVITE client: how long further 2xx answers are passed up (RFC 6026).
        M,
        /// INVITE client: the final that a CANCEL must bring (§9.1), or that an abandoned
        /// branch may still bring. RFC 3261 gives it a value and no letter.
        Wait,
    }
}

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

/// The other side's T1 is unknown, so timer D does not scale below this (RFC 3261 §17.1.1.2).
const TIMER_D_MIN: Duration = Duration::from_secs(32);

impl Timings {
    /// The value with which `timer` starts; `None` where a reliable transport has no such timer.
    pub const fn first(&self, timer: Timer, reliable: bool) -> Option<Duration> {
        match timer {
            Timer::A | Timer::E | Timer::G if reliable => None,
            Timer::D | Timer::I | Timer::J | Timer::K if reliable => Some(Duration::ZERO),
            Timer::A | Timer::E | Timer::G => Some(self.t1),
            Timer::I | Timer::K => Some(self.t4),
            Timer::C => Some(self.timer_c),
            //= rfc3261#17.1.1.2
            Timer::D => Some(longer(TIMER_D_MIN, self.t1.saturating_mul(64))),
            Timer::B | Timer::F | Timer::H | Timer::J => Some(self.t1.saturating_mul(64)),
            Timer::L | Timer::M | Timer::Wait => Some(self.t1.saturating_mul(64)),
        }
    }

    /// The interval after `last` of timer A: doubles, bounded only by timer B.
    pub const fn doubled(&self, last: Duration) -> Duration {
        last.saturating_mul(2)
    }

    /// The interval after `last` of timers E and G: doubles up to T2.
    pub const fn doubled_to_t2(&self, last: Duration) -> Duration {
        shorter(last.saturating_mul(2), self.t2)
    }
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

/// Whether the transport itself repeats what is lost (RFC 3261 §17, "reliable").
pub const fn is_reliable(transport: Transport) -> bool {
    match transport {
        Transport::Udp => false,
        Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => true,
    }
}

const fn longer(a: Duration, b: Duration) -> Duration {
    if a.as_nanos() >= b.as_nanos() { a } else { b }
}

const fn shorter(a: Duration, b: Duration) -> Duration {
    if a.as_nanos() <= b.as_nanos() { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timer_d_never_falls_below_32_s_and_grows_with_t1() {
        let mut timings = Timings {
            t1: Duration::from_millis(100),
            ..Timings::default()
        };
        assert_eq!(timings.first(Timer::D, false), Some(TIMER_D_MIN));
        timings.t1 = Duration::from_secs(1);
        let grown = Some(Duration::from_secs(64));
        assert_eq!(timings.first(Timer::D, false), grown);
    }

    #[test]
    fn intervals_double_and_only_e_and_g_stop_at_t2() {
        let timings = Timings::default();
        let three = Duration::from_secs(3);
        assert_eq!(timings.doubled(three), Duration::from_secs(6));
        assert_eq!(timings.doubled_to_t2(three), Duration::from_secs(4));
    }
}
