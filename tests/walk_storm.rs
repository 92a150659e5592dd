//! Random peers against one shard: messages lost, doubled and out of order, tables and outbox full at
//! random. Whatever happened, when all is over nothing is left: no call, no octet, no timer, no lease.

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use std::time::Duration;

use callgate::base::random::Random;
use callgate::metrics::Counter;
use callgate::net::Outbox;
use callgate::shard::mail::{Ask, CallFilter};
use kit::talk::*;
use kit::{Desk, Sent};

const CONFIG: &str = r#"
[node]
name = "gate"
[capacity]
dialogs = 12
transactions = 24
[[listen]]
udp = "192.0.2.1:5060"
[trunk.carrier]
address = "198.51.100.10:5060"
calls_in_max = 9
[trunk.pbx1]
address = "203.0.113.5:5060"
auto_congest = "2s"
calls_max = 3
session_expires = "10m"
[trunk.pbx2]
address = ["203.0.113.6:5060", "203.0.113.7:5060"]
auto_congest = "3s"
call_time_max = "20m"
[group.pbx]
policy = "round-robin"
members = ["pbx1", "pbx2"]
calls_max = 8
[[route]]
from = ["carrier"]
to = "pbx"
"#;

struct Storm {
    desk: Desk,
    random: Random,
    /// What the shard sent last; peers answer from it in any order, or never.
    seen: Vec<Sent>,
    calls: u64,
}

impl Storm {
    fn new(seed: u64) -> Storm {
        Storm {
            desk: Desk::new(CONFIG),
            random: Random::new([seed, 2, 3, 4]),
            seen: Vec::new(),
            calls: 0,
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    fn one_of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        let at = self.below(texts.len() as u64);
        texts[at as usize]
    }

    /// Delivers a message, sometimes twice, sometimes while the outbox is full.
    fn deliver(&mut self, from: &str, text: &str) {
        let times = 1 + u64::from(self.below(8) == 0);
        for _ in 0..times {
            let is_full = self.below(25) == 0;
            let room = is_full.then(|| std::mem::replace(&mut self.desk.out, Outbox::new(0, 0)));
            let sent = self.desk.receive(from, text);
            self.note(sent);
            if let Some(room) = room {
                self.desk.out = room;
            }
        }
    }

    fn note(&mut self, sent: Vec<Sent>) {
        self.seen.extend(sent);
        let surplus = self.seen.len().saturating_sub(40);
        self.seen.drain(..surplus);
    }

    fn call(&mut self) {
        self.calls += 1;
        let number = self.calls;
        let text = invite(&format!("n{number}"), self.offer());
        self.deliver(
            CARRIER,
            &text.replace("Call-ID: c1", &format!("Call-ID: c{number}")),
        );
    }

    fn offer(&mut self) -> &'static str {
        self.one_of(&[
            "",
            "Supported: timer",
            "Session-Expires: 60\nSupported: timer",
            "Record-Route: <sip:198.51.100.1;lr>",
        ])
    }

    fn cancel(&mut self) {
        let back = self.below(6);
        let number = self.calls.saturating_sub(back);
        let text = cancel(&format!("n{number}"), "Reason: SIP;cause=487");
        self.deliver(
            CARRIER,
            &text.replace("Call-ID: c1", &format!("Call-ID: c{number}")),
        );
    }

    /// A peer does something about a message of the shard that it remembers.
    fn react(&mut self) {
        if self.seen.is_empty() {
            return;
        }
        let at = self.below(self.seen.len() as u64) as usize;
        let sent = self.seen[at].clone();
        if sent.start_line().starts_with("SIP/2.0") {
            self.go_on(&sent);
        } else if self.below(10) == 0 {
            let more = self.desk.bounce(&sent);
            self.note(more);
        } else {
            self.answer(&sent);
        }
    }

    fn answer(&mut self, request: &Sent) {
        let statuses: &[&str] = match request.start_line().split(' ').next() {
            Some("INVITE") => &[
                "100 Trying",
                "180 Ringing",
                "183 Session Progress",
                "200 OK",
                "200 OK",
                "302 Moved",
                "407 Proxy Authentication Required",
                "486 Busy Here",
                "487 Request Terminated",
                "503 Service Unavailable",
            ],
            Some("ACK") => return,
            _ => &[
                "100 Trying",
                "200 OK",
                "200 OK",
                "481 Gone",
                "503 Service Unavailable",
            ],
        };
        let status = self.one_of(statuses);
        let tag = self.one_of(&["b", "b", "d", "e"]);
        let extra = self.one_of(&[
            "Contact: <sip:bob@203.0.113.5:5070>",
            "Contact: <sip:bob@203.0.113.5:5070>\nSession-Expires: 600;refresher=uac\nRequire: timer",
            "Contact: <sip:bob@phone.example>",
            "",
        ]);
        let text = answer_as(tag, request, status, extra);
        self.deliver(&request.to.to_string(), &text);
    }

