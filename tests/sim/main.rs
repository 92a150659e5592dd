//! The deterministic simulator: whole nodes of shards, networks, phones and operators, made of one
//! seed each, in virtual time. Nothing of it knows the product from inside.
//!
//!   cargo test --test sim                              as many worlds as fit into a minute
//!   cargo test --test sim -- --seed 7 --hours 2        plays the world of seed 7 for two hours
//!   cargo test --test sim -- --from 1000 --seconds 600 a long search from seed 1000 on
//!
//! A failure prints its seed and the ladder of the call; the same seed plays the same world.

mod arguments;
mod callee;
mod caller;
mod checks;
mod dice;
mod judge;
mod ladder;
mod leg;
mod network;
mod operators;
mod peers;
mod plans;
mod script;
mod text;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
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
    let clock = Clock::start();
    let (mut passed, mut failed) = (0, 0);
    let mut hours = 0.0;
    let mut calls = 0;
    for seed in arguments.seeds() {
        if clock.seconds() >= arguments.seconds {
            break;
        }
        let span = arguments.span(seed);
        let first = play(seed, span, None);
        hours += first.hours;
        calls += first.calls;
        let verdict = match first.violation {
            Some(violation) => Err(violation),
            None if seed < arguments.first + TWICE => compare(seed, span, first.hash),
            None => Ok(()),
        };
        match verdict {
            Ok(()) => passed += 1,
            Err(violation) => {
                failed += 1;
                report(seed, span, &violation);
                if failed == arguments.failures_max {
                    break;
                }
            }
        }
    }
    let seconds = clock.seconds();
    println!(
        "sim: {hours:.0} simulated hours, {calls} calls, {:.1} simulated hours per second",
        hours / seconds.max(0.001)
    );
    println!("sim: {passed} passed, {failed} failed");
    match failed {
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
    for shard in &mut world.shards {
        let _nothing_left_to_save = catch_unwind(AssertUnwindSafe(|| shard.wind_up()));
    }
    Played {
        violation,
        hash: world.hash,
        hours: world.now.min(end).since(Instant::START).as_secs_f64() / 3600.0,
        calls: world.judge.calls(),
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
    println!(
        "     again: cargo test --test sim -- --seed {seed} --hours {}",
        span.as_secs_f64() / 3600.0
    );
    if !again.ladder.is_empty() {
        println!("{}", again.ladder);
    }
}

/// Wall time, which decides only how many worlds are played.
struct Clock(std::time::Instant);

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "how many worlds fit into a run is a matter of real time; what happens in them is not"
    )]
    fn start() -> Clock {
        Clock(std::time::Instant::now())
    }

    fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
