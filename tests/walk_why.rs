//! What `why` tells of a call: each decision in order, with the values that it was taken by.

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::time::Duration;

use callgate::shard::mail::{Ask, Fact, TrunkOrder, WhyRow};
use kit::talk::{CARRIER, PBX, PHONE, answer, cancel, first, invite, ok, sip};
use kit::{Desk, Sent};

const CONFIG: &str = r#"
[node]
name = "gate"
[[listen]]
udp = "192.0.2.1:5060"
[trunk.carrier]
address = "198.51.100.10:5060"
calls_in_max = 2
cps = { sustain = 10, burst = 20 }
[trunk.pbx]
address = "203.0.113.5:5060"
calls_out_max = 1
session_expires = "30m"
[trunk.spare]
address = "203.0.113.6:5060"
codecs = ["G722"]
auto_congest = "2s"
[trunk.third]
address = "203.0.113.7:5060"
[group.farm]
policy = "priority"
calls_max = 100
members = ["third", "pbx", "spare"]
[[route]]
from = ["carrier"]
user = "100"
to = "farm"
[[route]]
from = ["carrier"]
user = "200"
to = "spare"
"#;

fn why_of(desk: &mut Desk, call_id: &str) -> Vec<WhyRow> {
    let (reply, answer) = crossbeam::channel::bounded(1);
    let call_id = call_id.as_bytes().to_vec();
    desk.ask(Ask::Why { call_id, reply });
    answer.recv().expect("an answer")
}

fn texts(desk: &mut Desk, call_id: &str) -> Vec<String> {
    let rows = why_of(desk, call_id);
    rows.into_iter().map(|row| row.text).collect()
}

fn order(desk: &mut Desk, slot: u16, order: TrunkOrder) {
    let (done, answer) = crossbeam::channel::bounded(1);
    desk.ask(Ask::Trunk { slot, order, done });
    answer.recv().expect("an answer").expect("done");
}

/// A desk whose first member takes no calls.
fn desk() -> Desk {
    let mut desk = Desk::new(CONFIG);
    order(&mut desk, 3, TrunkOrder::Drain);
    desk
}

const CAME: &str =
    "INVITE from 198.51.100.10:5060: trunk carrier (its address and port are the trunk's)";
const LINE: &str = "route line test.toml:24: to farm";

fn talk(desk: &mut Desk) -> Sent {
    let sent = desk.receive(CARRIER, &invite("1", ""));
    let forwarded = first(&sent, "INVITE").clone();
    desk.receive(PBX, &answer(&forwarded, "180 Ringing", ""));
    let sent = desk.receive(PBX, &ok(&forwarded));
    first(&sent, "SIP/2.0 200").clone()
}

#[test]
fn an_accepted_call_is_told_from_its_source_to_its_bye() {
    let mut desk = desk();
    let ok = talk(&mut desk);
    let bye = sip(&format!(
        "BYE sip:bob@203.0.113.5:5070 SIP/2.0
         Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKbye
         Max-Forwards: 70
         Route: {}
         From: <sip:alice@198.51.100.10>;tag=a
         To: <sip:100@192.0.2.1>;tag=b
         Call-ID: c1
         CSeq: 2 BYE",
        ok.header("Record-Route").expect("recorded")
    ));
    let sent = desk.receive(CARRIER, &bye);
    let bye = first(&sent, "BYE").clone();
    desk.receive(PHONE, &answer(&bye, "200 OK", ""));
    assert_eq!(
        texts(&mut desk, "c1"),
        [
            CAME,
            LINE,
            "limits of carrier: in 1 of 2, rate 19 of 20 left",
            "admitted: incoming limits of carrier allow it",
            "third passed over: draining",
            "group farm (priority): pbx is next",
            "limits of pbx: out 1 of 1",
            "limits of farm: calls 1 of 100",
            "INVITE sent to pbx at 203.0.113.5:5060, which is up",
            "answer 180",
            "answer 200",
            "BYE from the caller",
            "ended: BYE",
        ]
    );
    let rows = why_of(&mut desk, "c1");
    let steps: Vec<&str> = rows.iter().map(|row| row.step).collect();
    assert_eq!(
        steps,
        [
            "source",
            "route",
            "limit",
            "admitted",
            "passed-over",
            "policy",
            "limit",
            "limit",
            "attempt",
            "answer",
            "answer",
            "hung-up",
            "ended"
        ]
    );
    let text = |text: &str| Fact::Text(text.to_owned());
    assert_eq!(
        rows[2].facts,
        [
            ("name", text("carrier")),
            ("direction", text("in")),
            ("used", Fact::Number(1)),
            ("used_max", Fact::Number(2)),
            ("cps_left", Fact::Number(19)),
            ("cps_burst", Fact::Number(20)),
        ]
    );
    assert_eq!(
        rows[1].facts,
        [
            ("file", text("test.toml")),
            ("line", Fact::Number(24)),
            ("to", text("farm"))
        ]
    );
}

