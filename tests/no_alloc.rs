//! Proxying a call allocates nothing after start (design, invariant 3): neither asked for, nor
//! grown, nor given back.
//!
//! Calls of every kind go through a shard until all its tables have been used and reused; what the
//! shard then asks of the allocator is counted. Only the shard's own work counts, not the peers'.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use callgate::cdr::Ring;
use callgate::io::{Buffers, Event, IoKind, Options, Socket, available, bind_group};
use callgate::metrics::Counter;
use callgate::net::{Flow, ListenerId, Outbox};
use callgate::shard::Accounting;
use callgate::shard::mail::{Mail, Mailroom};

#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

use kit::{Desk, Sent};

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
    static REQUESTS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting what a thread asks of it while [`counted`] runs.
struct Counting;

impl Counting {
    fn note(&self) {
        if IS_COUNTED.get() {
            REQUESTS.set(REQUESTS.get() + 1);
        }
    }
}

// SAFETY: every call goes to `System` unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.note();
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.note();
        // SAFETY: the caller keeps `alloc_zeroed`'s contract, which is `System`'s.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.note();
        // SAFETY: the pointer came from `System`, and the caller keeps the rest of the contract.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.note();
        // SAFETY: the pointer came from `System` by one of the above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted<T>(work: impl FnOnce() -> T) -> T {
    IS_COUNTED.set(true);
    let result = work();
    IS_COUNTED.set(false);
    result
}

/// What the allocator was asked for in `counted` since the last look.
fn requests() -> u64 {
    REQUESTS.replace(0)
}

const CARRIER: &str = "198.51.100.10:5060";

/// Each policy, limits, codecs, session timers, a regular expression; one member that answers 503.
const CONFIG: &str = r#"
[node]
name = "gate"
[capacity]
dialogs = 200
transactions = 2000
[timers]
t1 = "50ms"
[[listen]]
udp = "192.0.2.1:5060"
[trunk.carrier]
address = "198.51.100.10:5060"
calls_max = 1000
calls_in_max = 900
cps = { sustain = 1000, burst = 1000 }
session_expires = "30m"
[trunk.pbx1]
address = ["203.0.113.1:5060", "203.0.113.2:5060"]
calls_max = 100
codecs = ["PCMA", "telephone-event"]
probe = "10s"
[trunk.pbx2]
address = "203.0.113.3:5060"
calls_out_max = 100
session_expires = "20m"
call_time_max = "1h"
[group.first]
policy = "priority"
members = ["pbx1", "pbx2"]
[group.turns]
policy = "round-robin"
calls_max = 100
members = ["pbx1", "pbx2"]
[group.weights]
policy = "weighted"
members = [{ trunk = "pbx1", weight = 3 }, "pbx2"]
[group.least]
policy = "least-calls"
members = ["pbx1", "pbx2"]
[group.hash]
policy = "call-id-hash"
members = ["pbx1", "pbx2"]
[[route]]
from = ["carrier"]
user = "^\\+491"
to = "first"
[[route]]
user = "^\\+492"
to = "turns"
[[route]]
user = "^\\+493"
to = "weights"
[[route]]
user = "^\\+494"
to = "least"
[[route]]
user = "^\\+495"
to = "hash"
[[route]]
user = "^\\+496"
to = "reject 603"
[[route]]
user = "^\\+497"
to = "redirect sip:elsewhere.example"
"#;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 198.51.100.10\r\ns=-\r\nc=IN IP4 198.51.100.10\r\nt=0 0\r\n\
    m=audio 40000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n";

/// The peers of a desk: they allocate as they like, the shard may not.
struct Peers {
    desk: Desk,
    call: u32,
    answered_calls: u32,
}

impl Peers {
    /// Starts call number `call`: it picks the group, and the route's users with it.
    fn invite(&self) -> String {
        let extra = format!(
            "Contact: <sip:alice@198.51.100.10:5060>\r\nSupported: timer\r\nSession-Expires: 1800\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
            SDP.len()
        );
        self.request("INVITE", &self.called(), "i", 1, None, &extra)
    }

    fn called(&self) -> String {
        format!("sip:+49{}@192.0.2.1", self.call % 5 + 1)
    }

