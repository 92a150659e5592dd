//! Session timers (RFC 4028), `call_time_max` and the calls that an operator ends, through one shard.

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::time::Duration;

use callgate::base::Random;
use callgate::metrics::Counter;
use callgate::shard::mail::Ask;
use kit::talk::*;
use kit::{Desk, Sent};

/// The PBX wants its sessions refreshed.
fn timed(more: &str) -> Desk {
    Desk::new(&CONFIG.replace("[trunk.pbx]", &format!("[trunk.pbx]\n{more}")))
}

const HALF_AN_HOUR: &str = "session_expires = \"30m\"";

/// The INVITE with these headers as the PBX gets it.
fn asked(desk: &mut Desk, extra: &str) -> Sent {
    let sent = desk.receive(CARRIER, &invite("1", extra));
    first(&sent, "INVITE").clone()
}

//= rfc4028#8.1
#[test]
fn an_interval_is_inserted_lowered_or_left() {
    for (sent, session_expires, min_se) in [
        ("", Some("1800"), None),
        ("Supported: timer", Some("1800"), None),
        (
            "Session-Expires: 3600;refresher=uas\nSupported: timer",
            Some("1800;refresher=uas"),
            None,
        ),
        ("x: 3600;refresher=uas\nk: timer", None, None),
        ("Session-Expires: 600\nSupported: timer", Some("600"), None),
        ("Min-SE: 2400\nSupported: timer", Some("2400"), Some("2400")),
        ("Session-Expires: 60", Some("90"), Some("90")),
    ] {
        let mut desk = timed(HALF_AN_HOUR);
        let forwarded = asked(&mut desk, sent);
        if session_expires.is_some() {
            assert_eq!(
                forwarded.header("Session-Expires"),
                session_expires,
                "{sent}"
            );
        } else {
            assert_eq!(
                forwarded.header("x"),
                Some("1800;refresher=uas"),
                "the compact form stays"
            );
        }
        assert_eq!(forwarded.header("Min-SE"), min_se, "{sent}");
    }
}

//= rfc4028#8.1
#[test]
fn too_small_an_interval_is_422_with_the_smallest_one() {
    let small = "Session-Expires: 60\nSupported: timer";
    for config in [
        CONFIG.replace("[trunk.pbx]", "[trunk.pbx]\nsession_expires = \"30m\""),
        CONFIG
            .replace("[trunk.pbx]", "[trunk.pbx]\nsession_expires = \"30m\"")
            .replace("to = \"pbx\"", "to = \"farm\"")
            + "[group.farm]\nmembers = [\"pbx\"]\n",
    ] {
        let mut desk = Desk::new(&config);
        let sent = desk.receive(CARRIER, &invite("1", small));
        assert_eq!(
            lines(&sent),
            ["SIP/2.0 422 Session Interval Too Small > 198.51.100.10:5060"]
        );
        assert_eq!(sent[0].header("Min-SE"), Some("90"));
        assert_eq!(desk.shared.limits.total_used(), 0);
    }
    let sent = Desk::new(CONFIG).receive(CARRIER, &invite("1", small));
    assert!(
        !none(&sent, "INVITE"),
        "nobody here asks for session timers"
    );
}

#[test]
fn a_refresh_with_too_small_an_interval_is_422_and_the_call_goes_on() {
    let mut desk = timed(HALF_AN_HOUR);
    let (_, ok) = talk(&mut desk);
    let small = "Session-Expires: 60\nSupported: timer";
    for (cseq, method) in [(2, "INVITE"), (3, "UPDATE")] {
        let sent = desk.receive(CARRIER, &from_caller(method, cseq, "b", &ok, small));
        assert_eq!(
            lines(&sent),
            ["SIP/2.0 422 Session Interval Too Small > 198.51.100.10:5060"]
        );
    }
    assert_eq!(desk.used(1), (0, 1));
}

//= rfc4028#8.2
#[test]
fn a_callee_without_session_timers_leaves_the_refreshing_to_a_caller_who_has_them() {
    let with = |require: &str, supported: &str| {
        let mut desk = timed(HALF_AN_HOUR);
        let forwarded = asked(&mut desk, supported);
        let passed = desk.receive(PBX, &answer(&forwarded, "200 OK", require));
        first(&passed, "SIP/2.0 200").clone()
    };
    let ok = with("", "Supported: 100rel, timer");
    assert_eq!(ok.header("Session-Expires"), Some("1800;refresher=uac"));
    assert_eq!(ok.header("Require"), Some("timer"));
    let ok = with("Require: 100rel", "Supported: timer");
    assert_eq!(ok.headers("Require").collect::<Vec<_>>(), ["100rel, timer"]);
    let ok = with(
        "Session-Expires: 900;refresher=uas\nRequire: timer",
        "Supported: timer",
    );
    assert_eq!(
        ok.headers("Session-Expires").collect::<Vec<_>>(),
        ["900;refresher=uas"]
    );
    assert_eq!(ok.headers("Require").count(), 1);
    let ok = with("", "");
    assert_eq!(
        (ok.header("Session-Expires"), ok.header("Require")),
        (None, None)
    );
}

