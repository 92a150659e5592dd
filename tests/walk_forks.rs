//! Forks and early dialogs through one shard: several To tags, several 2xx, requests before the
//! answer, and every way in which a BYE can go (RFC 3261 §12, §13.2.2.4, §15, §16.7).

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::time::Duration;

use kit::talk::*;
use kit::{Desk, Sent};

fn limits(desk: &Desk) -> ((u32, u32), (u32, u32)) {
    (desk.used(0), desk.used(1))
}

const BUSY: ((u32, u32), (u32, u32)) = ((1, 0), (0, 1));
const FREE: ((u32, u32), (u32, u32)) = ((0, 0), (0, 0));

/// Two callees behind the PBX answer; returns both answers as the caller got them.
fn two_answers(desk: &mut Desk) -> [Sent; 2] {
    let invite = ring(desk);
    ["b", "d"].map(|tag| {
        let contact = "Contact: <sip:bob@203.0.113.5:5070>";
        let passed = desk.receive(PBX, &answer_as(tag, &invite, "200 OK", contact));
        first(&passed, "SIP/2.0 200").clone()
    })
}

fn bye(desk: &mut Desk, tag: &str, ok: &Sent) -> Sent {
    let sent = desk.receive(CARRIER, &from_caller("BYE", 2, tag, ok, ""));
    first(&sent, "BYE").clone()
}

//= rfc3261#16.7
#[test]
fn each_2xx_of_a_fork_is_passed_and_has_its_own_ack_and_bye() {
    let mut desk = Desk::new(CONFIG);
    let answers = two_answers(&mut desk);
    for (tag, ok) in ["b", "d"].iter().zip(&answers) {
        let to = ok.header("To").expect("a To");
        assert!(to.ends_with(&format!("tag={tag}")), "{to}");
        let ack = desk.receive(CARRIER, &from_caller("ACK", 1, tag, ok, ""));
        assert_eq!(ack.len(), 1);
        assert!(ack[0].text.contains(&format!("tag={tag}")));
    }
    let first_bye = bye(&mut desk, "d", &answers[1]);
    desk.receive(PHONE, &answer(&first_bye, "200 OK", ""));
    assert_eq!(limits(&desk), BUSY, "the other fork is talking");
    let last_bye = bye(&mut desk, "b", &answers[0]);
    assert_eq!(limits(&desk), BUSY, "its BYE is not answered yet");
    desk.receive(PHONE, &answer(&last_bye, "200 OK", ""));
    assert_eq!(limits(&desk), FREE);
    desk.assert_nothing_left();
}

#[test]
fn the_lease_is_held_until_the_last_of_two_byes_is_answered() {
    let mut desk = Desk::new(CONFIG);
    let answers = two_answers(&mut desk);
    let byes = [
        bye(&mut desk, "b", &answers[0]),
        bye(&mut desk, "d", &answers[1]),
    ];
    desk.receive(PHONE, &answer(&byes[0], "200 OK", ""));
    assert_eq!(limits(&desk), BUSY);
    desk.receive(PHONE, &answer(&byes[0], "200 OK", ""));
    assert_eq!(
        limits(&desk),
        BUSY,
        "an answer that comes twice ends nothing twice"
    );
    desk.receive(PHONE, &answer(&byes[1], "481 Gone", ""));
    assert_eq!(limits(&desk), FREE);
    desk.assert_nothing_left();
}

#[test]
fn a_callee_with_more_early_tags_than_are_remembered_still_confirms_its_call() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    for tag in 0..40 {
        let tag = format!("early{tag}");
        desk.receive(PBX, &answer_as(&tag, &invite, "183 Session Progress", ""));
    }
    let passed = desk.receive(PBX, &ok(&invite));
    let ok = first(&passed, "SIP/2.0 200").clone();
    hang_up(&mut desk, &ok);
    assert_eq!(limits(&desk), FREE);
    desk.assert_nothing_left();
}

