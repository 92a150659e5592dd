//! The methods of the admin socket: which name is answered by which function. The functions stand
//! in a file for each family, as `calls`, or beside this module where they are large.

mod bans;
mod calls;
mod debug;
mod groups;
mod limits;
mod trace;
mod whole;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::node::Node;
use super::rpc::Fault;
use super::{trunks, verify};
use crate::shard::mail;

pub use calls::call_row;
pub use limits::{limit_name, limit_row};

/// Calls a method by its name.
pub fn call(node: &Node, method: &str, params: &Value) -> Result<Value, Fault> {
    match method {
        "status" => answer(whole::status(node)),
        "shards" => answer(whole::shards(node)),
        "trunk.list" => answer(trunks::list(node)),
        "trunk.show" => answer(trunks::show(node, &read::<Named>(params)?.name)?),
        "trunk.probe" => answer(trunks::order(node, params, mail::TrunkOrder::Probe)?),
        "trunk.drain" => answer(trunks::order(node, params, mail::TrunkOrder::Drain)?),
        "trunk.enable" => answer(trunks::order(node, params, mail::TrunkOrder::Enable)?),
        "trunk.disable" => answer(trunks::order(node, params, mail::TrunkOrder::Disable)?),
        "group.list" => answer(groups::list(node)),
        "limits" => answer(limits::list(node)),
        "limits.verify" => answer(verify::verify(node)?),
        "calls" => answer(calls::page(node, &read(params)?)?),
        "why" => answer(calls::why(node, &read(params)?)?),
        "call.show" => answer(calls::show(node, &read(params)?)?),
        "call.end" => answer(calls::end(node, &read(params)?)?),
        "ban.list" => answer(bans::list(node, &read(params)?)),
        "ban.add" => answer(bans::add(node, &read(params)?)?),
        "ban.remove" => answer(bans::remove(node, &read(params)?)?),
        "reload" => answer(node.levers.reload(node)?),
        "log.set" => answer(whole::set_log_level(node, &read(params)?)?),
        "log.show" => answer(node.levers.log()),
        "config.show" => answer(node.levers.config()),
        "config.plan" => answer(node.levers.plan(node, &read(params)?)?),
        "events" => answer(node.events.page(&read(params)?)),
        "stats" => answer(whole::stats(node)),
        "cdr.rotate" => answer(whole::rotate_cdrs(node)?),
        "ready" => answer(node.ready()),
        "trace.start" => answer(trace::start(node, &read(params)?)?),
        "trace.next" => answer(trace::next(node, &read(params)?)?),
        "trace.stop" => answer(trace::stop(node, &read(params)?)?),
        "debug.panic_shard" => answer(debug::panic_shard(node, &read(params)?)?),
        "debug.stall_shard" => answer(debug::stall_shard(node, &read(params)?)?),
        _ => {
            let message = format!("no method `{method}`");
            Err(Fault::new(Fault::NO_SUCH_METHOD, message))
        }
    }
}

/// Parameters of methods that are about one trunk.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    pub name: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CallId {
    call_id: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Level {
    level: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardNumber {
    shard: usize,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Stall {
    shard: usize,
    seconds: u64,
}

/// Reads the parameters of a method.
pub fn read<T: DeserializeOwned>(params: &Value) -> Result<T, Fault> {
    T::deserialize(params).map_err(|fault| Fault::new(Fault::INVALID_PARAMS, fault.to_string()))
}

fn answer(result: impl Serialize) -> Result<Value, Fault> {
    serde_json::to_value(result).map_err(|fault| Fault::new(Fault::INTERNAL, fault.to_string()))
}
