//! `limits verify`: counts the leases of all live calls and compares them with the counters.

use super::answers::{Difference, Ghost, Verified};
use super::methods::{call_row, limit_name};
use super::node::Node;
use super::rpc::Fault;
use super::seat::Seat;
use crate::limit::{SlotId, Used};
use crate::metrics::Counter;
use crate::shard::mail::{Ask, Recount};

/// Calls come and go between the looks at two shards: a difference that is one stays, and is more
/// than the calls that came and went meanwhile.
const ROUNDS: usize = 10;

/// Recounts all shards.
pub fn verify(node: &Node) -> Result<Verified, Fault> {
    let (mut verified, mut differing) = look(node)?;
    for _ in 1..ROUNDS {
        if differing.is_empty() {
            break;
        }
        let (again, still) = look(node)?;
        differing.retain(|slot| still.contains(slot));
        verified = again;
    }
    let plan = node.plan();
    let is_lasting = |row: &Difference| {
        differing
            .iter()
            .any(|slot| limit_name(&plan, slot.0) == row.name)
    };
    verified.differences.retain(is_lasting);
    Ok(verified)
}

fn look(node: &Node) -> Result<(Verified, Vec<SlotId>), Fault> {
    let plan = node.plan();
    let limits = &node.shared.limits;
    let before = moves(node);
    let mut held = vec![Used::default(); limits.slots_max()];
    let mut verified = Verified::default();
    for shard in 0..node.seats.len() {
        let recount: Recount = node.ask(shard, |reply| Ask::Recount { reply })?;
        for (slot, in_calls, out_calls) in recount.held {
            let sum = &mut held[usize::from(slot.0)];
            sum.in_calls += in_calls;
            sum.out_calls += out_calls;
        }
        verified.calls += recount.calls;
        let ghosts = recount.suspects.into_iter().map(|suspect| Ghost {
            why: suspect.why.to_owned(),
            call: call_row(&plan, shard, suspect.row),
        });
        verified.ghosts.extend(ghosts);
    }
    let counted: Vec<Used> = (0u16..)
        .take(held.len())
        .map(|slot| limits.used(SlotId(slot)))
        .collect();
    let moved = moves(node) - before;
    let mut differing = Vec::new();
    for ((slot, held), counted) in (0u16..).zip(held).zip(counted) {
        let slot = SlotId(slot);
        let away = counted
            .in_calls
            .abs_diff(held.in_calls)
            .max(counted.out_calls.abs_diff(held.out_calls));
        if u64::from(away) > moved {
            differing.push(slot);
            verified.differences.push(Difference {
                name: limit_name(&plan, slot.0),
                counted_in: counted.in_calls,
                counted_out: counted.out_calls,
                live_in: held.in_calls,
                live_out: held.out_calls,
            });
        }
    }
    Ok((verified, differing))
}

/// How often a lease was taken or given back, or went from one trunk to another.
fn moves(node: &Node) -> u64 {
    let counters = [
        Counter::CallsAdmitted,
        Counter::CallsReturned,
        Counter::CallsEnded,
        Counter::Failovers,
    ];
    let seats = node.seats.iter();
    let of_seat = |seat: &std::sync::Arc<Seat>| -> u64 {
        counters
            .iter()
            .map(|counter| seat.metrics.value(*counter))
            .sum()
    };
    seats.map(of_seat).sum()
}
