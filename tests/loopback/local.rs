//! What the node answers by itself: OPTIONS, keep-alives, strangers, faults of requests.

use crate::support::message::Message;
use crate::support::node::Node;
use crate::support::phone::{Dialog, Phone, unique};
use crate::support::seconds;

struct Bench {
    caller: Phone,
    callee: Phone,
    node: Node,
}

impl Bench {
    fn new() -> Bench {
        let (caller, callee) = (Phone::new(), Phone::new());
        let node = Node::with(format!(
            "[trunk.caller]\naddress = [\"{}\"]\n[trunk.callee]\naddress = [\"{}\"]\n\
             [[route]]\ndomain = \"example.com\"\nto = \"callee\"\n",
            caller.address, callee.address
        ));
        Bench {
            caller,
            callee,
            node,
        }
    }

    /// An INVITE to example.com, changed by `change`, and its final answer.
    fn answer_to(&self, change: impl Fn(String) -> String) -> Message {
        let mut dialog = Dialog::to(&self.caller, "sip:bob@example.com", self.node.address);
        let invite = change(dialog.request("INVITE"));
        self.caller.forget();
        self.caller.send(invite.as_bytes(), self.node.address);
        loop {
            let answer = self
                .caller
                .hears(seconds(3))
                .unwrap_or_else(|| panic!("no answer to {invite}"));
            if answer.status() >= 200 {
                let ack = Dialog::of_transaction("ACK", &invite, &answer.value("To"));
                self.caller.send(ack.as_bytes(), self.node.address);
                return answer;
            }
        }
    }
}

#[test]
fn options_to_the_node_tells_anybody_what_it_can() {
    let bench = Bench::new();
    let stranger = Phone::on("127.0.0.20:0");
    for phone in [&bench.caller, &stranger] {
        let own = format!("sip:{}", bench.node.address);
        let request = Dialog::to(phone, &own, bench.node.address).request("OPTIONS");
        phone.send(request.as_bytes(), bench.node.address);
        let answer = phone.expect("200");
        assert!(answer.to_tag().is_some(), "{answer:?}");
        assert!(
            answer.bytes.len() * 2 <= request.len() * 3,
            "{} octets for {}",
            answer.bytes.len(),
            request.len()
        );
    }
    // With room for it, all three lists are there.
    let own = format!("sip:{}", bench.node.address);
    let fill = format!("User-Agent: {}\r\n", "x".repeat(400));
    let request =
        Dialog::to(&bench.caller, &own, bench.node.address).request_with("OPTIONS", &fill, "");
    bench.caller.send(request.as_bytes(), bench.node.address);
    let answer = bench.caller.expect("200");
    for name in ["Allow", "Accept", "Supported"] {
        assert!(answer.has(name), "no {name} in {answer:?}");
    }
    assert!(
        answer.value("Allow").contains("INVITE") && answer.value("Allow").contains("CANCEL"),
        "{answer:?}"
    );
}

#[test]
fn a_double_crlf_is_answered_with_one() {
    let bench = Bench::new();
    bench.caller.send(b"\r\n\r\n", bench.node.address);
    let (answer, _) = bench
        .caller
        .hears_raw(seconds(2))
        .expect("a keep-alive answer");
    assert_eq!(answer, b"\r\n");
    // The answer of such a ping is not a ping.
    bench.caller.send(b"\r\n", bench.node.address);
    bench.caller.hears_nothing();
}

