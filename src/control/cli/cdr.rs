//! `cdr`: the files of call detail records.

use clap::Subcommand;
use serde_json::json;

use super::args::Remote;
use super::client::{Client, Failure};
use super::printer::Printer;
use crate::control::answers::CdrStatus;

/// Commands about call detail records.
#[derive(Debug, Subcommand)]
pub enum CdrCommand {
    /// Put the present files aside under names with the time, and begin new ones, as SIGUSR1 does
    #[command(after_help = "\
Example:
  callgate cdr rotate   refused where [cdr] names no file")]
    Rotate(Remote),
}

impl CdrCommand {
    /// How the node is found.
    pub fn remote(&self) -> &Remote {
        match self {
            CdrCommand::Rotate(remote) => remote,
        }
    }

    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        match self {
            CdrCommand::Rotate(_) => {
                printer.one(client, "cdr.rotate", &json!({}), |files: &Vec<String>| {
                    format!("new files begin: {}\n", files.join(", "))
                })
            }
        }
    }
}

/// The lines of `status`: each file, then what is wrong.
pub fn status_lines(cdr: Option<&CdrStatus>) -> Vec<(&'static str, String)> {
    let Some(cdr) = cdr else {
        return vec![("cdr", "off".to_owned())];
    };
    let mut lines: Vec<_> = cdr
        .files
        .iter()
        .map(|file| {
            let line = format!("{} ({}), {} written", file.path, file.format, file.written);
            ("cdr", line)
        })
        .collect();
    lines.push((
        "cdr ring",
        format!("{} pending, {} lost", cdr.pending, cdr.lost),
    ));
    if let Some(alarm) = &cdr.alarm {
        lines.push(("CDR ALARM", format!("not written: {alarm}")));
    }
    lines
}
