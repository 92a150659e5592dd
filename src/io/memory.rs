//! A driver without a kernel, for tests: datagrams are put in at one end and taken out there.

use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::driver::Handler;
use super::{Driver, DriverCounters, Event};
use crate::base::ring::Wake;
use crate::net::{Flow, Outbox};

/// Moves datagrams between a shard and a test.
#[derive(Debug)]
pub struct MemoryDriver {
    shared: Arc<Shared>,
    counters: DriverCounters,
}

/// The test's end of a [`MemoryDriver`].
#[derive(Clone, Debug)]
pub struct MemoryEnd {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<Queues>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Queues {
    input: VecDeque<Arrival>,
    output: VecDeque<(Flow, Vec<u8>)>,
    woken: bool,
}

#[derive(Debug)]
enum Arrival {
    Datagram(Flow, Vec<u8>),
    Refusal(Flow, Vec<u8>),
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Shared {
    fn wake(&self) {
        self.queues().woken = true;
        self.arrived.notify_all();
    }
}

impl MemoryEnd {
    /// Lets a datagram arrive.
    pub fn put(&self, from: Flow, bytes: &[u8]) {
        self.arrive(Arrival::Datagram(from, bytes.to_vec()));
    }

    /// Lets a datagram to `to` come back.
    pub fn refuse(&self, to: Flow, quoted: &[u8]) {
        self.arrive(Arrival::Refusal(to, quoted.to_vec()));
    }

    fn arrive(&self, arrival: Arrival) {
        self.shared.queues().input.push_back(arrival);
        self.shared.arrived.notify_all();
    }

    /// Takes the oldest datagram that the shard sent.
    pub fn take(&self) -> Option<(Flow, Vec<u8>)> {
        self.shared.queues().output.pop_front()
    }
}

impl MemoryDriver {
    /// A driver and the end that feeds it.
    pub fn new() -> (MemoryDriver, MemoryEnd) {
        let shared = Arc::new(Shared::default());
        let end = MemoryEnd {
            shared: Arc::clone(&shared),
        };
        let driver = MemoryDriver {
            shared,
            counters: DriverCounters::default(),
        };
        (driver, end)
    }

    /// Waits until there is input or a wake-up; true for a wake-up, which is used up by that.
    fn wait(&self, timeout: Option<Duration>) -> bool {
        let idle = |queues: &mut Queues| queues.input.is_empty() && !queues.woken;
        let queues = self.shared.queues();
        let mut queues = match timeout {
            None => self
                .shared
                .arrived
                .wait_while(queues, idle)
                .unwrap_or_else(PoisonError::into_inner),
            Some(span) => {
                self.shared
                    .arrived
                    .wait_timeout_while(queues, span, idle)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        core::mem::take(&mut queues.woken)
    }

    fn hand_over(&mut self, arrival: &Arrival, out: &mut Outbox, handler: &mut Handler<'_>) {
        match arrival {
            Arrival::Datagram(from, bytes) => {
                self.counters.received += 1;
                handler(Event::Datagram { from: *from, bytes }, out);
            }
            Arrival::Refusal(to, quoted) => {
                self.counters.bounced += 1;
                handler(Event::Unreachable { to: *to, quoted }, out);
            }
        }
    }
}

impl Driver for MemoryDriver {
    fn turn(
        &mut self,
        timeout: Option<Duration>,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> io::Result<usize> {
        self.flush(out);
        let mut events = 0;
        if self.wait(timeout) {
            self.counters.wakes += 1;
            events += 1;
            handler(Event::Woken, out);
        }
        loop {
            let arrival = self.shared.queues().input.pop_front();
            let Some(arrival) = arrival else { break };
            events += 1;
            self.hand_over(&arrival, out, handler);
            if out.is_nearly_full() {
                self.flush(out);
            }
        }
        self.flush(out);
        self.counters.turns += 1;
        Ok(events)
    }

    /// Time belongs to the test, so nothing is slept here.
    fn tick(
        &mut self,
        span: Duration,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> io::Result<usize> {
        self.flush(out);
        self.counters.ticks += u64::from(!span.is_zero());
        self.turn(Some(Duration::ZERO), out, handler)
    }

    fn flush(&mut self, out: &mut Outbox) {
        self.counters.sent += out.len() as u64;
        let mut queues = self.shared.queues();
        for datagram in out.iter() {
            let sent = (datagram.to, datagram.bytes.to_vec());
            queues.output.push_back(sent);
        }
        drop(queues);
        out.clear();
    }

    fn waker(&self) -> Arc<dyn Wake> {
        let shared: Arc<Shared> = Arc::clone(&self.shared);
        shared
    }

    fn counters(&self) -> DriverCounters {
        self.counters
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ListenerId;

    #[test]
    fn what_goes_in_is_handed_over_and_what_is_sent_comes_out() {
        let (mut driver, end) = MemoryDriver::new();
        let from = Flow::udp(ListenerId(0), "192.0.2.1:5060".parse().expect("an address"));
        end.put(from, b"ping");
        driver.waker().wake();
        let mut out = Outbox::new(32, 1 << 18);
        let mut woken = false;
        let events = driver
            .turn(None, &mut out, &mut |event, out| match event {
                Event::Datagram { from, bytes } => {
                    out.push(from, bytes).expect("room");
                }
                Event::Woken => woken = true,
                Event::Truncated { .. } | Event::Unreachable { .. } => panic!("{event:?}"),
            })
            .expect("memory never fails");
        assert_eq!(events, 2);
        assert!(woken);
        assert_eq!(end.take(), Some((from, b"ping".to_vec())));
        assert_eq!(end.take(), None);
    }
}
