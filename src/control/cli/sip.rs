//! `sip`: what the fingers of an Asterisk operator type, in the tables that his eyes know.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::Subcommand;
use serde_json::{Value, json};

use super::args::Remote;
use super::client::{Client, Failure};
use super::node;
use super::printer::Printer;
use crate::control::answers::{
    CallRow, CallsPage, ConfigShown, Cursor, LimitRow, Status, TrunkRow,
};

/// Words of Asterisk's chan_sip; with --json, the answer of the command that they stand for.
#[derive(Debug, Subcommand)]
pub enum SipCommand {
    /// Show peers, channels, use of limits, or settings
    #[command(
        subcommand,
        after_help = "\
Examples:
  callgate sip show peers      as `trunk list`
  callgate sip show channels   as `calls`
  callgate sip show inuse      as `limits`
  callgate sip show settings   as `config show`"
    )]
    Show(SipShow),
    /// Send a probe to a peer
    #[command(
        subcommand,
        after_help = "\
Example:
  callgate sip qualify peer carrier-a   as `trunk probe carrier-a`"
    )]
    Qualify(SipQualify),
    /// Read the configuration file again, as `reload`
    #[command(after_help = "\
Example:
  callgate sip reload")]
    Reload(Remote),
}

/// What to show.
#[derive(Debug, Subcommand)]
pub enum SipShow {
    /// Trunks, as peers
    #[command(after_help = "\
Example:
  callgate sip show peers")]
    Peers(Remote),
    /// Live calls, as channels
    #[command(after_help = "\
Example:
  callgate sip show channels")]
    Channels(Remote),
    /// Calls over each trunk and their maximum
    #[command(after_help = "\
Example:
  callgate sip show inuse")]
    Inuse(Remote),
    /// What the node listens on, and its settings
    #[command(after_help = "\
Example:
  callgate sip show settings")]
    Settings(Remote),
}

/// What to probe.
#[derive(Debug, Subcommand)]
pub enum SipQualify {
    /// One trunk
    #[command(after_help = "\
Example:
  callgate sip qualify peer carrier-a")]
    Peer {
        /// Name of the trunk, as in [trunk.NAME]
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
}

impl SipCommand {
    /// How the node is found.
    pub fn remote(&self) -> &Remote {
        match self {
            SipCommand::Show(
                SipShow::Peers(remote)
                | SipShow::Channels(remote)
                | SipShow::Inuse(remote)
                | SipShow::Settings(remote),
            )
            | SipCommand::Qualify(SipQualify::Peer { remote, .. })
            | SipCommand::Reload(remote) => remote,
        }
    }

    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        match self {
            SipCommand::Show(SipShow::Peers(_)) => printer.list(client, "trunk.list", peers),
            SipCommand::Show(SipShow::Channels(_)) => channels(client, printer),
            SipCommand::Show(SipShow::Inuse(_)) => printer.list(client, "limits", in_use),
            SipCommand::Show(SipShow::Settings(_)) => show_settings(client, printer),
            SipCommand::Qualify(SipQualify::Peer { name, .. }) => {
                let params = json!({ "name": name });
                printer.one(client, "trunk.probe", &params, |trunk: &TrunkRow| {
                    format!("Qualifying peer '{}': {}\n", trunk.name, status(trunk))
                })
            }
            SipCommand::Reload(_) => node::reload(client, printer),
        }
    }
}

/// `UNREACHABLE`, `OK (12 ms)` and the other words of a peer's status.
fn status(trunk: &TrunkRow) -> String {
    match (trunk.state.as_str(), trunk.rtt_ms) {
        ("up", Some(rtt)) => format!("OK ({rtt:.0} ms)"),
        ("up", None) => "Unmonitored".to_owned(),
        ("down", _) => "UNREACHABLE".to_owned(),
        (state, _) => state.to_uppercase(),
    }
}

fn peers(rows: &[TrunkRow]) -> String {
    let mut text = String::new();
    let mut line = |name: &str, host: &str, dynamic: &str, port: &str, status: &str| {
        let line = format!(
            "{name:<25} {host:<39} {dynamic:<3} {:<10} {:<10} {:<3} {port:<8} {status:<11}",
            "", "", ""
        );
        let _to_a_string = writeln!(text, "{}", line.trim_end());
    };
    line("Name/username", "Host", "Dyn", "Port", "Status");
    let (mut monitored, mut unmonitored) = ([0, 0], [0, 0]);
    for row in rows {
        let (host, port) = row
            .addresses
            .first()
            .and_then(|address| address.rsplit_once(':'))
            .unwrap_or(("(Unspecified)", "0"));
        line(&row.name, host, "", port, &status(row));
        let counts = if row.rtt_ms.is_some() {
            &mut monitored
        } else {
            &mut unmonitored
        };
        counts[usize::from(row.state == "down")] += 1;
    }
    let _to_a_string = writeln!(
        text,
        "{} sip peers [Monitored: {} online, {} offline Unmonitored: {} online, {} offline]",
        rows.len(),
        monitored[0],
        monitored[1],
        unmonitored[0],
        unmonitored[1]
    );
    text
}

