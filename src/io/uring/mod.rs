//! The driver over io_uring: multishot receive into a ring of provided buffers, batched sends, and
//! one system call per batch for both.
//!
//! `kernel` owns the ring and the sends, `messages` what groups of these need, `buffers` the receive
//! buffers, `probe` tells whether a ring is to be had. It needs Linux 6.1: deferred task work and
//! sends with an address came with it, and an older host has the recvmmsg driver, which is as fast
//! within the noise.

mod buffers;
mod kernel;
mod messages;
mod probe;

use core::time::Duration;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::types::{Fixed, RecvMsgOut};
use io_uring::{cqueue, opcode};

use self::buffers::BufferRing;
use self::kernel::{Completion, Ring, Token};
use super::address::{self, ADDRESS_MAX};
use super::driver::Handler;
use super::eventfd::EventFd;
use super::refusals::Refusals;
use super::send::SendPath;
use super::turnstile::Turnstile;
use super::{Driver, DriverCounters, Event, Options, Socket, socket, sys};
use crate::base::ring::Wake;
use crate::guard::overload::{Backlog, TurnstileKind};
use crate::net::{Flow, Outbox};

pub use probe::available;

/// The group number of the receive buffers; a ring has one.
const BUFFER_GROUP: u16 = 0;

/// How often and how long ended receives are waited for: one round is the rule.
const STOP_ROUNDS_MAX: usize = 100;
const STOP_WAIT: Duration = Duration::from_millis(10);

/// Drives the sockets of one shard with an io_uring of its own.
pub struct UringDriver {
    /// Stands before what it points into: fields are dropped in this order, and dropping the ring
    /// ends every operation first.
    ring: Ring,
    buffers: BufferRing,
    /// The form of each receive; the kernel is given its address.
    message: Box<libc::msghdr>,
    sockets: Vec<Arc<Socket>>,
    eventfd: Arc<EventFd>,
    /// By socket, and last the eventfd: whether its multishot operation runs.
    armed: Vec<bool>,
    started: bool,
    send: SendPath,
    refusals: Refusals,
    counters: DriverCounters,
    turnstile: Turnstile,
    broken: Option<io::Error>,
}

impl UringDriver {
    /// Opens a driver over one shard's sockets, which stand in the order of their listeners.
    pub fn open(sockets: &[Arc<Socket>], options: Options) -> io::Result<UringDriver> {
        let eventfd = Arc::new(EventFd::new()?);
        let turnstile = Turnstile::new(sockets, options.turnstile.as_ref());
        let wanted = sockets.iter().map(|socket| socket.as_raw_fd());
        let files: Vec<_> = wanted.chain([eventfd.as_raw_fd()]).collect();
        let ring = Ring::new(&files, &options)?;
        let buffers = BufferRing::new(&ring, BUFFER_GROUP, options.receive_buffers)?;
        let mut message = Box::new(sys::empty_message());
        message.msg_namelen = ADDRESS_MAX as libc::socklen_t;
        Ok(UringDriver {
            ring,
            buffers,
            message,
            sockets: sockets.to_vec(),
            eventfd,
            armed: vec![false; files.len()],
            started: false,
            send: SendPath::new(sockets),
            refusals: Refusals::new(sockets.len()),
            counters: DriverCounters::default(),
            turnstile,
            broken: None,
        })
    }

    /// Starts what has ended: at first everything, later what the kernel ended on an error, for
    /// want of a buffer, or after an empty datagram.
    fn arm(&mut self) -> io::Result<()> {
        for index in 0..self.armed.len() {
            if self.armed[index] {
                continue;
            }
            // `open` was given fewer sockets than a u32 counts.
            let file = index as u32;
            let entry = if index < self.sockets.len() {
                opcode::RecvMsgMulti::new(Fixed(file), &raw const *self.message, BUFFER_GROUP)
                    .build()
                    .user_data(Token::Receive(file).into())
            } else {
                opcode::PollAdd::new(Fixed(file), libc::POLLIN as u32)
                    .multi(true)
                    .build()
                    .user_data(Token::Wake.into())
            };
            // SAFETY: `message` and the buffers live as long as this driver, and dropping the
            // ring, which goes first, ends the operation.
            unsafe { self.ring.push(&entry, &mut self.counters)? };
            self.armed[index] = true;
            self.counters.rearmed += u64::from(self.started);
        }
        self.started = true;
        Ok(())
    }

