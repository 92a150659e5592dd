//! One call detail record for each call attempt: what it says of calls that end in every way, seen
//! by the ring that the shard writes it to.

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use callgate::cdr::{Context, Read, Ring, SLOT_OCTETS, json_line};
use callgate::dialog::store::{Head, Wall};
use callgate::metrics::Counter;
use callgate::shard::Accounting;
use callgate::shard::mail::Ask;
use kit::talk::{
    CARRIER, PBX, PHONE, ack_of_refusal, answer, cancel, first, invite, lines, ok, sip,
};
use kit::{Desk, Sent};
use serde_json::{Value, json};

/// A carrier, and a farm of two members of which the first is tried first.
const CONFIG: &str = r#"
[node]
name = "gate"
[[listen]]
udp = "192.0.2.1:5060"
[trunk.carrier]
address = "198.51.100.10:5060"
calls_in_max = 2
[trunk.pbx]
address = "203.0.113.5:5060"
calls_out_max = 1
session_expires = "30m"
call_time_max = "1h"
[trunk.spare]
address = "203.0.113.6:5060"
codecs = ["PCMA"]
auto_congest = "2s"
[group.farm]
policy = "priority"
members = ["pbx", "spare"]
[[route]]
from = ["carrier"]
user = "100"
to = "farm"
[[route]]
from = ["carrier"]
user = "200"
to = "reject 603"
[[route]]
from = ["carrier"]
user = "300"
to = "redirect sip:elsewhere.example"
"#;

const SPARE: &str = "203.0.113.6:5060";

/// Wall-clock microseconds at the start of the desk's time.
const WALL_US: u64 = 1_764_000_000_000_000;

fn accounting(ring: &Ring) -> Accounting {
    Accounting {
        ring: ring.clone(),
        wall_start_us: Arc::new(AtomicU64::new(WALL_US)),
        start_id: 7,
        strangers: false,
    }
}

fn desk(ring: &Ring) -> Desk {
    let mut desk = Desk::new(CONFIG);
    desk.shard.account_to(Some(accounting(ring)));
    desk
}

/// The records since the last look.
fn records(ring: &Ring) -> Vec<Value> {
    let context = Context {
        node: "gate",
        config: "test.toml",
    };
    let mut buffer = [0; SLOT_OCTETS];
    let mut found = Vec::new();
    for position in ring.tail()..ring.head() {
        let Read::Record(cdr) = ring.read(position, &mut buffer) else {
            panic!("a place without a record");
        };
        let mut line = Vec::new();
        json_line(&cdr, &context, &mut line);
        found.push(serde_json::from_slice(&line).expect("JSON"));
    }
    ring.advance(ring.head());
    found
}

/// The only record since the last look.
fn record(ring: &Ring) -> Value {
    let mut found = records(ring);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

/// Asserts what a record says of these fields.
fn says(record: &Value, expected: Value) {
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&record[field], value, "{field} in {record:#}");
    }
}

/// A request inside the dialog that the 200 made.
fn in_dialog(method: &str, ok: &Sent, cseq: u32, extra: &str) -> String {
    sip(&format!(
        "{method} sip:bob@203.0.113.5:5070 SIP/2.0
         Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{method}{cseq}
         Max-Forwards: 70
         Route: {}
         From: <sip:alice@198.51.100.10>;tag=a
         To: <sip:100@192.0.2.1>;tag=b
         Call-ID: c1
         CSeq: {cseq} {method}
         {extra}",
        ok.header("Record-Route").expect("recorded")
    ))
}

/// INVITE, 180 after a second, 200 after two more; gives the 200 as the caller got it.
fn talk(desk: &mut Desk) -> Sent {
    let sent = desk.receive(CARRIER, &invite("1", ""));
    let forwarded = first(&sent, "INVITE").clone();
    desk.wait(Duration::from_secs(1));
    desk.receive(PBX, &answer(&forwarded, "180 Ringing", ""));
    desk.wait(Duration::from_secs(2));
    let sent = desk.receive(PBX, &ok(&forwarded));
    first(&sent, "SIP/2.0 200").clone()
}

