//! `log`: what the node logs.

use clap::Subcommand;
use serde_json::json;

use super::args::Remote;
use super::client::{Client, Failure};
use super::printer::Printer;

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

impl LogCommand {
    /// How the node is found.
    pub fn remote(&self) -> &Remote {
        match self {
            LogCommand::Set { remote, .. } => remote,
        }
    }

    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        match self {
            LogCommand::Set { level, .. } => {
                let params = json!({ "level": level });
                printer.one(client, "log.set", &params, |set: &String| {
                    format!("log level is {set}\n")
                })
            }
        }
    }
}
