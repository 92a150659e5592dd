//! Datagrams that no honest peer sends, and messages from the wild, over a node's socket.
//!
//! After each hundred the node must answer OPTIONS and pass a whole call; what it passes on must
//! parse strictly; memory must stay within bound; nothing goes to addresses named in messages.

mod support;

use std::net::{SocketAddr, UdpSocket};

use support::corpora;
use support::message::Message;
use support::node::{Node, Setup};
use support::phone::{Dialog, Phone};
use support::protos;
use support::{eventually, ms, seconds, strict};

struct Bench {
    node: Node,
    /// A known trunk: what it sends may be forwarded.
    sender: Phone,
    callee: Phone,
    /// Honest peers of the same node.
    caller: Phone,
    answerer: Phone,
    forwarded: usize,
    faults: Vec<String>,
}

impl Bench {
    fn new() -> Bench {
        let (sender, callee) = (Phone::new(), Phone::new());
        let (caller, answerer) = (Phone::new(), Phone::new());
        let mut setup = Setup::new(format!(
            "[trunk.sender]\naddress = [\"{}\"]\n[trunk.callee]\naddress = [\"{}\"]\n\
             [trunk.caller]\naddress = [\"{}\"]\n[trunk.answerer]\naddress = [\"{}\"]\n\
             [[route]]\nfrom = [\"caller\"]\nto = \"answerer\"\n[[route]]\nto = \"callee\"\n",
            sender.address, callee.address, caller.address, answerer.address
        ));
        // Requests that nobody answers must not pile up for half a minute each.
        setup.timers = "t1 = \"10ms\"\nt2 = \"40ms\"\nt4 = \"50ms\"".to_owned();
        let node = Node::start(&setup);
        Bench {
            node,
            sender,
            callee,
            caller,
            answerer,
            forwarded: 0,
            faults: Vec::new(),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.sender.send(bytes, self.node.address);
        self.look(ms(0));
    }

    /// Takes what the callee got; each message must be one that the gate itself would accept.
    fn look(&mut self, patience: std::time::Duration) {
        while let Some(message) = self.callee.hears(patience) {
            self.forwarded += 1;
            if message.is_request()
                && let Err(fault) = strict::request(&message.bytes)
                && self.faults.len() < 10
            {
                self.faults.push(format!("{fault} in {message:?}"));
            }
        }
        self.sender.forget();
    }

    fn is_well(&mut self, after: &str) {
        self.look(ms(1));
        assert!(
            self.node.is_alive(),
            "the node ended after {after}: {}",
            self.node.output()
        );
        self.answers_options(after);
        self.passes_a_call(after);
    }

    fn answers_options(&self, after: &str) {
        let caller = &self.caller;
        let own = format!("sip:{}", self.node.address);
        let request = Dialog::to(caller, &own, self.node.address).request("OPTIONS");
        let answered = eventually(seconds(2), || {
            caller.send(request.as_bytes(), self.node.address);
            caller
                .hears(ms(200))
                .is_some_and(|answer| answer.status() == 200)
        });
        assert!(
            answered,
            "no answer to OPTIONS after {after}: {}",
            self.node.output()
        );
        caller.forget();
    }

    fn passes_a_call(&self, after: &str) {
        let (caller, answerer, gate) = (&self.caller, &self.answerer, self.node.address);
        let mut dialog = Dialog::to(caller, "sip:well@example.com", gate);
        caller.send(dialog.request("INVITE").as_bytes(), gate);
        let Some(invite) = answerer.hears(seconds(3)) else {
            panic!("a call does not pass after {after}: {}", self.node.output());
        };
        answerer.answer(&invite, "200 OK", gate);
        dialog.learn(&caller.until("200"));
        caller.send(dialog.ack().as_bytes(), gate);
        answerer.until("ACK");
        caller.send(dialog.request("BYE").as_bytes(), gate);
        let bye = answerer.until("BYE");
        answerer.answer(&bye, "200 OK", gate);
        caller.until("200");
    }

    fn finish(mut self, least_forwarded: usize) {
        self.is_well("everything");
        assert!(
            self.faults.is_empty(),
            "forwarded, but not strictly parsed:\n{}",
            self.faults.join("\n")
        );
        assert!(
            self.forwarded >= least_forwarded,
            "only {} messages were forwarded: this test proves nothing",
            self.forwarded
        );
    }

    /// Resident memory of the node, in KiB.
    fn memory_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.node.id())).expect("Linux");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("a resident size");
        let number = line
            .split_whitespace()
            .nth(1)
            .and_then(|text| text.parse().ok());
        number.expect("a number of KiB")
    }
}