    fn request(
        &self,
        method: &str,
        uri: &str,
        branch: &str,
        cseq: u32,
        ok: Option<&Sent>,
        rest: &str,
    ) -> String {
        let call = self.call;
        let route = ok.and_then(|ok| ok.header("Record-Route"));
        let route = route.map_or(String::new(), |route| format!("Route: {route}\r\n"));
        let to_tag = if ok.is_some() { ";tag=b" } else { "" };
        let rest = if rest.is_empty() {
            "Content-Length: 0\r\n\r\n"
        } else {
            rest
        };
        format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP 198.51.100.10:5060;rport;branch=z9hG4bK{branch}{call}\r\n\
             Max-Forwards: 70\r\n{route}From: <sip:alice@198.51.100.10>;tag=a{call}\r\n\
             To: <sip:100@192.0.2.1>{to_tag}\r\nCall-ID: {call}@198.51.100.10\r\n\
             CSeq: {cseq} {method}\r\n{rest}"
        )
    }

    fn in_dialog(&self, method: &str, branch: &str, cseq: u32, ok: &Sent) -> String {
        self.request(
            method,
            "sip:bob@203.0.113.5:5070",
            branch,
            cseq,
            Some(ok),
            "",
        )
    }

    fn carrier_sends(&mut self, text: &str) -> Vec<Sent> {
        self.receive(CARRIER.parse().expect("a literal address"), text)
    }

    fn receive(&mut self, from: SocketAddr, text: &str) -> Vec<Sent> {
        let Desk {
            shard, now, out, ..
        } = &mut self.desk;
        let flow = Flow::udp(ListenerId(0), from);
        counted(|| shard.on_datagram(*now, flow, text.as_bytes(), out));
        self.desk.take()
    }

    /// What the shard sends while time passes; probes are answered.
    fn wait(&mut self, span: Duration) -> Vec<Sent> {
        let end = self.desk.now + span;
        let mut sent = Vec::new();
        while self.desk.now < end {
            self.desk.now = self.desk.now + Duration::from_millis(25);
            let Desk {
                shard, now, out, ..
            } = &mut self.desk;
            counted(|| {
                if shard.next_deadline().is_some_and(|due| due <= *now) {
                    shard.on_deadline(*now, out);
                }
            });
            for one in self.desk.take() {
                if one.start_line().starts_with("OPTIONS") {
                    self.answer(&one, "200 OK");
                } else {
                    sent.push(one);
                }
            }
        }
        sent
    }

    /// The callee's answer to a request of the shard.
    fn answer(&mut self, request: &Sent, status: &str) -> Vec<Sent> {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
            for value in request.headers(name) {
                let is_open = name == "To" && !value.contains("tag=") && !status.starts_with("100");
                let tag = if is_open { ";tag=b" } else { "" };
                text += &format!("{name}: {value}{tag}\r\n");
            }
        }
        text += "Contact: <sip:bob@203.0.113.5:5070>\r\nContent-Length: 0\r\n\r\n";
        self.receive(request.to, &text)
    }

    /// Sends an INVITE, twice; gives what was forwarded, unless no trunk takes calls.
    fn set_up(&mut self) -> Option<Sent> {
        let invite = self.invite();
        let sent = self.carrier_sends(&invite);
        self.carrier_sends(&invite);
        sent.into_iter()
            .find(|one| one.start_line().starts_with("INVITE"))
    }

    /// INVITE, 100, 180, 200, ACK; gives the 200 as the caller got it.
    fn answered(&mut self) -> Option<Sent> {
        let forwarded = self.set_up()?;
        self.answer(&forwarded, "100 Trying");
        self.answer(&forwarded, "180 Ringing");
        let ok = self.answer(&forwarded, "200 OK");
        assert_eq!(ok.len(), 1);
        self.answer(&forwarded, "200 OK");
        let ack = self.in_dialog("ACK", "a", 1, &ok[0]);
        assert_eq!(self.carrier_sends(&ack).len(), 1);
        self.answered_calls += 1;
        ok.into_iter().next()
    }

    fn hang_up(&mut self, ok: &Sent, cseq: u32) {
        let bye = self.in_dialog("BYE", "b", cseq, ok);
        let sent = self.carrier_sends(&bye);
        assert_eq!(sent.len(), 1);
        self.carrier_sends(&bye);
        assert_eq!(self.answer(&sent[0], "200 OK").len(), 1);
        self.carrier_sends(&bye);
    }

    fn re_invite(&mut self, ok: &Sent) {
        let again = self.in_dialog("INVITE", "r", 2, ok);
        let sent = self.carrier_sends(&again);
        assert_eq!(sent.len(), 2, "{sent:?}");
        self.answer(&sent[1], "200 OK");
        let ack = self.in_dialog("ACK", "ra", 2, ok);
        self.carrier_sends(&ack);
    }

    fn cancelled(&mut self) {
        let Some(forwarded) = self.set_up() else {
            return;
        };
        self.answer(&forwarded, "180 Ringing");
        let cancel = self.request("CANCEL", &self.called(), "i", 1, None, "");
        let cancelled = self.carrier_sends(&cancel);
        assert_eq!(cancelled.len(), 2, "{cancelled:?}");
        self.answer(&cancelled[1], "200 OK");
        self.answer(&forwarded, "487 Request Terminated");
        self.acknowledge();
    }

    /// Busy with an ACK that comes late, so that the answer is repeated.
    fn busy(&mut self) {
        if let Some(forwarded) = self.set_up() {
            self.answer(&forwarded, "486 Busy Here");
            self.answer(&forwarded, "486 Busy Here");
        }
        self.wait(Duration::from_millis(200));
        self.acknowledge();
    }

    fn acknowledge(&mut self) {
        let ack = self.request("ACK", &self.called(), "i", 1, None, "");
        assert!(self.carrier_sends(&ack).is_empty());
    }

    /// A 503, then the member after it answers; nobody answers the BYE.
    fn failed_over(&mut self) {
        let Some(forwarded) = self.set_up() else {
            return;
        };
        let next = self.answer(&forwarded, "503 Service Unavailable");
        let next = next
            .into_iter()
            .find(|one| one.start_line().starts_with("INVITE"));
        if let Some(next) = next {
            let ok = self.answer(&next, "200 OK");
            let bye = self.in_dialog("BYE", "b", 2, &ok[0]);
            assert_eq!(self.carrier_sends(&bye).len(), 1);
        }
    }

    /// Nobody answers anything.
    fn silent(&mut self) {
        self.set_up();
        self.wait(Duration::from_secs(1));
        self.set_up();
    }

    fn refused(&mut self) {
        let options = self.request("OPTIONS", "sip:192.0.2.1", "o", 1, None, "");
        assert_eq!(self.carrier_sends(&options).len(), 1);
        let stranger: SocketAddr = "192.0.2.77:5060".parse().expect("a literal address");
        let invite = self.invite();
        assert!(
            self.receive(stranger, &invite)[0]
                .start_line()
                .contains("403")
        );
        for (uri, status) in [
            ("sip:nobody@192.0.2.1", "404"),
            ("sip:+496@192.0.2.1", "603"),
            ("sip:+497@192.0.2.1", "302"),
        ] {
            let invite = self.request("INVITE", uri, status, 1, None, "");
            assert!(self.carrier_sends(&invite)[0].start_line().contains(status));
        }
        let broken = invite.replace("CSeq: 1", "CSeq: x");
        assert_eq!(self.carrier_sends(&broken).len(), 1);
        let unknown = self.request("BYE", "sip:a@192.0.2.1", "u", 9, None, "");
        self.carrier_sends(&unknown);
        self.carrier_sends("\r\n\r\n");
        self.carrier_sends("garbage");
    }

    fn one_more(&mut self) {
        self.call += 1;
        match self.call / 5 % 10 {
            5 => self.cancelled(),
            6 => self.busy(),
            7 => self.failed_over(),
            8 => self.silent(),
            9 => self.refused(),
            turn => {
                if let Some(ok) = self.answered() {
                    if turn == 4 {
                        self.re_invite(&ok);
                    }
                    self.hang_up(&ok, 3);
                }
            }
        }
        // Trunks that failed recover.
        let is_last = self.call % 50 == 49;
        self.wait(if is_last {
            Duration::from_secs(60)
        } else {
            Duration::from_millis(100)
        });
    }
}

