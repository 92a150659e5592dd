//! Answers as text for people: one function per answer.

use std::fmt::Write as _;

use super::table::{Align, Table, or_dash, span};
use crate::control::answers::{
    CallRow, LimitRow, Reloaded, ShardRow, StatRow, Status, TrunkDetail, TrunkRow, Verified, WhyRow,
};

use Align::{Left, Right};

/// `status`: one line per thing that an operator asks first.
pub fn status(status: &Status) -> String {
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
    ];
    let mut text = String::new();
    for (name, value) in lines {
        let _to_a_string = writeln!(text, "{name:<12} {value}");
    }
    text
}

/// `why`: one line per decision, the oldest first.
pub fn why(rows: &[WhyRow]) -> String {
    let line = |row: &WhyRow| format!("{:>10.3} s ago  {}\n", row.age_s, row.text);
    rows.iter().map(line).collect()
}

/// `shards`.
pub fn shards(rows: &[ShardRow]) -> String {
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
            row.restarts.to_string(),
        ]);
    }
    table.take_text()
}

/// Use of a maximum: `7/2000`, or `7` where there is none.
fn of(used: impl ToString, max: Option<impl ToString>) -> String {
    match max {
        Some(max) => format!("{}/{}", used.to_string(), max.to_string()),
        None => used.to_string(),
    }
}

/// `trunk list`.
pub fn trunks(rows: &[TrunkRow]) -> String {
    let mut table = Table::new(&[
        ("TRUNK", Left),
        ("STATE", Left),
        ("SINCE", Right),
        ("RTT", Right),
        ("CALLS", Right),
        ("IN", Right),
        ("OUT", Right),
        ("ADDRESSES", Left),
    ]);
    for row in rows {
        let limits = &row.limits;
        table.row(vec![
            row.name.clone(),
            row.state.clone(),
            span(row.since_s),
            or_dash(row.rtt_ms.map(|rtt| format!("{rtt:.1}ms"))),
            of(limits.calls, limits.calls_max),
            of(limits.calls_in, limits.calls_in_max),
            of(limits.calls_out, limits.calls_out_max),
            row.addresses.join(" "),
        ]);
    }
    table.take_text()
}

/// `trunk show`.
pub fn trunk(detail: &TrunkDetail) -> String {
    let row = &detail.row;
    let limits = &row.limits;
    let words = |list: &[String], none: &str| match list {
        [] => none.to_owned(),
        list => list.join(" "),
    };
    let lines =
        [
            ("trunk", row.name.clone()),
            ("state", format!("{} for {}", row.state, span(row.since_s))),
            (
                "addresses",
                words(&row.addresses, "none: calls come from it only"),
            ),
            (
                "probe",
                or_dash(detail.probe_s.map(|every| format!("every {every} s"))),
            ),
            (
                "round trip",
                or_dash(row.rtt_ms.map(|rtt| format!("{rtt:.1} ms"))),
            ),
            ("groups", words(&detail.groups, "-")),
            ("codecs", words(&detail.codecs, "any")),
            ("calls", of(limits.calls, limits.calls_max)),
            ("calls in", of(limits.calls_in, limits.calls_in_max)),
            ("calls out", of(limits.calls_out, limits.calls_out_max)),
            (
                "cps",
                or_dash(limits.cps_sustain.map(|rate| {
                    format!("{rate} sustained, {} at once", or_dash(limits.cps_burst))
                })),
            ),
        ];
    let mut text = String::new();
    for (name, value) in lines {
        let _to_a_string = writeln!(text, "{name:<11} {value}");
    }
    for (name, value) in &detail.counters {
        let _to_a_string = writeln!(text, "  {name} {value}");
    }
    for change in &detail.transitions {
        let (ago, from, to, why) = (span(change.ago_s), &change.from, &change.to, &change.why);
        let _to_a_string = writeln!(text, "  {ago} ago: {from} -> {to} ({why})");
    }
    text
}

/// `limits`.
pub fn limits(rows: &[LimitRow]) -> String {
    let mut table = Table::new(&[
        ("KIND", Left),
        ("NAME", Left),
        ("CALLS", Right),
        ("PEAK", Right),
        ("IN", Right),
        ("OUT", Right),
        ("CPS", Right),
        ("BURST", Right),
    ]);
    for row in rows {
        table.row(vec![
            row.kind.clone(),
            row.name.clone(),
            of(row.calls, row.calls_max),
            row.calls_peak.to_string(),
            of(row.calls_in, row.calls_in_max),
            of(row.calls_out, row.calls_out_max),
            or_dash(row.cps_sustain),
            or_dash(row.cps_burst),
        ]);
    }
    table.take_text()
}

/// `limits verify`.
pub fn verified(verified: &Verified) -> String {
    let mut text = format!("{} live calls\n", verified.calls);
    for row in &verified.differences {
        let _to_a_string = writeln!(
            text,
            "{}: counted {} in, {} out; live {} in, {} out",
            row.name, row.counted_in, row.counted_out, row.live_in, row.live_out
        );
    }
    if verified.differences.is_empty() {
        text.push_str("every counter is what the live calls hold\n");
    }
    for ghost in &verified.ghosts {
        let _to_a_string = writeln!(
            text,
            "may be over, {}: {} up {}",
            ghost.why,
            ghost.call.call_id,
            span(ghost.call.age_s as u64)
        );
    }
    text
}

/// The table of `calls`; rows are added page by page.
pub fn calls_table() -> Table {
    Table::new(&[
        ("STATE", Left),
        ("AGE", Right),
        ("TALK", Right),
        ("IN", Left),
        ("OUT", Left),
        ("CALLER", Left),
        ("CALLEE", Left),
        ("FROM", Left),
        ("TO", Left),
        ("CALL-ID", Left),
    ])
}

/// Adds a call to the table of `calls`.
pub fn call(table: &mut Table, row: &CallRow) {
    table.row(vec![
        row.state.clone(),
        span(row.age_s as u64),
        or_dash(row.answered_s.map(|time| span(time as u64))),
        row.trunk_in.clone(),
        or_dash(row.trunk_out.as_ref()),
        row.caller.clone(),
        or_dash(row.callee.as_ref()),
        row.from.clone(),
        row.to.clone(),
        row.call_id.clone(),
    ]);
}

/// `reload`.
pub fn reloaded(done: &Reloaded) -> String {
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
pub fn stats(rows: &[StatRow], all: bool) -> String {
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
