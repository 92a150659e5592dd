//! The machine: a queue that runs over, a shard that takes batches from it, and what each step
//! costs. Costs are those of docs/overload.md, times [`SLOWER`], so that a run takes seconds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use callgate::base::Instant;
use callgate::guard::opens;
use callgate::guard::overload::{Backlog, TurnstileKind};
use callgate::metrics::Counter;
use callgate::net::{Flow, ListenerId, Outbox};

use super::kit::Desk;
use super::peers::Peers;

/// Two trunks: who calls, and who is called.
pub const CONFIG: &str = r#"
[node]
name = "gate"
[capacity]
dialogs = 60_000
transactions = 120_000
[[listen]]
udp = "192.0.2.1:5060"
[trunk.carrier]
address = "198.51.100.10:5060"
[trunk.pbx]
address = "203.0.113.5:5060"
[[route]]
from = ["carrier"]
to = "pbx"
"#;

/// How much slower the simulated machine is than the measured one.
const SLOWER: u64 = 25;
const RECEIVE_NS: u64 = 520 * SLOWER;
const SEND_NS: u64 = 1_350 * SLOWER;
const WORK_NS: u64 = 350 * SLOWER;
/// Six messages come in per call and seven go out.
pub const CAPACITY: f64 = 1e9 / (6 * (RECEIVE_NS + WORK_NS) + 7 * SEND_NS) as f64;
/// Datagrams that fit the queue: 16 MiB.
const QUEUE_MAX: usize = 12_000;
const BATCH_MAX: usize = 128;
/// A turn that brings fewer has emptied the sockets, as `io::EVENTS_MORE`.
const BATCH_MORE: usize = 32;
const LINK: Duration = Duration::from_millis(1);

/// A datagram on its way to the shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    pub from: SocketAddr,
    pub text: String,
}

/// How callers behave.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// They take no notice of feedback.
    pub deaf: bool,
    /// The kernel drops for the shard.
    pub turnstile: TurnstileKind,
}

pub struct World {
    desk: Desk,
    peers: Peers,
    /// Nanoseconds since the start.
    now_ns: u64,
    on_the_way: BinaryHeap<Reverse<(u64, u64, Packet)>>,
    queue: VecDeque<(u64, Packet)>,
    sequence: u64,
    pub overrun: u64,
    drop_below: u32,
    turned_away: u64,
    load: Load,
    busy_ns: u64,
}

impl World {
    pub fn new(config: &str, load: Load) -> World {
        let mut desk = Desk::new(config);
        desk.out = Outbox::new(1024, 1 << 20);
        World {
            desk,
            peers: Peers::new(load),
            now_ns: 1_000_000_000,
            on_the_way: BinaryHeap::new(),
            queue: VecDeque::new(),
            sequence: 0,
            overrun: 0,
            drop_below: 0,
            turned_away: 0,
            load,
            busy_ns: 0,
        }
    }

    /// New calls at an even rate for a while.
    pub fn offer(&mut self, per_s: f64, span: Duration) {
        let end = self.now_ns + span.as_nanos() as u64;
        let gap = (1e9 / per_s) as u64;
        let mut next_call = self.now_ns;
        while self.now_ns < end {
            while next_call <= self.now_ns {
                let packets = self.peers.call(next_call);
                self.send(next_call, packets);
                next_call += gap;
            }
            let packets = self.peers.wake(self.now_ns);
            self.send(self.now_ns, packets);
            self.arrive();
            if !self.turn() {
                // Nothing to do: on to whatever comes first.
                let arrival = self.on_the_way.peek().map(|Reverse((at, _, _))| *at);
                let timer = self
                    .desk
                    .shard
                    .next_deadline()
                    .map(|due| due.as_micros() * 1000);
                let next = [arrival, timer, self.peers.next(), Some(next_call)];
                let next = next.into_iter().flatten().min().unwrap_or(end);
                self.now_ns = next
                    .max(self.now_ns + 10_000)
                    .min(end.max(self.now_ns + 10_000));
            }
        }
    }