#[test]
fn early_dialogs_of_other_calls_take_no_call_its_dialog() {
    let small = CONFIG.replace(
        "[trunk.carrier]",
        "[capacity]\ndialogs = 4\ntransactions = 64\n[trunk.carrier]",
    );
    let mut desk = Desk::new(&small);
    let mut invites = Vec::new();
    for call in ["c1", "c2", "c3", "c4"] {
        let text = invite(call, "").replace("Call-ID: c1", &format!("Call-ID: {call}"));
        let sent = desk.receive(CARRIER, &text);
        invites.push(first(&sent, "INVITE").clone());
    }
    for invite in &invites[1..] {
        for tag in 0..16 {
            desk.receive(
                PBX,
                &answer_as(&format!("early{tag}"), invite, "183 Session Progress", ""),
            );
        }
    }
    let passed = desk.receive(PBX, &ok(&invites[0]));
    let ok = first(&passed, "SIP/2.0 200").clone();
    hang_up(&mut desk, &ok);
    assert_eq!(limits(&desk), ((3, 0), (0, 3)));
}

//= rfc3262#3
#[test]
fn prack_update_and_info_pass_inside_an_early_dialog() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    let reliable = "Require: 100rel\nRSeq: 1\nContact: <sip:bob@203.0.113.5:5070>";
    let passed = desk.receive(PBX, &answer(&invite, "183 Session Progress", reliable));
    let early = first(&passed, "SIP/2.0 183").clone();
    assert_eq!(early.header("RSeq"), Some("1"));
    for (cseq, method, extra) in [
        (2, "PRACK", "RAck: 1 1 INVITE"),
        (3, "UPDATE", ""),
        (4, "INFO", ""),
    ] {
        let sent = desk.receive(CARRIER, &from_caller(method, cseq, "b", &early, extra));
        assert_eq!(
            lines(&sent),
            [format!(
                "{method} sip:bob@203.0.113.5:5070 SIP/2.0 > 203.0.113.5:5070"
            )]
        );
        assert_eq!(sent[0].headers("Route").count(), 0);
        assert_eq!(sent[0].headers("Record-Route").count(), 0);
        let done = desk.receive(PHONE, &answer(&sent[0], "200 OK", ""));
        assert_eq!(lines(&done), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    }
    let update = desk.receive(PHONE, &from_callee("UPDATE", 1, &invite, ""));
    assert_eq!(
        lines(&update),
        ["UPDATE sip:alice@198.51.100.10:5060 SIP/2.0 > 198.51.100.10:5060"]
    );
    desk.receive(CARRIER, &answer(&update[0], "200 OK", ""));
    let passed = desk.receive(PBX, &ok(&invite));
    let ok = passed[0].clone();
    hang_up(&mut desk, &ok);
    desk.assert_nothing_left();
}

//= rfc3261#15
#[test]
fn a_bye_in_an_early_dialog_leaves_the_end_to_the_answer_of_the_invite() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    let passed = desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    let bye = bye(&mut desk, "b", &passed[0]);
    desk.receive(PHONE, &answer(&bye, "200 OK", ""));
    assert_eq!(limits(&desk), BUSY);
    desk.receive(PBX, &answer(&invite, "487 Request Terminated", ""));
    assert_eq!(limits(&desk), FREE);
    desk.receive(CARRIER, &ack_of_refusal("1"));
    desk.assert_nothing_left();
}

#[test]
fn a_2xx_that_comes_behind_the_end_of_its_early_dialog_holds_no_lease() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    let passed = desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    let bye = bye(&mut desk, "b", &passed[0]);
    desk.receive(PHONE, &answer(&bye, "200 OK", ""));
    let late = desk.receive(PBX, &ok(&invite));
    assert_eq!(lines(&late), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    assert_eq!(limits(&desk), FREE);
    desk.assert_nothing_left();
}

