//! Who gets as far as the parser: bans, the access list, and how a stranger earns a ban. One shard
//! on a desk.

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::sync::Arc;
use std::time::Duration;

use callgate::guard::bans::{Ban, Reason, SharedBans};
use callgate::metrics::Counter;
use kit::Desk;
use kit::talk::*;

const STRANGER: &str = "192.0.2.99:5060";

fn desk(guard: &str) -> Desk {
    Desk::new(&format!("[guard]\n{guard}\n{CONFIG}"))
}

/// The node's clock goes on, so that the shard looks at the bans again.
fn later(desk: &mut Desk, ms: u64) {
    desk.now = desk.now + Duration::from_millis(ms);
}

fn ban(desk: &mut Desk, block: &str, for_s: u64) {
    let ban = Ban {
        block: block.parse().expect("a block"),
        reason: Reason::Operator,
        note: Some("a test".into()),
        since: desk.now,
        until: desk.now + Duration::from_secs(for_s),
    };
    let now = desk.now;
    let added = desk.shared.bans.change(|bans| bans.add(now, ban));
    added.expect("room");
    later(desk, 100);
}

#[test]
fn a_banned_source_is_dropped_before_the_parser_until_the_ban_ends() {
    let mut desk = desk("");
    ban(&mut desk, "192.0.2.0/24", 10);
    for text in [
        invite("1", ""),
        "\0\0\0\0".repeat(5),
        "\r\n\r\n".to_owned(),
        String::new(),
    ] {
        assert_eq!(desk.receive(STRANGER, &text), []);
    }
    assert_eq!(desk.count(Counter::DroppedBannedOperator), 4);
    assert_eq!(desk.count(Counter::RequestsReceived), 0);
    later(&mut desk, 10_000);
    first(&desk.receive(STRANGER, &invite("1", "")), "SIP/2.0 403");
}

#[test]
fn a_trunk_is_served_whatever_block_is_banned_or_denied() {
    let mut desk = desk("deny = [\"203.0.113.0/24\"]");
    ban(&mut desk, "198.51.100.0/24", 1_000);
    let (_, ok) = talk(&mut desk);
    // The phone is none: its trunk's IP vouches for it.
    hang_up(&mut desk, &ok);
    assert_eq!(desk.count(Counter::DroppedBannedOperator), 0);
    assert_eq!(desk.count(Counter::DroppedDenied), 0);
    assert_eq!(desk.receive("198.51.100.11:5060", &invite("2", "")), []);
    assert_eq!(desk.count(Counter::DroppedBannedOperator), 1);
}

#[test]
fn who_is_denied_is_dropped_but_for_who_is_allowed() {
    let mut desk = desk("deny = [\"192.0.2.0/24\", \"2001:db8::/32\"]\nallow = \"192.0.2.98\"");
    assert_eq!(desk.receive(STRANGER, &invite("1", "")), []);
    assert_eq!(desk.receive("[2001:db8::1]:5060", &invite("1", "")), []);
    first(
        &desk.receive("192.0.2.98:5060", &invite("1", "")),
        "SIP/2.0 403",
    );
    assert_eq!(desk.count(Counter::DroppedDenied), 2);
}

#[test]
fn a_stranger_who_asks_too_much_is_banned_and_forgiven() {
    let mut desk = desk("unknown_rate = 10\nban_time = \"2m\"");
    for number in 0..60 {
        desk.receive(STRANGER, &invite(&format!("n{number}"), ""));
    }
    assert_eq!(desk.count(Counter::BannedUnknownRate), 1);
    // The rate over five seconds passes, the 51st is one too many.
    assert_eq!(desk.count(Counter::RefusedUnknownSource), 51);
    assert_eq!(desk.count(Counter::DroppedBannedUnknownRate), 9);
    let listed = desk.shared.bans.change_nothing(|bans| bans.list(desk.now));
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].block.to_string(), "192.0.2.99/32");
    assert_eq!(listed[0].reason, Reason::UnknownRate);
    later(&mut desk, 120_000);
    first(&desk.receive(STRANGER, &invite("again", "")), "SIP/2.0 403");
}

