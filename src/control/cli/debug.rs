//! `debug`: commands that break things on purpose.

use clap::Subcommand;
use serde_json::json;

use super::args::Remote;
use super::client::{Client, Failure};
use super::printer::Printer;

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

impl DebugCommand {
    /// How the node is found.
    pub fn remote(&self) -> &Remote {
        match self {
            DebugCommand::PanicShard { remote, .. } | DebugCommand::StallShard { remote, .. } => {
                remote
            }
        }
    }

    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        match self {
            DebugCommand::PanicShard { shard, .. } => {
                let params = json!({ "shard": shard });
                printer.one(client, "debug.panic_shard", &params, |shard: &usize| {
                    format!("shard {shard} was told to panic\n")
                })
            }
            DebugCommand::StallShard { shard, seconds, .. } => {
                let params = json!({ "shard": shard, "seconds": seconds });
                printer.one(client, "debug.stall_shard", &params, |shard: &usize| {
                    format!("shard {shard} was told to do nothing for {seconds} s\n")
                })
            }
        }
    }
}
