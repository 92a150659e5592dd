//! What caller and callee of one thread share while they handle one event: the moment, the timers,
//! the outbox and the tally.

use core::net::SocketAddr;
use core::num::NonZeroU32;
use core::time::Duration;

use callgate::base::{Cursor, Instant, Key, TimerId, Wheel};
use callgate::net::{Flow, ListenerId, Outbox};

use crate::plan::{GIVE_UP, T1, T2};
use crate::tally::Tally;

/// The caller's socket.
pub const CALLER: ListenerId = ListenerId(0);
/// The callee's socket.
pub const CALLEE: ListenerId = ListenerId(1);

/// Whose call a timer is for.
#[derive(Clone, Copy, Debug)]
pub enum Due {
    Caller(Key),
    Callee(Key),
}

/// The surroundings of one event.
pub struct Desk<'a> {
    pub now: Instant,
    pub wheel: &'a mut Wheel<Due>,
    pub out: &'a mut Outbox,
    pub tally: &'a mut Tally,
}

impl Desk<'_> {
    /// Puts a message into the outbox; without room it is lost, as on a wire.
    pub fn send(
        &mut self,
        from: ListenerId,
        to: SocketAddr,
        compose: impl FnOnce(&mut Cursor<'_>),
    ) {
        if self.out.write(Flow::udp(from, to), compose).is_err() {
            self.tally.counts.outbox_full += 1;
        }
    }

    /// Puts a stored message into the outbox.
    pub fn resend(&mut self, from: ListenerId, to: SocketAddr, bytes: &[u8]) {
        self.send(from, to, |out| out.put(bytes));
    }

    /// Arms a call's only timer; the one before it is cancelled.
    pub fn arm(&mut self, timer: &mut TimerId, at: Instant, what: Due) {
        self.wheel.cancel(*timer);
        // The wheel has a place for every record of both tables, so it is never full.
        *timer = self.wheel.arm(at, what).unwrap_or_default();
    }
}

/// How a message is sent again until it is answered (RFC 3261 §17, timers A, E and G).
#[derive(Clone, Copy, Debug, Default)]
pub struct Resend {
    interval: Duration,
    interval_max: Duration,
    give_up: Instant,
}

impl Resend {
    /// An INVITE: the interval doubles without a bound.
    pub fn invite(now: Instant) -> Resend {
        Resend::every(now, GIVE_UP)
    }

    /// Any other request, and final answers to INVITE: the interval doubles up to T2.
    pub fn other(now: Instant) -> Resend {
        Resend::every(now, T2)
    }

    fn every(now: Instant, interval_max: Duration) -> Resend {
        Resend {
            interval: T1,
            interval_max,
            give_up: now + GIVE_UP,
        }
    }

    /// When its timer fires next.
    pub fn due(&self, now: Instant) -> Instant {
        (now + self.interval).min(self.give_up)
    }

    /// Whether nobody has answered for so long that nobody will.
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.give_up
    }

    /// The interval after this one.
    pub fn lengthen(&mut self) {
        self.interval = (self.interval * 2).min(self.interval_max);
    }
}

/// A key as one number, which goes into Call-ID, branch and tags.
pub fn number_of(key: Key) -> u64 {
    u64::from(key.generation.get()) << 32 | u64::from(key.index)
}

/// The key in such a number; a stale one where it has none.
pub fn key_of(number: u64) -> Key {
    Key {
        index: number as u32,
        generation: NonZeroU32::new((number >> 32) as u32).unwrap_or(NonZeroU32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invite_is_sent_seven_times_and_a_bye_eleven_times() {
        let count = |mut resend: Resend| {
            let (mut now, mut sent) = (Instant::START, 1);
            loop {
                now = resend.due(now);
                if resend.is_over(now) {
                    return sent;
                }
                sent += 1;
                resend.lengthen();
            }
        };
        //= rfc3261#17.1.1.2 timer A: 7 requests before timer B fires
        assert_eq!(count(Resend::invite(Instant::START)), 7);
        //= rfc3261#17.1.2.2 timer E: 11 requests before timer F fires
        assert_eq!(count(Resend::other(Instant::START)), 11);
    }

    #[test]
    fn a_key_survives_as_a_number() {
        let key = Key {
            index: 7,
            generation: NonZeroU32::MIN.saturating_add(8),
        };
        assert_eq!(key_of(number_of(key)), key);
    }
}
