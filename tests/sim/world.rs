//! A simulated node with its network, peers and operators: shards, one clock, one queue of events.
//! Time jumps from one event to the next; everything that happens is decided by the seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use callgate::base::Instant;
use callgate::net::{Flow, ListenerId, Outbox, owner};
use callgate::shard::Shard;

use crate::checks::Ceiling;
use crate::climate::Climate;
use crate::crash::Crashes;
use crate::dice::Dice;
use crate::judge::Judge;
use crate::ladder::Ladder;
use crate::leg::Alarm;
use crate::model::Model;
use crate::network::{Cut, Partitions};
use crate::node::{Node, Start, prepare};
use crate::peers::Peers;
use crate::plans::{GATES, Plans};
use crate::text::Text;

/// Events of one second; a world with a call each second has a few hundred.
const PACE_MAX: u32 = 3_000;

/// Something that happens at a moment.
#[derive(Debug)]
pub enum Event {
    ToGate {
        from: SocketAddr,
        bytes: Vec<u8>,
        shard: Option<usize>,
        changed: bool,
    },
    ToPeer {
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// An ICMP error about a datagram that the gate sent.
    Bounce {
        to: SocketAddr,
        quoted: Vec<u8>,
    },
    ReadMail {
        shard: usize,
        life: u32,
    },
    Wake {
        call: usize,
        leg: usize,
        alarm: Alarm,
    },
    NewCall,
    Operate,
    Mood,
    Look,
    Partition,
    /// The process is going to die.
    Doom,
    Kill,
    Restart,
}

struct Due {
    at: Instant,
    order: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// One simulated world.
pub struct World {
    pub now: Instant,
    pub climate: Climate,
    pub plans: Plans,
    /// Which of the plans' variants is at work.
    pub variant: usize,
    pub node: Node,
    pub peers: Peers,
    pub judge: Judge,
    pub ladder: Ladder,
    pub dice: Dice,
    pub hash: u64,
    /// Events of the second under way.
    pace: (u64, u32),
    /// No new calls, no operators: the world runs out.
    pub closing: bool,
    /// The call whose message is at work, for the report of a panic.
    pub busy_with: Option<usize>,
    pub ceilings: Vec<Ceiling>,
    /// Calls that two ends talk in and the node did not know at the last look.
    pub missing: Vec<usize>,
    /// Calls that went back to a trunk that had been given up, so far.
    pub returned: u64,
    /// From here on nobody refreshes a session: who never heard a BYE would do so for ever.
    peers_die: Instant,
    pub crashes: Crashes,
    pub partitions: Partitions,
    /// Where it can be said beforehand what the node does.
    pub model: Option<Model>,
    pub out: Outbox,
    tight_out: Outbox,
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
    gates: [SocketAddr; 2],
}

impl World {
    pub fn new(seed: u64, record: Option<usize>) -> World {
        let mut dice = Dice::new(seed, 0);
        let climate = Climate::of(&mut dice);
        let plans = Plans::throw(&mut dice);
        let now = Instant::from_micros(1_000_000);
        let key = [dice.number(), dice.number()];
        let start = Start {
            plan: &plans.variants[0],
            shards: climate.shards,
            capacity: climate.capacity,
            letters_max: climate.letters_max(),
            key,
            life: 0,
        };
        let mut node = Node::start(now, &start, &mut dice);
        if climate.keeps_calls {
            let new = prepare(
                Vec::new(),
                &node.shared.owner_key,
                climate.shards,
                climate.capacity.dialogs,
            );
            node.keep_calls_in(now, new.files, &plans.variants[0]);
        }
        let model = climate
            .is_foreseen()
            .then(|| Model::new(&plans.variants[0]));
        let mut world = World {
            now,
            plans,
            variant: 0,
            node,
            crashes: Crashes::new(key),
            partitions: Partitions::default(),
            model,
            peers: Peers::new(Dice::new(seed, 2), climate.polite),
            judge: Judge::new(climate.is_cramped()),
            ladder: Ladder::new(record),
            dice,
            hash: 0xcbf2_9ce4_8422_2325,
            pace: (0, 0),
            closing: false,
            busy_with: None,
            ceilings: Vec::new(),
            missing: Vec::new(),
            returned: 0,
            peers_die: Instant::from_micros(u64::MAX),
            out: Outbox::new(512, 1 << 18),
            tight_out: Outbox::new(2, 4096),
            queue: BinaryHeap::new(),
            order: 0,
            gates: GATES.map(|gate| gate.parse().expect("a literal address")),
            climate,
        };
        world.lower_ceilings();
        world.after(Duration::ZERO, Event::NewCall);
        world.after(Duration::from_secs(30), Event::Operate);
        world.after(Duration::from_secs(20), Event::Mood);
        world.after(Duration::from_secs(5), Event::Look);
        if world.climate.crashes {
            world.after(Duration::from_secs(60), Event::Doom);
        }
        if world.climate.partitions {
            world.after(Duration::from_secs(45), Event::Partition);
        }
        world
    }

