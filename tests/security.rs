//! The known ways in which SIP servers were broken, one test each, where no other file has it yet.
//! docs/security.md lists all of them with what is promised.

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use callgate::base::hash::HashKey;
use callgate::metrics::Counter;
use callgate::net::{Flow, ListenerId, owner};
use kit::talk::*;
use kit::{Desk, Sent};

const STRANGER: &str = "192.0.2.77:5060";

/// Gives the shard raw octets.
fn receive(desk: &mut Desk, from: &str, bytes: &[u8]) -> Vec<Sent> {
    let from = Flow::udp(ListenerId(0), from.parse().expect("a literal address"));
    desk.shard.on_datagram(desk.now, from, bytes, &mut desk.out);
    desk.take()
}

/// The one answer to a message, as its code.
fn status(desk: &mut Desk, from: &str, text: &str) -> String {
    let sent = desk.receive(from, text);
    assert_eq!(sent.len(), 1, "{:?} to {text}", lines(&sent));
    let mut words = sent[0].start_line().split(' ');
    words.nth(1).unwrap_or_default().to_owned()
}

fn refused_with_400(text: &str) {
    let mut desk = Desk::new(CONFIG);
    assert_eq!(status(&mut desk, CARRIER, text), "400", "{text}");
    assert_eq!(desk.leftovers()[5], 0, "no lease");
}

#[test]
fn a_field_that_there_is_one_of_and_comes_twice_is_400() {
    let text = invite("1", "");
    for (line, again) in [
        (
            "Call-ID: c1\r\n",
            ["Call-ID: c1\r\n", "i: c2\r\n", "CALL-ID : c3\r\n"],
        ),
        (
            "CSeq: 1 INVITE\r\n",
            [
                "CSeq: 1 INVITE\r\n",
                "cseq: 2 INVITE\r\n",
                "CSEQ: 1 BYE\r\n",
            ],
        ),
        (
            "Max-Forwards: 70\r\n",
            [
                "Max-Forwards: 70\r\n",
                "max-forwards: 0\r\n",
                "Max-Forwards:\r\n",
            ],
        ),
        (
            "Content-Length: 0\r\n",
            ["Content-Length: 0\r\n", "l: 0\r\n", "Content-Length: 5\r\n"],
        ),
        (
            "From: <sip:alice@198.51.100.10>;tag=a\r\n",
            [
                "From: <sip:alice@198.51.100.10>;tag=a\r\n",
                "f: <sip:eve@x>;tag=e\r\n",
                "FROM: sip:e\r\n",
            ],
        ),
        (
            "To: <sip:100@192.0.2.1>\r\n",
            [
                "To: <sip:100@192.0.2.1>\r\n",
                "t: <sip:e@x>;tag=z\r\n",
                "to: sip:e\r\n",
            ],
        ),
    ] {
        assert!(text.contains(line), "{line}");
        for other in again {
            refused_with_400(&text.replace(line, &format!("{line}{other}")));
            refused_with_400(&text.replace(line, &format!("{other}{line}")));
        }
    }
}

#[test]
fn an_answer_with_a_field_twice_is_dropped_and_counted() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    for line in [
        "Call-ID: c1\r\n",
        "CSeq: 1 INVITE\r\n",
        "Content-Length: 0\r\n",
    ] {
        let twice = ok(&invite).replacen(line, &format!("{line}{line}"), 1);
        assert!(desk.receive(PBX, &twice).is_empty(), "{line}");
    }
    assert_eq!(desk.count(Counter::DroppedMalformedResponse), 3);
}

//= rfc3261#18.3
#[test]
fn no_game_with_content_length_is_won() {
    let with = |value: &str, body: &str| {
        let head = invite("1", "");
        let head = head.replace(
            "Content-Length: 0\r\n",
            &format!("Content-Length:{value}\r\n"),
        );
        head + body
    };
    for value in [
        " -1",
        " +5",
        " 0x5",
        " 5 5",
        " 5,5",
        " 5;x",
        "",
        " ",
        " five",
        " 5.0",
        " 1e1",
        " 4294967301",
        " 4294967328",
        " 18446744073709551621",
        " 6",
        " \u{663}",
    ] {
        refused_with_400(&with(value, "12345"));
    }
    for value in [
        " 5",
        "\t 5 \t",
        " 0005",
        "\r\n 5",
        " 00000000000000000000000005",
    ] {
        let mut desk = Desk::new(CONFIG);
        let sent = desk.receive(CARRIER, &with(value, "12345"));
        assert!(
            first(&sent, "INVITE").text.ends_with("\r\n\r\n12345"),
            "{value}"
        );
    }
    let mut desk = Desk::new(CONFIG);
    let sent = desk.receive(CARRIER, &with(" 2", "12INVITE sip:a@b SIP/2.0\r\n\r\n"));
    assert!(
        first(&sent, "INVITE").text.ends_with("\r\n\r\n12"),
        "the rest is nobody's"
    );
}

