//! The board: what all shards read about each trunk's health, atomics only.
//!
//! A row has one writer, the shard that keeps the trunk. Readers need no order between the words of
//! a row or between rows: each word alone says something true a moment ago, hence `Relaxed`.

use core::time::Duration;

use super::{ADDRESSES_MAX, SLOW_START, State, TRIAL_SHARE};
use crate::base::Instant;
use crate::base::atomics::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use crate::route::plan::{Plan, Trunk};

/// One row per slot, fixed at start.
#[derive(Debug)]
pub struct Board {
    rows: Box<[Row]>,
}

/// Vacant when `phase` is 0.
#[derive(Debug, Default)]
struct Row {
    /// State, kind of share and time of entry, packed: the three are read together.
    phase: AtomicU64,
    /// 0 = unknown.
    rtt_us: AtomicU32,
    alive: AtomicU16,
    failures: AtomicU16,
}

/// How much of its share a trunk gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    Whole,
    Trial,
    /// Slow start, from the phase's beginning.
    Growing,
}

/// A state since when, and with which share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    pub state: State,
    pub share: Share,
    pub since: Instant,
}

impl Board {
    /// Rows for slots below `slots_max`, all vacant.
    pub fn new(slots_max: u16) -> Board {
        Board {
            rows: (0..slots_max).map(|_| Row::default()).collect(),
        }
    }

    /// Gives the trunks of a plan that have no row yet their initial state. The caller does this
    /// before shards see the plan, so that no call meets a trunk before its keeper has adopted it.
    pub fn introduce(&self, now: Instant, plan: &Plan) {
        for trunk in &plan.trunks {
            if let Some(row) = self.row(trunk.slot)
                && row.phase().is_none()
            {
                row.alive.store(all_addresses(trunk), Relaxed);
                row.phase
                    .store(Phase::initial(trunk, now).packed(), Relaxed);
            }
        }
    }

    /// A trunk's state; a trunk nobody has introduced is `Probing`: it may take calls.
    pub fn state(&self, slot: u16) -> State {
        self.phase(slot).map_or(State::Probing, |phase| phase.state)
    }

    /// When the trunk came into its state, to the millisecond.
    pub fn since(&self, slot: u16) -> Instant {
        self.phase(slot).map_or(Instant::START, |phase| phase.since)
    }

    /// Whether new calls may go to the trunk.
    pub fn usable(&self, slot: u16) -> bool {
        self.state(slot).takes_calls()
    }

    /// Permille of its share that the trunk gets; 0 when it takes no calls.
    pub fn share(&self, slot: u16, now: Instant) -> u16 {
        self.phase(slot).map_or(WHOLE, |phase| phase.permille(now))
    }

    /// Round trip of the last probe that was answered.
    pub fn rtt_us(&self, slot: u16) -> Option<u32> {
        let rtt_us = self.row(slot)?.rtt_us.load(Relaxed);
        (rtt_us != 0).then_some(rtt_us)
    }

    /// A bit per address, in the trunk's order, that is not taken out.
    pub fn alive(&self, slot: u16) -> u16 {
        match self.row(slot) {
            Some(row) if row.phase().is_some() => row.alive.load(Relaxed),
            Some(_) | None => u16::MAX,
        }
    }

    /// Failures in a row of the trunk's worst address.
    pub fn failures(&self, slot: u16) -> u16 {
        self.row(slot).map_or(0, |row| row.failures.load(Relaxed))
    }

    /// The next address for a call, of `count`, with a bit in `tried` per address it has had. Dead
    /// ones are tried only when all are dead and the trunk takes calls all the same.
    pub fn first_alive_address(&self, slot: u16, count: usize, tried: u16) -> Option<usize> {
        let all = low_bits(count);
        let alive = self.alive(slot) & all;
        let candidates = match alive {
            0 if self.usable(slot) => all,
            _ => alive,
        };
        let untried = candidates & !tried;
        (untried != 0).then_some(untried.trailing_zeros() as usize)
    }

