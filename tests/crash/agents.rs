//! A caller and a callee with many calls. They repeat over UDP what RFC 3261 has them repeat, so
//! that a node that is away for a moment costs them nothing but time. Most calls ring for a while
//! and are answered, some are refused, some are cancelled while they ring.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::gate::Gate;

const REPEAT: Duration = Duration::from_millis(200);
/// A caller whose callee has refused, and has its ACK, waits for the answer so long: it may have
/// died with the node between the two.
const GIVE_UP: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest ringing.
const RINGS_MS_MAX: u64 = 150;

/// What becomes of a call, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Refused,
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// `true` = a provisional answer came: it is not repeated any more.
    Inviting(bool),
    /// A CANCEL is repeated until it is answered (`true`); the INVITE's own answer follows.
    Cancelling(bool),
    Up,
    /// A BYE of the caller (`true`) or the callee is repeated until it is answered.
    Ending(bool),
    Over,
    /// The callee has refused, its answer died with the node.
    Unheard,
}

/// Where the callee stands with an INVITE.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Callee {
    HasNotHeard,
    /// The INVITE, where it came from, and when it is answered.
    Rings(String, SocketAddr, Instant),
    HasAnswered,
}

struct Call {
    fate: Fate,
    state: State,
    at_callee: Callee,
    /// What is repeated in this state.
    text: String,
    sent: Instant,
    /// Route sets of both sides.
    caller_routes: String,
    callee_routes: String,
    /// The callee's final answer, until its ACK comes.
    unacked: Option<(String, Instant)>,
}

impl Call {
    fn is_under_way(&self) -> bool {
        let is_caller = matches!(
            self.state,
            State::Inviting(_) | State::Cancelling(_) | State::Ending(_)
        );
        is_caller || self.unacked.is_some()
    }

    /// The caller has had enough. It has heard a provisional answer (RFC 3261, section 9.1).
    fn cancel(&mut self, caller: &UdpSocket, node: SocketAddr) {
        let invite = self.text.replacen("INVITE ", "CANCEL ", 1);
        self.text = invite.replace("CSeq: 1 INVITE", "CSeq: 1 CANCEL");
        self.state = State::Cancelling(false);
        self.sent = Instant::now();
        send(caller, &self.text, node);
    }
}

pub struct Agents {
    caller: UdpSocket,
    callee: UdpSocket,
    node: SocketAddr,
    calls: BTreeMap<String, Call>,
    number: u32,
    random: u64,
    /// Of all calls that are to be: answered ones alone.
    is_plain: bool,
}

impl Agents {
    pub fn new(gate: &Gate) -> Agents {
        let bind = |address: SocketAddr| {
            let socket = UdpSocket::bind(address).expect("the port");
            // A time-out would be rounded up to the kernel's tick: too few calls for a kill to hit.
            socket.set_nonblocking(true).expect("a socket");
            socket
        };
        Agents {
            caller: bind(SocketAddr::from(([127, 0, 0, 1], 0))),
            callee: bind(gate.callee),
            node: gate.sip,
            calls: BTreeMap::new(),
            number: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            is_plain: false,
        }
    }

    /// Call-IDs of all calls that both sides believe in.
    pub fn live(&self) -> Vec<String> {
        let up = self
            .calls
            .iter()
            .filter(|(_, call)| call.state == State::Up);
        up.map(|(call_id, _)| call_id.clone()).collect()
    }

    /// Call-IDs of all calls that ring at the callee: it has the INVITE and has not answered.
    pub fn ringing(&self) -> Vec<String> {
        let rings = self.calls.iter().filter(|(_, call)| {
            let rings = matches!(call.at_callee, Callee::Rings(..));
            rings && matches!(call.state, State::Inviting(_))
        });
        rings.map(|(call_id, _)| call_id.clone()).collect()
    }