//= rfc3261#25.1
#[test]
fn a_control_octet_where_we_read_is_400() {
    let text = invite("1", "");
    for octet in ["\0", "\x01", "\x08", "\x0b", "\x0c", "\x1b", "\x7f"] {
        for (place, with) in [
            (
                "sip:100@192.0.2.1 SIP",
                format!("sip:1{octet}00@192.0.2.1 SIP"),
            ),
            ("z9hG4bK1", format!("z9hG4bK{octet}1")),
            (";tag=a", format!(";tag=a{octet}")),
            (
                "<sip:alice@198.51.100.10>",
                format!("\"a{octet}\" <sip:alice@198.51.100.10>"),
            ),
            (
                "<sip:alice@198.51.100.10:5060>",
                format!("<sip:a{octet}@h>"),
            ),
            ("Call-ID: c1", format!("Call-ID: c{octet}1")),
            ("CSeq: 1 INVITE", format!("CSeq: 1{octet} INVITE")),
            ("Max-Forwards: 70", format!("Max-Forwards: 7{octet}0")),
            (
                "Max-Forwards: 70",
                format!("Subject{octet}: x\r\nMax-Forwards: 70"),
            ),
        ] {
            assert!(text.contains(place));
            refused_with_400(&text.replacen(place, &with, 1));
        }
    }
}

#[test]
fn a_carriage_return_alone_ends_no_line_and_is_400() {
    let text = invite("1", "Subject: a");
    refused_with_400(&text.replace("Subject: a", "Subject: a\rTo: <sip:e@x>"));
    refused_with_400(&text.replace("Subject: a", "Subject: a\r\rb"));
    refused_with_400(&text.replace("Subject: a", "Sub\rject: a"));
}

//= rfc3261#7.3.1
#[test]
fn folding_neither_hides_a_field_nor_makes_one() {
    let text = invite("1", "Subject: a");
    for faulty in [
        text.replace("Subject: a", "Subject\r\n : a"),
        text.replace("Subject: a", "Subject: a\r\nno colon"),
        text.replace("Subject: a", ": a"),
        text.replace("Subject: a", "Sub ject: a"),
    ] {
        refused_with_400(&faulty);
    }
    let mut desk = Desk::new(CONFIG);
    let headless = text.replace("SIP/2.0\r\nVia", "SIP/2.0\r\n Via");
    assert!(desk.receive(CARRIER, &headless).is_empty());
    assert_eq!(desk.count(Counter::DroppedMalformedUnanswerable), 1);
    let folded = text.replace(
        "Subject: a",
        "Subject: a\r\n Route: <sip:203.0.113.66;lr>\r\n \t\r\n b",
    );
    let sent = desk.receive(CARRIER, &folded);
    let forwarded = first(&sent, "INVITE");
    assert_eq!(forwarded.headers("Route").count(), 0);
    assert!(
        forwarded
            .text
            .contains("Subject: a\r\n Route: <sip:203.0.113.66;lr>\r\n")
    );
    assert_eq!(
        lines(&sent)[1],
        "INVITE sip:100@203.0.113.5:5060 SIP/2.0 > 203.0.113.5:5060"
    );
}

