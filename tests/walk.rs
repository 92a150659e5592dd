//! The walk of messages through one shard, step by step of RFC 3261 §16, without a socket.

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::time::Duration;

use callgate::net::{Flow, ListenerId};
use kit::{Desk, Sent};

const CONFIG: &str = r#"
[node]
name = "gate"
[[listen]]
udp = "192.0.2.1:5060"
[trunk.carrier]
address = "198.51.100.10:5060"
[trunk.pbx]
address = "203.0.113.5:5060"
[[route]]
from = ["carrier"]
to = "pbx"
[[route]]
from = ["pbx"]
to = "carrier"
"#;

const CARRIER: &str = "198.51.100.10:5060";
const PBX: &str = "203.0.113.5:5060";

fn invite(branch: &str) -> String {
    request(
        "INVITE",
        "sip:100@192.0.2.1",
        branch,
        "<sip:100@192.0.2.1>",
        1,
        "",
    )
}

fn request(method: &str, uri: &str, branch: &str, to: &str, cseq: u32, extra: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{branch}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@198.51.100.10>;tag=a\r\nTo: {to}\r\nCall-ID: c1\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:alice@198.51.100.10:5060>\r\n{extra}Content-Length: 0\r\n\r\n"
    )
}

/// An answer of the callee to what the gate sent.
fn answer(sent: &Sent, status: &str, extra: &str) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for value in sent.headers(name) {
            let tag = if name == "To" && !value.contains("tag=") {
                ";tag=b"
            } else {
                ""
            };
            text += &format!("{name}: {value}{tag}\r\n");
        }
    }
    text + extra + "Content-Length: 0\r\n\r\n"
}

fn lines(sent: &[Sent]) -> Vec<String> {
    sent.iter()
        .map(|one| format!("{} > {}", one.start_line(), one.to))
        .collect()
}

