//! A storm of 100,000 calls over four shards, ended in every way a call can end, leaves every counter
//! at exactly zero. Each datagram is given to the next shard in turn, so that three of four are mail.

#[path = "sim/text.rs"]
#[expect(dead_code, reason = "the simulator reads more of a message")]
mod text;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use callgate::base::Instant;
use callgate::base::hash::HashKey;
use callgate::guard::bans::SharedBans;
use callgate::limit::{Lease, Limits, Maxima, SlotId};
use callgate::metrics::{Counter, Metrics};
use callgate::net::{Flow, ListenerId, Outbox};
use callgate::route::health::Board;
use callgate::shard::mail::{Ask, Mail, Mailroom};
use callgate::shard::{Capacity, Shard, Shared};
use text::Text;

const CALLS: usize = 100_000;

/// Calls of one wave: all begin before the first of them ends.
const WAVE: usize = 500;

const SHARDS: usize = 4;

const CARRIER: &str = "198.51.100.10:5060";
const PBX: &str = "203.0.113.1:5060";

const CONFIG: &str = r#"
[[listen]]
udp = "192.0.2.1:5060"
[trunk.carrier]
address = "198.51.100.10:5060"
calls_max = 100000
[trunk.pbx]
address = "203.0.113.1:5060"
auto_congest = "2s"
[trunk.spare]
address = "203.0.113.2:5060"
auto_congest = "2s"
[trunk.full]
address = "203.0.113.3:5060"
calls_out_max = 0
[trunk.timed]
address = "203.0.113.4:5060"
call_time_max = "20s"
[trunk.session]
address = "203.0.113.5:5060"
session_expires = "90s"
[trunk.g711]
address = "203.0.113.6:5060"
codecs = ["PCMA"]
[trunk.ill1]
address = "203.0.113.7:5060"
auto_congest = "2s"
[trunk.ill2]
address = "203.0.113.8:5060"
auto_congest = "2s"
[group.farm]
members = ["pbx", "spare"]
calls_max = 100000
[group.hospital]
members = ["ill1", "ill2"]
[[route]]
user = "^1"
to = "farm"
[[route]]
user = "^2"
to = "full"
[[route]]
user = "^3"
to = "timed"
[[route]]
user = "^4"
to = "session"
[[route]]
user = "^5"
to = "g711"
[[route]]
user = "^6"
to = "hospital"
"#;

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    CallerHangsUp,
    CalleeHangsUp,
    BothHangUp,
    Gone481,
    ByeUnanswered,
    Busy,
    CancelBeforeRinging,
    CancelAfterRinging,
    AnsweredAfterCancel,
    NoAnswer,
    RingsForEver,
    CancelIgnored,
    AllOverloaded,
    Refused,
    OverLimit,
    NoCodec,
    NoRoute,
    OperatorWhileRinging,
    OperatorWhileTalking,
    CallTimeMax,
    SessionExpires,
    TwoForks,
    NeverAcknowledged,
}

const ENDINGS: [Ending; 23] = [
    Ending::CallerHangsUp,
    Ending::CalleeHangsUp,
    Ending::BothHangUp,
    Ending::Gone481,
    Ending::ByeUnanswered,
    Ending::Busy,
    Ending::CancelBeforeRinging,
    Ending::CancelAfterRinging,
    Ending::AnsweredAfterCancel,
    Ending::NoAnswer,
    Ending::RingsForEver,
    Ending::CancelIgnored,
    Ending::AllOverloaded,
    Ending::Refused,
    Ending::OverLimit,
    Ending::NoCodec,
    Ending::NoRoute,
    Ending::OperatorWhileRinging,
    Ending::OperatorWhileTalking,
    Ending::CallTimeMax,
    Ending::SessionExpires,
    Ending::TwoForks,
    Ending::NeverAcknowledged,
];

