//! `config`: the configuration at work, and what another one would change.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::args::Remote;
use super::capture_file::{self, Recorded};
use super::client::{Client, Failure};
use super::printer::Printer;
use super::table::{Align, Table};
use crate::control::answers::{ConfigShown, PlanWish, Planned, RecordedRequest, RoutedRow};
use crate::control::rpc::Fault;

use Align::{Left, Right, Whole};

/// Commands about the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show the configuration at work, without its secrets
    #[command(after_help = "\
Examples:
  callgate config show > as-it-runs.toml
  callgate config show --json | jq .values.trunk")]
    Show(Remote),
    /// Tell what a reload of a file would change, and change nothing
    #[command(after_help = "\
Examples:
  callgate config plan new.toml
  callgate config plan new.toml --pcap calls.pcap   and which recorded requests would go elsewhere
  callgate config plan new.toml --json | jq '.affected[] | select(.calls > 0)'")]
    Plan(PlanArgs),
}

/// What to compare with.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The new configuration
    pub file: PathBuf,
    /// A capture, pcap or pcapng, of requests as they came to the node
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    #[command(flatten)]
    pub remote: Remote,
}

impl ConfigCommand {
    /// How the node is found.
    pub fn remote(&self) -> &Remote {
        match self {
            ConfigCommand::Show(remote) => remote,
            ConfigCommand::Plan(args) => &args.remote,
        }
    }

    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        match self {
            ConfigCommand::Show(_) => {
                printer.one(client, "config.show", &json!({}), |shown: &ConfigShown| {
                    let end = if shown.text.ends_with('\n') { "" } else { "\n" };
                    format!("{}{end}", shown.text)
                })
            }
            ConfigCommand::Plan(args) => plan(client, printer, args),
        }
    }
}

/// Requests of one question.
const REQUESTS_EACH: usize = 1000;
/// As the node takes them in one line, escapes included.
const TEXT_MAX: usize = 4 << 20;

fn plan(client: &mut Client, printer: &mut Printer<'_>, args: &PlanArgs) -> Result<(), Failure> {
    let refused = |what: String| Failure::Refused(Fault::refused(what));
    let file = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file)
        .map_err(|fault| refused(format!("{file}: cannot be read: {fault}")))?;
    if text.len() > TEXT_MAX {
        return Err(refused(format!(
            "{file}: larger than {} MiB",
            TEXT_MAX >> 20
        )));
    }
    let recorded = match &args.pcap {
        Some(path) => Some(capture_file::requests(path).map_err(refused)?),
        None => None,
    };
    let mut wish = PlanWish {
        file,
        text,
        requests: Vec::new(),
    };
    let planned: Planned = client.ask("config.plan", &json!(wish))?;
    let mut routed = Routed::default();
    if let Some(recorded) = &recorded {
        let requests: Vec<(&RecordedRequest, &u64)> = recorded.requests.iter().collect();
        for some in requests.chunks(REQUESTS_EACH) {
            wish.requests = some.iter().map(|(request, _)| (*request).clone()).collect();
            let answer: Planned = client.ask("config.plan", &json!(wish))?;
            let rows = some.iter().zip(&answer.routed);
            rows.for_each(|((request, count), row)| routed.take(request, **count, row));
        }
    }
    let is_refused = !planned.needs_restart.is_empty();
    if printer.json {
        let mut answer = json!(planned);
        if let Some(recorded) = &recorded {
            answer["routed"] = routed.json();
            answer["capture"] = json!({
                "packets": recorded.packets, "requests": recorded.count(),
                "same": routed.same, "other": routed.other(), "skipped": recorded.skipped,
            });
        }
        writeln!(printer.out, "{answer}")?;
    } else {
        printer.out.write_all(planned_text(&planned).as_bytes())?;
        if let Some(recorded) = &recorded {
            printer.out.write_all(routed.text(recorded).as_bytes())?;
        }
    }
    match is_refused {
        true => Err(Failure::Differs),
        false => Ok(()),
    }
}

/// Requests that go elsewhere, by where they went and would go.
#[derive(Default)]
struct Routed {
    same: u64,
    moved: BTreeMap<RecordedRequest, (u64, RoutedRow)>,
}

impl Routed {
    fn take(&mut self, request: &RecordedRequest, count: u64, row: &RoutedRow) {
        if row.old == row.new {
            self.same += count;
        } else {
            self.moved.insert(request.clone(), (count, row.clone()));
        }
    }

    fn other(&self) -> u64 {
        self.moved.values().map(|(count, _)| count).sum()
    }

    fn json(&self) -> serde_json::Value {
        let row = |(request, (count, row)): (&RecordedRequest, &(u64, RoutedRow))| {
            json!({
                "source": request.source, "user": request.user, "domain": request.domain,
                "count": count, "old": row.old, "new": row.new,
            })
        };
        self.moved.iter().map(row).collect()
    }

    fn text(&self, recorded: &Recorded) -> String {
        let mut text = format!(
            "\nOf {} recorded requests, {} would go elsewhere.\n",
            recorded.count(),
            self.other()
        );
        for (why, count) in &recorded.skipped {
            let _to_a_string = writeln!(text, "{count} packets were left out: {why}");
        }
        if self.moved.is_empty() {
            return text;
        }
        let mut table = Table::new(&[
            ("COUNT", Right),
            ("FROM", Whole),
            ("REQUEST", Left),
            ("OLD", Left),
            ("NEW", Left),
        ]);
        for (request, (count, row)) in &self.moved {
            let uri = match request.user.as_str() {
                "" => request.domain.clone(),
                user => format!("{user}@{}", request.domain),
            };
            table.row(vec![
                count.to_string(),
                request.source.clone(),
                uri,
                row.old.clone(),
                row.new.clone(),
            ]);
        }
        text + &table.take_text()
    }
}

fn planned_text(planned: &Planned) -> String {
    let mut text = String::new();
    let mut list = |heading: &str, lines: &[String]| {
        if !lines.is_empty() {
            let _to_a_string = writeln!(text, "{heading}");
        }
        for line in lines {
            let _to_a_string = writeln!(text, "  {}", line.replace('\n', "\n  "));
        }
    };
    list(
        "A reload would be refused, since this needs a restart:",
        &planned.needs_restart,
    );
    list("Warnings:", &planned.warnings);
    list("A reload would change:", &planned.applied);
    if planned.applied.is_empty() && planned.needs_restart.is_empty() {
        text.push_str("nothing would change\n");
    }
    if !planned.affected.is_empty() {
        let mut table = Table::new(&[
            ("KIND", Left),
            ("NAME", Whole),
            ("CHANGE", Left),
            ("LIVE CALLS", Right),
        ]);
        for row in &planned.affected {
            table.row(vec![
                row.kind.clone(),
                row.name.clone(),
                row.change.clone(),
                row.calls.to_string(),
            ]);
        }
        text.push_str(&table.take_text());
    }
    text
}
