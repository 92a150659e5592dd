//! `/metrics`: the text format of Prometheus (version 0.0.4) or OpenMetrics 1.0, written from the
//! metric tables.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use super::desk::HEP_DROPS;
use super::node::Node;
use super::seat::Condition;
use crate::capture::Spool;
use crate::io::DriverCounters;
use crate::limit::{Lease, SlotId};
use crate::metrics::{Counter, TrunkCounter};
use crate::route::LimitMaxima;
use crate::shard::NodePlan;
use crate::transaction;

/// How a page is written. The two differ in the names of counters and in the end of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// What the page is announced as.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The name that stands in a heading: a counter's family has no `_total` in OpenMetrics.
    fn family<'n>(self, name: &'n str, kind: &str) -> &'n str {
        match (self, kind) {
            (Format::OpenMetrics, "counter") => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        }
    }
}

/// Writes every metric of the node.
pub fn write(node: &Node, format: Format) -> String {
    let plan = node.plan();
    let mut page = Page {
        format,
        ..Page::default()
    };
    node_gauges(&mut page, node, &plan);
    shard_gauges(&mut page, node);
    shard_counters(&mut page, node);
    transaction_counters(&mut page, node);
    driver_counters(&mut page, node);
    capture_counters(&mut page, node);
    trunk_counters(&mut page, node, &plan);
    super::histograms::write(&mut page, node, &plan);
    limit_gauges(&mut page, node, &plan);
    super::trunks::state_gauges(&mut page, node, &plan);
    if format == Format::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

/// The text so far. Samples of one metric must follow its heading without others in between.
#[derive(Default)]
pub struct Page {
    format: Format,
    text: String,
    heading: String,
}

impl Page {
    /// Opens a metric; asking again for the one that is open changes nothing.
    pub fn heading(&mut self, name: &str, kind: &str, help: &str) {
        if self.heading != name {
            name.clone_into(&mut self.heading);
            let family = self.format.family(name, kind);
            let text = &mut self.text;
            let _to_a_string = write!(text, "# HELP {family} {help}\n# TYPE {family} {kind}\n");
        }
    }

    /// Adds a sample of a part of the open metric, as the bucket of a histogram.
    pub fn part(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl core::fmt::Display) {
        let whole = self.heading.len();
        self.heading.push_str(suffix);
        self.sample("", labels, value);
        self.heading.truncate(whole);
    }

    /// Adds a sample to the open metric. `fixed` are labels in their written form, `labels` are
    /// escaped here.
    pub fn sample(&mut self, fixed: &str, labels: &[(&str, &str)], value: impl core::fmt::Display) {
        self.text.push_str(&self.heading);
        let mut open = '{';
        if !fixed.is_empty() {
            let _to_a_string = write!(self.text, "{open}{fixed}");
            open = ',';
        }
        for (name, label) in labels {
            let _to_a_string = write!(self.text, "{open}{name}=\"{}\"", escaped(label));
            open = ',';
        }
        if open == ',' {
            self.text.push('}');
        }
        let _to_a_string = writeln!(self.text, " {value}");
    }
}

fn escaped(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn node_gauges(page: &mut Page, node: &Node, plan: &NodePlan) {
    page.heading(
        "callgate_info",
        "gauge",
        "Always 1; the labels say what runs.",
    );
    page.sample(
        "",
        &[
            ("name", &plan.node_name),
            ("version", node.facts.version),
            ("io", node.facts.io),
            ("steering", if node.facts.steering { "on" } else { "off" }),
        ],
        1,
    );
    page.heading(
        "callgate_uptime_seconds",
        "gauge",
        "Time since the node started.",
    );
    page.sample("", &[], node.levers.now().as_millis() / 1000);
    page.heading(
        "callgate_leases_lost_total",
        "counter",
        "Leases that were dropped and not given back: each is a fault of the program.",
    );
    page.sample("", &[], Lease::lost());
    cdr(page, node);
    page.heading("callgate_ready", "gauge", "1 while the node wants traffic.");
    page.sample("", &[], u8::from(node.ready().ready));
    page.heading(
        "callgate_draining",
        "gauge",
        "1 while new calls are refused before a stop.",
    );
    page.sample("", &[], u8::from(node.is_draining()));
}

/// How the writing of call detail records goes; what the shards count stands with their counters.
fn cdr(page: &mut Page, node: &Node) {
    let files = node.cdr.files();
    let alarm = u8::from(node.cdr.alarm(node.levers.now()).is_some());
    page.heading(
        "callgate_cdr_alarm",
        "gauge",
        "1 while call detail records are not written.",
    );
    page.sample("", &[], alarm);
    page.heading(
        "callgate_cdr_pending",
        "gauge",
        "Call detail records that wait for the slowest file.",
    );
    page.sample("", &[], node.cdr.pending());
    page.heading(
        "callgate_cdr_written_total",
        "counter",
        "Call detail records written, by file.",
    );
    for file in &files {
        let path = file.path.display().to_string();
        page.sample(
            "",
            &[("file", &path), ("format", file.format)],
            file.written,
        );
    }
    let counts = [
        (
            "callgate_cdr_write_faults_total",
            "Times that a file of call detail records could not be written.",
            &node.cdr.faults,
        ),
        (
            "callgate_cdr_damaged_total",
            "Call detail records that did not outlive the host whole.",
            &node.cdr.damaged,
        ),
        (
            "callgate_cdr_rotations_total",
            "Files of call detail records that were put aside.",
            &node.cdr.rotations,
        ),
    ];
    for (name, help, count) in counts {
        page.heading(name, "counter", help);
        page.sample("", &[], count.load(Ordering::Relaxed));
    }
}

fn shard_gauges(page: &mut Page, node: &Node) {
    type Gauge = fn(&crate::shard::mail::Census) -> usize;
    const GAUGES: &[(&str, &str, Gauge)] = &[
        ("callgate_calls", "Live calls.", |c| c.calls),
        ("callgate_dialogs", "Dialogs in the table.", |c| c.dialogs),
        ("callgate_dialogs_max", "Room of the dialog table.", |c| {
            c.dialogs_max
        }),
        (
            "callgate_server_transactions",
            "Server transactions in the table.",
            |c| c.server_transactions,
        ),
        (
            "callgate_client_transactions",
            "Client transactions in the table.",
            |c| c.client_transactions,
        ),
        (
            "callgate_transactions_max",
            "Room of each transaction table.",
            |c| c.transactions_max,
        ),
        (
            "callgate_stored_bytes",
            "Octets of messages kept for retransmission.",
            |c| c.stored_bytes,
        ),
        (
            "callgate_stored_bytes_max",
            "Room for messages kept for retransmission.",
            |c| c.stored_bytes_max,
        ),
        ("callgate_timers", "Armed timers.", |c| c.timers),
    ];
    overload_gauges(page, node);
    page.heading(
        "callgate_shard_up",
        "gauge",
        "1 while the shard takes traffic.",
    );
    for seat in &node.seats {
        let up = u8::from(seat.condition() == Condition::Running);
        page.sample("", &[("shard", &seat.shard.to_string())], up);
    }
    page.heading(
        "callgate_shard_restarts_total",
        "counter",
        "Shards replaced after a panic or a failed driver.",
    );
    for seat in &node.seats {
        page.sample("", &[("shard", &seat.shard.to_string())], seat.restarts());
    }
    page.heading(
        "callgate_shard_stalls_total",
        "counter",
        "Times a shard gave no sign of life for too long.",
    );
    for seat in &node.seats {
        page.sample("", &[("shard", &seat.shard.to_string())], seat.stalls());
    }
    page.heading(
        "callgate_shard_cpu_seconds_total",
        "counter",
        "CPU time of the shard's thread, in user and kernel mode.",
    );
    for seat in &node.seats {
        let seconds = seat.cpu_time().as_secs_f64();
        page.sample("", &[("shard", &seat.shard.to_string())], seconds);
    }
    for (name, help, gauge) in GAUGES {
        page.heading(name, "gauge", help);
        for seat in &node.seats {
            let value = gauge(&seat.census());
            page.sample("", &[("shard", &seat.shard.to_string())], value);
        }
    }
}

/// How loaded each shard is.
fn overload_gauges(page: &mut Page, node: &Node) {
    type Gauge = fn(&crate::guard::overload::Shown) -> f64;
    const GAUGES: &[(&str, &str, Gauge)] = &[
        (
            "callgate_queue_wait_seconds",
            "The least that any datagram waited in the shard's sockets during the last interval.",
            |shown| shown.waited.as_secs_f64(),
        ),
        (
            "callgate_queue_fill_ratio",
            "How full the fullest of the shard's sockets was.",
            |shown| f64::from(shown.fill_percent) / 100.0,
        ),
        (
            "callgate_shed_ratio",
            "The share of new requests that the shard turns away.",
            |shown| shown.shed,
        ),
    ];
    for (name, help, read) in GAUGES {
        page.heading(name, "gauge", help);
        for seat in &node.seats {
            let shard = seat.shard.to_string();
            page.sample("", &[("shard", &shard)], read(&seat.census().overload));
        }
    }
}

fn shard_counters(page: &mut Page, node: &Node) {
    for (row, (name, labels, help)) in Counter::ROWS.iter().enumerate() {
        page.heading(name, "counter", help);
        for seat in &node.seats {
            let value = seat.metrics.row(row);
            page.sample(labels, &[("shard", &seat.shard.to_string())], value);
        }
    }
}

/// What the drivers counted below the shards: system calls, kernel drops, sends that failed.
fn driver_counters(page: &mut Page, node: &Node) {
    let totals: Vec<_> = node.seats.iter().map(|seat| seat.driver_totals()).collect();
    for (row, (name, help)) in DriverCounters::ROWS.iter().enumerate() {
        page.heading(&format!("callgate_io_{name}_total"), "counter", help);
        for (seat, totals) in node.seats.iter().zip(&totals) {
            page.sample("", &[("shard", &seat.shard.to_string())], totals[row]);
        }
    }
}

/// Copies of messages: what the shards could not hand over, what became of the reports to Homer.
fn capture_counters(page: &mut Page, node: &Node) {
    type Count = fn(&Spool) -> u64;
    const COUNTS: [(&str, &str, Count); 2] = [
        (
            "callgate_capture_dropped_total",
            "Copies of messages for captures that found no free slot.",
            Spool::dropped,
        ),
        (
            "callgate_capture_truncated_total",
            "Copies of messages for captures that were cut off.",
            Spool::truncated,
        ),
    ];
    for (name, help, count) in COUNTS {
        page.heading(name, "counter", help);
        for seat in &node.seats {
            let value = seat.spool.get().map_or(0, |spool| count(spool));
            page.sample("", &[("shard", &seat.shard.to_string())], value);
        }
    }
    let hep = &node.desk.hep;
    for (name, help, count) in [
        (
            "callgate_hep_sent_total",
            "Reports that the kernel took for Homer.",
            &hep.sent,
        ),
        (
            "callgate_hep_connects_total",
            "TCP connections to Homer that came about.",
            &hep.connects,
        ),
        (
            "callgate_hep_connect_failures_total",
            "TCP connections to Homer that were lost or did not come about.",
            &hep.connect_failures,
        ),
    ] {
        page.heading(name, "counter", help);
        page.sample("", &[], count.load(Ordering::Relaxed));
    }
    let help = "Reports for Homer that were lost, by reason.";
    page.heading("callgate_hep_dropped_total", "counter", help);
    for (reason, count) in HEP_DROPS.iter().zip(&hep.dropped) {
        page.sample("", &[("reason", reason)], count.load(Ordering::Relaxed));
    }
}

/// What the transaction tables did by themselves: repetitions, and what found no room.
fn transaction_counters(page: &mut Page, node: &Node) {
    let totals = node.seats.iter().map(|seat| seat.transaction_totals());
    let totals: Vec<_> = totals.collect();
    for (row, (name, help)) in transaction::Counters::ROWS.iter().enumerate() {
        let name = format!("callgate_transaction_{name}_total");
        page.heading(&name, "counter", help);
        for (seat, totals) in node.seats.iter().zip(&totals) {
            page.sample("", &[("shard", &seat.shard.to_string())], totals[row]);
        }
    }
}

fn trunk_counters(page: &mut Page, node: &Node, plan: &NodePlan) {
    for (row, (name, labels, help)) in TrunkCounter::ROWS.iter().enumerate() {
        page.heading(name, "counter", help);
        for trunk in &plan.routing.trunks {
            for seat in &node.seats {
                let value = seat.metrics.trunk_row(trunk.slot, row);
                let shard = seat.shard.to_string();
                page.sample(labels, &[("trunk", &trunk.name), ("shard", &shard)], value);
            }
        }
    }
}

/// Use and maximum of every limit of trunks and groups.
fn limit_gauges(page: &mut Page, node: &Node, plan: &NodePlan) {
    let trunks = plan.routing.trunks.iter();
    let groups = plan.routing.groups.iter();
    let slots: Vec<(&str, &str, u16, &LimitMaxima)> = trunks
        .map(|trunk| ("trunk", trunk.name.as_str(), trunk.slot, &trunk.limits))
        .chain(groups.map(|group| ("group", group.name.as_str(), group.slot, &group.limits)))
        .collect();
    page.heading(
        "callgate_limit_used",
        "gauge",
        "Leases held, by trunk or group and direction.",
    );
    for (kind, name, slot, _) in &slots {
        let used = node.shared.limits.used(SlotId(*slot));
        page.sample(r#"direction="in""#, &[(kind, name)], used.in_calls);
        page.sample(r#"direction="out""#, &[(kind, name)], used.out_calls);
    }
    page.heading(
        "callgate_limit_peak",
        "gauge",
        "Most calls at the same time since the start.",
    );
    for (kind, name, slot, _) in &slots {
        page.sample("", &[(kind, name)], node.shared.limits.peak(SlotId(*slot)));
    }
    page.heading(
        "callgate_limit_max",
        "gauge",
        "Configured maximum of calls; absent = not limited.",
    );
    for (kind, name, _, maxima) in &slots {
        let rows = [
            (r#"direction="any""#, maxima.calls_max),
            (r#"direction="in""#, maxima.calls_in_max),
            (r#"direction="out""#, maxima.calls_out_max),
        ];
        for (direction, max) in rows {
            if let Some(max) = max {
                page.sample(direction, &[(kind, name)], max);
            }
        }
    }
}
