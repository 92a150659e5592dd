//! The ring itself: submitting, waiting, and the sends, which are complete before `transmit`
//! returns.

use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use super::super::address::RawAddress;
use super::super::send::{Failure, Pass, Transmit};
use super::super::{DriverCounters, Options, sys};
use super::messages::Messages;

/// How long the kernel may take over sends that must not wait, before the ring counts as broken.
const SEND_TIME_MAX: Duration = Duration::from_secs(1);

/// Since this Linux a datagram does not wake a thread that waits for more completions than it makes.
const GATHERING_SINCE: (u32, u32) = (6, 4);

/// What an operation is for; travels through the kernel as the operation's user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// The receive of the socket with this index.
    Receive(u32),
    /// The eventfd.
    Wake,
    /// The send of the pass's bundle with this number.
    Send(u32),
}

impl From<Token> for u64 {
    fn from(token: Token) -> u64 {
        let (kind, number) = match token {
            Token::Receive(socket) => (0, socket),
            Token::Wake => (1, 0),
            Token::Send(bundle) => (2, bundle),
        };
        (kind << 32) | u64::from(number)
    }
}

impl Token {
    fn from_user_data(data: u64) -> Token {
        let number = data as u32;
        match data >> 32 {
            0 => Token::Receive(number),
            1 => Token::Wake,
            _ => Token::Send(number),
        }
    }
}

/// One completion that is not a send's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) token: Token,
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// An io_uring that one thread uses, with the completions it has brought.
pub(super) struct Ring {
    io: IoUring,
    /// Completions to be handled, oldest first.
    pending: VecDeque<Completion>,
    /// Results of sends by bundle; empty outside of `transmit`.
    sent: Vec<(u32, i32)>,
    /// Addresses of the sends under way.
    addresses: Vec<RawAddress>,
    /// Those of the groups under way.
    messages: Messages,
    sends_max: usize,
    /// How long the next system call that sends is to stay in the kernel.
    linger: Option<Duration>,
    /// Whether the kernel lets completions gather while a thread waits for many of them.
    gathers: bool,
    /// It has failed: never entered again, as it may hold sends whose memory is gone.
    dead: bool,
}

impl Ring {
    /// Makes a ring for this thread, with `files` known to it by their position.
    pub(super) fn new(files: &[RawFd], options: &Options) -> io::Result<Ring> {
        let sends_max = usize::from(options.sends_max.max(1));
        let receives = usize::from(options.receive_buffers);
        // Room for every send, every buffer, and the end of every multishot operation: the
        // completion queue cannot run over.
        let completions = sends_max + receives + 4 * files.len() + 16;
        let io = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(completions.next_power_of_two() as u32)
            .build((sends_max + files.len()).next_power_of_two() as u32)?;
        io.submitter().register_files(files)?;
        Ok(Ring {
            io,
            pending: VecDeque::with_capacity(completions),
            sent: Vec::with_capacity(sends_max),
            addresses: vec![RawAddress::EMPTY; sends_max],
            messages: Messages::new(sends_max),
            sends_max,
            linger: None,
            gathers: sys::kernel_version() >= GATHERING_SINCE,
            dead: false,
        })
    }

    /// Registers a table of receive buffers.
    ///
    /// # Safety
    /// `table` must be page-aligned, of `entries` entries, and outlive this ring.
    pub(super) unsafe fn register_buffers(
        &self,
        table: *mut u8,
        entries: u16,
        group: u16,
    ) -> io::Result<()> {
        let submitter = self.io.submitter();
        // SAFETY: the caller's promise.
        unsafe { submitter.register_buf_ring_with_flags(table as u64, entries, group, 0) }
    }