#[test]
fn a_stun_binding_request_learns_its_address() {
    let bench = Bench::new();
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend(b"twelve bytes");
    bench.caller.send(&request, bench.node.address);
    let (answer, _) = bench
        .caller
        .hears_raw(seconds(2))
        .expect("a binding response");
    assert_eq!(answer[..2], [1, 1], "not a binding success: {answer:02x?}");
    assert_eq!(
        answer[4..20],
        request[4..20],
        "another transaction: {answer:02x?}"
    );
    // XOR-MAPPED-ADDRESS: type 0x0020, length 8, family 1, port and address xored with the cookie.
    let at = answer
        .windows(6)
        .position(|window| window == [0, 0x20, 0, 8, 0, 1]);
    let at = at.unwrap_or_else(|| panic!("no XOR-MAPPED-ADDRESS in {answer:02x?}"));
    let port = u16::from_be_bytes([answer[at + 6], answer[at + 7]]) ^ 0x2112;
    let address: Vec<u8> = answer[at + 8..at + 12]
        .iter()
        .zip([0x21, 0x12, 0xa4, 0x42])
        .map(|(a, b)| a ^ b)
        .collect();
    assert_eq!(port, bench.caller.address.port());
    assert_eq!(address, [127, 0, 0, 1]);
}

#[test]
fn an_unknown_source_gets_403_and_is_never_forwarded() {
    let bench = Bench::new();
    let stranger = Phone::on("127.0.0.21:0");
    let mut dialog = Dialog::to(&stranger, "sip:bob@example.com", bench.node.address);
    let invite = dialog.request("INVITE");
    stranger.send(invite.as_bytes(), bench.node.address);
    let answer = stranger.until("403");
    stranger.send(
        Dialog::of_transaction("ACK", &invite, &answer.value("To")).as_bytes(),
        bench.node.address,
    );
    for method in ["MESSAGE", "BYE", "REGISTER", "ACK", "CANCEL", "OPTIONS"] {
        stranger.send(dialog.request(method).as_bytes(), bench.node.address);
    }
    bench.callee.hears_nothing();
    bench.node.is_quiet_within(seconds(5));
}

#[test]
fn a_request_that_matches_no_route_gets_404() {
    let bench = Bench::new();
    assert_eq!(
        bench
            .answer_to(|invite| invite.replace("example.com", "example.net"))
            .status(),
        404
    );
    bench.callee.hears_nothing();
}

#[test]
fn a_faulty_request_gets_the_code_of_its_fault() {
    let bench = Bench::new();
    let cases = [
        ("no hops left", 483, "Max-Forwards: 70", "Max-Forwards: 0"),
        ("unknown scheme", 416, "INVITE sip:", "INVITE nobody:"),
        ("unknown version", 505, "SIP/2.0\r\nVia", "SIP/7.0\r\nVia"),
        (
            "unknown extension",
            420,
            "Max-Forwards",
            "Proxy-Require: tea\r\nMax-Forwards",
        ),
        (
            "CSeq of another method",
            400,
            "CSeq: 1 INVITE",
            "CSeq: 1 BYE",
        ),
        (
            "CSeq of 2^31",
            400,
            "CSeq: 1 INVITE",
            "CSeq: 2147483648 INVITE",
        ),
        ("no Call-ID", 400, "Call-ID", "Caller-ID"),
        (
            "two To",
            400,
            "Max-Forwards",
            "To: <sip:x@example.com>\r\nMax-Forwards",
        ),
    ];
    for (what, status, from, to) in cases {
        let answer = bench.answer_to(|invite| invite.replace(from, to));
        assert_eq!(answer.status(), status, "{what}: {answer:?}");
        if status == 420 {
            assert_eq!(answer.value("Unsupported"), "tea", "{answer:?}");
        }
    }
    bench.callee.hears_nothing();
    bench.node.is_quiet_within(seconds(5));
}

#[test]
fn an_unknown_method_outside_of_a_call_is_forwarded_like_any_other() {
    let bench = Bench::new();
    let mut dialog = Dialog::to(&bench.caller, "sip:bob@example.com", bench.node.address);
    for method in ["MESSAGE", "SUBSCRIBE", "PUBLISH", "FROBNICATE", "OPTIONS"] {
        bench
            .caller
            .send(dialog.request(method).as_bytes(), bench.node.address);
        let came = bench.callee.expect(method);
        bench.callee.answer(&came, "200 OK", bench.node.address);
        bench.caller.until("200");
    }
    bench.node.is_quiet_within(seconds(5));
}

