//! `calls` and `call`: live calls, listed page by page, and single ones.

use core::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::args::Remote;
use super::client::{Client, Failure};
use super::printer::{Listing, Printer};
use super::table::{Align, Table, or_dash, pairs, span};
use crate::base::duration;
use crate::control::answers::{CallDetail, CallRow, CallsPage, Cursor};

use Align::{Left, Right, Whole};

/// Which calls to list.
#[derive(Debug, Args)]
pub struct CallsArgs {
    /// Only calls that came in or went out over this trunk
    #[arg(long, value_name = "NAME")]
    pub trunk: Option<String>,
    /// Only calls in this state
    #[arg(long, value_name = "STATE", value_parser = ["ringing", "answered", "ending"])]
    pub state: Option<String>,
    /// Only calls that were admitted at least so long ago, as 90s, 10m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub longer_than: Option<Duration>,
    /// Stop after this many calls
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub remote: Remote,
}

fn time(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|fault| fault.to_string())
}

/// Commands about one call.
#[derive(Debug, Subcommand)]
pub enum CallCommand {
    /// Show everything known of a live call: parties, trunks, leases, timers, dialogs, set-up
    #[command(after_help = "\
Examples:
  callgate call show 5fe2a1c0@198.51.100.10
  callgate call show 5fe2a1c0@198.51.100.10 --json | jq '.[0].session_left_s'")]
    Show {
        /// Call-ID of the call
        call_id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// End a call: BYE to both sides
    #[command(after_help = "\
Example:
  callgate call end 5fe2a1c0@198.51.100.10")]
    End {
        /// Call-ID of the call
        call_id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

impl CallCommand {
    /// How the node is found.
    pub fn remote(&self) -> &Remote {
        match self {
            CallCommand::Show { remote, .. } | CallCommand::End { remote, .. } => remote,
        }
    }

    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        match self {
            CallCommand::Show { call_id, .. } => {
                let params = json!({ "call_id": call_id });
                printer.one(client, "call.show", &params, |calls: &Vec<CallDetail>| {
                    calls.iter().map(detail).collect::<Vec<_>>().join("\n")
                })
            }
            CallCommand::End { call_id, .. } => {
                let params = json!({ "call_id": call_id });
                printer.one(client, "call.end", &params, |ended: &Vec<String>| {
                    format!("ended {}\n", ended.join(", "))
                })
            }
        }
    }
}

/// The table of `calls`; rows are added page by page.
fn calls_table() -> Table {
    Table::new(&[
        ("STATE", Left),
        ("AGE", Right),
        ("TALK", Right),
        ("IN", Whole),
        ("OUT", Whole),
        ("CALLER", Left),
        ("CALLEE", Left),
        ("FROM", Left),
        ("TO", Left),
        ("CALL-ID", Whole),
    ])
}

/// Adds a call to the table of `calls`.
fn call(table: &mut Table, row: &CallRow) {
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

/// Lists calls page by page, as they come. A shard that does not answer is told at the end.
pub fn list(
    client: &mut Client,
    printer: &mut Printer<'_>,
    args: &CallsArgs,
) -> Result<(), Failure> {
    let mut table = calls_table();
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut missing = Vec::new();
    let mut page = next_page(client, args, Cursor::default(), left)?;
    let mut listing = Listing::start(printer)?;
    loop {
        let rows = &page.rows[..page.rows.len().min(left)];
        left -= rows.len();
        missing.extend(page.missing.take());
        if listing.json {
            listing.rows(rows)?;
        } else {
            rows.iter().for_each(|row| call(&mut table, row));
            listing.text(&table.take_text())?;
        }
        match page.next.filter(|_| left > 0) {
            Some(at) => page = next_page(client, args, at, left)?,
            None => break,
        }
    }
    listing.end()?;
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Failure::Incomplete(missing.join(", "))),
    }
}

fn next_page(
    client: &mut Client,
    args: &CallsArgs,
    cursor: Cursor,
    left: usize,
) -> Result<CallsPage, Failure> {
    let params = json!({
        "cursor": cursor,
        "rows_max": left.min(usize::from(u16::MAX)),
        "trunk": args.trunk,
        "state": args.state,
        "longer_than_s": args.longer_than.map(|time| time.as_secs_f64()),
    });
    client.ask("calls", &params)
}

/// `call show`, for one passage of the call.
fn detail(detail: &CallDetail) -> String {
    let row = &detail.row;
    let time = |seconds: Option<f64>| or_dash(seconds.map(|time| span(time as u64)));
    let via = |address: &str, listener: &Option<String>| match listener {
        Some(listener) => format!("{address} over {listener}"),
        None => address.to_owned(),
    };
    let names = |lease: &Option<Vec<String>>| or_dash(lease.as_ref().map(|names| names.join(" ")));
    let text = |text: &String| or_dash(Some(text).filter(|text| !text.is_empty()));
    let mut lines = vec![
        ("call", row.call_id.clone()),
        ("state", row.state.clone()),
        ("age", span(row.age_s as u64)),
        ("answered for", time(row.answered_s)),
        ("from", row.from.clone()),
        ("to", row.to.clone()),
        ("trunk in", row.trunk_in.clone()),
        ("trunk out", or_dash(row.trunk_out.as_ref())),
        ("caller", via(&row.caller, &detail.caller_listener)),
        (
            "callee",
            or_dash(
                row.callee
                    .as_ref()
                    .map(|callee| via(callee, &detail.callee_listener)),
            ),
        ),
        ("caller contact", text(&detail.caller_contact)),
        ("caller routes", text(&detail.caller_route)),
        ("callee contact", text(&detail.callee_contact)),
        ("callee routes", text(&detail.callee_route)),
        ("counts in", names(&detail.lease_in)),
        ("counts out", names(&detail.lease_out)),
        ("session left", time(detail.session_left_s)),
        ("time left", time(detail.call_time_left_s)),
        (
            "recorded",
            if detail.recorded { "yes" } else { "no" }.to_owned(),
        ),
        ("shard", row.shard.to_string()),
        ("passage", detail.passage.clone()),
    ];
    if let Some(setup) = &detail.setup {
        let cancelled = if setup.cancelled { ", cancelled" } else { "" };
        let says = format!(
            "to {}, address {}, sent {} ago; INVITE {}, last answer {}{cancelled}",
            setup.to,
            setup.address,
            span(setup.sent_s as u64),
            setup.transaction,
            or_dash(setup.last_status),
        );
        lines.push(("set-up", says));
    }
    for fork in &detail.forks {
        let (caller, callee) = (or_dash(fork.caller_cseq), or_dash(fork.callee_cseq));
        let says = format!(
            "{}; CSeq {caller} from the caller, {callee} from the callee",
            fork.state
        );
        lines.push(("dialog", says));
    }
    pairs(&lines)
}
