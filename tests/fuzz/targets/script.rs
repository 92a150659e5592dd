//! A whole shard under a script: octets choose who says what, when, and how it is damaged on the way.
//!
//! The model is naive: whoever was told something must have been named in what came in, what goes
//! out is sound, no datagram is answered with much more than itself, the leases of the live calls
//! are the counters, and when all is over nothing is left.

use std::collections::VecDeque;
use std::net::SocketAddr;

use std::time::Duration;

use callgate::net::{Flow, ListenerId, Outbox};
use callgate::shard::mail::{Ask, Mail};
use callgate::sip::{HeaderId, Message, Scratch, parse, validate_request, validate_response};

use crossbeam::channel::bounded;

use crate::kit::Desk;

const CONFIG: &str = r#"
[node]
name = "gate"
[capacity]
dialogs = 6
transactions = 12
[[listen]]
udp = "192.0.2.1:5060"
[trunk.carrier]
address = "198.51.100.10:5060"
calls_in_max = 5
call_time_max = "20m"
[trunk.pbx1]
address = "203.0.113.5:5060"
auto_congest = "2s"
calls_max = 3
session_expires = "10m"
codecs = ["PCMA", "opus"]
[trunk.pbx2]
address = ["203.0.113.6:5060", "203.0.113.7:5060"]
auto_congest = "3s"
[group.pbx]
policy = "round-robin"
members = ["pbx1", "pbx2"]
calls_max = 4
[[route]]
from = ["carrier"]
user = "^5"
to = "reject 404"
[[route]]
from = ["carrier"]
user = "^6"
to = "redirect sip:other.example.com"
[[route]]
from = ["carrier"]
to = "pbx"
[[route]]
to = "carrier"
"#;

const PLACES: [&str; 6] = [
    "198.51.100.10:5060",
    "203.0.113.5:5060",
    "203.0.113.6:5060",
    "203.0.113.5:5070",
    "192.0.2.77:5060",
    "127.0.0.1:5060",
];

const METHODS: [&str; 14] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "PRACK",
    "UPDATE",
    "INFO",
    "REFER",
    "NOTIFY",
    "SUBSCRIBE",
    "OPTIONS",
    "MESSAGE",
    "REGISTER",
    "FOO",
];

const STATUSES: [&str; 16] = [
    "100 Trying",
    "180 Ringing",
    "183 Progress",
    "200 OK",
    "200 OK",
    "202 Accepted",
    "302 Moved",
    "401 Unauthorized",
    "404 Not Found",
    "408 Timeout",
    "422 Too Small",
    "486 Busy",
    "487 Gone",
    "491 Pending",
    "503 Unavailable",
    "603 Decline",
];

const EXTRAS: [&str; 20] = [
    "",
    "Max-Forwards: 0\r\n",
    "Max-Forwards: 255\r\n",
    "Max-Breadth: 0\r\n",
    "Max-Breadth: 1\r\n",
    "Session-Expires: 90;refresher=uac\r\nSupported: timer\r\n",
    "Session-Expires: 1800\r\nMin-SE: 1800\r\nRequire: timer\r\n",
    "Route: <sip:192.0.2.1;lr>\r\n",
    "Route: <sip:203.0.113.6;lr>, <sip:192.0.2.1>\r\n",
    "Route: <sip:203.0.113.9>\r\n",
    "Record-Route: <sip:198.51.100.10;lr>\r\nRecord-Route: <sip:192.0.2.1;lr;cg=0000000000000000>\r\n",
    "Proxy-Require: a, b\r\n",
    "Require: 100rel\r\nRSeq: 1\r\n",
    "Contact: <sip:c@224.0.0.1>\r\n",
    "Contact: <sip:c@192.0.2.1>\r\n",
    "Contact: <sip:c@203.0.113.9;maddr=203.0.113.8>\r\n",
    "Reason: SIP;cause=200\r\nReason: Q.850;cause=16\r\n",
    "Content-Type: application/sdp\r\n\r\nv=0\r\nm=audio 9 RTP/AVP 8 96\r\na=rtpmap:96 opus/48000\r\n",
    "Content-Length: 3\r\n\r\nabcd",
    "Subject: a\r\n b\r\nX: \"\r\n",
];

