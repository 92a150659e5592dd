//! The methods of `trace`: it is opened, fetched page by page, and closed. One that is not fetched for
//! some seconds is closed by itself, so that a command that was killed leaves nothing behind.

use core::time::Duration;

use crate::capture::{Direction, Selection};
use crate::control::answers::{TracePage, TraceRow, TraceStarted};
use crate::control::desk::{Copied, TRACES_MAX};
use crate::control::node::Node;
use crate::control::rpc::Fault;
use crate::shard::NodePlan;

/// Messages of one answer: a megabyte of usual ones.
const PAGE_MESSAGES_MAX: usize = 512;
/// Longest wait for a first message: a worker is busy meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Parameters of `trace.start`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The name of a trunk, or else a Call-ID.
    what: String,
}

/// Parameters of `trace.next`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Next {
    trace: u64,
    /// How long to wait where nothing has come.
    #[serde(default)]
    wait_ms: u64,
    #[serde(default = "page_messages")]
    messages_max: usize,
}

fn page_messages() -> usize {
    PAGE_MESSAGES_MAX
}

/// Parameters of `trace.stop`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    trace: u64,
}

/// Opens a trace of a trunk's calls or of one call, which need not have come yet.
pub fn start(node: &Node, params: &Start) -> Result<TraceStarted, Fault> {
    let plan = node.plan();
    let named = |trunk: &&crate::route::Trunk| trunk.name == params.what;
    let (kind, selection) = match plan.routing.trunks.iter().find(named) {
        Some(trunk) => ("trunk", Selection::Trunks(vec![trunk.slot])),
        None => ("call", Selection::Call(params.what.clone().into_bytes())),
    };
    let now = node.levers.now();
    let trace = node.desk.open_trace(now, selection).map_err(|_too_many| {
        Fault::refused(format!(
            "{TRACES_MAX} traces run already; no more are carried"
        ))
    })?;
    node.retap();
    Ok(TraceStarted {
        trace,
        kind: kind.to_owned(),
        now_us: now.as_micros(),
    })
}

/// The messages that came since the last page.
pub fn next(node: &Node, params: &Next) -> Result<TracePage, Fault> {
    let wait = Duration::from_millis(params.wait_ms).min(WAIT_MAX);
    let count = params.messages_max.clamp(1, PAGE_MESSAGES_MAX);
    let fetched = node
        .desk
        .fetch(node.levers.now(), params.trace, count, wait);
    let (copies, lost) = fetched.ok_or_else(|| no_such(params.trace))?;
    let plan = node.plan();
    Ok(TracePage {
        messages: copies.iter().map(|copy| row(&plan, copy)).collect(),
        lost,
        now_us: node.levers.now().as_micros(),
    })
}

/// Closes a trace.
pub fn stop(node: &Node, params: &Stop) -> Result<u64, Fault> {
    if !node.desk.close_trace(params.trace) {
        return Err(no_such(params.trace));
    }
    node.retap();
    Ok(params.trace)
}

fn no_such(trace: u64) -> Fault {
    Fault::refused(format!(
        "trace {trace} is over: it was stopped, or not asked for in time"
    ))
}

fn row(plan: &NodePlan, copy: &Copied) -> TraceRow {
    let listener = plan.listeners.get(usize::from(copy.listener));
    TraceRow {
        unix_us: copy.unix_us,
        received: copy.direction == Direction::Received,
        local: listener.map_or_else(String::new, |listener| listener.address().to_string()),
        remote: copy.remote.to_string(),
        octets: copy.octets,
        hex: copy
            .bytes
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect(),
    }
}