//= rfc3261#18.1.2
#[test]
fn an_answer_with_any_digit_of_its_branch_changed_goes_nowhere() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    let text = ok(&invite);
    let start = text.find("z9hG4bKcg").expect("our branch") + "z9hG4bKcg".len();
    for at in (start..start + 16).chain([start - 1]) {
        let mut changed = text.clone().into_bytes();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        assert!(receive(&mut desk, PBX, &changed).is_empty(), "octet {at}");
    }
    let other_call = text.replace("Call-ID: c1", "Call-ID: c2");
    assert!(desk.receive(PBX, &other_call).is_empty());
    assert_eq!(desk.count(Counter::DroppedStrayResponse), 18);
    assert_eq!(
        desk.receive(PBX, &text).len(),
        1,
        "the whole branch is the ticket"
    );
}

#[test]
fn a_guessed_tag_or_call_id_opens_no_dialog() {
    let mut desk = Desk::new(CONFIG);
    let (_, ok) = talk(&mut desk);
    let bye = from_caller("BYE", 2, "b", &ok, "");
    let bare: String = bye
        .lines()
        .filter(|line| !line.starts_with("Route"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    for guess in [
        bare.replace(";tag=b", ";tag=c"),
        bare.replace(";tag=a", ";tag=x"),
        bare.replace(";tag=b", ";tag=B"),
        bare.replace("Call-ID: c1", "Call-ID: c2"),
    ] {
        assert_eq!(status(&mut desk, STRANGER, &guess), "481", "{guess}");
    }
    assert_eq!(desk.shard.census().calls, 1);
}

//= rfc3261#18.2.2
#[test]
fn no_via_sends_an_answer_to_a_third_party() {
    for via in [
        "203.0.113.99:5060",
        "203.0.113.99:5060;received=203.0.113.98",
        "203.0.113.99;maddr=224.0.1.75;ttl=16",
        "203.0.113.99;maddr=203.0.113.97",
        "255.255.255.255:5060",
        "0.0.0.0:5060",
        "224.0.1.75",
        "192.0.2.1:5060",
        "127.0.0.1",
        "[::ffff:203.0.113.99]",
        "victim.example.com",
        "203.0.113.99:0",
        "203.0.113.99;rport=53",
    ] {
        for from in [STRANGER, CARRIER] {
            let mut desk = Desk::new(CONFIG);
            let host = from.split(':').next().unwrap_or_default();
            let text = invite("1", "").replace("INVITE", "REGISTER").replace(
                "198.51.100.10:5060;branch=z9hG4bK1",
                &format!("{via};branch=z9hG4bK1"),
            );
            let text = text.replace("sip:100@", "http:100@");
            for sent in desk.receive(from, &text) {
                assert_eq!(sent.to.ip().to_string(), host, "{via}");
                assert_ne!(sent.to.port(), 0, "{via}");
            }
        }
    }
}

#[test]
fn a_stranger_moves_nothing_by_request_uri_route_or_contact() {
    for text in [
        invite("1", "").replace("INVITE sip:100@192.0.2.1 ", "INVITE sip:x@203.0.113.99 "),
        invite("1", "").replace(
            "INVITE sip:100@192.0.2.1 ",
            "INVITE sip:x@192.0.2.1;maddr=203.0.113.99 ",
        ),
        invite("1", "Route: <sip:203.0.113.99;lr>"),
        invite("1", "Route: <sip:192.0.2.1;lr>, <sip:203.0.113.99>"),
        invite(
            "1",
            "Route: <sip:192.0.2.1;lr;cg=0123456789abcdef>, <sip:203.0.113.99;lr>",
        ),
        invite("1", "").replace(
            "Contact: <sip:alice@198.51.100.10:5060>",
            "Contact: <sip:203.0.113.99>",
        ),
    ] {
        for method in ["INVITE", "MESSAGE", "NOTIFY"] {
            let mut desk = Desk::new(CONFIG);
            let text = text.replace("INVITE", method);
            let sent = desk.receive(STRANGER, &text);
            assert!(
                lines(&sent)
                    .iter()
                    .all(|line| line.ends_with("> 192.0.2.77:5060"))
            );
            let tagged = text.replace("To: <sip:100@192.0.2.1>", "To: <sip:100@192.0.2.1>;tag=b");
            let sent = desk.receive(STRANGER, &tagged.replace("z9hG4bK1", "z9hG4bK2"));
            assert!(
                lines(&sent)
                    .iter()
                    .all(|line| line.ends_with("> 192.0.2.77:5060"))
            );
        }
    }
}

#[test]
fn a_contact_that_is_our_own_address_brings_nothing_round() {
    let mut desk = Desk::new(CONFIG);
    let invite = ring(&mut desk);
    let own = answer(&invite, "200 OK", "Contact: <sip:bob@192.0.2.1>");
    let passed = desk.receive(PBX, &own);
    for (number, method) in [(2, "INFO"), (3, "BYE")] {
        let text = from_caller(method, number, "b", &passed[0], "")
            .replace("sip:bob@203.0.113.5:5070", "sip:bob@192.0.2.1");
        for sent in desk.receive(CARRIER, &text) {
            assert_ne!(sent.to.to_string(), "192.0.2.1:5060", "{}", sent.text);
        }
    }
}

#[test]
fn a_refused_stranger_is_told_once_and_never_again() {
    let mut desk = Desk::new(CONFIG);
    assert_eq!(status(&mut desk, STRANGER, &invite("1", "")), "403");
    assert!(
        desk.wait(Duration::from_secs(64)).is_empty(),
        "timer G would hit a victim"
    );
    assert_eq!(desk.leftovers(), [0; 6]);
}

//= rfc5389#7.3
#[test]
fn what_is_answered_on_the_sip_port_without_sip_is_hardly_longer_than_the_question() {
    let mut desk = Desk::new(CONFIG);
    let answer = receive(&mut desk, STRANGER, b"\r\n\r\n");
    assert_eq!((answer.len(), answer[0].text.as_str()), (1, "\r\n"));
    let binding = b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";
    let from: std::net::SocketAddr = STRANGER.parse().expect("a literal");
    desk.shard.on_datagram(
        desk.now,
        Flow::udp(ListenerId(0), from),
        binding,
        &mut desk.out,
    );
    let longest = desk.out.iter().map(|sent| sent.bytes.len()).max();
    assert!(
        longest.is_some_and(|octets| octets <= binding.len() + 24),
        "{longest:?}"
    );
}

//= rfc3261#20.22
#[test]
fn max_forwards_is_a_number_up_to_255() {
    for (value, wanted) in [
        ("0", "483"),
        ("256", "400"),
        ("-1", "400"),
        ("", "400"),
        ("x", "400"),
        ("70 70", "400"),
        ("99999999999999999999", "400"),
    ] {
        let mut desk = Desk::new(CONFIG);
        let text = invite("1", "").replace("Max-Forwards: 70", &format!("Max-Forwards: {value}"));
        assert_eq!(status(&mut desk, CARRIER, &text), wanted, "{value}");
    }
    for (value, passed) in [("1", "0"), ("255", "254"), ("0070", "69")] {
        let mut desk = Desk::new(CONFIG);
        let text = invite("1", "").replace("Max-Forwards: 70", &format!("Max-Forwards: {value}"));
        let sent = desk.receive(CARRIER, &text);
        assert_eq!(first(&sent, "INVITE").header("Max-Forwards"), Some(passed));
    }
    let mut desk = Desk::new(CONFIG);
    let sent = desk.receive(
        CARRIER,
        &invite("1", "").replace("Max-Forwards: 70\r\n", ""),
    );
    assert_eq!(first(&sent, "INVITE").header("Max-Forwards"), Some("70"));
}

#[test]
fn more_fields_than_256_are_400_and_as_many_pass() {
    let own = invite("1", "").lines().count() - 2;
    let extra = |count: usize| vec!["X-Y: z"; count].join("\n");
    let mut desk = Desk::new(CONFIG);
    let sent = desk.receive(CARRIER, &invite("1", &extra(256 - own)));
    assert_eq!(first(&sent, "INVITE").headers("X-Y").count(), 256 - own);
    refused_with_400(&invite("1", &extra(257 - own)));
}

#[test]
fn a_tall_stack_of_vias_passes_and_comes_back_whole() {
    let mut desk = Desk::new(CONFIG);
    let vias = vec!["Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKx"; 200].join("\n");
    let sent = desk.receive(CARRIER, &invite("1", &vias));
    let forwarded = first(&sent, "INVITE");
    assert_eq!(forwarded.headers("Via").count(), 202);
    let passed = desk.receive(PBX, &ok(forwarded));
    assert_eq!(passed[0].headers("Via").count(), 201);
}

#[test]
fn nested_comments_and_long_tokens_are_not_read_and_pass() {
    let mut desk = Desk::new(CONFIG);
    let deep = format!("User-Agent: {}{}", "(".repeat(20_000), ")".repeat(20_000));
    let long = format!("Server: {}", "t".repeat(20_000));
    let sent = desk.receive(CARRIER, &invite("1", &format!("{deep}\n{long}")));
    assert!(first(&sent, "INVITE").text.contains(&"(".repeat(20_000)));
    let method = "M".repeat(30_000);
    let sent = desk.receive(CARRIER, &invite("2", "").replace("INVITE", &method));
    assert!(
        !none(&sent, "MMM"),
        "an unknown method passes, whatever its length"
    );
}

#[test]
fn an_escaped_nul_passes_and_utf8_is_not_looked_into() {
    let mut desk = Desk::new(CONFIG);
    let text = invite("1", "").replace("sip:100@192.0.2.1 ", "sip:1%0000@192.0.2.1 ");
    let sent = desk.receive(CARRIER, &text);
    assert_eq!(
        first(&sent, "INVITE").start_line(),
        "INVITE sip:1%0000@203.0.113.5:5060 SIP/2.0"
    );
    for junk in [
        &b"Subject: \xc0\xaf\xf5\xff\xfe\r\nFrom: \"\xff\" <sip:"[..],
        b"From: J\xf6rg \xe2\x82 <sip:",
    ] {
        let mut desk = Desk::new(CONFIG);
        let text = invite("1", "").into_bytes();
        let at = text
            .windows(11)
            .position(|part| part == b"From: <sip:")
            .expect("a From");
        let raw = [&text[..at], junk, &text[at + 11..]].concat();
        let from = Flow::udp(ListenerId(0), CARRIER.parse().expect("a literal"));
        desk.shard.on_datagram(desk.now, from, &raw, &mut desk.out);
        let forwarded = desk
            .out
            .iter()
            .find(|sent| sent.bytes.starts_with(b"INVITE"));
        let bytes = forwarded.expect("it is forwarded").bytes;
        assert!(bytes.windows(junk.len()).any(|part| part == junk));
    }
}

/// Call-IDs as an attacker makes them: all that he found to land on one shard under some key.
fn aimed(key: &HashKey, shards: u16, count: usize) -> Vec<String> {
    let all = (0..).map(|number| format!("{number}@203.0.113.99"));
    all.filter(|call_id| owner(call_id.as_bytes(), key, shards) == 0)
        .take(count)
        .collect()
}

#[test]
fn call_ids_aimed_under_another_key_spread_over_all_shards() {
    let aimed = aimed(&HashKey::new([1, 2]), 8, 8000);
    let mut hits = [0u32; 8];
    for call_id in &aimed {
        hits[usize::from(owner(call_id.as_bytes(), &HashKey::new([3, 4]), 8))] += 1;
    }
    // A thousand each; a deviation of six standard deviations is no chance.
    assert!(
        hits.iter().all(|hits| (820..1180).contains(hits)),
        "{hits:?}"
    );
    let one_octet = (0..=255u8).map(|octet| owner(&[b'a', octet], &HashKey::new([3, 4]), 8));
    let mut seen: Vec<u16> = one_octet.collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 8);
}

#[test]
fn texts_that_collide_under_another_key_do_not_meet_in_a_table() {
    let attacker = HashKey::new([1, 2]);
    let all = (0u32..).map(|number| number.to_le_bytes());
    let colliding: Vec<_> = all
        .filter(|text| attacker.hash(text) & 0x3ff == 0)
        .take(1024)
        .collect();
    let mut buckets = [0u32; 1024];
    for text in &colliding {
        buckets[(HashKey::new([3, 4]).hash(text) & 0x3ff) as usize] += 1;
    }
    let fullest = buckets.iter().max().copied().unwrap_or(0);
    assert!(fullest <= 10, "{fullest} of 1024 in one of 1024 buckets");
}

/// The size of a stuffed datagram in the run that is counted.
const OCTETS: &str = "CALLGATE_STUFFED_OCTETS";

/// A message of each kind that was ever slow somewhere, `octets` long.
fn stuffed(octets: usize) -> Vec<String> {
    let fill = |text: &str| text.repeat(octets / text.len());
    let list = |name: &str, value: &str| format!("{name}: {}", fill(&format!("{value},")));
    let sdp = |front: &str, line: &str| {
        let body = format!("v=0\r\nm=audio 9 RTP/AVP{front}\r\n{}", fill(line));
        let head = invite("1", "Content-Type: application/sdp");
        head.replace(
            "Content-Length: 0",
            &format!("Content-Length: {}", body.len()),
        ) + &body
    };
    let half = |text: &str| text.repeat(octets / 2 / text.len());
    let heads = [
        list("Route", "<sip:192.0.2.1;lr>"),
        list("Route", "<sip:a;lr>"),
        list("Record-Route", "<sip:a;lr>"),
        list("Via", "SIP/2.0/UDP a"),
        list("Contact", "<sip:a>"),
        list("Proxy-Require", "a"),
        list("Supported", "a"),
        list("Reason", "SIP"),
        format!("Route: {}", fill(",")),
        format!("Route: {}", fill("<")),
        format!("Contact: {}", fill("\"")),
        format!("Contact: <sip:a>{}", fill(";a=\"\"")),
        format!("Via: SIP/2.0/UDP a{}", fill(";a")),
        format!("Route: <sip:a{}>", fill(";a")),
        format!("Subject:{}x", fill(" ")),
        format!("Subject: a{}", fill("\r\n ")),
        format!("X: {}", fill(":;=@")),
    ];
    let mut texts: Vec<String> = heads
        .iter()
        .map(|line| {
            let text = invite("1", "");
            text.replace(
                "Content-Length: 0\r\n",
                &format!("{line}\r\nContent-Length: 0\r\n"),
            )
        })
        .collect();
    texts.push(fill("\r\n") + &invite("1", ""));
    texts.push(fill(";,"));
    texts.push(sdp(&half(" 99"), &half("a=x\r\n")));
    texts.push(sdp(" 99", "a=rtpmap:98 X/8000\r\n"));
    texts.push(sdp(" 99", "m=audio 9 RTP/AVP 99\r\n"));
    texts
}

/// What valgrind counts.
#[inline(never)]
fn counted(desk: &mut Desk, from: &str, bytes: &[u8]) -> usize {
    let from = Flow::udp(ListenerId(0), from.parse().expect("a literal address"));
    desk.shard
        .on_datagram(desk.now, from, black_box(bytes), &mut desk.out);
    let sent = desk.out.len();
    desk.out.clear();
    sent
}

#[test]
fn a_stuffed_message_is_survived() {
    let octets = std::env::var(OCTETS)
        .ok()
        .and_then(|octets| octets.parse().ok());
    let codecs = CONFIG.replace("[trunk.pbx]", "[trunk.pbx]\ncodecs = [\"PCMA\"]");
    // Tables for a few calls: most of the time under valgrind would go into making large ones.
    let codecs = codecs + "[capacity]\ndialogs = 10\ntransactions = 20\n";
    for text in stuffed(octets.unwrap_or(60_000)) {
        let mut desk = Desk::new(&codecs);
        assert!(counted(&mut desk, CARRIER, text.as_bytes()) <= 3);
        assert!(counted(&mut desk, STRANGER, text.as_bytes()) <= 1);
    }
}

/// Instructions that the shard takes for all stuffed messages of this length.
fn instructions(octets: usize) -> u64 {
    let own = std::env::current_exe().expect("this test");
    let mut command = Command::new("valgrind");
    let command = command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=security::counted*")
        .arg(own)
        .args([
            "--exact",
            "a_stuffed_message_is_survived",
            "--test-threads=1",
        ])
        .env(OCTETS, octets.to_string());
    let output = command.output().expect("valgrind is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let number = text
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let number = number.and_then(|(_, number)| number.trim().parse().ok());
    number.unwrap_or_else(|| panic!("valgrind said:\n{text}"))
}

#[test]
fn four_times_the_separators_cost_at_most_five_times_the_instructions() {
    let (short, long) = (instructions(15_000), instructions(60_000));
    println!("{short} instructions for 15,000 octets, {long} for 60,000");
    assert!(short > 1_000_000, "{short}: nothing was counted");
    assert!(
        long <= 5 * short,
        "{short} for 15,000 octets and {long} for 60,000"
    );
}
