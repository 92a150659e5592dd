//! Instructions per call of a shard, counted by valgrind: the same on each run and each machine of
//! one architecture, so that a change of a percent can be seen where time says nothing.
//!
//! Runs itself under callgrind, which counts within `Walk::run` only.

use std::env;
use std::hint::black_box;
use std::process::Command;

mod walk;

use walk::{BATCH, MESSAGES, Walk};

/// What tells the inner run from the outer one.
const INNER: &str = "--inner";

const BATCHES: usize = 32;

fn main() {
    if env::args().any(|argument| argument == INNER) {
        run();
    } else {
        match count() {
            Ok(instructions) => report(instructions),
            Err(why) => println!("instructions: not counted, {why}"),
        }
    }
}

/// Few calls per second: warming up takes long under valgrind.
fn run() {
    let mut walk = Walk::new(0, 50);
    for _ in 0..BATCHES {
        walk.batch(counted);
    }
}

/// The function that callgrind looks for. The black box keeps the compiler from merging it with
/// what warms up.
#[inline(never)]
fn counted(walk: &mut Walk, step: usize) {
    walk.run(black_box(step));
}

fn count() -> Result<u64, String> {
    let program = env::current_exe().map_err(|fault| fault.to_string())?;
    let out_file = env::var("CALLGRIND_OUT").unwrap_or_else(|_| "/dev/null".to_owned());
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--toggle-collect=instructions::counted*",
        ])
        .arg(format!("--callgrind-out-file={out_file}"))
        .arg(program)
        .arg(INNER)
        .output()
        .map_err(|fault| format!("valgrind: {fault}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, number)| number.trim().parse().ok())
        .ok_or_else(|| format!("valgrind said:\n{text}"))
}

fn report(instructions: u64) {
    let calls = (BATCHES * BATCH) as u64;
    println!(
        "instructions: {} per call, {} per message received",
        instructions / calls,
        instructions / calls / MESSAGES
    );
}
