//! The commands of the program that talk to a running node, and how their answers are printed.

mod args;
mod ban;
mod call;
mod capture_file;
mod cdr;
mod client;
mod command;
mod config;
mod debug;
mod events;
mod group;
mod ladder;
mod limits;
mod log;
mod node;
mod pages;
mod printer;
mod sip;
mod table;
mod top;
mod trace;
mod trunk;
mod why;

use std::process::ExitCode;

pub use args::{
    CheckArgs, Command, CommandLine, ImportCommand, Remote, RunArgs, StateArgs, StateCommand,
};
pub use command::{NodeCommand, execute};
pub use pages::{completion, man};

/// How the program ended, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Understood and refused: a faulty file, a port in use, an unknown call.
    Refused,
    Usage,
    /// No node answers on the socket.
    NotReached,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(match outcome {
            Outcome::Done => 0,
            Outcome::Refused => 1,
            Outcome::Usage => 2,
            Outcome::NotReached => 3,
        })
    }
}
