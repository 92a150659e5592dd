//! Who has copies of messages made: Homer by the configuration, traces by operators.
//!
//! The desk keeps the list, tells the shards, and keeps what a trace has not fetched yet. One thread
//! of the runtime takes the copies out of the spools and brings them here and to Homer. Each queue is
//! bounded; what does not fit is counted as lost.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::seat::Seat;
use crate::base::Instant;
use crate::capture::hep::Homer;
use crate::capture::{Direction, SLOTS_MAX, Selection, Spool, Spooled, Tap, Want};

/// Traces at the same time: each holds a worker of the admin socket, and others must be served.
pub const TRACES_MAX: usize = 4;
/// Messages that a trace may leave unfetched; 4 MiB of usual ones.
const UNFETCHED_MAX: usize = 4096;
/// A trace that nobody asks for is over: its command was killed.
const UNASKED_MAX: Duration = Duration::from_secs(10);
/// The listener number of Homer; traces have the others.
pub const HOMER_NUMBER: u8 = 0;

/// The list of those who want copies.
#[derive(Debug, Default)]
pub struct Desk {
    inner: Mutex<Inner>,
    /// Something came in for a trace, or the list changed.
    changed: Condvar,
    /// Orders are given to the shards one after the other.
    telling: Mutex<()>,
    pub hep: HepCounters,
}

#[derive(Debug, Default)]
struct Inner {
    homer: Option<(Arc<Homer>, Want)>,
    /// Goes up with each change of Homer.
    edition: u64,
    traces: Vec<Trace>,
    next_id: u64,
}

#[derive(Debug)]
struct Trace {
    id: u64,
    want: Want,
    started: Instant,
    asked: Instant,
    waiting: VecDeque<Copied>,
    lost: u64,
}

/// A copy for a trace.
#[derive(Clone, Debug)]
pub struct Copied {
    pub unix_us: u64,
    pub direction: Direction,
    pub listener: u16,
    pub remote: core::net::SocketAddr,
    pub octets: usize,
    pub bytes: Vec<u8>,
}

/// What became of reports to Homer.
#[derive(Debug, Default)]
pub struct HepCounters {
    pub sent: AtomicU64,
    pub connects: AtomicU64,
    pub connect_failures: AtomicU64,
    /// By [`HEP_DROPS`].
    pub dropped: [AtomicU64; HEP_DROPS.len()],
}

/// Why a report was not sent.
pub const HEP_DROPS: [&str; 3] = ["unreachable", "backlog_full", "send_failed"];