    pub fn after(&mut self, span: Duration, event: Event) {
        let due = Due {
            at: self.now + span,
            order: self.order,
            event,
        };
        self.order += 1;
        self.queue.push(Reverse(due));
    }

    /// Runs until `end`, then lets everything end; the first violation stops it.
    pub fn run(&mut self, end: Instant) {
        while self.now < end && self.judge.violation.is_none() {
            if !self.step() {
                break;
            }
        }
        self.close();
        // The longest talk of the scripts, then call_time_max and a BYE that nobody answers.
        self.peers_die = self.now + Duration::from_secs(1500);
        let horizon = self.now + Duration::from_secs(5400);
        while self.now < horizon && self.judge.violation.is_none() && self.step() {}
        if self.judge.violation.is_none() {
            self.check_end();
        }
    }

    /// The next moment at which something happens; `false` when nothing ever will.
    fn step(&mut self) -> bool {
        let event_at = self.queue.peek().map(|Reverse(due)| due.at);
        let shard_at = self.node.next_deadline();
        self.check_pace();
        match (event_at, shard_at) {
            (None, None) => return false,
            (event, Some((at, shard))) if event.is_none_or(|event| at <= event) => {
                self.now = self.now.max(at);
                self.let_time_pass(shard);
            }
            _ => {
                let Some(Reverse(due)) = self.queue.pop() else {
                    return false;
                };
                self.now = self.now.max(due.at);
                self.happen(due.event);
            }
        }
        self.check_step();
        true
    }

    /// Messages that breed messages would keep a world from ever ending.
    fn check_pace(&mut self) {
        let second = self.now.as_millis() / 1000;
        if self.pace.0 != second {
            self.pace = (second, 0);
        }
        self.pace.1 += 1;
        if self.pace.1 > PACE_MAX {
            let what = format!("{PACE_MAX} events within one second: messages breed messages");
            self.judge.blame(self.now, self.busy_with, what);
        }
    }

    fn let_time_pass(&mut self, shard: usize) {
        self.mix(shard as u64);
        let clock = self.node.clock(self.now);
        self.turn(shard, |shard, out| shard.on_deadline(clock, out));
        // The wheel may name the start of a slot, and a full outbox leaves work undone.
        self.node.not_before[shard] = self.now + Duration::from_millis(1);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToGate {
                from,
                bytes,
                shard,
                changed,
            } => {
                self.arrive(from, &bytes, shard, changed);
            }
            Event::ToPeer { to, bytes } => self.deliver(to, &bytes),
            Event::Bounce { to, quoted } => self.bounce(to, &quoted),
            Event::ReadMail { shard, life } if life == self.node.life => {
                if !self.node.is_down() {
                    self.node.reading[shard] = false;
                    let clock = self.node.clock(self.now);
                    self.turn(shard, |shard, out| shard.on_mail(clock, out));
                }
            }
            Event::ReadMail { .. } => {}
            Event::Wake {
                alarm: Alarm::Refresh(..),
                ..
            } if self.now > self.peers_die => {}
            Event::Wake { call, leg, alarm } => {
                let sent = self.peers.wake(self.now, call, leg, alarm);
                self.post(call, leg, sent);
            }
            Event::NewCall => self.new_call(),
            Event::Operate => self.operate(),
            Event::Mood => self.change_mood(),
            Event::Look => self.look(),
            Event::Partition => self.cut_off(),
            Event::Doom => self.doom(),
            Event::Kill => self.kill(),
            Event::Restart => self.restart(),
        }
    }

    fn bounce(&mut self, to: SocketAddr, quoted: &[u8]) {
        if self.node.is_down() {
            return;
        }
        let shard = self.dice.below(self.node.shards.len());
        let (clock, to) = (self.node.clock(self.now), self.flow(to));
        self.turn(shard, |shard, out| {
            shard.on_unreachable(clock, to, quoted, out)
        });
    }

