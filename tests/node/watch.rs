//! A shard that panics or stalls is noticed, told and made good.

use super::kit::{Caller, Plan};

#[test]
fn a_shard_that_panics_is_replaced_and_its_calls_are_given_back() {
    let node = Plan::new("panic").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "lost");
    for shard in 0..2 {
        node.text(&format!("debug panic-shard {shard}"));
    }
    node.until("restarted", |node| {
        let status = node.json("status");
        status["restarts"] == 2 && status["shards_running"] == 2
    });
    for call in 0..16 {
        assert_eq!(caller.options(&format!("after-{call}")), 200);
    }
    for row in node.json("limits").as_array().expect("a list") {
        assert_eq!(row["calls"], 0, "{row}");
    }
    let log = node.log();
    assert!(
        log.contains("panicked at") && log.contains("is replaced"),
        "{log}"
    );
    assert!(
        node.http("GET /metrics")
            .1
            .contains("callgate_shard_restarts_total{shard=\"0\"} 1")
    );
    assert_eq!(node.http("GET /readyz").0, 200);
}
