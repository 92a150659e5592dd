//! The keeper: the trunks that one shard watches, their probe schedule, orders and signals.
//!
//! Shards without a trunk read the board only; what their calls notice about it comes to the
//! keeper by mail. The keeper sends nothing itself: it says what to probe and is told how it went.

use core::time::Duration;
use std::sync::Arc;

use super::board::Board;
use super::log::{Log, Transition, Why};
use super::watched::{NEVER, Records, Sign, Watched};
use super::{Input, State};
use crate::base::Instant;
use crate::route::plan::{Plan, Trunk};

/// A probe that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub slot: u16,
    /// In the order of the trunk's addresses.
    pub address_index: usize,
}

/// What a call noticed about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passive {
    TimedOut,
    Status503,
    /// An ICMP error came back.
    Refused,
    Answered,
}

/// What an operator wants of a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Drain,
    Enable,
    Disable,
    Probe,
}

/// Why an order cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderFault {
    NotKeptHere,
    Disabled,
    NoAddress,
}

impl OrderFault {
    /// The fault in words.
    pub const fn text(self) -> &'static str {
        match self {
            OrderFault::NotKeptHere => "this shard does not keep the trunk",
            OrderFault::Disabled => "a disabled trunk is not probed; enable it first",
            OrderFault::NoAddress => "the trunk has no address to probe",
        }
    }
}

/// The trunks of one shard: those whose slot modulo the number of shards is its own.
#[derive(Debug)]
pub struct Keeper {
    shard: u16,
    shards: u16,
    board: Arc<Board>,
    /// Sorted by slot.
    trunks: Vec<Watched>,
    /// When each of `trunks` has something to do. A shard may keep thousands: a sweep reads this
    /// line of numbers and touches only trunks that are due.
    agenda: Vec<Instant>,
    log: Log,
    /// Nothing on the agenda is earlier.
    next_event: Instant,
    /// Where the sweep for due trunks goes on.
    sweep: usize,
}

impl Keeper {
    /// A keeper without trunks yet, for shard `shard` of `shards`.
    pub fn new(shard: u16, shards: u16, board: Arc<Board>) -> Keeper {
        Keeper {
            shard,
            shards: shards.max(1),
            board,
            trunks: Vec::new(),
            agenda: Vec::new(),
            log: Log::new(),
            next_event: NEVER,
            sweep: 0,
        }
    }

    /// Takes over a plan, at start and after each reload. A trunk whose slot goes on keeps its
    /// state unless its addresses changed. Allocates for new trunks.
    pub fn adopt(&mut self, now: Instant, plan: &Plan) {
        let mut former = core::mem::take(&mut self.trunks);
        for trunk in &plan.trunks {
            if self.keeps(trunk.slot) {
                let watched = self.taken_over(now, trunk, &mut former);
                self.trunks.push(watched);
            }
        }
        for vanished in former {
            self.board.vacate(vanished.slot);
        }
        self.trunks.sort_by_key(|watched| watched.slot);
        self.agenda.clear();
        self.agenda
            .extend(self.trunks.iter().map(Watched::next_event));
        self.end_sweep();
    }

    /// A trunk as it was watched before, brought up to date, or a new one.
    fn taken_over(&mut self, now: Instant, trunk: &Trunk, former: &mut Vec<Watched>) -> Watched {
        match former.binary_search_by_key(&trunk.slot, |former| former.slot) {
            Ok(at) => {
                let mut watched = former.remove(at);
                watched.update(now, trunk, &mut self.records());
                watched
            }
            Err(_) => Watched::new(now, trunk, &self.board),
        }
    }

    /// Whether a trunk in this slot would be this keeper's.
    pub fn keeps(&self, slot: u16) -> bool {
        slot % self.shards == self.shard
    }

    /// When [`Keeper::due`] has something to do: a probe, a lost probe, a hold time that ends. May
    /// be too early, when what was to happen then was called off; never too late.
    pub fn next_due(&self) -> Option<Instant> {
        (self.next_event != NEVER).then_some(self.next_event)
    }

    /// The next probe to send at `now`; the caller asks until there is none. Does what
    /// [`Keeper::tick`] does on the way.
    pub fn due(&mut self, now: Instant) -> Option<Probe> {
        if now < self.next_event {
            return None;
        }
        while let Some(at) = self.ready_from(self.sweep, now) {
            self.sweep = at;
            self.tick_one(at, now);
            if let Some(address_index) = self.trunks[at].take_probe(now) {
                return Some(Probe {
                    slot: self.trunks[at].slot,
                    address_index,
                });
            }
            self.agenda[at] = self.trunks[at].next_event();
            self.sweep = at + 1;
        }
        self.end_sweep();
        None
    }

    /// Lets time pass without sending probes: those that are due wait for [`Keeper::due`].
    pub fn tick(&mut self, now: Instant) {
        if now < self.next_event {
            return;
        }
        let mut from = 0;
        while let Some(at) = self.ready_from(from, now) {
            self.tick_one(at, now);
            self.agenda[at] = self.trunks[at].next_event();
            from = at + 1;
        }
        self.end_sweep();
    }

