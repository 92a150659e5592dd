//! Listener sockets: one UDP socket per listener and shard, all of a listener in one reuseport
//! group.
//!
//! Every socket of every shard is bound before steering is attached, and outlives the restart of
//! its shard, so that the group never changes while traffic flows.

use core::net::SocketAddr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::{Domain, Protocol, Type};

use super::sys;
use crate::guard::overload::Backlog;
use crate::net::ListenerId;

/// Octets of a socket's queues: what is asked for, or what was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    pub receive: usize,
    pub send: usize,
}

impl Default for Buffers {
    /// 16 MiB hold about 12,000 datagrams of 500 octets with the kernel's own share: time for
    /// [`crate::guard::overload`] to answer a sudden tenfold load before anything is lost.
    fn default() -> Buffers {
        Buffers {
            receive: 16 << 20,
            send: 1 << 20,
        }
    }
}

/// One shard's socket of one listener.
#[derive(Debug)]
pub struct Socket {
    inner: socket2::Socket,
    listener: ListenerId,
    local: SocketAddr,
    granted: Buffers,
    drops: Mutex<Drops>,
}

/// Datagrams that the kernel dropped on a socket.
#[derive(Clone, Copy, Debug, Default)]
struct Drops {
    /// The kernel's count when it was last read: 32 bits, which a flood passes in an hour or two.
    kernels: u32,
    /// Since this process has the socket.
    total: u64,
    /// What of it a driver has told.
    told: u64,
}

impl Drops {
    /// None yet, on a socket that may have seen another process's.
    fn since_now(socket: &socket2::Socket) -> Mutex<Drops> {
        Mutex::new(Drops {
            kernels: sys::queue(socket).map_or(0, |queue| queue.drops),
            ..Drops::default()
        })
    }

    fn read(&mut self, kernels: u32) {
        self.total += u64::from(kernels.wrapping_sub(self.kernels));
        self.kernels = kernels;
    }
}

impl Socket {
    /// The listener it belongs to.
    pub fn listener(&self) -> ListenerId {
        self.listener
    }

    /// Where it is bound; never port 0.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The queue sizes that the kernel granted.
    pub fn granted(&self) -> Buffers {
        self.granted
    }

    /// Datagrams that found its receive queue full, or were turned away, since this process has it.
    pub fn drops(&self) -> u64 {
        let mut drops = self.lock_drops();
        if let Ok(queue) = sys::queue(&self.inner) {
            drops.read(queue.drops);
        }
        drops.total
    }

    /// What was last [read](Socket::drops) counts as told: a later driver begins there.
    pub(super) fn tell_drops(&self) {
        let mut drops = self.lock_drops();
        drops.told = drops.total;
    }

    /// What a driver has told.
    pub(super) fn drops_told(&self) -> u64 {
        self.lock_drops().told
    }

    /// A panic elsewhere leaves plain numbers behind.
    fn lock_drops(&self) -> MutexGuard<'_, Drops> {
        self.drops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the datagram taken last had waited, and how full its queue is.
    pub fn backlog(&self) -> Backlog {
        let fill_percent = sys::queue(&self.inner).map_or(0, |queue| {
            u64::from(queue.used) * 100 / u64::from(queue.room.max(1))
        });
        Backlog {
            // Nothing was taken yet, or the kernel does not stamp: the queue's fill says enough.
            waited: sys::waited(&self.inner).unwrap_or_default(),
            fill_percent: u8::try_from(fill_percent).unwrap_or(u8::MAX),
        }
    }
}

/// The longest wait and the fullest queue of a shard's sockets.
pub(super) fn worst_backlog(sockets: &[Arc<Socket>]) -> Backlog {
    let worse = |worst: Backlog, one: Backlog| Backlog {
        waited: worst.waited.max(one.waited),
        fill_percent: worst.fill_percent.max(one.fill_percent),
    };
    sockets
        .iter()
        .map(|socket| socket.backlog())
        .fold(Backlog::default(), worse)
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

/// Binds a socket per listener and shard. The outer list is by shard, the inner one by listener.
///
/// An address that another process has is an error, also when that process would share it.
pub fn bind_group(
    listeners: &[SocketAddr],
    shards: usize,
    buffers: Buffers,
) -> io::Result<Vec<Vec<Socket>>> {
    let mut by_shard: Vec<Vec<Socket>> = (0..shards).map(|_| Vec::new()).collect();
    for (index, &listener) in listeners.iter().enumerate() {
        let id = ListenerId(u16::try_from(index).map_err(io::Error::other)?);
        let mut address = listener;
        probe(address).map_err(|fault| explain(fault, address))?;
        for sockets in &mut by_shard {
            let socket = bind(id, address, buffers).map_err(|fault| explain(fault, address))?;
            // Port 0 is one free port for the whole group.
            address = socket.local;
            sockets.push(socket);
        }
    }
    Ok(by_shard)
}

/// Fails when anybody has the address. SO_REUSEPORT alone would let a second Callgate of the same
/// user join the group and take half of the datagrams, without an error on either side.
fn probe(address: SocketAddr) -> io::Result<()> {
    unbound(address)?.bind(&address.into())
}

fn unbound(address: SocketAddr) -> io::Result<socket2::Socket> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn explain(fault: io::Error, address: SocketAddr) -> io::Error {
    let text = match fault.kind() {
        io::ErrorKind::AddrInUse => "address in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this host has no such address".to_owned(),
        _ => fault.to_string(),
    };
    io::Error::new(fault.kind(), format!("udp {address}: {text}"))
}

/// Binds one socket of a reuseport group. [`bind_group`] is the door for whole nodes.
pub fn bind(listener: ListenerId, address: SocketAddr, buffers: Buffers) -> io::Result<Socket> {
    let inner = unbound(address)?;
    inner.set_reuse_port(true)?;
    inner.set_nonblocking(true)?;
    report_refusals(&inner, address)?;
    allow_fragments(&inner, address)?;
    let granted = ask_for(&inner, buffers)?;
    inner.bind(&address.into())?;
    let local = inner.local_addr()?.as_socket();
    let local = local.ok_or_else(|| io::Error::other("bound to no IP address"))?;
    Ok(Socket {
        drops: Drops::since_now(&inner),
        inner,
        listener,
        local,
        granted,
    })
}

/// Takes over a socket of a reuseport group that another process has bound and set up.
pub fn adopt(listener: ListenerId, fd: OwnedFd) -> io::Result<Socket> {
    let inner = socket2::Socket::from(fd);
    if inner.r#type()? != Type::DGRAM {
        return Err(io::Error::other("not a UDP socket"));
    }
    let local = inner.local_addr()?.as_socket();
    let local = local.ok_or_else(|| io::Error::other("bound to no IP address"))?;
    let granted = granted(&inner)?;
    Ok(Socket {
        drops: Drops::since_now(&inner),
        inner,
        listener,
        local,
        granted,
    })
}

