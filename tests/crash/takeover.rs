//! A node whose process is replaced while calls are set up, up and ended: nobody notices. And what
//! becomes of it when the new process, the old one or an operator does something else.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::agents::Agents;
use super::gate::Gate;
use super::{check, check_start};

/// A hand-made heir: it says what a real one says, or something else.
struct Heir {
    stream: BufReader<UnixStream>,
}

impl Heir {
    /// Asks for the node with this protocol and these shards.
    fn ask(gate: &Gate, protocol: u32, shards: usize) -> (Heir, Value) {
        let likeness = json!({
            "shards": shards,
            "listeners": [gate.sip],
            "state_dir": gate.keeps_state.then(|| gate.state_dir()),
            "dialogs": 2000 / shards,
        });
        Heir::say_first(
            gate,
            json!({"protocol": protocol, "version": "test", "likeness": likeness}),
        )
    }

    fn say_first(gate: &Gate, params: Value) -> (Heir, Value) {
        let stream = UnixStream::connect(gate.socket()).expect("the admin socket");
        stream
            .set_read_timeout(Some(Duration::from_secs(40)))
            .expect("a socket");
        let mut heir = Heir {
            stream: BufReader::new(stream),
        };
        heir.say(&json!({"jsonrpc": "2.0", "id": 7, "method": "takeover", "params": params}));
        let answer = heir.hear().expect("an answer");
        assert_eq!(answer["id"], 7);
        (heir, answer)
    }

    fn say(&mut self, words: &Value) {
        let line = format!("{words}\n");
        let stream = self.stream.get_mut();
        stream.write_all(line.as_bytes()).expect("said");
    }

    /// The next line with words; `None` = the node has hung up.
    fn hear(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line).expect("in time") {
                0 => return None,
                _ if line.trim().is_empty() => {}
                _ => return Some(serde_json::from_str(&line).expect("JSON")),
            }
        }
    }
}

fn refusal(answer: &Value) -> String {
    let message = answer["error"]["message"].as_str().expect("a refusal");
    let lines = answer["error"]["data"].as_array().into_iter().flatten();
    let lines: Vec<&str> = lines.filter_map(Value::as_str).collect();
    format!("{message} {}", lines.join(" "))
}

#[test]
fn no_call_is_lost_by_a_takeover_at_any_moment() {
    for keeps_state in [true, false] {
        let mut gate = Gate::new(if keeps_state { "takeover" } else { "memory" });
        gate.keeps_state = keeps_state;
        let mut agents = Agents::new(&gate);
        gate.start(2);
        let mut rang = 0;
        for takeover in 0..5 {
            agents.run(Duration::from_micros(200_000 + 31_337 * takeover), 40);
            rang += agents.ringing().len();
            gate.take_over(2);
            let what = format!("takeover {takeover}, state {keeps_state}");
            check_start(&gate, &agents, &what);
            agents.settle();
            check(&gate, &agents, &what);
        }
        assert!(rang > 0, "no call was being set up");
        agents.hang_up_all();
        agents.settle();
        check(&gate, &agents, "after all have hung up");
        assert_eq!(agents.unheard(), 0, "{}", agents.summary());
        assert!(agents.ended() > 50, "{}", agents.summary());
    }
}

#[test]
fn an_heir_that_goes_away_at_any_step_leaves_the_node_as_it_was() {
    for keeps_state in [true, false] {
        let mut gate = Gate::new(if keeps_state {
            "gone-heir"
        } else {
            "gone-memory"
        });
        gate.keeps_state = keeps_state;
        let mut agents = Agents::new(&gate);
        gate.start(2);
        agents.run(Duration::from_millis(300), 20);
        agents.settle();
        let (heir, answer) = Heir::ask(&gate, 1, 2);
        assert_eq!(answer["result"]["protocol"], 1, "{answer}");
        drop(heir);
        gate.until("the node says so", |gate| {
            gate.log().contains("not taken over: this process goes on")
        });
        check(&gate, &agents, "an heir that asked and left");
        for word in [Value::Null, json!("Take"), json!({"Garbage": 1})] {
            let (mut heir, _) = Heir::ask(&gate, 1, 2);
            heir.say(&json!("Take"));
            let yours = heir.hear().expect("an answer");
            assert!(yours["Yours"]["calls"].is_u64(), "{yours}");
            if !word.is_null() {
                // Out of turn, or nothing that anybody would say.
                heir.say(&word);
                let taken_back = heir.hear().expect("a last word");
                let why = taken_back["TakenBack"]["why"].as_str().expect("why");
                assert!(why.contains("did not serve"), "{why}");
            }
            drop(heir);
            gate.until("the shards go on", |gate| {
                gate.json("status")["shards_running"] == 2
            });
            check(&gate, &agents, "an heir that took the node and left");
        }
        agents.run(Duration::from_millis(200), 20);
        agents.hang_up_all();
        agents.settle();
        check(&gate, &agents, "after all have hung up");
    }
}

#[test]
fn an_heir_that_says_nothing_is_waited_for_and_the_node_goes_on() {
    let mut gate = Gate::new("silent-heir");
    let mut agents = Agents::new(&gate);
    gate.start(1);
    agents.raise(5);
    let (mut heir, _) = Heir::ask(&gate, 1, 1);
    heir.say(&json!("Take"));
    assert!(heir.hear().expect("an answer")["Yours"].is_object());
    // A second one meanwhile.
    let (_second, answer) = Heir::ask(&gate, 1, 1);
    assert!(
        refusal(&answer).contains("another takeover is under way")
            || refusal(&answer).contains("0 of 1 shards run"),
        "{answer}"
    );
    assert!(heir.hear().expect("a last word")["TakenBack"].is_object());
    assert_eq!(heir.hear(), None);
    gate.until("the shard goes on", |gate| {
        gate.json("status")["shards_running"] == 1
    });
    check(&gate, &agents, "after a silent heir");
    // Too late.
    agents.hang_up_all();
    agents.settle();
    check(&gate, &agents, "after all have hung up");
}