fn answered(desk: &mut Desk, granted: &str) -> (Sent, Sent) {
    let forwarded = asked(desk, "Supported: timer");
    let more = format!("Contact: <sip:bob@203.0.113.5:5070>\n{granted}");
    let passed = desk.receive(PBX, &answer(&forwarded, "200 OK", &more));
    (forwarded, first(&passed, "SIP/2.0 200").clone())
}

#[test]
fn a_session_that_nobody_refreshes_gives_its_lease_back() {
    let mut desk = timed(HALF_AN_HOUR);
    answered(
        &mut desk,
        "Session-Expires: 600;refresher=uas\nRequire: timer",
    );
    desk.wait(Duration::from_secs(599));
    assert_eq!(desk.used(1), (0, 1));
    desk.wait(Duration::from_secs(2));
    assert_eq!(desk.used(1), (0, 0));
    desk.assert_nothing_left();
}

#[test]
fn a_callee_cannot_shed_its_lease_by_granting_a_moment() {
    let mut desk = timed(HALF_AN_HOUR);
    answered(
        &mut desk,
        "Session-Expires: 1;refresher=uas\nRequire: timer",
    );
    desk.wait(Duration::from_secs(89));
    assert_eq!(desk.used(1), (0, 1));
}

#[test]
fn a_refresh_by_either_method_and_either_side_keeps_the_session() {
    let mut desk = timed(HALF_AN_HOUR);
    let (invite, ok) = answered(
        &mut desk,
        "Session-Expires: 600;refresher=uas\nRequire: timer",
    );
    let again = "Session-Expires: 600;refresher=uac\nSupported: timer";
    let granted = "Session-Expires: 600;refresher=uac\nRequire: timer";
    desk.wait(Duration::from_secs(500));
    let sent = desk.receive(CARRIER, &from_caller("UPDATE", 2, "b", &ok, again));
    assert_eq!(
        first(&sent, "UPDATE").header("Session-Expires"),
        Some("600;refresher=uac")
    );
    desk.receive(PHONE, &answer(first(&sent, "UPDATE"), "200 OK", granted));
    desk.wait(Duration::from_secs(500));
    assert_eq!(desk.used(1), (0, 1));
    let sent = desk.receive(PHONE, &from_callee("INVITE", 7, &invite, again));
    desk.receive(CARRIER, &answer(first(&sent, "INVITE"), "200 OK", granted));
    desk.wait(Duration::from_secs(500));
    assert_eq!(desk.used(1), (0, 1));
    desk.wait(Duration::from_secs(101));
    assert_eq!(desk.used(1), (0, 0));
    desk.assert_nothing_left();
}

#[test]
fn what_an_update_grants_while_the_phone_rings_ends_no_call() {
    let mut desk = timed(HALF_AN_HOUR);
    let forwarded = asked(&mut desk, "Supported: timer");
    let passed = desk.receive(PBX, &answer(&forwarded, "180 Ringing", ""));
    let update = from_caller(
        "UPDATE",
        2,
        "b",
        &passed[0],
        "Session-Expires: 100\nSupported: timer",
    );
    let sent = desk.receive(CARRIER, &update);
    desk.receive(
        PHONE,
        &answer(
            first(&sent, "UPDATE"),
            "200 OK",
            "Session-Expires: 100;refresher=uac\nRequire: timer",
        ),
    );
    desk.wait(Duration::from_secs(150));
    assert_eq!(desk.used(1), (0, 1));
}

fn bye_to<'s>(sent: &'s [Sent], to: &str) -> &'s Sent {
    let found = sent
        .iter()
        .find(|one| one.start_line().starts_with("BYE") && one.to.to_string() == to);
    found.unwrap_or_else(|| panic!("no BYE to {to} among {:?}", lines(sent)))
}

