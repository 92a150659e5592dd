//! Callers and callees that do what RFC 3261 asks of them: retransmissions by timers A, E and G,
//! ACKs, BYE after a hold time. They see the text of each datagram and answer with text.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::kit::Sent;
use super::kit::talk::{CARRIER, PBX, answer};
use super::world::{Load, Packet};

const T1_NS: u64 = 500_000_000;
const T2_NS: u64 = 4_000_000_000;
const GIVE_UP_NS: u64 = 64 * T1_NS;
const HOLD_NS: u64 = 300_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The caller's INVITE again, after so long.
    Invite(u64),
    Bye(u64),
    /// The callee's 200 again, after so long.
    Answer(u64),
    HangUp,
}

#[derive(Default)]
struct Call {
    began: u64,
    /// Anything was heard of the INVITE.
    heard: bool,
    over: bool,
    acked: bool,
    to: String,
    routes: Vec<String>,
    contact: String,
    bye_sent: bool,
    bye_answered: bool,
    answer: String,
}

pub struct Peers {
    load: Load,
    calls: HashMap<u64, Call>,
    timers: BinaryHeap<Reverse<(u64, u64, Timer)>>,
    number: u64,
    /// What the gate asked for: of a hundred calls so many are kept back, until then.
    asked: (u64, u64),
    kept_back: u64,
    /// When each call that went through ended.
    pub completed: Vec<u64>,
    pub refused: u64,
    pub offered: u64,
}

impl Peers {
    pub fn new(load: Load) -> Peers {
        Peers {
            load,
            calls: HashMap::new(),
            timers: BinaryHeap::new(),
            number: 0,
            asked: (0, 0),
            kept_back: 0,
            completed: Vec::new(),
            refused: 0,
            offered: 0,
        }
    }

    /// Calls offered, kept back for feedback, refused, completed.
    pub fn tally(&self) -> [u64; 4] {
        let completed = self.completed.len() as u64;
        [self.offered, self.kept_back, self.refused, completed]
    }

    /// When a timer is due.
    pub fn next(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Begins a call.
    pub fn call(&mut self, at: u64) -> Vec<Packet> {
        self.number += 1;
        self.offered += 1;
        let (percent, until) = self.asked;
        // Evenly spread, as good as by lot: 37 has no divisor with a hundred.
        if !self.load.deaf && at < until && self.number * 37 % 100 < percent {
            self.kept_back += 1;
            return Vec::new();
        }
        let number = self.number;
        self.calls.insert(
            number,
            Call {
                began: at,
                ..Call::default()
            },
        );
        self.timers
            .push(Reverse((at + T1_NS, number, Timer::Invite(T1_NS))));
        vec![packet(CARRIER, invite(number, self.load.deaf))]
    }

    /// Does what is due.
    pub fn wake(&mut self, now: u64) -> Vec<Packet> {
        let mut packets = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            let Some(Reverse((at, number, timer))) = self.timers.pop() else {
                break;
            };
            let Some(call) = self.calls.get_mut(&number) else {
                continue;
            };
            if at > call.began + GIVE_UP_NS {
                self.calls.remove(&number);
                continue;
            }
            match timer {
                Timer::Invite(after) if !call.heard => {
                    packets.push(packet(CARRIER, invite(number, self.load.deaf)));
                    self.timers
                        .push(Reverse((at + 2 * after, number, Timer::Invite(2 * after))));
                }
                Timer::HangUp => {
                    call.bye_sent = true;
                    packets.push(packet(CARRIER, in_dialog("BYE", 2, number, call)));
                    self.timers
                        .push(Reverse((at + T1_NS, number, Timer::Bye(T1_NS))));
                }
                Timer::Bye(after) if !call.bye_answered => {
                    packets.push(packet(CARRIER, in_dialog("BYE", 2, number, call)));
                    let after = (2 * after).min(T2_NS);
                    self.timers
                        .push(Reverse((at + after, number, Timer::Bye(after))));
                }
                Timer::Answer(after) if !call.acked => {
                    packets.push(packet(PBX, call.answer.clone()));
                    let after = (2 * after).min(T2_NS);
                    self.timers
                        .push(Reverse((at + after, number, Timer::Answer(after))));
                }
                Timer::Invite(_) | Timer::Bye(_) | Timer::Answer(_) => {}
            }
        }
        packets
    }