impl Ending {
    fn dials(self) -> &'static str {
        match self {
            Ending::OverLimit => "2",
            Ending::CallTimeMax => "3",
            Ending::SessionExpires => "4",
            Ending::NoCodec => "5",
            // Failures take a trunk out for a while: theirs is not that of the others.
            Ending::AllOverloaded | Ending::NoAnswer => "6",
            Ending::NoRoute => "9",
            _ => "1",
        }
    }

    fn is_answered(self) -> bool {
        matches!(
            self,
            Ending::CallerHangsUp
                | Ending::CalleeHangsUp
                | Ending::BothHangUp
                | Ending::Gone481
                | Ending::ByeUnanswered
                | Ending::OperatorWhileTalking
                | Ending::CallTimeMax
                | Ending::SessionExpires
                | Ending::NeverAcknowledged
        )
    }
}

/// One call of the storm.
struct Call {
    number: usize,
    ending: Ending,
    /// The INVITE as the gate sent it on; empty where it did not.
    forwarded: String,
    callee: SocketAddr,
}

/// Four shards, and what they sent last.
struct Storm {
    shards: Vec<Shard>,
    shared: Arc<Shared>,
    metrics: Vec<Arc<Metrics>>,
    now: Instant,
    out: Outbox,
    next_shard: usize,
    statuses: Vec<(Ending, u16)>,
}

impl Storm {
    fn new() -> Storm {
        let names = &mut callgate::config::InOrder::default();
        let config = callgate::config::load(CONFIG, "storm.toml", names).expect("a good file");
        let limits = Arc::new(Limits::new(32));
        let routing = &config.plan.routing;
        let trunks = routing
            .trunks
            .iter()
            .map(|trunk| (trunk.slot, trunk.limits));
        let groups = routing
            .groups
            .iter()
            .map(|group| (group.slot, group.limits));
        for (slot, maxima) in trunks.chain(groups) {
            let maxima = Maxima {
                calls_max: maxima.calls_max,
                calls_in_max: maxima.calls_in_max,
                calls_out_max: maxima.calls_out_max,
                cps: None,
            };
            limits.set(SlotId(slot), &maxima);
        }
        let board = Arc::new(Board::new(32));
        board.introduce(Instant::START, routing);
        let shared = Arc::new(Shared {
            limits,
            board,
            mail: Mailroom::new(SHARDS, 64),
            draining: AtomicBool::new(false),
            owner_key: HashKey::new([3, 4]),
            bans: SharedBans::new(HashKey::new([5, 6])),
        });
        let now = Instant::from_micros(1_000_000);
        let capacity = Capacity {
            dialogs: 8_000,
            transactions: 24_000,
        };
        let metrics: Vec<_> = (0..SHARDS).map(|_| Arc::new(Metrics::new(32))).collect();
        let shards = (0..SHARDS)
            .map(|id| {
                let (shared, seed) = (Arc::clone(&shared), [id as u64, 1, 2, 3]);
                let metrics = Arc::clone(&metrics[id]);
                Shard::new(
                    id as u16,
                    &config.plan,
                    shared,
                    capacity,
                    seed,
                    metrics,
                    now,
                )
            })
            .collect();
        Storm {
            shards,
            shared,
            metrics,
            now,
            out: Outbox::new(512, 1 << 20),
            next_shard: 0,
            statuses: Vec::new(),
        }
    }

    /// Gives a datagram to the next shard in turn and lets all read their mail; returns what was sent.
    fn give(&mut self, from: &str, text: &str) -> Vec<(SocketAddr, String)> {
        let from: SocketAddr = from.parse().expect("a literal address");
        let flow = Flow::udp(ListenerId(0), from);
        let at = self.next_shard;
        self.next_shard = (at + 1) % SHARDS;
        self.shards[at].on_datagram(self.now, flow, text.as_bytes(), &mut self.out);
        self.read_mail();
        self.take()
    }

    fn read_mail(&mut self) {
        for shard in &mut self.shards {
            shard.on_mail(self.now, &mut self.out);
        }
    }

    fn take(&mut self) -> Vec<(SocketAddr, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let sent = self.out.iter().map(|one| (one.to.remote, text(one.bytes)));
        let sent = sent.collect();
        self.out.clear();
        sent
    }

