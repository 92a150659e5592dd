//! What runs between threads, in every order that the memory model allows: the sources of the
//! library, with loom's atomics in place of the processor's.
//!
//! loom plays all interleavings of a few steps of two or three threads, with a bound on how often
//! one is interrupted.

use std::process::ExitCode;

/// The library's foundations, but for the atomics.
#[path = "../../src/base"]
mod base {
    pub use callgate::base::*;

    pub mod atomics {
        pub use loom::sync::atomic::{
            AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering, fence,
        };
    }

    pub mod sleep;
}

#[path = "../../src/limit/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "a part of the module is checked here"
)]
mod limit;

#[path = "../../src/route"]
mod route {
    pub mod plan {
        pub use callgate::route::{Plan, Trunk};
    }

    pub mod health {
        pub use callgate::route::health::{ADDRESSES_MAX, SLOW_START, State, TRIAL_SHARE};

        #[expect(dead_code, reason = "a part of the module is checked here")]
        mod board;

        #[path = "../../../tests/loom/board.rs"]
        pub mod checks;
    }
}

mod limits;
mod mail;

/// How often a thread is interrupted in one order. Two find nearly all that more would; without a
/// bound the checks with two slots take hours.
const PREEMPTIONS_MAX: usize = 3;

fn main() -> ExitCode {
    // As cargo's own harness: names on the command line choose; `--list` and the like are its.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let checks = [limits::CHECKS, mail::CHECKS, route::health::checks::CHECKS].concat();
    let mut played = 0;
    for (name, check) in checks {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word)) {
            println!("loom: {name}");
            let mut model = loom::model::Builder::new();
            model.preemption_bound = Some(PREEMPTIONS_MAX);
            model.check(check);
            played += 1;
        }
    }
    println!("loom: {played} passed");
    ExitCode::SUCCESS
}
