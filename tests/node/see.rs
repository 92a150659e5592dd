//! What operators see of calls, groups and the node: every field that scripts rely on, filters,
//! and what is said where a part of the node does not answer.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::kit::{Caller, Node, Plan, program};

/// The names of an object's fields, in order.
fn fields(object: &Value) -> Vec<&str> {
    let object = object.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

fn refusal(node: &Node, words: &str) -> String {
    let output = node.command(words);
    assert_eq!(output.status.code(), Some(1), "{words}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn a_call_is_shown_with_parties_trunks_leases_timers_and_dialogs() {
    let plan = Plan::new("call-show");
    let text = plan
        .text()
        .replace("calls_max = 20", "calls_max = 20\ncall_time_max = \"1h\"");
    let node = plan
        .start_with(&text, &[])
        .unwrap_or_else(|ended| panic!("{}", ended.stderr));
    let caller = Caller::of(&node);
    caller.ring(&node, "rings");
    let _talk = caller.talk(&node, "talks");

    let rings = &node.json("call show rings")[0];
    assert_eq!(
        fields(rings),
        [
            "age_s",
            "answered_s",
            "call_id",
            "call_time_left_s",
            "callee",
            "callee_contact",
            "callee_listener",
            "callee_route",
            "caller",
            "caller_contact",
            "caller_listener",
            "caller_route",
            "forks",
            "from",
            "invite_cseq",
            "lease_in",
            "lease_out",
            "passage",
            "recorded",
            "session_left_s",
            "setup",
            "shard",
            "state",
            "to",
            "trunk_in",
            "trunk_out"
        ]
    );
    assert_eq!(rings["state"], "ringing");
    assert_eq!(rings["lease_in"], json!(["callers"]));
    assert_eq!(rings["lease_out"], json!(["carrier-a", "pbx"]));
    assert_eq!(rings["setup"]["to"], "pbx");
    assert_eq!(rings["setup"]["transaction"], "proceeding");
    assert_eq!(rings["setup"]["last_status"], 180);
    assert_eq!(rings["forks"][0]["state"], "early");
    assert_eq!(rings["call_time_left_s"], Value::Null);

    let talks = &node.json("call show talks")[0];
    assert_eq!(talks["state"], "answered");
    assert_eq!(
        talks["forks"][0],
        json!({ "state": "confirmed", "caller_cseq": 1, "callee_cseq": null })
    );
    let left = talks["call_time_left_s"].as_f64().expect("a timer");
    assert!((3000.0..=3600.0).contains(&left), "{left}");
    assert!(
        talks["callee_contact"]
            .as_str()
            .expect("text")
            .contains("sip:b@"),
        "{talks}"
    );
    assert_eq!(talks["caller_listener"], node.plan.sip.to_string());

    let text = node.text("call show talks");
    for name in [
        "call  ",
        "state  ",
        "from  ",
        "trunk in  ",
        "callee contact ",
        "counts out  ",
        "time left  ",
        "dialog  ",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(name)),
            "{name}: {text}"
        );
    }
    assert!(text.contains("counts out     carrier-a pbx\n"), "{text}");
    assert_eq!(
        refusal(&node, "call show nobody"),
        "callgate: no live call has the Call-ID `nobody`\n"
    );
}