    /// Lets time pass; what is sent meanwhile is lost.
    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let dues = (0..SHARDS).filter_map(|at| Some((self.shards[at].next_deadline()?, at)));
            let Some((due, at)) = dues.min().filter(|(due, _)| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.shards[at].on_deadline(self.now, &mut self.out);
            self.read_mail();
            self.out.clear();
            if self.shards[at].next_deadline() == Some(due) {
                self.now = self.now + Duration::from_millis(1);
            }
        }
        self.now = self.now.max(end);
    }

    fn end_by_operator(&mut self, call: &Call) {
        let mut found = false;
        for shard in 0..SHARDS {
            let (reply, heard) = crossbeam::channel::bounded(1);
            let call_id = format!("storm{}", call.number).into_bytes();
            let ask = Box::new(Ask::EndCall { call_id, reply });
            assert!(self.shared.mail.post(shard, Mail::Ask(ask)));
            self.read_mail();
            found |= heard.try_recv() == Ok(true);
        }
        assert!(found, "the operator ends a live call");
        self.out.clear();
    }

    /// Sets a call up as far as it gets before it ends.
    fn begin(&mut self, number: usize) -> Call {
        let ending = ENDINGS[number % ENDINGS.len()];
        let sent = self.give(CARRIER, &request(number, ending, "INVITE", 1, None));
        let mut call = Call {
            number,
            ending,
            forwarded: String::new(),
            callee: PBX.parse().expect("a literal address"),
        };
        for (to, text) in sent {
            if text.starts_with("INVITE") {
                (call.callee, call.forwarded) = (to, text);
            } else {
                self.note(ending, &text);
            }
        }
        if ending.is_answered() {
            self.answer(&call, 180, "t");
            self.answer(&call, 200, "t");
            if ending != Ending::NeverAcknowledged {
                self.ask_by_caller(&call, "ACK", 1, "t");
            }
        }
        call
    }

    /// Ends it.
    fn finish(&mut self, call: &Call) {
        match call.ending {
            Ending::CallerHangsUp => self.bye(call, true, Some(200)),
            Ending::CalleeHangsUp | Ending::NeverAcknowledged => self.bye(call, false, Some(200)),
            Ending::BothHangUp => self.both_byes(call),
            Ending::Gone481 => self.bye(call, true, Some(481)),
            Ending::ByeUnanswered => self.bye(call, true, None),
            Ending::Busy => self.answer(call, 486, "t"),
            Ending::Refused => self.answer(call, 603, "t"),
            Ending::CancelBeforeRinging => {
                self.cancel(call);
                self.answer(call, 180, "t");
                self.answer(call, 487, "t");
            }
            Ending::CancelAfterRinging => {
                self.answer(call, 180, "t");
                self.cancel(call);
                self.answer(call, 487, "t");
            }
            Ending::AnsweredAfterCancel => {
                self.answer(call, 180, "t");
                self.cancel(call);
                self.answer(call, 200, "t");
                self.ask_by_caller(call, "ACK", 1, "t");
                self.bye(call, true, Some(200));
            }
            Ending::CancelIgnored => {
                self.answer(call, 180, "t");
                self.cancel(call);
            }
            Ending::RingsForEver => self.answer(call, 180, "t"),
            Ending::AllOverloaded if call.forwarded.is_empty() => {}
            Ending::AllOverloaded => self.overloaded(call),
            Ending::OperatorWhileRinging => {
                self.answer(call, 180, "t");
                self.end_by_operator(call);
                self.answer(call, 487, "t");
            }
            Ending::OperatorWhileTalking => self.end_by_operator(call),
            Ending::TwoForks => self.two_forks(call),
            Ending::NoAnswer | Ending::CallTimeMax | Ending::SessionExpires => {}
            Ending::OverLimit | Ending::NoCodec | Ending::NoRoute => {}
        }
    }

    fn answer(&mut self, call: &Call, status: u16, tag: &str) {
        let text = response(&call.forwarded, status, tag);
        let callee = call.callee.to_string();
        for (_, sent) in self.give(&callee, &text) {
            self.note(call.ending, &sent);
        }
    }

    /// Remembers the finals that callers got.
    fn note(&mut self, ending: Ending, text: &str) {
        let text = Text::new(text);
        if let Some(status) = text.status().filter(|status| *status >= 200)
            && text.method() == "INVITE"
            && !self.statuses.contains(&(ending, status))
        {
            self.statuses.push((ending, status));
        }
    }

    fn ask_by_caller(&mut self, call: &Call, method: &str, cseq: u32, tag: &str) -> Option<String> {
        let route = record_route(&call.forwarded);
        let inside = Some((tag, route.as_str(), call.callee));
        let text = request(call.number, call.ending, method, cseq, inside);
        let sent = self.give(CARRIER, &text);
        sent.into_iter()
            .map(|(_, text)| text)
            .find(|text| text.starts_with(method))
    }

    fn ask_by_callee(&mut self, call: &Call) -> Option<String> {
        let route = record_route(&call.forwarded);
        let number = call.number;
        let text = format!(
            "BYE sip:alice@198.51.100.10:5070 SIP/2.0\r\n\
             Via: SIP/2.0/UDP {PBX};branch=z9hG4bKe{number}\r\nMax-Forwards: 70\r\nRoute: {route}\r\n\
             From: <sip:bob@192.0.2.1>;tag=t\r\nTo: <sip:alice@198.51.100.10>;tag=a{number}\r\n\
             Call-ID: storm{number}\r\nCSeq: 9 BYE\r\nContent-Length: 0\r\n\r\n"
        );
        let sent = self.give(PBX, &text);
        sent.into_iter()
            .map(|(_, text)| text)
            .find(|text| text.starts_with("BYE"))
    }

    fn bye(&mut self, call: &Call, by_caller: bool, status: Option<u16>) {
        let bye = match by_caller {
            true => self.ask_by_caller(call, "BYE", 2, "t"),
            false => self.ask_by_callee(call),
        };
        let bye = bye.expect("the BYE of a live call goes on");
        if let Some(status) = status {
            let from = if by_caller { PBX } else { CARRIER };
            self.give(from, &response(&bye, status, "t"));
        }
    }

    fn both_byes(&mut self, call: &Call) {
        let one = self
            .ask_by_caller(call, "BYE", 2, "t")
            .expect("a live call");
        let other = self.ask_by_callee(call).expect("a live call");
        self.give(CARRIER, &response(&other, 481, "t"));
        self.give(PBX, &response(&one, 200, "t"));
    }

    fn cancel(&mut self, call: &Call) {
        let text = request(call.number, call.ending, "CANCEL", 1, None);
        self.give(CARRIER, &text);
    }

    /// 503 from the first member, then from the second.
    fn overloaded(&mut self, call: &Call) {
        let callee = call.callee.to_string();
        let sent = self.give(&callee, &response(&call.forwarded, 503, "t"));
        for (to, text) in sent {
            self.note(call.ending, &text);
            if text.starts_with("INVITE") {
                for (_, text) in self.give(&to.to_string(), &response(&text, 503, "t")) {
                    self.note(call.ending, &text);
                }
            }
        }
    }

    /// Both forks answer; the caller hangs up on both.
    fn two_forks(&mut self, call: &Call) {
        for tag in ["t", "u"] {
            self.answer(call, 200, tag);
            self.ask_by_caller(call, "ACK", 1, tag);
        }
        for (cseq, tag) in [(2, "u"), (3, "t")] {
            let bye = self
                .ask_by_caller(call, "BYE", cseq, tag)
                .expect("a live call");
            self.give(PBX, &response(&bye, 200, tag));
        }
    }
}