#[test]
fn an_answered_call_is_told_from_invite_to_bye() {
    let ring = Ring::in_memory(8);
    let mut desk = desk(&ring);
    let ok = talk(&mut desk);
    desk.wait(Duration::from_secs(60));
    assert_eq!(ring.pending(), 0, "no record before the end");
    let sent = desk.receive(CARRIER, &in_dialog("BYE", &ok, 2, ""));
    let bye = first(&sent, "BYE").clone();
    desk.wait(Duration::from_millis(200));
    desk.receive(PHONE, &answer(&bye, "200 OK", ""));
    let start_ms = WALL_US / 1000 + 1_000;
    says(
        &record(&ring),
        json!({
            "version": 1, "node": "gate", "start_id": 7, "shard": 0, "seq": 1,
            "call_id": "c1", "request_uri": "sip:100@192.0.2.1",
            "from": "alice", "from_tag": "a", "to": "100", "to_tag": "b",
            "caller": CARRIER, "callee": PBX, "trunk_in": "carrier", "trunk_out": "pbx",
            "start_ms": start_ms, "ringing_ms": start_ms + 1_000, "answer_ms": start_ms + 3_000,
            // When the BYE came, not when it was answered.
            "end_ms": start_ms + 63_000, "setup_delay_ms": 1_000, "duration_ms": 60_000,
            "code": 200, "q850": 16, "disposition": "answered", "hung_up_by": "caller",
            "end_reason": "BYE", "limit_hit": null, "route": "test.toml:21", "resumed": false,
            "attempts_made": 1, "truncated": false,
            "attempts": [{
                "trunk": "pbx", "address": PBX, "code": 200, "reason": "answered",
                "start_ms": start_ms, "end_ms": start_ms + 3_000,
            }],
        }),
    );
}

#[test]
fn the_callee_who_hangs_up_is_named_with_its_cause() {
    let ring = Ring::in_memory(8);
    let mut desk = desk(&ring);
    talk(&mut desk);
    let bye = sip("BYE sip:alice@198.51.100.10:5060 SIP/2.0
         Via: SIP/2.0/UDP 203.0.113.5:5070;branch=z9hG4bKx
         Max-Forwards: 70
         From: <sip:100@192.0.2.1>;tag=b
         To: <sip:alice@198.51.100.10>;tag=a
         Call-ID: c1
         CSeq: 1 BYE
         Reason: SIP;cause=200, Q.850 ;cause=31 ;text=\"gone\"");
    let sent = desk.receive(PHONE, &bye);
    let bye = first(&sent, "BYE").clone();
    desk.receive(CARRIER, &answer(&bye, "200 OK", ""));
    says(
        &record(&ring),
        json!({ "hung_up_by": "callee", "q850": 31, "disposition": "answered" }),
    );
}

#[test]
fn each_attempt_of_a_failover_is_told_with_its_outcome() {
    let ring = Ring::in_memory(8);
    let mut desk = desk(&ring);
    let sent = desk.receive(CARRIER, &invite("1", ""));
    let busy = first(&sent, "INVITE").clone();
    desk.wait(Duration::from_millis(100));
    let sent = desk.receive(PBX, &answer(&busy, "503 Service Unavailable", ""));
    let silent = first(&sent, "INVITE").clone();
    assert_eq!(silent.to.to_string(), SPARE);
    let sent = desk.wait(Duration::from_secs(3));
    let told = first(&sent, "SIP/2.0 503");
    assert_eq!(told.header("Reason"), Some("Q.850;cause=34"));
    let record = record(&ring);
    let start_ms = record["start_ms"].as_u64().expect("a moment");
    says(
        &record,
        json!({
            "code": 503, "q850": 34, "disposition": "no-answer", "hung_up_by": "node",
            "end_reason": "auto_congest", "trunk_out": null, "attempts_made": 2,
            "attempts": [
                { "trunk": "pbx", "address": PBX, "code": 503, "reason": "final answer",
                  "start_ms": start_ms, "end_ms": start_ms + 100 },
                { "trunk": "spare", "address": SPARE, "code": null, "reason": "no answer in time",
                  "start_ms": start_ms + 100, "end_ms": start_ms + 2_100 },
            ],
        }),
    );
}

