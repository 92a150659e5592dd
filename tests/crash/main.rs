//! Calls of a node that is killed at any moment: none that was answered is lost, and the counters
//! are the calls that the node knows, whatever the next start is like.
//!
//! `CALLGATE_TEST_KILLS=50 cargo test --test crash` kills more often.

#![expect(
    clippy::disallowed_methods,
    reason = "processes and sockets of a test live in real time"
)]

mod agents;
mod gate;

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

/// What both sides of the node and its counters must agree about; gives the number of calls that
/// live and are not counted.
///
/// Only a call that was being set up at a kill may be one: its 2xx came to a node that had not seen
/// its INVITE, and was passed on. That is a known gap, see docs/reliability.md.
fn check(gate: &Gate, agents: &Agents, what: &str) -> usize {
    let live: BTreeSet<String> = agents.live().into_iter().collect();
    let known = gate.call_ids();
    let calls = known.len() as u64;
    let known: BTreeSet<String> = known.into_iter().collect();
    assert_eq!(known.len() as u64, calls, "{what}: no call is there twice");
    let ghosts: Vec<&String> = known.difference(&live).collect();
    assert!(ghosts.is_empty(), "{what}: calls that are over: {ghosts:?}");
    let uncounted: Vec<&String> = live.difference(&known).collect();
    let lost = uncounted
        .iter()
        .find(|call_id| !agents.was_set_up_at_kill(call_id));
    assert_eq!(lost, None, "{what}: an answered call is lost");
    assert_eq!(gate.limit("callers", "calls_in"), calls, "{what}");
    assert_eq!(gate.limit("carrier-a", "calls_out"), calls, "{what}");
    assert_eq!(gate.limit("pbx", "calls_out"), calls, "{what}");
    let (code, verified) = gate.command("limits verify");
    assert_eq!(code, Some(0), "{what}: {verified}");
    uncounted.len()
}

#[test]
fn no_answered_call_is_lost_by_kill_9_at_any_moment() {
    let mut gate = Gate::new("kills");
    let mut agents = Agents::new(&gate);
    // Any order of shard counts; the same one twice goes on in the same files.
    let shards = [2, 2, 1, 4, 4, 3];
    gate.start(shards[0]);
    for kill in 0..kills() {
        // A different moment each time, in the middle of whatever is going on.
        let span = Duration::from_micros(150_000 + 37_777 * (kill as u64 % 11));
        agents.run(span, 40);
        gate.kill();
        agents.note_kill();
        let (up, under_way) = (agents.live().len(), agents.under_way());
        let next = shards[(kill + 1) % shards.len()];
        let began = Instant::now();
        gate.start(next);
        let answered = agents.first_answer(began);
        agents.settle();
        let uncounted = check(&gate, &agents, &format!("kill {kill}"));
        println!(
            "kill {kill}: {up} calls up, {under_way} under way, {next} shards, first answer after {} ms, {uncounted} uncounted",
            answered.as_millis()
        );
    }
    println!("{}", agents.summary());
    agents.hang_up_all();
    agents.settle();
    assert_eq!(check(&gate, &agents, "after all have hung up"), 0);
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
    assert_eq!(check(&gate, &agents, "after the panics"), 0);
    agents.hang_up_all();
    agents.settle();
    assert_eq!(check(&gate, &agents, "after all have hung up"), 0);
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
    assert_eq!(check(&gate, &agents, "after the stop"), 0);
    agents.hang_up_all();
    agents.settle();
    assert_eq!(check(&gate, &agents, "after all have hung up"), 0);
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
    assert_eq!(check(&gate, &agents, "after the damage"), 0);
    gate.kill();
    gate.cut(100);
    gate.start(2);
    assert_eq!(check(&gate, &agents, "after the cut"), 0);
    gate.kill();
    gate.remove_secret();
    let (code, text) = gate.offline("state repair");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("6 calls are recorded"), "{text}");
    gate.start(1);
    assert_eq!(check(&gate, &agents, "after the secret was lost"), 0);
    agents.hang_up_all();
    agents.settle();
    assert_eq!(check(&gate, &agents, "after all have hung up"), 0);
}

#[test]
fn files_of_another_version_are_set_aside_and_the_node_starts() {
    let mut gate = Gate::new("version");
    let mut agents = Agents::new(&gate);
    gate.start(1);
    agents.raise(2);
    gate.kill();
    gate.make_version(2);
    let (code, text) = gate.offline("state show --json");
    assert_eq!(code, Some(1), "{text}");
    gate.start(1);
    assert_eq!(gate.call_ids().len(), 0);
    assert!(gate.log().contains("written in format 2"), "{}", gate.log());
    // The peers do not notice: their Record-Routes are proof enough.
    agents.hang_up_all();
    agents.settle();
    gate.kill();
    let (code, text) = gate.offline("state reset");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("set-aside-1"), "{text}");
    gate.start(1);
}