    /// Takes what the shard sent.
    pub fn receive(&mut self, at: u64, sent: &Sent) -> Vec<Packet> {
        let number: u64 = sent
            .header("Call-ID")
            .and_then(|id| id.parse().ok())
            .unwrap_or(0);
        let Some(call) = self.calls.get_mut(&number) else {
            return Vec::new();
        };
        let line = sent.start_line();
        let is_invite = sent
            .header("CSeq")
            .is_some_and(|cseq| cseq.ends_with("INVITE"));
        if let Some(status) = line.strip_prefix("SIP/2.0 ") {
            let status: u16 = status[..3].parse().expect("a status");
            call.heard |= is_invite;
            if let Some(percent) = param(sent, "oc") {
                let validity_ms = param(sent, "oc-validity").unwrap_or(500);
                self.asked = (percent, at + validity_ms * 1_000_000);
            }
            return match (is_invite, status) {
                (true, 100..=199) => Vec::new(),
                (true, 200..=299) => {
                    if call.to.is_empty() {
                        call.to = sent.header("To").unwrap_or_default().to_owned();
                        call.contact = sent.header("Contact").unwrap_or_default().to_owned();
                        call.routes = sent.headers("Record-Route").map(str::to_owned).collect();
                        self.timers
                            .push(Reverse((at + HOLD_NS, number, Timer::HangUp)));
                    }
                    vec![packet(CARRIER, in_dialog("ACK", 1, number, call))]
                }
                (true, _) => {
                    if !call.over {
                        call.over = true;
                        self.refused += 1;
                    }
                    vec![packet(CARRIER, ack_of_refusal(number, sent))]
                }
                (false, 200..=299) => {
                    if !call.bye_answered {
                        call.bye_answered = true;
                        self.completed.push(at);
                    }
                    Vec::new()
                }
                (false, _) => Vec::new(),
            };
        }
        match line.split(' ').next().unwrap_or_default() {
            "INVITE" => {
                let again = !call.answer.is_empty();
                if !again {
                    call.answer = answer(sent, "200 OK", "Contact: <sip:bob@203.0.113.5:5060>");
                    self.timers
                        .push(Reverse((at + T1_NS, number, Timer::Answer(T1_NS))));
                }
                let rings = answer(sent, "180 Ringing", "");
                vec![packet(PBX, rings), packet(PBX, call.answer.clone())]
            }
            "ACK" => {
                call.acked = true;
                Vec::new()
            }
            "BYE" => vec![packet(PBX, answer(sent, "200 OK", ""))],
            _ => Vec::new(),
        }
    }
}

/// A number among the parameters of the top Via.
fn param(sent: &Sent, name: &str) -> Option<u64> {
    let via = sent.header("Via")?;
    let params = via.split(';').filter_map(|param| param.split_once('='));
    let mut values = params.filter(|(is, _)| *is == name);
    values.next()?.1.parse().ok()
}

fn packet(from: &str, text: String) -> Packet {
    Packet {
        from: from.parse().expect("a literal address"),
        text,
    }
}

fn invite(number: u64, deaf: bool) -> String {
    let oc = if deaf { "" } else { ";oc;oc-algo=\"loss\"" };
    format!(
        "INVITE sip:100@192.0.2.1 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKi{number}{oc}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:alice@198.51.100.10>;tag=a{number}\r\n\
         To: <sip:100@192.0.2.1>\r\n\
         Call-ID: {number}\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:alice@198.51.100.10:5060>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

fn in_dialog(method: &str, cseq: u32, number: u64, call: &Call) -> String {
    let target = call
        .contact
        .trim_start_matches('<')
        .split('>')
        .next()
        .unwrap_or_default();
    let routes: String = call
        .routes
        .iter()
        .rev()
        .map(|route| format!("Route: {route}\r\n"))
        .collect();
    format!(
        "{method} {target} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{method}{number}\r\n\
         {routes}Max-Forwards: 70\r\n\
         From: <sip:alice@198.51.100.10>;tag=a{number}\r\n\
         To: {}\r\n\
         Call-ID: {number}\r\n\
         CSeq: {cseq} {method}\r\n\
         Content-Length: 0\r\n\r\n",
        call.to
    )
}

fn ack_of_refusal(number: u64, sent: &Sent) -> String {
    format!(
        "ACK sip:100@192.0.2.1 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKi{number}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:alice@198.51.100.10>;tag=a{number}\r\n\
         To: {}\r\n\
         Call-ID: {number}\r\n\
         CSeq: 1 ACK\r\n\
         Content-Length: 0\r\n\r\n",
        sent.header("To").unwrap_or_default()
    )
}