fn channels(client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let mut cursor = Some(Cursor::default());
    let (mut count, mut missing) = (0, Vec::new());
    let mut rows: Vec<Value> = Vec::new();
    let heading = channel("Peer", "User/ANR", "Call ID", "State", "Peer");
    if !printer.json {
        printer.out.write_all(heading.as_bytes())?;
    }
    while let Some(at) = cursor {
        let page: CallsPage = client.ask("calls", &json!({ "cursor": at }))?;
        count += page.rows.len();
        for row in &page.rows {
            match printer.json {
                true => rows.push(json!(row)),
                false => printer.out.write_all(call(row).as_bytes())?,
            }
        }
        missing.extend(page.missing);
        cursor = page.next;
    }
    match printer.json {
        true => writeln!(printer.out, "{}", Value::Array(rows))?,
        false => {
            let plural = if count == 1 { "" } else { "s" };
            writeln!(printer.out, "{count} active SIP dialog{plural}")?;
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Failure::Incomplete(missing.join(", "))),
    }
}

fn call(row: &CallRow) -> String {
    let host = row
        .caller
        .rsplit_once(':')
        .map_or(row.caller.as_str(), |(host, _)| host);
    let out = row.trunk_out.as_deref().unwrap_or("(None)");
    channel(
        host,
        &user(&row.to),
        &row.call_id,
        &row.state,
        &format!("{} -> {out}", row.trunk_in),
    )
}

/// Cells are cut as Asterisk cuts them, so that columns stay where scripts look for them.
fn channel(peer: &str, user: &str, call_id: &str, state: &str, trunks: &str) -> String {
    format!("{peer:<15.15}  {user:<15.15}  {call_id:<15.15}  {state:<8.8}  {trunks}\n")
}

/// The user part of a From or To.
fn user(address: &str) -> String {
    let uri = address
        .split_once("sip:")
        .or_else(|| address.split_once("sips:"));
    let user = uri.and_then(|(_, rest)| rest.split_once('@'));
    let user = user.map_or("(None)", |(user, _)| user);
    user.chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}

fn in_use(rows: &[LimitRow]) -> String {
    let mut text = format!("{:<25} {:<15} Limit\n", "* Peer name", "In use");
    for row in rows.iter().filter(|row| row.kind == "trunk") {
        let limit = row
            .calls_max
            .map_or("N/A".to_owned(), |max| max.to_string());
        let line = format!("{:<25} {:<15} {limit:<15}", row.name, row.calls);
        let _to_a_string = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn show_settings(client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if printer.json {
        return printer.one(client, "config.show", &json!({}), |_: &ConfigShown| {
            String::new()
        });
    }
    let status: Status = client.ask("status", &json!({}))?;
    let shown: ConfigShown = client.ask("config.show", &json!({}))?;
    let mut text = "\n\nGlobal Settings:\n----------------\n".to_owned();
    for listener in &status.listeners {
        setting(&mut text, "UDP Bindaddress", &listener.udp);
        setting(&mut text, "Externaddr", &listener.advertise);
    }
    setting(
        &mut text,
        "User Agent",
        &format!("callgate {}", status.version),
    );
    setting(&mut text, "Allow unknown access", "No");
    let heading = |table: &str| {
        let mut title = table.to_owned();
        title[..1].make_ascii_uppercase();
        format!("\n{title} Settings:\n{}\n", "-".repeat(title.len() + 10))
    };
    let tables = shown.values.as_object().into_iter().flatten();
    for (table, values) in tables.filter(|(table, _)| !["trunk", "group"].contains(&table.as_str()))
    {
        if let Some(values) = values.as_object() {
            text.push_str(&heading(table));
            values
                .iter()
                .for_each(|(name, value)| setting(&mut text, name, &plain(value)));
        }
    }
    text.push_str("----\n");
    printer.out.write_all(text.as_bytes())?;
    Ok(())
}

fn setting(text: &mut String, name: &str, value: &str) {
    let _to_a_string = writeln!(text, "  {:<23} {value}", format!("{name}:"));
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
