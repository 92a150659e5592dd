//! An overloaded shard on a desk: what is turned away, what passes, and what the ACK of a refusal
//! meets.

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::time::Duration;

use callgate::guard::overload::Backlog;
use callgate::metrics::Counter;
use kit::talk::*;
use kit::{Desk, Sent};

/// Has the shard see a queue that has stood at this wait for so many intervals.
fn strain(desk: &mut Desk, wait_ms: u64, intervals: u32) {
    for _ in 0..=intervals {
        desk.now = desk.now + Duration::from_millis(20);
        let seen = Backlog {
            waited: Duration::from_millis(wait_ms),
            fill_percent: 0,
        };
        desk.shard.on_backlog(desk.now, seen);
    }
}

/// INVITEs of calls of their own, until one meets this end.
fn call_until(desk: &mut Desk, wanted: impl Fn(&[Sent]) -> bool) -> (String, Vec<Sent>) {
    for number in 0..500 {
        let text = invite(&format!("n{number}"), "")
            .replace("Call-ID: c1", &format!("Call-ID: n{number}"));
        let sent = desk.receive(CARRIER, &text);
        if wanted(&sent) {
            return (text, sent);
        }
    }
    panic!("no call of 500 met it");
}

fn is_refused(sent: &[Sent]) -> bool {
    sent.len() == 1 && sent[0].start_line() == "SIP/2.0 503 Service Unavailable"
}

//= rfc3261#8.2.7
#[test]
fn a_refusal_under_load_keeps_nothing_and_is_the_same_for_each_retransmission() {
    let mut desk = Desk::new(CONFIG);
    strain(&mut desk, 60, 20);
    let (text, sent) = call_until(&mut desk, is_refused);
    let census = desk.shard.census();
    let again = desk.receive(CARRIER, &text);
    assert_eq!(again, sent);
    assert_eq!(
        desk.shard.census().server_transactions,
        census.server_transactions
    );
    let retry_after = sent[0].header("Retry-After").expect("it says when");
    assert!(
        matches!(retry_after, "1" | "2" | "3" | "4"),
        "{retry_after}"
    );
    assert_eq!(sent[0].header("Reason"), Some("Q.850;cause=42"));

    let ack = text
        .replace("INVITE sip", "ACK sip")
        .replace("1 INVITE", "1 ACK");
    let to = sent[0].header("To").expect("a To");
    let ack = ack.replace("To: <sip:100@192.0.2.1>", &format!("To: {to}"));
    assert_eq!(desk.receive(CARRIER, &ack), []);
    assert_eq!(desk.count(Counter::AcksAbsorbed), 1);
    assert_eq!(desk.count(Counter::DroppedStrayAck), 0);
}

#[test]
fn a_call_that_is_up_notices_nothing() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    strain(&mut desk, 10_000, 1_000);
    let again = desk.receive(CARRIER, &from_caller("INVITE", 2, "b", &ok, ""));
    first(&again, "INVITE sip:bob@203.0.113.5:5070");
    desk.receive(PBX, &ok_of(&again));
    hang_up(&mut desk, &ok);
    assert_eq!(desk.count(Counter::RefusedOverload), 0);
    assert_eq!(desk.count(Counter::DroppedOverload), 0);
}

fn ok_of(sent: &[Sent]) -> String {
    answer(
        first(sent, "INVITE"),
        "200 OK",
        "Contact: <sip:bob@203.0.113.5:5070>",
    )
}

#[test]
fn a_call_that_rings_is_answered_and_a_cancel_is_heard() {
    let mut desk = Desk::new(CONFIG);
    let rings = ring(&mut desk);
    strain(&mut desk, 60, 5);
    let repeated = desk.receive(CARRIER, &invite("1", ""));
    assert_eq!(
        lines(&repeated),
        ["SIP/2.0 100 Trying > 198.51.100.10:5060"]
    );
    desk.receive(PBX, &answer(&rings, "180 Ringing", ""));
    let sent = desk.receive(CARRIER, &cancel("1", ""));
    first(&sent, "CANCEL");
    first(&sent, "SIP/2.0 200");
}

#[test]
fn strangers_are_not_answered_under_load_and_peers_options_are() {
    let mut desk = Desk::new(CONFIG);
    strain(&mut desk, 60, 20);
    let stranger = "192.0.2.99:5060";
    assert_eq!(desk.receive(stranger, &invite("1", "")), []);
    // One that the first look does not recognise ends the same way.
    let odd = format!("\r\n{}", invite("2", ""));
    assert_eq!(desk.receive(stranger, &odd), []);
    assert_eq!(desk.count(Counter::DroppedOverloadStranger), 2);
    assert_eq!(desk.count(Counter::RefusedUnknownSource), 0);
    let options = invite("3", "")
        .replace("INVITE sip:100@192.0.2.1", "OPTIONS sip:192.0.2.1")
        .replace("1 INVITE", "1 OPTIONS");
    let sent = desk.receive(CARRIER, &options);
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
}

#[test]
fn past_what_can_be_refused_in_words_requests_are_dropped_and_counted() {
    let mut desk = Desk::new(CONFIG);
    strain(&mut desk, 10_000, 1_000);
    let (text, _) = call_until(&mut desk, <[Sent]>::is_empty);
    assert!(desk.count(Counter::DroppedOverload) > 0);
    // The load falls: the call comes through by its next retransmission.
    strain(&mut desk, 0, 500);
    first(&desk.receive(CARRIER, &text), "INVITE");
}

#[test]
fn off_turns_nobody_away() {
    let mut desk = Desk::new(&format!("[overload]\ntarget = \"off\"\n{CONFIG}"));
    assert!(!desk.shard.weighs_backlog());
    strain(&mut desk, 10_000, 1_000);
    first(&desk.receive(CARRIER, &invite("1", "")), "INVITE");
}

/// INVITEs that nobody ever answers or ends: the tables are what the configuration gave them, the
/// next caller is told so, and when all has run out nothing is left.
#[test]
fn a_flood_of_calls_that_are_never_finished_leaves_memory_flat() {
    let config = format!("[capacity]\ndialogs = 500\ntransactions = 1_000\n{CONFIG}");
    let mut desk = Desk::new(&config);
    let mut refused = 0;
    for number in 0..20_000 {
        let text = invite(&format!("f{number}"), "")
            .replace("Call-ID: c1", &format!("Call-ID: f{number}"));
        let sent = desk.receive(CARRIER, &text);
        if let Some(refusal) = sent
            .iter()
            .find(|one| one.start_line().starts_with("SIP/2.0 503"))
        {
            assert_eq!(refusal.header("Reason"), Some("Q.850;cause=42"));
            refused += 1;
        }
        let census = desk.shard.census();
        assert!(census.calls <= 500 && census.dialogs <= census.dialogs_max);
        assert!(census.server_transactions <= census.transactions_max);
        assert!(census.client_transactions <= census.transactions_max);
    }
    assert!(refused > 19_000, "{refused}");
    desk.assert_nothing_left();
}