    /// Waits for completions; where some are there already, only looks for more: those of a flush
    /// may have waited for a tick, in which others came.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = if self.refusals.any() || self.ring.has_pending() {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        self.ring.wait(timeout, &mut self.counters)
    }

    /// Handles one completion; the count of events comes back.
    fn complete(
        &mut self,
        completion: Completion,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> io::Result<usize> {
        let ended = !cqueue::more(completion.flags);
        match completion.token {
            Token::Receive(socket) => {
                let index = socket as usize;
                self.armed[index] &= !ended;
                self.received(index, completion, out, handler)
            }
            Token::Wake => {
                if let Some(armed) = self.armed.last_mut() {
                    *armed &= !ended;
                }
                if completion.result < 0 && completion.result != -libc::ECANCELED {
                    return Err(io::Error::from_raw_os_error(-completion.result));
                }
                Ok(self.woken(out, handler))
            }
            // The ring keeps the completions of sends to itself.
            Token::Send(_) => Ok(0),
        }
    }

    /// Handles what the last system call has brought; the count of events comes back.
    fn hand_out(&mut self, out: &mut Outbox, handler: &mut Handler<'_>) -> io::Result<usize> {
        let mut events = 0;
        // Flushing brings further completions: they are for the next turn, after the timers.
        for _ in 0..self.ring.pending() {
            let Some(completion) = self.ring.next() else {
                break;
            };
            self.expect_next();
            events += self.complete(completion, out, handler)?;
            if out.is_nearly_full() {
                self.flush(out);
            }
        }
        if self.refusals.any() {
            let (refusals, counters) = (&mut self.refusals, &mut self.counters);
            events += refusals.deliver(&self.sockets, counters, out, handler);
        }
        Ok(events)
    }

    /// Has the datagram fetched that is handled next, while the present one is.
    fn expect_next(&self) {
        if let Some(next) = self.ring.peek()
            && let Some(buffer) = cqueue::buffer_select(next.flags)
            && let Ok(len) = usize::try_from(next.result)
        {
            self.buffers.expect(buffer, len);
        }
    }

    fn woken(&mut self, out: &mut Outbox, handler: &mut Handler<'_>) -> usize {
        if !self.eventfd.clear() {
            return 0;
        }
        self.counters.wakes += 1;
        handler(Event::Woken, out);
        1
    }

    fn received(
        &mut self,
        index: usize,
        completion: Completion,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> io::Result<usize> {
        let buffer = cqueue::buffer_select(completion.flags);
        let mut events = 0;
        match usize::try_from(completion.result) {
            Ok(len) => {
                if let Some(buffer) = buffer {
                    events = self.hand_over(index, buffer, len, out, handler);
                }
            }
            Err(_) => self.overcome(index, -completion.result)?,
        }
        if let Some(buffer) = buffer {
            self.buffers.give_back(buffer);
        }
        Ok(events)
    }

    fn hand_over(
        &mut self,
        index: usize,
        buffer: u16,
        len: usize,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> usize {
        let bytes = self.buffers.filled(buffer, len);
        let parsed = RecvMsgOut::parse(bytes, &self.message).ok();
        let remote = parsed
            .as_ref()
            .and_then(|parsed| address::decode(parsed.name_data()));
        let (Some(parsed), Some(remote)) = (parsed, remote) else {
            self.counters.foreign += 1;
            return 0;
        };
        let from = Flow::udp(self.sockets[index].listener(), remote);
        if parsed.is_payload_truncated() {
            self.counters.truncated += 1;
            let len = parsed.incoming_payload_len() as usize;
            handler(Event::Truncated { from, len }, out);
            return 1;
        }
        self.counters.received += 1;
        let bytes = parsed.payload_data();
        handler(Event::Datagram { from, bytes }, out);
        1
    }

    /// A receive has ended with an error: most are somebody's ICMP message, and `arm` starts it
    /// again. A socket that is none is the end of the driver.
    fn overcome(&mut self, index: usize, errno: i32) -> io::Result<()> {
        match errno {
            // The datagrams wait in the socket until buffers have come back.
            libc::ENOBUFS => self.counters.buffers_empty += 1,
            libc::EAGAIN | libc::EINTR | libc::ECANCELED => {}
            libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EINVAL | libc::EOPNOTSUPP => {
                return Err(io::Error::from_raw_os_error(errno));
            }
            _ => {
                self.counters.receive_errors += 1;
                self.refusals.note(index);
            }
        }
        Ok(())
    }
}

impl Driver for UringDriver {
    fn turn(
        &mut self,
        timeout: Option<Duration>,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> io::Result<usize> {
        self.flush(out);
        if let Some(fault) = self.broken.take() {
            return Err(fault);
        }
        self.arm()?;
        self.wait(timeout)?;
        let events = self.hand_out(out, handler)?;
        // What has ended is started by the system call that sends.
        self.arm()?;
        self.flush(out);
        self.counters.turns += 1;
        Ok(events)
    }

    fn stop(&mut self, out: &mut Outbox, handler: &mut Handler<'_>) -> io::Result<()> {
        self.flush(out);
        if let Some(fault) = self.broken.take() {
            return Err(fault);
        }
        self.ring.cancel_all(&mut self.counters)?;
        for _ in 0..STOP_ROUNDS_MAX {
            while let Some(completion) = self.ring.next() {
                self.complete(completion, out, handler)?;
                if out.is_nearly_full() {
                    self.flush(out);
                }
            }
            if self.armed.iter().all(|is_armed| !is_armed) {
                self.flush(out);
                return Ok(());
            }
            // What was cancelled still ends by deferred work, which runs only in there.
            self.ring.wait(Some(STOP_WAIT), &mut self.counters)?;
        }
        Err(io::Error::other("the ring does not end its receives"))
    }

    fn tick(
        &mut self,
        span: Duration,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> io::Result<usize> {
        self.arm()?;
        self.ring.linger(span);
        self.flush(out);
        if let Some(fault) = self.broken.take() {
            return Err(fault);
        }
        self.ring.linger_out(&mut self.counters)?;
        self.counters.ticks += u64::from(!span.is_zero());
        let events = self.hand_out(out, handler)?;
        self.counters.turns += 1;
        Ok(events)
    }

    fn flush(&mut self, out: &mut Outbox) {
        if out.is_empty() {
            return;
        }
        let (refusals, counters) = (&mut self.refusals, &mut self.counters);
        let sent = self
            .send
            .flush(&mut self.ring, &self.sockets, out, refusals, counters);
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
        "uring"
    }
}