#[test]
fn calls_are_filtered_by_state_and_age_at_the_shard() {
    let node = Plan::new("filters").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "rings");
    let _talk = caller.talk(&node, "talks");
    let ids = |words: &str| -> Vec<String> {
        let rows = node.json(words);
        let ids = rows.as_array().expect("a list").iter();
        ids.map(|row| row["call_id"].as_str().expect("text").to_owned())
            .collect()
    };
    assert_eq!(ids("calls --state ringing"), ["rings"]);
    assert_eq!(ids("calls --state answered --trunk carrier-a"), ["talks"]);
    assert!(ids("calls --state ending").is_empty());
    assert!(ids("calls --longer-than 1h").is_empty());
    assert_eq!(ids("calls --longer-than 1ms").len(), 2);
    for wrong in [
        "calls --state talking",
        "calls --longer-than 10",
        "calls --longer-than 1parsec",
        "calls --limit x",
    ] {
        assert_eq!(node.command(wrong).status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn groups_are_listed_with_their_members_and_use() {
    let node = Plan::new("groups").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "one");
    let groups = node.json("group list");
    let pbx = &groups[0];
    assert_eq!(
        fields(pbx),
        ["limits", "members", "name", "over_limit", "policy"]
    );
    assert_eq!(pbx["policy"], "priority");
    assert_eq!(
        pbx["members"],
        json!([{ "trunk": "carrier-a", "weight": 1, "state": "up", "calls_out": 1 }])
    );
    assert_eq!(pbx["limits"]["calls_out"], 1);
    let text = node.text("group list");
    assert!(
        text.starts_with("GROUP  POLICY    CALLS  IN  OUT  MEMBER     WEIGHT  STATE  CALLS OUT\n"),
        "{text}"
    );
}

#[test]
fn a_stalled_shard_is_named_and_the_others_answer() {
    let node = Plan::new("see-stalled").start();
    let caller = Caller::of(&node);
    let calls: Vec<String> = (0..12).map(|at| format!("call-{at}")).collect();
    calls.iter().for_each(|call| caller.ring(&node, call));
    let rows = node.json("calls");
    let of_shard = |shard: u64| {
        let rows = rows.as_array().expect("a list").iter();
        rows.filter(|row| row["shard"] == shard).count()
    };
    let (there, stalled) = (of_shard(0), of_shard(1));
    assert!(
        there > 0 && stalled > 0,
        "twelve calls are on both shards: {rows}"
    );
    let call_shards: Vec<(String, u64)> = rows
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| {
            (
                row["call_id"].as_str().expect("text").to_owned(),
                row["shard"].as_u64().expect("a number"),
            )
        })
        .collect();
    node.text("debug stall-shard 1 30");

    // What needs no shard is answered as ever.
    for words in [
        "status",
        "shards",
        "trunk list",
        "group list",
        "limits",
        "stats",
        "events",
        "log show",
    ] {
        node.text(words);
        node.json(words);
    }
    let listed = node.command("calls --json");
    assert_eq!(listed.status.code(), Some(1));
    let rows: Value = serde_json::from_slice(&listed.stdout).expect("JSON, even so");
    assert_eq!(rows.as_array().expect("a list").len(), there);
    let stderr = String::from_utf8(listed.stderr).expect("text");
    assert_eq!(stderr, "callgate: incomplete: shard 1 does not answer\n");
    let verify = refusal(&node, "limits verify");
    assert_eq!(verify, "callgate: shard 1 does not answer\n");
    // Each call is asked of its own shard only.
    let shard_of = |call: &String| {
        call_shards
            .iter()
            .find(|(id, _)| id == call)
            .map(|(_, shard)| *shard)
    };
    for shard in [0, 1] {
        let call = calls.iter().find(|call| shard_of(call) == Some(shard));
        let shown = node.command(&format!("call show {}", call.expect("it has one")));
        assert_eq!(shown.status.success(), shard == 0, "{shown:?}");
    }
    let reload = node.text("reload");
    assert_eq!(reload, "shard 1 does not answer: it follows when it does\n");
}

