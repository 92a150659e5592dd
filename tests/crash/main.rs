//! Calls of a node that is killed at any moment: none is lost, whether it was answered or rang, and
//! the counters are the calls that live, whatever the next start is like.
//!
//! `CALLGATE_TEST_KILLS=50 cargo test --test crash` kills more often.

#![expect(
    clippy::disallowed_methods,
    reason = "processes and sockets of a test live in real time"
)]

mod agents;
mod gate;
mod takeover;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use agents::Agents;
use gate::Gate;

/// Kills of the long test; each costs about a second.
const KILLS: usize = 10;

fn kills() -> usize {
    let wanted = std::env::var("CALLGATE_TEST_KILLS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

/// What a node knows that has just been started, while nobody sends anything: every call that is up
/// or rings, and no call that is over.
fn check_start(gate: &Gate, agents: &Agents, what: &str) {
    let known: BTreeSet<String> = gate.call_ids().into_iter().collect();
    let lost = |calls: Vec<String>| {
        let lost = calls.into_iter().filter(|call_id| !known.contains(call_id));
        lost.collect::<Vec<String>>()
    };
    assert!(
        lost(agents.live()).is_empty(),
        "{what}: {:?}",
        lost(agents.live())
    );
    let ringing = lost(agents.ringing());
    assert!(
        ringing.is_empty(),
        "{what}: {ringing:?} ring and are not known"
    );
    let all: BTreeSet<String> = agents.known().into_iter().collect();
    let ghosts: Vec<&String> = known.difference(&all).collect();
    assert!(ghosts.is_empty(), "{what}: calls that are over: {ghosts:?}");
    let calls = gate.call_ids().len() as u64;
    assert_eq!(gate.limit("callers", "calls_in"), calls, "{what}");
    let (code, verified) = gate.command("limits verify");
    assert_eq!(code, Some(0), "{what}: {verified}");
}

/// What both sides of the node and its counters must agree about when nothing is under way.
fn check(gate: &Gate, agents: &Agents, what: &str) {
    let live: BTreeSet<String> = agents.live().into_iter().collect();
    let known = gate.call_ids();
    let calls = known.len() as u64;
    let known: BTreeSet<String> = known.into_iter().collect();
    assert_eq!(known.len() as u64, calls, "{what}: no call is there twice");
    let ghosts: Vec<&String> = known.difference(&live).collect();
    assert!(ghosts.is_empty(), "{what}: calls that are over: {ghosts:?}");
    let uncounted: Vec<&String> = live.difference(&known).collect();
    assert!(uncounted.is_empty(), "{what}: lost: {uncounted:?}");
    assert_eq!(gate.limit("callers", "calls_in"), calls, "{what}");
    assert_eq!(gate.limit("carrier-a", "calls_out"), calls, "{what}");
    assert_eq!(gate.limit("pbx", "calls_out"), calls, "{what}");
    let (code, verified) = gate.command("limits verify");
    assert_eq!(code, Some(0), "{what}: {verified}");
}

#[test]
fn no_call_is_lost_by_kill_9_at_any_moment() {
    let mut gate = Gate::new("kills");
    let mut agents = Agents::new(&gate);
    // Any order of shard counts; the same one twice goes on in the same files.
    let shards = [2, 2, 1, 4, 4, 3];
    gate.start(shards[0]);
    let (mut first_answers, mut rang_at_kills) = (Vec::new(), 0);
    for kill in 0..kills() {
        // A different moment each time, in the middle of whatever is going on.
        let span = Duration::from_micros(150_000 + 37_777 * (kill as u64 % 11));
        agents.run(span, 40);
        gate.kill();
        let (up, rang, under_way) = (
            agents.live().len(),
            agents.ringing().len(),
            agents.under_way(),
        );
        let next = shards[(kill + 1) % shards.len()];
        let began = Instant::now();
        gate.start(next);
        let answered = agents.first_answer(began);
        first_answers.push(answered);
        rang_at_kills += rang;
        if kill % 2 == 0 {
            check_start(&gate, &agents, &format!("start {kill}"));
        }
        agents.settle();
        check(&gate, &agents, &format!("kill {kill}"));
        println!(
            "kill {kill}: {up} calls up, {rang} ringing, {under_way} under way, {next} shards, first answer after {} ms",
            answered.as_millis()
        );
    }
    first_answers.sort();
    println!(
        "{}; {rang_at_kills} rang at kills; first answer: median {} ms, largest {} ms",
        agents.summary(),
        first_answers[first_answers.len() / 2].as_millis(),
        first_answers[first_answers.len() - 1].as_millis()
    );
    assert!(
        rang_at_kills > 0,
        "no kill hit a call that was being set up"
    );
    assert!(agents.unheard() <= kills(), "{}", agents.summary());
    agents.hang_up_all();
    agents.settle();
    check(&gate, &agents, "after all have hung up");
    assert!(agents.ended() > 50, "{}", agents.summary());
}

#[test]
fn a_shard_that_panics_keeps_its_answered_calls() {
    let mut gate = Gate::new("panic");
    let mut agents = Agents::new(&gate);
    gate.start(2);
    agents.raise(20);
    for shard in ["0", "1"] {
        let (code, text) = gate.command(&format!("debug panic-shard {shard}"));
        assert_eq!(code, Some(0), "{text}");
    }
    gate.until("both shards were replaced", |gate| {
        gate.json("status")["restarts"] == 2 && gate.json("status")["shards_running"] == 2
    });
    check(&gate, &agents, "after the panics");
    agents.hang_up_all();
    agents.settle();
    check(&gate, &agents, "after all have hung up");
}

#[test]
fn calls_over_a_trunk_that_is_gone_go_on_until_they_end() {
    let mut gate = Gate::new("gone");
    let mut agents = Agents::new(&gate);
    gate.start(1);
    agents.raise(5);
    gate.kill();
    gate.routing = gate
        .routing
        .replace("[trunk.carrier-a]\naddress", "[trunk.carrier-b]\naddress")
        .replace("\"carrier-a\"", "\"carrier-b\"");
    gate.start(1);
    assert_eq!(gate.call_ids().len(), 5);
    assert_eq!(gate.limit("callers", "calls_in"), 5);
    assert_eq!(gate.limit("carrier-b", "calls_out"), 0);
    assert!(
        gate.log().contains("a trunk that is not configured"),
        "{}",
        gate.log()
    );
    let (code, verified) = gate.command("limits verify");
    assert_eq!(code, Some(0), "{verified}");
    agents.hang_up_all();
    agents.settle();
    assert_eq!(gate.call_ids().len(), 0);
    assert_eq!(gate.limit("callers", "calls_in"), 0);
}

#[test]
fn a_node_stopped_with_calls_up_takes_them_over_at_its_next_start() {
    let mut gate = Gate::new("stop");
    gate.drain_max = "0s";
    let mut agents = Agents::new(&gate);
    gate.start(2);
    agents.raise(5);
    gate.stop();
    gate.start(2);
    check(&gate, &agents, "after the stop");
    agents.hang_up_all();
    agents.settle();
    check(&gate, &agents, "after all have hung up");
}

#[test]
fn two_nodes_do_not_share_a_state_dir() {
    let mut gate = Gate::new("lock");
    gate.start(1);
    let why = gate.fail_second();
    assert!(why.contains("is in use by another node (process "), "{why}");
    let (code, text) = gate.offline("state reset");
    assert_eq!(code, Some(1), "{text}");
    let (code, text) = gate.offline("state show");
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_damaged_record_costs_its_call_alone_and_is_kept_for_a_look() {
    let mut gate = Gate::new("damage");
    let mut agents = Agents::new(&gate);
    gate.start(1);
    agents.raise(4);
    gate.kill();
    // Both copies of the first record.
    gate.damage(&[4096 + 100, 4096 + 1024 + 3]);
    let (code, text) = gate.offline("state show");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("1 records are damaged"), "{text}");
    gate.start(1);
    assert_eq!(gate.call_ids().len(), 3);
    assert_eq!(gate.limit("callers", "calls_in"), 3);
    assert!(gate.log().contains("set-aside-1"), "{}", gate.log());
    // The other calls, and that one too: its Record-Route proves it.
    agents.hang_up_all();
    agents.settle();
    assert_eq!(gate.limit("callers", "calls_in"), 0);
}

#[test]
fn a_damaged_front_a_short_file_and_a_lost_secret_cost_no_call() {
    let mut gate = Gate::new("front");
    let mut agents = Agents::new(&gate);
    gate.start(2);
    agents.raise(6);
    gate.kill();
    gate.damage(&[0, 13]);
    gate.start(2);
    check(&gate, &agents, "after the damage");
    gate.kill();
    gate.cut(100);
    gate.start(2);
    check(&gate, &agents, "after the cut");
    gate.kill();
    gate.remove_secret();
    let (code, text) = gate.offline("state repair");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("6 calls are recorded"), "{text}");
    gate.start(1);
    check(&gate, &agents, "after the secret was lost");
    agents.hang_up_all();
    agents.settle();
    check(&gate, &agents, "after all have hung up");
}

#[test]
fn files_of_a_later_version_are_set_aside_and_the_node_starts() {
    let mut gate = Gate::new("version");
    let mut agents = Agents::new(&gate);
    gate.start(1);
    agents.raise(2);
    gate.kill();
    gate.make_version(3);
    let (code, text) = gate.offline("state show --json");
    assert_eq!(code, Some(1), "{text}");
    gate.start(1);
    assert_eq!(gate.call_ids().len(), 0);
    assert!(gate.log().contains("written in format 3"), "{}", gate.log());
    // The peers do not notice: their Record-Routes are proof enough.
    agents.hang_up_all();
    agents.settle();
    gate.kill();
    let (code, text) = gate.offline("state reset");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("set-aside-1"), "{text}");
    gate.start(1);
}

#[test]
fn files_of_the_first_version_are_taken_over_and_written_anew() {
    let mut gate = Gate::new("older");
    let mut agents = Agents::new(&gate);
    gate.start(1);
    agents.raise(3);
    gate.kill();
    gate.make_first_version();
    let (code, text) = gate.offline("state show");
    assert_eq!(code, Some(0), "{text}");
    gate.start(1);
    check(&gate, &agents, "from the first version");
    agents.hang_up_all();
    agents.settle();
    check(&gate, &agents, "after all have hung up");
}

#[test]
fn calls_being_set_up_outlive_a_shard_that_panics() {
    let mut gate = Gate::new("ringing");
    let mut agents = Agents::new(&gate);
    gate.start(1);
    agents.run(Duration::from_millis(400), 20);
    let (code, text) = gate.command("debug panic-shard 0");
    assert_eq!(code, Some(0), "{text}");
    gate.until("the shard was replaced", |gate| {
        gate.json("status")["restarts"] == 1 && gate.json("status")["shards_running"] == 1
    });
    agents.settle();
    check(&gate, &agents, "after the panic");
    agents.hang_up_all();
    agents.settle();
    check(&gate, &agents, "after all have hung up");
}
