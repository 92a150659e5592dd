//! The driver over recvmmsg and sendmmsg: for hosts without io_uring, and the twin to measure the
//! ring against. It waits in ppoll.

use core::time::Duration;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::address::{ADDRESS_MAX, RawAddress};
use super::driver::Handler;
use super::eventfd::EventFd;
use super::groups::{Bundle, GROUP_MAX};
use super::refusals::Refusals;
use super::send::{Failure, Pass, SendPath, Transmit};
use super::sys::Segments;
use super::turnstile::Turnstile;
use super::{Driver, DriverCounters, Event, Options, Socket, socket, sys};
use crate::base::ring::Wake;
use crate::guard::overload::{Backlog, TurnstileKind};
use crate::net::{Flow, Outbox};

/// Datagrams per recvmmsg; past 32 the measured gain is below the noise.
const RECEIVES_MAX: usize = 32;

/// Datagrams per sendmmsg: as above.
const SENDS_MAX: usize = 64;

/// Datagrams per sendmmsg, in groups or not; a group must find room.
const PARTS_MAX: usize = 2 * GROUP_MAX;

/// The largest UDP payload, over IPv6 (65,535 less the UDP header).
const PAYLOAD_MAX: usize = 65_527;

/// Drives the sockets of one shard with recvmmsg and sendmmsg.
pub struct MmsgDriver {
    sockets: Vec<Arc<Socket>>,
    eventfd: Arc<EventFd>,
    receiver: Receiver,
    kernel: SendKernel,
    send: SendPath,
    refusals: Refusals,
    counters: DriverCounters,
    turnstile: Turnstile,
    fds: Vec<libc::pollfd>,
    /// The last turn found datagrams: the next one looks for more before it waits.
    busy: bool,
    broken: Option<io::Error>,
}

impl MmsgDriver {
    /// Opens a driver over one shard's sockets, which stand in the order of their listeners.
    pub fn open(sockets: &[Arc<Socket>], options: Options) -> io::Result<MmsgDriver> {
        let eventfd = Arc::new(EventFd::new()?);
        let wanted = sockets.iter().map(|socket| socket.as_raw_fd());
        let fds = wanted
            .chain([eventfd.as_raw_fd()])
            .map(|fd| sys::interest(fd, libc::POLLIN))
            .collect();
        Ok(MmsgDriver {
            sockets: sockets.to_vec(),
            eventfd,
            receiver: Receiver::new(),
            kernel: SendKernel::new(),
            send: SendPath::new(sockets),
            refusals: Refusals::new(sockets.len()),
            counters: DriverCounters::default(),
            turnstile: Turnstile::new(sockets, options.turnstile.as_ref()),
            fds,
            busy: true,
            broken: None,
        })
    }

    /// Waits for something to do; marks sockets with errors; tells whether it was a wake-up.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        self.counters.system_calls += 1;
        for fd in &mut self.fds {
            fd.revents = 0;
        }
        sys::poll(&mut self.fds, timeout)?;
        for (index, fd) in self.fds[..self.sockets.len()].iter().enumerate() {
            if fd.revents & libc::POLLERR != 0 {
                self.refusals.note(index);
            }
            if fd.revents & libc::POLLNVAL != 0 {
                return Err(io::Error::from_raw_os_error(libc::EBADF));
            }
        }
        let woken = self.fds.last().is_some_and(|fd| fd.revents != 0);
        Ok(woken && self.eventfd.clear())
    }

    /// Takes one batch from each socket.
    fn receive(&mut self, out: &mut Outbox, handler: &mut Handler<'_>) -> io::Result<usize> {
        let mut events = 0;
        for index in 0..self.sockets.len() {
            self.counters.system_calls += 1;
            let socket = Arc::clone(&self.sockets[index]);
            match self.receiver.fill(&socket) {
                Ok(count) => {
                    events += count;
                    self.hand_over(count, &socket, out, handler);
                }
                Err(fault) => self.overcome(index, fault)?,
            }
        }
        Ok(events)
    }

    fn hand_over(
        &mut self,
        count: usize,
        socket: &Socket,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) {
        for slot in 0..count {
            match self.receiver.event(slot, socket) {
                Some(event) => {
                    match event {
                        Event::Truncated { .. } => self.counters.truncated += 1,
                        _ => self.counters.received += 1,
                    }
                    handler(event, out);
                }
                None => self.counters.foreign += 1,
            }
            if out.is_nearly_full() {
                self.flush(out);
            }
        }
    }

    /// A socket's error is an ICMP message or passing; a descriptor that is none is the end.
    fn overcome(&mut self, index: usize, fault: io::Error) -> io::Result<()> {
        match fault.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Ok(()),
            Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EINVAL) => Err(fault),
            _ => {
                self.counters.receive_errors += 1;
                self.refusals.note(index);
                Ok(())
            }
        }
    }

    fn idle(&self, timeout: Option<Duration>) -> Option<Duration> {
        if self.refusals.any() {
            return Some(Duration::ZERO);
        }
        timeout
    }
}

