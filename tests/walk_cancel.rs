//! CANCEL and the answers that come late, through one shard (RFC 3261 §9, §16.7, §16.10; RFC 6026).

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::time::Duration;

use kit::Desk;
use kit::talk::*;

/// Two PBXs that are tried one after the other.
const FAILOVER: &str = r#"
[node]
name = "gate"
[[listen]]
udp = "192.0.2.1:5060"
[trunk.carrier]
address = "198.51.100.10:5060"
[trunk.pbx1]
address = "203.0.113.5:5060"
auto_congest = "2s"
[trunk.pbx2]
address = "203.0.113.6:5060"
auto_congest = "2s"
[group.pbx]
policy = "priority"
members = ["pbx1", "pbx2"]
[[route]]
to = "pbx"
"#;

const PBX2: &str = "203.0.113.6:5060";

fn to_tag(text: &str) -> &str {
    text.split(";tag=").nth(1).unwrap_or_default()
}

//= rfc3261#9.2
#[test]
fn a_cancel_of_nothing_is_answered_481() {
    let mut desk = Desk::new(CONFIG);
    let sent = desk.receive(CARRIER, &cancel("1", ""));
    assert_eq!(sent.len(), 1);
    assert!(sent[0].start_line().starts_with("SIP/2.0 481"));
}

#[test]
fn a_cancel_after_the_answer_is_answered_200_and_changes_nothing() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    let sent = desk.receive(CARRIER, &cancel("1", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    assert_eq!(desk.used(1), (0, 1));
    hang_up(&mut desk, &ok);
    desk.assert_nothing_left();
}

#[test]
fn the_reason_of_a_cancel_goes_on_at_once_or_with_the_first_provisional_answer() {
    let reason = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\nReason: Q.850;cause=16";
    for rings_first in [true, false] {
        let mut desk = Desk::new(CONFIG);
        let invite = ring(&mut desk);
        let mut sent = Vec::new();
        if rings_first {
            sent.extend(desk.receive(PBX, &answer(&invite, "180 Ringing", "")));
        }
        sent.extend(desk.receive(CARRIER, &cancel("1", reason)));
        if !rings_first {
            assert!(none(&sent, "CANCEL"), "not before a provisional answer");
            sent.extend(desk.receive(PBX, &answer(&invite, "180 Ringing", "")));
        }
        let passed = first(&sent, "CANCEL");
        assert_eq!(
            passed.headers("Reason").collect::<Vec<_>>().join(", "),
            "SIP;cause=200;text=\"Call completed elsewhere\", Q.850;cause=16"
        );
        assert_eq!(passed.headers("Via").count(), 1);
        assert_eq!(passed.header("Via"), invite.header("Via"));
        desk.receive(PBX, &answer(passed, "200 OK", ""));
        desk.receive(PBX, &answer(&invite, "487 Request Terminated", ""));
        desk.receive(CARRIER, &ack_of_refusal("1"));
        desk.assert_nothing_left();
    }
}

//= rfc3261#9.2
#[test]
fn the_answers_to_a_cancel_and_to_its_invite_have_one_to_tag() {
    let mut desk = Desk::new(FAILOVER);
    ring(&mut desk);
    let cancelled = desk.receive(CARRIER, &cancel("1", ""));
    let ended = desk.wait(Duration::from_secs(3));
    let one = first(&cancelled, "SIP/2.0 200").header("To").map(to_tag);
    let other = first(&ended, "SIP/2.0 487").header("To").map(to_tag);
    assert_eq!(one, other);
    assert_ne!(one, Some(""));
}

#[test]
fn a_cancelled_call_to_a_silent_trunk_ends_with_487_and_no_further_attempt() {
    let mut desk = Desk::new(FAILOVER);
    ring(&mut desk);
    desk.receive(CARRIER, &cancel("1", ""));
    let ended = desk.wait(Duration::from_secs(3));
    assert!(!none(&ended, "SIP/2.0 487"));
    assert!(ended.iter().all(|sent| sent.to.to_string() != PBX2));
    desk.receive(CARRIER, &ack_of_refusal("1"));
    desk.assert_nothing_left();
}

#[test]
fn a_phone_that_rings_after_the_cancelled_call_is_over_is_still_cancelled() {
    let mut desk = Desk::new(FAILOVER);
    let invite = ring(&mut desk);
    desk.receive(CARRIER, &cancel("1", ""));
    desk.wait(Duration::from_secs(3));
    desk.receive(CARRIER, &ack_of_refusal("1"));
    desk.wait(Duration::from_secs(10));
    let sent = desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    assert_eq!(
        lines(&sent),
        ["CANCEL sip:100@203.0.113.5:5060 SIP/2.0 > 203.0.113.5:5060"]
    );
    let again = desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    assert!(none(&again, "CANCEL"), "one CANCEL is enough");
    desk.assert_nothing_left();
}

#[test]
fn a_cancel_that_is_never_answered_ends_the_call_after_64_t1() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    desk.receive(CARRIER, &cancel("1", ""));
    let sent = desk.wait(Duration::from_secs(33));
    assert!(!none(&sent, "SIP/2.0 487"));
    assert_eq!(desk.used(1), (0, 0));
    desk.receive(CARRIER, &ack_of_refusal("1"));
    desk.assert_nothing_left();
}

