//! A shard that panics or stalls is noticed, told and made good.

use super::kit::{Caller, Node, Plan};

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

#[test]
fn a_shard_that_stalls_makes_the_node_unready_until_it_runs_again() {
    let node = Plan::new("stall").start();
    node.text("debug stall-shard 1 8");
    node.until("unready", |node| node.http("GET /readyz").0 == 503);
    assert_eq!(
        node.http("GET /healthz"),
        (503, "1 of 2 shards run\n".to_owned())
    );
    let status = node.json("status");
    assert_eq!(status["state"], "degraded");
    assert_eq!(status["shards"][1]["state"], "stalled");
    assert!(
        node.http("GET /metrics")
            .1
            .contains("callgate_shard_stalls_total{shard=\"1\"} 1\n")
    );
    let log = node.log();
    let told = log
        .lines()
        .find(|line| line.contains("the shard has stalled"));
    let told = told.expect("told");
    assert!(
        told.contains("shard=1") && told.contains("its thread waits"),
        "{told}"
    );

    node.until("ready again", |node| node.http("GET /readyz").0 == 200);
    assert_eq!(node.http("GET /healthz").0, 200);
    assert!(
        node.log().contains("the stalled shard runs again"),
        "{}",
        node.log()
    );
    assert_eq!(node.json("status")["restarts"], 0);
    let caller = Caller::of(&node);
    for call in 0..16 {
        assert_eq!(caller.options(&format!("after-{call}")), 200);
    }
}

#[test]
fn what_the_transaction_tables_did_outlives_a_shard() {
    let node = Plan::new("kept").start();
    let caller = Caller::of(&node);
    let resent = |node: &Node| -> u64 {
        let stats = node.json("stats --all");
        let rows = stats.as_array().expect("a list").iter();
        let mut rows =
            rows.filter(|row| row["name"] == "callgate_transaction_responses_resent_total");
        rows.next().expect("a row")["value"]
            .as_u64()
            .expect("a number")
    };
    caller.ring(&node, "rings");
    // A copy of the INVITE is answered from the copy of its answer.
    caller.send(&caller.request("INVITE", "rings"));
    assert_eq!(caller.answer("rings"), 180);
    node.until("counted", |node| resent(node) > 0);
    let before = resent(&node);
    for shard in 0..2 {
        node.text(&format!("debug panic-shard {shard}"));
    }
    node.until("restarted", |node| node.json("status")["restarts"] == 2);
    assert!(resent(&node) >= before);
}
