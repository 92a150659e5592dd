//! The commands of the program: answers, refusals, exit codes, help.

use std::os::unix::net::UnixListener;

use serde_json::Value;

use super::kit::{Caller, Node, Plan, Scratch, run};

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
    let commands = [
        "status",
        "shards",
        "trunk list",
        "trunk show a",
        "trunk probe a",
        "trunk drain a",
        "trunk enable a",
        "trunk disable a",
        "group list",
        "limits",
        "limits show",
        "limits verify",
        "calls",
        "calls --trunk a",
        "calls --state ringing --longer-than 1m",
        "call show a",
        "call end a",
        "events",
        "events --follow",
        "config show",
        "sip show peers",
        "sip show channels",
        "sip show inuse",
        "sip show settings",
        "sip qualify peer a",
        "sip reload",
        "names trunks",
        "log show",
        "why a",
        "ban list",
        "ban add 192.0.2.7",
        "ban remove 192.0.2.7",
        "reload",
        "log set debug",
        "stats",
        "top",
        "top --once",
        "debug panic-shard 0",
        "debug stall-shard 0 1",
    ];
    for command in commands {
        for form in ["", " --json"] {
            let line = format!("{command}{form} --socket /nonexistent/control.sock");
            let (code, stdout, stderr) = run(&line.split(' ').collect::<Vec<_>>());
            assert_eq!((code, stdout.as_str()), (Some(3), ""), "{line}");
            assert!(
                stderr.contains("no node reached at /nonexistent/control.sock"),
                "{stderr}"
            );
            assert!(stderr.contains("there is no such socket"), "{stderr}");
            assert!(stderr.contains("callgate run"), "{stderr}");
        }
    }
}

#[test]
fn a_socket_that_nobody_listens_on_is_told_from_one_that_is_not_there() {
    let dir = Scratch::new("left-over");
    let path = dir.0.join("control.sock");
    drop(UnixListener::bind(&path).expect("a socket file"));
    let path = path.display().to_string();
    let (code, _, stderr) = run(&["status", "--socket", &path]);
    assert_eq!(code, Some(3));
    assert!(
        stderr.contains(&path) && stderr.contains("no node listens on it"),
        "{stderr}"
    );
}

#[test]
fn the_help_of_every_command_has_an_example() {
    let commands = [
        "run",
        "check",
        "status",
        "shards",
        "trunk",
        "trunk list",
        "trunk show",
        "trunk probe",
        "trunk drain",
        "trunk enable",
        "trunk disable",
        "group",
        "group list",
        "limits",
        "limits show",
        "limits verify",
        "calls",
        "call",
        "call show",
        "call end",
        "events",
        "config",
        "config show",
        "config plan",
        "sip",
        "sip show",
        "sip show peers",
        "sip qualify peer",
        "import",
        "import dispatcher",
        "import sip.conf",
        "completion",
        "man",
        "log show",
        "why",
        "reload",
        "log",
        "log set",
        "stats",
    ];
    for command in commands {
        let line = format!("{command} --help");
        let (code, stdout, _) = run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(code, Some(0), "{line}");
        assert!(stdout.contains("Example"), "{line}: {stdout}");
        assert!(
            stdout.contains(&format!("  callgate {command}")),
            "{line}: {stdout}"
        );
    }
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
    for (command, told) in [
        (
            "trunk show carrier-b",
            "no trunk `carrier-b`; did you mean `carrier-a`?",
        ),
        (
            "trunk drain cariera",
            "no trunk `cariera`; did you mean `carrier-a`?",
        ),
        (
            "calls --trunk Callers",
            "no trunk `Callers`; did you mean `callers`?",
        ),
        ("trunk show pbx", "`pbx` is a group, not a trunk"),
        (
            "trunk show zzzzzzzz",
            "no trunk `zzzzzzzz`; there are: callers, carrier-a",
        ),
    ] {
        let unknown = node.command(command);
        assert_eq!(unknown.status.code(), Some(1), "{command}");
        let stderr = String::from_utf8(unknown.stderr).expect("text");
        assert_eq!(stderr, format!("callgate: {told}\n"), "{command}");
    }
}

#[test]
fn why_tells_a_live_call_from_whichever_shard_has_it_and_refuses_an_unknown_one() {
    let node = Plan::new("why").start();
    let caller = Caller::of(&node);
    for number in 0..4 {
        let call_id = format!("why-{number}");
        caller.ring(&node, &call_id);
        let told = node.json(&format!("why {call_id}"));
        let texts: Vec<&str> = told["decisions"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|row| row["text"].as_str())
            .collect();
        assert!(texts[0].starts_with("INVITE from "), "{texts:?}");
        assert!(texts.contains(&"answer 180"), "{texts:?}");
        let messages = told["messages"].as_array().expect("a list");
        let ladder: Vec<String> = messages
            .iter()
            .map(|row| format!("{} {} {}", row["received"], row["text"], row["cseq"]))
            .collect();
        assert_eq!(
            ladder,
            [
                r#"true "INVITE" "1 INVITE""#,
                r#"false "100 Trying" "1 INVITE""#,
                r#"false "INVITE" "1 INVITE""#,
                r#"true "180 Ringing" "1 INVITE""#,
                r#"false "180 Ringing" "1 INVITE""#,
            ]
        );
        let text = node.command(&format!("why {call_id}"));
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.contains("|-- INVITE"), "{text}");
    }
    let refused = node.command("why never-seen");
    assert_eq!(refused.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.contains("never-seen"), "{stderr}");
}