#[test]
fn a_caller_who_gives_up_is_told_from_a_callee_who_is_busy() {
    let ring = Ring::in_memory(8);
    let mut desk = desk(&ring);
    let sent = desk.receive(CARRIER, &invite("1", ""));
    let forwarded = first(&sent, "INVITE").clone();
    desk.receive(PBX, &answer(&forwarded, "180 Ringing", ""));
    desk.wait(Duration::from_secs(1));
    desk.receive(CARRIER, &cancel("1", ""));
    desk.receive(PBX, &answer(&forwarded, "487 Request Terminated", ""));
    desk.receive(CARRIER, &ack_of_refusal("1"));
    let found = record(&ring);
    says(
        &found,
        json!({
            "code": 487, "disposition": "cancelled", "hung_up_by": "caller", "end_reason": "CANCEL",
            "answer_ms": null, "duration_ms": 0, "setup_delay_ms": 0,
        }),
    );
    assert_eq!(found["attempts"][0]["code"], 487);

    let sent = desk.receive(
        CARRIER,
        &invite("2", "").replace("Call-ID: c1", "Call-ID: c2"),
    );
    let forwarded = first(&sent, "INVITE").clone();
    desk.receive(PBX, &answer(&forwarded, "486 Busy Here", ""));
    says(
        &record(&ring),
        json!({
            "seq": 2, "call_id": "c2", "code": 486, "q850": 17, "disposition": "busy",
            "hung_up_by": "callee", "end_reason": "refused by the callee", "trunk_out": "pbx",
        }),
    );
}

#[test]
fn a_call_over_a_limit_names_the_limit_and_whose_it_is() {
    let ring = Ring::in_memory(8);
    let mut desk = desk(&ring);
    let other = |number: u32| {
        let call_id = format!("Call-ID: x{number}");
        invite(&format!("x{number}"), "").replace("Call-ID: c1", &call_id)
    };
    // The first takes pbx, the second finds it full and goes to spare, the third may not come in.
    desk.receive(CARRIER, &other(1));
    let sent = desk.receive(CARRIER, &other(2));
    let forwarded = first(&sent, "INVITE").clone();
    assert_eq!(forwarded.to.to_string(), SPARE);
    let sent = desk.receive(CARRIER, &other(3));
    assert_eq!(
        lines(&sent),
        ["SIP/2.0 480 Temporarily Unavailable > 198.51.100.10:5060"]
    );
    says(
        &record(&ring),
        json!({
            "call_id": "x3", "code": 480, "q850": 44, "disposition": "refused", "hung_up_by": "node",
            "end_reason": "limit_in", "route": "test.toml:21", "trunk_in": "carrier",
            "limit_hit": { "name": "carrier", "limit": "calls_in_max" }, "attempts": [],
        }),
    );
    desk.receive(SPARE, &answer(&forwarded, "404 Not Found", ""));
    says(
        &record(&ring),
        json!({
            "call_id": "x2", "code": 404, "disposition": "failed", "trunk_out": "spare",
            "limit_hit": { "name": "pbx", "limit": "calls_out_max" },
        }),
    );
}

#[test]
fn what_the_route_table_decides_has_a_record_too() {
    let ring = Ring::in_memory(8);
    let mut desk = desk(&ring);
    let to = |user: &str| invite(user, "").replace("sip:100@", &format!("sip:{user}@"));
    desk.receive(CARRIER, &to("200"));
    says(
        &record(&ring),
        json!({ "code": 603, "disposition": "refused", "end_reason": "route_reject", "route": "test.toml:25" }),
    );
    desk.receive(CARRIER, &to("300"));
    says(
        &record(&ring),
        json!({ "code": 302, "disposition": "redirected", "route": "test.toml:29" }),
    );
    desk.receive(CARRIER, &to("400"));
    says(
        &record(&ring),
        json!({ "code": 404, "disposition": "refused", "end_reason": "no_route", "route": null }),
    );
}

#[test]
fn retransmissions_and_strangers_make_no_records() {
    let ring = Ring::in_memory(8);
    let mut desk = desk(&ring);
    let refused = invite("1", "").replace("sip:100@", "sip:400@");
    for _ in 0..3 {
        desk.receive(CARRIER, &refused);
    }
    assert_eq!(records(&ring).len(), 1);
    desk.receive("192.0.2.99:5060", &invite("2", ""));
    assert_eq!(ring.pending(), 0);
    desk.shard.account_to(Some(Accounting {
        strangers: true,
        ..accounting(&ring)
    }));
    desk.receive("192.0.2.99:5060", &invite("3", ""));
    says(
        &record(&ring),
        json!({ "code": 403, "trunk_in": null, "caller": "192.0.2.99:5060", "end_reason": "unknown_source" }),
    );
}

