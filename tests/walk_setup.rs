//! Call set-up through one shard: which trunk, who is next when it fails, and what the caller is
//! told when nobody is left (RFC 3261 §16.5 to §16.9, and the causes of the design).

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::time::Duration;

use callgate::shard::mail::{Ask, TrunkOrder};
use kit::talk::*;
use kit::{Desk, Sent};

const PBX2: &str = "203.0.113.6:5060";

/// Two PBXs in a group by priority; `{pbx1}`, `{pbx2}`, `{carrier}` and `{group}` take more keys.
fn farm(carrier: &str, pbx1: &str, pbx2: &str, group: &str) -> String {
    format!(
        r#"
[node]
name = "gate"
[[listen]]
udp = "192.0.2.1:5060"
[trunk.carrier]
address = "198.51.100.10:5060"
{carrier}
[trunk.pbx1]
address = "203.0.113.5:5060"
auto_congest = "2s"
{pbx1}
[trunk.pbx2]
address = "203.0.113.6:5060"
auto_congest = "2s"
{pbx2}
[group.pbx]
policy = "priority"
members = ["pbx1", "pbx2"]
{group}
[[route]]
to = "pbx"
"#
    )
}

fn plain() -> Desk {
    Desk::new(&farm("", "", "", ""))
}

/// The final answer to the caller among these messages: its status line and its Reason.
fn refusal(sent: &[Sent]) -> (String, Option<String>) {
    let is_final = |one: &&Sent| {
        one.start_line().starts_with("SIP/2.0 ") && !one.start_line().starts_with("SIP/2.0 1")
    };
    let one = sent.iter().find(is_final).expect("a final answer");
    (
        one.start_line().to_owned(),
        one.header("Reason").map(str::to_owned),
    )
}

fn told(status: &str, cause: u8) -> (String, Option<String>) {
    (
        format!("SIP/2.0 {status}"),
        Some(format!("Q.850;cause={cause}")),
    )
}

fn second(sent: &[Sent]) -> Sent {
    let found = sent
        .iter()
        .find(|one| one.start_line().starts_with("INVITE") && one.to.to_string() == PBX2);
    found.expect("the next member is tried").clone()
}

#[test]
fn a_503_moves_the_call_on_and_when_all_say_so_the_caller_gets_500() {
    let mut desk = plain();
    let invite = ring(&mut desk);
    let sent = desk.receive(
        PBX,
        &answer(&invite, "503 Service Unavailable", "Retry-After: 9"),
    );
    assert!(none(&sent, "SIP/2.0"), "not the caller's business yet");
    assert!(!none(&sent, "ACK"));
    let next = second(&sent);
    assert_ne!(
        next.header("Via"),
        invite.header("Via"),
        "a branch of its own"
    );
    assert_eq!(next.header("Max-Forwards"), Some("69"));
    assert_eq!((desk.used(1), desk.used(2)), ((0, 0), (0, 1)));
    let sent = desk.receive(PBX2, &answer(&next, "503 Service Unavailable", ""));
    assert_eq!(refusal(&sent), told("500 Server Internal Error", 34));
    desk.receive(CARRIER, &ack_of_refusal("1"));
    desk.assert_nothing_left();
}

#[test]
fn a_refused_port_moves_the_call_on_and_when_all_refuse_the_caller_gets_480() {
    let mut desk = plain();
    let invite = ring(&mut desk);
    let next = second(&desk.bounce(&invite));
    let sent = desk.bounce(&next);
    assert_eq!(refusal(&sent), told("480 Temporarily Unavailable", 20));
    desk.receive(CARRIER, &ack_of_refusal("1"));
    desk.assert_nothing_left();
}

#[test]
fn silence_moves_the_call_on_and_when_all_are_silent_the_caller_gets_503() {
    let mut desk = plain();
    ring(&mut desk);
    second(&desk.wait(Duration::from_millis(2_050)));
    let sent = desk.wait(Duration::from_millis(2_050));
    assert_eq!(refusal(&sent), told("503 Service Unavailable", 34));
    assert_eq!(desk.shared.limits.total_used(), 0);
    desk.receive(CARRIER, &ack_of_refusal("1"));
    desk.assert_nothing_left();
}

