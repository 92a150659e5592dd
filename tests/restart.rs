//! What a shard does with the calls that another one has recorded before it: counts them, knows
//! their requests, and ends them in time by the wall clock.

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::time::Duration;

use callgate::dialog::store::{FILE_HEAD_OCTETS, INVITE_OCTETS_MAX, POSITION_OCTETS, Wall};
use callgate::metrics::Counter;
use callgate::shard::mail::{Ask, CallFilter};
use kit::talk::*;
use kit::{Desk, Sent};

const HOUR: Duration = Duration::from_secs(3600);

fn desk(more: &str) -> Desk {
    let mut desk = Desk::new(&CONFIG.replace("[trunk.pbx]", &format!("[trunk.pbx]\n{more}")));
    desk.keep_calls(10);
    desk
}

/// Brings a call up and gives the Record-Route of its 2xx.
fn call(desk: &mut Desk) -> String {
    let sent = desk.receive(CARRIER, &invite("1", "Supported: timer"));
    let invite = first(&sent, "INVITE").clone();
    let sent = desk.receive(PBX, &ok(&invite));
    let ok = first(&sent, "SIP/2.0 200");
    ok.header("Record-Route").expect("ours").to_owned()
}

/// The next shard on the same region, so much later by the wall clock.
fn restarted(old: Desk, more: &str, later: Duration) -> Desk {
    let config = CONFIG.replace("[trunk.pbx]", &format!("[trunk.pbx]\n{more}"));
    restarted_on(old, &config, later)
}

fn restarted_on(mut old: Desk, config: &str, later: Duration) -> Desk {
    let region = old.shard.leave_records().expect("a region");
    let mut new = Desk::new(config);
    let gone_us = (old.now.as_micros() + later.as_micros() as u64) - new.now.as_micros();
    let recalled = new.keep_calls_in(region, Wall { start_us: gone_us });
    assert_eq!(recalled.refused, 0);
    new
}

fn bye(from: &str, route: &str) -> String {
    let (via, from, to, target) = match from {
        CARRIER => (
            CARRIER,
            "<sip:alice@198.51.100.10>;tag=a",
            "<sip:100@192.0.2.1>;tag=b",
            "sip:bob@203.0.113.5:5070",
        ),
        _ => (
            PBX,
            "<sip:100@192.0.2.1>;tag=b",
            "<sip:alice@198.51.100.10>;tag=a",
            "sip:alice@198.51.100.10:5060",
        ),
    };
    sip(&format!(
        "BYE {target} SIP/2.0
         Via: SIP/2.0/UDP {via};branch=z9hG4bKbye
         Max-Forwards: 70
         Route: {route}
         From: {from}
         To: {to}
         Call-ID: c1
         CSeq: 2 BYE"
    ))
}

fn hang_up(desk: &mut Desk, from: &str, route: &str) -> Vec<Sent> {
    let sent = desk.receive(from, &bye(from, route));
    let forwarded = first(&sent, "BYE").clone();
    let to = forwarded.to.to_string();
    desk.receive(&to, &answer(&forwarded, "200 OK", ""))
}

#[test]
fn a_call_is_counted_again_and_its_bye_is_routed_from_either_side() {
    for from in [CARRIER, PBX] {
        let mut old = desk("");
        let route = call(&mut old);
        let mut new = restarted(old, "", Duration::from_secs(60));
        assert_eq!((new.used(0), new.used(1)), ((1, 0), (0, 1)));
        let sent = hang_up(&mut new, from, &route);
        assert_eq!(first(&sent, "SIP/2.0 200").to.to_string(), from);
        assert!(new.is_idle());
        new.assert_nothing_left();
    }
}

#[test]
fn a_call_that_has_ended_is_not_there_again() {
    let mut old = desk("");
    let route = call(&mut old);
    hang_up(&mut old, CARRIER, &route);
    assert!(old.is_idle());
    assert!(restarted(old, "", Duration::ZERO).is_idle());
}

