//! The deterministic simulator: whole nodes of shards, networks, phones and operators, made of one
//! seed each, in virtual time. Nothing of it knows the product from inside.
//!
//!   cargo test --test sim                              a thousand simulated hours
//!   cargo test --test sim -- --seed 7 --hours 2        plays the world of seed 7 for two hours
//!   cargo test --test sim -- --from 1000 --seconds 600 ten minutes, from seed 1000 on
//!   cargo test --test sim -- --from 1000 --endless     until Ctrl-C, which prints the sum
//!
//! A failure prints its seed and the ladder of the call; the same seed plays the same world.

mod arguments;
mod callee;
mod caller;
mod checks;
mod climate;
mod crash;
mod dice;
mod forger;
mod judge;
mod ladder;
mod leg;
mod model;
mod network;
mod node;
mod operators;
mod peers;
mod plans;
mod run;
mod script;
mod text;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::Duration;

use arguments::Arguments;
use callgate::base::Instant;
use judge::Violation;
use world::World;

/// Of the worlds of a run, so many are played twice to see that they do not differ.
const TWICE: u64 = 5;

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read(std::env::args().skip(1)) else {
        println!("sim: nothing to do for these arguments");
        return ExitCode::SUCCESS;
    };
    // A panic is reported with its seed and ladder, once.
    std::panic::set_hook(Box::new(|_| {}));
    let sum = run::run(&arguments);
    println!("{sum}");
    match sum.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// What is left of a world.
struct Played {
    violation: Option<Violation>,
    hash: u64,
    hours: f64,
    calls: usize,
    deaths: usize,
    ladder: String,
    climate: String,
}

fn play(seed: u64, span: Duration, record: Option<usize>) -> Played {
    let mut world = World::new(seed, record);
    let end = world.now + span;
    let run = catch_unwind(AssertUnwindSafe(|| world.run(end)));
    let mut violation = world.judge.violation.clone();
    if let Err(panic) = run {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        violation = Some(Violation {
            at: world.now,
            call: world.busy_with,
            what: format!("panic: {}", text.unwrap_or("without a text")),
        });
    }
    // A world whose shards are dropped in mid-call would count its leases as lost.
    for shard in &mut world.node.shards {
        let _nothing_left_to_save = catch_unwind(AssertUnwindSafe(|| shard.wind_up()));
    }
    Played {
        violation,
        hash: world.hash,
        hours: world.now.min(end).since(Instant::START).as_secs_f64() / 3600.0,
        calls: world.judge.calls(),
        deaths: world.crashes.count,
        ladder: world.ladder.text(),
        climate: world.describe(),
    }
}

/// The same seed must give the same trace.
fn compare(seed: u64, span: Duration, hash: u64) -> Result<(), Violation> {
    let again = play(seed, span, None);
    if again.hash == hash {
        return Ok(());
    }
    Err(Violation {
        at: Instant::START,
        call: None,
        what: format!("two runs differ: {hash:016x} and {:016x}", again.hash),
    })
}

fn report(seed: u64, span: Duration, violation: &Violation) {
    let again = play(seed, span, violation.call);
    let minutes = violation.at.as_micros() as f64 / 60e6;
    println!(
        "sim: FAILED seed {seed} after {minutes:.1} simulated minutes: {}",
        violation.what
    );
    println!("     {}", again.climate);
    println!("     commit {}", commit());
    println!(
        "     again: cargo test --test sim -- --seed {seed} --hours {}",
        span.as_secs_f64() / 3600.0
    );
    if !again.ladder.is_empty() {
        println!("{}", again.ladder);
    }
}

/// The commit that was tested, and whether anything was changed since.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let head = git(&["rev-parse", "--short", "HEAD"]);
    let is_changed = git(&["status", "--porcelain"]).is_some_and(|list| !list.is_empty());
    match head {
        Some(head) if is_changed => format!("{head} with changes"),
        Some(head) => head,
        None => "unknown: no git here".to_owned(),
    }
}
