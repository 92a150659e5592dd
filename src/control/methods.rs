//! The methods of the admin socket, one function each.

use core::time::Duration;

use crossbeam::channel::bounded;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answers::{
    CallRow, CallsPage, Cursor, LimitRow, ListenerRow, ShardRow, StatRow, Status, WhyRow,
};
use super::node::Node;
use super::rpc::Fault;
use super::seat::Seat;
use super::{trunks, verify};
use crate::io::DriverCounters;
use crate::limit::SlotId;
use crate::metrics::Counter;
use crate::net;
use crate::route;
use crate::shard::mail::{self, Ask, Mail};
use crate::transaction;

/// Rows of one page of `calls`; a shard spends well under a millisecond on it.
pub const PAGE_ROWS_MAX: usize = 512;
/// A stall on purpose is for a test, not for an outage.
const STALL_SECONDS_MAX: u64 = 60;

/// Calls a method by its name.
pub fn call(node: &Node, method: &str, params: &Value) -> Result<Value, Fault> {
    match method {
        "status" => answer(status(node)),
        "shards" => answer(shards(node)),
        "trunk.list" => answer(trunks::list(node)),
        "trunk.show" => answer(trunks::show(node, &read::<Named>(params)?.name)?),
        "trunk.probe" => answer(trunks::order(node, params, mail::TrunkOrder::Probe)?),
        "trunk.drain" => answer(trunks::order(node, params, mail::TrunkOrder::Drain)?),
        "trunk.enable" => answer(trunks::order(node, params, mail::TrunkOrder::Enable)?),
        "trunk.disable" => answer(trunks::order(node, params, mail::TrunkOrder::Disable)?),
        "limits" => answer(limits(node)),
        "limits.verify" => answer(verify::verify(node)?),
        "calls" => answer(calls(node, &read(params)?)?),
        "why" => answer(why(node, &read(params)?)?),
        "call.end" => answer(end_call(node, &read(params)?)?),
        "reload" => answer(node.levers.reload(node)?),
        "log.set" => answer(set_log_level(node, &read(params)?)?),
        "stats" => answer(stats(node)),
        "ready" => answer(node.ready()),
        "debug.panic_shard" => answer(panic_shard(node, &read(params)?)?),
        "debug.stall_shard" => answer(stall_shard(node, &read(params)?)?),
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

/// Parameters of `calls`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CallsParams {
    #[serde(default)]
    cursor: Cursor,
    #[serde(default = "page_rows")]
    rows_max: usize,
    trunk: Option<String>,
}

fn page_rows() -> usize {
    PAGE_ROWS_MAX
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

fn status(node: &Node) -> Status {
    let plan = node.plan();
    let ready = node.ready();
    Status {
        name: plan.node_name.clone(),
        version: node.facts.version.to_owned(),
        uptime_s: node.levers.now().as_millis() / 1000,
        state: match (ready.ready, node.is_draining()) {
            (true, _) => "ready",
            (false, true) => "draining",
            (false, false) => "degraded",
        }
        .to_owned(),
        config: node
            .facts
            .config
            .as_ref()
            .map(|path| path.display().to_string()),
        listeners: plan.listeners.iter().map(listener_row).collect(),
        shards: shards(node),
        shards_running: node.shards_running(),
        io: node.facts.io.to_owned(),
        io_why: node.facts.io_why.clone(),
        steering: node.facts.steering,
        steering_why: node.facts.steering_why.clone(),
        handed_over: total(node, Counter::HandedOver),
        calls: node.calls(),
        restarts: node.seats.iter().map(|seat| seat.restarts()).sum(),
    }
}

fn listener_row(listener: &crate::shard::Listener) -> ListenerRow {
    ListenerRow {
        udp: listener.bind.to_string(),
        advertise: format!("{}:{}", listener.advertise_host, listener.advertise_port),
    }
}

fn total(node: &Node, counter: Counter) -> u64 {
    node.seats
        .iter()
        .map(|seat| seat.metrics.value(counter))
        .sum()
}

fn shards(node: &Node) -> Vec<ShardRow> {
    let now = node.levers.now();
    let row = |seat: &std::sync::Arc<Seat>| {
        let census = seat.census();
        let pace = seat.pace();
        ShardRow {
            shard: seat.shard,
            cpu: seat.cpu,
            state: seat.condition().word().to_owned(),
            beat_age_ms: u64::try_from(now.since(seat.last_beat()).as_millis()).unwrap_or(u64::MAX),
            calls: census.calls,
            dialogs: census.dialogs,
            dialogs_max: census.dialogs_max,
            server_transactions: census.server_transactions,
            client_transactions: census.client_transactions,
            transactions_max: census.transactions_max,
            stored_bytes: census.stored_bytes,
            stored_bytes_max: census.stored_bytes_max,
            timers: census.timers,
            datagrams_received: seat.metrics.value(Counter::DatagramsReceived),
            datagrams_sent: seat.metrics.value(Counter::DatagramsSent),
            handed_over: seat.metrics.value(Counter::HandedOver),
            restarts: seat.restarts(),
            tick_us: pace.tick.map_or(0, |tick| tick.as_micros() as u64),
            wakes_per_s: pace.wakes_per_s,
            datagrams_per_wake: pace.datagrams_per_wake,
        }
    };
    node.seats.iter().map(row).collect()
}

fn limits(node: &Node) -> Vec<LimitRow> {
    let plan = node.plan();
    let trunks = plan
        .routing
        .trunks
        .iter()
        .map(|trunk| ("trunk", &trunk.name, trunk.slot, &trunk.limits));
    let groups = plan
        .routing
        .groups
        .iter()
        .map(|group| ("group", &group.name, group.slot, &group.limits));
    trunks
        .chain(groups)
        .map(|(kind, name, slot, maxima)| limit_row(node, kind, name, slot, maxima))
        .collect()
}

/// Use and maxima of one slot.
pub fn limit_row(
    node: &Node,
    kind: &str,
    name: &str,
    slot: u16,
    maxima: &route::LimitMaxima,
) -> LimitRow {
    let slot = SlotId(slot);
    let used = node.shared.limits.used(slot);
    LimitRow {
        kind: kind.to_owned(),
        name: name.to_owned(),
        calls: used.in_calls + used.out_calls,
        calls_peak: node.shared.limits.peak(slot),
        calls_max: maxima.calls_max,
        calls_in: used.in_calls,
        calls_in_max: maxima.calls_in_max,
        calls_out: used.out_calls,
        calls_out_max: maxima.calls_out_max,
        cps_sustain: maxima.cps.map(|cps| cps.sustain),
        cps_burst: maxima.cps.map(|cps| cps.burst),
    }
}

/// One page of live calls. A page ends with its shard, so that no answer waits for two shards.
fn calls(node: &Node, params: &CallsParams) -> Result<CallsPage, Fault> {
    let plan = node.plan();
    let trunk_slot = match &params.trunk {
        Some(name) => Some(trunks::find(&plan, name)?.slot),
        None => None,
    };
    let Cursor { shard, index } = params.cursor;
    if shard >= node.seats.len() {
        return Err(Fault::new(Fault::INVALID_PARAMS, "cursor: no such shard"));
    }
    let page = node.ask(shard, |reply| Ask::Calls {
        from_index: index,
        rows_max: params.rows_max.clamp(1, PAGE_ROWS_MAX),
        trunk_slot,
        reply,
    })?;
    let following = (shard + 1 < node.seats.len()).then_some(Cursor {
        shard: shard + 1,
        index: 0,
    });
    let next = page
        .next_index
        .map(|index| Cursor { shard, index })
        .or(following);
    let rows = page
        .rows
        .into_iter()
        .map(|row| call_row(&plan, shard, row))
        .collect();
    Ok(CallsPage { rows, next })
}

/// The name of a trunk or group by its slot.
pub fn limit_name(plan: &crate::shard::NodePlan, slot: u16) -> String {
    let routing = &plan.routing;
    let trunks = routing.trunks.iter().map(|trunk| (trunk.slot, &trunk.name));
    let groups = routing.groups.iter().map(|group| (group.slot, &group.name));
    let named = trunks.chain(groups).find(|(is, _)| *is == slot);
    named.map_or_else(|| format!("removed#{slot}"), |(_, name)| name.clone())
}

/// A call with the names of its trunks.
pub fn call_row(plan: &crate::shard::NodePlan, shard: usize, row: mail::CallRow) -> CallRow {
    let name = |slot: u16| {
        let named = plan.routing.trunks.iter().find(|trunk| trunk.slot == slot);
        named.map_or_else(|| format!("removed#{slot}"), |trunk| trunk.name.clone())
    };
    CallRow {
        call_id: row.call_id,
        state: row.state.to_owned(),
        trunk_in: name(row.trunk_in_slot),
        trunk_out: row.trunk_out_slot.map(name),
        age_s: row.age.as_secs_f64(),
        answered_s: row.answered_for.map(|time| time.as_secs_f64()),
        caller: row.caller.to_string(),
        callee: row.callee.map(|callee| callee.to_string()),
        from: row.from,
        to: row.to,
        shard,
    }
}

/// Every decision taken for a call, oldest first, from the shard that owns its Call-ID.
fn why(node: &Node, params: &CallId) -> Result<Vec<WhyRow>, Fault> {
    let call_id = params.call_id.clone().into_bytes();
    let shards = u16::try_from(node.seats.len()).unwrap_or(u16::MAX);
    let owner = usize::from(net::owner(&call_id, &node.shared.owner_key, shards));
    let rows = node.ask(owner, |reply| Ask::Why { call_id, reply })?;
    if rows.is_empty() {
        let message = format!(
            "nothing is remembered of the Call-ID `{}`: it never came, or its notes were overwritten",
            params.call_id
        );
        return Err(Fault::refused(message));
    }
    let row = |row: mail::WhyRow| WhyRow {
        age_s: row.age.as_secs_f64(),
        text: row.text,
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Ends a call wherever it is: a shard that does not have it says so at the cost of one look.
fn end_call(node: &Node, params: &CallId) -> Result<Vec<String>, Fault> {
    for shard in 0..node.seats.len() {
        let call_id = params.call_id.clone().into_bytes();
        if node.ask(shard, |reply| Ask::EndCall { call_id, reply })? {
            return Ok(vec![params.call_id.clone()]);
        }
    }
    let message = format!("no live call has the Call-ID `{}`", params.call_id);
    Err(Fault::refused(message))
}

fn set_log_level(node: &Node, params: &Level) -> Result<String, Fault> {
    node.levers
        .set_log_level(&params.level)
        .map_err(|why| Fault::new(Fault::INVALID_PARAMS, why))?;
    Ok(params.level.clone())
}

fn stats(node: &Node) -> Vec<StatRow> {
    let sum = |of: &dyn Fn(&Seat) -> u64| node.seats.iter().map(|seat| of(seat)).sum();
    let counters = Counter::ROWS.iter().enumerate();
    let counters = counters.map(|(row, (name, labels, _help))| StatRow {
        name: (*name).to_owned(),
        labels: (*labels).to_owned(),
        value: sum(&|seat| seat.metrics.row(row)),
    });
    let transactions = transaction::Counters::ROWS.iter().enumerate();
    let transactions = transactions.map(|(row, (name, _help))| StatRow {
        name: format!("callgate_transaction_{name}_total"),
        labels: String::new(),
        value: sum(&|seat| seat.transaction_totals()[row]),
    });
    let drivers = DriverCounters::ROWS.iter().enumerate();
    let drivers = drivers.map(|(row, (name, _help))| StatRow {
        name: format!("callgate_io_{name}_total"),
        labels: String::new(),
        value: sum(&|seat| seat.driver_totals()[row]),
    });
    counters.chain(transactions).chain(drivers).collect()
}

fn panic_shard(node: &Node, params: &ShardNumber) -> Result<usize, Fault> {
    tell(node, params.shard, Ask::Panic)
}

/// Has a shard wait for a thread that sleeps: the shard itself knows no clock.
fn stall_shard(node: &Node, params: &Stall) -> Result<usize, Fault> {
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
