//! A node that is told to stop: what still passes, and when it ends.

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
    assert!(node.log().contains("drain_max is over"), "{}", node.log());
}
