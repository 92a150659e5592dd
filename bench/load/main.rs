//! `load`: a SIP load generator on Callgate's own parser, timing wheel, slab and drivers.
//!
//! It makes and answers calls in one process at a rate that does not wait for answers, and counts
//! why a call failed. `caller` is the UAC, `answerer` the UAS, `worker` the loop of one thread;
//! `search` looks for the highest rate without a failure (RFC 7502), `relay` moves datagrams
//! without reading them, to tell the cost of the kernel from the cost of SIP.

mod answerer;
mod args;
mod caller;
mod clock;
mod desk;
mod grouped;
mod linger;
mod pace;
mod permit;
mod plan;
mod relay;
mod reply;
mod report;
mod route;
mod run;
mod search;
mod span;
mod tally;
mod template;
mod wording;
mod worker;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::{CallArgs, Command, CommandLine};
use plan::Plan;

/// Some call failed, or no rate without failures was found.
const FAILED: u8 = 1;
/// The command line asks for what cannot or may not be done.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let outcome = match line.command {
        Some(Command::Relay(args)) => relay::run(&args).map(|()| true),
        None => calls(&line.calls),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(why) => {
            eprintln!("load: {why}");
            ExitCode::from(USAGE)
        }
    }
}

/// Prints a result; a reader that has seen enough is no fault.
fn say(text: impl core::fmt::Display) {
    let _ = write!(std::io::stdout(), "{text}");
}

/// One run, or the search over many; tells whether nothing failed.
fn calls(args: &CallArgs) -> Result<bool, String> {
    let plan = Plan::of(args)?;
    let stop = run::stop_on_signals().map_err(|fault| fault.to_string())?;
    if args.rfc7502 {
        return search::run(&plan, args, &stop);
    }
    let outcome = run::run(&plan, &stop).map_err(|fault| fault.to_string())?;
    say(report::Summary(&outcome));
    if let Some(file) = &args.json {
        report::write_json(file, &report::json(&outcome))?;
    }
    Ok(outcome.is_clean())
}
