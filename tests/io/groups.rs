//! Datagrams that leave as one (UDP_SEGMENT): what arrives is what single sends would have brought.

use core::net::SocketAddr;
use core::time::Duration;
use std::net::UdpSocket;

use callgate::io::{DriverCounters, IoKind};
use callgate::net::{Flow, ListenerId};

use super::{Node, Seen, dead_address, dead_v6, peer, receive};

for_each_driver! {
    datagrams_of_one_length_leave_as_one_and_arrive_one_by_one
    over_ipv6_too
    seventy_of_one_length_are_two_groups
    a_group_may_be_as_long_as_an_ip_packet
    many_groups_leave_in_one_go
    what_is_of_one_call_arrives_in_order
    what_is_of_an_unknown_call_stays_where_it_is
    a_socket_that_refuses_groups_sends_singly
    each_of_a_group_without_a_route_comes_back
    each_of_a_group_for_an_unknown_listener_is_counted
    a_refused_group_comes_back_and_then_each_datagram
}

impl Node {
    fn send_of(&mut self, call: u64, to: SocketAddr, bytes: &[u8]) {
        self.out.of_call(Some(call << 1));
        self.send(to, bytes);
        self.out.of_call(None);
    }

    fn flush(&mut self) -> DriverCounters {
        self.driver.flush(&mut self.out);
        assert!(self.out.is_empty());
        self.driver.counters()
    }
}

fn at(peer: &UdpSocket) -> SocketAddr {
    peer.local_addr().expect("bound")
}

/// A datagram of `len` octets that tells its number.
fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; len];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn datagrams_of_one_length_leave_as_one_and_arrive_one_by_one(kind: IoKind) {
    mixed(kind, "127.0.0.1:0");
}

fn over_ipv6_too(kind: IoKind) {
    mixed(kind, "[::1]:0");
}

/// Two peers, three lengths, nine calls: three of each peer and length.
fn mixed(kind: IoKind, local: &str) {
    let mut node = Node::new(kind, local);
    let peers = [peer(local), peer(local)];
    let lens = [300, 700, 301];
    for call in 0..9 {
        let len = lens[call as usize % 3];
        for peer in &peers {
            node.send_of(call + 1, at(peer), &numbered(call, len));
        }
    }
    node.send_of(99, at(&peers[0]), b"alone");
    let counters = node.flush();
    assert_eq!((counters.groups, counters.grouped), (6, 18), "{counters:?}");
    assert_eq!((counters.sent, counters.groups_refused), (19, 0));
    for peer in &peers {
        for call in [0, 3, 6, 1, 4, 7, 2, 5, 8] {
            let expected = numbered(call, lens[call as usize % 3]);
            assert!(receive(peer) == expected, "{call}");
        }
    }
    assert_eq!(receive(&peers[0]), b"alone");
}

fn seventy_of_one_length_are_two_groups(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    for call in 0..70 {
        node.send_of(call + 1, at(&peer), &numbered(call, 500));
    }
    let counters = node.flush();
    assert_eq!((counters.groups, counters.grouped), (2, 70), "{counters:?}");
    for call in 0..70 {
        assert!(receive(&peer) == numbered(call, 500), "{call}");
    }
}

fn a_group_may_be_as_long_as_an_ip_packet(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    // Four times 16,000 octets are a group, and what no group can hold goes beside it.
    for call in 0..6 {
        node.send_of(call + 1, at(&peer), &numbered(call, 16_000));
    }
    node.send_of(7, at(&peer), &numbered(6, 65_507));
    let counters = node.flush();
    assert_eq!((counters.groups, counters.grouped), (1, 4), "{counters:?}");
    for call in 0..6 {
        assert!(receive(&peer) == numbered(call, 16_000), "{call}");
    }
    assert!(receive(&peer) == numbered(6, 65_507));
}

/// More groups and datagrams than one system call of either driver takes.
fn many_groups_leave_in_one_go(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let peers: Vec<UdpSocket> = (0..50).map(|_| peer("127.0.0.1:0")).collect();
    for call in 0..10 {
        for peer in &peers {
            node.send_of(call + 1, at(peer), &numbered(call, 200));
            if node.out.is_nearly_full() {
                node.flush();
            }
        }
    }
    let counters = node.flush();
    assert_eq!(counters.sent, 500, "{counters:?}");
    for peer in &peers {
        for call in 0..10 {
            assert!(receive(peer) == numbered(call, 200), "{call}");
        }
    }
}

fn what_is_of_one_call_arrives_in_order(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    // Answers of calls 1 to 4 (500 octets) are there when call 5 rings (300) and is answered.
    let mut sent = Vec::new();
    for call in 1..5 {
        sent.push((call, 500));
    }
    for call in 5..9 {
        sent.extend([(call, 300), (call, 500)]);
    }
    for &(call, len) in &sent {
        node.send_of(call, at(&peer), &numbered(call, len));
    }
    let counters = node.flush();
    assert!(counters.groups >= 3, "{counters:?}");
    let received: Vec<Vec<u8>> = sent.iter().map(|_| receive(&peer)).collect();
    for call in 1..9 {
        let number = |bytes: &&Vec<u8>| bytes[..8] == u64::to_be_bytes(call);
        let lens: Vec<usize> = received.iter().filter(number).map(Vec::len).collect();
        let expected: &[usize] = if call < 5 { &[500] } else { &[300, 500] };
        assert_eq!(lens, expected, "call {call}");
    }
}

