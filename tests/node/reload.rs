//! A configuration that is changed while the node runs.

use super::kit::{Caller, Plan};

#[test]
fn a_good_file_is_reloaded_and_the_difference_is_told() {
    let node = Plan::new("reload").start();
    assert_eq!(node.calls_max_of_carrier_a(), 20);
    node.plan
        .write(&node.plan.text().replace("calls_max = 20", "calls_max = 30"));
    let told = node.text("reload");
    assert!(
        told.contains("carrier-a") && told.contains("20") && told.contains("30"),
        "{told}"
    );
    assert_eq!(node.calls_max_of_carrier_a(), 30);
    assert_eq!(node.text("reload"), "nothing changed\n");
    node.plan
        .write(&node.plan.text().replace("calls_max = 20", "calls_max = 40"));
    node.signal("HUP");
    node.until("reloaded", |node| node.calls_max_of_carrier_a() == 40);
}

#[test]
fn a_faulty_file_changes_nothing_and_says_why() {
    let node = Plan::new("reload-faulty").start();
    let faulty = node.plan.text().replace("calls_max = 20", "calls_mux = 30");
    node.plan.write(&faulty);
    let output = node.command("reload");
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains(":17:1: unknown key `calls_mux`"), "{told}");
    assert_eq!(node.calls_max_of_carrier_a(), 20);
    assert!(
        node.log().contains("unknown key `calls_mux`"),
        "{}",
        node.log()
    );
    assert_eq!(Caller::of(&node).options("after"), 200);
}

#[test]
fn a_change_that_needs_a_restart_is_refused_whole() {
    let node = Plan::new("reload-restart").start();
    let changed = node.plan.text().replace("shards = 2", "shards = 1");
    node.plan
        .write(&changed.replace("calls_max = 20", "calls_max = 30"));
    let output = node.command("reload");
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.contains("restart") && told.contains("shards"),
        "{told}"
    );
    assert_eq!(node.calls_max_of_carrier_a(), 20);
}
