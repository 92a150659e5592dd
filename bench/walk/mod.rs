//! Calls through one shard, message by message: INVITE 100 180 200 ACK BYE 200.
//!
//! Calls go in batches, all of a batch through one step before the next, as they mix on a busy
//! node. The texts of a step are written before it starts, so that nothing but the shard runs in it.

#[path = "../../tests/kit/mod.rs"]
#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::net::SocketAddr;
use std::time::Duration;

use callgate::net::{Flow, ListenerId};
use kit::Desk;

mod texts;

use texts::{Passage, Template};

/// What a shard is handed in the course of a call, in order; the last is no message but the
/// time that passed meanwhile.
pub const STEPS: [&str; 8] = [
    "INVITE",
    "100",
    "180",
    "200",
    "ACK",
    "BYE",
    "200 to BYE",
    "time",
];

/// Messages that the shard receives in a call.
pub const MESSAGES: u64 = 7;

/// Calls that are under way at once.
pub const BATCH: usize = 64;

const CARRIER: &str = "198.51.100.10:5060";
const PBX: &str = "203.0.113.5:5060";

/// Limits, a codec list, session timers and a regular expression: what an operator has.
const CONFIG: &str = r#"
[node]
name = "gate"
[capacity]
dialogs = DIALOGS
transactions = 200_000
[[listen]]
udp = "192.0.2.1:5060"
[trunk.carrier]
address = "198.51.100.10:5060"
calls_max = 2_000_000
cps = { sustain = 100_000, burst = 100_000 }
[trunk.pbx1]
address = "203.0.113.5:5060"
calls_max = 2_000_000
codecs = ["PCMA", "telephone-event"]
[group.pbx]
policy = "priority"
members = ["pbx1"]
[[route]]
from = ["carrier"]
user = "^\\+49"
to = "pbx"
"#;

/// One shard and the peers on both of its sides.
pub struct Walk {
    desk: Desk,
    carrier: Flow,
    pbx: Flow,
    templates: [Template; 7],
    /// Texts of the step under way, by call.
    texts: Vec<Vec<u8>>,
    passages: Vec<Passage>,
    calls: u64,
    /// Time between two calls.
    pace: Duration,
}

impl Walk {
    /// A shard that holds `held` answered calls and has been working for long enough that its
    /// transactions come and go evenly.
    pub fn new(held: usize, calls_per_s: u32) -> Walk {
        let flow = |address: &str| {
            let address: SocketAddr = address.parse().expect("a literal address");
            Flow::udp(ListenerId(0), address)
        };
        let dialogs = (held + held / 10).max(120_000);
        let config = CONFIG.replace("DIALOGS", &dialogs.to_string());
        let mut walk = Walk {
            desk: Desk::new(&config),
            carrier: flow(CARRIER),
            pbx: flow(PBX),
            templates: texts::templates(),
            texts: (0..BATCH).map(|_| Vec::with_capacity(2048)).collect(),
            passages: (0..BATCH).map(|_| Passage::new()).collect(),
            calls: 0,
            pace: Duration::from_secs(1) / calls_per_s,
        };
        for _ in 0..held.div_ceil(BATCH) {
            walk.begin_batch();
            for step in 0..5 {
                walk.prepare(step);
                walk.run(step);
                walk.learn(step);
            }
            walk.desk.now = walk.desk.now + walk.pace * BATCH as u32;
            walk.run(7);
            walk.learn(7);
        }
        // 64*T1 and what runs out behind it.
        let batches = 40 * calls_per_s as usize / BATCH;
        for _ in 0..batches {
            walk.batch(|walk, step| walk.run(step));
        }
        walk
    }

    /// Takes a batch of calls through all steps; `run` is to call [`Walk::run`] and may measure it.
    pub fn batch(&mut self, mut run: impl FnMut(&mut Walk, usize)) {
        self.begin_batch();
        for step in 0..STEPS.len() {
            self.prepare(step);
            run(self, step);
            self.learn(step);
        }
    }

    /// One step of all calls in the batch: the shard's work and nothing else.
    #[inline(never)]
    pub fn run(&mut self, step: usize) {
        let from = match step {
            0 | 4 | 5 => self.carrier,
            _ => self.pbx,
        };
        let Desk {
            shard, now, out, ..
        } = &mut self.desk;
        if step == 7 {
            shard.on_deadline(*now, out);
            return;
        }
        for text in &self.texts {
            shard.on_datagram(*now, from, text, out);
        }
    }

    fn begin_batch(&mut self) {
        for passage in &mut self.passages {
            passage.begin(self.calls);
            self.calls += 1;
        }
    }

    fn prepare(&mut self, step: usize) {
        let Some(template) = self.templates.get(step) else {
            self.desk.now = self.desk.now + self.pace * BATCH as u32;
            return;
        };
        for (text, passage) in self.texts.iter_mut().zip(&self.passages) {
            template.fill(passage, text);
        }
    }

    /// Reads from what the shard sent what the next texts need, and checks that it sent it.
    fn learn(&mut self, step: usize) {
        let out = &mut self.desk.out;
        let per_call = match step {
            0 => 2,
            1 => 0,
            2..=6 => 1,
            _ => return out.clear(),
        };
        assert_eq!(out.len(), per_call * BATCH, "{}", STEPS[step]);
        for (at, passage) in self.passages.iter_mut().enumerate() {
            let sent = out.datagram(at * per_call + per_call.saturating_sub(1));
            if let (0 | 5, Some(sent)) = (step, sent) {
                passage.learn(sent.bytes);
            }
        }
        out.clear();
    }
}
