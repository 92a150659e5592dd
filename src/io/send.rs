//! The send path that both drivers share: what is sent in which pass, what is tried again, and
//! under which reason a loss is counted. Putting a pass to the kernel is the driver's.
//!
//! A pass names datagrams by their position in the outbox, in bundles that leave as one. What is
//! tried again goes singly, so that one peer's ICMP error costs one try of one datagram.

use core::time::Duration;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::groups::{Bundle, Groups, is_refusal_of_group};
use super::refusals::Refusals;
use super::{DriverCounters, Socket, sys};
use crate::net::{Datagram, Outbox};

/// Tries per datagram. An ICMP error of one datagram fails the next send of the same socket, and
/// a batch to several dead peers can do that to one datagram more than once.
const PASSES_MAX: usize = 4;

/// How long a pass waits for a full socket: a shard has calls to attend to.
const WRITABLE_WAIT: Duration = Duration::from_millis(2);

/// Datagrams of the outbox to put to the kernel in one go, by position, in order.
pub(super) struct Pass<'a> {
    pub(super) sockets: &'a [Arc<Socket>],
    pub(super) out: &'a Outbox,
    pub(super) groups: &'a Groups,
}

impl<'a> Pass<'a> {
    /// The datagram at a position of the outbox, and its socket's index.
    pub(super) fn datagram(&self, position: u32) -> Option<(Datagram<'a>, usize)> {
        let datagram = self.out.datagram(position as usize)?;
        let socket = usize::from(datagram.to.listener.0);
        (socket < self.sockets.len()).then_some((datagram, socket))
    }

    /// What is to be sent, in order.
    pub(super) fn bundles(&self) -> &'a [Bundle] {
        self.groups.bundles()
    }

    /// The positions of a bundle and the index of its socket; `None`: no such socket.
    pub(super) fn bundle(&self, bundle: Bundle) -> (&'a [u32], Option<usize>) {
        let positions = self.groups.positions(bundle);
        let first = positions.first().and_then(|first| self.datagram(*first));
        (positions, first.map(|(_, socket)| socket))
    }

    /// These are for a listener that the driver does not have.
    pub(super) fn no_listener(&self, positions: &[u32], failures: &mut Vec<Failure>) {
        let fault = Fault::NoListener;
        failures.extend(
            positions
                .iter()
                .map(|&position| Failure { position, fault }),
        );
    }

    /// The octets of some datagrams.
    fn octets(&self, positions: &[u32]) -> usize {
        let datagrams = positions.iter().filter_map(|at| self.datagram(*at));
        datagrams.map(|(datagram, _)| datagram.bytes.len()).sum()
    }

    /// Takes the kernel's word on a bundle: octets taken, or an error number.
    pub(super) fn settle(
        &self,
        positions: &[u32],
        result: Result<usize, i32>,
        failures: &mut Vec<Failure>,
        counters: &mut DriverCounters,
    ) {
        let count = positions.len() as u64;
        let fault = match result {
            Ok(octets) if octets == self.octets(positions) => {
                counters.sent += count;
                if count > 1 {
                    counters.groups += 1;
                    counters.grouped += count;
                }
                return;
            }
            Ok(_) => Fault::Short,
            Err(errno) if count > 1 && is_refusal_of_group(errno) => {
                counters.groups_refused += 1;
                Fault::Grouped(errno)
            }
            Err(errno) => Fault::Errno(errno),
        };
        failures.extend(
            positions
                .iter()
                .map(|&position| Failure { position, fault }),
        );
    }
}

/// Why a datagram was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The driver has no such listener.
    NoListener,
    /// The kernel took fewer octets than given.
    Short,
    /// The kernel said this error number.
    Errno(i32),
    /// It said this of the group that the datagram was in.
    Grouped(i32),
}

/// One datagram that was not sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) position: u32,
    pub(super) fault: Fault,
}

/// Puts one pass to the kernel: counts what was taken, tells what was not. An error means that
/// the driver itself is broken.
pub(super) trait Transmit {
    fn transmit(
        &mut self,
        pass: &Pass<'_>,
        failures: &mut Vec<Failure>,
        counters: &mut DriverCounters,
    ) -> io::Result<()>;
}

