//! `log`: what the node logs.

use clap::Subcommand;
use serde_json::json;

use super::args::Remote;
use super::client::{Client, Failure};
use super::printer::Printer;
use super::table::pairs;
use crate::control::answers::LogState;

/// Commands about the log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Show the level and the form of the log
    #[command(after_help = "\
Example:
  callgate log show")]
    Show(Remote),
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
            LogCommand::Show(remote) | LogCommand::Set { remote, .. } => remote,
        }
    }

    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        match self {
            LogCommand::Show(_) => printer.one(client, "log.show", &json!({}), |log: &LogState| {
                let numbers = if log.numbers {
                    "shown"
                } else {
                    "hidden above debug"
                };
                pairs(&[
                    ("level", log.level.clone()),
                    ("format", log.format.clone()),
                    ("numbers", numbers.to_owned()),
                ])
            }),
            LogCommand::Set { level, .. } => {
                let params = json!({ "level": level });
                printer.one(client, "log.set", &params, |log: &LogState| {
                    format!("log level is {}\n", log.level)
                })
            }
        }
    }
}