    /// Queues an operation, which the next system call starts.
    ///
    /// # Safety
    /// What `entry` points to must be alive until the operation has ended.
    pub(super) unsafe fn push(
        &mut self,
        entry: &squeue::Entry,
        counters: &mut DriverCounters,
    ) -> io::Result<()> {
        // SAFETY: the caller's promise.
        if unsafe { self.io.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        self.enter(0, None, counters)?;
        // SAFETY: the caller's promise.
        let pushed = unsafe { self.io.submission().push(entry) };
        pushed.map_err(|_| io::Error::other("the submission queue stays full"))
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// How many completions wait to be handled.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The oldest completion, to be handled next.
    pub(super) fn peek(&self) -> Option<&Completion> {
        self.pending.front()
    }

    /// The oldest completion.
    pub(super) fn next(&mut self) -> Option<Completion> {
        self.pending.pop_front()
    }

    /// Starts what is queued and waits for a completion, at most for `timeout`.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        counters: &mut DriverCounters,
    ) -> io::Result<()> {
        let want = u32::from(timeout != Some(Duration::ZERO));
        self.enter(want, timeout, counters)
    }

    /// Has the next system call stay in the kernel for so long, whatever completes meanwhile: that of
    /// a `transmit`, or else [`Ring::linger_out`].
    pub(super) fn linger(&mut self, span: Duration) {
        self.linger = Some(span);
    }

    /// Stays in the kernel as long as was asked for, unless a `transmit` has done so.
    pub(super) fn linger_out(&mut self, counters: &mut DriverCounters) -> io::Result<()> {
        match self.linger.take() {
            Some(span) => self.stay(span, counters),
            None => Ok(()),
        }
    }

    /// Starts what is queued and takes what has completed when `span` is over.
    fn stay(&mut self, span: Duration, counters: &mut DriverCounters) -> io::Result<()> {
        if span.is_zero() {
            return self.enter(0, None, counters);
        }
        if !self.gathers {
            self.enter(0, None, counters)?;
            // A signal may cut it short, which only costs a look.
            let _ = sys::poll(&mut [], Some(span));
            counters.system_calls += 1;
            return self.enter(0, None, counters);
        }
        // As many as never complete at once: the kernel runs deferred work when the time is over, and
        // no datagram ends the wait.
        let all = self.io.params().cq_entries();
        self.enter(all, Some(span), counters)
    }

    /// Ends every operation; each then completes.
    pub(super) fn cancel_all(&mut self, counters: &mut DriverCounters) -> io::Result<()> {
        // What is queued must have begun: it could not be found.
        self.enter(0, None, counters)?;
        let submitter = self.io.submitter();
        match submitter.register_sync_cancel(None, CancelBuilder::any()) {
            Ok(()) => {}
            // There was nothing under way.
            Err(fault) if fault.raw_os_error() == Some(libc::ENOENT) => {}
            Err(fault) => return Err(fault),
        }
        self.enter(0, None, counters)
    }

    fn enter(
        &mut self,
        want: u32,
        timeout: Option<Duration>,
        counters: &mut DriverCounters,
    ) -> io::Result<()> {
        if self.dead {
            return Err(io::Error::other("the ring has failed before"));
        }
        counters.system_calls += 1;
        let result = self.system_call(want, timeout);
        self.reap(counters);
        match result.map_err(|fault| (fault.raw_os_error(), fault)) {
            // EBUSY and EAGAIN: completions had to be taken first, as `reap` just did.
            Ok(_) | Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => {
                Ok(())
            }
            Err((_, fault)) => {
                self.dead = true;
                Err(fault)
            }
        }
    }

    /// Always asks for events: deferred task work runs only then, also when nothing is waited for.
    fn system_call(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<usize> {
        let queued = self.io.submission().len() as u32;
        let submitter = self.io.submitter();
        let flags = EnterFlags::GETEVENTS;
        let Some(span) = timeout.filter(|_| want > 0) else {
            // SAFETY: no argument is passed; the queued operations are good by `push`.
            return unsafe { submitter.enter::<libc::sigset_t>(queued, want, flags.bits(), None) };
        };
        let span = Timespec::from(span);
        let args = SubmitArgs::new().timespec(&span);
        let flags = (flags | EnterFlags::EXT_ARG).bits();
        // SAFETY: with EXT_ARG the argument is a SubmitArgs, which lives until the call returns.
        unsafe { submitter.enter(queued, want, flags, Some(&args)) }
    }

    /// Takes every completion there is.
    fn reap(&mut self, counters: &mut DriverCounters) {
        counters.completions_overflowed += u64::from(self.io.submission().cq_overflow());
        for entry in self.io.completion() {
            let completion = read(&entry);
            match completion.token {
                Token::Send(bundle) => self.sent.push((bundle, completion.result)),
                Token::Receive(_) | Token::Wake => self.pending.push_back(completion),
            }
        }
    }

    /// Queues the bundles of a pass from `first` on while there is memory for them: how many they were
    /// and how many sends are under way comes back.
    fn queue_sends(
        &mut self,
        pass: &Pass<'_>,
        first: usize,
        failures: &mut Vec<Failure>,
        counters: &mut DriverCounters,
    ) -> io::Result<(usize, usize)> {
        let (mut done, mut queued) = (0, 0);
        self.messages.clear();
        for (number, &bundle) in pass.bundles().iter().enumerate().skip(first) {
            let (positions, socket) = pass.bundle(bundle);
            if queued == self.sends_max || !self.messages.has_room(positions.len()) {
                break;
            }
            done += 1;
            let Some(socket) = socket else {
                pass.no_listener(positions, failures);
                continue;
            };
            let entry = self
                .send_entry(pass, positions, socket, queued)
                .user_data(Token::Send(number as u32).into());
            // SAFETY: the octets are the outbox's, which `pass` borrows; the address and the message
            // stand in this ring; `transmit` returns only when the kernel has completed each send,
            // or the ring is dead and enters the kernel no more.
            unsafe { self.push(&entry, counters)? };
            queued += 1;
        }
        Ok((done, queued))
    }

    /// The operation that sends a bundle, with its address at `slot`.
    fn send_entry(
        &mut self,
        pass: &Pass<'_>,
        positions: &[u32],
        socket: usize,
        slot: usize,
    ) -> squeue::Entry {
        let socket = Fixed(socket as u32);
        let datagram = positions.first().and_then(|first| pass.datagram(*first));
        let (datagram, _) = datagram.expect("a bundle with a socket has a datagram");
        let address: &mut RawAddress = &mut self.addresses[slot];
        *address = RawAddress::new(datagram.to.remote);
        if positions.len() > 1 {
            let message = self.messages.compose(pass, positions, address);
            return opcode::SendMsg::new(socket, message)
                .flags(libc::MSG_DONTWAIT as u32)
                .build();
        }
        let len = datagram.bytes.len() as u32;
        opcode::Send::new(socket, datagram.bytes.as_ptr(), len)
            .flags(libc::MSG_DONTWAIT)
            .dest_addr(address.as_ptr())
            .dest_addr_len(address.len())
            .build()
    }

    /// Enters until all sends under way are complete. They are within the first system call, since
    /// MSG_DONTWAIT forbids the kernel to keep them for later.
    fn finish_sends(
        &mut self,
        count: usize,
        linger: Option<Duration>,
        counters: &mut DriverCounters,
    ) -> io::Result<()> {
        match linger {
            Some(span) => self.stay(span, counters)?,
            None => self.enter(0, None, counters)?,
        }
        while self.sent.len() < count {
            let before = (self.sent.len(), self.io.submission().len());
            self.enter(1, Some(SEND_TIME_MAX), counters)?;
            if before == (self.sent.len(), self.io.submission().len()) {
                self.dead = true;
                return Err(io::Error::other("the ring completes no sends"));
            }
        }
        Ok(())
    }

    fn settle_sends(
        &mut self,
        pass: &Pass<'_>,
        failures: &mut Vec<Failure>,
        counters: &mut DriverCounters,
    ) {
        for (number, result) in self.sent.drain(..) {
            let Some(&bundle) = pass.bundles().get(number as usize) else {
                continue;
            };
            let (positions, _) = pass.bundle(bundle);
            let result = usize::try_from(result).map_err(|_| -result);
            pass.settle(positions, result, failures, counters);
        }
    }
}

impl Transmit for Ring {
    fn transmit(
        &mut self,
        pass: &Pass<'_>,
        failures: &mut Vec<Failure>,
        counters: &mut DriverCounters,
    ) -> io::Result<()> {
        let all = pass.bundles().len();
        let mut done = 0;
        while done < all {
            let (more, queued) = self.queue_sends(pass, done, failures, counters)?;
            done += more;
            // The last one stays, and not before everything has left.
            let linger = if done == all {
                self.linger.take()
            } else {
                None
            };
            self.finish_sends(queued, linger, counters)?;
            self.settle_sends(pass, failures, counters);
        }
        Ok(())
    }
}

impl Drop for Ring {
    /// Ends every operation, so that the kernel has no more use for our memory and the sockets
    /// give their ports back at once, not when the kernel gets round to it.
    fn drop(&mut self) {
        // A failure of these means that the kernel has ended them already.
        let submitter = self.io.submitter();
        let _ = submitter.register_sync_cancel(None, CancelBuilder::any());
        if !self.dead {
            // Cancelled operations still end by deferred work, which runs only in here.
            let _ = self.system_call(0, None);
        }
        let _ = self.io.submitter().unregister_files();
    }
}

fn read(entry: &cqueue::Entry) -> Completion {
    Completion {
        token: Token::from_user_data(entry.user_data()),
        result: entry.result(),
        flags: entry.flags(),
    }
}
