//! The thread that takes copies of messages out of the shards' spools and brings them to Homer and to
//! the traces. It looks rather than being woken: a shard must not pay a system call for a copy.

use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::clock::Clock;
use super::homer::Link;
use crate::capture::hep::{self, Report};
use crate::capture::{Direction, Spooled, glance};
use crate::control::{HOMER_NUMBER, Node};
use crate::shard::Listener;

/// Between two looks while somebody wants copies: a spool holds many times what comes meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The same while nobody does.
const IDLE_EVERY: Duration = Duration::from_millis(500);
/// Copies taken from one spool before the next one's turn.
const TURN_MAX: usize = 512;

/// The running thread.
pub struct Copying {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Copying {
    /// Starts the thread.
    pub fn start(node: &Arc<Node>, clock: Clock) -> io::Result<Copying> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut copier = Copier {
            node: Arc::clone(node),
            clock,
            edition: 0,
            link: None,
            report: Vec::new(),
        };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("capture".into())
            .spawn(move || copier.run(&stopped))?;
        Ok(Copying { stop, thread })
    }

    /// Has the thread bring out what is left, and waits for it.
    pub fn close(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _panicked = self.thread.join();
    }
}

struct Copier {
    node: Arc<Node>,
    clock: Clock,
    /// Which edition of Homer the link is to.
    edition: u64,
    link: Option<Link>,
    report: Vec<u8>,
}

impl Copier {
    fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.follow_homer();
            let taken = self.round();
            let now = self.clock.now();
            if let Some(link) = &mut self.link {
                link.tend(now, &self.node.desk.hep);
            }
            if self.node.desk.close_abandoned(now) {
                self.node.retap();
            }
            if !self.node.desk.is_wanted() {
                self.node.desk.wait_until_wanted(IDLE_EVERY);
            } else if taken == 0 {
                std::thread::sleep(LOOK_EVERY);
            }
        }
        while self.round() > 0 {}
        if let Some(link) = &mut self.link {
            link.tend(self.clock.now(), &self.node.desk.hep);
        }
    }

    /// Opens another link where the configuration names another Homer.
    fn follow_homer(&mut self) {
        let (edition, homer) = self.node.desk.homer();
        if edition != self.edition {
            self.edition = edition;
            self.link = homer.map(Link::new);
        }
    }

    /// Takes a number of copies out of each spool; how many there were.
    fn round(&mut self) -> usize {
        let node = Arc::clone(&self.node);
        let plan = node.plan();
        let start_us = self.clock.wall().start_us;
        let mut taken = 0;
        for spool in node.seats.iter().filter_map(|seat| seat.spool.get()) {
            for _ in 0..TURN_MAX {
                let found = spool.take(|copy| {
                    node.desk.deliver(start_us, copy);
                    self.send_to_homer(start_us, copy, &plan.listeners);
                });
                if !found {
                    break;
                }
                taken += 1;
            }
        }
        taken
    }

    fn send_to_homer(&mut self, start_us: u64, copy: &Spooled, listeners: &[Listener]) {
        let Some(link) = &mut self.link else { return };
        if copy.wanted_by & 1 << HOMER_NUMBER == 0 {
            return;
        }
        let listener = listeners.get(usize::from(copy.flow.listener.0));
        let local = listener.map_or_else(|| ([0, 0, 0, 0], 0).into(), Listener::address);
        let remote = copy.flow.remote;
        let (source, destination) = match copy.direction {
            Direction::Received => (remote, local),
            Direction::Sent => (local, remote),
        };
        let homer = link.homer();
        self.report.clear();
        hep::write(
            &Report {
                source,
                destination,
                unix_us: start_us + copy.at.as_micros(),
                capture_id: homer.capture_id,
                password: homer.password.reveal(),
                node_name: &homer.node_name,
                call_id: glance(&copy.bytes).call_id,
                payload: &copy.bytes,
            },
            &mut self.report,
        );
        link.send(&self.report, self.clock.now(), &self.node.desk.hep);
    }
}
