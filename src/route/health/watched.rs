//! One trunk under watch: its addresses' strikes, its probes under way, and its phase.

use core::net::SocketAddr;
use core::time::Duration;

use super::board::{Board, Phase, Share, is_probed};
use super::log::{Log, Transition, Why};
use super::{ADDRESSES_MAX, Action, HOLD_TIME, Input, PROBE_TIME_MAX, STRIKES_MAX, State, step};
use crate::base::Instant;
use crate::route::plan::Trunk;
use crate::route::policy::mixed;

/// The first probes of all trunks, and those of a trunk on trial, come within this.
const PROBE_SOON: Duration = Duration::from_secs(1);

/// No deadline.
pub const NEVER: Instant = Instant::from_micros(u64::MAX);

/// A trunk and what its keeper knows of it.
#[derive(Debug)]
pub struct Watched {
    pub slot: u16,
    addresses: Vec<SocketAddr>,
    interval: Option<Duration>,
    disabled_in_file: bool,
    phase: Phase,
    health: [Address; ADDRESSES_MAX],
    /// Bits of addresses that are to be probed now.
    wanted: u16,
    next_round: Instant,
    drained_noted: bool,
}

/// What is known of one address.
#[derive(Clone, Copy, Debug, Default)]
struct Address {
    strikes: u8,
    dead_since: Option<Instant>,
    probe_sent: Option<Instant>,
}

/// A good or bad sign about one address.
#[derive(Clone, Copy, Debug)]
pub struct Sign {
    pub address_index: usize,
    pub is_probe: bool,
    pub why: Why,
}

/// Where the watched trunk's changes are written.
pub struct Records<'a> {
    pub board: &'a Board,
    pub log: &'a mut Log,
}

impl Watched {
    /// A trunk as the board has it, or in its initial phase.
    pub fn new(now: Instant, trunk: &Trunk, board: &Board) -> Watched {
        let mut watched = Watched {
            slot: trunk.slot,
            addresses: watched_addresses(trunk).to_vec(),
            interval: interval_of(trunk),
            disabled_in_file: trunk.disabled,
            phase: Phase::initial(trunk, now),
            health: Default::default(),
            wanted: 0,
            next_round: NEVER,
            drained_noted: false,
        };
        board.set_rtt(watched.slot, None);
        board.set_phase(watched.slot, watched.phase);
        watched.publish_addresses(board);
        watched.plan_first_round(now);
        watched
    }

    /// Takes over what a reload changed.
    pub fn update(&mut self, now: Instant, trunk: &Trunk, records: &mut Records<'_>) {
        let interval = interval_of(trunk);
        if self.interval != interval {
            self.interval = interval;
            self.plan_first_round(now);
        }
        if self.addresses != watched_addresses(trunk) {
            self.addresses = watched_addresses(trunk).to_vec();
            self.begin_anew(now, records);
        }
        if self.disabled_in_file != trunk.disabled {
            self.disabled_in_file = trunk.disabled;
            let (input, why) = match trunk.disabled {
                true => (Input::Disable, Why::DisabledInFile),
                false => (self.enable(), Why::EnabledInFile),
            };
            self.apply(now, input, why, None, records);
        }
    }

    /// Other addresses are another peer; an operator's order stands all the same.
    fn begin_anew(&mut self, now: Instant, records: &mut Records<'_>) {
        records.board.set_rtt(self.slot, None);
        self.forget_signs(records.board);
        self.plan_first_round(now);
        let to = match (self.phase.state, self.interval) {
            (State::Draining | State::Disabled, _) => return,
            (State::Up | State::Probing | State::Down, Some(_)) => State::Probing,
            (State::Up | State::Probing | State::Down, None) => State::Up,
        };
        self.enter(now, to, Share::Whole, Why::AddressesChanged, None, records);
    }

    /// The input of an order to take calls.
    pub fn enable(&self) -> Input {
        match self.interval {
            Some(_) => Input::EnableProbed,
            None => Input::EnableUnprobed,
        }
    }

    pub fn state(&self) -> State {
        self.phase.state
    }

    /// Whether `address_index` is one of the trunk's.
    pub fn has(&self, address_index: usize) -> bool {
        address_index < self.addresses.len()
    }

    /// Wants all addresses probed at once; `false` when there is none.
    pub fn want_probes(&mut self) -> bool {
        self.wanted |= self.all() & !self.under_way();
        !self.addresses.is_empty()
    }

    /// The next address to probe; the probe counts as sent.
    pub fn take_probe(&mut self, now: Instant) -> Option<usize> {
        let address_index = self.wanted.trailing_zeros() as usize;
        let address = self.health.get_mut(address_index)?;
        self.wanted &= self.wanted - 1;
        address.probe_sent = Some(now);
        Some(address_index)
    }

