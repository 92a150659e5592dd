//! Memory that an answered call takes: what the process grows by while a million calls come up,
//! index, words, limits and timers included. Nothing is measured but resident pages.
//!
//!   cargo bench --bench held                  a million calls
//!   cargo bench --bench held -- --held 100000

#[path = "walk/mod.rs"]
#[expect(dead_code, reason = "the other benches measure the walk step by step")]
mod walk;

use std::env;
use std::fs;

use callgate::shard::Shard;
use walk::Walk;

const HELD: usize = 1_000_000;

/// Few enough that the transactions of the last 32 s, which are no part of a held call, are few too.
const CALLS_PER_S: u32 = 1_000;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let at = arguments.iter().position(|argument| argument == "--held");
    let number = at.and_then(|at| arguments.get(at + 1)?.parse().ok());
    let held = number.unwrap_or(HELD);
    // Half of them first: what is touched once and for all is then there before it is looked at.
    let half = resident_after(held / 2);
    let whole = resident_after(held);
    match (half, whole) {
        (Ok(half), Ok(whole)) => {
            let grown = whole.saturating_sub(half) / (held - held / 2).max(1);
            let budget = Shard::octets_each().0;
            println!("held: {held} calls, {grown} octets each (the budget counts with {budget})");
        }
        (Err(why), _) | (_, Err(why)) => println!("held: not measured, {why}"),
    }
}

/// Resident octets of this process once so many calls are up.
fn resident_after(held: usize) -> Result<usize, String> {
    let walk = Walk::new(held, CALLS_PER_S);
    let resident = resident();
    drop(walk);
    resident
}

fn resident() -> Result<usize, String> {
    const PAGE: usize = 4096;
    let text = fs::read_to_string("/proc/self/statm").map_err(|fault| fault.to_string())?;
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages
        .map(|pages| pages * PAGE)
        .ok_or(format!("/proc/self/statm says {text:?}"))
}