#[test]
fn a_stray_response_goes_nowhere() {
    let bench = Bench::new();
    let via = format!(
        "Via: SIP/2.0/UDP {};branch=z9hG4bK{}",
        bench.node.address,
        unique()
    );
    for second in [
        format!(
            "Via: SIP/2.0/UDP {};branch=z9hG4bKx\r\n",
            bench.caller.address
        ),
        String::new(),
    ] {
        let response = format!(
            "SIP/2.0 200 OK\r\n{via}\r\n{second}From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>;tag=2\r\n\
             Call-ID: {}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
            unique()
        );
        bench.callee.send(response.as_bytes(), bench.node.address);
    }
    bench.caller.hears_nothing();
}

#[test]
fn rport_and_received_bring_answers_to_where_the_request_came_from() {
    let bench = Bench::new();
    let mut dialog = Dialog::to(&bench.caller, "sip:bob@example.com", bench.node.address);
    let invite = dialog.request("INVITE");
    let own = format!("Via: SIP/2.0/UDP {}", bench.caller.address);
    // Behind a NAT: the Via names an address that is not where the datagram comes from.
    let invite = invite.replace(&own, "Via: SIP/2.0/UDP 192.0.2.55:5099;rport");
    bench.caller.send(invite.as_bytes(), bench.node.address);
    let came = bench.callee.until("INVITE");
    let via = came.list("Via").get(1).cloned().unwrap_or_default();
    assert!(via.contains("received=127.0.0.1"), "{via}");
    assert!(
        via.contains(&format!("rport={}", bench.caller.address.port())),
        "{via}"
    );
    bench
        .callee
        .answer(&came, "486 Busy Here", bench.node.address);
    let answer = bench.caller.until("486");
    bench.caller.send(
        Dialog::of_transaction("ACK", &invite, &answer.value("To")).as_bytes(),
        bench.node.address,
    );
    bench.node.is_quiet_within(seconds(5));
}

#[test]
fn a_request_that_goes_round_in_a_loop_gets_482() {
    let bench = Bench::new();
    let gate = bench.node.address;
    let mut dialog = Dialog::to(&bench.caller, "sip:bob@example.com", gate);
    let invite = dialog.request("INVITE");
    bench.caller.send(invite.as_bytes(), gate);
    // The callee sends what it gets to the gate again, as a misconfigured proxy would. The first
    // return comes from another trunk and may be a spiral; from then on nothing is new.
    let mut rounds: Vec<(Message, String)> = Vec::new();
    let refusal = loop {
        let message = bench.callee.hears(seconds(3)).expect("a 482");
        if message.status() >= 200 {
            break message;
        }
        let is_new = rounds
            .iter()
            .all(|(known, _)| known.branch() != message.branch());
        if message.method() == "INVITE" && message.is_request() && is_new {
            let text = String::from_utf8(message.bytes.clone()).expect("ASCII");
            let via = format!(
                "Via: SIP/2.0/UDP {};branch=z9hG4bK{}\r\nVia:",
                bench.callee.address,
                unique()
            );
            let looped = text.replacen("Via:", &via, 1);
            bench.callee.send(looped.as_bytes(), gate);
            rounds.push((message, looped));
            assert!(rounds.len() < 4, "it goes round and round");
        }
    };
    assert_eq!(refusal.status(), 482, "{refusal:?}");
    let (_, last) = rounds.last().expect("at least one round");
    let ack = Dialog::of_transaction("ACK", last, &refusal.value("To"));
    bench.callee.send(ack.as_bytes(), gate);
    // The refusal goes all the way back, hop by hop, to the caller.
    for (came, _) in rounds.iter().rev() {
        bench.callee.answer(came, "482 Loop Detected", gate);
    }
    let answer = bench.caller.until("482");
    bench.caller.send(
        Dialog::of_transaction("ACK", &invite, &answer.value("To")).as_bytes(),
        gate,
    );
    bench.node.is_quiet_within(seconds(10));
}
