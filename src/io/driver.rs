//! What every driver does: wait, hand over events, send the outbox.

use core::time::Duration;
use std::io;
use std::sync::Arc;

use super::{DriverCounters, TurnstileProgram};
use crate::base::ring::Wake;
use crate::guard::overload::{Backlog, TurnstileKind};
use crate::net::{Flow, Outbox};

/// A turn that brought fewer events than this has emptied the sockets: both drivers take at least
/// so many of one socket in one go (the kernel's limit for a multishot receive).
pub const EVENTS_MORE: usize = 32;

/// Something that happened to a shard's sockets. The bytes are lent until the handler returns.
#[derive(Debug)]
pub enum Event<'a> {
    /// A whole datagram.
    Datagram { from: Flow, bytes: &'a [u8] },
    /// A datagram of `len` octets that no buffer could hold; it is counted and gone.
    Truncated { from: Flow, len: usize },
    /// A datagram to `to` came back: by ICMP, or because there is no route. `quoted` is the
    /// beginning of what was sent. With several shards the kernel may tell any of them.
    Unreachable { to: Flow, quoted: &'a [u8] },
    /// Another thread called [`Wake::wake`].
    Woken,
}

/// What a shard gives a driver to call for each event; it may fill the outbox.
pub type Handler<'a> = dyn FnMut(Event<'_>, &mut Outbox) + 'a;

/// Sizes of a driver, and what it is given.
#[derive(Clone, Debug)]
pub struct Options {
    /// Receive buffers of a ring: a power of two, at most 32,768. Each can hold the largest
    /// datagram there is; what does not find a free one waits in the socket.
    pub receive_buffers: u16,
    /// How many datagrams one system call sends.
    pub sends_max: u16,
    /// What [`Driver::turn_away`] uses once it is loaded; without it a dearer one does the same.
    pub turnstile: Option<Arc<TurnstileProgram>>,
}

impl Default for Options {
    /// 128 buffers are four times what the kernel delivers in one run; more are slower, since they
    /// are used in turn (measured in `uring/buffers.rs`).
    fn default() -> Options {
        Options {
            receive_buffers: 128,
            sends_max: 256,
            turnstile: None,
        }
    }
}

/// Moves datagrams between the sockets of one shard and its machine.
///
/// It stays on the thread that opened it: a ring obeys only its maker.
pub trait Driver {
    /// Waits at most `timeout` (`None`: until something happens; zero: not at all, and then a
    /// wake-up may stay for the next turn that waits), gives each
    /// event to `handler`, sends `out` when it is nearly full and once more at the end. The count
    /// of events comes back. An error means that this driver is of no more use.
    fn turn(
        &mut self,
        timeout: Option<Duration>,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> io::Result<usize>;

    /// Sends `out`, lets datagrams gather for `span` (no wake-up is paid for until it is over, whatever
    /// arrives and whoever wakes; zero: not at all), and gives what has come to `handler`. What that
    /// writes may stay in `out`: it is sent first by the next call of any kind. The count of
    /// events comes back.
    fn tick(
        &mut self,
        span: Duration,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> io::Result<usize>;

    /// Takes nothing more from the sockets: what arrives from here on waits in them for whoever
    /// reads them next. What was taken already goes to `handler`, and what that leads to is sent. The
    /// next [`Driver::turn`] takes again.
    fn stop(&mut self, out: &mut Outbox, handler: &mut Handler<'_>) -> io::Result<()> {
        let _ = handler;
        self.flush(out);
        Ok(())
    }

    /// Sends everything in `out` and clears it; what cannot be sent is counted by reason.
    fn flush(&mut self, out: &mut Outbox);

    /// How the fullest of its queues stands after a turn. It costs two system calls per socket.
    fn backlog(&self) -> Backlog {
        Backlog::default()
    }

    /// Has the kernel drop so many of 2^32 INVITEs that begin a call before they are queued, 0 =
    /// none. Tells what does it; with nothing there nothing is dropped.
    fn turn_away(&mut self, _drop_below: u32) -> TurnstileKind {
        TurnstileKind::Missing
    }

    /// The means to end a wait from another thread.
    fn waker(&self) -> Arc<dyn Wake>;

    /// What happened since the driver was opened.
    fn counters(&self) -> DriverCounters;

    /// The name in the configuration: `uring`, `mmsg`.
    fn name(&self) -> &'static str;
}
