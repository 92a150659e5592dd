//! `ban`: who is not served, until when and why.

use clap::{Args, Subcommand};
use serde_json::json;

use super::args::Remote;
use super::client::{Client, Failure};
use super::printer::{Listing, Printer};
use super::table::{Align, Table, or_dash, span};
use crate::base::duration;
use crate::control::answers::{BanRow, BansPage};

use Align::{Left, Right};

/// Commands about bans.
#[derive(Debug, Subcommand)]
pub enum BanCommand {
    /// List the bans in force
    #[command(after_help = "\
Example:
  callgate ban list --json | jq -r '.[] | select(.reason == \"unknown_rate\") | .block'")]
    List(ListArgs),
    /// Ban an address or a block of addresses; one that a trunk is in is refused
    #[command(after_help = "\
Examples:
  callgate ban add 192.0.2.7                               for [guard] ban_time
  callgate ban add 192.0.2.0/24 --for 1h --reason scanner
  callgate ban add 2001:db8::1                             its /64, which is one host's to choose from")]
    Add(AddArgs),
    /// Take a ban away
    #[command(after_help = "\
Example:
  callgate ban remove 192.0.2.0/24   the block, as `callgate ban list` shows it")]
    Remove(RemoveArgs),
}

/// How many bans to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Stop after this many bans
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub remote: Remote,
}

/// Whom to ban.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Address or block: 192.0.2.7, 192.0.2.0/24, 2001:db8::/48
    pub block: String,
    /// How long, as 90s, 30m, 12h, 7d [default: that of the configuration]
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    pub for_s: Option<u64>,
    /// Why, for those who read the list
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub remote: Remote,
}

/// Whose ban to take away.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Address or block, as it is listed
    pub block: String,
    #[command(flatten)]
    pub remote: Remote,
}

impl BanCommand {
    /// How the node is found.
    pub fn remote(&self) -> &Remote {
        match self {
            BanCommand::List(args) => &args.remote,
            BanCommand::Add(args) => &args.remote,
            BanCommand::Remove(args) => &args.remote,
        }
    }

    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        match self {
            BanCommand::List(args) => list(client, printer, args.limit.unwrap_or(usize::MAX)),
            BanCommand::Add(args) => {
                let params =
                    json!({ "block": args.block, "for_s": args.for_s, "reason": args.reason });
                printer.one(client, "ban.add", &params, |row: &BanRow| {
                    format!("{} is banned for {}\n", row.block, span(row.left_s))
                })
            }
            BanCommand::Remove(args) => {
                let params = json!({ "block": args.block });
                printer.one(client, "ban.remove", &params, |row: &BanRow| {
                    format!("{} is no longer banned\n", row.block)
                })
            }
        }
    }
}

/// Lists bans page by page, as they come.
fn list(client: &mut Client, printer: &mut Printer<'_>, limit: usize) -> Result<(), Failure> {
    let mut listing = Listing::start(printer)?;
    let mut table = Table::new(&[
        ("BLOCK", Left),
        ("REASON", Left),
        ("SINCE", Right),
        ("LEFT", Right),
        ("NOTE", Left),
    ]);
    let mut from = Some(0);
    let mut left = limit;
    while let Some(at) = from.filter(|_| left > 0) {
        let params = json!({ "from": at, "rows_max": left.min(usize::from(u16::MAX)) });
        let page: BansPage = client.ask("ban.list", &params)?;
        let rows = &page.rows[..page.rows.len().min(left)];
        left -= rows.len();
        if listing.json {
            listing.rows(rows)?;
        } else {
            for row in rows {
                table.row(vec![
                    row.block.clone(),
                    row.reason.clone(),
                    span(row.age_s),
                    span(row.left_s),
                    or_dash(row.note.as_ref()),
                ]);
            }
            listing.text(&table.take_text())?;
        }
        from = page.next;
    }
    listing.end()
}

/// A span of whole seconds, at least one.
fn seconds(text: &str) -> Result<u64, String> {
    let span = duration::parse(text).map_err(|fault| fault.to_string())?;
    match span.as_secs() {
        0 => Err("a ban lasts at least a second".to_owned()),
        seconds => Ok(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_seconds_and_more_than_none() {
        for (text, wanted) in [("90s", 90), ("1h30m", 5_400), ("7d", 604_800)] {
            assert_eq!(seconds(text), Ok(wanted), "{text}");
        }
        for text in ["", "0s", "900ms", "5", "h", "-1s", "99999999999999999999s"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
