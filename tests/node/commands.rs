//! The commands of the program: answers, refusals, exit codes, help.

use serde_json::Value;

use super::kit::{Caller, Node, Plan, run};

#[test]
fn status_names_what_runs_and_why() {
    let node = Plan::new("status").start();
    let status = node.json("status");
    assert_eq!(status["name"], "edge1");
    assert_eq!(status["state"], "ready");
    assert_eq!(status["calls"], 0);
    assert_eq!(status["shards"].as_array().expect("a list").len(), 2);
    assert!(status["steering"].is_boolean() && status["handed_over"].is_u64());
    let text = node.text("status");
    for word in [
        "node",
        "listening",
        "io",
        "steering",
        "handed over",
        "calls",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(word)),
            "{word}: {text}"
        );
    }
    assert_eq!(node.json("shards").as_array().expect("a list").len(), 2);
    assert_eq!(node.json("calls"), serde_json::json!([]));
}

#[test]
fn commands_without_a_node_name_the_path_and_exit_with_3() {
    let (code, _, stderr) = run(&["status", "--socket", "/nonexistent/control.sock"]);
    assert_eq!(code, Some(3));
    assert!(stderr.contains("/nonexistent/control.sock"), "{stderr}");
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for words in [
        &["stautus"][..],
        &["check"],
        &["trunk", "show"],
        &["run", "--nope"],
    ] {
        assert_eq!(run(words).0, Some(2), "{words:?}");
    }
}

#[test]
fn check_host_compares_and_says_what_it_found() {
    let (code, stdout, stderr) = run(&["check", "--host", "--json"]);
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    let good = report["good"].as_bool().expect("a verdict");
    assert_eq!(code, Some(if good { 0 } else { 1 }), "{stderr}");
    assert!(!report["findings"].as_array().expect("a list").is_empty());
}

#[test]
fn help_teaches_by_example() {
    let (code, stdout, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains("Examples:") && stdout.contains("Exit codes:"),
        "{stdout}"
    );
    assert!(
        !stdout.contains("debug "),
        "the commands that break things are hidden: {stdout}"
    );
}

#[test]
fn check_says_good_or_lists_all_faults() {
    let plan = Plan::new("check");
    plan.write(&plan.text());
    let file = plan.config().display().to_string();
    let (code, stdout, _) = run(&["check", &file]);
    assert_eq!((code, stdout.contains("good")), (Some(0), true), "{stdout}");
    plan.write(&plan.text().replace("calls_max", "calls_mux"));
    let (code, stdout, _) = run(&["check", &file, "--json"]);
    assert_eq!(code, Some(1));
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(report["faults"][0]["line"], 17);
}

#[test]
fn a_live_call_is_listed_counted_and_can_be_ended() {
    let node = Plan::new("calls").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "one");
    caller.ring(&node, "two");
    node.until("two calls", |node| node.calls() == 2);
    let calls = node.json("calls");
    assert_eq!(calls.as_array().expect("a list").len(), 2);
    for call in calls.as_array().expect("a list") {
        assert_eq!(call["state"], "ringing", "{call}");
        assert_eq!(call["trunk_in"], "callers", "{call}");
        assert_eq!(call["trunk_out"], "carrier-a", "{call}");
    }
    assert_eq!(
        node.json("calls --limit 1")
            .as_array()
            .expect("a list")
            .len(),
        1
    );
    assert_eq!(
        node.json("calls --trunk carrier-a")
            .as_array()
            .expect("a list")
            .len(),
        2
    );
    assert_eq!(node.command("calls --trunk nobody").status.code(), Some(1));
    let limits = node.json("limits");
    for (name, field) in [
        ("callers", "calls_in"),
        ("carrier-a", "calls_out"),
        ("pbx", "calls_out"),
    ] {
        let rows = limits.as_array().expect("a list").iter();
        let row = rows.clone().find(|row| row["name"] == name).expect("a row");
        assert_eq!(row[field], 2, "{row}");
    }
    node.text("call end one");
    node.text("call end two");
    node.until("no calls", |node| node.calls() == 0);
    assert_eq!(node.command("call end one").status.code(), Some(1));
}

#[test]
fn trunks_are_shown_and_change_their_state_on_order() {
    let node = Plan::new("trunks").start();
    let state = |node: &Node| node.json("trunk show carrier-a")["state"].clone();
    assert_eq!(state(&node), "up");
    node.text("trunk drain carrier-a");
    node.until("draining", |node| state(node) == "draining");
    node.text("trunk enable carrier-a");
    node.until("enabled", |node| {
        state(node) == "up" || state(node) == "probing"
    });
    node.text("trunk disable carrier-a");
    node.until("disabled", |node| state(node) == "disabled");
    let detail = node.json("trunk show carrier-a");
    assert!(
        detail["transitions"].as_array().expect("a list").len() >= 3,
        "{detail}"
    );
    let unknown = node.command("trunk show carrier-b");
    assert_eq!(unknown.status.code(), Some(1));
    let told = String::from_utf8(unknown.stderr).expect("text");
    assert!(
        told.contains("carrier-a"),
        "the known names are told: {told}"
    );
}