    pub(super) fn set_phase(&self, slot: u16, phase: Phase) {
        if let Some(row) = self.row(slot) {
            row.phase.store(phase.packed(), Relaxed);
        }
    }

    pub(super) fn set_addresses(&self, slot: u16, alive: u16, failures: u16) {
        if let Some(row) = self.row(slot) {
            row.alive.store(alive, Relaxed);
            row.failures.store(failures, Relaxed);
        }
    }

    pub(super) fn set_rtt(&self, slot: u16, rtt: Option<Duration>) {
        let rtt_us = rtt.map_or(0, |rtt| {
            u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1)
        });
        if let Some(row) = self.row(slot) {
            row.rtt_us.store(rtt_us, Relaxed);
        }
    }

    /// Forgets a trunk that is no part of the configuration.
    pub(super) fn vacate(&self, slot: u16) {
        if let Some(row) = self.row(slot) {
            row.phase.store(0, Relaxed);
        }
        self.set_addresses(slot, 0, 0);
        self.set_rtt(slot, None);
    }

    fn phase(&self, slot: u16) -> Option<Phase> {
        self.row(slot)?.phase()
    }

    fn row(&self, slot: u16) -> Option<&Row> {
        self.rows.get(usize::from(slot))
    }
}

impl Row {
    fn phase(&self) -> Option<Phase> {
        Phase::unpacked(self.phase.load(Relaxed))
    }
}

impl Phase {
    /// How a trunk begins: calls flow from the start, also before the first probe is answered.
    pub fn initial(trunk: &Trunk, now: Instant) -> Phase {
        let state = if trunk.disabled {
            State::Disabled
        } else if is_probed(trunk) {
            State::Probing
        } else {
            State::Up
        };
        Phase {
            state,
            share: Share::Whole,
            since: now,
        }
    }

    fn permille(self, now: Instant) -> u16 {
        match (self.state.takes_calls(), self.share) {
            (false, _) => 0,
            (true, Share::Whole) => WHOLE,
            (true, Share::Trial) => TRIAL_SHARE,
            (true, Share::Growing) => grown(now.since(self.since)),
        }
    }

    fn packed(self) -> u64 {
        let state = match self.state {
            State::Up => 1,
            State::Probing => 2,
            State::Down => 3,
            State::Draining => 4,
            State::Disabled => 5,
        };
        let share = match self.share {
            Share::Whole => 0,
            Share::Trial => 1,
            Share::Growing => 2,
        };
        // 48 bits of milliseconds are 8,900 years.
        state | share << 8 | self.since.as_millis() << 16
    }

    fn unpacked(bits: u64) -> Option<Phase> {
        let state = match bits as u8 {
            1 => State::Up,
            2 => State::Probing,
            3 => State::Down,
            4 => State::Draining,
            5 => State::Disabled,
            _ => return None,
        };
        let share = match (bits >> 8) as u8 {
            1 => Share::Trial,
            2 => Share::Growing,
            _ => Share::Whole,
        };
        Some(Phase {
            state,
            share,
            since: Instant::from_micros((bits >> 16) * 1000),
        })
    }
}

/// A straight line from the trial share to the whole.
fn grown(age: Duration) -> u16 {
    let (age_ms, span_ms) = (age.as_millis(), SLOW_START.as_millis());
    let missing = u128::from(WHOLE - TRIAL_SHARE);
    let gained = missing * age_ms.min(span_ms) / span_ms;
    TRIAL_SHARE + gained as u16
}

/// Whether the trunk is probed by itself.
pub fn is_probed(trunk: &Trunk) -> bool {
    trunk.probe.is_some() && !trunk.addresses.is_empty()
}

/// A bit for each address of the trunk.
pub fn all_addresses(trunk: &Trunk) -> u16 {
    low_bits(trunk.addresses.len())
}

fn low_bits(count: usize) -> u16 {
    ((1u32 << count.min(ADDRESSES_MAX)) - 1) as u16
}

const WHOLE: u16 = 1000;