    /// A probe got its final answer. Anything but 408 and 503 is a sign of life: an element that
    /// refuses OPTIONS is there all the same. Gives whether it was one.
    pub fn probe_answered(
        &mut self,
        now: Instant,
        slot: u16,
        address_index: usize,
        status: u16,
        rtt: Duration,
    ) -> bool {
        match status {
            408 | 503 => {
                let why = Why::ProbeUnavailable { status };
                self.probe_ended(now, slot, address_index, why);
                false
            }
            _ => {
                if self.probe_ended(now, slot, address_index, Why::ProbeAnswered) {
                    self.board.set_rtt(slot, Some(rtt));
                }
                true
            }
        }
    }

    /// A probe got no answer.
    pub fn probe_timed_out(&mut self, now: Instant, slot: u16, address_index: usize) {
        self.probe_ended(now, slot, address_index, Why::ProbeTimedOut);
    }

    /// An ICMP error came back for a probe.
    pub fn probe_refused(&mut self, now: Instant, slot: u16, address_index: usize) {
        self.probe_ended(now, slot, address_index, Why::ProbeRefused);
    }

    /// A probe could not be sent for a reason of our own: it says nothing about the trunk.
    pub fn probe_unsent(&mut self, slot: u16, address_index: usize) {
        if let Some(at) = self.position(slot) {
            self.trunks[at].end_probe(address_index);
        }
    }

    /// A call noticed something about one of the trunk's addresses.
    pub fn passive(&mut self, now: Instant, slot: u16, address_index: usize, signal: Passive) {
        let why = match signal {
            Passive::TimedOut => Why::CallTimedOut,
            Passive::Status503 => Why::CallUnavailable,
            Passive::Refused => Why::CallRefused,
            Passive::Answered => Why::CallAnswered,
        };
        let sign = Sign {
            address_index,
            is_probe: false,
            why,
        };
        if let Some(at) = self.position(slot)
            && self.trunks[at].has(address_index)
        {
            self.heed(now, at, sign);
        }
    }

    /// Follows an operator's order; one that changes nothing succeeds.
    pub fn order(&mut self, now: Instant, slot: u16, order: Order) -> Result<(), OrderFault> {
        let at = self.position(slot).ok_or(OrderFault::NotKeptHere)?;
        let (input, why) = match order {
            Order::Drain => (Input::Drain, Why::DrainOrdered),
            Order::Enable => (self.trunks[at].enable(), Why::EnableOrdered),
            Order::Disable => (Input::Disable, Why::DisableOrdered),
            Order::Probe => return self.want_probes(at),
        };
        self.apply(now, at, input, why);
        Ok(())
    }

    fn want_probes(&mut self, at: usize) -> Result<(), OrderFault> {
        let trunk = &mut self.trunks[at];
        if trunk.state() == State::Disabled {
            return Err(OrderFault::Disabled);
        }
        if !trunk.want_probes() {
            return Err(OrderFault::NoAddress);
        }
        self.replan(at);
        Ok(())
    }

    /// The trunk has no call left; of interest while it drains.
    pub fn calls_gone(&mut self, now: Instant, slot: u16) {
        if let Some(at) = self.position(slot) {
            self.apply(now, at, Input::CallsGone, Why::Drained);
        }
    }

    /// The transition log of this keeper's trunks, oldest first.
    pub fn transitions(&self) -> impl ExactSizeIterator<Item = &Transition> {
        self.log.iter()
    }

    /// Heeds the end of a probe; `false` when none was under way, as after it was given up.
    fn probe_ended(&mut self, now: Instant, slot: u16, address_index: usize, why: Why) -> bool {
        let Some(at) = self.position(slot) else {
            return false;
        };
        let was_under_way = self.trunks[at].end_probe(address_index);
        if was_under_way {
            let sign = Sign {
                address_index,
                is_probe: true,
                why,
            };
            self.heed(now, at, sign);
        }
        was_under_way
    }

    fn heed(&mut self, now: Instant, at: usize, sign: Sign) {
        let (trunk, mut records) = self.trunk(at);
        trunk.heed(now, sign, &mut records);
        self.replan(at);
    }

    fn apply(&mut self, now: Instant, at: usize, input: Input, why: Why) {
        let (trunk, mut records) = self.trunk(at);
        trunk.apply(now, input, why, None, &mut records);
        self.replan(at);
    }

    fn tick_one(&mut self, at: usize, now: Instant) {
        let (trunk, mut records) = self.trunk(at);
        trunk.tick(now, &mut records);
    }

    /// The first trunk at or after `from` that has something to do at `now`.
    fn ready_from(&self, from: usize, now: Instant) -> Option<usize> {
        let rest = self.agenda.get(from..)?;
        let ready = rest.iter().position(|due| *due <= now);
        ready.map(|at| from + at)
    }

    fn end_sweep(&mut self) {
        self.sweep = 0;
        self.next_event = self.agenda.iter().copied().fold(NEVER, Instant::min);
    }

    fn replan(&mut self, at: usize) {
        self.agenda[at] = self.trunks[at].next_event();
        self.next_event = self.next_event.min(self.agenda[at]);
    }

    fn position(&self, slot: u16) -> Option<usize> {
        self.trunks
            .binary_search_by_key(&slot, |trunk| trunk.slot)
            .ok()
    }

    /// The trunk at a position, and where its changes are written.
    fn trunk(&mut self, at: usize) -> (&mut Watched, Records<'_>) {
        let records = Records {
            board: &self.board,
            log: &mut self.log,
        };
        (&mut self.trunks[at], records)
    }

    fn records(&mut self) -> Records<'_> {
        Records {
            board: &self.board,
            log: &mut self.log,
        }
    }
}
