//! The walk of a call with its instructions counted, for the bench that tells them and the test that
//! watches them.

mod valgrind;
#[path = "../walk/mod.rs"]
mod walk;

use std::env;

use walk::{BATCH, Walk};

pub use walk::MESSAGES;

/// Batches of calls that are counted.
const BATCHES: usize = 16;

/// What tells the run under valgrind from the one that starts it.
const INNER: &str = "--inner";

/// What was asked for behind the program's name.
pub struct Arguments {
    is_inner: bool,
    /// Answered calls that are held meanwhile.
    pub held: usize,
}

impl Arguments {
    /// Reads `--held N`.
    pub fn read() -> Arguments {
        let all: Vec<String> = env::args().skip(1).collect();
        let at = all.iter().position(|argument| argument == "--held");
        let number = at.and_then(|at| all.get(at + 1)?.parse().ok());
        Arguments {
            is_inner: all.iter().any(|argument| argument == INNER),
            held: number.unwrap_or(0),
        }
    }

    /// Does what there is to do under valgrind; true where this is that run.
    pub fn ran_inside(&self) -> bool {
        if self.is_inner {
            run(self.held);
        }
        self.is_inner
    }
}

/// Instructions of one call while `held` others are up.
pub fn per_call(held: usize) -> Result<u64, String> {
    let inner = [INNER, "--held", &held.to_string()].map(str::to_owned);
    Ok(valgrind::count_self(&inner)? / (BATCHES * BATCH) as u64)
}

/// Few calls per second: warming up takes long under valgrind.
fn run(held: usize) {
    let mut walk = Walk::new(held, 50);
    valgrind::begin();
    for _ in 0..BATCHES {
        walk.batch(|walk, step| valgrind::counted(|| walk.run(step)));
    }
}
