//! `limits verify`: counts the leases of all live calls and compares them with the counters.

use super::answers::{Difference, Ghost, Verified};
use super::methods::{call_row, limit_name};
use super::node::Node;
use super::rpc::Fault;
use crate::limit::{SlotId, Used};
use crate::shard::mail::{Ask, Recount};

/// Calls come and go between the looks at two shards: a difference that is one stays.
const ROUNDS: usize = 5;

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
    let mut differing = Vec::new();
    for (slot, held) in (0u16..).zip(held) {
        let slot = SlotId(slot);
        let counted = limits.used(slot);
        if counted != held {
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