    /// A datagram reaches a socket of the gate.
    fn arrive(&mut self, from: SocketAddr, bytes: &[u8], shard: Option<usize>, changed: bool) {
        if self.node.is_down() {
            return;
        }
        self.count_down();
        let whole = String::from_utf8_lossy(bytes);
        let text = Text::new(&whole);
        self.busy_with = self.judge.call_of(text.call_id());
        // What a dying process hears is as good as lost.
        if self.crashes.is_dying {
            self.judge.is_heard_dying(text);
        } else {
            self.judge.goes_in(self.now, from, text, changed);
            if let (Some(model), Some(call)) = (&mut self.model, self.busy_with) {
                model.sees_in(call, text);
            }
        }
        self.ladder
            .note(self.now, self.busy_with, from, None, &whole);
        let count = self.node.shards.len() as u16;
        let call_id = text.call_id().as_bytes();
        let owner = usize::from(owner(call_id, &self.node.shared.owner_key, count));
        let shard = shard.map_or(owner, |shard| shard % usize::from(count));
        self.mix(shard as u64);
        self.mix_bytes(bytes);
        let (clock, from) = (self.node.clock(self.now), self.flow(from));
        self.turn(shard, |shard, out| {
            shard.on_datagram(clock, from, bytes, out)
        });
    }

    /// Lets a shard read its mail at once.
    pub fn read_mail(&mut self, shard: usize) {
        let clock = self.node.clock(self.now);
        self.work(shard, false, |shard, out| shard.on_mail(clock, out));
    }

    fn turn(&mut self, shard: usize, act: impl FnOnce(&mut Shard, &mut Outbox)) {
        let tight = self.climate.tight_outbox && !self.closing && self.dice.chance(100);
        self.work(shard, tight, act);
    }

    /// Lets a shard work, then sends what it wrote and sees to its mail.
    fn work(&mut self, shard: usize, tight: bool, act: impl FnOnce(&mut Shard, &mut Outbox)) {
        let out = if tight {
            &mut self.tight_out
        } else {
            &mut self.out
        };
        if let Some(model) = &mut self.model {
            let clock = self.node.clock(self.now);
            model.look_at(&self.node.shared.board, clock);
        }
        act(&mut self.node.shards[shard], out);
        let sent: Vec<(SocketAddr, Vec<u8>)> = out
            .iter()
            .map(|one| (one.to.remote, one.bytes.to_vec()))
            .collect();
        out.clear();
        for (to, bytes) in sent {
            if self.crashes.is_dying {
                self.mix_bytes(&bytes);
            } else {
                self.gate_sends(to, bytes);
            }
        }
        self.node.not_before[shard] = self.now;
        if let Some(Err(what)) = self.compare_with_model() {
            self.judge.blame(self.now, self.busy_with, what);
        }
        self.see_to_mail();
    }

    fn gate_sends(&mut self, to: SocketAddr, mut bytes: Vec<u8>) {
        self.mix_bytes(&bytes);
        let whole = String::from_utf8_lossy(&bytes).into_owned();
        let text = Text::new(&whole);
        let call = self.judge.call_of(text.call_id());
        self.ladder
            .note(self.now, call, self.gates[0], Some(to), &whole);
        if let Some(Err(what)) = self.foresee(call, to, text) {
            self.judge
                .blame(self.now, call, format!("not as the model: {what}"));
        }
        let muddy = self.climate.weather.corruption > 0 && call.is_none();
        if !muddy {
            self.judge.goes_out(self.now, to, text);
        }
        let cut = self.partitions.cuts(self.now, to);
        if cut == Some(Cut::Silent) {
            return;
        }
        if self.peers.refuses(to) || cut.is_some() {
            bytes.truncate(548);
            let delay = self.dice.millis(1..20);
            return self.after(delay, Event::Bounce { to, quoted: bytes });
        }
        for delay in self
            .climate
            .weather
            .fate(&mut self.dice)
            .into_iter()
            .flatten()
        {
            let mut copy = bytes.clone();
            if self.climate.weather.corrupt(&mut self.dice, &mut copy) {
                self.taint(call);
            }
            self.after(delay, Event::ToPeer { to, bytes: copy });
        }
    }