    fn send(&mut self, at_ns: u64, packets: Vec<Packet>) {
        for packet in packets {
            self.sequence += 1;
            let at = at_ns + LINK.as_nanos() as u64;
            self.on_the_way.push(Reverse((at, self.sequence, packet)));
        }
    }

    fn arrive(&mut self) {
        while let Some(Reverse((at, _, _))) = self.on_the_way.peek() {
            if *at > self.now_ns {
                break;
            }
            let Some(Reverse((at, sequence, packet))) = self.on_the_way.pop() else {
                break;
            };
            let draw = (sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
            if draw < self.drop_below && opens(packet.text.as_bytes()) {
                self.turned_away += 1;
            } else if self.queue.len() < QUEUE_MAX {
                self.queue.push_back((at, packet));
            } else {
                self.overrun += 1;
            }
        }
    }

    fn instant(&self) -> Instant {
        Instant::from_micros(self.now_ns / 1000)
    }

    /// One turn of a shard's loop; whether there was anything to do.
    fn turn(&mut self) -> bool {
        let now = self.instant();
        self.desk.now = now;
        self.desk.shard.on_deadline(now, &mut self.desk.out);
        self.flush();
        let count = self.queue.len().min(BATCH_MAX);
        let mut last = 0;
        for _ in 0..count {
            let Some((arrived, packet)) = self.queue.pop_front() else {
                break;
            };
            last = arrived;
            let parsed = self.parsed();
            let from = Flow::udp(ListenerId(0), packet.from);
            self.desk
                .shard
                .on_datagram(now, from, packet.text.as_bytes(), &mut self.desk.out);
            self.spend(RECEIVE_NS + WORK_NS * (self.parsed() - parsed));
            self.flush();
        }
        self.arrive();
        let seen = if count < BATCH_MORE {
            Backlog::default()
        } else {
            Backlog {
                waited: Duration::from_nanos(self.now_ns - last),
                fill_percent: (self.queue.len() * 100 / QUEUE_MAX) as u8,
            }
        };
        let now = self.instant();
        self.desk.shard.on_backlog(now, seen);
        if let Some(turnstile) = self.desk.shard.turnstile_wanted() {
            let kind = self.load.turnstile;
            let stands = kind != TurnstileKind::Missing;
            self.drop_below = if stands { turnstile.drop_below } else { 0 };
            self.desk.shard.turnstile_stands(turnstile, kind);
        }
        count > 0
    }

    fn parsed(&self) -> u64 {
        self.desk.count(Counter::RequestsReceived) + self.desk.count(Counter::ResponsesReceived)
    }

    fn spend(&mut self, ns: u64) {
        self.now_ns += ns;
        self.busy_ns += ns;
    }

    /// Sends what is in the outbox; peers answer at once.
    fn flush(&mut self) {
        for sent in self.desk.take() {
            self.spend(SEND_NS);
            let at = self.now_ns + LINK.as_nanos() as u64;
            let packets = self.peers.receive(at, &sent);
            self.send(at, packets);
        }
    }

    /// Calls that went through from begin to end, per second, in a span of seconds.
    pub fn completed_between(&self, from_s: f64, to_s: f64) -> f64 {
        let span = (1.0 + from_s) * 1e9..(1.0 + to_s) * 1e9;
        let count = self
            .peers
            .completed
            .iter()
            .filter(|at| span.contains(&(**at as f64)));
        count.count() as f64 / (to_s - from_s)
    }

    pub fn report(&self) -> String {
        let count = |counter| self.desk.count(counter);
        format!(
            "busy {:.3} s, overrun {} turned away {} refused {} unread {} repeated {} {:?}",
            self.busy_ns as f64 / 1e9,
            self.overrun,
            self.turned_away,
            count(Counter::RefusedOverload),
            count(Counter::DroppedOverload),
            count(Counter::Retransmissions),
            self.peers.tally(),
        )
    }
}
