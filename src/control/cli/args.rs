//! The command line of `callgate`, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::command::NodeCommand;

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
Signals of a running node: HUP reloads, TERM and INT drain and stop, a second one stops at once,
USR2 starts the program again as it is on disk now, with --takeover.";

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
    /// Take a running node over, with its sockets and calls, in place of starting beside it
    #[arg(long)]
    pub takeover: bool,
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
  callgate run --config /etc/callgate.toml  a configuration; `callgate check FILE` finds its faults first
  callgate run --takeover --config /etc/callgate.toml
                                            the same in place of the node that runs it: no call is lost")]
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
    /// Turn the configuration of another program into one of Callgate
    #[command(
        subcommand,
        after_help = "\
Examples:
  callgate import dispatcher /etc/kamailio/dispatcher.list > callgate.toml
  callgate import sip.conf /etc/asterisk/sip.conf > callgate.toml && callgate check callgate.toml"
    )]
    Import(ImportCommand),
    /// Write a completion script for a shell
    #[command(after_help = "\
Examples:
  callgate completion bash > /etc/bash_completion.d/callgate
  callgate completion zsh > /usr/local/share/zsh/site-functions/_callgate
  callgate completion fish > ~/.config/fish/completions/callgate.fish")]
    Completion {
        /// The shell
        #[arg(value_parser = ["bash", "zsh", "fish"])]
        shell: String,
    },
    /// Write a man page for each command into a directory
    #[command(after_help = "\
Example:
  callgate man /usr/local/share/man/man1 && man callgate-trunk-show")]
    Man {
        /// Directory that is there
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    #[command(flatten)]
    Node(NodeCommand),
}

/// Whose configuration.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// A destination list of the dispatcher module of Kamailio or OpenSIPS
    #[command(after_help = "\
Example:
  callgate import dispatcher /etc/kamailio/dispatcher.list > callgate.toml   what is left behind: stderr")]
    Dispatcher {
        /// The list
        file: PathBuf,
        /// The fourth field is a weight, as in OpenSIPS; not a priority, as in Kamailio
        #[arg(long)]
        opensips: bool,
        /// Print JSON for scripts
        #[arg(long)]
        json: bool,
    },
    /// The peers of an Asterisk sip.conf, with templates and includes
    #[command(
        name = "sip.conf",
        after_help = "\
Example:
  callgate import sip.conf /etc/asterisk/sip.conf > callgate.toml   what is left behind: stderr"
    )]
    SipConf {
        /// The file
        file: PathBuf,
        /// Print JSON for scripts
        #[arg(long)]
        json: bool,
    },
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
