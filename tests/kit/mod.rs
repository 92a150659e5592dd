//! One shard on a desk: messages go in as text, what it sends comes out as text, time is a number.
//! Shared by the tests of the walk, of allocations and by the benches.

pub mod talk;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use callgate::base::Instant;
use callgate::base::hash::HashKey;
use callgate::dialog::store::{Head, Region, Wall};
use callgate::guard::bans::SharedBans;
use callgate::limit::{Limits, Maxima, SlotId};
use callgate::metrics::{Counter, Metrics};
use callgate::net::{Flow, ListenerId, Outbox};
use callgate::route::health::Board;
use callgate::shard::mail::{Ask, Mail, Mailroom};
use callgate::shard::{Capacity, NodePlan, Recalled, Shard, Shared};

/// A datagram that the shard sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub to: SocketAddr,
    /// Position of the listener that it leaves by.
    pub listener: u16,
    pub text: String,
}

impl Sent {
    /// The first line.
    pub fn start_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// The value of the first header with this name as written.
    pub fn header<'s>(&'s self, name: &'s str) -> Option<&'s str> {
        self.headers(name).next()
    }

    /// The values of all headers with this name, in order.
    pub fn headers<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> + 's {
        self.text
            .lines()
            .take_while(|line| !line.is_empty())
            .filter_map(move |line| {
                line.split_once(':')
                    .filter(|(is, _)| *is == name)
                    .map(|(_, value)| value.trim())
            })
    }
}

/// A shard with its clock and outbox.
pub struct Desk {
    pub shard: Shard,
    pub shared: Arc<Shared>,
    pub metrics: Arc<Metrics>,
    pub now: Instant,
    pub out: Outbox,
}

/// Number of limit slots in these tests.
const SLOTS: usize = 64;

impl Desk {
    /// A shard that works from a configuration text.
    pub fn new(config: &str) -> Desk {
        let names = &mut callgate::config::InOrder::default();
        let config = match callgate::config::load(config, "test.toml", names) {
            Ok(config) => config,
            Err(report) => panic!("the test's configuration is faulty:\n{report}"),
        };
        Desk::with(&config.plan, config.capacity.per_shard(1))
    }

    fn with(plan: &NodePlan, capacity: Capacity) -> Desk {
        let limits = Arc::new(Limits::new(SLOTS));
        for trunk in &plan.routing.trunks {
            limits.set(SlotId(trunk.slot), &maxima(&trunk.limits));
        }
        for group in &plan.routing.groups {
            limits.set(SlotId(group.slot), &maxima(&group.limits));
        }
        let board = Arc::new(Board::new(SLOTS as u16));
        board.introduce(Instant::START, &plan.routing);
        let shared = Arc::new(Shared {
            limits,
            board,
            mail: Mailroom::new(1, 16),
            draining: AtomicBool::new(false),
            owner_key: HashKey::new([1, 2]),
            bans: SharedBans::new(HashKey::new([5, 6])),
        });
        let metrics = Arc::new(Metrics::new(SLOTS));
        let now = Instant::from_micros(1_000_000);
        let seed = [1, 2, 3, 4];
        let shard = Shard::new(
            0,
            plan,
            Arc::clone(&shared),
            capacity,
            seed,
            Arc::clone(&metrics),
            now,
        );
        Desk {
            shard,
            shared,
            metrics,
            now,
            out: Outbox::new(256, 1 << 20),
        }
    }

    /// Has the shard record its answered calls in a region, and take over those that are in it.
    pub fn keep_calls_in(&mut self, region: Box<dyn Region>, wall: Wall) -> Recalled {
        self.shard.keep_calls_in(self.now, region, wall, &|_| None)
    }

    /// The same in a new region for so many calls.
    pub fn keep_calls(&mut self, calls: usize) {
        let head = Head::new(calls, &self.shared.owner_key);
        let mut region = vec![0; head.octets()];
        head.write(&mut region);
        self.keep_calls_in(Box::new(region), Wall { start_us: 0 });
    }

