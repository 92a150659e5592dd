//! `status`, `shards`, `stats`, `reload`: the node as a whole.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::Args;
use serde_json::json;

use super::args::Remote;
use super::client::{Client, Failure};
use super::printer::Printer;
use super::table::{Align, Table, of, or_dash, span};
use crate::control::answers::{Reloaded, ShardRow, StatRow, Status};

use Align::{Left, Right};

/// Which counters to show.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Show counters that are zero too
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub remote: Remote,
}

/// Runs `status`.
pub fn show_status(client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
    printer.one(client, "status", &json!({}), status)
}

/// Runs `shards`.
pub fn show_shards(client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
    printer.list(client, "shards", shards)
}

/// Runs `reload`.
pub fn reload(client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
    printer.one(client, "reload", &json!({}), reloaded)
}

/// Runs `names`: one name per line, or a JSON array of them.
pub fn names(client: &mut Client, printer: &mut Printer<'_>, kind: &str) -> Result<(), Failure> {
    let method = if kind == "groups" {
        "group.list"
    } else {
        "trunk.list"
    };
    let rows: Vec<serde_json::Value> = client.ask(method, &json!({}))?;
    let names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    let text = match printer.json {
        true => json!(names).to_string(),
        false => names.join("\n"),
    };
    Ok(writeln!(printer.out, "{text}")?)
}

/// Runs `stats`.
pub fn show_stats(
    client: &mut Client,
    printer: &mut Printer<'_>,
    args: &StatsArgs,
) -> Result<(), Failure> {
    printer.list(client, "stats", |rows: &[StatRow]| stats(rows, args.all))
}

/// `status`: one line per thing that an operator asks first.
fn status(status: &Status) -> String {
    let listeners: Vec<String> = status
        .listeners
        .iter()
        .map(|listener| match listener.udp == listener.advertise {
            true => format!("udp {}", listener.udp),
            false => format!("udp {} as {}", listener.udp, listener.advertise),
        })
        .collect();
    let steering = if status.steering { "on" } else { "off" };
    let lines = [
        (
            "node",
            format!("{}, callgate {}", status.name, status.version),
        ),
        (
            "state",
            format!("{}, up {}", status.state, span(status.uptime_s)),
        ),
        (
            "config",
            status
                .config
                .clone()
                .unwrap_or_else(|| "embedded default".to_owned()),
        ),
        ("listening", listeners.join(", ")),
        (
            "shards",
            format!(
                "{} of {} running, {} restarts",
                status.shards_running,
                status.shards.len(),
                status.restarts
            ),
        ),
        ("io", format!("{} ({})", status.io, status.io_why)),
        ("steering", format!("{steering} ({})", status.steering_why)),
        ("handed over", format!("{} datagrams", status.handed_over)),
        ("calls", status.calls.to_string()),
        ("overload", overload(status)),
    ];
    let cdr = super::cdr::status_lines(status.cdr.as_ref());
    let mut text = String::new();
    for (name, value) in lines.into_iter().chain(cdr) {
        let _to_a_string = writeln!(text, "{name:<12} {value}");
    }
    text
}

/// Which shards turn new requests away.
fn overload(status: &Status) -> String {
    let Some(target) = status.overload_target_ms else {
        return "not watched ([overload] target is off)".to_owned();
    };
    let shedding = status.shards.iter().filter(|row| row.shed > 0.0);
    let told: Vec<String> = shedding
        .map(|row| {
            format!(
                "shard {} turns away {:.0} % of what is new (queue {:.1} ms, target {target:.0} ms)",
                row.shard,
                row.shed * 100.0,
                row.queue_wait_ms
            )
        })
        .collect();
    match told.is_empty() {
        true => format!("none (target {target:.0} ms)"),
        false => told.join(", "),
    }
}

/// `shards`.
fn shards(rows: &[ShardRow]) -> String {
    let mut table = Table::new(&[
        ("SHARD", Right),
        ("CPU", Right),
        ("STATE", Left),
        ("CALLS", Right),
        ("DIALOGS", Right),
        ("SERVER", Right),
        ("CLIENT", Right),
        ("STORED", Right),
        ("TIMERS", Right),
        ("RECEIVED", Right),
        ("SENT", Right),
        ("HANDED", Right),
        ("WAIT", Left),
        ("WAKES/S", Right),
        ("PER WAKE", Right),
        ("QUEUE", Right),
        ("SHED", Right),
        ("RESTARTS", Right),
    ]);
    for row in rows {
        table.row(vec![
            row.shard.to_string(),
            or_dash(row.cpu),
            row.state.clone(),
            row.calls.to_string(),
            of(row.dialogs, Some(row.dialogs_max)),
            of(row.server_transactions, Some(row.transactions_max)),
            of(row.client_transactions, Some(row.transactions_max)),
            format!("{} KiB", row.stored_bytes / 1024),
            row.timers.to_string(),
            row.datagrams_received.to_string(),
            row.datagrams_sent.to_string(),
            row.handed_over.to_string(),
            match row.tick_us {
                0 => "block".to_owned(),
                tick_us => format!("tick {tick_us} us"),
            },
            format!("{:.0}", row.wakes_per_s),
            format!("{:.1}", row.datagrams_per_wake),
            format!("{:.1} ms", row.queue_wait_ms),
            format!("{:.0} %", row.shed * 100.0),
            row.restarts.to_string(),
        ]);
    }
    table.take_text()
}

/// `reload`.
fn reloaded(done: &Reloaded) -> String {
    let mut text = String::new();
    for line in &done.changed {
        let _to_a_string = writeln!(text, "{line}");
    }
    if done.changed.is_empty() {
        text.push_str("nothing changed\n");
    }
    text
}

/// `stats`.
fn stats(rows: &[StatRow], all: bool) -> String {
    let mut table = Table::new(&[("COUNTER", Left), ("VALUE", Right)]);
    for row in rows.iter().filter(|row| all || row.value > 0) {
        let name = match row.labels.as_str() {
            "" => row.name.clone(),
            labels => format!("{}{{{labels}}}", row.name),
        };
        table.row(vec![name, row.value.to_string()]);
    }
    table.take_text()
}
