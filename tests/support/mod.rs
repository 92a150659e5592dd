//! What the black-box tests share: a running node, SIP phones over UDP, outside tools.
//!
//! Apart from `strict`, nothing in here uses the library under test: messages are read with the tests' own plain eyes,
//! so that a fault of the parser cannot hide itself.

#![allow(dead_code, reason = "each test file uses its own part of the support")]

pub mod baresip;
#[path = "../corpora/mod.rs"]
pub mod corpora;
pub mod kamailio;
pub mod message;
pub mod node;
pub mod phone;
pub mod port;
pub mod protos;
pub mod sipp;
pub mod storm;
pub mod strict;
pub mod tool;

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Held by a test that loads the machine: such tests of one file run one after the other.
pub fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The only clock of the tests.
#[expect(
    clippy::disallowed_methods,
    reason = "a black-box test lives in real time"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks `question` every 20 ms until it says yes; `false` when `patience` ends first.
pub fn eventually(patience: Duration, mut question: impl FnMut() -> bool) -> bool {
    let end = now() + patience;
    loop {
        if question() {
            return true;
        }
        if now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
