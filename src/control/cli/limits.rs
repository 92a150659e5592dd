//! `limits`: use and maxima, and whether the counters are right.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::{Args, Subcommand};
use serde_json::json;

use super::args::Remote;
use super::client::{Client, Failure};
use super::printer::Printer;
use super::table::{Align, Table, of, or_dash, span};
use crate::control::answers::{LimitRow, Verified};

use Align::{Left, Right, Whole};

/// Whether limits are shown or verified.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LimitsArgs {
    #[command(subcommand)]
    pub command: Option<LimitsCommand>,
    #[command(flatten)]
    pub remote: Remote,
}

/// Commands about the limits.
#[derive(Debug, Subcommand)]
pub enum LimitsCommand {
    /// Show use and maximum of every limit, as `limits` alone does
    #[command(after_help = "\
Example:
  callgate limits show --json | jq '.[] | select(.calls == .calls_max) | .name'")]
    Show(Remote),
    /// Count the live calls and list every counter that is not what they hold, and calls that may
    /// be over without anybody having said so
    #[command(after_help = "\
Example:
  callgate limits verify --json | jq '.differences, .ghosts'")]
    Verify(Remote),
}

impl LimitsArgs {
    /// How the node is found.
    pub fn remote(&self) -> &Remote {
        match &self.command {
            Some(LimitsCommand::Show(remote) | LimitsCommand::Verify(remote)) => remote,
            None => &self.remote,
        }
    }

    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        match &self.command {
            None | Some(LimitsCommand::Show(_)) => printer.list(client, "limits", limits),
            Some(LimitsCommand::Verify(_)) => verify(client, printer),
        }
    }
}

/// Prints what a recount found; a counter that is wrong makes the command fail.
fn verify(client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let verified: Verified = client.ask("limits.verify", &json!({}))?;
    let text = match printer.json {
        true => serde_json::to_string(&verified).map_err(io::Error::other)? + "\n",
        false => verified_text(&verified),
    };
    printer.out.write_all(text.as_bytes())?;
    match verified.differences.is_empty() {
        true => Ok(()),
        false => Err(Failure::Differs),
    }
}

/// `limits`.
fn limits(rows: &[LimitRow]) -> String {
    let mut table = Table::new(&[
        ("KIND", Left),
        ("NAME", Whole),
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
fn verified_text(verified: &Verified) -> String {
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
