//! Trunk health: which trunks take calls, how large a share, and by which of their addresses.
//!
//! `machine` is the pure state machine, `watched` one trunk under it, `keeper` the trunks that one
//! shard watches with their probes and the transition log, `board` what all shards read. Sending
//! the probes and carrying signals between shards is the shard's business.

mod board;
mod keeper;
mod log;
mod machine;
mod watched;

use core::time::Duration;

pub use board::Board;
pub use keeper::{Keeper, Order, OrderFault, Passive, Probe};
pub use log::{Transition, Why};
pub use machine::{Action, Input, State, step};

use super::plan::Trunk;

/// Addresses of a trunk that are watched: what is known of each is a bit of 16.
pub const ADDRESSES_MAX: usize = 16;

/// Failures in a row that take an address out.
pub const STRIKES_MAX: u8 = 3;

/// How long an address that calls took out rests before calls try it again, when nothing probes it.
pub const HOLD_TIME: Duration = Duration::from_secs(30);

/// A probe without an answer for so long is lost: by then UDP timers (RFC 3261 §17.1.2, T1 500 ms)
/// have sent it four times.
pub const PROBE_TIME_MAX: Duration = Duration::from_secs(4);

/// The share of a trunk on trial, and where slow start begins, in permille.
pub const TRIAL_SHARE: u16 = 100;

/// From [`TRIAL_SHARE`] to the whole.
pub const SLOW_START: Duration = Duration::from_secs(30);

/// How long a call that is sent to `trunk` may go without any answer before the next member gets it.
pub fn auto_congest(trunk: &Trunk, board: &Board) -> Duration {
    if let Some(configured) = trunk.auto_congest {
        return configured;
    }
    if trunk.probe.is_none() {
        return CONGEST_MAX;
    }
    let round_trip = board.rtt_us(trunk.slot).unwrap_or(0);
    Duration::from_micros(4 * u64::from(round_trip)).clamp(CONGEST_MIN, CONGEST_MAX)
}

const CONGEST_MIN: Duration = Duration::from_secs(2);

/// 64*T1: timer B gives up then in any case.
const CONGEST_MAX: Duration = Duration::from_secs(32);

#[cfg(test)]
mod tests;
