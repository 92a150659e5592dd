//! A node that is told to stop: what still passes, and when it ends.

use std::time::{Duration, Instant};

use super::kit::{Caller, Plan};

#[test]
fn sigterm_ends_a_node_without_calls_with_code_0() {
    let mut node = Plan::new("term").start();
    node.signal("TERM");
    assert_eq!(node.wait(), Some(0));
    assert!(!node.plan.socket().exists(), "the socket file is removed");
}

#[test]
fn a_draining_node_keeps_its_calls_and_a_second_signal_ends_it_at_once() {
    let mut node = Plan::new("drain").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "kept");
    node.signal("TERM");
    node.until("draining", |node| node.http("GET /readyz").0 == 503);
    assert_eq!(node.http("GET /healthz").0, 200);
    assert_eq!(node.json("status")["state"], "draining");
    assert_eq!(node.calls(), 1);
    caller.send(&caller.request("INVITE", "late"));
    assert_eq!(caller.answer("late"), 503);
    assert!(
        node.child.try_wait().expect("a child").is_none(),
        "{}",
        node.log()
    );
    node.signal("TERM");
    assert_eq!(node.wait(), Some(1));
}

#[test]
fn a_draining_node_ends_when_its_last_call_has() {
    let mut node = Plan::new("drained").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "last");
    node.signal("INT");
    node.until("draining", |node| {
        node.json("status")["state"] == "draining"
    });
    assert_eq!(node.text("call end last"), "ended last\n");
    assert_eq!(node.wait(), Some(0));
}

#[test]
fn drain_max_ends_a_drain_with_calls_up() {
    let plan = Plan::new("drain-max");
    let text = plan.text().replace("60s", "1s");
    let mut node = plan
        .start_with(&text, &[])
        .unwrap_or_else(|ended| panic!("{}", ended.stderr));
    Caller::of(&node).ring(&node, "long");
    node.signal("TERM");
    assert_eq!(node.wait(), Some(0));
    let log = node.log();
    let told = log.lines().find(|line| line.contains("drain_max is over"));
    assert!(told.expect("told").contains("calls=1"), "{log}");
}

#[test]
fn a_call_under_way_goes_on_while_the_node_drains_and_its_end_ends_the_node() {
    let mut node = Plan::new("drain-talk").start();
    let caller = Caller::of(&node);
    let talk = caller.talk(&node, "talk");
    node.signal("TERM");
    node.until("draining", |node| node.http("GET /readyz").0 == 503);
    talk.exchange(&node, "INFO", 2);
    let stranger = Caller::of(&node);
    stranger.send(&stranger.request("INVITE", "late"));
    let refusal = stranger.answer_text("late");
    assert!(refusal.starts_with("SIP/2.0 503 "), "{refusal}");
    assert!(refusal.contains("\r\nRetry-After: "), "{refusal}");
    assert_eq!(node.calls(), 1);
    talk.exchange(&node, "BYE", 3);
    assert_eq!(node.wait(), Some(0));
    assert!(node.log().contains("no calls are left"), "{}", node.log());
}

#[test]
fn a_second_signal_does_not_wait_for_drain_max() {
    let mut node = Plan::new("drain-twice").start();
    Caller::of(&node).ring(&node, "up");
    node.signal("TERM");
    node.until("draining", |node| node.http("GET /readyz").0 == 503);
    let began = Instant::now();
    node.signal("TERM");
    assert_eq!(node.wait(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(2));
    let log = node.log();
    let told = log
        .lines()
        .find(|line| line.contains("second signal: stopping"));
    assert!(told.expect("told").contains("calls=1"), "{log}");
}