/// Found by the simulator: on a lossy network the BYE arrives and the 2xx before it does not.
#[test]
fn a_bye_that_overtakes_the_2xx_of_its_dialog_leaves_no_call_behind() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    let sent = desk.receive(PBX, &from_callee("BYE", 7, &invite, ""));
    let bye = first(&sent, "BYE").clone();
    let late = desk.receive(PBX, &ok(&invite));
    assert_eq!(lines(&late), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    assert_eq!(limits(&desk), BUSY);
    desk.receive(CARRIER, &answer(&bye, "481 Gone", ""));
    assert_eq!(limits(&desk), FREE);
    desk.receive(PBX, &ok(&invite));
    assert_eq!(limits(&desk), FREE);
    desk.assert_nothing_left();
}

#[test]
fn a_reinvite_passes_both_ways_with_its_ack() {
    let mut desk = Desk::new(CONFIG);
    let (invite, ok) = talk(&mut desk);
    let again = desk.receive(CARRIER, &from_caller("INVITE", 2, "b", &ok, ""));
    assert_eq!(
        lines(&again),
        [
            "SIP/2.0 100 Trying > 198.51.100.10:5060",
            "INVITE sip:bob@203.0.113.5:5070 SIP/2.0 > 203.0.113.5:5070"
        ]
    );
    let done = desk.receive(PHONE, &answer(&again[1], "200 OK", ""));
    assert_eq!(lines(&done), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    let ack = desk.receive(CARRIER, &from_caller("ACK", 2, "b", &ok, ""));
    assert_eq!(
        lines(&ack),
        ["ACK sip:bob@203.0.113.5:5070 SIP/2.0 > 203.0.113.5:5070"]
    );

    let back = desk.receive(PHONE, &from_callee("INVITE", 7, &invite, ""));
    assert_eq!(
        lines(&back),
        [
            "SIP/2.0 100 Trying > 203.0.113.5:5070",
            "INVITE sip:alice@198.51.100.10:5060 SIP/2.0 > 198.51.100.10:5060"
        ]
    );
    let done = desk.receive(CARRIER, &answer(&back[1], "200 OK", ""));
    assert_eq!(lines(&done), ["SIP/2.0 200 OK > 203.0.113.5:5070"]);
    let ack = desk.receive(PHONE, &from_callee("ACK", 7, &invite, ""));
    assert_eq!(
        lines(&ack),
        ["ACK sip:alice@198.51.100.10:5060 SIP/2.0 > 198.51.100.10:5060"]
    );
    assert_eq!(limits(&desk), BUSY);
    hang_up(&mut desk, &ok);
    desk.assert_nothing_left();
}

//= rfc3261#14.1
#[test]
fn glare_of_two_reinvites_is_the_peers_business_and_491_passes() {
    let mut desk = Desk::new(CONFIG);
    let (invite, ok) = talk(&mut desk);
    let there = desk.receive(CARRIER, &from_caller("INVITE", 2, "b", &ok, ""));
    let back = desk.receive(PHONE, &from_callee("INVITE", 7, &invite, ""));
    let refused = desk.receive(
        PHONE,
        &answer(first(&there, "INVITE"), "491 Request Pending", ""),
    );
    assert_eq!(
        lines(&refused),
        [
            "ACK sip:bob@203.0.113.5:5070 SIP/2.0 > 203.0.113.5:5070",
            "SIP/2.0 491 Request Pending > 198.51.100.10:5060"
        ]
    );
    let refused = desk.receive(
        CARRIER,
        &answer(first(&back, "INVITE"), "491 Request Pending", ""),
    );
    assert_eq!(refused.len(), 2);
    assert_eq!(limits(&desk), BUSY, "a refused re-INVITE ends no call");
    hang_up(&mut desk, &ok);
}

#[test]
fn a_reinvite_is_cancelled_and_the_call_goes_on() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    let text = from_caller("INVITE", 2, "b", &ok, "");
    let sent = desk.receive(CARRIER, &text);
    let invite = first(&sent, "INVITE").clone();
    desk.receive(PHONE, &answer(&invite, "180 Ringing", ""));
    let cancelled = desk.receive(
        CARRIER,
        &text
            .replace("INVITE", "CANCEL")
            .replace("z9hG4bKaCANCEL", "z9hG4bKaINVITE"),
    );
    assert_eq!(
        lines(&cancelled),
        [
            "SIP/2.0 200 OK > 198.51.100.10:5060",
            "CANCEL sip:bob@203.0.113.5:5070 SIP/2.0 > 203.0.113.5:5070"
        ]
    );
    desk.receive(PHONE, &answer(&cancelled[1], "200 OK", ""));
    let ended = desk.receive(PHONE, &answer(&invite, "487 Request Terminated", ""));
    assert!(!none(&ended, "SIP/2.0 487"));
    assert_eq!(limits(&desk), BUSY);
    hang_up(&mut desk, &ok);
}

