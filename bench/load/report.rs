//! The result of a run: a table for people, JSON for scripts.

use core::fmt;
use std::fs;
use std::path::Path;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::args::Mode;
use crate::run::Outcome;
use crate::tally::Counts;

const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

/// The table.
pub struct Summary<'a>(pub &'a Outcome);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = self.0;
        let counts = &outcome.tally.counts;
        writeln!(
            f,
            "\n{} at {:.0}/s for {:.2} s{}{}",
            what(outcome),
            outcome.plan.rate,
            outcome.window().as_secs_f64(),
            match outcome.plan.tick_each() {
                Some(tick) => format!(", looked at every {tick:?}"),
                None => String::new(),
            },
            if outcome.interrupted {
                ", interrupted"
            } else {
                ""
            },
        )?;
        if outcome.plan.calls_out {
            row(f, "started", counts.started, &per_second(outcome.offered()))?;
            row(
                f,
                "succeeded",
                counts.succeeded,
                &per_second(outcome.goodput()),
            )?;
            row(f, "failed", counts.failed, "")?;
        }
        for (why, count) in &outcome.tally.failures {
            row(f, &format!("  {}", why.name()), *count, why.text())?;
        }
        self.latencies(f)?;
        self.counts(f)?;
        self.machine(f)
    }
}

impl Summary<'_> {
    fn latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.tally.latencies.rows();
        if rows.iter().all(|(_, histogram)| histogram.is_empty()) {
            return Ok(());
        }
        write!(f, "\n  {:<24}", "latency, ms")?;
        for (name, _) in QUANTILES {
            write!(f, "{name:>10}")?;
        }
        writeln!(f)?;
        for (name, histogram) in rows.iter().filter(|(_, histogram)| !histogram.is_empty()) {
            write!(f, "  {name:<24}")?;
            for (_, quantile) in QUANTILES {
                let us = histogram.value_at_quantile(quantile);
                write!(f, "{:>10.3}", us as f64 / 1000.0)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        let counts = &self.0.tally.counts;
        let shown = ["started", "succeeded", "failed", "succeeded_in_time"];
        for ((name, help), count) in Counts::ROWS.iter().zip(counts.values()) {
            if count > 0 && !shown.contains(name) {
                row(f, name, count, help)?;
            }
        }
        Ok(())
    }

    fn machine(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = self.0;
        let driver = &outcome.tally.driver;
        let (user, system) = outcome.cpu;
        writeln!(
            f,
            "\n  {}: {} datagrams sent, {} received, {} dropped by the kernel, {} not sent; \
             {} system calls",
            outcome.tally.driver_name,
            driver.sent,
            driver.received,
            driver.dropped_by_kernel,
            driver.send_full,
            driver.system_calls,
        )?;
        writeln!(
            f,
            "  CPU of the generator: {:.2} s user, {:.2} s system in {:.2} s",
            user.as_secs_f64(),
            system.as_secs_f64(),
            outcome.elapsed.as_secs_f64(),
        )
    }
}

fn what(outcome: &Outcome) -> String {
    let Outcome {
        target,
        listen,
        plan,
        ..
    } = outcome;
    let noun = match plan.mode {
        Mode::Call => "calls",
        Mode::Register => "REGISTER",
        Mode::Options => "OPTIONS",
    };
    match (plan.calls_out, plan.calls_in) {
        (true, true) if plan.to.is_some() => format!("{noun} to {target}, answered at {listen}"),
        (true, true) => format!("{noun} straight to {listen}"),
        (true, false) => format!("{noun} to {target}"),
        (false, _) => format!("{noun} answered at {listen}"),
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, count: u64, text: &str) -> fmt::Result {
    writeln!(f, "  {name:<24}{count:>12}  {text}")
}

fn per_second(rate: f64) -> String {
    format!("{rate:.0}/s")
}

/// The whole result.
pub fn json(outcome: &Outcome) -> Value {
    let counts = &outcome.tally.counts;
    let messages: Map<String, Value> = Counts::ROWS
        .iter()
        .zip(counts.values())
        .map(|((name, _), count)| ((*name).to_owned(), json!(count)))
        .collect();
    let failures: Map<String, Value> = outcome
        .tally
        .failures
        .iter()
        .map(|(why, count)| (why.name(), json!(count)))
        .collect();
    let latencies: Map<String, Value> = outcome
        .tally
        .latencies
        .rows()
        .into_iter()
        .map(|(name, histogram)| (name.to_owned(), latency(histogram)))
        .collect();
    let plan = &outcome.plan;
    json!({
        "what": what(outcome),
        "plan": {
            "mode": format!("{:?}", plan.mode).to_lowercase(),
            "to": outcome.target.to_string(),
            "listen": outcome.listen.to_string(),
            "rate": plan.rate,
            "calls_max": plan.calls_max,
            "time_s": plan.time.as_secs_f64(),
            "hold": plan.hold.to_string(),
            "ring": plan.ring.to_string(),
            "threads": plan.cpus.len(),
            "cpus": plan.cpus,
            "tick_us": plan.tick_each().map(|tick| tick.as_micros() as u64),
            "cancel_percent": plan.mix.cancel as f64 / 100.0,
            "busy_percent": plan.mix.busy as f64 / 100.0,
            "no_answer_percent": plan.mix.no_answer as f64 / 100.0,
        },
        "clean": outcome.is_clean(),
        "interrupted": outcome.interrupted,
        "window_s": outcome.window().as_secs_f64(),
        "elapsed_s": outcome.elapsed.as_secs_f64(),
        "offered_per_s": outcome.offered(),
        "goodput_per_s": outcome.goodput(),
        "counts": messages,
        "failures": failures,
        "latency_us": latencies,
        "driver": {
            "name": outcome.tally.driver_name,
            "sent": outcome.tally.driver.sent,
            "received": outcome.tally.driver.received,
            "dropped_by_kernel": outcome.tally.driver.dropped_by_kernel,
            "send_full": outcome.tally.driver.send_full,
            "system_calls": outcome.tally.driver.system_calls,
        },
        "cpu_s": {
            "user": outcome.cpu.0.as_secs_f64(),
            "system": outcome.cpu.1.as_secs_f64(),
        },
    })
}

fn latency(histogram: &Histogram<u64>) -> Value {
    let mut row = Map::new();
    row.insert("count".to_owned(), json!(histogram.len()));
    for (name, quantile) in QUANTILES {
        row.insert(
            name.to_owned(),
            json!(histogram.value_at_quantile(quantile)),
        );
    }
    Value::Object(row)
}

/// Writes JSON to a file; the error says which.
pub fn write_json(file: &Path, value: &Value) -> Result<(), String> {
    let text = format!("{value:#}\n");
    fs::write(file, text).map_err(|fault| format!("{}: {fault}", file.display()))
}