#[test]
fn a_100_is_an_answer_and_is_not_passed_on() {
    let mut desk = plain();
    let invite = ring(&mut desk);
    assert!(
        desk.receive(
            PBX,
            &answer(&invite, "100 Trying", "").replace(";tag=b", "")
        )
        .is_empty()
    );
    let later = desk.wait(Duration::from_secs(60));
    assert!(
        later.is_empty(),
        "neither another INVITE nor another member: {:?}",
        lines(&later)
    );
}

#[test]
fn provisional_answers_pass_in_their_order() {
    let mut desk = plain();
    let invite = ring(&mut desk);
    for status in [
        "180 Ringing",
        "183 Session Progress",
        "181 Call Is Being Forwarded",
        "199 Early Dialog Terminated",
    ] {
        let sent = desk.receive(PBX, &answer(&invite, status, ""));
        assert_eq!(
            lines(&sent),
            [format!("SIP/2.0 {status} > 198.51.100.10:5060")]
        );
    }
}

#[test]
fn a_member_whose_codecs_do_not_fit_is_passed_over_and_none_left_is_488() {
    let offer = |codec: &str| {
        let sdp = format!("v=0\r\nm=audio 4000 RTP/AVP {codec}\r\n");
        let length = format!(
            "Content-Type: application/sdp\r\nContent-Length: {}",
            sdp.len()
        );
        invite("1", "").replace("Content-Length: 0", &length) + &sdp
    };
    let config = farm("", "codecs = [\"G722\"]", "codecs = [\"PCMA\"]", "");
    let sent = Desk::new(&config).receive(CARRIER, &offer("8"));
    assert_eq!(first(&sent, "INVITE").to.to_string(), PBX2);
    let mut desk = Desk::new(&config);
    let sent = desk.receive(CARRIER, &offer("18"));
    assert_eq!(refusal(&sent), told("488 Not Acceptable Here", 58));
    desk.receive(CARRIER, &ack_of_refusal("1"));
    desk.assert_nothing_left();
}

/// `count` calls with Call-IDs c1, c2 …; the answers to the last one.
fn calls(desk: &mut Desk, count: usize) -> Vec<Sent> {
    let mut sent = Vec::new();
    for number in 1..=count {
        let text = invite(&format!("n{number}"), "")
            .replace("Call-ID: c1", &format!("Call-ID: c{number}"));
        sent = desk.receive(CARRIER, &text);
    }
    sent
}

#[test]
fn a_member_that_is_full_is_passed_over_and_none_left_is_486() {
    let mut desk = Desk::new(&farm("", "calls_out_max = 1", "calls_max = 1", ""));
    assert_eq!(first(&calls(&mut desk, 2), "INVITE").to.to_string(), PBX2);
    let mut desk = Desk::new(&farm("", "calls_out_max = 1", "calls_max = 1", ""));
    assert_eq!(refusal(&calls(&mut desk, 3)), told("486 Busy Here", 17));
    assert_eq!(
        (desk.used(0), desk.used(1), desk.used(2)),
        ((2, 0), (0, 1), (0, 1))
    );
    let mut desk = Desk::new(&farm("", "", "", "calls_max = 1"));
    assert_eq!(refusal(&calls(&mut desk, 2)), told("486 Busy Here", 17));
}

#[test]
fn a_member_that_was_full_is_tried_when_it_has_room_and_the_other_has_failed() {
    let mut desk = Desk::new(&farm("", "calls_out_max = 1", "", ""));
    let before = first(&calls(&mut desk, 1), "INVITE").clone();
    let text = invite("n2", "").replace("Call-ID: c1", "Call-ID: c2");
    let moved = first(&desk.receive(CARRIER, &text), "INVITE").clone();
    assert_eq!(moved.to.to_string(), PBX2);
    desk.receive(PBX, &answer(&before, "486 Busy Here", ""));
    let sent = desk.receive(PBX2, &answer(&moved, "503 Service Unavailable", ""));
    assert_eq!(first(&sent, "INVITE").to.to_string(), PBX);
    assert_eq!((desk.used(1), desk.used(2)), ((0, 1), (0, 0)));
}

