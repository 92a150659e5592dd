//! Both drivers over real loopback sockets: the same claims, with the kernel as the other side.

use core::net::SocketAddr;
use core::time::Duration;
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;

use callgate::io::{Buffers, Driver, Event, IoKind, Options, Socket, bind_group};
use callgate::net::{Flow, ListenerId, Outbox};

/// Makes one test per driver from each claim.
macro_rules! for_each_driver {
    ($($claim:ident)*) => {
        mod uring {
            $(#[test] fn $claim() { super::$claim(super::IoKind::Uring); })*
        }
        mod mmsg {
            $(#[test] fn $claim() { super::$claim(super::IoKind::Mmsg); })*
        }
    };
}

for_each_driver! {
    a_paced_burst_arrives_whole_and_each_is_answered
    ipv6_is_carried_like_ipv4
    another_thread_ends_the_wait
    what_gathered_during_a_tick_is_there_at_once_and_whole
    what_a_tick_answers_leaves_before_the_next_one
    a_large_outbox_leaves_within_a_tick
    a_tick_is_kept_whoever_wakes
    a_refusal_reaches_a_shard_that_ticks
    a_wake_up_under_load_is_seen
    an_icmp_refusal_comes_back_with_the_datagram
    a_burst_larger_than_the_buffers_is_overcome
    the_largest_datagram_arrives_whole
    an_empty_datagram_arrives_and_stops_nothing
    a_destination_without_a_route_loses_no_other_send
    a_live_peer_behind_dead_ones_gets_everything
    an_unknown_listener_is_counted
    a_time_out_is_kept
    a_second_driver_takes_over_the_sockets
    a_closed_listener_gives_its_port_back_at_once
}

#[path = "io/groups.rs"]
mod groups;

/// A driver with its outbox and its one socket.
struct Node {
    driver: Box<dyn Driver>,
    out: Outbox,
    at: SocketAddr,
    sockets: Vec<Arc<Socket>>,
}

/// What one turn saw, copied.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Datagram(SocketAddr, Vec<u8>),
    Truncated(usize),
    Unreachable(SocketAddr, Vec<u8>),
    Woken,
}

impl Node {
    fn new(kind: IoKind, address: &str) -> Node {
        Node::with(kind, address, Options::default())
    }

    fn with(kind: IoKind, address: &str, options: Options) -> Node {
        let address: SocketAddr = address.parse().expect("an address");
        let mut by_shard = bind_group(&[address], 1, Buffers::default()).expect("a free port");
        let sockets: Vec<Arc<Socket>> = by_shard.remove(0).into_iter().map(Arc::new).collect();
        Node {
            driver: open(kind, &sockets, options),
            out: Outbox::new(512, 4 << 20),
            at: sockets[0].local(),
            sockets,
        }
    }

    fn turn(&mut self, timeout: Duration) -> Vec<Seen> {
        self.turn_with(timeout, false)
    }

    fn tick(&mut self, span: Duration) -> Vec<Seen> {
        self.wait_with(span, true, false)
    }

    /// One turn; with `echo` each datagram goes back to its sender.
    fn turn_with(&mut self, timeout: Duration, echo: bool) -> Vec<Seen> {
        self.wait_with(timeout, false, echo)
    }

    /// The same, or one tick of that length.
    fn wait_with(&mut self, span: Duration, ticks: bool, echo: bool) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut handler = |event: Event<'_>, out: &mut Outbox| {
            if let (Event::Datagram { from, bytes }, true) = (&event, echo) {
                out.push(*from, bytes).expect("the driver drains in time");
            }
            seen.push(match event {
                Event::Datagram { from, bytes } => Seen::Datagram(from.remote, bytes.to_vec()),
                Event::Truncated { len, .. } => Seen::Truncated(len),
                Event::Unreachable { to, quoted } => Seen::Unreachable(to.remote, quoted.to_vec()),
                Event::Woken => Seen::Woken,
            });
        };
        let done = match ticks {
            true => self.driver.tick(span, &mut self.out, &mut handler),
            false => self.driver.turn(Some(span), &mut self.out, &mut handler),
        };
        assert_eq!(done.expect("a driver that works"), seen.len());
        seen
    }

    /// Turns until `enough` says so, or for two seconds.
    fn turn_until(&mut self, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let mut seen = Vec::new();
        for _ in 0..200 {
            seen.extend(self.turn(Duration::from_millis(10)));
            if enough(&seen) {
                return seen;
            }
        }
        panic!("after two seconds only {} events", seen.len());
    }

    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let to = Flow::udp(ListenerId(0), to);
        self.out.push(to, bytes).expect("room");
    }
}