/// Nobody gets a trace because there are enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl Desk {
    /// Says who Homer is from here on; `false` when it is the same. The shards are told by
    /// [`Desk::tell`].
    pub fn set_homer(&self, homer: Option<(Homer, Selection, u32)>) -> bool {
        let homer = homer.map(|(homer, selection, every)| {
            let want = Want {
                number: HOMER_NUMBER,
                selection,
                every,
            };
            (Arc::new(homer), want)
        });
        let mut inner = self.lock();
        if inner.homer == homer {
            return false;
        }
        inner.homer = homer;
        inner.edition += 1;
        self.changed.notify_all();
        true
    }

    /// Homer, and the edition of what is said about it.
    pub fn homer(&self) -> (u64, Option<Arc<Homer>>) {
        let inner = self.lock();
        let homer = inner.homer.as_ref().map(|(homer, _)| Arc::clone(homer));
        (inner.edition, homer)
    }

    /// Whether anybody wants copies.
    pub fn is_wanted(&self) -> bool {
        let inner = self.lock();
        inner.homer.is_some() || !inner.traces.is_empty()
    }

    /// Waits until somebody does, or for so long.
    pub fn wait_until_wanted(&self, longest: Duration) {
        let inner = self.lock();
        if inner.homer.is_none() && inner.traces.is_empty() {
            let _woken_or_not = self
                .changed
                .wait_timeout(inner, longest)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Opens a trace and names it.
    pub fn open_trace(&self, now: Instant, selection: Selection) -> Result<u64, TooMany> {
        let mut inner = self.lock();
        if inner.traces.len() >= TRACES_MAX {
            return Err(TooMany);
        }
        let is_free = |number: &u8| {
            inner
                .traces
                .iter()
                .all(|trace| trace.want.number != *number)
        };
        let free = (HOMER_NUMBER + 1..Want::MAX as u8).find(is_free);
        let number = free.ok_or(TooMany)?;
        inner.next_id += 1;
        let id = inner.next_id;
        inner.traces.push(Trace {
            id,
            want: Want {
                number,
                selection,
                every: 1,
            },
            started: now,
            asked: now,
            waiting: VecDeque::new(),
            lost: 0,
        });
        self.changed.notify_all();
        Ok(id)
    }

    /// Closes a trace; what was not fetched is gone. `false` when there is no such trace.
    pub fn close_trace(&self, id: u64) -> bool {
        let mut inner = self.lock();
        let before = inner.traces.len();
        inner.traces.retain(|trace| trace.id != id);
        inner.traces.len() < before
    }

    /// Takes up to `count` messages of a trace, after waiting for the first of them, and tells how
    /// many were lost so far. `None` when there is no such trace.
    pub fn fetch(
        &self,
        now: Instant,
        id: u64,
        count: usize,
        wait: Duration,
    ) -> Option<(Vec<Copied>, u64)> {
        let idle = |inner: &mut Inner| match inner.trace(id) {
            Some(trace) => {
                trace.asked = trace.asked.max(now);
                trace.waiting.is_empty()
            }
            None => false,
        };
        let (mut inner, _timed_out) = self
            .changed
            .wait_timeout_while(self.lock(), wait, idle)
            .unwrap_or_else(PoisonError::into_inner);
        let trace = inner.trace(id)?;
        let count = count.min(trace.waiting.len());
        Some((trace.waiting.drain(..count).collect(), trace.lost))
    }

    /// Brings a copy to the traces that want it.
    pub fn deliver(&self, start_us: u64, copy: &Spooled) {
        if copy.wanted_by & !(1 << HOMER_NUMBER) == 0 {
            return;
        }
        let mut inner = self.lock();
        for trace in &mut inner.traces {
            let is_for_it = copy.wanted_by & 1 << trace.want.number != 0;
            // Its number may have been another's a moment ago.
            if !is_for_it || copy.at < trace.started {
                continue;
            }
            if trace.waiting.len() >= UNFETCHED_MAX {
                trace.lost += 1;
                continue;
            }
            trace.waiting.push_back(Copied {
                unix_us: start_us + copy.at.as_micros(),
                direction: copy.direction,
                listener: copy.flow.listener.0,
                remote: copy.flow.remote,
                octets: copy.octets,
                bytes: copy.bytes.clone(),
            });
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Closes traces that nobody asks for; `true` when there were any.
    pub fn close_abandoned(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        let before = inner.traces.len();
        inner
            .traces
            .retain(|trace| now.since(trace.asked) < UNASKED_MAX);
        inner.traces.len() < before
    }

    /// Puts the list into effect on every seat, by `order` for the shard that sits there.
    pub fn tell(&self, seats: &[Arc<Seat>], order: impl Fn(usize, Option<Arc<Tap>>)) {
        let _one_after_the_other = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let wants = self.lock().wants();
        for seat in seats {
            let tap = (!wants.is_empty()).then(|| {
                Arc::new(Tap {
                    wants: wants.clone(),
                    spool: Arc::clone(seat.spool.get_or_init(|| Arc::new(Spool::new(SLOTS_MAX)))),
                })
            });
            seat.set_tap(tap.clone());
            order(seat.shard, tap);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn trace(&mut self, id: u64) -> Option<&mut Trace> {
        self.traces.iter_mut().find(|trace| trace.id == id)
    }

    fn wants(&self) -> Vec<Want> {
        let homer = self.homer.iter().map(|(_, want)| want);
        let traces = self.traces.iter().map(|trace| &trace.want);
        homer.chain(traces).cloned().collect()
    }
}

impl HepCounters {
    /// Adds to one of the counters.
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Flow, ListenerId};

    fn copy(wanted_by: u8, at: Instant) -> Spooled {
        Spooled {
            at,
            direction: Direction::Received,
            flow: Flow::udp(ListenerId(0), "192.0.2.1:5060".parse().expect("an address")),
            wanted_by,
            octets: 3,
            bytes: b"abc".to_vec(),
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_trace_gets_what_is_for_it_and_nothing_older_than_itself() {
        let desk = Desk::default();
        let id = desk.open_trace(at(5), Selection::All).expect("room");
        desk.deliver(1_000, &copy(0b10, at(4)));
        desk.deliver(1_000, &copy(0b10, at(6)));
        desk.deliver(1_000, &copy(0b100, at(6)));
        let (copies, lost) = desk.fetch(at(6), id, 9, Duration::ZERO).expect("open");
        assert_eq!((copies.len(), lost), (1, 0));
        assert_eq!(copies[0].unix_us, 6_001_000);
    }

    #[test]
    fn a_trace_that_does_not_fetch_loses_the_newest_and_is_closed_at_last() {
        let desk = Desk::default();
        let id = desk.open_trace(at(0), Selection::All).expect("room");
        for _ in 0..UNFETCHED_MAX + 2 {
            desk.deliver(0, &copy(0b10, at(1)));
        }
        assert!(!desk.close_abandoned(at(9)));
        let (copies, lost) = desk.fetch(at(9), id, 10, Duration::ZERO).expect("open");
        assert_eq!((copies.len(), lost), (10, 2));
        assert!(!desk.close_abandoned(at(18)));
        assert!(desk.close_abandoned(at(19)));
        assert!(desk.fetch(at(19), id, 10, Duration::ZERO).is_none());
        assert!(!desk.is_wanted());
    }

    #[test]
    fn there_are_so_many_traces_and_no_more() {
        let desk = Desk::default();
        let ids: Vec<u64> = (0..TRACES_MAX)
            .map(|_| desk.open_trace(at(0), Selection::All).expect("room"))
            .collect();
        assert_eq!(desk.open_trace(at(0), Selection::All), Err(TooMany));
        assert!(desk.close_trace(ids[1]));
        assert!(!desk.close_trace(ids[1]));
        desk.open_trace(at(0), Selection::All).expect("room again");
        let mut numbers: Vec<u8> = desk.lock().wants().iter().map(|want| want.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4]);
    }
}