#[test]
fn what_happens_is_told_once_and_in_order() {
    let node = Plan::new("events").start();
    node.text("trunk drain carrier-a");
    node.until("the drain is told", |node| {
        node.text("events").contains("draining")
    });
    node.text("trunk enable carrier-a");
    node.plan
        .write(&node.plan.text().replace("calls_max = 20", "calls_max = 0"));
    node.text("reload");
    let caller = Caller::of(&node);
    caller.send(&caller.request("INVITE", "over"));
    assert_eq!(caller.answer("over"), 486);
    node.text("ban add 192.0.2.66 --for 10m");
    node.until("the ban is told", |node| {
        node.text("events").contains("192.0.2.66")
    });
    node.text("ban remove 192.0.2.66");
    node.text("debug panic-shard 0");
    node.until("all is told", |node| {
        let text = node.text("events");
        ["over a limit", "0: replaced", "no longer banned"]
            .iter()
            .all(|told| text.contains(told))
    });
    let events = node.json("events");
    let rows = events.as_array().expect("a list");
    assert_eq!(
        fields(&rows[0]),
        ["about", "kind", "seq", "text", "time_ms"]
    );
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(row["seq"], at as u64 + 1, "{row}");
    }
    let told = |kind: &str, about: &str, text: &str| {
        let is_it = |row: &&Value| {
            row["kind"] == kind
                && row["about"] == about
                && row["text"].as_str().is_some_and(|said| said.contains(text))
        };
        assert_eq!(
            rows.iter().filter(is_it).count(),
            1,
            "{kind} {about} {text}: {events:#}"
        );
    };
    told("trunk", "carrier-a", "up -> draining: ordered to drain");
    told("reload", "", "trunk carrier-a: calls_max 20 -> 0");
    told("limit", "carrier-a", "1 calls out over a limit");
    told("shard", "0", "replaced, 1 times by now");
    let last = rows.len() as u64;
    assert_eq!(
        node.json(&format!("events --since {}", last - 1))
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    assert_eq!(node.json("events --limit 2")[0]["seq"], last - 1);
}

#[test]
fn a_follower_reads_on_over_a_restart_of_the_node() {
    use std::io::{BufRead as _, BufReader};
    let node = Plan::new("follow").start();
    node.text("trunk drain carrier-a");
    node.until("told", |node| node.text("events").contains("draining"));
    let mut follower = program(&["events", "--follow", "--json", "--socket"])
        .arg(node.plan.socket())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the program runs");
    let mut lines = BufReader::new(follower.stdout.take().expect("piped")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("a line").expect("text");
        serde_json::from_str(&line).expect("JSON")
    };
    assert_eq!(next()["text"], "up -> draining: ordered to drain");
    node.text("trunk disable carrier-a");
    assert_eq!(next()["text"], "draining -> disabled: ordered off");
    node.signal("KILL");
    let node = node.start_again();
    node.text("trunk drain carrier-a");
    let first = next();
    assert_eq!(
        (&first["seq"], &first["text"]),
        (&json!(1), &json!("up -> draining: ordered to drain"))
    );
    let _ended = follower.kill();
    let _ended = follower.wait();
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    let node = Plan::new("pipe").start();
    let (program, socket) = (env!("CARGO_BIN_EXE_callgate"), node.plan.socket());
    for words in [
        "stats --all",
        "stats --all --json",
        "events --follow",
        "status",
    ] {
        let line = format!(
            "{program} {words} --socket {} | head -c 1; echo \"${{PIPESTATUS[0]}}\"",
            socket.display()
        );
        if words == "events --follow" {
            node.text("trunk drain carrier-a");
            node.until("told", |node| node.text("events").contains("draining"));
            let more = format!(
                "(sleep 1; {program} trunk enable carrier-a --socket {0}; {program} trunk drain carrier-a --socket {0}) >/dev/null & {line}",
                socket.display()
            );
            assert_ends_quietly(&more, words);
        } else {
            assert_ends_quietly(&line, words);
        }
    }
}

fn assert_ends_quietly(line: &str, words: &str) {
    let output = std::process::Command::new("bash")
        .args(["-c", line])
        .output();
    let output = output.expect("bash is there");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words}");
    assert!(output.stdout.ends_with(b"0\n"), "{words}: {output:?}");
}

/// Commands that change nothing.
const LOOKS: &[&str] = &[
    "status",
    "shards",
    "trunk list",
    "trunk show carrier-a",
    "group list",
    "limits",
    "limits show",
    "limits verify",
    "calls",
    "calls --state ringing",
    "call show one",
    "why one",
    "events",
    "config show",
    "log show",
    "stats",
    "sip show peers",
    "sip show channels",
    "sip show inuse",
    "sip show settings",
];