/// How long the script lets pass at once.
const SPANS_MS: [u64; 8] = [1, 100, 500, 2_000, 4_000, 33_000, 200_000, 1_000_000];

/// Operations of one script; more octets are not read.
const OPERATIONS_MAX: usize = 120;

/// Datagrams that one datagram may lead to: its answer, what goes on, the CANCEL of an attempt
/// that it overtakes, and what the end of that makes known.
const ANSWERS_MAX: usize = 6;

/// What the shard sent and somebody may answer.
const REMEMBERED: usize = 24;

struct Sent {
    to: SocketAddr,
    bytes: Vec<u8>,
}

struct Script<'a> {
    input: &'a [u8],
    desk: Desk,
    sent: VecDeque<Sent>,
    last: (SocketAddr, Vec<u8>),
}

/// Plays a script and looks at the shard after every step.
pub fn shard(input: &[u8]) {
    let mut desk = Desk::new(CONFIG);
    desk.out = Outbox::new(512, 4 << 20);
    let mut script = Script {
        input,
        desk,
        sent: VecDeque::new(),
        last: (place(0), b"\r\n\r\n".to_vec()),
    };
    for _ in 0..OPERATIONS_MAX {
        let Some(operation) = script.next() else {
            break;
        };
        script.step(operation);
        script.check_tables();
    }
    script.finish();
}

fn place(choice: u8) -> SocketAddr {
    let text = PLACES[usize::from(choice) % PLACES.len()];
    text.parse().expect("a literal address")
}

fn chosen<'t>(from: &[&'t str], choice: u8) -> &'t str {
    from[usize::from(choice) % from.len()]
}

