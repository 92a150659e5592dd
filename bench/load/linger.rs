//! Ended calls that stay for late messages: one queue, since all stay equally long.

use std::collections::VecDeque;

use callgate::base::{Instant, Key};

use crate::plan::GIVE_UP;

/// Ended calls, the one that goes first in front.
#[derive(Debug)]
pub struct Linger {
    queue: VecDeque<(Instant, Key)>,
}

impl Linger {
    /// Room for `capacity` calls; nothing is taken later.
    pub fn new(capacity: usize) -> Linger {
        Linger {
            queue: VecDeque::with_capacity(capacity),
        }
    }

    /// Keeps a call that ended `now` as long as its transactions live (RFC 3261 §17, 64*T1).
    pub fn keep(&mut self, now: Instant, key: Key) {
        self.queue.push_back((now + GIVE_UP, key));
    }

    /// The next call whose time is over.
    pub fn pop_over(&mut self, now: Instant) -> Option<Key> {
        let (until, key) = *self.queue.front()?;
        if until > now {
            return None;
        }
        self.queue.pop_front();
        Some(key)
    }

    /// The oldest, before its time: a full table needs its place.
    pub fn pop_oldest(&mut self) -> Option<Key> {
        self.queue.pop_front().map(|(_, key)| key)
    }

    /// Calls kept.
    pub fn len(&self) -> usize {
        self.queue.len()
    }
}