#[test]
fn a_proxied_call_allocates_nothing() {
    let mut peers = Peers {
        desk: Desk::new(CONFIG),
        call: 0,
        answered_calls: 0,
    };
    // Recording an answered call for the next start is part of its path.
    peers.desk.keep_calls(200);
    // So is its call detail record, also where the ring is full, as this one soon is.
    let ring = Ring::in_memory(900);
    peers.desk.shard.account_to(Some(Accounting {
        ring: ring.clone(),
        wall_start_us: Arc::default(),
        start_id: 1,
        strangers: true,
    }));
    while peers.call < 250 {
        peers.one_more();
    }
    let warm_up = requests();
    while peers.call < 1250 {
        peers.one_more();
        assert_eq!(requests(), 0, "call {}", peers.call);
    }
    peers.wait(Duration::from_secs(60));
    assert_eq!(requests(), 0, "while all of it ran out");
    assert_eq!(peers.desk.shard.census().server_transactions, 0);
    assert!(peers.desk.is_idle());
    assert!(peers.answered_calls > 500, "{}", peers.answered_calls);
    assert_eq!(ring.pending(), 900);
    let lost = peers.desk.count(Counter::CdrsLostRingFull);
    assert!(lost > 0, "the ring became full");
    println!("{warm_up} requests to the allocator while the tables were warmed up");
}