impl Script<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.input.split_first()?;
        self.input = rest;
        Some(*first)
    }

    /// The next octet, or 0 behind the end.
    fn pick(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    fn step(&mut self, operation: u8) {
        match operation % 12 {
            0..=5 => {
                let (from, bytes) = self.message(operation % 12);
                self.deliver(from, bytes);
            }
            6 => self.wait(),
            7 => {
                let kind = self.pick() % 6;
                let (from, mut bytes) = self.message(kind);
                self.damage(&mut bytes);
                self.deliver(from, bytes);
            }
            8 => {
                let (from, len) = (place(self.pick()), usize::from(self.pick()));
                let bytes = self.input[..len.min(self.input.len())].to_vec();
                self.input = &self.input[bytes.len()..];
                self.deliver(from, bytes);
            }
            9 => {
                let (from, bytes) = self.last.clone();
                self.deliver(from, bytes);
            }
            10 => self.bounce(),
            _ => self.end_by_operator(),
        }
    }

    /// A message of some peer: 0 and 1 requests that begin something, 2 answers, 3 requests inside
    /// a dialog, 4 CANCEL, 5 the ACK of a refusal.
    fn message(&mut self, kind: u8) -> (SocketAddr, Vec<u8>) {
        match kind {
            0 => self.request("INVITE", ""),
            1 => {
                let method = chosen(&METHODS, self.pick());
                self.request(method, "")
            }
            2 => self.answer(),
            3 => {
                let method = chosen(&METHODS, self.pick());
                let tag = format!(";tag=t{}", self.pick() % 3);
                self.request(method, &tag)
            }
            4 => self.request("CANCEL", ""),
            _ => self.request("ACK", ";tag=t0"),
        }
    }

    fn request(&mut self, method: &str, to_tag: &str) -> (SocketAddr, Vec<u8>) {
        let choice = self.pick();
        let (call, branch) = (choice % 4, choice / 4 % 4);
        let from = place(if choice < 192 { 0 } else { self.pick() });
        let user = [100, 500, 600, 4][usize::from(choice / 16 % 4)];
        let extra = chosen(&EXTRAS, self.pick());
        let in_dialog = !to_tag.is_empty();
        let (mut tags, mut uri) = (("a", to_tag), format!("sip:{user}@192.0.2.1"));
        let mut routes = String::new();
        if in_dialog {
            let contact = [
                "sip:bob@203.0.113.5:5070",
                "sip:bob@192.0.2.1",
                "sip:bob@host.example",
                "sip:bob@255.255.255.255",
            ];
            uri = chosen(&contact, choice / 64).to_owned();
            routes = self.routes_of(call);
        }
        if in_dialog && choice / 16 % 2 == 1 {
            // From the callee's side.
            tags = (&to_tag[5..], ";tag=a");
        }
        let cseq = if in_dialog { 2 + u32::from(branch) } else { 1 };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKb{branch}{call}\r\n\
             From: <sip:a@h>;tag={}\r\nTo: <sip:b@h>{}\r\nCall-ID: c{call}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:a@{from}>\r\n{routes}{extra}\r\n",
            tags.0, tags.1
        );
        (from, text.into_bytes())
    }

    /// Route of the last INVITE of a call that the shard sent: our Record-Route with its cookie.
    fn routes_of(&self, call: u8) -> String {
        let call_id = format!("c{call}");
        let mut routes = String::new();
        let mut scratch = Scratch::new(300);
        for sent in self.sent.iter().rev() {
            let Ok(message) = parse(&sent.bytes, &mut scratch) else {
                continue;
            };
            if message.call_id() == call_id.as_bytes()
                && message.field(HeaderId::RecordRoute).is_some()
            {
                for value in message.values(HeaderId::RecordRoute) {
                    routes += &format!("Route: {}\r\n", String::from_utf8_lossy(value.bytes));
                }
                break;
            }
        }
        routes
    }

    /// An answer to something that the shard sent, from where it was sent to or from elsewhere.
    fn answer(&mut self) -> (SocketAddr, Vec<u8>) {
        let (which, status, extra) = (self.pick(), self.pick(), self.pick());
        let Some(sent) = self.nth_sent(which) else {
            return (place(which), b"SIP/2.0 200 OK\r\n\r\n".to_vec());
        };
        let from = if status < 224 { sent.to } else { place(status) };
        let mut scratch = Scratch::new(300);
        let Ok(request) = parse(&sent.bytes, &mut scratch) else {
            return (from, sent.bytes.clone());
        };
        let mut text = format!("SIP/2.0 {}\r\n", chosen(&STATUSES, status)).into_bytes();
        for field in request.fields() {
            let is_copied = matches!(
                field.id,
                HeaderId::Via
                    | HeaderId::RecordRoute
                    | HeaderId::From
                    | HeaderId::To
                    | HeaderId::CallId
                    | HeaderId::CSeq
            );
            if is_copied {
                text.extend([field.name(&request), b": ", field.value(&request)].concat());
                if field.id == HeaderId::To && request.to_tag().is_none() {
                    text.extend(format!(";tag=t{}", which % 3).bytes());
                }
                text.extend(b"\r\n");
            }
        }
        text.extend(b"Contact: <sip:bob@203.0.113.5:5070>\r\n");
        text.extend(chosen(&EXTRAS, extra).bytes());
        text.extend(b"\r\n");
        (from, text)
    }

    fn nth_sent(&self, which: u8) -> Option<&Sent> {
        let count = self.sent.len();
        (count > 0).then(|| &self.sent[count - 1 - usize::from(which) % count])
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.pick() % 4 {
            let at = usize::from(self.pick()) << 8 | usize::from(self.pick());
            let (how, octet) = (self.pick(), self.pick());
            if bytes.is_empty() {
                return;
            }
            let at = at % bytes.len();
            match how % 4 {
                0 => bytes[at] = octet,
                1 => bytes.insert(at, octet),
                2 => drop(bytes.drain(at..(at + usize::from(octet)).min(bytes.len()))),
                _ => {
                    let end = (at + usize::from(octet)).min(bytes.len());
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
            }
        }
    }

    fn deliver(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        let flow = Flow::udp(ListenerId(0), from);
        let desk = &mut self.desk;
        desk.shard
            .on_datagram(desk.now, flow, &bytes, &mut desk.out);
        assert!(
            desk.out.len() <= ANSWERS_MAX,
            "{} datagrams for one",
            desk.out.len()
        );
        let is_stranger = from.ip() == place(4).ip();
        let back = desk
            .out
            .iter()
            .filter(|sent| sent.to.remote.ip() == from.ip());
        let octets: usize = back.map(|sent| sent.bytes.len()).sum();
        if is_stranger && !bytes.starts_with(&[0]) {
            assert!(
                octets <= bytes.len() * 3 / 2,
                "{octets} octets for {}",
                bytes.len()
            );
        }
        let was_sound = is_sound(&bytes);
        self.take(was_sound);
        self.last = (from, bytes);
    }

    /// Looks at everything that the shard sent.
    fn take(&mut self, was_sound: bool) {
        for sent in self.desk.out.iter() {
            let (to, bytes) = (sent.to.remote, sent.bytes);
            assert!(
                to.port() != 0 && callgate::sip::is_one_host(to.ip()),
                "sent to {to}"
            );
            let is_sip = bytes.len() > 4 && bytes[0] > 3;
            let is_answer = bytes.starts_with(b"SIP/2.0 ");
            // The answer to what is malformed repeats what it was asked by.
            if is_sip && (was_sound || !is_answer) {
                assert!(is_sound(bytes), "sent to {to}: {}", bytes.escape_ascii());
            }
            self.sent.push_back(Sent {
                to,
                bytes: bytes.to_vec(),
            });
        }
        while self.sent.len() > REMEMBERED {
            self.sent.pop_front();
        }
        self.desk.out.clear();
    }

    fn wait(&mut self) {
        let span = SPANS_MS[usize::from(self.pick()) % SPANS_MS.len()];
        self.pass_time(Duration::from_millis(span));
    }

    fn pass_time(&mut self, span: Duration) {
        let end = self.desk.now + span;
        while let Some(due) = self.desk.shard.next_deadline().filter(|due| *due <= end) {
            self.desk.now = self.desk.now.max(due);
            self.tick();
            if self.desk.shard.next_deadline() == Some(due) {
                self.desk.now = self.desk.now + Duration::from_millis(1);
            }
        }
        self.desk.now = self.desk.now.max(end);
        self.tick();
    }

    fn tick(&mut self) {
        let desk = &mut self.desk;
        desk.shard.on_deadline(desk.now, &mut desk.out);
        self.take(true);
    }

    fn bounce(&mut self) {
        let which = self.pick();
        let Some(sent) = self.nth_sent(which) else {
            return;
        };
        let (to, bytes) = (Flow::udp(ListenerId(0), sent.to), sent.bytes.clone());
        let desk = &mut self.desk;
        let cut = bytes.len().min(548);
        desk.shard
            .on_unreachable(desk.now, to, &bytes[..cut], &mut desk.out);
        self.take(true);
    }

    fn end_by_operator(&mut self) {
        let (reply, _answer) = bounded(1);
        let call_id = format!("c{}", self.pick() % 4).into_bytes();
        self.ask(Ask::EndCall { call_id, reply });
        self.take(true);
    }

    fn ask(&mut self, ask: Ask) {
        let desk = &mut self.desk;
        assert!(desk.shared.mail.post(0, Mail::Ask(Box::new(ask))));
        desk.shard.on_mail(desk.now, &mut desk.out);
    }

    /// Tables are within their bounds, and leases are the counters.
    fn check_tables(&mut self) {
        let census = self.desk.shard.census();
        assert!(census.calls <= 6 && census.dialogs <= 6 * 16, "{census:?}");
        assert!(census.server_transactions <= census.transactions_max);
        assert!(census.client_transactions <= census.transactions_max);
        let (reply, counted) = bounded(1);
        self.ask(Ask::Recount { reply });
        let recount = counted.recv().expect("the shard answers");
        assert_eq!(recount.calls, census.calls);
        for slot in 0..8 {
            let held = recount.held.iter().find(|(of, _, _)| of.0 == slot);
            let held = held.map_or((0, 0), |(_, calls_in, calls_out)| (*calls_in, *calls_out));
            assert_eq!(self.desk.used(slot), held, "slot {slot}");
        }
    }

    /// An hour later everything has ended by itself.
    fn finish(&mut self) {
        self.pass_time(Duration::from_secs(3600));
        assert_eq!(self.desk.leftovers(), [0; 6]);
    }
}

fn is_sound(bytes: &[u8]) -> bool {
    let mut scratch = Scratch::new(300);
    let verdict = |message: Message<'_>| {
        if message.is_request() {
            validate_request(&message).is_ok()
        } else {
            validate_response(&message).is_ok()
        }
    };
    parse(bytes, &mut scratch).is_ok_and(verdict)
}