#[test]
fn an_unanswered_reinvite_is_answered_408_and_the_call_goes_on() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    desk.receive(CARRIER, &from_caller("INVITE", 2, "b", &ok, ""));
    let sent = desk.wait(Duration::from_secs(33));
    assert_eq!(
        first(&sent, "SIP/2.0").start_line(),
        "SIP/2.0 408 Request Timeout"
    );
    assert_eq!(limits(&desk), BUSY);
    hang_up(&mut desk, &ok);
}

#[test]
fn a_reinvite_of_a_call_that_a_restart_forgot_is_a_call_of_the_route_table() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    hang_up(&mut desk, &ok);
    // Neither a made-up To tag nor our own Record-Route of another day leads past the table.
    for route in [caller_route(&ok), String::new()] {
        let text = sip(&format!(
            "INVITE sip:900@192.0.2.66:5060 SIP/2.0
             Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKr{}
             Max-Forwards: 70
             From: <sip:alice@198.51.100.10>;tag=a
             To: <sip:100@192.0.2.1>;tag=gone
             Call-ID: c1
             CSeq: 91 INVITE
             {route}",
            route.len()
        ));
        let sent = desk.receive(CARRIER, &text);
        let invite = first(&sent, "INVITE").clone();
        assert_eq!(invite.to.to_string(), PBX);
        assert_eq!(invite.headers("Route").count(), 0);
        assert_eq!(limits(&desk), BUSY);
        desk.receive(PBX, &answer(&invite, "481 Gone", ""));
        assert_eq!(limits(&desk), FREE);
    }
    let sent = desk.receive("192.0.2.77:5060", &from_caller("INVITE", 92, "b", &ok, ""));
    assert_eq!(lines(&sent), ["SIP/2.0 403 Forbidden > 192.0.2.77:5060"]);
    desk.assert_nothing_left();
}

#[test]
fn refer_and_its_notify_pass_inside_the_dialog() {
    let mut desk = Desk::new(CONFIG);
    let (invite, ok) = talk(&mut desk);
    let refer = desk.receive(
        CARRIER,
        &from_caller("REFER", 2, "b", &ok, "Refer-To: <sip:carol@example.com>"),
    );
    assert_eq!(
        lines(&refer),
        ["REFER sip:bob@203.0.113.5:5070 SIP/2.0 > 203.0.113.5:5070"]
    );
    let accepted = desk.receive(PHONE, &answer(&refer[0], "202 Accepted", ""));
    assert_eq!(
        lines(&accepted),
        ["SIP/2.0 202 Accepted > 198.51.100.10:5060"]
    );
    let notify = "Event: refer\nSubscription-State: active";
    let notify = desk.receive(PHONE, &from_callee("NOTIFY", 1, &invite, notify));
    assert_eq!(
        lines(&notify),
        ["NOTIFY sip:alice@198.51.100.10:5060 SIP/2.0 > 198.51.100.10:5060"]
    );
    hang_up(&mut desk, &ok);
}

