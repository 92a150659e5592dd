//! What starts and stops all shards at once: the gate in front of which new shards wait for their
//! records, and the standing orders that tell those at work to stop or to stand still.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::state::Records;

/// Shards with empty tables wait here until it is known which calls they begin with.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    opened: Option<Option<Arc<Records>>>,
    waiting: usize,
}

impl Gate {
    /// Lets all shards through, those that come later too; each finds its calls in `records`.
    pub fn open(&self, records: Option<Arc<Records>>) {
        lock(&self.state).opened = Some(records);
        self.changed.notify_all();
    }

    /// From here on shards begin without the calls that were left in memory.
    pub fn forget_memory(&self) {
        let mut state = lock(&self.state);
        if let Some(Some(records)) = &state.opened
            && records.are_in_memory()
        {
            state.opened = Some(None);
        }
    }

    /// Waits until the gate is open.
    pub fn pass(&self) -> Option<Arc<Records>> {
        let mut state = lock(&self.state);
        state.waiting += 1;
        self.changed.notify_all();
        loop {
            if let Some(records) = &state.opened {
                return records.clone();
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether so many shards have come to the gate within `patience`.
    pub fn is_reached_by(&self, shards: usize, patience: Duration) -> bool {
        let state = lock(&self.state);
        let is_early = |state: &mut State| state.waiting < shards;
        let waited = self.changed.wait_timeout_while(state, patience, is_early);
        let (_state, result) = waited.unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }
}

/// What the shards at work are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Run,
    /// End, whatever is under way.
    Stop,
    /// Take nothing more from the sockets, finish what was taken, leave the records and end.
    StandStill,
}

/// The orders of all shards, and how far they are with standing still.
pub struct Orders {
    order: AtomicU8,
    /// Shards that read no more.
    stopped: AtomicUsize,
    /// What each has left: records in memory, where it has no file.
    left: Mutex<Vec<Option<Option<OwnedFd>>>>,
    shards: usize,
}

impl Orders {
    /// Orders to run.
    pub fn new(shards: usize) -> Orders {
        Orders {
            order: AtomicU8::new(Order::Run as u8),
            stopped: AtomicUsize::new(0),
            left: Mutex::new(Vec::new()),
            shards,
        }
    }

    /// What is ordered.
    pub fn present(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            1 => Order::Stop,
            2 => Order::StandStill,
            _ => Order::Run,
        }
    }

    /// Gives another order.
    pub fn give(&self, order: Order) {
        if order == Order::StandStill {
            self.stopped.store(0, Ordering::Release);
            *lock(&self.left) = (0..self.shards).map(|_| None).collect();
        }
        self.order.store(order as u8, Ordering::Release);
    }

    /// A shard reads no more; nothing that it has read is for another shard from here on.
    pub fn note_stopped(&self) {
        self.stopped.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether no shard reads.
    pub fn all_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire) >= self.shards
    }

    /// A shard has left its records: in its file, or in this memory.
    pub fn note_left(&self, shard: usize, memory: Option<OwnedFd>) {
        if let Some(place) = lock(&self.left).get_mut(shard) {
            *place = Some(memory);
        }
    }

    /// Whether a shard has left its records since it was told to.
    pub fn has_left(&self, shard: usize) -> bool {
        lock(&self.left).get(shard).is_some_and(Option::is_some)
    }

    /// What all shards have left in memory, by shard; `None` while one has not left.
    pub fn all_left(&self) -> Option<Vec<OwnedFd>> {
        let mut left = lock(&self.left);
        if left.len() < self.shards || !left.iter().all(Option::is_some) {
            return None;
        }
        let memory = left.iter_mut().flatten().filter_map(Option::take);
        Some(memory.collect())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_left_when_each_has() {
        let orders = Orders::new(2);
        assert_eq!(orders.present(), Order::Run);
        orders.give(Order::StandStill);
        orders.note_left(1, None);
        assert!(orders.all_left().is_none());
        orders.note_left(0, None);
        assert!(orders.all_left().is_some_and(|memory| memory.is_empty()));
        // A second time begins anew.
        orders.give(Order::StandStill);
        assert!(orders.all_left().is_none());
        assert!(!orders.all_stopped());
    }

    #[test]
    fn shards_wait_at_the_gate_until_it_opens() {
        let gate = Arc::new(Gate::default());
        let shard = Arc::clone(&gate);
        let waits = std::thread::Builder::new()
            .spawn(move || shard.pass().is_none())
            .expect("a thread");
        assert!(gate.is_reached_by(1, Duration::from_secs(10)));
        assert!(!gate.is_reached_by(2, Duration::from_millis(1)));
        gate.open(None);
        assert!(waits.join().expect("passed"));
    }
}
