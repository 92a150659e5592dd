//! `trunk`: states of trunks, and the orders that change them.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde_json::json;

use super::args::Remote;
use super::client::{Client, Failure};
use super::printer::Printer;
use super::table::{Align, Table, of, or_dash, span};
use crate::control::answers::{TrunkDetail, TrunkRow};

use Align::{Left, Right, Whole};

/// Commands about trunks.
#[derive(Debug, Subcommand)]
pub enum TrunkCommand {
    /// List all trunks with their state and use
    #[command(after_help = "\
Example:
  callgate trunk list --json | jq -r '.[] | select(.state != \"up\") | .name'")]
    List(Remote),
    /// Show one trunk: limits, groups, counters, transitions of its state
    #[command(after_help = "\
Example:
  callgate trunk show carrier-a")]
    Show(TrunkArgs),
    /// Send an OPTIONS probe at once
    #[command(after_help = "\
Example:
  callgate trunk probe carrier-a && callgate trunk show carrier-a")]
    Probe(TrunkArgs),
    /// Take no new calls over the trunk; its calls go on
    #[command(after_help = "\
Example:
  callgate trunk drain carrier-a   then watch `callgate calls --trunk carrier-a` run empty")]
    Drain(TrunkArgs),
    /// Take calls over the trunk again
    #[command(after_help = "\
Example:
  callgate trunk enable carrier-a")]
    Enable(TrunkArgs),
    /// Take no calls over the trunk and do not probe it
    #[command(after_help = "\
Example:
  callgate trunk disable carrier-a   until `trunk enable`, or a start")]
    Disable(TrunkArgs),
}

/// One trunk.
#[derive(Debug, Args)]
pub struct TrunkArgs {
    /// Name of the trunk, as in [trunk.NAME]
    pub name: String,
    #[command(flatten)]
    pub remote: Remote,
}

impl TrunkCommand {
    /// How the node is found.
    pub fn remote(&self) -> &Remote {
        match self {
            TrunkCommand::List(remote) => remote,
            TrunkCommand::Show(args)
            | TrunkCommand::Probe(args)
            | TrunkCommand::Drain(args)
            | TrunkCommand::Enable(args)
            | TrunkCommand::Disable(args) => &args.remote,
        }
    }

    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let (method, args) = match self {
            TrunkCommand::List(_) => return printer.list(client, "trunk.list", trunks),
            TrunkCommand::Show(args) => {
                let params = json!({ "name": args.name });
                return printer.one(client, "trunk.show", &params, trunk);
            }
            TrunkCommand::Probe(args) => ("trunk.probe", args),
            TrunkCommand::Drain(args) => ("trunk.drain", args),
            TrunkCommand::Enable(args) => ("trunk.enable", args),
            TrunkCommand::Disable(args) => ("trunk.disable", args),
        };
        let params = json!({ "name": args.name });
        printer.one(client, method, &params, |trunk: &TrunkRow| {
            format!("trunk {}: {}\n", trunk.name, trunk.state)
        })
    }
}

/// `trunk list`.
fn trunks(rows: &[TrunkRow]) -> String {
    let mut table = Table::new(&[
        ("TRUNK", Whole),
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
    if let Some(why) = &detail.transitions_missing {
        let _to_a_string = writeln!(text, "  no transitions: {why}");
    }
    for change in &detail.transitions {
        let (ago, from, to, why) = (span(change.ago_s), &change.from, &change.to, &change.why);
        let _to_a_string = writeln!(text, "  {ago} ago: {from} -> {to} ({why})");
    }
    text
}