#[test]
fn byes_that_cross_end_the_call_once() {
    let mut desk = Desk::new(CONFIG);
    let (invite, ok) = talk(&mut desk);
    let there = bye(&mut desk, "b", &ok);
    let back = desk.receive(PHONE, &from_callee("BYE", 3, &invite, ""));
    assert_eq!(
        lines(&back),
        ["BYE sip:alice@198.51.100.10:5060 SIP/2.0 > 198.51.100.10:5060"]
    );
    let one = desk.receive(PHONE, &answer(&there, "200 OK", ""));
    let other = desk.receive(CARRIER, &answer(&back[0], "200 OK", ""));
    assert_eq!(lines(&one), ["SIP/2.0 200 OK > 198.51.100.10:5060"]);
    assert_eq!(lines(&other), ["SIP/2.0 200 OK > 203.0.113.5:5070"]);
    assert_eq!(limits(&desk), FREE);
    desk.assert_nothing_left();
}

#[test]
fn any_final_answer_to_a_bye_or_none_ends_the_call() {
    for status in ["481 Call Leg Gone", "500 Server Error", "603 Decline"] {
        let mut desk = Desk::new(CONFIG);
        let (_, ok) = talk(&mut desk);
        let bye = bye(&mut desk, "b", &ok);
        let done = desk.receive(PHONE, &answer(&bye, status, ""));
        assert_eq!(
            lines(&done),
            [format!("SIP/2.0 {status} > 198.51.100.10:5060")]
        );
        assert_eq!(limits(&desk), FREE, "{status}");
        desk.assert_nothing_left();
    }
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    bye(&mut desk, "b", &ok);
    let sent = desk.wait(Duration::from_secs(33));
    assert_eq!(limits(&desk), FREE);
    assert!(none(&sent, "SIP/2.0 408"), "RFC 4320 §4.2");
    desk.assert_nothing_left();
}

#[test]
fn a_bye_that_the_network_refuses_ends_the_call() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    let bye = bye(&mut desk, "b", &ok);
    let sent = desk.bounce(&bye);
    assert!(!none(&sent, "SIP/2.0 500"));
    assert_eq!(limits(&desk), FREE);
    desk.assert_nothing_left();
}

#[test]
fn a_bye_to_a_contact_that_is_nobody_ends_the_call_all_the_same() {
    for contact in [
        "0.0.0.0",
        "224.0.1.75",
        "255.255.255.255",
        "192.0.2.9:0",
        "[::]",
    ] {
        let mut desk = Desk::new(CONFIG);
        let (_, ok) = talk(&mut desk);
        let text = from_caller("BYE", 2, "b", &ok, "").replace("203.0.113.5:5070", contact);
        let sent = desk.receive(CARRIER, &text);
        assert!(none(&sent, "BYE"), "{contact}: {:?}", lines(&sent));
        assert_eq!(limits(&desk), FREE, "{contact}");
    }
}

#[test]
fn a_repeated_bye_is_answered_from_memory() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    let text = from_caller("BYE", 2, "b", &ok, "");
    let sent = desk.receive(CARRIER, &text);
    assert!(
        desk.receive(CARRIER, &text).is_empty(),
        "nothing to repeat yet"
    );
    desk.receive(PHONE, &answer(first(&sent, "BYE"), "200 OK", ""));
    assert_eq!(
        lines(&desk.receive(CARRIER, &text)),
        ["SIP/2.0 200 OK > 198.51.100.10:5060"]
    );
    desk.assert_nothing_left();
}

#[test]
fn a_callee_without_tag_has_a_dialog_as_rfc_2543_made_them() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    let bare = ok(&invite).replace(";tag=b", "");
    let passed = desk.receive(PBX, &bare);
    let bye = from_caller("BYE", 2, "b", &passed[0], "").replace(";tag=b", "");
    let sent = desk.receive(CARRIER, &bye);
    assert_eq!(
        lines(&sent),
        ["BYE sip:bob@203.0.113.5:5070 SIP/2.0 > 203.0.113.5:5070"]
    );
    desk.receive(PHONE, &answer(&sent[0], "200 OK", "").replace(";tag=b", ""));
    assert_eq!(limits(&desk), FREE);
}