/// Octets that look random and are the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        // xorshift64: any non-zero start gives a period of 2^64 - 1.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// An INVITE of this bench's sender with `extra` header lines and a body of `body` octets.
fn invite(bench: &Bench, extra: &str, length: &str, body: &str) -> Vec<u8> {
    let dialog = Dialog::to(&bench.sender, "sip:victim@example.com", bench.node.address);
    let text = dialog.compose("INVITE", &format!("z9hG4bK{}", dialog.call_id), extra, "");
    let text = text.replace("CSeq: 0 ", "CSeq: 1 ");
    text.replace("Content-Length: 0\r\n\r\n", &format!("{length}\r\n{body}"))
        .into_bytes()
}

#[test]
fn garbage_datagrams_leave_the_node_well() {
    let _alone = support::alone();
    let mut bench = Bench::new();
    let mut noise = Noise(0x0ca1_19a7_e000_0001);
    for round in 0..20 {
        for at in 0..100 {
            let len = (noise.next() % 1400) as usize;
            let mut bytes = noise.octets(len);
            if at % 3 == 0 {
                bytes = [b"INVITE sip:a@b SIP/2.0\r\n".as_slice(), &bytes].concat();
            }
            bench.send(&bytes);
        }
        bench.is_well(&format!("garbage round {round}"));
    }
    bench.finish(0);
}

#[test]
fn a_valid_message_with_any_octet_changed_leaves_the_node_well() {
    let _alone = support::alone();
    let mut bench = Bench::new();
    let mut noise = Noise(0x0ca1_19a7_e000_0002);
    let valid = invite(&bench, "", "Content-Length: 0\r\n", "");
    for at in 0..valid.len() {
        let mut bytes = valid.clone();
        bytes[at] = noise.next() as u8;
        bench.send(&bytes);
        bench.send(&valid[..at]);
        if at % 100 == 99 {
            bench.is_well(&format!("octet {at} changed"));
        }
    }
    bench.finish(1);
}

#[test]
fn an_empty_datagram_and_one_of_64_kib_leave_the_node_well() {
    let _alone = support::alone();
    let mut bench = Bench::new();
    bench.send(b"");
    bench.is_well("an empty datagram");
    bench.send(&vec![0; 65_507]);
    bench.send(&vec![b'\r'; 65_507]);
    bench.send(&b"\r\n".repeat(32_753));
    bench.is_well("65,507 octets of nothing");
    let long = invite(
        &bench,
        &"X-Fill: 0123456789abcdef\r\n".repeat(2480),
        "Content-Length: 0\r\n",
        "",
    );
    assert!(
        (60_000..65_507).contains(&long.len()),
        "{} octets",
        long.len()
    );
    bench.send(&long);
    bench.is_well("an INVITE of 64 KiB");
    bench.finish(0);
}

#[test]
fn headers_of_60000_characters_leave_the_node_well() {
    let _alone = support::alone();
    let mut bench = Bench::new();
    let long = "x".repeat(60_000);
    let lines = [
        format!("X-Long: {long}\r\n"),
        format!("{long}: x\r\n"),
        format!("Subject: {}\r\n", "a\r\n b".repeat(12_000)),
        format!("Route: <sip:{long}@example.com;lr>\r\n"),
        format!("Via: SIP/2.0/UDP {long};branch=z9hG4bKx\r\n"),
        format!("Via: SIP/2.0/UDP h;branch=z9hG4bK{long}\r\n"),
        format!("Contact: \"{long}\" <sip:a@b>\r\n"),
        format!("Contact: <sip:a@b>{}\r\n", ",<sip:a@b>".repeat(6000)),
        format!("Require: {long}\r\n"),
        format!("To: <sip:{long}@example.com>\r\n"),
        format!("Call-ID: {long}\r\n"),
        format!("Max-Forwards: {}\r\n", "7".repeat(60_000)),
        format!("P-Asserted-Identity: \"{}\r\n", "\\\"".repeat(30_000)),
        "A: b\r\n".repeat(10_000),
        "v:x\r\n".repeat(12_000),
    ];
    for (at, line) in lines.iter().enumerate() {
        let bytes = invite(&bench, line, "Content-Length: 0\r\n", "");
        assert!(
            bytes.len() <= 65_507,
            "message {at} has {} octets",
            bytes.len()
        );
        bench.send(&bytes);
        bench.is_well(&format!("long header {at}"));
    }
    bench.finish(0);
}