#[test]
fn an_ipv6_host_is_banned_with_all_of_its_addresses() {
    let config = format!(
        "[guard]\nmalformed_rate = 1\n{CONFIG}[[listen]]\nudp = \"[2001:db8:1::1]:5060\"\n"
    );
    let mut desk = Desk::new(&config);
    for number in 0..10 {
        desk.receive_on(
            1,
            &format!("[2001:db8::{number}]:5060"),
            "no SIP at all\r\n\r\n",
        );
    }
    assert_eq!(desk.count(Counter::BannedMalformed), 1);
    assert_eq!(desk.count(Counter::DroppedBannedMalformed), 4);
}

#[test]
fn neither_a_trunk_nor_who_is_allowed_nor_a_slow_stranger_is_ever_banned() {
    let mut desk = desk("unknown_rate = 10\nmalformed_rate = 10\nallow = [\"192.0.2.98\"]");
    for number in 0..300 {
        desk.receive(CARRIER, "no SIP at all\r\n\r\n");
        desk.receive("192.0.2.98:5060", &invite(&format!("a{number}"), ""));
    }
    for number in 0..300 {
        later(&mut desk, 100);
        desk.receive(STRANGER, &invite(&format!("s{number}"), ""));
    }
    assert!(desk.shared.bans.change_nothing(|bans| bans.is_empty()));
}

#[test]
fn by_default_nobody_is_banned() {
    let mut desk = desk("");
    for number in 0..2_000 {
        desk.receive(STRANGER, &invite(&format!("n{number}"), ""));
        desk.receive(STRANGER, "no SIP at all\r\n\r\n");
    }
    assert_eq!(desk.count(Counter::RefusedUnknownSource), 2_000);
}

#[test]
fn a_call_that_is_up_goes_on_from_a_phone_that_is_no_trunk() {
    let mut desk = desk("unknown_rate = 1");
    let (_, ok) = talk(&mut desk);
    // Requests inside of the call from an address of its own are no offence.
    for cseq in 2..60 {
        let sent = desk.receive(STRANGER, &from_caller("INFO", cseq, "b", &ok, ""));
        first(&sent, "INFO");
    }
    assert!(desk.shared.bans.change_nothing(|bans| bans.is_empty()));
}

#[test]
fn a_full_table_bans_no_more_and_says_so() {
    let mut desk = desk("unknown_rate = 1");
    let now = desk.now;
    desk.shared.bans.change(|bans| {
        for number in 0..SharedBans::BANS_MAX as u32 {
            let ip: std::net::Ipv4Addr = (0x0a00_0000 + number).into();
            let block = ip.to_string().parse().expect("a block");
            let until = now + Duration::from_secs(1_000);
            let (reason, note) = (Reason::Operator, None);
            let ban = Ban {
                block,
                reason,
                note,
                since: now,
                until,
            };
            bans.add(now, ban).expect("room");
        }
    });
    later(&mut desk, 100);
    for number in 0..10 {
        desk.receive(STRANGER, &invite(&format!("n{number}"), ""));
    }
    assert!(desk.count(Counter::BansFull) > 0);
    assert_eq!(desk.count(Counter::BannedUnknownRate), 0);
    assert_eq!(desk.receive("10.0.0.1:5060", &invite("1", "")), []);
}

#[test]
fn bans_outlive_a_reload() {
    let mut desk = desk("");
    ban(&mut desk, "192.0.2.99", 1_000);
    let names = &mut callgate::config::InOrder::default();
    let config = callgate::config::load(CONFIG, "test.toml", names).expect("a configuration");
    let (done, _answer) = crossbeam::channel::bounded(1);
    let plan = Arc::new(config.plan);
    desk.ask(callgate::shard::mail::Ask::Swap { plan, done });
    assert_eq!(desk.receive(STRANGER, &invite("1", "")), []);
    assert_eq!(desk.count(Counter::DroppedBannedOperator), 1);
}
