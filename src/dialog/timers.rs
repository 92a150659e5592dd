//! The timers of calls: RFC 4028 and `call_time_max`, of which the nearer one is armed.

use crate::base::{Instant, Links, Slab, Tick, Timed};

use super::call::Call;
use super::table::{CallKey, Calls};

/// Which timer of a call rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// RFC 4028 §8.3: nobody refreshed the session.
    Session,
    /// `call_time_max` is over.
    CallTime,
    /// The time is over for which [`Calls::put_call_time_off`] put that off.
    CallTimeAgain,
}

impl<L> Calls<L> {
    /// Starts the session timer of a call again, or stops it.
    pub fn set_session_due(&mut self, key: CallKey, due: Option<Instant>) {
        self.set(key, |call| call.session_due = due.map(Tick::of));
    }

    /// Starts the timer for `call_time_max`, or stops it.
    pub fn set_call_time_due(&mut self, key: CallKey, due: Option<Instant>) {
        self.set(key, |call| {
            call.call_time_due = due.map(Tick::of);
            call.is_put_off = false;
        });
    }

    /// Has the timer for `call_time_max`, which rang, ring once more.
    pub fn put_call_time_off(&mut self, key: CallKey, due: Instant) {
        self.set(key, |call| {
            call.call_time_due = Some(Tick::of(due));
            call.is_put_off = true;
        });
    }

    /// Takes the next timer that is due at `now`; it is stopped.
    pub fn pop_due(&mut self, now: Instant) -> Option<(CallKey, Due)> {
        let index = self.dial.pop_expired(&mut self.calls, now)?;
        let key = CallKey(self.calls.key_at(index)?);
        let call = self.calls.at(index)?;
        let is_call_time = match (call.call_time_due, call.session_due) {
            (Some(call_time), Some(session)) => call_time <= session,
            (call_time, _) => call_time.is_some(),
        };
        let due = match (is_call_time, call.is_put_off) {
            (true, true) => Due::CallTimeAgain,
            (true, false) => Due::CallTime,
            (false, _) => Due::Session,
        };
        self.set(key, |call| match is_call_time {
            true => call.call_time_due = None,
            false => call.session_due = None,
        });
        Some((key, due))
    }

    /// When [`Calls::pop_due`] may have something.
    pub fn next_due(&self) -> Option<Instant> {
        self.dial.next_deadline()
    }

    /// How many calls have a timer.
    pub fn timers_len(&self) -> usize {
        self.dial.len()
    }

    /// Changes the timers of a call; what is armed is the nearer one of those that there are then.
    fn set(&mut self, key: CallKey, change: impl FnOnce(&mut Call<L>)) {
        if self.call(key).is_none() {
            return;
        }
        self.dial.disarm(&mut self.calls, key.0.index);
        if let Some(call) = self.calls.get_mut(key.0) {
            change(call);
            if nearer(call).is_some() {
                self.dial.arm(&mut self.calls, key.0.index);
            }
        }
    }
}

fn nearer<L>(call: &Call<L>) -> Option<Tick> {
    [call.session_due, call.call_time_due]
        .into_iter()
        .flatten()
        .min()
}

impl<L> Timed for Slab<Call<L>> {
    fn due(&self, index: u32) -> Tick {
        let due = self.at(index).and_then(nearer);
        due.unwrap_or(Tick::of(Instant::START))
    }

    fn links(&self, index: u32) -> Links {
        self.at(index).map_or(Links::IDLE, |call| call.links)
    }

    fn set_links(&mut self, index: u32, links: Links) {
        if let Some(call) = self.at_mut(index) {
            call.links = links;
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::net::{Flow, ListenerId};

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    fn with_a_call() -> (Calls<()>, CallKey) {
        let mut calls = Calls::new(2);
        let remote = "192.0.2.1:5060".parse().expect("a literal address");
        let call = Call::ringing(0, 1, 2, 3, at(0));
        let key = calls
            .insert(call, Flow::udp(ListenerId(0), remote))
            .expect("room");
        (calls, key)
    }

    #[test]
    fn the_nearer_timer_rings_first_and_then_the_other_one() {
        for (session, call_time, first, second) in [
            (60, 90, Due::Session, Due::CallTime),
            (90, 60, Due::CallTime, Due::Session),
            (60, 60, Due::CallTime, Due::Session),
        ] {
            let (mut calls, key) = with_a_call();
            calls.set_session_due(key, Some(at(session)));
            calls.set_call_time_due(key, Some(at(call_time)));
            let call = calls.call(key).expect("it lives");
            assert_eq!(call.session_due(), Some(at(session)));
            assert_eq!(call.call_time_due(), Some(at(call_time)));
            assert_eq!((calls.timers_len(), calls.pop_due(at(59))), (1, None));
            assert_eq!(calls.pop_due(at(60)), Some((key, first)));
            assert_eq!(calls.pop_due(at(90)), Some((key, second)));
            assert_eq!((calls.timers_len(), calls.next_due()), (0, None));
        }
    }

    #[test]
    fn a_refreshed_session_rings_later_and_a_stopped_one_never() {
        let (mut calls, key) = with_a_call();
        calls.set_session_due(key, Some(at(60)));
        calls.set_session_due(key, Some(at(120)));
        assert_eq!(calls.pop_due(at(100)), None);
        calls.set_session_due(key, None);
        assert_eq!(calls.next_due(), None);
        calls.set_session_due(key, Some(at(130)));
        calls.end(key);
        calls.set_session_due(key, Some(at(140)));
        assert_eq!((calls.timers_len(), calls.pop_due(at(200))), (0, None));
    }

    #[test]
    fn call_time_max_is_put_off_once() {
        let (mut calls, key) = with_a_call();
        calls.set_session_due(key, Some(at(100)));
        calls.set_call_time_due(key, Some(at(60)));
        assert_eq!(calls.pop_due(at(60)), Some((key, Due::CallTime)));
        calls.put_call_time_off(key, at(92));
        assert_eq!(calls.pop_due(at(91)), None);
        assert_eq!(calls.pop_due(at(92)), Some((key, Due::CallTimeAgain)));
        assert_eq!(calls.pop_due(at(100)), Some((key, Due::Session)));
    }
}