//= rfc3261#15.1.1
#[test]
fn a_call_that_lasts_too_long_is_ended_on_both_sides_as_if_each_had_hung_up() {
    let mut desk = timed("call_time_max = \"1m\"");
    let sent = desk.receive(
        CARRIER,
        &invite(
            "1",
            "Record-Route: <sip:198.51.100.1;lr>, <sip:198.51.100.2;lr>",
        ),
    );
    let forwarded = first(&sent, "INVITE").clone();
    // Two proxies between us and the phone, which answers on the far side of both.
    let contact = "Contact: <sip:bob@203.0.113.5:5070>";
    let text = answer(&forwarded, "200 OK", contact).replacen(
        "Record-Route: ",
        "Record-Route: <sip:203.0.113.22;lr>, <sip:203.0.113.21;lr>\r\nRecord-Route: ",
        1,
    );
    let passed = desk.receive(PBX, &text);
    let ok = first(&passed, "SIP/2.0 200").clone();
    let route = ok
        .headers("Record-Route")
        .nth(1)
        .map(|own| format!("Route: {own}"));
    let info = from_caller("INFO", 5, "b", &ok, "");
    let info: String = info
        .lines()
        .filter(|line| !line.starts_with("Route"))
        .map(|line| format!("{line}\n"))
        .collect();
    let info = info.replace(
        "Content-Length: 0\n\n",
        &format!("{}\nContent-Length: 0\n\n", route.unwrap_or_default()),
    );
    let sent = desk.receive(CARRIER, &info.replace('\n', "\r\n"));
    desk.receive(PHONE, &answer(first(&sent, "INFO"), "200 OK", ""));
    let sent = desk.wait(Duration::from_millis(60_100));

    let to_callee = bye_to(&sent, "203.0.113.21:5060");
    assert_eq!(
        to_callee.start_line(),
        "BYE sip:bob@203.0.113.5:5070 SIP/2.0"
    );
    assert_eq!(
        to_callee.headers("Route").collect::<Vec<_>>(),
        ["<sip:203.0.113.21;lr>, <sip:203.0.113.22;lr>"]
    );
    assert_eq!(
        to_callee.header("From"),
        Some("<sip:alice@198.51.100.10>;tag=a")
    );
    assert_eq!(to_callee.header("To"), Some("<sip:100@192.0.2.1>;tag=b"));
    assert_eq!(
        to_callee.header("CSeq"),
        Some("6 BYE"),
        "one more than the caller's INFO"
    );
    assert_eq!(to_callee.header("Call-ID"), Some("c1"));

    let to_caller = bye_to(&sent, "198.51.100.1:5060");
    assert_eq!(
        to_caller.start_line(),
        "BYE sip:alice@198.51.100.10:5060 SIP/2.0"
    );
    assert_eq!(
        to_caller.headers("Route").collect::<Vec<_>>(),
        ["<sip:198.51.100.1;lr>, <sip:198.51.100.2;lr>"]
    );
    assert_eq!(to_caller.header("From"), Some("<sip:100@192.0.2.1>;tag=b"));
    assert_eq!(
        to_caller.header("To"),
        Some("<sip:alice@198.51.100.10>;tag=a")
    );
    assert_eq!(to_caller.header("CSeq"), Some("1 BYE"));
    assert_eq!(desk.shared.limits.total_used(), 0);
    desk.receive(PHONE, &answer(to_callee, "200 OK", ""));
    desk.receive(CARRIER, &answer(to_caller, "200 OK", ""));
    desk.assert_nothing_left();
}

#[test]
fn a_bye_that_is_on_its_way_when_the_call_time_is_over_stays_the_only_one() {
    let mut desk = timed("call_time_max = \"1m\"");
    let invite = ring(&mut desk);
    let sent = desk.receive(PBX, &ok(&invite));
    let ok = first(&sent, "SIP/2.0 200").clone();
    desk.wait(Duration::from_millis(59_900));
    desk.receive(CARRIER, &from_caller("BYE", 5, "b", &ok, ""));
    let byes = desk.wait(Duration::from_secs(40));
    let byes = byes
        .iter()
        .filter(|one| one.start_line().starts_with("BYE"));
    assert!(byes.clone().count() > 5);
    for bye in byes {
        assert_eq!(
            (bye.to.to_string().as_str(), bye.header("CSeq")),
            (PHONE, Some("5 BYE"))
        );
    }
    assert_eq!(desk.shared.limits.total_used(), 0);
    desk.assert_nothing_left();
}

