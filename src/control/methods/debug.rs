//! The methods that break things on purpose.

use core::time::Duration;

use crossbeam::channel::bounded;

use super::{ShardNumber, Stall};
use crate::control::node::Node;
use crate::control::rpc::Fault;
use crate::shard::mail::{Ask, Mail};

/// A stall on purpose is for a test, not for an outage.
const STALL_SECONDS_MAX: u64 = 60;

/// Makes a shard panic.
pub fn panic_shard(node: &Node, params: &ShardNumber) -> Result<usize, Fault> {
    tell(node, params.shard, Ask::Panic)
}

/// Has a shard wait for a thread that sleeps: the shard itself knows no clock.
pub fn stall_shard(node: &Node, params: &Stall) -> Result<usize, Fault> {
    if params.seconds > STALL_SECONDS_MAX {
        let message = format!("at most {STALL_SECONDS_MAX} seconds");
        return Err(Fault::new(Fault::INVALID_PARAMS, message));
    }
    let (held, until) = bounded::<()>(0);
    let span = Duration::from_secs(params.seconds);
    std::thread::Builder::new()
        .name("stall".into())
        .spawn(move || {
            std::thread::sleep(span);
            drop(held);
        })
        .map_err(|fault| Fault::new(Fault::INTERNAL, fault.to_string()))?;
    tell(node, params.shard, Ask::Stall { until })
}

/// Posts what has no answer.
fn tell(node: &Node, shard: usize, what: Ask) -> Result<usize, Fault> {
    if shard >= node.seats.len() {
        let message = format!("shards are 0 to {}", node.seats.len() - 1);
        return Err(Fault::new(Fault::INVALID_PARAMS, message));
    }
    match node.shared.mail.post(shard, Mail::Ask(Box::new(what))) {
        true => Ok(shard),
        false => Err(Fault::refused("its inbox is full")),
    }
}