#[test]
fn a_refused_request_inside_a_call_is_no_attempt() {
    let ring = Ring::in_memory(8);
    let mut desk = desk(&ring);
    let ok = talk(&mut desk);
    let sent = desk.receive(
        CARRIER,
        &in_dialog("INVITE", &ok, 2, "Session-Expires: 10\nSupported: timer"),
    );
    assert_eq!(first(&sent, "SIP/2.0 422").header("Min-SE"), Some("90"));
    assert_eq!(ring.pending(), 0);
}

#[test]
fn the_node_that_ends_a_call_says_why() {
    let ring = Ring::in_memory(8);
    let mut desk = desk(&ring);
    talk(&mut desk);
    let (reply, _ended) = crossbeam::channel::bounded(1);
    let call_id = b"c1".to_vec();
    desk.ask(Ask::EndCall { call_id, reply });
    says(
        &record(&ring),
        json!({ "disposition": "answered", "hung_up_by": "node", "end_reason": "ended by operator" }),
    );
    desk.wait(Duration::from_secs(70));

    let sent = desk.receive(
        CARRIER,
        &invite("s", "Session-Expires: 90\nSupported: timer"),
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
    says(
        &record(&ring),
        json!({
            "hung_up_by": "node", "end_reason": "nobody refreshed the session", "duration_ms": 90_000,
        }),
    );
}

#[test]
fn a_full_ring_holds_up_no_call_and_shows_a_gap() {
    let ring = Ring::in_memory(2);
    let mut desk = desk(&ring);
    let refused = |number: u32| {
        invite(&format!("f{number}"), "").replace("sip:100@", &format!("sip:4{number}@"))
    };
    for number in 0..5 {
        let sent = desk.receive(CARRIER, &refused(number));
        assert!(sent[0].start_line().starts_with("SIP/2.0 404"));
    }
    assert_eq!(desk.count(Counter::CdrsLostRingFull), 3);
    let sequence = |found: Vec<Value>| -> Vec<u64> {
        found
            .iter()
            .map(|cdr| cdr["seq"].as_u64().expect("a number"))
            .collect()
    };
    assert_eq!(sequence(records(&ring)), [1, 2]);
    desk.receive(CARRIER, &refused(9));
    assert_eq!(sequence(records(&ring)), [6]);
    assert_eq!(desk.count(Counter::CdrsMade), 3);
}

/// A region for so many calls, and the desk that records in it.
fn keep(desk: &mut Desk, calls: usize) {
    let head = Head::new(calls, &desk.shared.owner_key);
    let mut region = vec![0; head.octets()];
    head.write(&mut region);
    desk.keep_calls_in(Box::new(region), Wall { start_us: WALL_US });
}

#[test]
fn a_call_that_goes_on_behind_a_restart_has_its_record_at_its_end() {
    let ring = Ring::in_memory(8);
    let mut before = desk(&ring);
    keep(&mut before, 4);
    let ok = talk(&mut before);
    let region = before.shard.leave_records().expect("a region");

    let mut after = desk(&ring);
    after.now = after.now + Duration::from_secs(13);
    let recalled = after.keep_calls_in(region, Wall { start_us: WALL_US });
    assert_eq!(recalled.tally.calls, 1);
    after.wait(Duration::from_secs(50));
    let sent = after.receive(CARRIER, &in_dialog("BYE", &ok, 2, ""));
    let bye = first(&sent, "BYE").clone();
    after.receive(PHONE, &answer(&bye, "200 OK", ""));
    let start_ms = WALL_US / 1000 + 1_000;
    says(
        &record(&ring),
        json!({
            "resumed": true, "disposition": "answered", "start_ms": start_ms,
            "answer_ms": start_ms + 3_000, "end_ms": start_ms + 63_000, "duration_ms": 60_000,
            "request_uri": "sip:100@192.0.2.1", "from": "alice", "to_tag": "b", "trunk_in": "carrier",
            "trunk_out": "pbx", "hung_up_by": "caller", "setup_delay_ms": null,
            "attempts": [{ "trunk": "pbx", "address": PBX, "code": 200,
                "reason": "restored after a restart", "start_ms": start_ms, "end_ms": start_ms }],
        }),
    );
}

#[test]
fn the_record_of_an_attempt_is_known_again_by_its_number() {
    let ring = Ring::in_memory(8);
    let mut before = desk(&ring);
    keep(&mut before, 4);
    let ok = talk(&mut before);
    // Killed between the record and the end of the call in the other file: both are there.
    let region = before.shard.leave_records().expect("a region");
    let sent = before.receive(CARRIER, &in_dialog("BYE", &ok, 2, ""));
    let bye = first(&sent, "BYE").clone();
    before.receive(PHONE, &answer(&bye, "200 OK", ""));
    let once = record(&ring);
    let mut after = desk(&ring);
    after.keep_calls_in(region, Wall { start_us: WALL_US });
    let sent = after.receive(CARRIER, &in_dialog("BYE", &ok, 2, ""));
    let bye = first(&sent, "BYE").clone();
    after.receive(PHONE, &answer(&bye, "200 OK", ""));
    assert_eq!(record(&ring)["attempt_id"], once["attempt_id"]);
}

#[test]
fn calls_that_nobody_takes_up_are_lost_and_say_so() {
    let ring = Ring::in_memory(8);
    let mut desk = desk(&ring);
    talk(&mut desk);
    let now = desk.now;
    desk.shard.close_accounts(now);
    says(
        &record(&ring),
        json!({ "disposition": "lost", "hung_up_by": "node", "duration_ms": 0, "code": 200 }),
    );
    desk.shard.wind_up();
    assert_eq!(ring.pending(), 0, "not twice");
}

#[test]
fn a_recorded_call_is_left_to_the_process_that_takes_it_up() {
    let ring = Ring::in_memory(8);
    let mut desk = desk(&ring);
    keep(&mut desk, 4);
    talk(&mut desk);
    let now = desk.now;
    desk.shard.close_accounts(now);
    desk.shard.wind_up();
    assert_eq!(ring.pending(), 0);
}

#[test]
fn a_call_that_finds_no_room_behind_a_restart_is_lost_with_what_is_known() {
    let ring = Ring::in_memory(8);
    let mut before = desk(&ring);
    keep(&mut before, 4);
    talk(&mut before);
    let region = before.shard.leave_records().expect("a region");
    let mut after = Desk::new(&CONFIG.replace("[[listen]]", "[capacity]\ndialogs = 1\n[[listen]]"));
    after.shard.account_to(Some(accounting(&ring)));
    after.receive(
        CARRIER,
        &invite("z", "").replace("Call-ID: c1", "Call-ID: z"),
    );
    after.now = after.now + Duration::from_secs(13);
    let recalled = after.keep_calls_in(region, Wall { start_us: WALL_US });
    assert_eq!(recalled.refused, 1);
    says(
        &record(&ring),
        json!({
            "call_id": "c1", "disposition": "lost", "from": "alice", "trunk_in": "carrier",
            "start_ms": WALL_US / 1000 + 1_000, "duration_ms": 10_000,
        }),
    );
}

#[test]
fn accounting_that_begins_in_the_middle_of_a_call_tells_what_the_call_knows() {
    let ring = Ring::in_memory(8);
    let mut desk = Desk::new(CONFIG);
    let ok = talk(&mut desk);
    desk.shard.account_to(Some(accounting(&ring)));
    let sent = desk.receive(CARRIER, &in_dialog("BYE", &ok, 2, ""));
    let bye = first(&sent, "BYE").clone();
    desk.receive(PHONE, &answer(&bye, "200 OK", ""));
    says(
        &record(&ring),
        json!({ "disposition": "answered", "trunk_out": "pbx", "resumed": false, "attempts": [] }),
    );
    desk.shard.account_to(None);
    desk.receive(CARRIER, &invite("2", "").replace("sip:100@", "sip:400@"));
    assert_eq!(ring.pending(), 0);
}