    /// Ends a probe that is under way; `false` when none is.
    pub fn end_probe(&mut self, address_index: usize) -> bool {
        let address = self.health.get_mut(address_index);
        address.is_some_and(|address| address.probe_sent.take().is_some())
    }

    /// What time brings: rounds of probes, lost probes, hold times.
    pub fn tick(&mut self, now: Instant, records: &mut Records<'_>) {
        if now >= self.next_round {
            self.want_probes();
            self.next_round = self.round_after(now);
        }
        for address_index in 0..self.addresses.len() {
            let address = self.health[address_index];
            if self.probe_lost_at(&address).is_some_and(|at| now >= at) {
                self.end_probe(address_index);
                let sign = Sign {
                    address_index,
                    is_probe: true,
                    why: Why::ProbeTimedOut,
                };
                self.bad(now, sign, records);
            } else if self.rested_at(&address).is_some_and(|at| now >= at) {
                self.revive(address_index, records.board);
                let index = Some(address_index as u8);
                self.apply(now, Input::HoldOver, Why::HoldOver, index, records);
            }
        }
    }

    /// When [`Watched::tick`] or [`Watched::take_probe`] has something to do.
    pub fn next_event(&self) -> Instant {
        if self.wanted != 0 {
            return Instant::START;
        }
        let addresses = &self.health[..self.addresses.len()];
        addresses
            .iter()
            .flat_map(|address| [self.probe_lost_at(address), self.rested_at(address)])
            .flatten()
            .fold(self.next_round, Instant::min)
    }

    /// Heeds a sign about one of the trunk's addresses.
    pub fn heed(&mut self, now: Instant, sign: Sign, records: &mut Records<'_>) {
        if sign.why.is_sign_of_life() {
            self.good(now, sign, records);
        } else {
            self.bad(now, sign, records);
        }
    }

    /// A sign of life of one address.
    fn good(&mut self, now: Instant, sign: Sign, records: &mut Records<'_>) {
        let address = &mut self.health[sign.address_index];
        // Coming back from `Down` it has one strike left: a second sign must confirm the first.
        let strikes = match self.phase.state {
            State::Down => STRIKES_MAX - 1,
            State::Up | State::Probing | State::Draining | State::Disabled => 0,
        };
        if (address.strikes, address.dead_since) != (strikes, None) {
            address.strikes = strikes;
            address.dead_since = None;
            self.publish_addresses(records.board);
        }
        let input = if sign.is_probe {
            Input::ProbeOk
        } else {
            Input::PassiveOk
        };
        let index = Some(sign.address_index as u8);
        self.apply(now, input, sign.why, index, records);
    }

    /// A failure of one address.
    fn bad(&mut self, now: Instant, sign: Sign, records: &mut Records<'_>) {
        let address = &mut self.health[sign.address_index];
        address.strikes = address.strikes.saturating_add(1);
        if address.strikes >= STRIKES_MAX {
            address.dead_since.get_or_insert(now);
        }
        self.publish_addresses(records.board);
        let input = match (sign.is_probe, self.alive() == 0) {
            (true, false) => Input::ProbeFail,
            (true, true) => Input::ProbeFailAtLimit,
            (false, false) => Input::PassiveFail,
            (false, true) => Input::PassiveFailAtLimit,
        };
        let index = Some(sign.address_index as u8);
        self.apply(now, input, sign.why, index, records);
    }

    /// Moves the machine and does what it says.
    pub fn apply(
        &mut self,
        now: Instant,
        input: Input,
        why: Why,
        address_index: Option<u8>,
        records: &mut Records<'_>,
    ) {
        let (to, action) = step(self.phase.state, input);
        match action {
            Action::Nothing => {}
            Action::Rise => self.enter(now, to, self.risen(), why, address_index, records),
            Action::Fall => self.enter(now, to, Share::Whole, why, address_index, records),
            Action::Try => {
                self.enter(now, to, Share::Trial, why, address_index, records);
                self.begin_trial(now, records.board);
            }
            Action::Restart => {
                self.forget_signs(records.board);
                self.enter(now, to, Share::Whole, why, address_index, records);
                self.plan_first_round(now);
            }
            Action::Rest => {
                self.enter(now, to, Share::Whole, why, address_index, records);
                self.rest();
            }
            Action::NoteDrained => self.note_drained(now, records.log),
        }
    }

    /// A trunk that had its whole share while it was probed first keeps it.
    fn risen(&self) -> Share {
        match self.phase.share {
            Share::Whole => Share::Whole,
            Share::Trial | Share::Growing => Share::Growing,
        }
    }

    /// An ordered trial has no live address yet: it tries all of them.
    fn begin_trial(&mut self, now: Instant, board: &Board) {
        if self.alive() == 0 {
            for address_index in 0..self.addresses.len() {
                self.revive(address_index, board);
            }
        }
        if let Some(interval) = self.interval {
            self.next_round = now + interval.min(PROBE_SOON);
        }
    }