    /// The one who got an answer goes on: ACK, or something inside the dialog from either side.
    fn go_on(&mut self, answer: &Sent) {
        let method = self.one_of(&[
            "ACK", "ACK", "BYE", "BYE", "INVITE", "UPDATE", "INFO", "PRACK", "CANCEL",
        ]);
        let (Some(from), Some(to), Some(call_id)) = (
            answer.header("From"),
            answer.header("To"),
            answer.header("Call-ID"),
        ) else {
            return;
        };
        let by_callee = self.below(3) == 0;
        let (from, to) = if by_callee { (to, from) } else { (from, to) };
        let (source, target) = if by_callee {
            (PBX, "sip:alice@198.51.100.10:5060")
        } else {
            (CARRIER, "sip:bob@203.0.113.5:5070")
        };
        let cseq = match method {
            "ACK" | "CANCEL" => 1,
            _ => 2 + self.below(5),
        };
        let branch = self.below(20);
        let text = sip(&format!(
            "{method} {target} SIP/2.0
             Via: SIP/2.0/UDP {source};branch=z9hG4bK{method}{cseq}{branch}
             Max-Forwards: 70
             From: {from}
             To: {to}
             Call-ID: {call_id}
             CSeq: {cseq} {method}
             {}",
            caller_route(answer)
        ));
        self.deliver(source, &text);
    }

    fn step(&mut self) {
        match self.below(20) {
            0..=2 => self.call(),
            3 => self.cancel(),
            4..=16 => self.react(),
            _ => {
                let ms = self.below(1_500);
                let sent = self.desk.wait(Duration::from_millis(ms));
                self.note(sent);
            }
        }
    }

    fn end_call(&mut self, call_id: Vec<u8>) -> bool {
        let (reply, answer) = crossbeam::channel::bounded(1);
        self.desk.ask(Ask::EndCall { call_id, reply });
        answer.try_recv() == Ok(true)
    }

    /// The counters are what the live calls hold: the carrier's slot, and of a call that is under way
    /// to a trunk that trunk's and the group's.
    fn assert_exact(&mut self) {
        let (reply, answer) = crossbeam::channel::bounded(1);
        self.desk.ask(Ask::Calls {
            from_index: 0,
            rows_max: 99,
            filter: CallFilter::default(),
            reply,
        });
        let rows = answer.try_recv().expect("a page").rows;
        let out = rows.iter().filter(|row| row.trunk_out_slot.is_some());
        let held = rows.len() + 2 * out.count();
        assert_eq!(self.desk.shared.limits.total_used(), held as u64);
    }

    /// Everybody falls silent and the operator ends the calls that are still up.
    fn end(mut self) -> [usize; 6] {
        self.desk.wait(Duration::from_secs(300));
        for number in 0..=self.calls {
            // An INVITE with the To tag of a dialog that is over makes a call of its own.
            while self.end_call(format!("c{number}").into_bytes()) {}
        }
        self.desk.wait(Duration::from_secs(300));
        self.desk.leftovers()
    }
}

#[test]
fn nothing_is_left_of_any_storm() {
    let mut reached = [0; 6];
    for seed in 0..60 {
        let mut storm = Storm::new(seed);
        for step in 0..600 {
            storm.step();
            if step % 20 == 0 {
                storm.assert_exact();
            }
        }
        let counted = [
            Counter::CallsAnswered,
            Counter::Failovers,
            Counter::RefusedCancelled,
            Counter::DroppedOutboxFull,
            Counter::RefusedTransactionsFull,
            Counter::RefusedLimitOut,
        ]
        .map(|counter| storm.desk.count(counter));
        reached = std::array::from_fn(|at| reached[at] + counted[at]);
        assert_eq!(storm.end(), [0; 6], "seed {seed}");
    }
    assert!(reached.iter().all(|count| *count > 50), "{reached:?}");
}
