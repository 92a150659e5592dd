//! `why`: every decision taken for a call, and the ladder of its messages.

use clap::Args;
use serde_json::json;

use super::args::Remote;
use super::client::{Client, Failure};
use super::ladder;
use super::printer::Printer;
use crate::control::answers::{Why, WhyRow};

/// Which call.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// Call-ID of the call, as `callgate calls` prints it
    pub call_id: String,
    #[command(flatten)]
    pub remote: Remote,
}

impl WhyArgs {
    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let params = json!({ "call_id": self.call_id });
        printer.one(client, "why", &params, why)
    }
}

/// One line per decision, the oldest first, and the messages as a ladder.
pub fn why(answer: &Why) -> String {
    let line = |row: &WhyRow| format!("{:>10.3} s ago  {}\n", row.age_s, row.text);
    let decisions: String = answer.decisions.iter().map(line).collect();
    format!("{decisions}{}", ladder::of_call(&answer.messages))
}
