//! How many instructions a call costs: no more than the committed figure says, and the same with
//! many calls held as with few.
//!
//! A change that makes a call dearer by more than a twentieth changes `tests/instructions.txt` in
//! the same commit, so that it is seen in review. The figures belong to a profile: `proof` is what
//! `tests/run` builds. Valgrind counts, and without it the test fails.

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

#[path = "../bench/counted/mod.rs"]
mod counted;

use counted::{Arguments, MESSAGES, per_call};

/// Calls held, and how much dearer a call may be with the larger number of them.
const FEW: usize = 1_000;
const MANY: usize = 100_000;
const DEARER_BY_HOLDING: f64 = 0.15;

/// How much dearer or cheaper than the committed figure a call may be.
const TOLERANCE: f64 = 0.05;

fn main() -> ExitCode {
    if Arguments::read().ran_inside() {
        return ExitCode::SUCCESS;
    }
    match check() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("instructions: FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<(), String> {
    let few = per_call(FEW)?;
    let each = few / MESSAGES;
    println!("instructions: {few} per call, {each} per message, with {FEW} calls held");
    let many = per_call(MANY)?;
    println!("instructions: {many} per call with {MANY} calls held");
    if many as f64 > few as f64 * (1.0 + DEARER_BY_HOLDING) {
        return Err(format!(
            "{MANY} held calls make a call dearer: {few} -> {many}"
        ));
    }
    compare(few)
}

fn compare(counted: u64) -> Result<(), String> {
    let profile = profile()?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/instructions.txt");
    let text = fs::read_to_string(&file).map_err(|fault| format!("{}: {fault}", file.display()))?;
    let committed = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == profile)
        .and_then(|(_, number)| number.trim().parse::<u64>().ok())
        .ok_or(format!(
            "tests/instructions.txt has no figure for {profile}"
        ))?;
    let change = counted as f64 / committed as f64 - 1.0;
    println!(
        "instructions: {:+.1} % of the committed {committed} ({profile})",
        change * 100.0
    );
    if change.abs() > TOLERANCE {
        return Err(format!(
            "a call takes {counted} instructions, tests/instructions.txt says {committed}; where \
             that is meant, change the file in the same commit"
        ));
    }
    Ok(())
}

/// The directory that cargo built this into: `proof`, `debug` or `release`.
fn profile() -> Result<String, String> {
    let program = env::current_exe().map_err(|fault| fault.to_string())?;
    let name = program
        .parent()
        .and_then(Path::parent)
        .and_then(Path::file_name);
    name.map(|name| name.to_string_lossy().into_owned())
        .ok_or_else(|| format!("{} lies in no profile's directory", program.display()))
}
