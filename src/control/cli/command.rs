//! The commands for a running node, and how one is carried out: connect, ask, print, exit code.
//!
//! Each family of commands has a file of its own with its arguments, its questions and its tables.

use std::io;
use std::path::Path;

use clap::Subcommand;

use super::Outcome;
use super::args::Remote;
use super::ban::BanCommand;
use super::call::{self, CallCommand, CallsArgs};
use super::cdr::CdrCommand;
use super::client::{Client, Failure};
use super::config::ConfigCommand;
use super::debug::DebugCommand;
use super::events::EventsArgs;
use super::group::GroupCommand;
use super::limits::LimitsArgs;
use super::log::LogCommand;
use super::node::{self, StatsArgs};
use super::printer::Printer;
use super::sip::SipCommand;
use super::top::TopArgs;
use super::trace::TraceArgs;
use super::trunk::TrunkCommand;
use super::why::WhyArgs;

/// What to ask of a running node.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Show whether the node is ready, what it listens on, and how many calls are up
    #[command(after_help = "\
Examples:
  callgate status
  callgate status --json | jq -r .state")]
    Status(Remote),
    /// Show each shard: its CPU, how full its tables are, what it handed over
    #[command(after_help = "\
Examples:
  callgate shards
  callgate shards --json | jq '.[] | select(.state != \"running\")'")]
    Shards(Remote),
    /// Show trunks and change their state
    #[command(
        subcommand,
        after_help = "\
Examples:
  callgate trunk list
  callgate trunk drain carrier-a   no new calls; `trunk enable carrier-a` undoes it"
    )]
    Trunk(TrunkCommand),
    /// Show groups of trunks
    #[command(
        subcommand,
        after_help = "\
Example:
  callgate group list   policy, members and their states, use of the group's limits"
    )]
    Group(GroupCommand),
    /// Show use and maximum of every limit of trunks and groups
    #[command(after_help = "\
Examples:
  callgate limits
  callgate limits --json | jq '.[] | select(.calls == .calls_max) | .name'
  callgate limits verify   counts the live calls again; exit code 1 where a counter is wrong")]
    Limits(LimitsArgs),
    /// List live calls
    #[command(after_help = "\
Examples:
  callgate calls --trunk carrier-a
  callgate calls --state answered --longer-than 2h
  callgate calls --json | jq -r '.[].callee' | sort | uniq -c")]
    Calls(CallsArgs),
    /// Show one call, or end it
    #[command(
        subcommand,
        after_help = "\
Examples:
  callgate call show 5fe2a1c0@198.51.100.10   the Call-ID, as `callgate calls` lists it
  callgate call end 5fe2a1c0@198.51.100.10    BYE to both sides"
    )]
    Call(CallCommand),
    /// Tell every decision taken for a call, in order: live, ended or refused
    #[command(after_help = "\
Examples:
  callgate why 5fe2a1c0@198.51.100.10                source, limits, route line, attempts, end
  callgate why 5fe2a1c0@198.51.100.10 --json | jq -r '.decisions[].text'")]
    Why(WhyArgs),
    /// Watch the messages of a call or of a trunk's calls as they pass, or write them to a pcap file
    #[command(after_help = "\
Examples:
  callgate trace 5fe2a1c0@198.51.100.10                           its messages as a ladder, as they pass
  callgate trace carrier-a --pcap carrier-a.pcap --for 30s        for Wireshark, tshark, sngrep
  callgate trace carrier-a --follow --json | jq -r .message       until it is interrupted")]
    Trace(TraceArgs),
    /// Show who is banned, ban a source, or take a ban away
    #[command(
        subcommand,
        after_help = "\
Examples:
  callgate ban list
  callgate ban add 192.0.2.0/24 --for 1h --reason scanner
  callgate ban remove 192.0.2.0/24"
    )]
    Ban(BanCommand),
    /// Act on the files of call detail records
    #[command(
        subcommand,
        after_help = "\
Example:
  callgate cdr rotate   before a file is fetched"
    )]
    Cdr(CdrCommand),
    /// Read the configuration file again; a faulty file changes nothing and says why
    #[command(after_help = "\
Examples:
  callgate reload                                        prints each difference that took effect
  callgate check /etc/callgate.toml && callgate reload")]
    Reload(Remote),
    /// Show what happened to the node: trunks, shards, reloads, drains, limits
    #[command(after_help = "\
Examples:
  callgate events                    what the node still remembers: the last 4096
  callgate events --follow           the last ten, and what happens from here on
  callgate events --follow --json    one object per line
  callgate events --since 117 --json | jq -r '.[] | select(.kind == \"trunk\") | .text'")]
    Events(EventsArgs),
    /// Show the configuration at work, or what another one would change
    #[command(
        subcommand,
        after_help = "\
Examples:
  callgate config show
  callgate config plan new.toml --pcap calls.pcap"
    )]
    Config(ConfigCommand),
    /// The words of Asterisk's command line
    #[command(
        subcommand,
        after_help = "\
Examples:
  callgate sip show peers
  callgate sip qualify peer carrier-a
  callgate sip reload"
    )]
    Sip(SipCommand),
    /// List names, for completion
    #[command(
        hide = true,
        after_help = "\
Example:
  callgate names trunks"
    )]
    Names {
        /// Of what
        #[arg(value_parser = ["trunks", "groups"])]
        kind: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show or change what the node logs
    #[command(
        subcommand,
        after_help = "\
Example:
  callgate log set debug   until the node is started again, or told otherwise"
    )]
    Log(LogCommand),
    /// Watch the node: shards, trunks and calls on one screen, a call's decisions and messages on Enter
    #[command(after_help = "\