fn open(kind: IoKind, sockets: &[Arc<Socket>], options: Options) -> Box<dyn Driver> {
    let opened = callgate::io::open(kind, sockets, options);
    let (driver, _why) = opened.unwrap_or_else(|fault| panic!("{kind:?} does not work: {fault}"));
    driver
}

fn peer(address: &str) -> UdpSocket {
    let peer = UdpSocket::bind(address).expect("a free port");
    peer.set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a time-out");
    peer
}

/// A port that nobody has.
fn dead_address() -> SocketAddr {
    peer("127.0.0.1:0").local_addr().expect("bound")
}

fn receive(peer: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 65_536];
    let len = peer
        .recv(&mut bytes)
        .expect("a datagram within two seconds");
    bytes.truncate(len);
    bytes
}

fn a_paced_burst_arrives_whole_and_each_is_answered(kind: IoKind) {
    const ROUNDS: u32 = 50;
    const PER_ROUND: u32 = 100;
    let mut node = Node::new(kind, "127.0.0.1:0");
    let at = node.at;
    let sender = thread::Builder::new()
        .spawn(move || {
            let peer = peer("127.0.0.1:0");
            for round in 0..ROUNDS {
                for number in 0..PER_ROUND {
                    let text = format!("{:05}", round * PER_ROUND + number);
                    peer.send_to(text.as_bytes(), at).expect("sent");
                }
                for number in 0..PER_ROUND {
                    let text = format!("{:05}", round * PER_ROUND + number);
                    assert_eq!(receive(&peer), text.as_bytes(), "in order");
                }
            }
        })
        .expect("a thread");
    let mut received = 0;
    while received < ROUNDS * PER_ROUND {
        let seen = node.turn_with(Duration::from_secs(2), true);
        assert!(!seen.is_empty(), "{received} and no more");
        received += seen.len() as u32;
    }
    sender.join().expect("every answer");
    let counters = node.driver.counters();
    assert_eq!(counters.received, u64::from(ROUNDS * PER_ROUND));
    assert_eq!(counters.sent, counters.received);
    assert_eq!(counters.dropped_by_kernel, 0);
}

fn ipv6_is_carried_like_ipv4(kind: IoKind) {
    let mut node = Node::new(kind, "[::1]:0");
    let peer = peer("[::1]:0");
    peer.send_to(b"ping", node.at).expect("sent");
    let seen = node.turn_with(Duration::from_secs(2), true);
    let from = peer.local_addr().expect("bound");
    assert_eq!(seen, [Seen::Datagram(from, b"ping".to_vec())]);
    assert_eq!(receive(&peer), b"ping");
}

fn another_thread_ends_the_wait(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    for _ in 0..3 {
        let waker = node.driver.waker();
        let other = thread::Builder::new()
            .spawn(move || {
                thread::sleep(Duration::from_millis(20));
                waker.wake();
            })
            .expect("a thread");
        let seen = node.turn(Duration::from_secs(10));
        assert_eq!(seen, [Seen::Woken]);
        other.join().expect("woken");
        assert_eq!(node.turn(Duration::ZERO), []);
    }
    assert_eq!(node.driver.counters().wakes, 3);
}

/// What a ticking shard does: sleep, then look without waiting.
fn what_gathered_during_a_tick_is_there_at_once_and_whole(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    node.turn(Duration::ZERO);
    for number in 0..20_u8 {
        peer.send_to(&[number], node.at).expect("sent");
    }
    let from = peer.local_addr().expect("bound");
    let expected: Vec<Seen> = (0..20)
        .map(|number| Seen::Datagram(from, vec![number]))
        .collect();
    assert_eq!(node.tick(Duration::from_millis(1)), expected);
    assert_eq!(node.driver.counters().ticks, 1);
}

