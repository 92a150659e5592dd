//! The command line of `callgate`, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  callgate                                  run on the embedded default: loopback only, calls go to 127.0.0.1:5080
  callgate run --config /etc/callgate.toml  run a configuration
  callgate check /etc/callgate.toml         find every fault of a configuration without running it
  callgate check --host                     compare this host with the tuning guide
  callgate status                           is it ready, what does it listen on, how many calls are up
  callgate trunk drain carrier-a            no new calls over this trunk; calls go on
  callgate calls --trunk carrier-a --json | jq -r '.[].call_id'

Exit codes: 0 done, 1 refused, 2 usage, 3 no node reached. With --json a list is one array.
Signals of a running node: HUP reloads, TERM and INT drain and stop, a second one stops at once.";

/// A SIP front-end: decides whether a call may come in and where it goes, and keeps it together.
#[derive(Debug, Parser)]
#[command(name = "callgate", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// How to run a node.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Configuration file; without one the embedded default runs, on loopback only
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How to find the node, and how to print its answer.
#[derive(Clone, Debug, Default, Args)]
pub struct Remote {
    /// Print JSON for scripts: an object, or an array with one row per line
    #[arg(long)]
    pub json: bool,
    /// Admin socket of the node [default: that of --config, else $CALLGATE_SOCKET, else that of the embedded default]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Configuration file whose [control] socket is used
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node until it is told to stop
    #[command(after_help = "\
Examples:
  callgate run                              the embedded default: loopback only, calls go to 127.0.0.1:5080
  callgate run --config /etc/callgate.toml  a configuration; `callgate check FILE` finds its faults first")]
    Run(RunArgs),
    /// Find every fault of a configuration, or compare the host with the tuning guide
    #[command(after_help = "\
Examples:
  callgate check /etc/callgate.toml  each fault with file:line:column and what would be accepted
  callgate check --host              what this host should change to carry a full load")]
    Check(CheckArgs),
    /// Look at the calls that are recorded under `state_dir`, and mend them, without a node
    #[command(
        subcommand,
        after_help = "\
Examples:
  callgate state show --config /etc/callgate.toml          what is recorded, and what is damaged
  callgate state show --config /etc/callgate.toml --calls  and each call
  callgate state reset --config /etc/callgate.toml         forget all calls, keep the secret"
    )]
    State(StateCommand),
    #[command(flatten)]
    Node(NodeCommand),
}

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
  callgate calls --json | jq -r '.[] | select(.age_s > 3600) | .call_id'")]
    Calls(CallsArgs),
    /// Act on one call
    #[command(
        subcommand,
        after_help = "\
Example:
  callgate call end 5fe2a1c0@198.51.100.10   the Call-ID, as `callgate calls` lists it"
    )]
    Call(CallCommand),
    /// Tell every decision taken for a call, in order: live, ended or refused
    #[command(after_help = "\
Examples:
  callgate why 5fe2a1c0@198.51.100.10                source, limits, route line, attempts, end
  callgate why 5fe2a1c0@198.51.100.10 --json | jq -r '.[].text'")]
    Why(CallArgs),
    /// Read the configuration file again; a faulty file changes nothing and says why
    #[command(after_help = "\
Examples:
  callgate reload                                        prints each difference that took effect
  callgate check /etc/callgate.toml && callgate reload")]
    Reload(Remote),
    /// Change what the node logs
    #[command(
        subcommand,
        after_help = "\
Example:
  callgate log set debug   until the node is started again, or told otherwise"
    )]
    Log(LogCommand),
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

/// What `check` looks at.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration file to check; with --host, the one that the host is to carry
    #[arg(value_name = "FILE", required_unless_present = "host")]
    pub file: Option<PathBuf>,
    /// Compare this host with the tuning guide and print what to change
    #[arg(long)]
    pub host: bool,
    /// Print JSON for scripts
    #[arg(long)]
    pub json: bool,
}

/// Commands about the state directory.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Show what is recorded; also while a node runs
    #[command(after_help = "\
Example:
  callgate state show --config /etc/callgate.toml --json | jq .damaged")]
    Show {
        /// List each call
        #[arg(long)]
        calls: bool,
        #[command(flatten)]
        state: StateArgs,
    },
    /// Write all records that can be read into files without damage, and set the others aside
    #[command(after_help = "\
Example:
  callgate state repair --config /etc/callgate.toml   what a start would do, without one")]
    Repair(StateArgs),
    /// Remove all records, also those that were set aside
    #[command(after_help = "\
Example:
  callgate state reset --config /etc/callgate.toml")]
    Reset(StateArgs),
}

/// Whose state directory.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// Configuration file whose [node] state_dir is meant
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Print JSON for scripts
    #[arg(long)]
    pub json: bool,
}

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
    /// Count the live calls and list every counter that is not what they hold, and calls that may
    /// be over without anybody having said so
    #[command(after_help = "\
Example:
  callgate limits verify --json | jq '.differences, .ghosts'")]
    Verify(Remote),
}

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

/// One call.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// Call-ID of the call, as `callgate calls` prints it
    pub call_id: String,
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

/// Commands about the log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Set the level: error, warn, info, debug, trace, or directives as `info,callgate::io=trace`
    #[command(after_help = "\
Examples:
  callgate log set debug
  callgate log set info,callgate::io=trace")]
    Set {
        /// Level or directives
        level: String,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Which counters to show.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Show counters that are zero too
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub remote: Remote,
}

/// Commands that break things on purpose.
#[derive(Debug, Subcommand)]
pub enum DebugCommand {
    /// Make a shard panic, to see the supervisor replace it
    #[command(after_help = "\
Example:
  callgate debug panic-shard 0")]
    PanicShard {
        /// Number of the shard
        shard: usize,
        #[command(flatten)]
        remote: Remote,
    },
    /// Make a shard do nothing for a while, to see the supervisor notice and the shard come back
    #[command(after_help = "\
Example:
  callgate debug stall-shard 0 8   a stall is noticed after 5 s")]
    StallShard {
        /// Number of the shard
        shard: usize,
        /// How long it does nothing, at most 60
        seconds: u64,
        #[command(flatten)]
        remote: Remote,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_example() {
        use clap::CommandFactory;
        let mut waiting = vec![CommandLine::command()];
        while let Some(command) = waiting.pop() {
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            assert!(
                help.starts_with("Example"),
                "{}: {help}",
                command.get_name()
            );
            let is_root = command.get_name() == "callgate";
            assert!(is_root || help.contains(command.get_name()), "{help}");
            waiting.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn no_command_runs_a_node() {
        assert!(parse("callgate").expect("valid").command.is_none());
        let line = parse("callgate --config a.toml").expect("valid");
        assert_eq!(line.run.config, Some("a.toml".into()));
    }

    #[test]
    fn check_wants_a_file_or_the_host() {
        assert!(parse("callgate check a.toml --json").is_ok());
        assert!(parse("callgate check --host --json").is_ok());
        assert!(parse("callgate check").is_err());
        assert!(parse("callgate check a.toml --host").is_ok());
    }
}