#[test]
fn its_age_goes_on() {
    let mut old = desk("");
    call(&mut old);
    old.wait(HOUR);
    let mut new = restarted(old, "", Duration::from_secs(60));
    let (reply, page) = crossbeam::channel::bounded(1);
    new.ask(Ask::Calls {
        from_index: 0,
        rows_max: 10,
        filter: CallFilter::default(),
        reply,
    });
    let rows = page.recv().expect("an answer").rows;
    let answered_for = rows[0].answered_for.expect("answered");
    assert_eq!(answered_for.as_secs(), 3660);
    assert_eq!(
        (rows[0].call_id.as_str(), rows[0].state),
        ("c1", "answered")
    );
}

#[test]
fn the_session_timer_goes_on_by_the_wall_clock() {
    let more = "session_expires = \"30m\"";
    let mut old = desk(more);
    call(&mut old);
    let mut new = restarted(old, more, Duration::from_secs(1000));
    new.wait(Duration::from_secs(790));
    assert!(!new.is_idle());
    new.wait(Duration::from_secs(11));
    assert!(new.is_idle());
}

#[test]
fn a_session_that_ran_out_meanwhile_has_time_for_a_refresh_that_is_repeated() {
    let more = "session_expires = \"30m\"";
    let mut old = desk(more);
    call(&mut old);
    let mut new = restarted(old, more, HOUR);
    new.wait(Duration::from_secs(31));
    assert!(!new.is_idle());
    new.wait(Duration::from_secs(2));
    assert!(new.is_idle());
}

#[test]
fn call_time_max_goes_on_and_both_ends_hear_a_bye() {
    let more = "call_time_max = \"1h\"";
    let mut old = desk(more);
    call(&mut old);
    let mut new = restarted(old, more, Duration::from_secs(3000));
    assert!(new.wait(Duration::from_secs(590)).is_empty());
    let sent = new.wait(Duration::from_secs(20));
    let byes = lines(&sent);
    assert!(
        byes.contains(&format!("BYE sip:bob@203.0.113.5:5070 SIP/2.0 > {PHONE}")),
        "{byes:?}"
    );
    assert!(
        byes.contains(&format!(
            "BYE sip:alice@198.51.100.10:5060 SIP/2.0 > {CARRIER}"
        )),
        "{byes:?}"
    );
    assert!(new.is_idle());
}

#[test]
fn a_bye_that_was_under_way_is_waited_for_as_long_as_it_is_repeated() {
    let mut old = desk("");
    let route = call(&mut old);
    old.receive(CARRIER, &bye(CARRIER, &route));
    let mut new = restarted(old, "", Duration::ZERO);
    assert_eq!(new.used(0), (1, 0));
    new.wait(Duration::from_secs(33));
    assert!(new.is_idle());
}

#[test]
fn a_second_restart_finds_what_the_first_one_restored() {
    let mut old = desk("");
    let route = call(&mut old);
    let new = restarted(old, "", HOUR);
    let mut newest = restarted(new, "", HOUR);
    assert_eq!(newest.used(1), (0, 1));
    hang_up(&mut newest, PBX, &route);
    assert!(newest.is_idle());
    assert!(restarted(newest, "", HOUR).is_idle());
}

#[test]
fn the_highest_cseq_of_each_side_is_known_again() {
    let more = "cseq = \"strict\"";
    let mut old = desk(more);
    let route = call(&mut old);
    let info = |cseq: u32, method: &str| {
        let text = bye(PBX, &route).replace("2 BYE", &format!("{cseq} {method}"));
        text.replacen("BYE", method, 1)
            .replace("bye", &format!("{method}{cseq}"))
    };
    let sent = old.receive(PBX, &info(20, "INFO"));
    assert!(
        sent.iter()
            .any(|sent| sent.start_line().starts_with("INFO"))
    );
    let mut new = restarted(old, more, Duration::ZERO);
    let sent = new.receive(PBX, &info(19, "INVITE"));
    assert!(
        first(&sent, "SIP/2.0 500")
            .start_line()
            .starts_with("SIP/2.0 500")
    );
}

