//! RFC 7339 on a desk: what those are told who ask how loaded the node is, and what it makes of
//! what its trunks tell it.

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::time::Duration;

use callgate::guard::overload::Backlog;
use callgate::metrics::{Counter, TrunkCounter};
use kit::talk::*;
use kit::{Desk, Sent};

const HEEDING: &str = r#"
[node]
name = "gate"
[[listen]]
udp = "192.0.2.1:5060"
[trunk.carrier]
address = "198.51.100.10:5060"
[trunk.pbx1]
address = "203.0.113.5:5060"
oc = true
[trunk.pbx2]
address = "203.0.113.6:5060"
[group.pbx]
policy = "priority"
members = ["pbx1", "pbx2"]
[[route]]
from = ["carrier"]
to = "pbx"
"#;

const ASK: &str = ";oc;oc-algo=\"loss\"";

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

/// The INVITE of a caller who wants to hear of the load.
fn asking(branch: &str) -> String {
    let text = invite(branch, "").replace("Call-ID: c1", &format!("Call-ID: {branch}"));
    text.replace(
        &format!("z9hG4bK{branch}"),
        &format!("z9hG4bK{branch}{ASK};x=1"),
    )
}

fn via(sent: &Sent) -> &str {
    sent.header("Via").expect("a Via")
}

//= rfc7339#5.2
#[test]
fn who_asks_is_told_in_every_answer_ours_and_passed_on() {
    let mut desk = Desk::new(HEEDING);
    let sent = desk.receive(CARRIER, &asking("a1"));
    let at_rest = "SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKa1;x=1;oc=0;oc-algo=\"loss\";oc-validity=0;oc-seq=1.00000";
    assert_eq!(via(first(&sent, "SIP/2.0 100")), at_rest);

    strain(&mut desk, 30, 3);
    // The callee's own load, which he puts where it does not belong, goes no further.
    let invite = first(&sent, "INVITE");
    let rings =
        answer(invite, "180 Ringing", "").replace(";oc;", ";oc=99;oc-validity=60000;oc-seq=9.9;");
    let passed = desk.receive("203.0.113.5:5060", &rings);
    let told = via(first(&passed, "SIP/2.0 180"));
    assert!(
        told.starts_with("SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKa1;x=1;oc="),
        "{told}"
    );
    assert!(
        told.ends_with(";oc-algo=\"loss\";oc-validity=500;oc-seq=1.08000"),
        "{told}"
    );
    assert!(!told.contains("oc=99") && !told.contains("oc=0;"), "{told}");
    assert_eq!(told.matches("oc-validity").count(), 1);
}

#[test]
fn who_does_not_ask_is_told_nothing() {
    let mut desk = Desk::new(HEEDING);
    strain(&mut desk, 30, 1);
    for number in 0..20 {
        let text = invite(&format!("n{number}"), "")
            .replace("Call-ID: c1", &format!("Call-ID: n{number}"));
        for sent in desk.receive(CARRIER, &text) {
            let vias: Vec<&str> = sent.headers("Via").collect();
            assert!(!vias.last().expect("one").contains("oc="), "{vias:?}");
        }
    }
    assert!(desk.count(Counter::RefusedOverload) > 0);
}

//= rfc7339#5.10.2
#[test]
fn who_keeps_calls_back_is_not_refused_on_top_of_it() {
    let mut desk = Desk::new(HEEDING);
    strain(&mut desk, 40, 10);
    for number in 0..100 {
        let sent = desk.receive(CARRIER, &asking(&format!("h{number}")));
        first(&sent, "INVITE");
    }
    assert_eq!(desk.count(Counter::RefusedOverload), 0);
}

#[test]
fn a_trunk_that_is_to_be_heeded_is_asked_and_no_other() {
    let mut desk = Desk::new(HEEDING);
    let sent = desk.receive(CARRIER, &invite("1", ""));
    assert!(via(first(&sent, "INVITE")).ends_with(ASK));
    let mut desk = Desk::new(&HEEDING.replace("oc = true", "oc = false"));
    let sent = desk.receive(CARRIER, &invite("1", ""));
    assert!(!via(first(&sent, "INVITE")).contains("oc"));
}