impl Driver for MmsgDriver {
    fn turn(
        &mut self,
        timeout: Option<Duration>,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> io::Result<usize> {
        if let Some(fault) = self.broken.take() {
            return Err(fault);
        }
        self.flush(out);
        let mut events = 0;
        // Who polls is about to look again, or ticks: what others have to say, it sees anyway.
        let polling = timeout == Some(Duration::ZERO);
        if self.busy || polling {
            events = self.receive(out, handler)?;
        }
        if events == 0 && !polling {
            if self.wait(self.idle(timeout))? {
                self.counters.wakes += 1;
                events += 1;
                handler(Event::Woken, out);
            }
            events += self.receive(out, handler)?;
        } else if !polling && self.eventfd.clear() {
            // Under load nobody waits, and a wake-up would go unseen.
            self.counters.wakes += 1;
            events += 1;
            handler(Event::Woken, out);
        }
        self.busy = events > 0;
        if self.refusals.any() {
            let (refusals, counters) = (&mut self.refusals, &mut self.counters);
            events += refusals.deliver(&self.sockets, counters, out, handler);
        }
        self.flush(out);
        self.counters.turns += 1;
        Ok(events)
    }

    fn tick(
        &mut self,
        span: Duration,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> io::Result<usize> {
        self.flush(out);
        if !span.is_zero() {
            // A signal may cut it short, which only costs a look.
            let _ = sys::poll(&mut [], Some(span));
            self.counters.ticks += 1;
            self.counters.system_calls += 1;
        }
        self.turn(Some(Duration::ZERO), out, handler)
    }

    fn flush(&mut self, out: &mut Outbox) {
        if out.is_empty() {
            return;
        }
        let (refusals, counters) = (&mut self.refusals, &mut self.counters);
        let sent = self
            .send
            .flush(&mut self.kernel, &self.sockets, out, refusals, counters);
        if let Err(fault) = sent {
            self.broken = Some(fault);
        }
    }

    fn backlog(&self) -> Backlog {
        socket::worst_backlog(&self.sockets)
    }

    fn turn_away(&mut self, drop_below: u32) -> TurnstileKind {
        self.turnstile.set(&self.sockets, drop_below)
    }

    fn waker(&self) -> Arc<dyn Wake> {
        let eventfd: Arc<EventFd> = Arc::clone(&self.eventfd);
        eventfd
    }

    fn counters(&self) -> DriverCounters {
        let lost = self.turnstile.lost(&self.sockets);
        DriverCounters {
            dropped_by_kernel: lost.by_kernel,
            turned_away: lost.turned_away,
            ..self.counters
        }
    }

    fn name(&self) -> &'static str {
        "mmsg"
    }
}

/// Room for one batch. Each slot can hold the largest datagram; the pages that no large datagram
/// has touched take no memory.
struct Receiver {
    bytes: Vec<u8>,
    addresses: [RawAddress; RECEIVES_MAX],
    /// By slot: address length, payload length, message flags.
    results: [(usize, usize, libc::c_int); RECEIVES_MAX],
}

impl Receiver {
    fn new() -> Receiver {
        Receiver {
            bytes: vec![0; RECEIVES_MAX * PAYLOAD_MAX],
            addresses: [RawAddress::EMPTY; RECEIVES_MAX],
            results: [(0, 0, 0); RECEIVES_MAX],
        }
    }

    /// Takes what is there, without waiting.
    fn fill(&mut self, socket: &Socket) -> io::Result<usize> {
        let slots = self.bytes.chunks_exact_mut(PAYLOAD_MAX);
        let mut parts = [EMPTY_PART; RECEIVES_MAX];
        for (part, slot) in parts.iter_mut().zip(slots) {
            part.iov_base = slot.as_mut_ptr().cast();
            part.iov_len = slot.len();
        }
        let mut messages = [empty_batch_entry(); RECEIVES_MAX];
        for (index, message) in messages.iter_mut().enumerate() {
            message.msg_hdr.msg_iov = &raw mut parts[index];
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_name = self.addresses[index].as_mut_ptr();
            message.msg_hdr.msg_namelen = ADDRESS_MAX as libc::socklen_t;
        }
        // SAFETY: each message points to its own slot and address, all alive and of these sizes.
        let count = sys::check(unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                RECEIVES_MAX as libc::c_uint,
                libc::MSG_DONTWAIT,
                core::ptr::null_mut(),
            )
        })? as usize;
        for (result, message) in self.results.iter_mut().zip(&messages[..count]) {
            let header = &message.msg_hdr;
            let name_len = header.msg_namelen as usize;
            *result = (name_len, message.msg_len as usize, header.msg_flags);
        }
        Ok(count)
    }

    /// What was received into `slot`; `None` when the source is of no family that we speak.
    fn event(&self, slot: usize, socket: &Socket) -> Option<Event<'_>> {
        let (address_len, len, flags) = self.results[slot];
        let remote = self.addresses[slot].received(address_len)?;
        let from = Flow::udp(socket.listener(), remote);
        if flags & libc::MSG_TRUNC != 0 {
            return Some(Event::Truncated { from, len });
        }
        let start = slot * PAYLOAD_MAX;
        let bytes = &self.bytes[start..start + len];
        Some(Event::Datagram { from, bytes })
    }
}