    fn rest(&mut self) {
        self.drained_noted = false;
        if self.phase.state == State::Disabled {
            self.wanted = 0;
            self.next_round = NEVER;
            for address in &mut self.health {
                address.probe_sent = None;
            }
        }
    }

    fn note_drained(&mut self, now: Instant, log: &mut Log) {
        if !self.drained_noted {
            self.drained_noted = true;
            log.note(Transition {
                at: now,
                slot: self.slot,
                from: self.phase.state,
                to: self.phase.state,
                why: Why::Drained,
                address_index: None,
            });
        }
    }

    fn enter(
        &mut self,
        now: Instant,
        to: State,
        share: Share,
        why: Why,
        address_index: Option<u8>,
        records: &mut Records<'_>,
    ) {
        let from = self.phase.state;
        self.phase = Phase {
            state: to,
            share,
            since: now,
        };
        records.board.set_phase(self.slot, self.phase);
        if from != to {
            records.log.note(Transition {
                at: now,
                slot: self.slot,
                from,
                to,
                why,
                address_index,
            });
        }
    }

    /// Lets an address take calls again, with one strike left.
    fn revive(&mut self, address_index: usize, board: &Board) {
        let address = &mut self.health[address_index];
        address.strikes = STRIKES_MAX - 1;
        address.dead_since = None;
        self.publish_addresses(board);
    }

    fn forget_signs(&mut self, board: &Board) {
        self.health = Default::default();
        self.wanted = 0;
        self.publish_addresses(board);
    }

    fn publish_addresses(&self, board: &Board) {
        let addresses = &self.health[..self.addresses.len()];
        let failures = addresses.iter().map(|address| address.strikes).max();
        board.set_addresses(self.slot, self.alive(), failures.unwrap_or(0).into());
    }

    fn plan_first_round(&mut self, now: Instant) {
        self.next_round = match (self.phase.state, self.interval) {
            (State::Disabled, _) | (_, None) => NEVER,
            (State::Up | State::Probing | State::Down | State::Draining, Some(interval)) => {
                now + self.part_of(interval.min(PROBE_SOON))
            }
        };
    }

    /// Each trunk has its own place within the interval, whenever it was probed before, so that
    /// trunks that began together do not go on together.
    fn round_after(&self, now: Instant) -> Instant {
        let Some(interval) = self.interval else {
            return NEVER;
        };
        if self.phase.share == Share::Trial {
            return now + interval.min(PROBE_SOON);
        }
        let interval_us = interval.as_micros() as u64;
        let place = self.part_of(interval).as_micros() as u64;
        // Half an interval at least, one and a half at most.
        let earliest = now.as_micros() + interval_us / 2;
        let past = (earliest + interval_us - place) % interval_us;
        Instant::from_micros(earliest + (interval_us - past) % interval_us)
    }

    /// A part of `span` that depends on the slot alone, below the whole.
    fn part_of(&self, span: Duration) -> Duration {
        let span_us = span.as_micros() as u64;
        let random = u128::from(mixed(self.slot.into()));
        Duration::from_micros(((random * u128::from(span_us)) >> 64) as u64)
    }

    /// When a probe that is under way is lost; with short intervals sooner, so that each round counts.
    fn probe_lost_at(&self, address: &Address) -> Option<Instant> {
        let interval = self.interval.unwrap_or(PROBE_TIME_MAX);
        let time = interval.clamp(PROBE_SOON, PROBE_TIME_MAX);
        address.probe_sent.map(|sent| sent + time)
    }

    /// When an address that nothing probes may take calls again.
    fn rested_at(&self, address: &Address) -> Option<Instant> {
        match self.interval {
            Some(_) => None,
            None => address.dead_since.map(|since| since + HOLD_TIME),
        }
    }

    fn alive(&self) -> u16 {
        let dead = self.bits(|address| address.dead_since.is_some());
        self.all() & !dead
    }

    fn under_way(&self) -> u16 {
        self.bits(|address| address.probe_sent.is_some())
    }

    fn all(&self) -> u16 {
        self.bits(|_| true)
    }

    fn bits(&self, is: impl Fn(&Address) -> bool) -> u16 {
        let addresses = self.health[..self.addresses.len()].iter().enumerate();
        addresses.fold(0, |bits, (at, address)| bits | u16::from(is(address)) << at)
    }
}

/// Rounds closer together than this would only pile up.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

fn interval_of(trunk: &Trunk) -> Option<Duration> {
    let interval = trunk.probe.filter(|_| is_probed(trunk));
    interval.map(|interval| interval.max(INTERVAL_MIN))
}

fn watched_addresses(trunk: &Trunk) -> &[SocketAddr] {
    &trunk.addresses[..trunk.addresses.len().min(ADDRESSES_MAX)]
}