    fn taint(&mut self, call: Option<usize>) {
        if let Some(call) = call {
            self.judge.case_mut(call).tainted = true;
        }
    }

    fn see_to_mail(&mut self) {
        for shard in 0..self.node.shards.len() {
            let mail = &self.node.shared.mail;
            let has_mail = !mail.fall_asleep(shard);
            mail.wake_up(shard);
            if has_mail && !self.node.reading[shard] {
                self.node.reading[shard] = true;
                let delay = Duration::from_micros(self.dice.below(2000) as u64);
                let life = self.node.life;
                self.after(delay, Event::ReadMail { shard, life });
            }
        }
    }

    /// Puts what a leg sends on its way, and what it wants to be woken for into the queue.
    pub fn post(&mut self, call: usize, leg: usize, turn: crate::peers::Done) {
        for (span, alarm) in turn.alarms {
            self.after(span, Event::Wake { call, leg, alarm });
        }
        for (from, _, text) in turn.sent {
            self.send(call, from, text.into_bytes());
        }
        if let Some(moved) = turn.moved {
            self.judge.case_mut(call).parties.push(moved);
            self.ladder.remark(self.now, call, "its NAT binds it anew");
        }
        if let Some(what) = turn.outrage {
            self.judge.blame(self.now, Some(call), what);
        }
    }

    /// Sends a datagram to the gate through the network.
    pub fn send(&mut self, call: usize, from: SocketAddr, bytes: Vec<u8>) {
        if self.partitions.cuts(self.now, from).is_some() {
            return;
        }
        for delay in self
            .climate
            .weather
            .fate(&mut self.dice)
            .into_iter()
            .flatten()
        {
            let mut copy = bytes.clone();
            let changed = self.climate.weather.corrupt(&mut self.dice, &mut copy);
            if changed {
                self.taint(Some(call));
            }
            let wrong = self.dice.chance(self.climate.weather.wrong_steering);
            let shard = wrong.then(|| self.dice.below(12));
            self.after(
                delay,
                Event::ToGate {
                    from,
                    bytes: copy,
                    shard,
                    changed,
                },
            );
        }
    }

    fn deliver(&mut self, to: SocketAddr, bytes: &[u8]) {
        let whole = String::from_utf8_lossy(bytes);
        let text = Text::new(&whole);
        if let Some(answer) = self.peers.answer_probe(to, text) {
            return self.send_probe_answer(to, answer);
        }
        let Some(call) = self.judge.call_of(text.call_id()) else {
            return;
        };
        let heard = self.peers.hear(self.now, call, to, text, &whole);
        if let Some((leg, done)) = heard {
            self.post(call, leg, done);
        }
    }

    fn cut_off(&mut self) {
        if self.closing {
            return;
        }
        self.partitions.begin(self.now, &mut self.dice);
        let pause = self.dice.millis(10_000..300_000);
        self.after(pause, Event::Partition);
    }

    fn send_probe_answer(&mut self, from: SocketAddr, answer: String) {
        if self.partitions.cuts(self.now, from).is_some() {
            return;
        }
        for delay in self
            .climate
            .weather
            .fate(&mut self.dice)
            .into_iter()
            .flatten()
        {
            let bytes = answer.clone().into_bytes();
            self.after(
                delay,
                Event::ToGate {
                    from,
                    bytes,
                    shard: None,
                    changed: false,
                },
            );
        }
    }

    fn new_call(&mut self) {
        if self.closing {
            return;
        }
        let call = self.judge.calls();
        let started = self.peers.begin(self.now, call);
        self.judge
            .open(self.now, &started.call_id, &started.user, started.parties);
        self.post(call, 0, started.done);
        let pause = self.dice.millis(0..self.climate.pause_max);
        self.after(pause, Event::NewCall);
    }

    fn flow(&self, remote: SocketAddr) -> Flow {
        Flow::udp(ListenerId(u16::from(remote.is_ipv6())), remote)
    }

    fn mix(&mut self, number: u64) {
        self.mix_bytes(&number.to_le_bytes());
        let us = self.now.as_micros();
        self.mix_bytes(&us.to_le_bytes());
    }

    fn mix_bytes(&mut self, bytes: &[u8]) {
        for eight in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..eight.len()].copy_from_slice(eight);
            self.hash = (self.hash ^ u64::from_le_bytes(word))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
        }
    }
}
