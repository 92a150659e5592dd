//! Where datagrams meet the kernel: sockets, the drivers that move batches, kernel steering.
//!
//! A driver belongs to one shard and runs on its thread. It knows flows and the outbox, not SIP
//! and not the shard. `uring` is the usual driver; `mmsg` does the same with recvmmsg and sendmmsg
//! where a ring is not to be had; `memory` is for tests. Unsafe code is allowed in the modules
//! marked so below and nowhere else in this layer.

mod address;
#[expect(unsafe_code, reason = "bpf(2) takes a union of pointers")]
mod bpf;
mod counters;
mod driver;
mod eventfd;
mod groups;
mod memory;
#[expect(unsafe_code, reason = "recvmmsg and sendmmsg take arrays of pointers")]
mod mmsg;
mod refusals;
mod send;
pub mod socket;
pub mod steer;
#[expect(
    unsafe_code,
    reason = "system calls that have no safe wrapper elsewhere"
)]
mod sys;
mod turnstile;
#[expect(unsafe_code, reason = "the ring shares memory with the kernel")]
mod uring;

use std::io;
use std::sync::Arc;

pub use bpf::Fault as BpfFault;
pub use counters::DriverCounters;
pub use driver::{Driver, EVENTS_MORE, Event, Handler, Options};
pub use memory::{MemoryDriver, MemoryEnd};
pub use mmsg::MmsgDriver;
pub use socket::{Buffers, Socket, bind_group};
pub use turnstile::TurnstileProgram;
pub use uring::{UringDriver, available};

/// Which driver the configuration asks for (`io = "auto" | "uring" | "mmsg"`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoKind {
    /// The ring where it works, else recvmmsg and sendmmsg.
    #[default]
    Auto,
    Uring,
    Mmsg,
}

/// Opens a driver over one shard's sockets (which stand in the order of their listeners) on the
/// thread that will use it, and says in a few words why it is this one.
pub fn open(
    kind: IoKind,
    sockets: &[Arc<Socket>],
    options: Options,
) -> io::Result<(Box<dyn Driver>, String)> {
    let (ring, why) = match kind {
        IoKind::Mmsg => (false, "asked for".to_owned()),
        IoKind::Uring => {
            available().map_err(io::Error::other)?;
            (true, "asked for".to_owned())
        }
        IoKind::Auto => match available() {
            Ok(()) => (true, "io_uring works here".to_owned()),
            Err(why) => (false, format!("no io_uring: {why}")),
        },
    };
    let driver: Box<dyn Driver> = if ring {
        Box::new(UringDriver::open(sockets, options)?)
    } else {
        Box::new(MmsgDriver::open(sockets, options)?)
    };
    Ok((driver, why))
}