fn record_route(forwarded: &str) -> String {
    let route = Text::new(forwarded).value("Record-Route");
    route
        .expect("a forwarded INVITE is record-routed")
        .to_owned()
}

/// A request of the caller; inside the dialog with tag, route and callee.
fn request(
    number: usize,
    ending: Ending,
    method: &str,
    cseq: u32,
    inside: Option<(&str, &str, SocketAddr)>,
) -> String {
    let user = format!("{}{number:06}", ending.dials());
    let (uri, to, route) = match inside {
        Some((tag, route, callee)) => (
            format!("sip:bob@{callee}"),
            format!("<sip:{user}@192.0.2.1>;tag={tag}"),
            format!("Route: {route}\r\n"),
        ),
        None => (
            format!("sip:{user}@192.0.2.1"),
            format!("<sip:{user}@192.0.2.1>"),
            String::new(),
        ),
    };
    // A CANCEL has the branch of its INVITE, any other request its own.
    let branch = match method {
        "INVITE" | "CANCEL" => format!("{number}"),
        _ => format!("{number}-{cseq}{method}"),
    };
    let body = match ending {
        Ending::NoCodec if method == "INVITE" => {
            "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 3\r\n"
        }
        _ => "",
    };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {CARRIER};branch=z9hG4bK{branch}\r\n\
         Max-Forwards: 70\r\n{route}From: <sip:alice@198.51.100.10>;tag=a{number}\r\nTo: {to}\r\n\
         Call-ID: storm{number}\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:alice@198.51.100.10:5070>\r\nSupported: timer\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A peer's answer.
fn response(request: &str, status: u16, tag: &str) -> String {
    let request = Text::new(request);
    let mut text = format!("SIP/2.0 {status} Storm\r\n");
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for value in request.values(name) {
            let tagless = name == "To" && request.tag_of_to().is_none() && status > 100;
            let tag = if tagless {
                format!(";tag={tag}")
            } else {
                String::new()
            };
            text += &format!("{name}: {value}{tag}\r\n");
        }
    }
    text + "Contact: <sip:bob@203.0.113.1:5060>\r\nContent-Length: 0\r\n\r\n"
}