#[test]
fn who_may_not_take_over_is_told_why_and_the_node_does_not_notice() {
    let mut gate = Gate::new("refused");
    let mut agents = Agents::new(&gate);
    gate.start(2);
    agents.raise(3);
    let (_heir, answer) = Heir::ask(&gate, 99, 2);
    let why = refusal(&answer);
    assert!(
        why.contains("by protocol 1") && why.contains("by 99"),
        "{why}"
    );
    let (_heir, answer) = Heir::say_first(&gate, json!({"protocol": "one"}));
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    let (mut first, _) = Heir::ask(&gate, 1, 2);
    let (_second, answer) = Heir::ask(&gate, 1, 2);
    let why = refusal(&answer);
    assert!(why.contains("another takeover is under way"), "{why}");
    first.say(&json!("Serving"));
    let last = first.hear().expect("a last word");
    assert!(last["TakenBack"].is_object(), "{last}");
    drop(first);

    // Real ones.
    let why = gate.fail_to_take_over(3);
    assert!(
        why.contains("shards: 2 here, 3 in the new process")
            && why.contains("dialogs of a shard: 1000 here, 667 in the new process"),
        "{why}"
    );
    let sip = gate.sip;
    gate.sip = "127.0.0.1:9".parse().expect("an address");
    let why = gate.fail_to_take_over(2);
    assert!(
        why.contains("listeners: ") && why.contains("127.0.0.1:9"),
        "{why}"
    );
    gate.sip = sip;
    let routing = std::mem::replace(&mut gate.routing, "[trunk.broken\n".to_owned());
    let why = gate.fail_to_take_over(2);
    assert!(why.contains("callgate.toml:"), "{why}");
    gate.routing = routing;
    gate.fail_to_take_over_as_another_user(2);
    check(&gate, &agents, "after all of them");

    gate.begin_drain();
    gate.until("it drains", |gate| gate.log().contains("draining"));
    let why = gate.fail_to_take_over(2);
    assert!(why.contains("this node drains"), "{why}");
    agents.hang_up_all();
    agents.settle();
}

#[test]
fn without_a_node_a_takeover_says_so() {
    let gate = Gate::new("nobody");
    let why = gate.fail_to_take_over(1);
    assert!(why.contains("no node to take over on"), "{why}");
    assert!(why.contains("start without --takeover"), "{why}");
}

#[test]
fn whichever_process_is_killed_in_the_middle_one_goes_on_with_all_calls() {
    let mut gate = Gate::new("killed");
    let mut agents = Agents::new(&gate);
    gate.start(2);
    for round in 0..8u64 {
        agents.run(Duration::from_millis(150), 20);
        agents.settle();
        let kills_heir = round % 2 == 0;
        let after = Duration::from_millis(40 + 70 * (round / 2) + 13 * round);
        let who = gate.take_over_and_kill(2, kills_heir, after);
        println!("round {round}: killed heir {kills_heir} after {after:?}: {who}");
        check(&gate, &agents, &format!("round {round}"));
    }
    agents.hang_up_all();
    agents.settle();
    check(&gate, &agents, "after all have hung up");
}

#[test]
fn sigusr2_replaces_the_process_and_the_service_manager_is_told_of_it() {
    let mut gate = Gate::new("usr2");
    let path = gate.dir().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a socket");
    let told = || {
        let mut buffer = [0; 4096];
        let len = manager.recv(&mut buffer).expect("in time");
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    gate.notify = Some(path);
    let mut agents = Agents::new(&gate);
    gate.start(2);
    assert!(told().starts_with("READY=1"));
    agents.raise(5);
    let former = gate.id();
    gate.signal("USR2");
    let mut process = None;
    loop {
        let told = told();
        if let Some(number) = told.strip_prefix("MAINPID=") {
            process = Some(number.trim().parse::<u32>().expect("a number"));
        }
        if told.starts_with("READY=1") {
            break;
        }
    }
    let process = process.expect("who is the node");
    assert_ne!(process, former);
    gate.follow(process);
    check(&gate, &agents, "after SIGUSR2");
    assert_eq!(gate.json("status")["shards_running"], 2);
    agents.hang_up_all();
    agents.settle();
    check(&gate, &agents, "after all have hung up");
}

#[test]
fn an_operators_order_and_a_dead_trunk_are_known_to_the_heir() {
    let mut gate = Gate::new("health");
    gate.routing += "[trunk.spare]\naddress = \"127.0.0.3:5099\"\n";
    gate.start(2);
    for order in ["trunk drain callers", "trunk disable spare"] {
        let (code, text) = gate.command(order);
        assert_eq!(code, Some(0), "{text}");
    }
    gate.take_over(2);
    let state = |gate: &Gate, name: &str| {
        let rows = gate.json("trunk list");
        let mut rows = rows.as_array().expect("a list").iter();
        let row = rows.find(|row| row["name"] == name).expect("the trunk");
        row["state"].as_str().expect("text").to_owned()
    };
    // The shards read it before the first datagram, and may be a moment behind the first command.
    gate.until("the orders stand", |gate| {
        state(gate, "callers") == "draining" && state(gate, "spare") == "disabled"
    });
    assert_eq!(state(&gate, "carrier-a"), "up");
}