/// A call that is being set up; gives the INVITE as it went out.
fn begin(desk: &mut Desk) -> Sent {
    let sent = desk.receive(CARRIER, &invite("1", "Supported: timer"));
    first(&sent, "INVITE").clone()
}

fn ring(desk: &mut Desk, invite: &Sent) {
    let sent = desk.receive(PBX, &answer(invite, "180 Ringing", ""));
    assert_eq!(lines(&sent), [format!("SIP/2.0 180 Ringing > {CARRIER}")]);
}

#[test]
fn a_call_that_rang_is_counted_again_and_is_answered_and_ends() {
    let mut old = desk("");
    let invite = begin(&mut old);
    ring(&mut old, &invite);
    let mut new = restarted(old, "", Duration::from_secs(1));
    assert_eq!((new.used(0), new.used(1)), ((1, 0), (0, 1)));
    ring(&mut new, &invite);
    let sent = new.receive(PBX, &ok(&invite));
    let answered = first(&sent, "SIP/2.0 200").clone();
    assert_eq!(answered.to.to_string(), CARRIER);
    let route = answered.header("Record-Route").expect("ours").to_owned();
    // Now it is an answered call, for the next restart too.
    let mut newest = restarted(new, "", Duration::from_secs(1));
    assert_eq!((newest.used(0), newest.used(1)), ((1, 0), (0, 1)));
    hang_up(&mut newest, CARRIER, &route);
    assert!(newest.is_idle());
    assert!(restarted(newest, "", Duration::ZERO).is_idle());
}

#[test]
fn the_callers_repeated_invite_is_answered_with_100_and_is_no_second_call() {
    let mut old = desk("");
    begin(&mut old);
    let mut new = restarted(old, "", Duration::from_millis(300));
    let sent = new.receive(CARRIER, &invite("1", "Supported: timer"));
    assert_eq!(lines(&sent), [format!("SIP/2.0 100 Trying > {CARRIER}")]);
    assert_eq!(new.used(0), (1, 0));
}

#[test]
fn an_invite_without_an_answer_is_repeated_octet_for_octet_and_then_given_up() {
    for more in ["", "session_expires = \"30m\""] {
        let mut old = desk(more);
        let sent = begin(&mut old);
        let mut new = restarted(old, more, Duration::from_millis(300));
        let repeated = new.wait(Duration::from_secs(1));
        let again = first(&repeated, "INVITE");
        assert_eq!((&again.text, again.to), (&sent.text, sent.to));
        let sent = new.wait(Duration::from_secs(60));
        assert_eq!(first(&sent, "SIP/2.0 503").to.to_string(), CARRIER);
        new.receive(CARRIER, &ack_of_refusal("1"));
        assert!(new.is_idle());
        new.wait(Duration::from_secs(60));
        new.assert_nothing_left();
    }
}

#[test]
fn a_phone_that_rings_for_ever_is_cancelled_by_timer_c() {
    let mut old = desk("");
    let invite = begin(&mut old);
    ring(&mut old, &invite);
    let mut new = restarted(old, "", Duration::from_secs(1));
    let sent = new.wait(Duration::from_secs(181));
    let cancel = first(&sent, "CANCEL");
    assert_eq!(cancel.header("Via"), invite.headers("Via").next());
    let sent = new.receive(PBX, &answer(&invite, "487 Request Terminated", ""));
    assert!(sent.iter().any(|sent| sent.start_line().starts_with("ACK")));
    assert!(new.is_idle());
}

#[test]
fn a_refusal_is_acknowledged_by_us_and_passed_on() {
    let mut old = desk("");
    let invite = begin(&mut old);
    let mut new = restarted(old, "", Duration::ZERO);
    let sent = new.receive(PBX, &answer(&invite, "486 Busy Here", ""));
    let ack = first(&sent, "ACK");
    assert_eq!(ack.to.to_string(), PBX);
    assert_eq!(
        ack.start_line(),
        invite.start_line().replace("INVITE", "ACK")
    );
    assert_eq!(first(&sent, "SIP/2.0 486").to.to_string(), CARRIER);
    assert!(new.is_idle());
    // It is repeated until the caller's ACK.
    let sent = new.wait(Duration::from_millis(600));
    assert!(
        sent.iter()
            .any(|sent| sent.start_line().starts_with("SIP/2.0 486"))
    );
    new.receive(CARRIER, &ack_of_refusal("1"));
    assert!(new.wait(Duration::from_secs(4)).is_empty());
}