#[test]
fn a_caller_over_its_limit_is_told_480() {
    let mut desk = Desk::new(&farm("calls_in_max = 1", "", "", ""));
    let sent = calls(&mut desk, 2);
    assert_eq!(refusal(&sent), told("480 Temporarily Unavailable", 44));
    assert!(none(&sent, "INVITE"));
    assert_eq!(desk.used(0), (1, 0));
}

#[test]
fn over_limit_replaces_the_code_and_leaves_the_cause() {
    let mut desk = Desk::new(&farm("calls_in_max = 1\nover_limit = 503", "", "", ""));
    assert_eq!(
        refusal(&calls(&mut desk, 2)),
        told("503 Service Unavailable", 44)
    );
    let mut desk = Desk::new(&farm(
        "",
        "calls_max = 1\nover_limit = 480",
        "calls_max = 1\nover_limit = 480",
        "",
    ));
    assert_eq!(
        refusal(&calls(&mut desk, 3)),
        told("480 Temporarily Unavailable", 17)
    );
    let mut desk = Desk::new(&farm("", "", "", "calls_max = 1\nover_limit = 503"));
    assert_eq!(
        refusal(&calls(&mut desk, 2)),
        told("503 Service Unavailable", 17)
    );
}

#[test]
fn too_many_calls_a_second_are_told_when_to_come_again() {
    let rate = "cps = { sustain = 0.5, burst = 1 }";
    for config in [farm(rate, "", "", ""), farm("", "", "", rate)] {
        let mut desk = Desk::new(&config);
        let forwarded = ring(&mut desk);
        let sent = desk.receive(
            CARRIER,
            &invite("2", "").replace("Call-ID: c1", "Call-ID: c2"),
        );
        let refused = first(&sent, "SIP/2.0 503").clone();
        desk.receive(PBX, &answer(&forwarded, "180 Ringing", ""));
        assert_eq!(refused.header("Retry-After"), Some("2"));
        desk.wait(Duration::from_secs(2));
        let text = invite("later", "").replace("Call-ID: c1", "Call-ID: c9");
        assert!(!none(&desk.receive(CARRIER, &text), "INVITE"));
    }
}

//= rfc3261#16.7
#[test]
fn redirections_challenges_and_global_failures_are_the_callers() {
    for status in [
        "302 Moved Temporarily",
        "401 Unauthorized",
        "407 Proxy Authentication Required",
        "404 Not Found",
        "408 Request Timeout",
        "500 Server Internal Error",
        "603 Decline",
    ] {
        let mut desk = plain();
        let invite = ring(&mut desk);
        let more = "Contact: <sip:x@example.com>\nWWW-Authenticate: Digest realm=\"r\"";
        let sent = desk.receive(PBX, &answer(&invite, status, more));
        assert!(none(&sent, "INVITE"), "{status}");
        let passed = first(&sent, "SIP/2.0");
        assert_eq!(passed.start_line(), format!("SIP/2.0 {status}"));
        assert_eq!(
            passed.header("WWW-Authenticate"),
            Some("Digest realm=\"r\"")
        );
        assert_eq!(desk.shared.limits.total_used(), 0, "{status}");
        desk.receive(CARRIER, &ack_of_refusal("1"));
        desk.assert_nothing_left();
    }
}