/// What a failure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// The socket or the device is full: wait a little.
    Wait,
    /// Perhaps an earlier datagram's ICMP error, which this try has used up: try at once.
    Again,
    /// Singly it may go: try at once.
    Singly,
    /// Nothing helps.
    Lost,
}

/// Reads a failure. A UDP send never fails with ECONNREFUSED of its own; the two kinds of
/// "unreachable" may be the routing table's word on this very datagram as well.
fn remedy(fault: Fault) -> Remedy {
    match fault {
        // ENOBUFS: with IP_RECVERR the kernel tells that the device's queue dropped it.
        Fault::Errno(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Remedy::Wait,
        Fault::Errno(
            libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::ENOPROTOOPT
            | libc::EPROTO
            | libc::EACCES
            | libc::EINTR,
        ) => Remedy::Again,
        Fault::Grouped(_) => Remedy::Singly,
        Fault::NoListener | Fault::Short | Fault::Errno(_) => Remedy::Lost,
    }
}

/// The memory of the send path, taken once.
#[derive(Debug)]
pub(super) struct SendPath {
    groups: Groups,
    /// What the next pass tries again.
    queue: Vec<u32>,
    failures: Vec<Failure>,
}

/// An outbox of this many datagrams finds room without new memory.
const DATAGRAMS: usize = 1024;

impl SendPath {
    pub(super) fn new(sockets: &[Arc<Socket>]) -> SendPath {
        SendPath {
            groups: Groups::new(sockets, DATAGRAMS),
            queue: Vec::with_capacity(DATAGRAMS),
            failures: Vec::with_capacity(DATAGRAMS),
        }
    }

    /// Sends the whole outbox and clears it. An error means that the driver is broken; what it
    /// did not get rid of is counted as a fault.
    pub(super) fn flush(
        &mut self,
        kernel: &mut impl Transmit,
        sockets: &[Arc<Socket>],
        out: &mut Outbox,
        refusals: &mut Refusals,
        counters: &mut DriverCounters,
    ) -> io::Result<()> {
        self.groups.gather(out, refusals);
        let mut passes = 0;
        let mut result = Ok(());
        while !self.groups.bundles().is_empty() && result.is_ok() {
            passes += 1;
            self.failures.clear();
            let pass = Pass {
                sockets,
                out,
                groups: &self.groups,
            };
            result = kernel.transmit(&pass, &mut self.failures, counters);
            self.sort_failures(passes == PASSES_MAX, sockets, out, refusals, counters);
            self.groups.keep(self.queue.drain(..));
        }
        out.clear();
        result
    }

    /// Makes the queue of the next pass, and counts what is given up.
    fn sort_failures(
        &mut self,
        last: bool,
        sockets: &[Arc<Socket>],
        out: &Outbox,
        refusals: &mut Refusals,
        counters: &mut DriverCounters,
    ) {
        self.queue.clear();
        let mut full = None;
        for failure in &self.failures {
            let remedy = remedy(failure.fault);
            let Some(datagram) = out.datagram(failure.position as usize) else {
                continue;
            };
            let socket = usize::from(datagram.to.listener.0);
            if remedy == Remedy::Again {
                refusals.note(socket);
            }
            if let (Fault::Grouped(errno), Some(socket)) = (failure.fault, sockets.get(socket)) {
                self.groups.refused(socket, datagram.bytes.len(), errno);
            }
            if last || remedy == Remedy::Lost {
                give_up(&datagram, failure.fault, refusals, counters);
                continue;
            }
            if remedy == Remedy::Wait {
                full = Some(socket);
            }
            counters.send_retries += 1;
            self.queue.push(failure.position);
        }
        if let Some(socket) = full.and_then(|socket| sockets.get(socket)) {
            wait_writable(socket, counters);
        }
    }
}

fn give_up(
    datagram: &Datagram<'_>,
    fault: Fault,
    refusals: &mut Refusals,
    counters: &mut DriverCounters,
) {
    match fault {
        Fault::NoListener => counters.send_no_listener += 1,
        Fault::Short => counters.send_short += 1,
        Fault::Errno(errno) | Fault::Grouped(errno) => match remedy(fault) {
            Remedy::Wait => counters.send_full += 1,
            Remedy::Again => {
                counters.send_unreachable += 1;
                // ECONNREFUSED is another datagram's refusal: it says nothing about this one.
                if errno != libc::ECONNREFUSED && errno != libc::EINTR {
                    refusals.keep(datagram.to, datagram.bytes);
                }
            }
            Remedy::Singly | Remedy::Lost => counters.send_faults += 1,
        },
    }
}

/// A device that drops may leave the socket writable, so the wait can be shorter than it says.
fn wait_writable(socket: &Arc<Socket>, counters: &mut DriverCounters) {
    counters.system_calls += 1;
    let mut fds = [sys::interest(socket.as_raw_fd(), libc::POLLOUT)];
    // A failed wait is a short wait: the number of passes is bounded anyway.
    let _ = sys::poll(&mut fds, Some(WRITABLE_WAIT));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Flow, ListenerId};

    /// A kernel that fails each position as often as told, and takes it then.
    struct Moody {
        moods: Vec<Vec<i32>>,
        taken: Vec<u32>,
    }

    impl Transmit for Moody {
        fn transmit(
            &mut self,
            pass: &Pass<'_>,
            failures: &mut Vec<Failure>,
            counters: &mut DriverCounters,
        ) -> io::Result<()> {
            for bundle in pass.bundles() {
                let (&[position], _) = pass.bundle(*bundle) else {
                    panic!("there are no sockets that it could have groups for");
                };
                match self.moods[position as usize].pop() {
                    Some(errno) => failures.push(Failure {
                        position,
                        fault: Fault::Errno(errno),
                    }),
                    None => {
                        counters.sent += 1;
                        self.taken.push(position);
                    }
                }
            }
            Ok(())
        }
    }

    fn flush(moods: Vec<Vec<i32>>) -> (Vec<u32>, DriverCounters, usize) {
        let to = Flow::udp(ListenerId(0), "192.0.2.1:5060".parse().expect("an address"));
        let mut out = Outbox::new(moods.len(), 1024);
        for _ in &moods {
            out.push(to, b"x").expect("room");
        }
        let mut kernel = Moody {
            moods,
            taken: Vec::new(),
        };
        let mut counters = DriverCounters::default();
        let mut refusals = Refusals::new(1);
        SendPath::new(&[])
            .flush(&mut kernel, &[], &mut out, &mut refusals, &mut counters)
            .expect("a driver that works");
        assert!(out.is_empty());
        (kernel.taken, counters, refusals.kept())
    }

    #[test]
    fn a_refusal_of_an_earlier_datagram_costs_no_datagram() {
        let refused = vec![libc::ECONNREFUSED; PASSES_MAX - 1];
        let (taken, counters, bounced) = flush(vec![vec![], refused, vec![]]);
        assert_eq!(taken, [0, 2, 1]);
        assert_eq!(counters.sent, 3);
        assert_eq!(counters.send_retries, 3);
        assert_eq!(bounced, 0);
    }

    #[test]
    fn no_route_is_counted_and_bounced_and_the_others_are_sent() {
        let (taken, counters, bounced) = flush(vec![vec![libc::ENETUNREACH; 99], vec![]]);
        assert_eq!(taken, [1]);
        assert_eq!(counters.send_unreachable, 1);
        assert_eq!(bounced, 1);
    }

    #[test]
    fn a_full_device_is_given_up_after_bounded_tries() {
        let (taken, counters, bounced) = flush(vec![vec![libc::EAGAIN; 99], vec![libc::ENOBUFS]]);
        assert_eq!(taken, [1]);
        assert_eq!(counters.send_full, 1);
        assert_eq!(counters.sent, 1);
        assert_eq!(bounced, 0);
    }

    #[test]
    fn an_illegal_datagram_is_not_tried_twice() {
        let (taken, counters, _) = flush(vec![vec![libc::EMSGSIZE]]);
        assert!(taken.is_empty());
        assert_eq!(counters.send_faults, 1);
        assert_eq!(counters.send_retries, 0);
    }
}