/// Answers leave before the next tick is slept, and a datagram that comes meanwhile ends none.
fn what_a_tick_answers_leaves_before_the_next_one(kind: IoKind) {
    const TICK: Duration = Duration::from_millis(100);
    let mut node = Node::new(kind, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    peer.set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a time-out");
    peer.send_to(b"one", node.at).expect("sent");
    assert_eq!(
        node.wait_with(Duration::from_millis(1), true, true).len(),
        1
    );
    let at = node.at;
    let other = thread::Builder::new().spawn(move || {
        let mut room = [0; 16];
        let len = peer.recv(&mut room).expect("the answer");
        assert_eq!(&room[..len], b"one");
        let heard = instant();
        for _ in 0..5 {
            peer.send_to(b"more", at).expect("sent");
            thread::sleep(Duration::from_millis(5));
        }
        heard
    });
    let started = instant();
    let seen = node.tick(TICK);
    assert!(started.elapsed() >= TICK, "{:?}", started.elapsed());
    let heard = other.expect("a thread").join().expect("heard");
    assert!(heard < started + TICK, "the answer waited for the tick");
    assert_eq!(seen.len(), 5, "{seen:?}");
}

/// More than one system call sends, and none of it waits for the tick.
fn a_large_outbox_leaves_within_a_tick(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    // Two, since a socket has room for some 270 small datagrams.
    let peers = [peer("127.0.0.1:0"), peer("127.0.0.1:0")];
    for number in 0..150_u8 {
        for peer in &peers {
            let to = Flow::udp(ListenerId(0), peer.local_addr().expect("bound"));
            node.out.push(to, &[number]).expect("room");
        }
    }
    assert_eq!(node.tick(Duration::from_millis(1)), []);
    for peer in &peers {
        for number in 0..150_u8 {
            let mut room = [0; 1];
            peer.set_read_timeout(Some(Duration::from_secs(2)))
                .expect("a time-out");
            assert_eq!(peer.recv(&mut room).expect("each of them"), 1);
            assert_eq!(room, [number], "in their order");
        }
    }
    assert_eq!(node.driver.counters().sent, 300);
}

fn a_tick_is_kept_whoever_wakes(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    node.driver.waker().wake();
    let started = instant();
    let mut seen = node.tick(Duration::from_millis(20));
    assert!(started.elapsed() >= Duration::from_millis(20));
    if seen.is_empty() {
        seen = node.turn_until(|seen| !seen.is_empty());
    }
    assert_eq!(seen, [Seen::Woken], "a wake-up is not lost");
}

fn a_refusal_reaches_a_shard_that_ticks(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let dead = dead_address();
    node.send(dead, b"anybody there?");
    let mut seen = Vec::new();
    for _ in 0..100 {
        seen.extend(node.tick(Duration::from_millis(1)));
    }
    let refused = Seen::Unreachable(dead, b"anybody there?".to_vec());
    assert_eq!(seen, [refused]);
}

fn a_wake_up_under_load_is_seen(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    let waker = node.driver.waker();
    for _ in 0..20 {
        peer.send_to(b"load", node.at).expect("sent");
        node.turn(Duration::from_secs(2));
    }
    waker.wake();
    waker.wake();
    peer.send_to(b"load", node.at).expect("sent");
    let seen = node.turn_until(|seen| seen.len() >= 2);
    let woken = seen.iter().filter(|seen| **seen == Seen::Woken).count();
    assert_eq!(woken, 1, "two wake-ups before a look are one");
}

fn an_icmp_refusal_comes_back_with_the_datagram(kind: IoKind) {
    for (local, dead) in [("127.0.0.1:0", dead_address()), ("[::1]:0", dead_v6())] {
        let mut node = Node::new(kind, local);
        node.send(dead, b"INVITE into nothing");
        let seen = node.turn_until(|seen| !seen.is_empty());
        assert_eq!(
            seen,
            [Seen::Unreachable(dead, b"INVITE into nothing".to_vec())]
        );
        assert_eq!(node.driver.counters().bounced, 1);
        let peer = peer(local);
        peer.send_to(b"alive", node.at).expect("sent");
        assert_eq!(node.turn_until(|seen| !seen.is_empty()).len(), 1);
    }
}

fn dead_v6() -> SocketAddr {
    peer("[::1]:0").local_addr().expect("bound")
}

fn a_burst_larger_than_the_buffers_is_overcome(kind: IoKind) {
    let small = Options {
        receive_buffers: 8,
        ..Options::default()
    };
    let mut node = Node::with(kind, "127.0.0.1:0", small);
    let peer = peer("127.0.0.1:0");
    // Arms the receiver, so that the burst meets eight buffers and nobody who gives them back.
    node.turn(Duration::ZERO);
    for number in 0..200_u32 {
        peer.send_to(&number.to_be_bytes(), node.at).expect("sent");
    }
    let seen = node.turn_until(|seen| seen.len() >= 200);
    for (number, seen) in (0_u32..).zip(&seen) {
        let Seen::Datagram(_, bytes) = seen else {
            panic!("{seen:?}");
        };
        assert_eq!(bytes[..], number.to_be_bytes());
    }
    peer.send_to(b"later", node.at).expect("sent");
    assert_eq!(node.turn_until(|seen| !seen.is_empty()).len(), 1);
    let counters = node.driver.counters();
    assert_eq!(counters.dropped_by_kernel, 0);
    if kind == IoKind::Uring {
        assert!(counters.buffers_empty > 0, "{counters:?}");
    }
}

fn the_largest_datagram_arrives_whole(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    let large: Vec<u8> = (0..65_507_u32).map(|at| at as u8).collect();
    peer.send_to(&large, node.at).expect("sent");
    let seen = node.turn_with(Duration::from_secs(2), true);
    let from = peer.local_addr().expect("bound");
    assert!(seen == [Seen::Datagram(from, large.clone())]);
    assert!(receive(&peer) == large);

    let mut node = Node::new(kind, "[::1]:0");
    let peer = self::peer("[::1]:0");
    let large = vec![7; 65_527];
    peer.send_to(&large, node.at).expect("sent");
    let seen = node.turn(Duration::from_secs(2));
    let from = peer.local_addr().expect("bound");
    assert!(seen == [Seen::Datagram(from, large)]);
}

fn an_empty_datagram_arrives_and_stops_nothing(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    for bytes in [&b""[..], b"", b"after"] {
        peer.send_to(bytes, node.at).expect("sent");
    }
    let seen = node.turn_until(|seen| seen.len() >= 3);
    let from = peer.local_addr().expect("bound");
    let datagram = |bytes: &[u8]| Seen::Datagram(from, bytes.to_vec());
    assert_eq!(seen, [datagram(b""), datagram(b""), datagram(b"after")]);
}

fn a_destination_without_a_route_loses_no_other_send(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    let at = peer.local_addr().expect("bound");
    // A loopback source cannot leave the host, and 240/4 has no route; each is an error.
    let nowhere = "240.0.0.1:5060".parse().expect("an address");
    for number in 0..3_u8 {
        node.send(at, &[number]);
        node.send(nowhere, b"lost");
    }
    node.driver.flush(&mut node.out);
    for number in 0..3_u8 {
        assert_eq!(receive(&peer), [number]);
    }
    let counters = node.driver.counters();
    let lost = counters.send_unreachable + counters.send_faults;
    assert_eq!((counters.sent, lost), (3, 3), "{counters:?}");
}

fn a_live_peer_behind_dead_ones_gets_everything(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    let at = peer.local_addr().expect("bound");
    let dead = dead_address();
    for number in 0..100_u8 {
        node.send(dead, b"refused");
        node.send(at, &[number]);
    }
    node.driver.flush(&mut node.out);
    let mut received: Vec<u8> = (0..100).map(|_| receive(&peer)[0]).collect();
    received.sort_unstable();
    assert!(received.into_iter().eq(0..100));
    let refused = |seen: &[Seen]| {
        let refused = Seen::Unreachable(dead, b"refused".to_vec());
        seen.iter().filter(|seen| **seen == refused).count()
    };
    let seen = node.turn_until(|seen| refused(seen) > 0);
    assert_eq!(
        refused(&seen),
        seen.len(),
        "nothing is said of the live one"
    );
    assert_eq!(node.driver.counters().send_unreachable, 0);
}

fn an_unknown_listener_is_counted(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let to = Flow::udp(ListenerId(7), dead_address());
    node.out.push(to, b"x").expect("room");
    node.driver.flush(&mut node.out);
    assert!(node.out.is_empty());
    assert_eq!(node.driver.counters().send_no_listener, 1);
}

fn a_time_out_is_kept(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let before = instant();
    assert_eq!(node.turn(Duration::from_millis(30)), []);
    let waited = before.elapsed();
    assert!(waited >= Duration::from_millis(29), "{waited:?}");
    assert!(waited < Duration::from_secs(5), "{waited:?}");
}

#[expect(clippy::disallowed_methods, reason = "the claim is about the clock")]
fn instant() -> std::time::Instant {
    std::time::Instant::now()
}

fn a_second_driver_takes_over_the_sockets(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    peer.send_to(b"one", node.at).expect("sent");
    assert_eq!(node.turn(Duration::from_secs(2)).len(), 1);
    // The way of a shard's restart: the driver goes, its sockets stay and keep what arrives.
    node.driver = open(IoKind::Mmsg, &node.sockets, Options::default());
    peer.send_to(b"two", node.at).expect("sent");
    node.driver = open(kind, &node.sockets, Options::default());
    let seen = node.turn_until(|seen| !seen.is_empty());
    let from = peer.local_addr().expect("bound");
    assert_eq!(seen, [Seen::Datagram(from, b"two".to_vec())]);
}

fn a_closed_listener_gives_its_port_back_at_once(kind: IoKind) {
    for _ in 0..20 {
        let mut node = Node::new(kind, "127.0.0.1:0");
        let at = node.at;
        node.turn(Duration::ZERO);
        drop(node);
        bind_group(&[at], 1, Buffers::default()).expect("a free port");
    }
}