#[test]
fn a_failover_names_the_answer_and_a_limit_in_its_way() {
    let mut desk = desk();
    // Takes the only place of pbx.
    desk.receive(
        CARRIER,
        &invite("0", "").replace("Call-ID: c1", "Call-ID: c0"),
    );
    let sent = desk.receive(CARRIER, &invite("1", ""));
    let forwarded = first(&sent, "INVITE").clone();
    let spare = "203.0.113.6:5060";
    assert_eq!(forwarded.to.to_string(), spare);
    desk.receive(spare, &answer(&forwarded, "503 Service Unavailable", ""));
    assert_eq!(
        texts(&mut desk, "c1")[4..],
        [
            "third passed over: draining",
            "group farm (priority): pbx is next",
            "limits of pbx: out 1 of 1: calls_out_max reached",
            "pbx passed over: over its calls limit, or its group's",
            "group farm (priority): spare is next",
            "limits of farm: calls 2 of 100",
            "INVITE sent to spare at 203.0.113.6:5060, which is up",
            "answer 503",
            "attempt failed: it answered 503",
            // It may have room by now.
            "group farm (priority): pbx is next",
            "limits of pbx: out 1 of 1: calls_out_max reached",
            "pbx passed over: over its calls limit, or its group's",
            "refused with 500, Q.850 cause 34: auto_congest",
            "ended: refused",
        ]
    );
}

#[test]
fn a_refused_call_is_told_with_the_values_of_the_limit_then() {
    let mut desk = desk();
    for number in 0..3 {
        let call_id = format!("Call-ID: x{number}");
        let text = invite(&format!("x{number}"), "").replace("Call-ID: c1", &call_id);
        desk.receive(CARRIER, &text);
    }
    assert_eq!(
        texts(&mut desk, "x2"),
        [
            CAME,
            LINE,
            "limits of carrier: in 2 of 2, rate 18 of 20 left: calls_in_max reached",
            "refused with 480, Q.850 cause 44: limit_in",
        ]
    );
}

/// An INVITE with an offer of PCMA.
fn offering(branch: &str, user: &str) -> String {
    let sdp = "v=0\r\no=- 1 1 IN IP4 198.51.100.10\r\ns=-\r\nc=IN IP4 198.51.100.10\r\nt=0 0\r\n\
        m=audio 40000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n";
    let text = invite(branch, "Content-Type: application/sdp")
        .replace("sip:100@", &format!("sip:{user}@"));
    let length = format!("Content-Length: {}", sdp.len());
    text.replace("Content-Length: 0", &length) + sdp
}