//= rfc3261#12.2.1.1
#[test]
fn our_own_bye_goes_round_a_strict_router() {
    let mut desk = timed("call_time_max = \"1m\"");
    let sent = desk.receive(
        CARRIER,
        &invite(
            "1",
            "Record-Route: <sip:198.51.100.1>, <sip:198.51.100.2;lr>",
        ),
    );
    desk.receive(PBX, &ok(first(&sent, "INVITE")));
    let sent = desk.wait(Duration::from_millis(60_100));
    let bye = bye_to(&sent, "198.51.100.1:5060");
    assert_eq!(bye.start_line(), "BYE sip:198.51.100.1 SIP/2.0");
    assert_eq!(
        bye.headers("Route").collect::<Vec<_>>(),
        ["<sip:198.51.100.2;lr>", "<sip:alice@198.51.100.10:5060>"]
    );
}

fn end_call(desk: &mut Desk) -> Vec<Sent> {
    let (reply, answer) = crossbeam::channel::bounded(1);
    let sent = desk.ask(Ask::EndCall {
        call_id: b"c1".to_vec(),
        reply,
    });
    assert_eq!(answer.try_recv(), Ok(true));
    sent
}

#[test]
fn an_operator_ends_a_ringing_call_with_a_cancel_and_an_answer() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    let sent = end_call(&mut desk);
    assert_eq!(
        lines(&sent),
        [
            "CANCEL sip:100@203.0.113.5:5060 SIP/2.0 > 203.0.113.5:5060",
            "SIP/2.0 480 Ended By Operator > 198.51.100.10:5060"
        ]
    );
    assert_eq!(desk.shared.limits.total_used(), 0);
    desk.receive(CARRIER, &ack_of_refusal("1"));
    let late = desk.receive(PBX, &answer(&invite, "487 Request Terminated", ""));
    assert_eq!(
        lines(&late),
        ["ACK sip:100@203.0.113.5:5060 SIP/2.0 > 203.0.113.5:5060"]
    );
    desk.assert_nothing_left();
}

#[test]
fn an_operator_ends_a_silent_call_and_the_phone_that_rings_later_is_cancelled() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    let sent = end_call(&mut desk);
    assert_eq!(
        lines(&sent),
        ["SIP/2.0 480 Ended By Operator > 198.51.100.10:5060"]
    );
    desk.receive(CARRIER, &ack_of_refusal("1"));
    let sent = desk.wait(Duration::from_secs(20));
    let repeated = sent
        .iter()
        .filter(|one| one.start_line().starts_with("INVITE"))
        .count();
    assert_eq!(repeated, 0, "the INVITE is not repeated for nobody");
    let sent = desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    assert_eq!(
        lines(&sent),
        ["CANCEL sip:100@203.0.113.5:5060 SIP/2.0 > 203.0.113.5:5060"]
    );
    desk.receive(PBX, &answer(&invite, "487 Request Terminated", ""));
    desk.assert_nothing_left();
}

#[test]
fn an_operator_ends_a_talking_call_with_two_byes() {
    let mut desk = Desk::new(CONFIG);
    talk(&mut desk);
    let sent = end_call(&mut desk);
    bye_to(&sent, PHONE);
    bye_to(&sent, CARRIER);
    assert_eq!(desk.shared.limits.total_used(), 0);
    desk.assert_nothing_left();
}

#[test]
fn a_call_whose_words_have_no_room_goes_on_and_gets_no_bye_of_ours() {
    let small = CONFIG.replace("[[listen]]", "[capacity]\ndialogs = 200\n[[listen]]");
    let mut desk = Desk::new(&small);
    let mut random = Random::new([3; 4]);
    // Display names that are like nobody's.
    let mut name = || -> String {
        let letter = |_| char::from(b'G' + random.below(20) as u8);
        (0..2000).map(letter).collect()
    };
    let mut number = 0;
    let invite = loop {
        number += 1;
        let text = invite(&number.to_string(), "")
            .replace("From: ", &format!("From: {} ", name()))
            .replace("Call-ID: c1", &format!("Call-ID: call{number}"));
        let sent = desk.receive(CARRIER, &text);
        if desk.count(Counter::TextsNotKept) > 0 {
            break first(&sent, "INVITE").clone();
        }
        assert!(number < 200, "all words had room");
    };
    let passed = desk.receive(PBX, &ok(&invite));
    assert_eq!(lines(&passed), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    let held = desk.shared.limits.total_used();
    let (reply, answer) = crossbeam::channel::bounded(1);
    let sent = desk.ask(Ask::EndCall {
        call_id: format!("call{number}").into_bytes(),
        reply,
    });
    assert_eq!(answer.try_recv(), Ok(true));
    assert_eq!(lines(&sent), [""; 0]);
    assert_eq!(desk.shared.limits.total_used(), held - 2);
}