#[test]
fn a_503_after_the_cancel_tries_nobody_else() {
    let mut desk = Desk::new(FAILOVER);
    let invite = ring(&mut desk);
    desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    desk.receive(CARRIER, &cancel("1", ""));
    let sent = desk.receive(PBX, &answer(&invite, "503 Service Unavailable", ""));
    assert!(!none(&sent, "SIP/2.0 487"));
    assert!(none(&sent, "INVITE"));
    desk.assert_nothing_left();
}

//= rfc3261#16.8
#[test]
fn timer_c_cancels_a_phone_that_rings_for_ever() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    assert!(desk.wait(Duration::from_secs(120)).is_empty());
    desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    assert!(
        desk.wait(Duration::from_secs(180)).is_empty(),
        "each 1xx starts it again"
    );
    let sent = desk.wait(Duration::from_secs(2));
    assert_eq!(
        lines(&sent[..1]),
        ["CANCEL sip:100@203.0.113.5:5060 SIP/2.0 > 203.0.113.5:5060"]
    );
    let ended = desk.receive(PBX, &answer(&invite, "487 Request Terminated", ""));
    assert!(!none(&ended, "SIP/2.0 487"));
    assert_eq!(desk.used(1), (0, 0));
    desk.assert_nothing_left();
}

//= rfc3261#16.8
#[test]
fn a_caller_who_did_not_cancel_is_told_408_when_timer_c_brings_no_answer() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    let sent = desk.wait(Duration::from_secs(181 + 33));
    assert_eq!(
        first(&sent, "SIP/2.0").start_line(),
        "SIP/2.0 408 Request Timeout"
    );
    assert_eq!(desk.used(1), (0, 0));
    desk.receive(CARRIER, &ack_of_refusal("1"));
    desk.assert_nothing_left();
}

#[test]
fn a_late_2xx_of_a_given_up_trunk_moves_the_call_and_its_lease_there() {
    let mut desk = Desk::new(FAILOVER);
    let invite = ring(&mut desk);
    let next = desk.wait(Duration::from_millis(2_100));
    let second = next
        .iter()
        .find(|sent| sent.to.to_string() == PBX2)
        .expect("the next member")
        .clone();
    desk.receive(PBX2, &answer_as("z", &second, "180 Ringing", ""));
    assert_eq!((desk.used(1), desk.used(2)), ((0, 0), (0, 1)));
    let sent = desk.receive(PBX, &ok(&invite));
    assert!(!none(&sent, "SIP/2.0 200"));
    assert_eq!(first(&sent, "CANCEL").to.to_string(), PBX2);
    assert_eq!((desk.used(1), desk.used(2)), ((0, 1), (0, 0)));
    let ok = first(&sent, "SIP/2.0 200").clone();
    desk.receive(PBX2, &answer_as("z", first(&sent, "CANCEL"), "200 OK", ""));
    desk.receive(PBX2, &answer_as("z", &second, "487 Request Terminated", ""));
    assert_eq!((desk.used(1), desk.used(2)), ((0, 1), (0, 0)));
    hang_up(&mut desk, &ok);
    desk.assert_nothing_left();
}

#[test]
fn a_silent_second_trunk_is_left_alone_once_the_first_has_answered() {
    let mut desk = Desk::new(FAILOVER);
    let invite = ring(&mut desk);
    desk.wait(Duration::from_millis(2_100));
    let sent = desk.receive(PBX, &ok(&invite));
    let ok = first(&sent, "SIP/2.0 200").clone();
    let later = desk.wait(Duration::from_secs(20));
    assert!(
        none(&later, "INVITE"),
        "nothing more is sent to the second: {:?}",
        lines(&later)
    );
    assert_eq!((desk.used(1), desk.used(2)), ((0, 1), (0, 0)));
    hang_up(&mut desk, &ok);
    desk.assert_nothing_left();
}