/// Puts passes to the kernel with sendmmsg.
struct SendKernel {
    addresses: Vec<RawAddress>,
    segments: Vec<Segments>,
}

impl SendKernel {
    fn new() -> SendKernel {
        SendKernel {
            addresses: vec![RawAddress::EMPTY; SENDS_MAX],
            segments: vec![Segments::new(0); SENDS_MAX],
        }
    }

    /// Sends a run of bundles of one socket, at most [`SENDS_MAX`] of [`PARTS_MAX`] datagrams.
    fn send_run(
        &mut self,
        pass: &Pass<'_>,
        run: &[Bundle],
        socket: usize,
        failures: &mut Vec<Failure>,
        counters: &mut DriverCounters,
    ) {
        let mut parts = [EMPTY_PART; PARTS_MAX];
        let mut messages = [empty_batch_entry(); SENDS_MAX];
        let mut used = 0;
        for (index, &bundle) in run.iter().enumerate() {
            let (positions, _) = pass.bundle(bundle);
            let header = &mut messages[index].msg_hdr;
            header.msg_iov = &raw mut parts[used];
            header.msg_iovlen = positions.len() as _;
            for (part, &position) in parts[used..].iter_mut().zip(positions) {
                let Some((datagram, _)) = pass.datagram(position) else {
                    continue;
                };
                self.addresses[index] = RawAddress::new(datagram.to.remote);
                part.iov_base = datagram.bytes.as_ptr().cast_mut().cast();
                part.iov_len = datagram.bytes.len();
            }
            header.msg_name = self.addresses[index].as_mut_ptr();
            header.msg_namelen = self.addresses[index].len();
            if positions.len() > 1 {
                self.segments[index] = Segments::new(parts[used].iov_len as u16);
                self.segments[index].attach(header);
            }
            used += positions.len();
        }
        let fd = pass.sockets[socket].as_raw_fd();
        let mut done = 0;
        while done < run.len() {
            counters.system_calls += 1;
            let rest = &mut messages[done..run.len()];
            // SAFETY: each message points to its own address and control message, and to parts,
            // which point to octets of the outbox, which is borrowed by `pass`; the kernel only
            // reads them.
            let result = sys::check(unsafe {
                libc::sendmmsg(
                    fd,
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            });
            let mut settle = |index: usize, result| {
                let (positions, _) = pass.bundle(run[index]);
                pass.settle(positions, result, failures, counters);
            };
            match result {
                Ok(count) => {
                    let taken = done..done + count as usize;
                    for index in taken.clone() {
                        settle(index, Ok(messages[index].msg_len as usize));
                    }
                    done = taken.end;
                }
                // The error is about the first of the rest; those behind it are still to be sent.
                Err(fault) => {
                    settle(done, Err(fault.raw_os_error().unwrap_or(libc::EIO)));
                    done += 1;
                }
            }
        }
    }
}

/// How many of the first bundles are of this socket and find room.
fn run_len(pass: &Pass<'_>, bundles: &[Bundle], socket: usize) -> usize {
    let mut parts = 0;
    let fits = |bundle: &&Bundle| {
        let (positions, of) = pass.bundle(**bundle);
        parts += positions.len();
        of == Some(socket) && parts <= PARTS_MAX
    };
    bundles.iter().take(SENDS_MAX).take_while(fits).count()
}

impl Transmit for SendKernel {
    fn transmit(
        &mut self,
        pass: &Pass<'_>,
        failures: &mut Vec<Failure>,
        counters: &mut DriverCounters,
    ) -> io::Result<()> {
        let mut rest = pass.bundles();
        while let Some(&first) = rest.first() {
            let (positions, socket) = pass.bundle(first);
            let Some(socket) = socket else {
                pass.no_listener(positions, failures);
                rest = &rest[1..];
                continue;
            };
            let (run, behind) = rest.split_at(run_len(pass, rest, socket));
            self.send_run(pass, run, socket, failures, counters);
            rest = behind;
        }
        Ok(())
    }
}

const EMPTY_PART: libc::iovec = libc::iovec {
    iov_base: core::ptr::null_mut(),
    iov_len: 0,
};

fn empty_batch_entry() -> libc::mmsghdr {
    libc::mmsghdr {
        msg_hdr: sys::empty_message(),
        msg_len: 0,
    }
}