#[test]
fn every_look_is_answered_while_the_node_drains() {
    let node = Plan::new("see-draining").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "one");
    node.signal("TERM");
    node.until("draining", |node| {
        node.json("status")["state"] == "draining"
    });
    node.until("told", |node| {
        node.text("events")
            .contains("no new calls; 1 calls are left")
    });
    for words in LOOKS {
        assert!(!node.text(words).is_empty(), "{words}");
        node.json(words);
    }
    assert_eq!(node.text("reload"), "nothing changed\n");
    node.text("call end one");
}

#[test]
fn every_look_is_answered_while_the_node_reloads_again_and_again() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let node = Plan::new("see-reloading").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "one");
    let (is_over, node_ref) = (AtomicBool::new(false), &node);
    std::thread::scope(|scope| {
        let reloader = scope.spawn(|| {
            let mut reloads = 0;
            while !is_over.load(Ordering::Relaxed) {
                let max = 20 + reloads % 2;
                let text = node_ref
                    .plan
                    .text()
                    .replace("calls_max = 20", &format!("calls_max = {max}"));
                node_ref.plan.write(&text);
                let output = node_ref.command("reload");
                assert!(output.status.success(), "{output:?}");
                reloads += 1;
            }
            reloads
        });
        for words in LOOKS {
            assert!(!node_ref.text(words).is_empty(), "{words}");
            node_ref.json(words);
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(reloader.join().expect("every reload was good") > 0);
    });
    assert_eq!(node.calls(), 1);
}

#[test]
fn one_screen_of_top_shows_the_node_its_trunks_and_its_calls() {
    let node = Plan::new("top").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "rings");
    let _talk = caller.talk(&node, "talks");
    let text = node.text("top --once");
    let first = text.lines().next().expect("a line");
    assert!(first.starts_with("callgate edge1  ready  up "), "{text}");
    assert!(first.contains("2 calls  2 of 2 shards"), "{text}");
    for word in ["SHARD", "TRUNK", "2 calls", "ringing", "answered"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "no colours in a pipe: {text}");

    let seen = node.json("top");
    assert_eq!(seen["status"]["calls"], 2);
    assert_eq!(seen["calls"].as_array().map(Vec::len), Some(2));
    assert_eq!(seen["trunks"], node.json("trunk list"));
    node.text("trunk drain carrier-a");
    assert!(node.text("top --once").contains("draining"));
}

/// The process of the `top` that was told this socket.
fn top_at(socket: &str) -> Option<String> {
    let mut processes = fs::read_dir("/proc").expect("/proc").flatten();
    let found = processes.find(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|octet| *octet == 0).collect();
        words.get(1) == Some(&b"top".as_slice()) && words.contains(&socket.as_bytes())
    });
    found.map(|process| process.file_name().to_string_lossy().into_owned())
}

#[test]
fn a_top_whose_terminal_is_gone_or_that_is_told_to_end_ends() {
    let node = Plan::new("top-gone").start();
    let socket = node.plan.socket().display().to_string();
    let top = env!("CARGO_BIN_EXE_callgate");
    for is_told in [false, true] {
        // The outer shell has it ignore the hang-up, as behind nohup.
        let mut terminal = Command::new("sh")
            .args(["-c", "trap '' HUP; exec script -qefc \"$0\" /dev/null"])
            .arg(format!("exec '{top}' top --socket '{socket}'"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("script runs");
        node.until("top runs", |_| top_at(&socket).is_some());
        std::thread::sleep(std::time::Duration::from_millis(300));
        if is_told {
            let process = top_at(&socket).expect("it runs still");
            let kill = format!("kill -TERM {process}");
            let told = Command::new("sh").args(["-c", &kill]).status();
            assert!(told.expect("a shell").success());
        } else {
            terminal.kill().expect("killed");
        }
        node.until("top has ended", |_| top_at(&socket).is_none());
        terminal.wait().expect("ended");
    }
}
