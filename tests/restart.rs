//! What a shard does with the calls that another one has recorded before it: counts them, knows
//! their requests, and ends them in time by the wall clock.

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::time::Duration;

use callgate::dialog::store::Wall;
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
fn restarted(mut old: Desk, more: &str, later: Duration) -> Desk {
    let region = old.shard.leave_records().expect("a region");
    let mut new = Desk::new(&CONFIG.replace("[trunk.pbx]", &format!("[trunk.pbx]\n{more}")));
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
fn a_call_that_rang_or_has_ended_is_not_there_again() {
    let mut old = desk("");
    old.receive(CARRIER, &invite("1", ""));
    assert!(restarted(old, "", Duration::ZERO).is_idle());
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