    /// Call-IDs of all calls that are not over for both sides.
    pub fn known(&self) -> Vec<String> {
        let live = self
            .calls
            .iter()
            .filter(|(_, call)| call.is_under_way() || call.state == State::Up);
        live.map(|(call_id, _)| call_id.clone()).collect()
    }

    /// Calls that are being set up or ended.
    pub fn under_way(&self) -> usize {
        self.calls
            .values()
            .filter(|call| call.is_under_way())
            .count()
    }

    pub fn ended(&self) -> usize {
        self.count(|state| *state == State::Over)
    }

    /// Calls whose refusal died with the node.
    pub fn unheard(&self) -> usize {
        self.count(|state| *state == State::Unheard)
    }

    pub fn summary(&self) -> String {
        format!(
            "{} calls: {} up, {} under way, {} over, {} refusals unheard",
            self.calls.len(),
            self.live().len(),
            self.under_way(),
            self.ended(),
            self.unheard()
        )
    }

    /// Whose turn it is in each call that is under way, and when it was last heard of.
    fn unsettled(&self) -> String {
        let left = self.calls.iter().filter(|(_, call)| call.is_under_way());
        let lines = left.map(|(call_id, call)| {
            let at_callee = match &call.at_callee {
                Callee::Rings(_, _, until) => format!("rings, {:?} past its time", until.elapsed()),
                other => format!("{other:?}"),
            };
            format!(
                "{call_id}: {:?}, caller {:?}, its request sent {:?} ago, callee {at_callee}, its answer {}\n",
                call.fate,
                call.state,
                call.sent.elapsed(),
                match &call.unacked {
                    Some((text, _)) => text.lines().next().unwrap_or_default(),
                    None => "not under way",
                }
            )
        });
        lines.collect()
    }

    fn count(&self, is: impl Fn(&State) -> bool) -> usize {
        self.calls.values().filter(|call| is(&call.state)).count()
    }

    /// Calls come and go for a while, about `held` are up.
    pub fn run(&mut self, span: Duration, held: usize) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            if self.live().len() < held || self.pick(3) == 0 {
                self.invite();
            } else {
                self.hang_up_one();
            }
            self.step();
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Brings up so many calls.
    pub fn raise(&mut self, calls: usize) {
        self.is_plain = true;
        (0..calls).for_each(|_| self.invite());
        self.settle();
        assert_eq!(self.live().len(), calls, "{}", self.summary());
    }

    pub fn hang_up_all(&mut self) {
        for call_id in self.live() {
            let by_caller = self.pick(2) == 0;
            self.hang_up(&call_id, by_caller);
        }
    }

    /// Waits until nothing is under way any more.
    pub fn settle(&mut self) {
        let began = Instant::now();
        loop {
            self.step();
            if self.under_way() == 0 {
                // What is on its way to the node is heard by it before its counters are read.
                std::thread::sleep(Duration::from_millis(50));
                return;
            }
            if began.elapsed() > GIVE_UP {
                for call in self.calls.values_mut() {
                    let waits = matches!(call.state, State::Inviting(_) | State::Cancelling(_));
                    let has_refused = call.fate != Fate::Answered
                        && call.at_callee == Callee::HasAnswered
                        && call.unacked.is_none();
                    if waits && has_refused {
                        call.state = State::Unheard;
                    }
                }
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{}\n{}",
                self.summary(),
                self.unsettled()
            );
        }
    }

