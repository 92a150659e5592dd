//! Datagrams that came back: from the sockets' error queues (ICMP), and from sends for which
//! there was no route. Both reach the shard as [`Event::Unreachable`].

use core::net::SocketAddr;
use std::sync::Arc;

use super::driver::Handler;
use super::{DriverCounters, Event, Socket, sys};
use crate::net::{Flow, Outbox};

/// Error queue entries read per socket and turn: an ICMP storm must not starve the calls.
const ERRORS_PER_TURN: usize = 16;

/// Kept sends without a route; what comes on top is counted, and found out by a timer.
const KEPT_MAX: usize = 16;

/// As much as an ICMP message quotes within 576 octets (RFC 1122 §3.2.2): enough for a top Via.
const KEPT_OCTETS: usize = 548;

/// An ICMPv6 message quotes at most 1,232 octets (RFC 4443 §2.4).
const QUOTED_MAX: usize = 2048;

/// Peers that refused lately, and how many datagrams each is sent singly for it: of a group that is
/// refused on this host, by loopback or a veth, the kernel tells one datagram.
const SINGLY_PEERS: usize = 8;
const SINGLY_DATAGRAMS: u32 = 1000;

/// What came back and has not been told yet.
pub(super) struct Refusals {
    /// By socket: whether its error queue is to be read.
    waiting: Vec<bool>,
    kept: Vec<Kept>,
    /// Who refused lately, the latest last, and how many more datagrams go to each singly.
    singly: Vec<(SocketAddr, u32)>,
    scratch: Box<[u8; QUOTED_MAX]>,
}

struct Kept {
    to: Flow,
    len: usize,
    bytes: [u8; KEPT_OCTETS],
}

impl Refusals {
    pub(super) fn new(sockets: usize) -> Refusals {
        Refusals {
            waiting: vec![false; sockets],
            kept: Vec::with_capacity(KEPT_MAX),
            singly: Vec::with_capacity(SINGLY_PEERS),
            scratch: Box::new([0; QUOTED_MAX]),
        }
    }

    /// The socket with this index has had an error: its queue is read in the next turn.
    pub(super) fn note(&mut self, socket: usize) {
        if let Some(waiting) = self.waiting.get_mut(socket) {
            *waiting = true;
        }
    }

    /// Keeps the beginning of a datagram that could not be sent.
    pub(super) fn keep(&mut self, to: Flow, bytes: &[u8]) {
        if self.kept.len() == KEPT_MAX {
            return;
        }
        let len = bytes.len().min(KEPT_OCTETS);
        let mut kept = Kept {
            to,
            len,
            bytes: [0; KEPT_OCTETS],
        };
        kept.bytes[..len].copy_from_slice(&bytes[..len]);
        self.kept.push(kept);
    }

    /// Whether the next datagram to this peer is to go singly.
    pub(super) fn wants_singly(&mut self, to: SocketAddr) -> bool {
        let Some(at) = self.singly.iter().position(|(peer, _)| *peer == to) else {
            return false;
        };
        self.singly[at].1 -= 1;
        if self.singly[at].1 == 0 {
            self.singly.remove(at);
        }
        true
    }

    fn note_singly(&mut self, to: SocketAddr) {
        self.singly.retain(|(peer, _)| *peer != to);
        if self.singly.len() == SINGLY_PEERS {
            self.singly.remove(0);
        }
        self.singly.push((to, SINGLY_DATAGRAMS));
    }

    /// Whether there may be something to tell.
    pub(super) fn any(&self) -> bool {
        !self.kept.is_empty() || self.waiting.contains(&true)
    }

    /// Tells the shard what came back, a bounded part per turn; the count of events comes back.
    pub(super) fn deliver(
        &mut self,
        sockets: &[Arc<Socket>],
        counters: &mut DriverCounters,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> usize {
        let mut events = self.kept.len();
        for kept in self.kept.drain(..) {
            let quoted = &kept.bytes[..kept.len];
            handler(
                Event::Unreachable {
                    to: kept.to,
                    quoted,
                },
                out,
            );
        }
        for (index, socket) in sockets.iter().enumerate() {
            if self.waiting[index] {
                events += self.read_queue(index, socket, counters, out, handler);
            }
        }
        counters.bounced += events as u64;
        events
    }

    fn read_queue(
        &mut self,
        index: usize,
        socket: &Arc<Socket>,
        counters: &mut DriverCounters,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> usize {
        let mut events = 0;
        for _ in 0..ERRORS_PER_TURN {
            counters.system_calls += 1;
            let Ok(Some(error)) = sys::take_error(&**socket, &mut self.scratch[..]) else {
                self.waiting[index] = false;
                break;
            };
            if let Some(remote) = error.to.filter(|to| is_refusal(error.errno, *to)) {
                self.note_singly(remote);
                let to = Flow::udp(socket.listener(), remote);
                let quoted = &self.scratch[..error.len.min(QUOTED_MAX)];
                handler(Event::Unreachable { to, quoted }, out);
                events += 1;
            }
        }
        events
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }
}

/// "Fragmentation needed" and "packet too big" are the kernel's business, not a refusal; port 0
/// comes with errors that are about no datagram of ours.
fn is_refusal(errno: i32, to: SocketAddr) -> bool {
    errno != 0 && errno != libc::EMSGSIZE && to.port() != 0
}