#[test]
fn a_cancel_stops_the_phone_that_rings() {
    let mut old = desk("");
    let invite = begin(&mut old);
    ring(&mut old, &invite);
    let mut new = restarted(old, "", Duration::ZERO);
    let sent = new.receive(CARRIER, &cancel("1", ""));
    assert_eq!(first(&sent, "SIP/2.0 200").to.to_string(), CARRIER);
    let cancel = first(&sent, "CANCEL").clone();
    assert_eq!(cancel.to.to_string(), PBX);
    assert_eq!(cancel.header("Via"), invite.headers("Via").next());
    new.receive(PBX, &answer(&cancel, "200 OK", ""));
    let sent = new.receive(PBX, &answer(&invite, "487 Request Terminated", ""));
    assert_eq!(first(&sent, "SIP/2.0 487").to.to_string(), CARRIER);
    assert!(new.is_idle());
}

#[test]
fn a_cancel_of_before_goes_out_again_or_waits_for_the_first_answer() {
    let mut old = desk("");
    let invite = begin(&mut old);
    ring(&mut old, &invite);
    old.receive(CARRIER, &cancel("1", ""));
    let mut new = restarted(old, "", Duration::ZERO);
    let sent = new.wait(Duration::from_millis(10));
    assert_eq!(first(&sent, "CANCEL").to.to_string(), PBX);
    // The callee never answers: 64*T1 later the caller has its 487.
    let sent = new.wait(Duration::from_secs(33));
    assert_eq!(first(&sent, "SIP/2.0 487").to.to_string(), CARRIER);
    assert!(new.is_idle());

    let mut old = desk("");
    let invite = begin(&mut old);
    old.receive(CARRIER, &cancel("1", ""));
    let mut new = restarted(old, "", Duration::ZERO);
    let sent = new.receive(PBX, &answer(&invite, "180 Ringing", ""));
    assert_eq!(first(&sent, "CANCEL").to.to_string(), PBX);
}

#[test]
fn after_a_503_the_next_member_is_tried_which_had_not_been() {
    let config = of_two();
    let mut old = Desk::new(&config);
    old.keep_calls(10);
    let tried = begin(&mut old);
    assert_eq!(tried.to.to_string(), PBX);
    let mut new = restarted_on(old, &config, Duration::ZERO);
    let sent = new.receive(PBX, &answer(&tried, "503 Service Unavailable", ""));
    assert_eq!(first(&sent, "ACK").to.to_string(), PBX);
    let next = first(&sent, "INVITE").clone();
    assert_eq!(next.to.to_string(), "203.0.113.6:5060");
    let mut newest = restarted_on(new, &config, Duration::ZERO);
    let sent = newest.receive("203.0.113.6:5060", &answer(&next, "503 No", ""));
    assert_eq!(first(&sent, "SIP/2.0 500").to.to_string(), CARRIER);
    assert!(newest.is_idle());
}

#[test]
fn a_set_up_to_a_trunk_that_is_gone_goes_on_and_has_no_further_candidate() {
    let mut old = desk("");
    let invite = begin(&mut old);
    ring(&mut old, &invite);
    let other = CONFIG.replace("[trunk.pbx]", "[trunk.other]");
    let other = other.replace("\"pbx\"", "\"other\"");
    let mut new = restarted_on(old, &other, Duration::ZERO);
    let sent = new.receive(PBX, &answer(&invite, "503 Service Unavailable", ""));
    assert_eq!(first(&sent, "SIP/2.0 500").to.to_string(), CARRIER);
    assert!(new.is_idle());
}