/// Has pbx1 answer one call busy, with these parameters in the gate's Via.
fn told(desk: &mut Desk, branch: &str, params: &str) -> Vec<Sent> {
    let text = invite(branch, "").replace("Call-ID: c1", &format!("Call-ID: {branch}"));
    let sent = desk.receive(CARRIER, &text);
    let busy = answer(first(&sent, "INVITE"), "486 Busy Here", "").replace(ASK, params);
    desk.receive("203.0.113.5:5060", &busy)
}

/// Which of the two takes each of a hundred calls.
fn shares(desk: &mut Desk, name: &str) -> (usize, usize) {
    let mut count = (0, 0);
    for number in 0..100 {
        let branch = format!("{name}{number}");
        let text = invite(&branch, "").replace("Call-ID: c1", &format!("Call-ID: {branch}"));
        let sent = desk.receive(CARRIER, &text);
        match first(&sent, "INVITE").to.to_string().as_str() {
            "203.0.113.5:5060" => count.0 += 1,
            _ => count.1 += 1,
        }
    }
    count
}

//= rfc7339#5.4
//= rfc7339#5.5
#[test]
fn a_trunk_that_asks_for_less_gets_less_until_that_is_over() {
    let mut desk = Desk::new(HEEDING);
    let passed = told(
        &mut desk,
        "t1",
        ";oc=60;oc-algo=\"loss\";oc-validity=2000;oc-seq=10.5",
    );
    // What it said was for us alone.
    assert!(!via(first(&passed, "SIP/2.0 486")).contains("oc"));
    let (one, two) = shares(&mut desk, "a");
    assert!((25..=55).contains(&one) && one + two == 100, "{one} {two}");
    assert_eq!(
        desk.metrics.trunk_row(1, TrunkCounter::HeldBack as usize),
        two as u64
    );
    desk.now = desk.now + Duration::from_secs(2);
    assert_eq!(shares(&mut desk, "b"), (100, 0));
}

#[test]
fn a_call_that_nobody_may_get_is_refused_without_a_word_about_us() {
    let mut desk = Desk::new(&HEEDING.replace(", \"pbx2\"", ""));
    told(&mut desk, "t1", ";oc=100;oc-algo=\"loss\";oc-seq=10.5");
    let sent = desk.receive(CARRIER, &invite("1", ""));
    let refusal = first(&sent, "SIP/2.0 503");
    assert_eq!(refusal.header("Retry-After"), None);
    assert_eq!(desk.count(Counter::RefusedHeldBack), 1);
}

//= rfc7339#4.4
#[test]
fn feedback_that_was_overtaken_or_makes_no_sense_changes_nothing() {
    let mut desk = Desk::new(HEEDING);
    told(
        &mut desk,
        "t1",
        ";oc=0;oc-algo=\"loss\";oc-validity=60000;oc-seq=10.5",
    );
    told(
        &mut desk,
        "t2",
        ";oc=100;oc-algo=\"loss\";oc-validity=60000;oc-seq=10.49",
    );
    told(
        &mut desk,
        "t3",
        ";oc=100;oc-algo=\"loss\";oc-validity=60000;oc-seq=10.5",
    );
    assert_eq!(desk.count(Counter::FeedbackGarbage), 0);
    for (number, garbage) in [
        ";oc=101;oc-seq=11.0",
        ";oc=x;oc-seq=11.0",
        ";oc=100",
        ";oc=100;oc-seq=now",
    ]
    .iter()
    .enumerate()
    {
        told(&mut desk, &format!("g{number}"), garbage);
    }
    assert_eq!(desk.count(Counter::FeedbackGarbage), 4);
    assert_eq!(shares(&mut desk, "a"), (100, 0));
    // The end of it, said by the server itself.
    told(
        &mut desk,
        "t4",
        ";oc=100;oc-algo=\"loss\";oc-validity=60000;oc-seq=12.0",
    );
    desk.now = desk.now + Duration::from_secs(61);
    told(
        &mut desk,
        "t5",
        ";oc=100;oc-algo=\"loss\";oc-validity=0;oc-seq=11.0",
    );
    assert_eq!(shares(&mut desk, "b"), (100, 0));
}