    /// How long after `began` the node answers an OPTIONS.
    pub fn first_answer(&mut self, began: Instant) -> Duration {
        let own = self.caller.local_addr().expect("bound");
        let node = self.node;
        for number in 0.. {
            let text = format!(
                "OPTIONS sip:{node} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKo{number}\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:a@{own}>;tag=o\r\nTo: <sip:{node}>\r\n\
                 Call-ID: options-{number}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            );
            let _refused_while_nobody_listens = self.caller.send_to(text.as_bytes(), node);
            let mut buffer = [0; 65_536];
            if let Ok((len, _)) = self.caller.recv_from(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
                if header(&text, "CSeq") == "1 OPTIONS" {
                    return began.elapsed();
                }
                self.caller_hears(&text);
            }
            std::thread::sleep(Duration::from_millis(2));
            assert!(began.elapsed() < PATIENCE, "the node does not answer");
        }
        unreachable!("the loop has no end")
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn invite(&mut self) {
        self.number += 1;
        let call_id = format!("call-{}@crash", self.number);
        let own = self.caller.local_addr().expect("bound");
        let node = self.node;
        let text = format!(
            "INVITE sip:1234@{node} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKi{}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:a@{own}>;tag=a\r\nTo: <sip:1234@{node}>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 INVITE\r\nContact: <sip:a@{own}>\r\nContent-Length: 0\r\n\r\n",
            self.number
        );
        let now = Instant::now();
        send(&self.caller, &text, node);
        let fate = match self.number % 8 {
            _ if self.is_plain => Fate::Answered,
            5 => Fate::Refused,
            6 => Fate::Cancelled,
            _ => Fate::Answered,
        };
        let call = Call {
            fate,
            at_callee: Callee::HasNotHeard,
            state: State::Inviting(false),
            text,
            sent: now,
            caller_routes: String::new(),
            callee_routes: String::new(),
            unacked: None,
        };
        self.calls.insert(call_id, call);
    }

    fn hang_up_one(&mut self) {
        let live = self.live();
        let at = self.pick(live.len() as u64) as usize;
        let by_caller = self.pick(2) == 0;
        self.hang_up(&live[at], by_caller);
    }

    fn hang_up(&mut self, call_id: &str, by_caller: bool) {
        let text = self.in_dialog(call_id, "BYE", 2, by_caller);
        let socket = if by_caller {
            &self.caller
        } else {
            &self.callee
        };
        send(socket, &text, self.node);
        let call = self.calls.get_mut(call_id).expect("a call");
        call.state = State::Ending(by_caller);
        call.text = text;
        call.sent = Instant::now();
    }

    /// A request of one side to the other, by the route set that it has learned.
    fn in_dialog(&self, call_id: &str, method: &str, cseq: u32, by_caller: bool) -> String {
        let call = &self.calls[call_id];
        let (caller, callee) = (
            self.caller.local_addr().expect("bound"),
            self.callee.local_addr().expect("bound"),
        );
        let a = format!("<sip:a@{caller}>;tag=a");
        let b = format!("<sip:1234@{}>;tag=b", self.node);
        let (own, from, to, target, routes) = match by_caller {
            true => (
                caller,
                &a,
                &b,
                format!("sip:b@{callee}"),
                &call.caller_routes,
            ),
            false => (
                callee,
                &b,
                &a,
                format!("sip:a@{caller}"),
                &call.callee_routes,
            ),
        };
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{method}{by_caller}{call_id}\r\n\
             Max-Forwards: 70\r\n{routes}From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n"
        )
    }

    /// Hears what has come in and repeats what is due.
    fn step(&mut self) {
        while let Some((text, _)) = receive(&self.caller) {
            self.caller_hears(&text);
        }
        while let Some((text, from)) = receive(&self.callee) {
            self.callee_hears(&text, from);
        }
        let (node, now) = (self.node, Instant::now());
        let own = self.callee.local_addr().expect("bound");
        for call in self.calls.values_mut() {
            if let Callee::Rings(invite, from, until) = &call.at_callee
                && now >= *until
                && call.fate != Fate::Cancelled
            {
                let status = match call.fate {
                    Fate::Answered => "200 OK",
                    Fate::Refused | Fate::Cancelled => "486 Busy Here",
                };
                let text = tagged(invite, status, own);
                send(&self.callee, &text, *from);
                call.unacked = Some((text, now));
                call.at_callee = Callee::HasAnswered;
            }
            // A 180 is said once and may have died with the node: it does not wait for it.
            let is_tired = call.fate == Fate::Cancelled && now - call.sent > REPEAT;
            if call.state == State::Inviting(true) && is_tired {
                call.cancel(&self.caller, node);
            }
            let by_caller = match call.state {
                State::Inviting(false) | State::Cancelling(false) | State::Ending(true) => {
                    Some(true)
                }
                State::Ending(false) => Some(false),
                State::Inviting(true)
                | State::Cancelling(true)
                | State::Up
                | State::Over
                | State::Unheard => None,
            };
            if let Some(by_caller) = by_caller
                && now - call.sent > REPEAT
            {
                call.sent = now;
                let socket = if by_caller {
                    &self.caller
                } else {
                    &self.callee
                };
                send(socket, &call.text, node);
            }
            if let Some((ok, sent)) = &mut call.unacked
                && now - *sent > REPEAT
            {
                *sent = now;
                send(&self.callee, ok, node);
            }
        }
    }

    fn caller_hears(&mut self, text: &str) {
        let call_id = header(text, "Call-ID").to_owned();
        if text.starts_with("BYE ") {
            return self.answer_bye(&call_id, text, true);
        }
        let Some(call) = self.calls.get_mut(&call_id) else {
            return;
        };
        let is_invite = header(text, "CSeq").ends_with("INVITE");
        match (status(text), is_invite) {
            (180, true) if matches!(call.state, State::Inviting(_)) => {
                call.state = State::Inviting(true);
                if call.fate == Fate::Cancelled {
                    call.cancel(&self.caller, self.node);
                }
            }
            (100, true) if call.state == State::Inviting(false) => {
                call.state = State::Inviting(true);
            }
            (100..200, true) => {}
            // 481: the answer to the INVITE was on its way, and its transaction is gone.
            (200 | 481, false) if header(text, "CSeq").ends_with("CANCEL") => {
                let is_waiting = matches!(call.state, State::Cancelling(_));
                call.state = match is_waiting {
                    true => State::Cancelling(true),
                    false => call.state.clone(),
                };
            }
            (200, true) => {
                if matches!(call.state, State::Inviting(_)) {
                    call.state = State::Up;
                    call.caller_routes = routes(text, true);
                }
                let ack = self.in_dialog(&call_id, "ACK", 1, true);
                send(&self.caller, &ack, self.node);
            }
            (200.., false) if matches!(call.state, State::Ending(true)) => {
                assert_eq!(status(text), 200, "{text}");
                call.state = State::Over;
            }
            (status @ 300.., true) => {
                let expected = match call.fate {
                    Fate::Answered => 0,
                    Fate::Refused => 486,
                    Fate::Cancelled => 487,
                };
                assert_eq!(status, expected, "{text}");
                let own = self.caller.local_addr().expect("bound");
                let ack = acknowledgement(text, &format!("sip:1234@{}", self.node), own);
                send(&self.caller, &ack, self.node);
                if call.state != State::Up {
                    call.state = State::Over;
                }
            }
            _ => {}
        }
    }

    fn callee_hears(&mut self, text: &str, from: SocketAddr) {
        let call_id = header(text, "Call-ID").to_owned();
        if text.starts_with("BYE ") {
            return self.answer_bye(&call_id, text, false);
        }
        let own = self.callee.local_addr().expect("bound");
        let Some(call) = self.calls.get_mut(&call_id) else {
            return;
        };
        if text.starts_with("INVITE ") {
            call.callee_routes = routes(text, false);
            // A copy of the same INVITE is answered with what was answered; another branch would be
            // another request, which a node that knows its calls does not send.
            match &call.at_callee {
                Callee::HasNotHeard => {
                    let number: u64 = call_id
                        .trim_start_matches("call-")
                        .trim_end_matches("@crash")
                        .parse()
                        .expect("a number");
                    let rings = Duration::from_millis(number * 37 % RINGS_MS_MAX);
                    call.at_callee = Callee::Rings(text.to_owned(), from, Instant::now() + rings);
                    send(&self.callee, &tagged(text, "180 Ringing", own), from);
                }
                Callee::Rings(first, ..) => {
                    assert_eq!(first, text, "another INVITE for the same call");
                    send(&self.callee, &tagged(text, "180 Ringing", own), from);
                }
                Callee::HasAnswered => {}
            }
        } else if text.starts_with("CANCEL ") {
            send(&self.callee, &answer(text), from);
            if let Callee::Rings(invite, from, _) = &call.at_callee {
                let refusal = tagged(invite, "487 Request Terminated", own);
                send(&self.callee, &refusal, *from);
                call.unacked = Some((refusal, Instant::now()));
                call.at_callee = Callee::HasAnswered;
            }
        } else if text.starts_with("ACK ") {
            call.unacked = None;
        } else if matches!(call.state, State::Ending(false)) && header(text, "CSeq") == "2 BYE" {
            match status(text) {
                100..200 => {}
                200 => call.state = State::Over,
                _ => panic!("{text}"),
            }
        }
    }

    /// A BYE may come twice, or to one who hangs up at the same time.
    fn answer_bye(&mut self, call_id: &str, text: &str, to_caller: bool) {
        let socket = if to_caller {
            &self.caller
        } else {
            &self.callee
        };
        send(socket, &answer(text), self.node);
        if let Some(call) = self.calls.get_mut(call_id) {
            call.unacked = None;
        }
    }
}

/// A 200 to a request, with what every response copies from it.
fn answer(request: &str) -> String {
    let kept = ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"];
    let lines = request.lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        kept.contains(&name)
    });
    let lines: Vec<&str> = lines.collect();
    format!(
        "SIP/2.0 200 OK\r\n{}\r\nContent-Length: 0\r\n\r\n",
        lines.join("\r\n")
    )
}