#[test]
fn the_answer_to_a_bye_of_before_is_passed_on_and_ends_the_call() {
    for (from, other) in [(CARRIER, PHONE), (PBX, CARRIER)] {
        let mut old = desk("");
        let route = call(&mut old);
        let sent = old.receive(from, &bye(from, &route));
        let forwarded = first(&sent, "BYE").clone();
        assert_eq!(forwarded.to.to_string(), other);
        let mut new = restarted(old, "", Duration::ZERO);
        let sent = new.receive(other, &answer(&forwarded, "200 OK", ""));
        assert_eq!(lines(&sent), [format!("SIP/2.0 200 OK > {from}")]);
        assert!(new.is_idle());
        assert_eq!(new.count(Counter::AnswersInherited), 1);
    }
}

#[test]
fn a_refusal_whose_record_was_struck_before_it_left_is_acknowledged_and_passed_by_its_via() {
    let mut old = desk("");
    let invite = begin(&mut old);
    let refusal = answer(&invite, "486 Busy Here", "");
    // What the old shard sends is lost with it. Another call makes the new one an heir.
    old.receive(PBX, &refusal);
    old.receive(CARRIER, &self::invite("2", "").replace("c1", "c2"));
    let mut new = restarted(old, "", Duration::ZERO);
    let sent = new.receive(PBX, &refusal);
    assert_eq!(first(&sent, "ACK").to.to_string(), PBX);
    assert_eq!(first(&sent, "SIP/2.0 486").to.to_string(), CARRIER);
    // No longer than a transaction lives.
    new.wait(Duration::from_secs(33));
    assert!(new.receive(PBX, &refusal).is_empty());
    assert_eq!(new.count(Counter::DroppedStrayResponse), 1);
}

#[test]
fn an_answer_of_before_goes_to_no_stranger() {
    let mut old = desk("");
    let route = call(&mut old);
    let sent = old.receive(CARRIER, &bye(CARRIER, &route));
    let forwarded = first(&sent, "BYE").clone();
    let mut new = restarted(old, "", Duration::ZERO);
    let forged = answer(&forwarded, "200 OK", "").replace(
        "Via: SIP/2.0/UDP 198.51.100.10:5060",
        "Via: SIP/2.0/UDP 192.0.2.66:5060",
    );
    assert!(new.receive(PHONE, &forged).is_empty());
    assert!(new.is_idle(), "the BYE was answered all the same");
}

#[test]
fn a_call_with_both_records_is_one_answered_call() {
    let mut old = desk("");
    let invite = begin(&mut old);
    let ringing = old
        .shard
        .leave_records()
        .expect("a region")
        .octets()
        .to_vec();
    let mut old = desk("");
    let region = Box::new(ringing.clone());
    old.keep_calls_in(region, Wall { start_us: 0 });
    old.receive(PBX, &ok(&invite));
    let mut both = old
        .shard
        .leave_records()
        .expect("a region")
        .octets()
        .to_vec();
    let setups = FILE_HEAD_OCTETS + 10 * POSITION_OCTETS;
    both[setups..].copy_from_slice(&ringing[setups..]);
    let mut new = desk("");
    let recalled = new.keep_calls_in(Box::new(both), Wall { start_us: 0 });
    assert_eq!((recalled.tally.calls, recalled.tally.setups), (1, 1));
    assert_eq!(recalled.refused, 0);
    assert_eq!((new.used(0), new.used(1)), ((1, 0), (0, 1)));
}

#[test]
fn a_set_up_without_a_place_or_with_too_long_an_invite_is_counted_and_goes_on() {
    let mut old = Desk::new(CONFIG);
    old.keep_calls(1);
    begin(&mut old);
    let second = invite("2", "").replace("c1", "c2");
    let sent = old.receive(CARRIER, &second);
    assert!(
        sent.iter()
            .any(|sent| sent.start_line().starts_with("INVITE"))
    );
    assert_eq!(old.count(Counter::SetupsNotRecorded), 1);

    let mut old = desk("");
    let long = format!("X-Long: {}", "x".repeat(INVITE_OCTETS_MAX));
    let sent = old.receive(CARRIER, &invite("1", &long));
    let invite = first(&sent, "INVITE").clone();
    assert_eq!(old.count(Counter::SetupsNotRecorded), 1);
    ring(&mut old, &invite);
    assert_eq!(old.count(Counter::SetupsNotRecorded), 1, "once per call");
    assert!(restarted(old, "", Duration::ZERO).is_idle());
}

