//! MUSTs of the RFCs that a proxy is measured by and that no other walk shows: Max-Breadth
//! (RFC 5393), answers that a non-INVITE may not get (RFC 4320), repeated parameters (RFC 3261
//! §7.3.1), schemes (§16.3, §26.2.2), telephone numbers (RFC 3966).

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::time::Duration;

use callgate::metrics::Counter;
use kit::Desk;
use kit::talk::*;

const STRANGER: &str = "192.0.2.77:5060";

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn status(desk: &mut Desk, from: &str, text: &str) -> String {
    let sent = desk.receive(from, text);
    assert_eq!(sent.len(), 1, "{:?}", lines(&sent));
    let mut words = sent[0].start_line().split(' ');
    words.nth(1).unwrap_or_default().to_owned()
}

/// The Max-Breadth values of what goes on when this one comes in.
fn breadth_of(given: &str) -> Vec<String> {
    let mut desk = Desk::new(CONFIG);
    let sent = desk.receive(CARRIER, &invite("1", given));
    let forwarded = first(&sent, "INVITE");
    forwarded
        .headers("Max-Breadth")
        .map(str::to_owned)
        .collect()
}

//= rfc5393#5.3.3
#[test]
fn every_forwarded_request_has_one_max_breadth_of_at_most_60() {
    assert_eq!(breadth_of(""), ["60"]);
    assert_eq!(breadth_of("Max-Breadth: 1"), ["1"]);
    assert_eq!(breadth_of("Max-Breadth: 60"), ["60"]);
    assert_eq!(breadth_of("Max-Breadth: 61"), ["60"]);
    assert_eq!(breadth_of("Max-Breadth: 99999999999999999999999"), ["60"]);
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    for method in ["INFO", "BYE"] {
        let sent = desk.receive(CARRIER, &from_caller(method, 5, "b", &ok, ""));
        let passed: Vec<&str> = first(&sent, method).headers("Max-Breadth").collect();
        assert_eq!(passed, ["60"], "{method}");
    }
}

//= rfc5393#5.3.3
#[test]
fn no_breadth_at_all_is_440_and_a_malformed_one_400() {
    let mut desk = Desk::new(CONFIG);
    for (given, wanted) in [
        ("Max-Breadth: 0", "440"),
        ("Max-Breadth: 000", "440"),
        ("Max-Breadth: -1", "400"),
        ("Max-Breadth: many", "400"),
        ("Max-Breadth:", "400"),
        ("Max-Breadth: 5\nMax-Breadth: 5", "400"),
    ] {
        let text = invite(wanted, given).replace("INVITE", "MESSAGE");
        assert_eq!(status(&mut desk, CARRIER, &text), wanted, "{given}");
    }
    assert_eq!(desk.count(Counter::RefusedMaxBreadth), 2);
    let (_, ok) = talk(&mut desk);
    let ack = from_caller("ACK", 1, "b", &ok, "Max-Breadth: 0");
    assert!(desk.receive(CARRIER, &ack).is_empty());
    assert_eq!(desk.count(Counter::DroppedStrayAck), 1);
}

//= rfc5393#5.3.3
#[test]
fn the_next_attempt_of_a_call_has_the_whole_breadth_again() {
    let two = CONFIG.replace(
        "address = \"203.0.113.5:5060\"",
        "address = [\"203.0.113.5:5060\", \"203.0.113.6:5060\"]",
    );
    let mut desk = Desk::new(&two);
    let sent = desk.receive(CARRIER, &invite("1", "Max-Breadth: 1"));
    let busy = answer(first(&sent, "INVITE"), "503 Busy", "");
    let again = desk.receive(PBX, &busy);
    assert_eq!(first(&again, "INVITE").header("Max-Breadth"), Some("1"));
}

//= rfc4320#4.2
#[test]
fn a_408_to_a_bye_is_kept_from_its_sender_and_the_call_is_over_all_the_same() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    let bye = from_caller("BYE", 2, "b", &ok, "");
    let sent = desk.receive(CARRIER, &bye);
    let late = answer(first(&sent, "BYE"), "408 Request Timeout", "");
    assert!(desk.receive(PHONE, &late).is_empty());
    assert_eq!(desk.count(Counter::DroppedNonInviteAnswer), 1);
    assert!(desk.is_idle(), "the lease is given back");
    desk.wait(s(10));
    assert!(
        desk.receive(CARRIER, &bye).is_empty(),
        "its copies are absorbed"
    );
    desk.assert_nothing_left();
    assert_eq!(desk.count(Counter::DroppedNonInviteAnswer), 1);
}

