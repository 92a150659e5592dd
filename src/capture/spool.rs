//! The spool of one shard: a bounded stock of preallocated slots that go round between the shard,
//! which fills them, and one thread, which empties them. When no slot is free the copy is counted as
//! lost and the shard goes on; it never waits and never allocates.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use super::selection::{Subject, Want};
use crate::base::Instant;
use crate::base::ring::ArrayQueue;
use crate::net::Flow;

/// Octets of a message that are kept; the rest is cut off, and the true length is told.
pub const OCTETS_MAX: usize = 8192;

/// Messages that wait to be taken out: 40 ms of a shard that moves 50,000 a second.
pub const SLOTS_MAX: usize = 2048;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Received,
    Sent,
}

/// A copy of a message.
#[derive(Clone, Debug)]
pub struct Spooled {
    pub at: Instant,
    pub direction: Direction,
    pub flow: Flow,
    /// A bit for each listener that wants it.
    pub wanted_by: u8,
    /// Length of the whole message.
    pub octets: usize,
    /// At most [`OCTETS_MAX`] of them.
    pub bytes: Vec<u8>,
}

/// The slots of one shard.
#[derive(Debug)]
pub struct Spool {
    free: ArrayQueue<Box<Spooled>>,
    full: ArrayQueue<Box<Spooled>>,
    dropped: AtomicU64,
    truncated: AtomicU64,
}

impl Spool {
    /// A spool of so many slots.
    pub fn new(slots: usize) -> Spool {
        let spool = Spool {
            free: ArrayQueue::new(slots.max(1)),
            full: ArrayQueue::new(slots.max(1)),
            dropped: AtomicU64::new(0),
            truncated: AtomicU64::new(0),
        };
        for _ in 0..slots.max(1) {
            let empty = Spooled {
                at: Instant::START,
                direction: Direction::Received,
                flow: Flow::udp(crate::net::ListenerId(0), ([0, 0, 0, 0], 0).into()),
                wanted_by: 0,
                octets: 0,
                bytes: Vec::with_capacity(OCTETS_MAX),
            };
            // As many as there is room for.
            let _fits = spool.free.push(Box::new(empty));
        }
        spool
    }

    /// Puts a copy of a message in; counts it as lost when no slot is free.
    fn put(&self, at: Instant, direction: Direction, flow: Flow, bytes: &[u8], wanted_by: u8) {
        let Some(mut slot) = self.free.pop() else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if bytes.len() > OCTETS_MAX {
            self.truncated.fetch_add(1, Ordering::Relaxed);
        }
        slot.at = at;
        slot.direction = direction;
        slot.flow = flow;
        slot.wanted_by = wanted_by;
        slot.octets = bytes.len();
        slot.bytes.clear();
        slot.bytes
            .extend_from_slice(&bytes[..bytes.len().min(OCTETS_MAX)]);
        // There are no more slots than places.
        let _fits = self.full.push(slot);
    }

    /// Hands the oldest copy to `look`; `false` when there is none.
    pub fn take(&self, look: impl FnOnce(&Spooled)) -> bool {
        let Some(slot) = self.full.pop() else {
            return false;
        };
        look(&slot);
        let _fits = self.free.push(slot);
        true
    }

    /// Copies that found no free slot.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Copies that were cut off at [`OCTETS_MAX`].
    pub fn truncated(&self) -> u64 {
        self.truncated.load(Ordering::Relaxed)
    }
}

/// What a shard needs to copy messages: who wants which, and where the copies go.
#[derive(Clone, Debug)]
pub struct Tap {
    pub wants: Vec<Want>,
    pub spool: Arc<Spool>,
}

impl Tap {
    /// The listeners that want this message, a bit each.
    pub fn wanted_by(&self, subject: &Subject<'_>) -> u8 {
        let takers = self.wants.iter().filter(|want| want.takes(subject));
        takers.fold(0, |mask, want| mask | 1 << (want.number % 8))
    }

    /// Copies a message for those who want it.
    pub fn put(&self, at: Instant, direction: Direction, flow: Flow, bytes: &[u8], wanted_by: u8) {
        if wanted_by != 0 {
            self.spool.put(at, direction, flow, bytes, wanted_by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Selection;
    use crate::net::ListenerId;

    fn flow() -> Flow {
        Flow::udp(ListenerId(0), "192.0.2.1:5060".parse().expect("an address"))
    }

    fn put(spool: &Spool, text: &[u8]) {
        spool.put(Instant::START, Direction::Sent, flow(), text, 1);
    }

    #[test]
    fn a_full_spool_loses_the_newest_and_counts_it() {
        let spool = Spool::new(2);
        for text in [b"one", b"two", b"six"] {
            put(&spool, text);
        }
        assert_eq!(spool.dropped(), 1);
        let mut seen = Vec::new();
        while spool.take(|copy| seen.push(copy.bytes.clone())) {}
        assert_eq!(seen, [b"one", b"two"]);
        put(&spool, b"ten");
        assert!(spool.take(|copy| assert_eq!(copy.bytes, b"ten")));
    }

    #[test]
    fn a_long_message_is_cut_off_and_its_length_is_told() {
        let spool = Spool::new(1);
        put(&spool, &[b'x'; OCTETS_MAX + 9]);
        assert!(spool.take(|copy| {
            assert_eq!(copy.octets, OCTETS_MAX + 9);
            assert_eq!(copy.bytes.len(), OCTETS_MAX);
            assert_eq!(copy.bytes.capacity(), OCTETS_MAX);
        }));
        assert_eq!(spool.truncated(), 1);
    }

    #[test]
    fn each_listener_has_its_bit() {
        let want = |number, selection| Want {
            number,
            selection,
            every: 1,
        };
        let tap = Tap {
            wants: vec![
                want(0, Selection::Call(b"a".to_vec())),
                want(3, Selection::All),
            ],
            spool: Arc::new(Spool::new(1)),
        };
        let of = |call_id| {
            tap.wanted_by(&Subject {
                call_id,
                trunks: &[],
            })
        };
        assert_eq!((of(b"a"), of(b"b")), (0b1001, 0b1000));
    }
}