/// ICMP errors come with the datagram they are about, also on a socket without a peer.
fn report_refusals(socket: &socket2::Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        return sys::set_option(socket, libc::SOL_IPV6, libc::IPV6_RECVERR, 1);
    }
    sys::set_option(socket, libc::SOL_IP, libc::IP_RECVERR, 1)
}

/// Large SIP messages are cut into fragments by the kernel; with path MTU discovery they would
/// fail with EMSGSIZE once a router has asked for less.
fn allow_fragments(socket: &socket2::Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        let dont = libc::IPV6_PMTUDISC_DONT;
        return sys::set_option(socket, libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, dont);
    }
    let dont = libc::IP_PMTUDISC_DONT;
    sys::set_option(socket, libc::SOL_IP, libc::IP_MTU_DISCOVER, dont)
}

/// Asks for queue sizes past the host's maximum, which needs CAP_NET_ADMIN, else up to it, and
/// tells what came of it: the kernel cuts without a word.
fn ask_for(socket: &socket2::Socket, wanted: Buffers) -> io::Result<Buffers> {
    let level = libc::SOL_SOCKET;
    let octets = |size: usize| libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX / 2);
    if sys::set_option(socket, level, libc::SO_RCVBUFFORCE, octets(wanted.receive)).is_err() {
        socket.set_recv_buffer_size(wanted.receive)?;
    }
    if sys::set_option(socket, level, libc::SO_SNDBUFFORCE, octets(wanted.send)).is_err() {
        socket.set_send_buffer_size(wanted.send)?;
    }
    granted(socket)
}

/// The kernel doubles what it grants, for its own bookkeeping (socket(7)).
fn granted(socket: &socket2::Socket) -> io::Result<Buffers> {
    Ok(Buffers {
        receive: socket.recv_buffer_size()? / 2,
        send: socket.send_buffer_size()? / 2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn drops_are_counted_past_the_end_of_the_kernels_number() {
        let mut drops = Drops {
            kernels: u32::MAX - 1,
            ..Drops::default()
        };
        drops.read(u32::MAX);
        drops.read(u32::MAX);
        drops.read(5);
        assert_eq!(drops.total, 7);
    }

    #[test]
    fn all_shards_of_a_listener_share_the_port() {
        let any = [loopback(0), "[::1]:0".parse().expect("an address")];
        let by_shard = bind_group(&any, 3, Buffers::default()).expect("bound");
        assert_eq!(by_shard.len(), 3);
        for sockets in &by_shard {
            assert_eq!(sockets[0].local(), by_shard[0][0].local());
            assert_eq!(sockets[1].local(), by_shard[0][1].local());
            assert_eq!(sockets[1].listener(), ListenerId(1));
        }
    }

    #[test]
    fn an_address_in_use_is_refused_though_its_owner_would_share() {
        let first = bind_group(&[loopback(0)], 1, Buffers::default()).expect("bound");
        let taken = first[0][0].local();
        let fault = bind_group(&[taken], 1, Buffers::default()).expect_err("taken");
        assert_eq!(fault.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fault.to_string(), format!("udp {taken}: address in use"));
    }

    #[test]
    fn a_socket_that_is_adopted_is_the_same() {
        let socket = bind(ListenerId(0), loopback(0), Buffers::default()).expect("bound");
        let fd = socket.inner.try_clone().expect("a descriptor").into();
        let adopted = adopt(ListenerId(3), fd).expect("adopted");
        assert_eq!(
            (adopted.local(), adopted.granted(), adopted.listener()),
            (socket.local(), socket.granted(), ListenerId(3))
        );
        let (stream, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        assert!(adopt(ListenerId(0), stream.into()).is_err());
    }

    #[test]
    fn granted_buffers_are_read_back() {
        let small = Buffers {
            receive: 64 << 10,
            send: 32 << 10,
        };
        let socket = bind(ListenerId(0), loopback(0), small).expect("bound");
        assert_eq!(socket.granted(), small);
    }
}