//= rfc4320#4.2
#[test]
fn a_408_to_a_request_outside_of_calls_is_kept_from_its_sender() {
    let mut desk = Desk::new(CONFIG);
    let text = invite("1", "").replace("INVITE", "MESSAGE");
    let sent = desk.receive(CARRIER, &text);
    let late = answer(first(&sent, "MESSAGE"), "408 Request Timeout", "");
    assert!(desk.receive(PBX, &late).is_empty());
    assert!(none(&desk.wait(s(40)), "SIP/2.0 4"));
    desk.assert_nothing_left();
}

//= rfc4320#4.1
#[test]
fn a_provisional_answer_to_a_non_invite_is_counted_and_not_passed() {
    let mut desk = Desk::new(CONFIG);
    let sent = desk.receive(CARRIER, &invite("1", "").replace("INVITE", "MESSAGE"));
    let early = answer(first(&sent, "MESSAGE"), "183 Session Progress", "");
    assert!(desk.receive(PBX, &early).is_empty());
    assert_eq!(desk.count(Counter::DroppedNonInviteAnswer), 1);
}

//= rfc3261#16.7
#[test]
fn a_repeated_100_does_not_start_timer_c_again_and_a_180_does() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    desk.receive(PBX, &answer(&invite, "100 Trying", ""));
    desk.wait(s(170));
    desk.receive(PBX, &answer(&invite, "100 Trying", ""));
    assert!(!none(&desk.wait(s(15)), "CANCEL"), "181 s after the first");
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    desk.wait(s(170));
    desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    assert!(none(&desk.wait(s(170)), "CANCEL"));
}

//= rfc3261#9.1
#[test]
fn a_cancel_from_another_address_than_its_invite_is_481() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    assert_eq!(status(&mut desk, STRANGER, &cancel("1", "")), "481");
    assert_eq!(status(&mut desk, PBX, &cancel("1", "")), "481");
    assert_eq!(desk.count(Counter::RefusedForeignCancel), 2);
    let sent = desk.receive("198.51.100.10:6000", &cancel("1", ""));
    assert!(
        !none(&sent, "CANCEL"),
        "a NAT may change the port: {:?}",
        lines(&sent)
    );
}

//= rfc3261#9.1
#[test]
fn a_cancel_from_another_address_of_the_same_trunk_is_taken() {
    let config = CONFIG.replace(
        "address = \"198.51.100.10:5060\"",
        "address = \"198.51.100.10:5060\"\nmatch = [\"198.51.100.0/24\"]",
    );
    let mut desk = Desk::new(&config);
    let invite = ring(&mut desk);
    desk.receive(PBX, &answer(&invite, "180 Ringing", ""));
    let sent = desk.receive("198.51.100.11:5060", &cancel("1", ""));
    assert!(!none(&sent, "CANCEL"), "{:?}", lines(&sent));
}

//= rfc3261#7.3.1
#[test]
fn a_parameter_that_is_there_twice_is_400() {
    let text = invite("1", "");
    let via = "Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK1";
    for twice in [
        text.replace(via, &format!("{via};branch=z9hG4bK2")),
        text.replace(via, &format!("{via};received=192.0.2.9;received=192.0.2.8")),
        text.replace(via, &format!("{via};rport;rport=7")),
        text.replace(via, &format!("{via};maddr=192.0.2.9;maddr=192.0.2.8")),
        text.replace(";tag=a", ";tag=a;tag=c"),
        text.replace(
            "To: <sip:100@192.0.2.1>",
            "To: <sip:100@192.0.2.1>;tag=x;TAG=y",
        ),
    ] {
        let mut desk = Desk::new(CONFIG);
        assert_eq!(status(&mut desk, CARRIER, &twice), "400", "{twice}");
    }
}

#[test]
fn an_answer_with_two_to_tags_passes_and_its_first_one_counts() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    let twice = ok(&invite).replace(";tag=b", ";tag=b;tag=c");
    assert_eq!(
        lines(&desk.receive(PBX, &twice)),
        ["SIP/2.0 200 OK > 198.51.100.10:5060"]
    );
    let bye = from_caller("BYE", 2, "b", &invite, "");
    assert!(!none(&desk.receive(CARRIER, &bye), "BYE"));
}