#[test]
fn a_wrong_content_length_is_refused_and_never_read_beyond() {
    let _alone = support::alone();
    let mut bench = Bench::new();
    for length in [
        "5",
        "65536",
        "4294967296",
        "-1",
        "18446744073709551616",
        "1e3",
        "0x10",
        "",
        "3, 3",
        "\u{661}",
    ] {
        let bytes = invite(&bench, "", &format!("Content-Length: {length}\r\n"), "abc");
        bench.sender.send(&bytes, bench.node.address);
        let answer = bench.sender.hears(seconds(2));
        let answer = answer.unwrap_or_else(|| panic!("no answer to Content-Length: {length}"));
        assert_eq!(answer.status(), 400, "Content-Length: {length}: {answer:?}");
        bench.is_well(&format!("Content-Length: {length}"));
    }
    // More octets than it says: the rest is noise (RFC 3261 §18.3) and never goes on.
    let bytes = invite(&bench, "", "Content-Length: 3\r\n", "abcSECRET");
    bench.sender.send(&bytes, bench.node.address);
    let forwarded = bench.callee.until("INVITE");
    assert_eq!(forwarded.body(), b"abc", "{forwarded:?}");
    bench.finish(0);
}

#[test]
fn every_message_from_the_wild_leaves_the_node_well() {
    let _alone = support::alone();
    let mut bench = Bench::new();
    let rows = corpora::index(&corpora::folder("wild"));
    assert!(rows.len() > 100, "only {} messages", rows.len());
    for (at, row) in rows.iter().enumerate() {
        bench.send(&corpora::read(&corpora::folder("wild"), &row[0]));
        if at % 100 == 99 {
            bench.is_well(&row[0]);
        }
    }
    bench.finish(50);
}

/// Sends one case as its original injector did: the second message once as CANCEL, once as ACK.
fn inject(bench: &mut Bench, case: &protos::Case, number: usize) {
    let port = bench.sender.address.port().to_string();
    let to = format!("victim@{}", bench.node.address);
    let fill = |message: &[u8], method: &str| {
        let id = format!("{number:010}");
        let texts = [
            ("<To>", to.as_str()),
            ("<From>", "tester@127.0.0.1"),
            ("<From-Address>", "127.0.0.1"),
            ("<From-IP>", "127.0.0.1"),
            ("<Local-Port>", &port),
            ("<Call-ID>", &id),
            ("<CSeq>", "1"),
            ("<Branch-ID>", &id),
            ("<Teardown-Method>", method),
        ];
        let filled = texts.iter().fold(message.to_vec(), |bytes, (tag, text)| {
            protos::replace(&bytes, tag, text)
        });
        let body = Message::new(filled.clone()).body().len().to_string();
        protos::replace(&filled, "<Content-Length>", &body)
    };
    for (at, message) in case.messages.iter().enumerate() {
        let methods: &[&str] = if at == 0 {
            &["INVITE"]
        } else {
            &["CANCEL", "ACK"]
        };
        for method in methods {
            let bytes = fill(message, method);
            if bytes.len() <= 65_507 {
                bench.send(&bytes);
            }
        }
    }
}

