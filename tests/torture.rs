//! The torture messages of RFC 4475, sent to a node over its socket.
//!
//! Each must end in one of the outcomes that the corpus' index allows. The sender has 127.0.0.9 with
//! the ports that the messages' Vias name, where answers go; the callee answers 200 to anything.

mod support;

use std::net::SocketAddr;

use support::corpora;
use support::message::{Message, bare_uri, find};
use support::node::{Node, Setup};
use support::phone::{Dialog, Phone};
use support::protos;
use support::{ms, now};

/// How long an outcome may take.
const PATIENCE_MS: u64 = 1200;

/// What was seen after a message had been sent.
#[derive(Debug, Default)]
struct Seen {
    /// Requests that reached the callee.
    forwarded: Vec<Message>,
    /// Final answers that reached the sender.
    answers: Vec<Message>,
    /// Responses at the callee: a response of the corpus that went on its way.
    passed_on: Vec<Message>,
}

/// Ports that topmost Vias of the corpus name, beside the default of 5060.
const OTHER_PORTS: [u16; 3] = [5050, 5061, 5070];

/// The sender's ports, the callee, and the node between them.
struct Bench {
    node: Node,
    sender: Phone,
    other_ports: Vec<Phone>,
    callee: Phone,
}

impl Bench {
    fn new() -> Bench {
        let sender = Phone::on("127.0.0.9:5060");
        let other_ports = OTHER_PORTS.map(|port| Phone::on(&format!("127.0.0.9:{port}")));
        let callee = Phone::on("127.0.0.8:0");
        let node = Node::start(&Setup::new(format!(
            "[trunk.sender]\naddress = [\"{}\"]\nmatch = [\"127.0.0.9/32\"]\n\
             [trunk.callee]\naddress = [\"{}\"]\n[[route]]\nto = \"callee\"\n",
            sender.address, callee.address
        )));
        Bench {
            node,
            sender,
            other_ports: other_ports.into(),
            callee,
        }
    }

    fn send(&self, bytes: &[u8]) -> Seen {
        self.forget();
        self.sender.send(bytes, self.node.address);
        let mut seen = Seen::default();
        let end = now() + ms(PATIENCE_MS);
        let mut quiet_from = now();
        // Over when nothing came for a while, or the time is up.
        while now() < end && now().saturating_duration_since(quiet_from) < ms(250) {
            if self.take_one(&mut seen) {
                quiet_from = now();
            }
        }
        seen
    }

    fn forget(&self) {
        let phones = self.other_ports.iter().chain([&self.sender, &self.callee]);
        phones.for_each(Phone::forget);
    }

    fn take_one(&self, seen: &mut Seen) -> bool {
        let mut came = false;
        for phone in self.other_ports.iter().chain([&self.sender]) {
            while let Some(answer) = phone.hears(ms(1)) {
                came = true;
                if answer.status() >= 200 {
                    self.acknowledge(&answer);
                    seen.answers.push(answer);
                }
            }
        }
        while let Some((bytes, from)) = self.callee.hears_raw(ms(5)) {
            came = true;
            assert_eq!(from, self.node.address, "somebody else sends to the callee");
            let message = Message::new(bytes);
            if !message.is_request() {
                seen.passed_on.push(message);
            } else if message.method() != "ACK" {
                self.answer_as_callee(&message);
                seen.forwarded.push(message);
            }
        }
        came
    }

    /// A refused INVITE would be repeated until its ACK; who sends it does not matter to the outcome.
    fn acknowledge(&self, answer: &Message) {
        if answer.method() == "INVITE" && answer.status() >= 300 {
            let mut ack = String::from("ACK sip:torture@example.com SIP/2.0\r\n");
            for name in ["Via", "From", "To", "Call-ID"] {
                ack.push_str(&format!("{name}: {}\r\n", answer.value(name)));
            }
            ack.push_str(&format!(
                "CSeq: {} ACK\r\nContent-Length: 0\r\n\r\n",
                answer.cseq()
            ));
            self.sender.send(ack.as_bytes(), self.node.address);
        }
    }