//= rfc3261#16.3
#[test]
fn a_route_of_another_scheme_is_416_and_becomes_no_request_uri() {
    for scheme in ["sop", "tel", "http"] {
        let mut desk = Desk::new(CONFIG);
        let route = format!("Route: <{scheme}:203.0.113.6>");
        assert_eq!(
            status(&mut desk, CARRIER, &invite("9", &route)),
            "416",
            "{scheme}"
        );
    }
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    let ack = from_caller("ACK", 1, "b", &ok, "Route: <sop:203.0.113.6;lr>");
    for sent in desk.receive(CARRIER, &ack) {
        assert!(
            sent.start_line().starts_with("ACK sip:bob@"),
            "{}",
            sent.text
        );
    }
}

//= rfc3261#26.2.2
#[test]
fn a_sips_request_uri_is_416_since_no_hop_of_ours_is_secured() {
    let mut desk = Desk::new(CONFIG);
    let text = invite("9", "").replace("INVITE sip:", "INVITE sips:");
    assert_eq!(status(&mut desk, CARRIER, &text), "416");
    assert_eq!(desk.count(Counter::RefusedScheme), 1);
    // A phone whose Contact is a SIPS URI has a dialog that must be able to end.
    let (_, ok) = talk(&mut desk);
    let bye = from_caller("BYE", 2, "b", &ok, "").replace("BYE sip:bob", "BYE sips:bob");
    assert!(!none(&desk.receive(CARRIER, &bye), "BYE"));
}

//= rfc3966#5
#[test]
fn a_number_cannot_be_spelt_past_a_route_line() {
    let config = CONFIG.replacen(
        "[[route]]",
        "[[route]]\nfrom = [\"carrier\"]\nuser = \"^\\\\+49900\"\nto = \"reject 403\"\n[[route]]",
        1,
    );
    let config = config.replace(
        "[node]\nname = \"gate\"",
        "[node]\nname = \"gate\"\naliases = [\"gate.example\"]",
    );
    for uri in [
        "sip:+49900123@192.0.2.1",
        "sip:%2B49900123@192.0.2.1",
        "sip:+%34%39900123@192.0.2.1",
        "sip:+49-900-123@192.0.2.1;user=phone",
        "sip:+49%2D900@192.0.2.1;user=Phone",
        "tel:+49-900.123",
        "TEL:+(49)900123",
    ] {
        let mut desk = Desk::new(&config);
        let text = invite("1", "").replace("INVITE sip:100@192.0.2.1 ", &format!("INVITE {uri} "));
        assert_eq!(status(&mut desk, CARRIER, &text), "403", "{uri}");
    }
}

#[test]
fn a_contact_on_this_host_is_for_those_who_are_configured_there() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    for address in ["127.0.0.1:9060", "127.9.9.9", "[::1]:5060"] {
        let text = from_caller("INFO", 7, "b", &ok, "")
            .replace(
                "INFO sip:bob@203.0.113.5:5070",
                &format!("INFO sip:bob@{address}"),
            )
            .replace("z9hG4bKa", &format!("z9hG4bK{}", address.len()));
        assert_eq!(status(&mut desk, CARRIER, &text), "478", "{address}");
    }
    let local = CONFIG.replace(
        "address = \"203.0.113.5:5060\"",
        "address = \"127.0.0.5:5060\"",
    );
    let mut desk = Desk::new(&local);
    let sent = desk.receive(CARRIER, &invite("1", ""));
    let ok = answer(
        first(&sent, "INVITE"),
        "200 OK",
        "Contact: <sip:bob@127.0.0.5:5070>",
    );
    let passed = desk.receive("127.0.0.5:5060", &ok);
    let ack = from_caller("ACK", 1, "b", &passed[0], "").replace("203.0.113.5", "127.0.0.5");
    assert_eq!(
        lines(&desk.receive(CARRIER, &ack)),
        ["ACK sip:bob@127.0.0.5:5070 SIP/2.0 > 127.0.0.5:5070"]
    );
}

//= rfc3261#8.2.2.3
#[test]
fn an_extension_that_we_know_is_not_listed_as_unsupported() {
    let mut desk = Desk::new(CONFIG);
    let text = invite("1", "Require: timer, other")
        .replace("INVITE sip:100@", "OPTIONS sip:")
        .replace("INVITE", "OPTIONS");
    let sent = desk.receive(CARRIER, &text);
    assert_eq!(
        first(&sent, "SIP/2.0 420").header("Unsupported"),
        Some("other")
    );
}