//= rfc3261#22.3
#[test]
fn a_call_that_is_made_again_with_credentials_is_a_call_of_its_own() {
    let mut desk = plain();
    let challenged = ring(&mut desk);
    desk.receive(
        PBX,
        &answer(
            &challenged,
            "407 Proxy Authentication Required",
            "Proxy-Authenticate: Digest realm=\"r\"",
        ),
    );
    let text =
        invite("2", "Proxy-Authorization: Digest username=\"a\"").replace("CSeq: 1", "CSeq: 2");
    let sent = desk.receive(CARRIER, &text);
    let again = first(&sent, "INVITE").clone();
    assert_eq!(
        again.header("Proxy-Authorization"),
        Some("Digest username=\"a\"")
    );
    desk.receive(CARRIER, &ack_of_refusal("1"));
    assert_eq!((desk.used(0), desk.used(1)), ((1, 0), (0, 1)));
    let passed = desk.receive(PBX, &ok(&again));
    hang_up(&mut desk, first(&passed, "SIP/2.0 200"));
    desk.assert_nothing_left();
}

#[test]
fn a_full_dialog_table_is_503_with_cause_42_and_gives_everything_back() {
    let config = farm("", "", "", "") + "[capacity]\ndialogs = 2\ntransactions = 64\n";
    let mut desk = Desk::new(&config);
    let sent = calls(&mut desk, 3);
    assert_eq!(refusal(&sent), told("503 Service Unavailable", 42));
    assert_eq!(desk.used(0), (2, 0));
}

#[test]
fn a_full_transaction_table_is_503_with_cause_42_and_gives_everything_back() {
    let config = farm("", "", "", "") + "[capacity]\ndialogs = 64\ntransactions = 3\n";
    let mut desk = Desk::new(&config);
    let sent = calls(&mut desk, 4);
    assert_eq!(refusal(&sent), told("503 Service Unavailable", 42));
    assert_eq!(first(&sent, "SIP/2.0 503").header("Retry-After"), Some("1"));
    assert_eq!(desk.used(0), (3, 0));
    assert_eq!(desk.shard.census().calls, 3);
    desk.assert_nothing_left();
}

#[test]
fn a_full_table_does_not_keep_a_bye_from_ending_its_call() {
    let config = CONFIG.replace(
        "[trunk.carrier]",
        "[capacity]\ndialogs = 8\ntransactions = 2\n[trunk.carrier]",
    );
    let mut desk = Desk::new(&config);
    let (_, ok) = talk(&mut desk);
    for number in 0..2 {
        let options = invite(&format!("o{number}"), "").replace("INVITE", "OPTIONS");
        desk.receive(CARRIER, &options.replace("Call-ID: c1", "Call-ID: other"));
    }
    let sent = desk.receive(CARRIER, &from_caller("BYE", 2, "b", &ok, ""));
    assert_eq!(
        lines(&sent),
        ["BYE sip:bob@203.0.113.5:5070 SIP/2.0 > 203.0.113.5:5070"]
    );
    assert_eq!(desk.shared.limits.total_used(), 0);
    desk.assert_nothing_left();
}