#[test]
fn a_bye_that_overtook_its_2xx_is_waited_for_like_any_other() {
    let mut old = desk("");
    let invite = begin(&mut old);
    let route = invite.header("Record-Route").expect("ours").to_owned();
    let sent = old.receive(PBX, &bye(PBX, &route));
    assert_eq!(first(&sent, "BYE").to.to_string(), CARRIER);
    let sent = old.receive(PBX, &ok(&invite));
    assert_eq!(first(&sent, "SIP/2.0 200").to.to_string(), CARRIER);
    let mut new = restarted(old, "", Duration::from_secs(1));
    assert_eq!((new.used(0), new.used(1)), ((1, 0), (0, 1)));
    new.wait(Duration::from_secs(33));
    assert!(new.is_idle());
}

/// Two members, tried in this order.
fn of_two() -> String {
    CONFIG.replace(
        "[[route]]\nfrom = [\"carrier\"]\nto = \"pbx\"",
        "[trunk.pbx2]\naddress = \"203.0.113.6:5060\"\n\
         [group.farm]\npolicy = \"priority\"\nmembers = [\"pbx\", \"pbx2\"]\n\
         [[route]]\nfrom = [\"carrier\"]\nto = \"farm\"",
    )
}

/// A call whose first member is silent: the INVITE to it and the one to the second.
fn moved_on(desk: &mut Desk) -> (Sent, Sent) {
    let silent = begin(desk);
    for _ in 0..100 {
        let sent = desk.wait(Duration::from_millis(500));
        let mut others = sent.iter().filter(|sent| sent.to != silent.to);
        if let Some(next) = others.find(|sent| sent.start_line().starts_with("INVITE")) {
            return (silent, next.clone());
        }
    }
    panic!("the second member was never tried");
}

/// What a late 486 of the first member has the node send: method and receiver.
fn refused_by(desk: &mut Desk, silent: &Sent) -> Vec<String> {
    let sent = desk.receive(PBX, &answer(silent, "486 Busy Here", ""));
    let method = |sent: &Sent| sent.start_line().split(' ').next().map(str::to_owned);
    sent.iter()
        .map(|sent| format!("{} > {}", method(sent).unwrap_or_default(), sent.to))
        .collect()
}

#[test]
fn a_refusal_by_a_phone_given_up_before_is_acknowledged_and_not_passed_to_who_talks() {
    let config = of_two();
    let mut old = Desk::new(&config);
    old.keep_calls(10);
    let (silent, next) = moved_on(&mut old);
    let sent = old.receive(&next.to.to_string(), &ok(&next));
    assert_eq!(first(&sent, "SIP/2.0 200").to.to_string(), CARRIER);
    let mut new = restarted_on(old, &config, Duration::ZERO);
    assert_eq!(refused_by(&mut new, &silent), [format!("ACK > {PBX}")]);
    assert_eq!(new.used(0), (1, 0));
}

#[test]
fn nor_to_who_hears_the_next_one_ring() {
    let config = of_two();
    let mut old = Desk::new(&config);
    old.keep_calls(10);
    let (silent, next) = moved_on(&mut old);
    old.receive(&next.to.to_string(), &answer(&next, "180 Ringing", ""));
    let mut new = restarted_on(old, &config, Duration::ZERO);
    assert_eq!(refused_by(&mut new, &silent), [format!("ACK > {PBX}")]);
    let sent = new.receive(&next.to.to_string(), &ok(&next));
    assert_eq!(first(&sent, "SIP/2.0 200").to.to_string(), CARRIER);
}