/// INVITE, 180 and 200 passed; returns the forwarded INVITE and the 200 as the caller got it.
fn call(desk: &mut Desk) -> (Sent, Sent) {
    let sent = desk.receive(CARRIER, &invite("1"));
    assert_eq!(
        lines(&sent),
        [
            "SIP/2.0 100 Trying > 198.51.100.10:5060",
            "INVITE sip:100@203.0.113.5:5060 SIP/2.0 > 203.0.113.5:5060"
        ]
    );
    let forwarded = sent[1].clone();
    let ringing = desk.receive(PBX, &answer(&forwarded, "180 Ringing", ""));
    assert_eq!(
        lines(&ringing),
        ["SIP/2.0 180 Ringing > 198.51.100.10:5060"]
    );
    let ok = desk.receive(
        PBX,
        &answer(
            &forwarded,
            "200 OK",
            "Contact: <sip:bob@203.0.113.5:5070>\r\n",
        ),
    );
    assert_eq!(lines(&ok), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    (forwarded, ok[0].clone())
}

fn in_dialog(method: &str, ok: &Sent, branch: &str, cseq: u32) -> String {
    let route = format!(
        "Route: {}\r\n",
        ok.header("Record-Route").expect("recorded")
    );
    request(
        method,
        "sip:bob@203.0.113.5:5070",
        branch,
        "<sip:100@192.0.2.1>;tag=b",
        cseq,
        &route,
    )
}

#[test]
fn a_call_is_set_up_answered_and_hung_up_and_leaves_nothing() {
    let mut desk = Desk::new(CONFIG);
    let (forwarded, ok) = call(&mut desk);
    assert_eq!(forwarded.headers("Via").count(), 2);
    assert_eq!(forwarded.header("Max-Forwards"), Some("69"));
    assert_eq!(forwarded.headers("Record-Route").count(), 1);
    assert_eq!(ok.headers("Via").count(), 1);
    assert_eq!((desk.used(0), desk.used(1)), ((1, 0), (0, 1)));

    let ack = desk.receive(CARRIER, &in_dialog("ACK", &ok, "2", 1));
    assert_eq!(
        lines(&ack),
        ["ACK sip:bob@203.0.113.5:5070 SIP/2.0 > 203.0.113.5:5070"]
    );
    assert_eq!(ack[0].headers("Route").count(), 0);

    let bye = desk.receive(CARRIER, &in_dialog("BYE", &ok, "3", 2));
    assert_eq!(
        lines(&bye),
        ["BYE sip:bob@203.0.113.5:5070 SIP/2.0 > 203.0.113.5:5070"]
    );
    assert_eq!(
        desk.used(1),
        (0, 1),
        "the lease is held until the BYE is answered"
    );
    let done = desk.receive("203.0.113.5:5070", &answer(&bye[0], "200 OK", ""));
    assert_eq!(lines(&done), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    assert!(desk.is_idle());
    desk.wait(Duration::from_secs(40));
    let census = desk.shard.census();
    assert_eq!(
        (census.server_transactions, census.client_transactions),
        (0, 0)
    );
    assert_eq!((census.stored_bytes, census.timers), (0, 0));
}

#[test]
fn a_bye_of_the_callee_reaches_the_caller() {
    let mut desk = Desk::new(CONFIG);
    let (forwarded, _) = call(&mut desk);
    let route = forwarded.header("Record-Route").expect("recorded");
    let bye = format!(
        "BYE sip:alice@198.51.100.10:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.5:5060;branch=z9hG4bKx\r\n\
         Max-Forwards: 70\r\nRoute: {route}\r\nFrom: <sip:100@192.0.2.1>;tag=b\r\n\
         To: <sip:alice@198.51.100.10>;tag=a\r\nCall-ID: c1\r\nCSeq: 7 BYE\r\nContent-Length: 0\r\n\r\n"
    );
    let sent = desk.receive(PBX, &bye);
    assert_eq!(
        lines(&sent),
        ["BYE sip:alice@198.51.100.10:5060 SIP/2.0 > 198.51.100.10:5060"]
    );
    let done = desk.receive(CARRIER, &answer(&sent[0], "481 Gone", ""));
    assert_eq!(lines(&done), ["SIP/2.0 481 Gone > 203.0.113.5:5060"]);
    assert!(desk.is_idle());
}

#[test]
fn a_busy_callee_ends_the_call_and_its_answer_is_acked_hop_by_hop() {
    let mut desk = Desk::new(CONFIG);
    let sent = desk.receive(CARRIER, &invite("1"));
    let busy = desk.receive(PBX, &answer(&sent[1], "486 Busy Here", ""));
    assert_eq!(
        lines(&busy),
        [
            "ACK sip:100@203.0.113.5:5060 SIP/2.0 > 203.0.113.5:5060",
            "SIP/2.0 486 Busy Here > 198.51.100.10:5060"
        ]
    );
    assert!(desk.is_idle());
    let ack = request(
        "ACK",
        "sip:100@192.0.2.1",
        "1",
        "<sip:100@192.0.2.1>;tag=b",
        1,
        "",
    );
    assert!(desk.receive(CARRIER, &ack).is_empty());
    assert!(
        desk.wait(Duration::from_secs(3)).is_empty(),
        "an acknowledged answer is not repeated"
    );
}

#[test]
fn cancel_before_ringing_waits_for_a_provisional_answer() {
    let mut desk = Desk::new(CONFIG);
    let sent = desk.receive(CARRIER, &invite("1"));
    let cancel = request(
        "CANCEL",
        "sip:100@192.0.2.1",
        "1",
        "<sip:100@192.0.2.1>",
        1,
        "",
    );
    let cancelled = desk.receive(CARRIER, &cancel);
    assert_eq!(lines(&cancelled), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    let ringing = desk.receive(PBX, &answer(&sent[1], "180 Ringing", ""));
    assert_eq!(
        lines(&ringing),
        [
            "CANCEL sip:100@203.0.113.5:5060 SIP/2.0 > 203.0.113.5:5060",
            "SIP/2.0 180 Ringing > 198.51.100.10:5060"
        ]
    );
    let terminated = desk.receive(PBX, &answer(&sent[1], "487 Request Terminated", ""));
    assert_eq!(
        lines(&terminated),
        [
            "ACK sip:100@203.0.113.5:5060 SIP/2.0 > 203.0.113.5:5060",
            "SIP/2.0 487 Request Terminated > 198.51.100.10:5060"
        ]
    );
    assert!(desk.is_idle());
}

#[test]
fn a_2xx_after_cancel_is_passed_and_the_call_lives_until_its_bye() {
    let mut desk = Desk::new(CONFIG);
    let sent = desk.receive(CARRIER, &invite("1"));
    desk.receive(PBX, &answer(&sent[1], "180 Ringing", ""));
    let cancel = request(
        "CANCEL",
        "sip:100@192.0.2.1",
        "1",
        "<sip:100@192.0.2.1>",
        1,
        "",
    );
    assert_eq!(desk.receive(CARRIER, &cancel).len(), 2);
    let ok = desk.receive(
        PBX,
        &answer(
            &sent[1],
            "200 OK",
            "Contact: <sip:bob@203.0.113.5:5070>\r\n",
        ),
    );
    assert_eq!(lines(&ok), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    assert_eq!(desk.used(1), (0, 1));
    let bye = desk.receive(CARRIER, &in_dialog("BYE", &ok[0], "3", 2));
    desk.receive("203.0.113.5:5070", &answer(&bye[0], "200 OK", ""));
    assert!(desk.is_idle());
}

#[test]
fn a_silent_callee_is_given_up_with_503_and_cause_34() {
    let mut desk = Desk::new(CONFIG);
    desk.receive(CARRIER, &invite("1"));
    let sent = desk.wait(Duration::from_secs(33));
    let last = sent
        .iter()
        .find(|one| one.start_line().starts_with("SIP/2.0 503"))
        .expect("503");
    assert_eq!(last.header("Reason"), Some("Q.850;cause=34"));
    assert!(desk.is_idle());
}

#[test]
fn an_unknown_source_gets_403_and_nothing_is_forwarded() {
    let mut desk = Desk::new(CONFIG);
    let sent = desk.receive("192.0.2.77:5060", &invite("1"));
    assert_eq!(lines(&sent), ["SIP/2.0 403 Forbidden > 192.0.2.77:5060"]);
}

#[test]
fn a_retransmitted_invite_is_answered_from_memory_and_not_forwarded_again() {
    let mut desk = Desk::new(CONFIG);
    desk.receive(CARRIER, &invite("1"));
    assert_eq!(
        lines(&desk.receive(CARRIER, &invite("1"))),
        ["SIP/2.0 100 Trying > 198.51.100.10:5060"]
    );
    assert_eq!(desk.used(0), (1, 0));
}

#[test]
fn what_is_written_is_of_the_call_that_it_answers_or_forwards() {
    let mut desk = Desk::new(CONFIG);
    let from = Flow::udp(ListenerId(0), CARRIER.parse().expect("an address"));
    let calls_of = |desk: &mut Desk, text: &str| {
        desk.shard
            .on_datagram(desk.now, from, text.as_bytes(), &mut desk.out);
        let calls: Vec<_> = desk.out.iter().map(|datagram| datagram.call).collect();
        desk.out.clear();
        calls
    };
    let first = calls_of(&mut desk, &invite("one"));
    let second = calls_of(&mut desk, &invite("two").replace("c1", "c2"));
    assert_eq!(first.len(), 2, "100 to the caller, INVITE to the callee");
    for calls in [&first, &second] {
        assert!(calls[0].is_some() && calls[0] == calls[1], "{calls:?}");
    }
    assert_ne!(first, second);
    // What time has it send again may be of any call.
    desk.now = desk.now + Duration::from_millis(600);
    desk.shard.on_deadline(desk.now, &mut desk.out);
    let calls: Vec<_> = desk.out.iter().map(|datagram| datagram.call).collect();
    assert_eq!(calls, [None, None]);
}

#[test]
fn options_to_the_node_is_answered_to_anyone() {
    let mut desk = Desk::new(CONFIG);
    let options = request(
        "OPTIONS",
        "sip:192.0.2.1:5060",
        "o",
        "<sip:192.0.2.1>",
        1,
        "",
    );
    let sent = desk.receive("192.0.2.77:5060", &options);
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK > 192.0.2.77:5060"]);
    assert!(
        sent[0]
            .header("Allow")
            .is_some_and(|allow| allow.contains("INVITE"))
    );
}

#[test]
fn a_response_that_nobody_asked_for_goes_nowhere() {
    let mut desk = Desk::new(CONFIG);
    let sent = desk.receive(CARRIER, &invite("1"));
    let forged = answer(&sent[1], "200 OK", "").replace("z9hG4bKcg", "z9hG4bKcg0");
    assert!(desk.receive(PBX, &forged).is_empty());
    let other_call = answer(&sent[1], "200 OK", "").replace("Call-ID: c1", "Call-ID: c2");
    assert!(desk.receive(PBX, &other_call).is_empty());
}

#[test]
fn a_caller_that_keeps_no_route_set_still_reaches_the_callee() {
    let mut desk = Desk::new(CONFIG);
    call(&mut desk);
    let bare = |method, branch, cseq| {
        request(
            method,
            "sip:100@192.0.2.1:5060",
            branch,
            "<sip:100@192.0.2.1>;tag=b",
            cseq,
            "",
        )
    };
    let ack = desk.receive(CARRIER, &bare("ACK", "2", 1));
    assert_eq!(
        lines(&ack),
        ["ACK sip:bob@203.0.113.5:5070 SIP/2.0 > 203.0.113.5:5060"]
    );
    let bye = desk.receive(CARRIER, &bare("BYE", "3", 2));
    assert_eq!(
        lines(&bye),
        ["BYE sip:bob@203.0.113.5:5070 SIP/2.0 > 203.0.113.5:5060"]
    );
    desk.receive(PBX, &answer(&bye[0], "200 OK", ""));
    assert!(desk.is_idle());
}

#[test]
fn a_malformed_via_is_answered_to_the_source_and_the_port_that_can_be_read() {
    let mut desk = Desk::new(CONFIG);
    let text = invite("1")
        .replace(";branch", ";;,;,,branch")
        .replace("198.51.100.10:5060;;", "192.0.2.99:5070;;");
    let sent = desk.receive(CARRIER, &text);
    assert_eq!(sent.len(), 1);
    assert!(
        sent[0].start_line().starts_with("SIP/2.0 400 "),
        "{}",
        sent[0].start_line()
    );
    assert_eq!(sent[0].to.to_string(), "198.51.100.10:5070");
}

#[test]
fn a_trunks_request_with_an_unknown_to_tag_is_routed_like_a_new_one() {
    let mut desk = Desk::new(CONFIG);
    let bye = request(
        "BYE",
        "sip:100@192.0.2.1",
        "1",
        "<sip:100@192.0.2.1>;tag=gone",
        5,
        "",
    );
    assert_eq!(
        lines(&desk.receive(CARRIER, &bye)),
        ["BYE sip:100@203.0.113.5:5060 SIP/2.0 > 203.0.113.5:5060"]
    );
    let stranger = desk.receive("192.0.2.77:5060", &bye.replace("z9hG4bK1", "z9hG4bK2"));
    assert_eq!(stranger.len(), 1);
    assert!(stranger[0].start_line().starts_with("SIP/2.0 481"));
}

/// What the shard tells an operator who asks why, without the ages.
fn why(desk: &mut Desk, call_id: &str) -> Vec<String> {
    let (reply, told) = crossbeam::channel::bounded(1);
    let call_id = call_id.as_bytes().to_vec();
    desk.ask(callgate::shard::mail::Ask::Why { call_id, reply });
    let rows = told.recv().expect("the shard answers each request");
    rows.into_iter().map(|row| row.text).collect()
}

#[test]
fn why_tells_the_decisions_of_a_refused_and_of_an_answered_call() {
    let mut desk = Desk::new(CONFIG);
    call(&mut desk);
    assert_eq!(
        why(&mut desk, "c1"),
        [
            "INVITE from 198.51.100.10:5060: trunk carrier (its address and port are the trunk's)",
            "route line test.toml:10: to pbx",
            "admitted: incoming limits of carrier allow it",
            "INVITE sent to pbx at 203.0.113.5:5060, which is up",
            "answer 180",
            "answer 200",
        ]
    );
    desk.receive(CARRIER, &invite("9").replace("Call-ID: c1", "Call-ID: c9"));
    desk.wait(Duration::from_secs(33));
    let told = why(&mut desk, "c9");
    assert!(
        told.iter()
            .any(|line| line == "attempt failed: no answer in time"),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|line| line.starts_with("refused with 503, Q.850 cause 34")),
        "{told:?}"
    );
    assert!(why(&mut desk, "never").is_empty());
}

/// An INVITE of its own call.
fn numbered(number: usize) -> String {
    invite(&format!("n{number}")).replace("Call-ID: c1", &format!("Call-ID: n{number}"))
}

#[test]
fn a_trunk_that_answers_others_is_not_taken_down_by_silent_phones() {
    let mut desk = Desk::new(CONFIG);
    for number in 0..6 {
        desk.receive(CARRIER, &numbered(number));
    }
    desk.wait(Duration::from_secs(5));
    let heard = desk.receive(CARRIER, &numbered(7));
    desk.receive(PBX, &answer(&heard[1], "486 Busy Here", ""));
    desk.wait(Duration::from_secs(40));
    assert_eq!(desk.shared.board.failures(1), 0);

    for number in 10..13 {
        desk.receive(CARRIER, &numbered(number));
    }
    desk.wait(Duration::from_secs(40));
    assert!(
        !desk.shared.board.usable(1),
        "three calls and not a sign of life"
    );
}
