//! What strangers and broken peers send, through one shard: whom it answers, with what, and that no
//! message costs more than its length (RFC 3261 §8.2, §16.3, §18.3; RFC 4475).

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::time::{Duration, Instant};

use callgate::metrics::Counter;
use kit::talk::*;
use kit::{Desk, Sent};

const STRANGER: &str = "192.0.2.77:5060";

/// The one answer to a message.
fn told(desk: &mut Desk, from: &str, text: &str) -> Sent {
    let sent = desk.receive(from, text);
    assert_eq!(sent.len(), 1, "{:?}", lines(&sent));
    sent[0].clone()
}

fn status(desk: &mut Desk, from: &str, text: &str) -> String {
    let answer = told(desk, from, text);
    let mut words = answer.start_line().split(' ');
    words.nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_stranger_is_told_403_whatever_it_asks_and_nothing_is_kept() {
    let mut desk = Desk::new(CONFIG);
    for method in [
        "INVITE",
        "REGISTER",
        "SUBSCRIBE",
        "MESSAGE",
        "REFER",
        "PUBLISH",
        "FOO",
    ] {
        let text = invite("1", "").replace("INVITE", method);
        assert_eq!(status(&mut desk, STRANGER, &text), "403", "{method}");
    }
    assert_eq!(desk.leftovers(), [0; 6]);
}

#[test]
fn a_stranger_with_a_to_tag_is_told_that_there_is_no_such_dialog() {
    let mut desk = Desk::new(CONFIG);
    for (method, wanted) in [
        ("BYE", "481"),
        ("INFO", "481"),
        ("NOTIFY", "481"),
        ("INVITE", "403"),
    ] {
        let text = invite("1", "")
            .replace("INVITE", method)
            .replace("To: <sip:100@192.0.2.1>", "To: <sip:100@192.0.2.1>;tag=x");
        assert_eq!(status(&mut desk, STRANGER, &text), wanted, "{method}");
    }
    let ack = ack_of_refusal("1");
    assert!(
        desk.receive(STRANGER, &ack).is_empty(),
        "an ACK is never answered"
    );
    assert_eq!(desk.leftovers(), [0; 6]);
}

#[test]
fn a_stranger_never_gets_more_than_half_as_much_again_as_it_sent() {
    let mut desk = Desk::new(CONFIG);
    let short = "OPTIONS sip:192.0.2.1 SIP/2.0\r\nv:SIP/2.0/UDP 1.1.1.1;rport\r\nf:<sip:a@b>;tag=1\r\nt:<sip:b@c>\r\ni:1\r\nCSeq:1 OPTIONS\r\n\r\n";
    for text in [
        short.to_owned(),
        short.replace("sip:192.0.2.1", "sip:x@192.0.2.1"),
        short.replace("OPTIONS", "INVITE"),
        short.replace("OPTIONS", "REGISTER"),
        short.replace("i:1", "i:1\r\nMax-Forwards:0"),
        short.replace("i:1", "i:1\r\nProxy-Require:a,b,c,d,e,f,g,h"),
        short.replace("SIP/2.0\r\nv", "SIP/3.0\r\nv"),
        short.replace("CSeq:1 OPTIONS", "CSeq:x"),
    ] {
        for sent in desk.receive(STRANGER, &text) {
            assert!(
                2 * sent.text.len() <= 3 * text.len(),
                "{} octets for {}: {}",
                sent.text.len(),
                text.len(),
                sent.text
            );
        }
    }
}

//= rfc3261#11.2
#[test]
fn options_to_the_node_are_answered_and_to_somebody_are_routed() {
    let mut desk = Desk::new(CONFIG);
    let options = |uri: &str| {
        let text = invite("1", "").replace("INVITE", "OPTIONS");
        text.replace("OPTIONS sip:100@192.0.2.1 ", &format!("OPTIONS {uri} "))
    };
    for from in [CARRIER, STRANGER] {
        let answer = told(&mut desk, from, &options("sip:192.0.2.1"));
        assert_eq!(answer.start_line(), "SIP/2.0 200 OK");
        assert!(answer.header("To").is_some_and(|to| to.contains(";tag=")));
        let hops_gone = options("sip:192.0.2.1").replace("Max-Forwards: 70", "Max-Forwards: 0");
        assert_eq!(status(&mut desk, from, &hops_gone), "200");
    }
    let allow = told(
        &mut desk,
        CARRIER,
        &options("sip:192.0.2.1:5060;transport=udp"),
    );
    assert!(
        allow
            .header("Allow")
            .is_some_and(|allow| allow.contains("UPDATE"))
    );
    let to_user = desk.receive(CARRIER, &options("sip:100@192.0.2.1"));
    assert_eq!(
        lines(&to_user),
        ["OPTIONS sip:100@203.0.113.5:5060 SIP/2.0 > 203.0.113.5:5060"]
    );
    assert_eq!(
        status(
            &mut desk,
            STRANGER,
            &options("sip:100@192.0.2.1").replace("z9hG4bK1", "z9hG4bK3")
        ),
        "403"
    );
    let hops_gone = options("sip:100@192.0.2.1").replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert_eq!(
        status(
            &mut desk,
            CARRIER,
            &hops_gone.replace("z9hG4bK1", "z9hG4bK2")
        ),
        "483"
    );
}

//= rfc3261#8.2.2.3
#[test]
fn extensions_that_are_required_of_us_are_all_listed_as_unsupported() {
    let mut desk = Desk::new(CONFIG);
    let text = invite("1", "Proxy-Require: one, two\nProxy-Require: three");
    let answer = first(&desk.receive(CARRIER, &text), "SIP/2.0 420").clone();
    assert_eq!(answer.header("Unsupported"), Some("one, two, three"));
    let text = invite("2", "Require: one, two")
        .replace("INVITE sip:100@", "OPTIONS sip:")
        .replace("INVITE", "OPTIONS");
    let answer = told(&mut desk, CARRIER, &text);
    assert_eq!(answer.start_line(), "SIP/2.0 420 Bad Extension");
    assert_eq!(answer.header("Unsupported"), Some("one, two"));
    let sent = desk.receive(CARRIER, &invite("3", "Require: 100rel"));
    assert_eq!(
        first(&sent, "INVITE").header("Require"),
        Some("100rel"),
        "Require is the callee's"
    );
}

//= rfc3261#16.3
#[test]
fn each_fault_of_a_request_has_its_own_answer() {
    let text = invite("1", "");
    for (wanted, text) in [
        (
            "416",
            text.replace("INVITE sip:100@192.0.2.1 ", "INVITE http://example.com/ "),
        ),
        ("505", text.replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia")),
        (
            "400",
            text.replace("CSeq: 1 INVITE", "CSeq: 2147483648 INVITE"),
        ),
        (
            "400",
            text.replace("CSeq: 1 INVITE", "CSeq: 99999999999999999999 INVITE"),
        ),
        ("400", text.replace("CSeq: 1 INVITE", "CSeq: 1 OPTIONS")),
        ("400", text.replace("CSeq: 1 INVITE", "CSeq: -1 INVITE")),
        ("400", text.replace("Call-ID: c1\r\n", "")),
        ("400", text.replace("Call-ID: c1", "Call-ID: c1\r\ni: c2")),
        ("400", text.replace("From: ", "From: \"open ")),
        (
            "400",
            text.replace("To: <sip:100@192.0.2.1>", "To: <sip:100@192.0.2.1"),
        ),
        (
            "400",
            text.replace("Content-Length: 0", "Content-Length: 9"),
        ),
        (
            "400",
            text.replace("Content-Length: 0", "Content-Length: -1"),
        ),
        (
            "400",
            text.replace(
                "INVITE sip:100@192.0.2.1 ",
                "INVITE sip:100@192.0.2.1?Route=%3Csip:a%3E ",
            ),
        ),
        (
            "400",
            text.replace("INVITE sip:100@192.0.2.1 ", "INVITE <sip:100@192.0.2.1> "),
        ),
        (
            "400",
            text.replace("Max-Forwards: 70", "Route: <sip:x\r\nMax-Forwards: 70"),
        ),
    ] {
        let mut desk = Desk::new(CONFIG);
        assert_eq!(status(&mut desk, CARRIER, &text), wanted, "{text}");
        assert_eq!(desk.shared.limits.total_used(), 0);
    }
    let largest = text.replace("CSeq: 1 INVITE", "CSeq: 2147483647 INVITE");
    assert!(!none(
        &Desk::new(CONFIG).receive(CARRIER, &largest),
        "INVITE"
    ));
}

#[test]
fn a_lower_cseq_is_counted_and_passed_and_refused_where_the_trunk_says_so() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    desk.receive(CARRIER, &from_caller("INFO", 9, "b", &ok, ""));
    let sent = desk.receive(CARRIER, &from_caller("INVITE", 5, "b", &ok, ""));
    assert!(!none(&sent, "INVITE"));
    assert_eq!(desk.count(Counter::CseqLower), 1);

    let strict = CONFIG.replace("[trunk.carrier]", "[trunk.carrier]\ncseq = \"strict\"");
    let mut desk = Desk::new(&strict);
    let (_, ok) = talk(&mut desk);
    desk.receive(CARRIER, &from_caller("INFO", 9, "b", &ok, ""));
    let sent = desk.receive(CARRIER, &from_caller("INVITE", 5, "b", &ok, ""));
    assert_eq!(
        lines(&sent),
        ["SIP/2.0 500 CSeq Is Out Of Order > 198.51.100.10:5060"]
    );
}

#[test]
fn a_message_over_the_limit_is_513() {
    let config = CONFIG.replace("name = \"gate\"", "name = \"gate\"\nmessage_max = 4096");
    let long = format!("Subject: {}", "x".repeat(5000));
    let mut desk = Desk::new(&config);
    assert_eq!(status(&mut desk, CARRIER, &invite("1", &long)), "513");
    // It fits a datagram as it came, and no more with what we would add.
    let mut desk = Desk::new(CONFIG);
    let long = format!("Subject: {}", "x".repeat(65_450 - invite("1", "").len()));
    let sent = desk.receive(CARRIER, &invite("1", &long));
    assert!(
        first(&sent, "SIP/2.0 5")
            .start_line()
            .starts_with("SIP/2.0 513"),
        "{:?}",
        lines(&sent)
    );
    assert_eq!(desk.shared.limits.total_used(), 0);
}

#[test]
fn folds_compact_names_and_bare_line_feeds_are_the_same_message() {
    let text = invite("1", "Route: <sip:192.0.2.1;lr>, <sip:203.0.113.5;lr>").replace(
        "1;lr>, ",
        "1;lr>,
   ",
    );
    let compact = text
        .replace("Via: ", "v:\r\n ")
        .replace("From: ", "f : ")
        .replace("To: ", "t: ")
        .replace("Call-ID: ", "i:")
        .replace("Contact: ", "m: ")
        .replace("Content-Length: 0", "l: 0")
        .replace("CSeq: 1 INVITE", "CSeq:\r\n\t1\r\n INVITE");
    for text in [text.clone(), compact.clone(), compact.replace("\r\n", "\n")] {
        let mut desk = Desk::new(CONFIG);
        let sent = desk.receive(CARRIER, &text);
        let forwarded = first(&sent, "INVITE");
        assert_eq!(
            forwarded.start_line(),
            "INVITE sip:100@203.0.113.5:5060 SIP/2.0",
            "{text}"
        );
        assert!(
            forwarded.text.contains("Route: <sip:203.0.113.5;lr>"),
            "{}",
            forwarded.text
        );
        assert!(!forwarded.text.contains("<sip:192.0.2.1;lr>"));
        let busy = sip(&format!(
            "SIP/2.0 486 Busy Here
             v: {}, SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK1
             f: <sip:alice@198.51.100.10>;tag=a
             t: <sip:100@192.0.2.1>;tag=b
             i: c1
             CSeq: 1 INVITE",
            forwarded.header("Via").expect("ours")
        ));
        let sent = desk.receive(PBX, &busy.replace("\r\n", "\n"));
        let passed = first(&sent, "SIP/2.0");
        assert_eq!(passed.start_line(), "SIP/2.0 486 Busy Here");
        assert_eq!(
            passed.header("v"),
            Some("SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK1")
        );
    }
}

//= rfc3581#4
#[test]
fn answers_go_where_the_request_came_from() {
    for (via, from, to, stamped) in [
        (
            "198.51.100.10:5060;branch=z9hG4bK1",
            CARRIER,
            CARRIER,
            "198.51.100.10:5060;branch=z9hG4bK1",
        ),
        (
            "10.0.0.9:5062;branch=z9hG4bK1",
            CARRIER,
            "198.51.100.10:5062",
            "10.0.0.9:5062;branch=z9hG4bK1;received=198.51.100.10",
        ),
        (
            "10.0.0.9:5062;rport;branch=z9hG4bK1",
            "198.51.100.10:40000",
            "198.51.100.10:40000",
            "10.0.0.9:5062;rport=40000;branch=z9hG4bK1;received=198.51.100.10",
        ),
        (
            "pc.example;branch=z9hG4bK1;maddr=203.0.113.99;received=6.6.6.6",
            CARRIER,
            CARRIER,
            "pc.example;branch=z9hG4bK1;maddr=203.0.113.99;received=198.51.100.10",
        ),
    ] {
        let mut desk = Desk::new(CONFIG);
        let text = invite("1", "").replace("198.51.100.10:5060;branch=z9hG4bK1", via);
        let sent = desk.receive(from, &text);
        assert_eq!(first(&sent, "SIP/2.0 100").to.to_string(), to, "{via}");
        let forwarded = first(&sent, "INVITE").clone();
        assert_eq!(
            forwarded.headers("Via").nth(1),
            Some(format!("SIP/2.0/UDP {stamped}").as_str())
        );
        let passed = desk.receive(PBX, &answer(&forwarded, "180 Ringing", ""));
        assert_eq!(passed[0].to.to_string(), to, "{via}");
        assert_eq!(
            passed[0].header("Via"),
            Some(format!("SIP/2.0/UDP {stamped}").as_str())
        );
    }
}

//= rfc3261#16.7
#[test]
fn a_response_must_have_our_via_on_top_and_one_below_it() {
    let mut desk = Desk::new(CONFIG);
    let forwarded = ring(&mut desk);
    let ringing = answer(&forwarded, "180 Ringing", "");
    let ours = forwarded.header("Via").expect("ours");
    for broken in [
        ringing.replace(ours, &ours.replace("192.0.2.1:5060", "192.0.2.2:5060")),
        ringing.replace(&format!("Via: {ours}\r\n"), ""),
        ringing.replace(
            "Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK1\r\n",
            "",
        ),
        ringing.replace("Call-ID: c1", "Call-ID: c2"),
        ringing.replace("CSeq: 1 INVITE", "CSeq: 1 BYE"),
        ringing.replace("SIP/2.0 180", "SIP/2.0 18"),
    ] {
        let sent = desk.receive(PBX, &broken);
        assert!(sent.is_empty(), "{broken}\n{:?}", lines(&sent));
    }
    let one_line = ringing.replace("\r\nVia: SIP/2.0/UDP 198", ", SIP/2.0/UDP 198");
    let passed = told(&mut desk, PBX, &one_line);
    assert_eq!(
        passed.headers("Via").collect::<Vec<_>>(),
        ["SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK1"]
    );
}

#[test]
fn methods_that_we_do_not_know_pass_from_a_trunk() {
    let mut desk = Desk::new(CONFIG);
    let sent = desk.receive(CARRIER, &invite("1", "").replace("INVITE", "EAT!"));
    assert_eq!(
        lines(&sent),
        ["EAT! sip:100@203.0.113.5:5060 SIP/2.0 > 203.0.113.5:5060"]
    );
    let passed = desk.receive(PBX, &answer(&sent[0], "501 Not Implemented", ""));
    assert_eq!(
        lines(&passed),
        ["SIP/2.0 501 Not Implemented > 198.51.100.10:5060"]
    );
    desk.assert_nothing_left();
}

/// A list of `value` that fills a datagram.
fn many(name: &str, value: &str) -> String {
    let count = 63_000 / (value.len() + 1);
    format!("{name}: {}", vec![value; count].join(","))
}

#[test]
fn a_message_full_of_values_costs_no_more_than_its_length() {
    let stuffings = [
        many("Route", "<sip:192.0.2.1;lr>"),
        many("Route", "<sip:a;lr>"),
        many("Route", "<sip:a>"),
        many("Record-Route", "<sip:a;lr>"),
        many("Via", "SIP/2.0/UDP a"),
        many(
            "Via",
            "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKcg0123456789abcdef.0123456789abcdef",
        ),
        many("Contact", "<sip:a>"),
        many("Proxy-Require", "a"),
        many("Require", "a"),
        many("Supported", "a"),
        many("Reason", "SIP"),
        format!("Route: {}", ",".repeat(60_000)),
        format!("Route: <sip:a{}>", ";a".repeat(30_000)),
        format!("Contact: <sip:a>{}", ";a=\"\"".repeat(10_000)),
        format!("Subject: {}", "\"".repeat(60_000)),
    ];
    for stuffing in &stuffings {
        let mut desk = Desk::new(CONFIG);
        let start = start_clock();
        let sent = desk.receive(CARRIER, &invite("1", stuffing));
        desk.receive(CARRIER, &cancel("1", stuffing));
        let forwarded = sent
            .iter()
            .find(|one| one.start_line().starts_with("INVITE"));
        if let Some(forwarded) = forwarded {
            let mut answered = ok(forwarded);
            answered.truncate(answered.len() - "Content-Length: 0\r\n\r\n".len());
            let room = 65_000usize.saturating_sub(answered.len());
            answered += &many("Record-Route", "<sip:a;lr>")[..room.min(60_000)];
            desk.receive(PBX, &format!("{answered}\r\nContent-Length: 0\r\n\r\n"));
            desk.receive(PBX, &ok(forwarded));
        }
        let options = invite("2", stuffing)
            .replace("INVITE sip:100@", "OPTIONS sip:")
            .replace("INVITE", "OPTIONS");
        desk.receive(STRANGER, &options);
        // A debug build on a busy machine takes a tenth of a second; what grows with the square of
        // the values takes many seconds.
        let name: String = stuffing.chars().take(40).collect();
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{name} took {:?}",
            start.elapsed()
        );
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test asks how long a message takes"
)]
fn start_clock() -> Instant {
    Instant::now()
}

#[test]
fn every_cut_and_every_changed_octet_of_a_call_leaves_the_shard_alive_and_exact() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    let texts = [
        invite("f", "Route: <sip:192.0.2.1;lr>\nSession-Expires: 90")
            .replace("Call-ID: c1", "Call-ID: c9"),
        from_caller("INVITE", 2, "b", &ok, ""),
        from_caller("BYE", 3, "z", &ok, ""),
        cancel("1", "Reason: SIP;cause=200"),
    ];
    for text in &texts {
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            for octet in [0, b'\r', b'"', b'<', b';', b',', 0xff] {
                bytes[at] = octet;
                desk.receive(CARRIER, &String::from_utf8_lossy(&bytes));
            }
            desk.receive(CARRIER, &text[..at]);
        }
        desk.wait(Duration::from_secs(100));
    }
    let census = desk.shard.census();
    assert!(
        census.calls <= 1,
        "only the call that nobody hung up may live: {census:?}"
    );
}
