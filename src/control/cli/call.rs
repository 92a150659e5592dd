//! `calls` and `call`: live calls, listed page by page, and single ones.

use clap::{Args, Subcommand};
use serde_json::json;

use super::args::Remote;
use super::client::{Client, Failure};
use super::printer::{Listing, Printer};
use super::table::{Align, Table, or_dash, span};
use crate::control::answers::{CallRow, CallsPage, Cursor};

use Align::{Left, Right};

/// Which calls to list.
#[derive(Debug, Args)]
pub struct CallsArgs {
    /// Only calls that came in or went out over this trunk
    #[arg(long, value_name = "NAME")]
    pub trunk: Option<String>,
    /// Stop after this many calls
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub remote: Remote,
}

/// Commands about one call.
#[derive(Debug, Subcommand)]
pub enum CallCommand {
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
            CallCommand::End { remote, .. } => remote,
        }
    }

    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        match self {
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

/// Lists calls page by page, as they come.
pub fn list(
    client: &mut Client,
    printer: &mut Printer<'_>,
    args: &CallsArgs,
) -> Result<(), Failure> {
    let trunk = args.trunk.as_deref();
    let mut listing = Listing::start(printer)?;
    let mut table = calls_table();
    let mut cursor = Some(Cursor::default());
    let mut left = args.limit.unwrap_or(usize::MAX);
    while let Some(at) = cursor.filter(|_| left > 0) {
        let params =
            json!({ "cursor": at, "rows_max": left.min(usize::from(u16::MAX)), "trunk": trunk });
        let page: CallsPage = client.ask("calls", &params)?;
        let rows = &page.rows[..page.rows.len().min(left)];
        left -= rows.len();
        if listing.json {
            listing.rows(rows)?;
        } else {
            rows.iter().for_each(|row: &CallRow| call(&mut table, row));
            listing.text(&table.take_text())?;
        }
        cursor = page.next;
    }
    listing.end()
}