#[test]
fn a_codec_that_nobody_takes_and_a_number_without_route_are_told() {
    let mut desk = desk();
    desk.receive(CARRIER, &offering("1", "200"));
    assert_eq!(
        texts(&mut desk, "c1")[1..],
        [
            "route line test.toml:28: to spare",
            "limits of carrier: in 1 of 2, rate 19 of 20 left",
            "admitted: incoming limits of carrier allow it",
            "spare passed over: no codec of the offer",
            "refused with 488, Q.850 cause 58: codec",
            "ended: refused",
        ]
    );
    let unknown = invite("2", "").replace("Call-ID: c1", "Call-ID: c2");
    desk.receive(CARRIER, &unknown.replace("sip:100@", "sip:999@"));
    assert_eq!(texts(&mut desk, "c2"), [CAME, "refused with 404: no_route"]);
}

#[test]
fn a_stranger_is_told_too() {
    let mut desk = desk();
    desk.receive("192.0.2.99:5060", &invite("1", ""));
    assert_eq!(
        texts(&mut desk, "c1"),
        [
            "INVITE from 192.0.2.99:5060: no trunk has this address",
            "refused with 403: unknown_source",
        ]
    );
}

#[test]
fn a_caller_who_cancels_and_a_callee_who_is_silent_are_told() {
    let mut desk = desk();
    let sent = desk.receive(CARRIER, &invite("1", ""));
    let forwarded = first(&sent, "INVITE").clone();
    desk.receive(PBX, &answer(&forwarded, "180 Ringing", ""));
    desk.receive(CARRIER, &cancel("1", ""));
    desk.receive(PBX, &answer(&forwarded, "487 Request Terminated", ""));
    assert_eq!(
        texts(&mut desk, "c1")[9..],
        [
            "answer 180",
            "the caller cancelled",
            "answer 487",
            "ended: refused by the callee",
        ]
    );
    let text = invite("2", "").replace("Call-ID: c1", "Call-ID: c2");
    desk.receive(CARRIER, &text.replace("sip:100@", "sip:200@"));
    desk.wait(Duration::from_secs(3));
    assert_eq!(
        texts(&mut desk, "c2")[5..],
        [
            "INVITE sent to spare at 203.0.113.6:5060, which is up",
            "attempt failed: no answer in time",
            "refused with 503, Q.850 cause 34: auto_congest",
            "ended: refused",
        ]
    );
}

#[test]
fn a_session_that_nobody_refreshes_and_an_operator_are_told() {
    let mut desk = desk();
    let sent = desk.receive(
        CARRIER,
        &invite("1", "Session-Expires: 90\nSupported: timer"),
    );
    let forwarded = first(&sent, "INVITE").clone();
    desk.receive(
        PBX,
        &answer(
            &forwarded,
            "200 OK",
            "Contact: <sip:bob@203.0.113.5:5070>\nSession-Expires: 90;refresher=uac",
        ),
    );
    desk.wait(Duration::from_secs(100));
    assert_eq!(
        texts(&mut desk, "c1").last().map(String::as_str),
        Some("ended: nobody refreshed the session")
    );
    let text = invite("2", "").replace("Call-ID: c1", "Call-ID: c2");
    desk.receive(CARRIER, &text);
    let (reply, _ended) = crossbeam::channel::bounded(1);
    let call_id = b"c2".to_vec();
    desk.ask(Ask::EndCall { call_id, reply });
    let told = texts(&mut desk, "c2");
    assert_eq!(
        told[told.len() - 2..],
        ["refused with 480: ended_by_operator", "ended: refused"]
    );
}

#[test]
fn no_more_calls_are_remembered_than_was_asked_for() {
    let mut desk = desk();
    desk.shard.keep_decisions(1);
    let other =
        |number: u32| invite(&format!("n{number}"), "").replace("c1", &format!("n{number}"));
    desk.receive(CARRIER, &other(1));
    desk.receive(CARRIER, &other(2).replace("sip:100@", "sip:200@"));
    for number in 3..7 {
        desk.receive(CARRIER, &other(number));
    }
    assert!(texts(&mut desk, "n1").is_empty());
    assert!(!texts(&mut desk, "n6").is_empty());
    desk.shard.keep_decisions(0);
    desk.receive(CARRIER, &other(9));
    assert!(texts(&mut desk, "n9").is_empty());
}