    fn answer_as_callee(&self, request: &Message) {
        // Header lines are copied as they came, since most of these messages are odd on purpose.
        let mut out = b"SIP/2.0 200 OK\r\n".to_vec();
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for line in raw_lines(&request.bytes, name) {
                out.extend(line);
            }
        }
        out.extend(b"Content-Length: 0\r\n\r\n");
        self.callee.send(&out, self.node.address);
    }

    /// An ordinary call goes through: the node is alive and well.
    fn is_well(&self) {
        self.forget();
        let caller = &self.sender;
        let mut dialog = Dialog::to(caller, "sip:well@example.com", self.node.address);
        caller.send(dialog.request("OPTIONS").as_bytes(), self.node.address);
        let request = self.callee.until("OPTIONS");
        self.callee.answer(&request, "200 OK", self.node.address);
        caller.until("200");
    }
}

/// The lines of a header, with what is folded into them and their line ends.
fn raw_lines(bytes: &[u8], name: &str) -> Vec<Vec<u8>> {
    let compact = match name {
        "Via" => "v",
        "From" => "f",
        "To" => "t",
        "Call-ID" => "i",
        _ => "",
    };
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut is_inside = false;
    for line in bytes.split_inclusive(|octet| *octet == b'\n').skip(1) {
        if line == b"\r\n" {
            break;
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            if let (true, Some(last)) = (is_inside, found.last_mut()) {
                last.extend(line);
            }
            continue;
        }
        let head = line
            .split(|octet| *octet == b':')
            .next()
            .unwrap_or_default();
        let head = String::from_utf8_lossy(head).trim().to_ascii_lowercase();
        is_inside = head == name.to_ascii_lowercase() || (head == compact && !compact.is_empty());
        if is_inside {
            found.push(line.to_vec());
        }
    }
    found
}

/// Headers that a proxy may add to or change.
const CHANGED_BY_A_PROXY: &[&str] = &[
    "via",
    "v",
    "max-forwards",
    "max-breadth",
    "record-route",
    "route",
];

/// Header lines that a proxy must leave alone, with folding undone, names in lower case.
fn untouched(bytes: &[u8]) -> Vec<String> {
    let head_end = find(bytes, b"\r\n\r\n").map_or(bytes.len(), |at| at + 2);
    let mut lines: Vec<String> = Vec::new();
    for line in bytes[..head_end].split(|octet| *octet == b'\n').skip(1) {
        // Every octet becomes one letter: nothing is lost or merged.
        let text: String = line.iter().map(|octet| char::from(*octet)).collect();
        match lines.last_mut() {
            Some(before) if text.starts_with([' ', '\t']) => {
                before.push_str(&format!(" {}", text.trim()))
            }
            _ => lines.push(text.trim_end().to_owned()),
        }
    }
    lines.retain(|line| {
        let name = line
            .split(':')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        !line.is_empty() && !CHANGED_BY_A_PROXY.contains(&name.as_str())
    });
    lines
}

/// Why the forwarded request is not the sent one, or nothing.
fn changed(sent: &[u8], forwarded: &Message) -> Option<String> {
    let (before, after) = (untouched(sent), untouched(&forwarded.bytes));
    if let Some(lost) = before.iter().find(|line| !after.contains(line)) {
        return Some(format!("lost or changed: {lost}"));
    }
    if let Some(added) = after
        .iter()
        .find(|line| !before.contains(line) && !is_length(line))
    {
        return Some(format!("added: {added}"));
    }
    let start = |bytes: &[u8]| {
        bytes
            .split(|octet| *octet == b'\r')
            .next()
            .unwrap_or_default()
            .to_vec()
    };
    if start(sent) != start(&forwarded.bytes) && !goes_to_a_strict_router(sent, forwarded) {
        return Some("the request line has changed".to_owned());
    }
    let body = Message::new(sent).body().to_vec();
    if !body.starts_with(forwarded.body()) {
        return Some("the body has changed".to_owned());
    }
    None
}

/// The one reason to change a Request-URI: the next Route is a strict router, which gets its own URI
/// there and the former one as the last Route.
//= rfc3261#16.6
fn goes_to_a_strict_router(sent: &[u8], forwarded: &Message) -> bool {
    let sent = Message::new(sent);
    let next = sent
        .list("Route")
        .first()
        .map(|route| bare_uri(route))
        .unwrap_or_default();
    let last = forwarded
        .list("Route")
        .last()
        .map(|route| bare_uri(route))
        .unwrap_or_default();
    !next.contains(";lr") && forwarded.uri() == next && last == sent.uri()
}

fn is_length(line: &str) -> bool {
    line.to_ascii_lowercase().starts_with("content-length")
}