/// An answer of the callee to an INVITE.
fn tagged(invite: &str, status: &str, own: SocketAddr) -> String {
    let to = format!("To: {}\r\n", header(invite, "To"));
    let tagged = format!("To: {};tag=b\r\n", header(invite, "To"));
    let answer = answer(invite).replacen("200 OK", status, 1);
    let contact = format!("Contact: <sip:b@{own}>\r\nContent-Length");
    answer
        .replace(&to, &tagged)
        .replace("Content-Length", &contact)
}

/// The caller's ACK for an answer that is no success: the branch is the INVITE's.
fn acknowledgement(refusal: &str, uri: &str, own: SocketAddr) -> String {
    let word = |name| header(refusal, name);
    let via = word("Via");
    assert!(via.contains(&own.to_string()), "{refusal}");
    format!(
        "ACK {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
         Call-ID: {}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
        word("From"),
        word("To"),
        word("Call-ID")
    )
}

fn routes(text: &str, backwards: bool) -> String {
    let mut values: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("Record-Route: "))
        .collect();
    if backwards {
        values.reverse();
    }
    values
        .iter()
        .map(|value| format!("Route: {value}\r\n"))
        .collect()
}

fn header<'t>(text: &'t str, name: &str) -> &'t str {
    let line = text.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(':'))
    });
    line.map_or("", |line| line[name.len() + 1..].trim())
}

fn status(text: &str) -> u16 {
    let word = text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3));
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Nobody listens while the node is away: the kernel may say so, and it does not matter.
fn send(socket: &UdpSocket, text: &str, to: SocketAddr) {
    let _refused = socket.send_to(text.as_bytes(), to);
}

fn receive(socket: &UdpSocket) -> Option<(String, SocketAddr)> {
    let mut buffer = [0; 65_536];
    match socket.recv_from(&mut buffer) {
        Ok((len, from)) => Some((String::from_utf8_lossy(&buffer[..len]).into_owned(), from)),
        Err(fault) => {
            let waited = [
                ErrorKind::WouldBlock,
                ErrorKind::TimedOut,
                ErrorKind::ConnectionRefused,
            ];
            assert!(waited.contains(&fault.kind()), "{fault}");
            None
        }
    }
}