fn what_is_of_an_unknown_call_stays_where_it_is(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    let lens = [100, 100, 100, 100, 200, 100, 100, 100, 200];
    for (number, &len) in (0..).zip(&lens) {
        node.send(at(&peer), &numbered(number, len));
    }
    let counters = node.flush();
    assert_eq!((counters.groups, counters.grouped), (2, 7), "{counters:?}");
    for (number, &len) in (0..).zip(&lens) {
        assert!(receive(&peer) == numbered(number, len), "{number}");
    }
}

/// A socket that sends without checksums cannot have the kernel cut what it sends.
fn a_socket_that_refuses_groups_sends_singly(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    leave_out_checksums(&node);
    let peer = peer("127.0.0.1:0");
    let mut send = |first: u64, len: usize| {
        for call in first..first + 5 {
            node.send_of(call + 1, at(&peer), &numbered(call, len));
        }
        let counters = node.flush();
        for call in first..first + 5 {
            assert!(receive(&peer) == numbered(call, len), "{call}");
        }
        counters
    };
    // Refused with EINVAL, which may mean that it is too long: shorter ones are tried.
    assert_eq!(send(0, 2000).groups_refused, 1);
    assert_eq!(send(5, 2000).groups_refused, 1);
    assert_eq!(send(10, 1000).groups_refused, 2);
    let counters = send(15, 100);
    assert_eq!(counters.groups_refused, 2, "after that, none is tried");
    assert_eq!((counters.sent, counters.groups), (20, 0), "{counters:?}");
    assert_eq!(counters.send_retries, 10, "each of both groups");
    assert_eq!(counters.send_faults, 0);
}

#[expect(unsafe_code, reason = "no safe wrapper sets SO_NO_CHECK")]
fn leave_out_checksums(node: &Node) {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    // SAFETY: pointer and length are those of `on`.
    let result = unsafe {
        libc::setsockopt(
            node.sockets[0].as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0);
}

fn each_of_a_group_without_a_route_comes_back(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    let nowhere = "240.0.0.1:5060".parse().expect("an address");
    for call in 0..4 {
        node.send_of(call + 1, nowhere, &numbered(call, 300));
        node.send_of(call + 1, at(&peer), &numbered(call, 300));
    }
    let counters = node.flush();
    let lost = counters.send_unreachable + counters.send_faults;
    assert_eq!((counters.sent, lost), (4, 4), "{counters:?}");
    for call in 0..4 {
        assert!(receive(&peer) == numbered(call, 300), "{call}");
    }
    if counters.send_unreachable == 4 {
        let seen = node.turn_until(|seen| seen.len() == 4);
        for (call, seen) in (0..).zip(seen) {
            assert_eq!(seen, Seen::Unreachable(nowhere, numbered(call, 300)));
        }
    }
}

fn each_of_a_group_for_an_unknown_listener_is_counted(kind: IoKind) {
    let mut node = Node::new(kind, "127.0.0.1:0");
    let to = Flow::udp(ListenerId(7), dead_address());
    for _ in 0..5 {
        node.out.push(to, b"x").expect("room");
    }
    let counters = node.flush();
    assert_eq!(counters.send_no_listener, 5);
    assert_eq!((counters.groups, counters.groups_refused), (0, 0));
}

/// On this host the kernel tells a group's first datagram only; so what follows goes singly.
fn a_refused_group_comes_back_and_then_each_datagram(kind: IoKind) {
    for (local, dead) in [("127.0.0.1:0", dead_address()), ("[::1]:0", dead_v6())] {
        let mut node = Node::new(kind, local);
        let peer = peer(local);
        for call in 0..4 {
            node.send_of(call + 1, at(&peer), &numbered(call, 300));
            node.send_of(call + 1, dead, &numbered(call, 600));
        }
        node.flush();
        for call in 0..4 {
            assert!(receive(&peer) == numbered(call, 300), "{call}");
        }
        let refused = |number: u64| {
            move |seen: &Seen| match seen {
                Seen::Unreachable(to, quoted) => {
                    *to == dead && quoted.starts_with(&number.to_be_bytes())
                }
                _ => false,
            }
        };
        node.turn_until(|seen| seen.iter().any(refused(0)));
        let before = node.driver.counters();
        for call in 4..8 {
            node.send_of(call + 1, dead, &numbered(call, 600));
        }
        node.send_of(1, at(&peer), b"alive");
        node.flush();
        assert_eq!(receive(&peer), b"alive");
        let all = |seen: &[Seen]| (4..8).all(|call| seen.iter().any(refused(call)));
        node.turn_until(all);
        let after = node.driver.counters();
        assert_eq!(after.groups, before.groups);
        assert_eq!(after.send_unreachable + after.send_faults, 0, "{after:?}");
        assert_eq!(node.turn(Duration::from_millis(1)), []);
    }
}