Examples:
  callgate top                  ? shows the keys, q quits
  callgate top --interval 5s    over a slow line
  callgate top --once           one screen as text, for a ticket
  callgate top --json | jq '.trunks[] | select(.state != \"up\") | .name'")]
    Top(TopArgs),
    /// Show every counter of the node, summed over the shards
    #[command(after_help = "\
Examples:
  callgate stats          what has been counted; zeros are left out
  callgate stats --all --json | jq '.[] | select(.name | test(\"refused\"))'")]
    Stats(StatsArgs),
    /// For those who work on Callgate itself
    #[command(
        subcommand,
        hide = true,
        after_help = "\
Example:
  callgate debug panic-shard 0"
    )]
    Debug(DebugCommand),
}

impl NodeCommand {
    /// How the node is found, and in which form its answer is printed.
    pub fn remote(&self) -> &Remote {
        match self {
            NodeCommand::Status(remote)
            | NodeCommand::Shards(remote)
            | NodeCommand::Reload(remote) => remote,
            NodeCommand::Trunk(command) => command.remote(),
            NodeCommand::Group(command) => command.remote(),
            NodeCommand::Config(command) => command.remote(),
            NodeCommand::Sip(command) => command.remote(),
            NodeCommand::Names { remote, .. } => remote,
            NodeCommand::Events(args) => &args.remote,
            NodeCommand::Limits(args) => args.remote(),
            NodeCommand::Ban(command) => command.remote(),
            NodeCommand::Calls(args) => &args.remote,
            NodeCommand::Call(command) => command.remote(),
            NodeCommand::Why(args) => &args.remote,
            NodeCommand::Trace(args) => &args.remote,
            NodeCommand::Cdr(command) => command.remote(),
            NodeCommand::Log(command) => command.remote(),
            NodeCommand::Top(args) => &args.remote,
            NodeCommand::Stats(args) => &args.remote,
            NodeCommand::Debug(command) => command.remote(),
        }
    }

    fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        match self {
            NodeCommand::Status(_) => node::show_status(client, printer),
            NodeCommand::Shards(_) => node::show_shards(client, printer),
            NodeCommand::Reload(_) => node::reload(client, printer),
            NodeCommand::Trunk(command) => command.run(client, printer),
            NodeCommand::Group(command) => command.run(client, printer),
            NodeCommand::Config(command) => command.run(client, printer),
            NodeCommand::Sip(command) => command.run(client, printer),
            NodeCommand::Names { kind, .. } => node::names(client, printer, kind),
            NodeCommand::Events(args) => args.run(client, printer),
            NodeCommand::Limits(args) => args.run(client, printer),
            NodeCommand::Ban(command) => command.run(client, printer),
            NodeCommand::Calls(args) => call::list(client, printer, args),
            NodeCommand::Call(command) => command.run(client, printer),
            NodeCommand::Why(args) => args.run(client, printer),
            NodeCommand::Trace(args) => args.run(client, printer),
            NodeCommand::Cdr(command) => command.run(client, printer),
            NodeCommand::Log(command) => command.run(client, printer),
            NodeCommand::Top(args) => args.run(client),
            NodeCommand::Stats(args) => node::show_stats(client, printer, args),
            NodeCommand::Debug(command) => command.run(client, printer),
        }
    }
}

/// Runs a command against the node that listens on `socket`.
pub fn execute(socket: &Path, command: &NodeCommand) -> Outcome {
    let mut printer = Printer {
        out: io::stdout().lock(),
        json: command.remote().json,
    };
    let done =
        Client::connect(socket).and_then(|mut client| command.run(&mut client, &mut printer));
    match done {
        Ok(()) => Outcome::Done,
        // `callgate calls | head` is a reader that has seen enough.
        Err(Failure::Output(fault)) if fault.kind() == io::ErrorKind::BrokenPipe => Outcome::Done,
        Err(Failure::Output(fault)) => {
            eprintln!("callgate: output not written: {fault}");
            Outcome::Refused
        }
        Err(Failure::Differs) => Outcome::Refused,
        Err(Failure::Incomplete(why)) => {
            eprintln!("callgate: incomplete: {why}");
            Outcome::Refused
        }
        Err(Failure::Refused(fault)) => {
            eprintln!("callgate: {}", fault.message);
            fault.data.iter().for_each(|line| eprintln!("{line}"));
            Outcome::Refused
        }
        Err(Failure::NotReached { socket, why }) => {
            eprintln!("callgate: no node reached at {}: {why}", socket.display());
            eprintln!(
                "Start one by `callgate run`, or say where it is by --socket PATH or --config FILE."
            );
            Outcome::NotReached
        }
    }
}
