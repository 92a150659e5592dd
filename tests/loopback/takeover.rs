//! Processes that take a node over while SIPp sends it calls: none fails, and nothing is left counted.
//!
//! `CALLGATE_TEST_TAKEOVER_RATE=1000 cargo test --release --test loopback takeover -- --nocapture`
//! does it at full load.

use super::load::between;
use crate::support::node::Node;
use crate::support::sipp::Scenario;
use crate::support::{alone, seconds};

/// Calls a second where the variable does not say otherwise; CI's machine has other work.
const RATE: u32 = 200;
const TAKEOVERS: u32 = 10;
/// How long calls come in.
const SECONDS: u32 = 20;

fn rate() -> u32 {
    let wanted = std::env::var("CALLGATE_TEST_TAKEOVER_RATE").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(RATE)
}

/// Everything that must hold of ten takeovers under load.
fn ten_takeovers(shards: &str, io: &'static str) {
    let _alone = alone();
    let calls = rate() * SECONDS;
    let mut callee = Scenario::callee("callee_is_hung_up.xml").start();
    let mut caller =
        Scenario::caller("caller_hangs_up.xml", callee.address, calls, rate()).arg("-d", 500);
    let mut setup = between(caller.local, callee.address);
    setup.shards = shards.to_owned();
    setup.io = io;
    let mut node = Node::start(&setup);
    caller.remote = Some(node.address);

    let (called, node) = std::thread::scope(|scope| {
        let takeovers = scope.spawn(move || {
            for _ in 0..TAKEOVERS {
                std::thread::sleep(seconds(u64::from(SECONDS) / u64::from(TAKEOVERS) - 1));
                node.take_over();
            }
            node
        });
        let called = caller.run(seconds(120));
        (called, takeovers.join().expect("ten takeovers"))
    });
    node.is_quiet_within(seconds(10));
    let answered = callee.end();
    println!("{shards} shards, {io}: caller {called:?}, callee {answered:?}");
    assert_eq!(
        (called.successful, called.failed),
        (u64::from(calls), 0),
        "{called:?}\n{}",
        callee.complaints()
    );
    assert_eq!(
        (answered.successful, answered.failed),
        (u64::from(calls), 0),
        "{answered:?}\n{}",
        callee.complaints()
    );
    assert_eq!(node.status_number("restarts"), 0, "no shard fell");
}

#[test]
fn ten_takeovers_cost_no_call_of_two_shards_by_uring() {
    ten_takeovers("2", "uring");
}

#[test]
fn ten_takeovers_cost_no_call_of_one_shard_by_mmsg() {
    ten_takeovers("1", "mmsg");
}