/// Whether `outcome` of the index is what was seen.
fn is(outcome: &str, sent: &[u8], seen: &Seen) -> Result<(), String> {
    match outcome {
        "forward" => {
            let forwarded = seen.forwarded.first().ok_or("not forwarded")?;
            changed(sent, forwarded).map_or(Ok(()), Err)?;
            parses(forwarded)
        }
        "forward-fixed" => parses(seen.forwarded.first().ok_or("not forwarded")?),
        "drop" => {
            match seen.answers.is_empty() && seen.forwarded.is_empty() && seen.passed_on.is_empty()
            {
                true => Ok(()),
                false => Err("not dropped".to_owned()),
            }
        }
        "response-accept" => match seen.answers.is_empty() && seen.forwarded.is_empty() {
            true => Ok(()),
            false => Err("a response was answered".to_owned()),
        },
        status => {
            let wanted: u16 = status
                .parse()
                .map_err(|_| format!("unknown outcome {status}"))?;
            let answered = seen.answers.iter().any(|answer| answer.status() == wanted);
            // A 200 may be the callee's; a refusal must not come together with a forwarded request.
            let alone = wanted < 300 || seen.forwarded.is_empty();
            if answered && alone {
                Ok(())
            } else {
                Err(format!("no {status}"))
            }
        }
    }
}

fn parses(message: &Message) -> Result<(), String> {
    support::strict::request(&message.bytes)
}

/// Runs every row of one class; all faults are shown together.
fn all_of(class: &str) {
    let _alone = support::alone();
    let bench = Bench::new();
    let mut faults = Vec::new();
    let rows: Vec<Vec<String>> = corpora::index(&corpora::folder("rfc4475"))
        .into_iter()
        .filter(|row| row[3] == class)
        .collect();
    assert!(!rows.is_empty(), "no rows of class {class}");
    for row in rows {
        let bytes = corpora::read(&corpora::folder("rfc4475"), &row[0]);
        let seen = bench.send(&bytes);
        let tried: Vec<(&str, Result<(), String>)> = row[4]
            .split(',')
            .map(|outcome| (outcome, is(outcome, &bytes, &seen)))
            .collect();
        if !tried.iter().any(|(_, result)| result.is_ok()) {
            let answers: Vec<String> = seen.answers.iter().map(Message::start_line).collect();
            let forwarded: Vec<String> = seen.forwarded.iter().map(Message::start_line).collect();
            faults.push(format!(
                "{} ({}, {}): {tried:?}; answers {answers:?}, forwarded {forwarded:?}",
                row[0], row[1], row[2]
            ));
        }
        bench.is_well();
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn all_49_messages_are_there() {
    assert_eq!(corpora::index(&corpora::folder("rfc4475")).len(), 49);
}

#[test]
fn valid_messages_are_forwarded_unchanged() {
    all_of("valid");
}

#[test]
fn invalid_messages_are_refused_or_repaired() {
    all_of("invalid");
}

#[test]
fn a_missing_transaction_identifier_is_survived() {
    all_of("txn");
}

#[test]
fn application_layer_oddities_get_their_answers() {
    all_of("app");
}

#[test]
fn a_message_of_rfc_2543_is_forwarded() {
    all_of("compat");
}

#[test]
fn the_50th_file_of_the_archive_is_not_forwarded() {
    let _alone = support::alone();
    let bench = Bench::new();
    let seen = bench.send(&corpora::read(
        &corpora::folder("rfc4475"),
        "extra/test.dat",
    ));
    assert!(
        seen.forwarded.is_empty() && seen.passed_on.is_empty(),
        "{seen:?}"
    );
    bench.is_well();
}

#[test]
fn no_answer_goes_anywhere_but_to_the_sender_and_the_callee() {
    let _alone = support::alone();
    let bench = Bench::new();
    // The corpus' Vias and Contacts name public addresses: a node bound to loopback cannot reach
    // them, but it would count the attempts as failed sends.
    let stranger: SocketAddr = "127.0.0.10:5060".parse().expect("a literal address");
    let listener = Phone::on(&stranger.to_string());
    for row in corpora::index(&corpora::folder("rfc4475")) {
        let bytes = corpora::read(&corpora::folder("rfc4475"), &row[0]);
        bench.send(&protos::replace(&bytes, "192.0.2.2", "127.0.0.10"));
    }
    listener.hears_nothing();
    bench.is_well();
}