#[test]
fn a_storm_of_100_000_calls_that_end_in_every_way_leaves_every_counter_at_zero() {
    let mut storm = Storm::new();
    for wave in 0..CALLS / WAVE {
        let calls: Vec<Call> = (0..WAVE).map(|at| storm.begin(wave * WAVE + at)).collect();
        storm.wait(Duration::from_millis(20));
        for call in &calls {
            storm.finish(call);
        }
        storm.wait(Duration::from_secs(8));
    }
    // call_time_max and session timers, then timer C and the wait behind its CANCEL.
    storm.wait(Duration::from_secs(300));
    for slot in 0..8 {
        let used = storm.shared.limits.used(SlotId(slot));
        assert_eq!((slot, used.in_calls, used.out_calls), (slot, 0, 0));
    }
    for shard in &storm.shards {
        let census = shard.census();
        assert_eq!((census.calls, census.dialogs), (0, 0), "{census:?}");
        let transactions = (census.server_transactions, census.client_transactions);
        assert_eq!(transactions, (0, 0), "{census:?}");
        assert_eq!((census.stored_bytes, census.timers), (0, 0), "{census:?}");
    }
    let count = |counter| {
        storm
            .metrics
            .iter()
            .map(|one| one.value(counter))
            .sum::<u64>()
    };
    assert_eq!(count(Counter::CallsAdmitted), count(Counter::CallsEnded));
    assert_eq!(count(Counter::DroppedInboxFull), 0);
    assert_eq!(count(Counter::DroppedOutboxFull), 0);
    assert_eq!(Lease::lost(), 0);
    every_ending_was_what_its_name_says(&storm.statuses);
}

/// Guards the storm itself: a wave that was refused at the door would leave the counters at zero too.
fn every_ending_was_what_its_name_says(statuses: &[(Ending, u16)]) {
    let wanted = [
        (Ending::Busy, 486),
        (Ending::Refused, 603),
        (Ending::CancelBeforeRinging, 487),
        (Ending::CancelAfterRinging, 487),
        (Ending::AnsweredAfterCancel, 200),
        (Ending::AllOverloaded, 500),
        (Ending::OverLimit, 486),
        (Ending::NoCodec, 488),
        (Ending::NoRoute, 404),
        (Ending::TwoForks, 200),
    ];
    let answered = ENDINGS.iter().filter(|ending| ending.is_answered());
    for one in wanted
        .into_iter()
        .chain(answered.map(|ending| (*ending, 200)))
    {
        assert!(statuses.contains(&one), "{one:?} is not among {statuses:?}");
    }
    let steady = statuses.iter().filter(|(ending, _)| ending.dials() != "6");
    for (ending, status) in steady {
        let others = statuses
            .iter()
            .any(|(one, other)| one == ending && other != status);
        assert!(
            !others,
            "{ending:?} had more than one outcome: {statuses:?}"
        );
    }
}