#[test]
fn every_case_of_protos_c07_sip_leaves_the_node_well() {
    let _alone = support::alone();
    let mut bench = Bench::new();
    let cases = protos::cases();
    let mut settled = 0;
    for (at, case) in cases.iter().enumerate() {
        inject(&mut bench, case, at);
        if at % 100 == 99 {
            bench.is_well(&case.name);
        }
        if at == cases.len() / 2 {
            settled = bench.memory_kib();
        }
    }
    let grown = bench.memory_kib().saturating_sub(settled);
    assert!(
        grown < 64 * 1024,
        "{grown} KiB more after the second half of the cases"
    );
    bench.finish(100);
}

#[test]
fn no_datagram_goes_to_an_address_that_only_a_message_named() {
    let _alone = support::alone();
    let mut bench = Bench::new();
    let third = Phone::on("127.0.0.11:0");
    let at = third.address;
    let via = |line: &str| {
        let dialog = Dialog::to(&bench.sender, "sip:victim@example.com", bench.node.address);
        let text = dialog
            .compose("OPTIONS", "z9hG4bKx", "", "")
            .replace("CSeq: 0 ", "CSeq: 1 ");
        let own = format!("Via: SIP/2.0/UDP {};branch=z9hG4bKx", bench.sender.address);
        text.replace(&own, line)
    };
    let messages = [
        via(&format!("Via: SIP/2.0/UDP {at};branch=z9hG4bKv1")),
        via(&format!(
            "Via: SIP/2.0/UDP {};maddr={};branch=z9hG4bKv2",
            bench.sender.address,
            at.ip()
        )),
        via(&format!(
            "Via: SIP/2.0/UDP {};received={};rport={};branch=z9hG4bKv3",
            bench.sender.address,
            at.ip(),
            at.port()
        )),
        // A response whose only way out is a stranger.
        format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKown\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKs\r\n\
                 From: <sip:a@b>;tag=1\r\nTo: <sip:b@b>;tag=2\r\nCall-ID: c@d\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
            bench.node.address
        ),
        // A request with a Route to a stranger outside of any dialog.
        String::from_utf8(invite(
            &bench,
            &format!("Route: <sip:{at};lr>\r\n"),
            "Content-Length: 0\r\n",
            "",
        ))
        .expect("ASCII"),
    ];
    for message in &messages {
        bench.send(message.as_bytes());
        let stranger = UdpSocket::bind("127.0.0.12:0").expect("a socket on loopback");
        stranger
            .send_to(message.as_bytes(), bench.node.address)
            .expect("a datagram can be sent");
    }
    third.hears_nothing();
    bench.finish(0);
}

#[test]
fn no_answer_to_a_stranger_is_much_larger_than_its_question() {
    let _alone = support::alone();
    let bench = Bench::new();
    let stranger = Phone::on("127.0.0.13:0");
    let gate: SocketAddr = bench.node.address;
    let via = format!("v:SIP/2.0/UDP {};branch=z9hG4bK1", stranger.address);
    let short = format!(
        "OPTIONS sip:a SIP/2.0\r\n{via}\r\nf:<sip:a>;tag=1\r\nt:<sip:a>\r\ni:1\r\nCSeq:1 OPTIONS\r\n\r\n"
    );
    let questions: Vec<Vec<u8>> = vec![
        short.clone().into_bytes(),
        short.replace("OPTIONS", "INVITE").into_bytes(),
        short.replace("OPTIONS", "REGISTER").into_bytes(),
        short.replace("OPTIONS", "BYE").into_bytes(),
        short.replace("\r\ni:1", "").into_bytes(),
        b"\r\n\r\n".to_vec(),
        b"OPTIONS".to_vec(),
        b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl".to_vec(),
    ];
    for question in questions {
        stranger.send(&question, gate);
        let mut received = 0;
        while let Some((answer, _)) = stranger.hears_raw(ms(400)) {
            received += answer.len();
            // A STUN answer carries the address that was asked for: 12 octets more than its question.
            let most = (question.len() * 3 / 2).max(question.len() + 24);
            let text = String::from_utf8_lossy(&question).into_owned();
            assert!(
                answer.len() <= most,
                "{} octets answered to {}: {text}",
                answer.len(),
                question.len()
            );
        }
        assert!(
            received <= question.len() * 12,
            "{received} octets in all to {}",
            question.len()
        );
    }
}