#[test]
fn a_route_line_rejects_or_redirects() {
    let rejecting = CONFIG.replace("to = \"pbx\"", "to = \"reject 410\"");
    let sent = Desk::new(&rejecting).receive(CARRIER, &invite("1", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 410 Gone > 198.51.100.10:5060"]);
    let redirecting = CONFIG.replace(
        "to = \"pbx\"",
        "to = \"redirect sip:other.example:5070;x=1\"",
    );
    let mut desk = Desk::new(&redirecting);
    let sent = desk.receive(CARRIER, &invite("1", ""));
    assert_eq!(
        lines(&sent),
        ["SIP/2.0 302 Moved Temporarily > 198.51.100.10:5060"]
    );
    assert_eq!(
        sent[0].header("Contact"),
        Some("<sip:100@other.example:5070;x=1>")
    );
    desk.receive(CARRIER, &ack_of_refusal("1"));
    assert_eq!(desk.shared.limits.total_used(), 0);
    desk.assert_nothing_left();
}

#[test]
fn a_call_that_matches_no_route_is_404() {
    let config = CONFIG.replace(
        "from = [\"carrier\"]",
        "from = [\"carrier\"]\nuser = \"^9\"",
    );
    let sent = Desk::new(&config).receive(CARRIER, &invite("1", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 404 Not Found > 198.51.100.10:5060"]);
}

#[test]
fn a_node_that_drains_takes_no_new_call_and_keeps_those_it_has() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    desk.shared
        .draining
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let other = invite("9", "").replace("Call-ID: c1", "Call-ID: c9");
    let sent = desk.receive(CARRIER, &other);
    assert_eq!(lines(&sent), ["SIP/2.0 503 Draining > 198.51.100.10:5060"]);
    assert!(!none(
        &desk.receive(CARRIER, &from_caller("INVITE", 2, "b", &ok, "")),
        "INVITE"
    ));
    hang_up(&mut desk, &ok);
    assert_eq!(desk.shared.limits.total_used(), 0);
}

#[test]
fn a_trunk_that_drains_takes_no_new_call_in_or_out() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    let (done, _answer) = crossbeam::channel::bounded(1);
    desk.ask(Ask::Trunk {
        slot: 1,
        order: TrunkOrder::Drain,
        done,
    });
    let other = invite("9", "").replace("Call-ID: c1", "Call-ID: c9");
    assert_eq!(
        refusal(&desk.receive(CARRIER, &other)),
        told("480 Temporarily Unavailable", 20)
    );
    let from_pbx = other.replace(
        "198.51.100.10:5060;branch=z9hG4bK9",
        "203.0.113.5:5060;branch=z9hG4bK10",
    );
    assert_eq!(
        lines(&desk.receive(PBX, &from_pbx)),
        ["SIP/2.0 503 Draining > 203.0.113.5:5060"]
    );
    hang_up(&mut desk, &ok);
    assert_eq!(desk.shared.limits.total_used(), 0);
}

#[test]
fn a_trunk_of_several_addresses_is_tried_at_each_with_one_lease() {
    let config = CONFIG.replace(
        "address = \"203.0.113.5:5060\"",
        "address = [\"203.0.113.5:5060\", \"203.0.113.7:5060\"]\nauto_congest = \"2s\"",
    );
    let mut desk = Desk::new(&config);
    let invite = ring(&mut desk);
    let sent = desk.receive(PBX, &answer(&invite, "503 Service Unavailable", ""));
    let next = first(&sent, "INVITE").clone();
    assert_eq!(next.to.to_string(), "203.0.113.7:5060");
    assert_eq!(next.start_line(), "INVITE sip:100@203.0.113.7:5060 SIP/2.0");
    assert_eq!(desk.used(1), (0, 1));
    let sent = desk.receive(
        "203.0.113.7:5060",
        &answer(&next, "503 Service Unavailable", ""),
    );
    assert_eq!(refusal(&sent), told("500 Server Internal Error", 34));
    desk.receive(CARRIER, &ack_of_refusal("1"));
    desk.assert_nothing_left();
}

//= rfc4320#4.1
#[test]
fn a_slow_request_that_is_no_invite_gets_a_100_and_no_other_provisional_answer() {
    let mut desk = Desk::new(CONFIG);
    let sent = desk.receive(CARRIER, &invite("1", "").replace("INVITE", "MESSAGE"));
    let forwarded = sent[0].clone();
    assert!(
        desk.receive(PBX, &answer(&forwarded, "180 Ringing", ""))
            .is_empty()
    );
    let sent = desk.wait(Duration::from_millis(3_400));
    assert!(none(&sent, "SIP/2.0"));
    let sent = desk.wait(Duration::from_millis(200));
    assert!(!none(&sent, "SIP/2.0 100"));
    let passed = desk.receive(PBX, &answer(&forwarded, "200 OK", ""));
    assert_eq!(lines(&passed), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    desk.assert_nothing_left();
}

//= rfc4320#4.2
#[test]
fn a_request_that_is_no_invite_is_never_answered_408_by_us() {
    let mut desk = Desk::new(CONFIG);
    desk.receive(CARRIER, &invite("1", "").replace("INVITE", "MESSAGE"));
    let sent = desk.wait(Duration::from_secs(70));
    assert!(none(&sent, "SIP/2.0 408"));
    desk.assert_nothing_left();
}