    /// Gives the shard one datagram and returns what it sends.
    pub fn receive(&mut self, from: &str, text: &str) -> Vec<Sent> {
        self.receive_on(0, from, text)
    }

    /// Gives the shard one datagram that came in by the listener at this position.
    pub fn receive_on(&mut self, listener: u16, from: &str, text: &str) -> Vec<Sent> {
        let from: SocketAddr = from.parse().expect("a literal address");
        let from = Flow::udp(ListenerId(listener), from);
        self.shard
            .on_datagram(self.now, from, text.as_bytes(), &mut self.out);
        self.take()
    }

    /// Tells the shard that the network refused this datagram of its own.
    pub fn bounce(&mut self, sent: &Sent) -> Vec<Sent> {
        let to = Flow::udp(ListenerId(sent.listener), sent.to);
        self.shard
            .on_unreachable(self.now, to, sent.text.as_bytes(), &mut self.out);
        self.take()
    }

    /// Puts a request of the operator into the shard's inbox and lets it read that.
    pub fn ask(&mut self, ask: Ask) -> Vec<Sent> {
        assert!(self.shared.mail.post(0, Mail::Ask(Box::new(ask))));
        self.shard.on_mail(self.now, &mut self.out);
        self.take()
    }

    /// Lets time pass, deadline by deadline, and returns what the shard sends meanwhile.
    pub fn wait(&mut self, span: Duration) -> Vec<Sent> {
        let end = self.now + span;
        let mut sent = Vec::new();
        while let Some(due) = self.shard.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.shard.on_deadline(self.now, &mut self.out);
            sent.extend(self.take());
            if self.shard.next_deadline() == Some(due) {
                // The wheel may name the start of a slot: go on to the next millisecond.
                self.now = self.now + Duration::from_millis(1);
            }
        }
        self.now = end;
        self.shard.on_deadline(self.now, &mut self.out);
        sent.extend(self.take());
        sent
    }

    /// Calls counted on a slot, both directions.
    pub fn used(&self, slot: u16) -> (u32, u32) {
        let used = self.shared.limits.used(SlotId(slot));
        (used.in_calls, used.out_calls)
    }

    /// A counter of the shard.
    pub fn count(&self, counter: Counter) -> u64 {
        self.metrics.value(counter)
    }

    /// Whether nothing of any call is left: no call, no lease.
    pub fn is_idle(&self) -> bool {
        self.shard.census().calls == 0 && self.shared.limits.total_used() == 0
    }

    /// What is still kept when all is over: calls, dialogs, transactions, octets, timers, leases.
    pub fn leftovers(&self) -> [usize; 6] {
        let census = self.shard.census();
        [
            census.calls,
            census.dialogs,
            census.server_transactions + census.client_transactions,
            census.stored_bytes,
            census.timers,
            self.shared.limits.total_used() as usize,
        ]
    }

    /// Waits until every transaction has run out and asserts that nothing is left.
    pub fn assert_nothing_left(&mut self) {
        self.wait(Duration::from_secs(70));
        assert_eq!(self.leftovers(), [0; 6]);
    }

    /// What the shard has sent since the last look.
    pub fn take(&mut self) -> Vec<Sent> {
        let sent = self
            .out
            .iter()
            .map(|datagram| Sent {
                to: datagram.to.remote,
                listener: datagram.to.listener.0,
                text: String::from_utf8_lossy(datagram.bytes).into_owned(),
            })
            .collect();
        self.out.clear();
        sent
    }
}

fn maxima(limits: &callgate::route::LimitMaxima) -> Maxima {
    Maxima {
        calls_max: limits.calls_max,
        calls_in_max: limits.calls_in_max,
        calls_out_max: limits.calls_out_max,
        cps: limits.cps.map(|cps| callgate::limit::Cps {
            sustain: cps.sustain,
            burst: cps.burst,
        }),
    }
}
