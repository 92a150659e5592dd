//! The methods about the node as a whole: its state, its shards, its counters, its log.

use std::sync::Arc;

use super::Level;
use crate::control::answers::{
    CdrFileRow, CdrStatus, ListenerRow, LogState, ShardRow, StatRow, Status,
};
use crate::control::node::Node;
use crate::control::rpc::Fault;
use crate::control::seat::Seat;
use crate::io::DriverCounters;
use crate::metrics::Counter;
use crate::transaction;

/// Answers `status`.
pub fn status(node: &Node) -> Status {
    let plan = node.plan();
    let ready = node.ready();
    let now_ms = node.levers.now().as_millis();
    Status {
        name: plan.node_name.clone(),
        version: node.facts.version.to_owned(),
        uptime_s: now_ms / 1000,
        now_ms,
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
        overload_target_ms: plan
            .overload
            .target
            .map(|target| target.as_secs_f64() * 1e3),
        cdr: cdr(node),
    }
}

fn cdr(node: &Node) -> Option<CdrStatus> {
    let files: Vec<CdrFileRow> = node
        .cdr
        .files()
        .into_iter()
        .map(|file| CdrFileRow {
            path: file.path.display().to_string(),
            format: file.format.to_owned(),
            written: file.written,
            alarm: file.alarm,
        })
        .collect();
    (!files.is_empty()).then(|| CdrStatus {
        files,
        pending: node.cdr.pending(),
        lost: total(node, Counter::CdrsLostRingFull),
        alarm: node.cdr.alarm(node.levers.now()),
    })
}

/// Answers `cdr.rotate`.
pub fn rotate_cdrs(node: &Node) -> Result<Vec<String>, Fault> {
    if !node.levers.rotate_cdrs() {
        return Err(Fault::refused(
            "no call detail records are made: [cdr] names no file",
        ));
    }
    let files = node.cdr.files();
    Ok(files
        .iter()
        .map(|file| file.path.display().to_string())
        .collect())
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

/// Answers `shards`.
pub fn shards(node: &Node) -> Vec<ShardRow> {
    let now = node.levers.now();
    let row = |seat: &Arc<Seat>| {
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
            queue_wait_ms: census.overload.waited.as_secs_f64() * 1e3,
            queue_fill_percent: census.overload.fill_percent,
            shed: census.overload.shed,
            shed_silently: census.overload.dropped,
        }
    };
    node.seats.iter().map(row).collect()
}

/// Changes what is logged.
pub fn set_log_level(node: &Node, params: &Level) -> Result<LogState, Fault> {
    node.levers
        .set_log_level(&params.level)
        .map_err(|why| Fault::new(Fault::INVALID_PARAMS, why))?;
    Ok(node.levers.log())
}

/// Answers `stats`: every counter, summed over the shards.
pub fn stats(node: &Node) -> Vec<StatRow> {
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