#[test]
fn a_datagram_is_handed_over_without_allocation_once_there_are_letters() {
    let mail = Mailroom::new(2, 64);
    let from = Flow::udp(ListenerId(0), CARRIER.parse().expect("a literal address"));
    let text = [b'x'; 1400];
    let pass = |count: usize| {
        for _ in 0..count {
            assert!(mail.hand_over(1, from, false, &text));
        }
        while let Some(Mail::Datagram(letter)) = mail.take(1) {
            mail.hand_back(1, letter.bytes);
        }
    };
    counted(|| pass(32));
    assert!(requests() > 0, "the counter counts");
    counted(|| (0..100).for_each(|_| pass(32)));
    assert_eq!(requests(), 0);
}

/// An echo over a real socket: what comes in goes out again.
fn turns_allocate_nothing(kind: IoKind) {
    let address: SocketAddr = "127.0.0.1:0".parse().expect("a literal address");
    let mut by_shard = bind_group(&[address], 1, Buffers::default()).expect("a free port");
    let sockets: Vec<Arc<Socket>> = by_shard.remove(0).into_iter().map(Arc::new).collect();
    let (mut driver, _) = callgate::io::open(kind, &sockets, Options::default()).expect("a driver");
    let mut out = Outbox::new(512, 4 << 20);
    let peer = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    peer.connect(sockets[0].local()).expect("a local address");
    let mut batch = || {
        for _ in 0..16 {
            peer.send(&[b'x'; 700]).expect("sent");
        }
        let mut echoed = 0;
        while echoed < 16 {
            counted(|| {
                let mut echo = |event: Event<'_>, out: &mut Outbox| {
                    if let Event::Datagram { from, bytes } = event {
                        echoed += usize::from(out.push(from, bytes).is_ok());
                    }
                };
                driver
                    .turn(Some(Duration::from_millis(100)), &mut out, &mut echo)
                    .expect("a working driver");
            });
        }
        let mut answer = [0; 1000];
        (0..16).for_each(|_| assert_eq!(peer.recv(&mut answer).ok(), Some(700)));
    };
    (0..50).for_each(|_| batch());
    requests();
    (0..200).for_each(|_| batch());
    assert_eq!(requests(), 0);
}

#[test]
fn a_turn_of_the_ring_allocates_nothing() {
    match available() {
        Ok(()) => turns_allocate_nothing(IoKind::Uring),
        Err(why) => println!("not shown here: no io_uring: {why}"),
    }
}

#[test]
fn a_turn_of_recvmmsg_and_sendmmsg_allocates_nothing() {
    turns_allocate_nothing(IoKind::Mmsg);
}