/// Found by the simulator: a copy of the INVITE had arrived before the port was closed.
#[test]
fn a_2xx_of_an_attempt_that_the_network_refused_answers_the_call_once_and_for_all() {
    let mut desk = Desk::new(FAILOVER);
    let invite = ring(&mut desk);
    let next = desk.bounce(&invite);
    let second = first(&next, "INVITE").clone();
    desk.receive(PBX2, &answer_as("z", &second, "180 Ringing", ""));
    let sent = desk.receive(PBX, &ok(&invite));
    assert_eq!(first(&sent, "CANCEL").to.to_string(), PBX2);
    assert_eq!((desk.used(1), desk.used(2)), ((0, 1), (0, 0)));
    let ok = first(&sent, "SIP/2.0 200").clone();
    let sent = desk.receive(PBX2, &answer_as("z", &second, "487 Request Terminated", ""));
    assert!(none(&sent, "SIP/2.0 487"), "{:?}", lines(&sent));
    hang_up(&mut desk, &ok);
    desk.assert_nothing_left();
}

//= rfc6026#7.1
#[test]
fn repeated_2xx_pass_as_long_as_the_invite_is_remembered_and_after_that_too() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    let text = ok(&invite);
    for second in 0..60 {
        let sent = desk.receive(PBX, &text);
        assert_eq!(
            lines(&sent),
            ["SIP/2.0 200 OK > 198.51.100.10:5060"],
            "after {second} s"
        );
        assert_eq!(sent[0].headers("Via").count(), 1);
        desk.wait(Duration::from_secs(1));
    }
    assert_eq!(desk.used(1), (0, 1));
}

#[test]
fn a_late_2xx_is_not_sent_where_its_second_via_says_when_that_is_no_trunk() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    desk.receive(PBX, &ok(&invite));
    desk.wait(Duration::from_secs(40));
    let stray = ok(&invite).replace(
        "SIP/2.0/UDP 198.51.100.10:5060",
        "SIP/2.0/UDP 192.0.2.66:53",
    );
    assert!(
        desk.receive(PBX, &stray).is_empty(),
        "a trunk cannot aim us at a stranger"
    );
}

#[test]
fn a_2xx_behind_a_final_answer_of_our_own_still_reaches_the_caller() {
    let mut desk = Desk::new(FAILOVER);
    let invite = ring(&mut desk);
    let refused = desk.wait(Duration::from_secs(5));
    assert!(!none(&refused, "SIP/2.0 503"));
    let sent = desk.receive(PBX, &ok(&invite));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    assert_eq!(desk.shared.limits.total_used(), 0);
    desk.assert_nothing_left();
}

//= rfc3261#17.2.1
#[test]
fn a_refusal_is_repeated_until_its_ack_or_timer_h() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    desk.receive(PBX, &answer(&invite, "486 Busy Here", ""));
    let repeated = desk.wait(Duration::from_millis(3_600));
    assert_eq!(repeated.len(), 3, "timer G at 0.5, 1.5 and 3.5 s");
    desk.receive(CARRIER, &ack_of_refusal("1"));
    assert!(desk.wait(Duration::from_secs(40)).is_empty());
    desk.assert_nothing_left();

    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    desk.receive(PBX, &answer(&invite, "486 Busy Here", ""));
    assert!(desk.wait(Duration::from_secs(33)).len() >= 10);
    assert!(
        desk.wait(Duration::from_secs(33)).is_empty(),
        "timer H is over"
    );
    desk.assert_nothing_left();
}

#[test]
fn a_repeated_invite_is_absorbed_in_each_state() {
    let mut desk = Desk::new(CONFIG);
    let forwarded = ring(&mut desk);
    let text = invite("1", "");
    assert_eq!(
        lines(&desk.receive(CARRIER, &text)),
        ["SIP/2.0 100 Trying > 198.51.100.10:5060"]
    );
    desk.receive(PBX, &answer(&forwarded, "180 Ringing", ""));
    assert_eq!(
        lines(&desk.receive(CARRIER, &text)),
        ["SIP/2.0 180 Ringing > 198.51.100.10:5060"]
    );
    let mut busy = desk.receive(PBX, &answer(&forwarded, "486 Busy Here", ""));
    let refusal = busy.pop().expect("the refusal");
    assert_eq!(desk.receive(CARRIER, &text), [refusal]);
    desk.receive(CARRIER, &ack_of_refusal("1"));
    assert!(desk.receive(CARRIER, &text).is_empty(), "confirmed");
    desk.assert_nothing_left();

    let mut desk = Desk::new(CONFIG);
    let forwarded = ring(&mut desk);
    desk.receive(PBX, &ok(&forwarded));
    assert!(
        desk.receive(CARRIER, &text).is_empty(),
        "accepted: the 2xx is the callee's to repeat"
    );
}

#[test]
fn a_refusal_of_the_callee_that_comes_again_is_acked_again_and_not_passed_twice() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    let busy = answer(&invite, "486 Busy Here", "");
    desk.receive(PBX, &busy);
    let again = desk.receive(PBX, &busy);
    assert_eq!(
        lines(&again),
        ["ACK sip:100@203.0.113.5:5060 SIP/2.0 > 203.0.113.5:5060"]
    );
}
