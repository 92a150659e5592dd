//! A driver for high rates: equal datagrams to one peer leave as one (UDP_SEGMENT) and arrive as
//! one (UDP_GRO), so that the kernel walks its stack once for up to 64 of them.
//!
//! It is the generator's, which sleeps between two looks and so has many datagrams alike each
//! time; at low rates the library's drivers are used. Datagrams of one flush that are not alike
//! may overtake each other: of one call these are only 200 behind 180 and BYE behind ACK, whose
//! groups leave in that order.
#![expect(unsafe_code, reason = "recvmsg and poll take pointers")]

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use callgate::base::ring::Wake;
use callgate::io::{Driver, DriverCounters, Event, Handler, Socket};
use callgate::net::{Flow, Outbox};
use socket2::{MsgHdr, SockAddr, SockRef};

/// linux/udp.h; libc has them for some C libraries only.
const UDP_SEGMENT: libc::c_int = 103;
const UDP_GRO: libc::c_int = 104;
/// The kernel's bound (UDP_MAX_SEGMENTS of older kernels).
const GROUP_MAX: usize = 64;
/// Payload of one group: what an IP packet may carry, with room for headers.
const GROUP_BYTES_MAX: usize = 64_000;
/// Groups that may still grow; the oldest is closed for a new one.
const OPEN_MAX: usize = 8;
/// Looks at one socket per turn; the timers and new calls want their turn, too.
const RECEIVES_MAX: usize = 64;
const BUFFER: usize = 65_536;
/// Tries for a full socket or one that tells somebody else's ICMP error first.
const TRIES_MAX: usize = 4;

/// Datagrams of one length to one peer.
#[derive(Debug)]
struct Group {
    to: Flow,
    len: usize,
    positions: Vec<u32>,
}

/// The driver.
pub struct GroupedDriver {
    sockets: Vec<Arc<Socket>>,
    buffer: Box<[u8]>,
    groups: Vec<Group>,
    used: usize,
    counters: DriverCounters,
}

impl GroupedDriver {
    /// Opens it over one thread's sockets; an error says that the kernel has no such groups.
    pub fn open(sockets: &[Arc<Socket>]) -> io::Result<GroupedDriver> {
        for socket in sockets {
            receive_groups(socket)?;
        }
        Ok(GroupedDriver {
            sockets: sockets.to_vec(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            groups: Vec::new(),
            used: 0,
            counters: DriverCounters::default(),
        })
    }

    /// Takes what one socket has, at most [`RECEIVES_MAX`] groups of it.
    fn receive(
        &mut self,
        index: usize,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> io::Result<usize> {
        let socket = Arc::clone(&self.sockets[index]);
        let mut events = 0;
        for _ in 0..RECEIVES_MAX {
            self.counters.system_calls += 1;
            let (len, each, remote) = match receive_group(&socket, &mut self.buffer) {
                Ok(received) => received,
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => break,
                Err(fault) if fault.raw_os_error() == Some(libc::EBADF) => return Err(fault),
                Err(_) => {
                    self.counters.receive_errors += 1;
                    self.discard_errors(&socket);
                    continue;
                }
            };
            let Some(remote) = remote else {
                self.counters.foreign += 1;
                continue;
            };
            let from = Flow::udp(socket.listener(), remote);
            let buffer = core::mem::take(&mut self.buffer);
            for bytes in buffer[..len].chunks(each.max(1)) {
                self.counters.received += 1;
                events += 1;
                handler(Event::Datagram { from, bytes }, out);
                if out.is_nearly_full() {
                    self.flush(out);
                }
            }
            self.buffer = buffer;
        }
        Ok(events)
    }

    /// Sorts the outbox into groups, in the order of their first datagrams.
    fn group(&mut self, out: &Outbox) {
        self.used = 0;
        for (position, datagram) in out.iter().enumerate() {
            let len = datagram.bytes.len();
            let open = self.used.saturating_sub(OPEN_MAX);
            let fits = |group: &&mut Group| {
                group.to == datagram.to
                    && group.len == len
                    && group.positions.len() < GROUP_MAX.min(GROUP_BYTES_MAX / len.max(1))
            };
            // The latest first: an earlier one of the same kind is full.
            let group = self.groups[open..self.used].iter_mut().rev().find(fits);
            match group {
                Some(group) => group.positions.push(position as u32),
                None => self.begin(datagram.to, len, position as u32),
            }
        }
    }

    fn begin(&mut self, to: Flow, len: usize, position: u32) {
        if self.used == self.groups.len() {
            self.groups.push(Group {
                to,
                len,
                positions: Vec::with_capacity(GROUP_MAX),
            });
        }
        let group = &mut self.groups[self.used];
        group.to = to;
        group.len = len;
        group.positions.clear();
        group.positions.push(position);
        self.used += 1;
    }

    fn send_group(&mut self, index: usize, out: &Outbox) {
        let Group { to, len, positions } = &self.groups[index];
        let Some(socket) = self.sockets.get(usize::from(to.listener.0)).cloned() else {
            self.counters.send_no_listener += positions.len() as u64;
            return;
        };
        let (to, len, count) = (to.remote, *len, positions.len());
        let mut parts = [IoSlice::new(b""); GROUP_MAX];
        for (part, position) in parts.iter_mut().zip(positions) {
            let datagram = out.datagram(*position as usize);
            *part = IoSlice::new(datagram.map_or(b"", |datagram| datagram.bytes));
        }
        let parts = &parts[..count];
        match self.send(&socket, to, parts, (count > 1).then_some(len)) {
            Ok(()) => self.counters.sent += count as u64,
            Err(_) if count > 1 => {
                // No groups over this device, or a datagram longer than its packets.
                for part in parts {
                    match self.send(&socket, to, core::slice::from_ref(part), None) {
                        Ok(()) => self.counters.sent += 1,
                        Err(_) => self.counters.send_faults += 1,
                    }
                }
            }
            Err(_) => self.counters.send_faults += 1,
        }
    }

    fn send(
        &mut self,
        socket: &Socket,
        to: SocketAddr,
        parts: &[IoSlice<'_>],
        each: Option<usize>,
    ) -> io::Result<()> {
        let address = SockAddr::from(to);
        let control = each.map(segment_size);
        let mut message = MsgHdr::new().with_addr(&address).with_buffers(parts);
        if let Some(control) = &control {
            message = message.with_control(control);
        }
        let mut tries = 0;
        loop {
            self.counters.system_calls += 1;
            tries += 1;
            let fault = match SockRef::from(socket).sendmsg(&message, 0) {
                Ok(_) => return Ok(()),
                Err(fault) => fault,
            };
            match fault.raw_os_error() {
                Some(libc::EAGAIN | libc::ENOBUFS) if tries < TRIES_MAX => {
                    std::thread::sleep(Duration::from_micros(50));
                }
                Some(libc::ECONNREFUSED | libc::EHOSTUNREACH) if tries < TRIES_MAX => {
                    self.discard_errors(socket);
                }
                _ => return Err(fault),
            }
            self.counters.send_retries += 1;
        }
    }

    /// ICMP errors are counted and forgotten: the calls they are about run into their timers.
    fn discard_errors(&mut self, socket: &Socket) {
        let mut scrap = [0_u8; 64];
        loop {
            // SAFETY: the pointer and the length are those of `scrap`.
            let taken = unsafe {
                let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
                libc::recv(
                    socket.as_raw_fd(),
                    scrap.as_mut_ptr().cast(),
                    scrap.len(),
                    flags,
                )
            };
            if taken < 0 {
                return;
            }
            self.counters.bounced += 1;
        }
    }

    /// Waits until a socket has something.
    fn wait(&mut self, timeout: Duration) {
        self.counters.system_calls += 1;
        let mut fds: Vec<libc::pollfd> = self
            .sockets
            .iter()
            .map(|socket| libc::pollfd {
                fd: socket.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        let ms = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: pointer and length are those of `fds`. A failure is an early end of the wait.
        unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, ms) };
    }
}

impl Driver for GroupedDriver {
    fn turn(
        &mut self,
        timeout: Option<Duration>,
        out: &mut Outbox,
        handler: &mut Handler<'_>,
    ) -> io::Result<usize> {
        self.flush(out);
        let mut events = 0;
        if timeout != Some(Duration::ZERO) {
            self.wait(timeout.unwrap_or(Duration::MAX));
        }
        for index in 0..self.sockets.len() {
            events += self.receive(index, out, handler)?;
            self.flush(out);
        }
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
        std::thread::sleep(span);
        self.counters.ticks += u64::from(!span.is_zero());
        self.turn(Some(Duration::ZERO), out, handler)
    }

    fn flush(&mut self, out: &mut Outbox) {
        if out.is_empty() {
            return;
        }
        self.group(out);
        for index in 0..self.used {
            self.send_group(index, out);
        }
        out.clear();
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(Sleepless)
    }

    fn counters(&self) -> DriverCounters {
        DriverCounters {
            dropped_by_kernel: self.sockets.iter().map(|socket| socket.drops()).sum(),
            ..self.counters
        }
    }

    fn name(&self) -> &'static str {
        "grouped"
    }
}

/// Nobody wakes a thread of the generator.
struct Sleepless;

impl Wake for Sleepless {
    fn wake(&self) {}
}

/// The control message that makes the kernel cut a payload into datagrams of `each` octets.
fn segment_size(each: usize) -> [u8; CONTROL] {
    let mut control = [0; CONTROL];
    let header_len = size_of::<libc::cmsghdr>();
    let len = header_len + size_of::<u16>();
    control[..size_of::<usize>()].copy_from_slice(&len.to_ne_bytes());
    let at = size_of::<usize>();
    control[at..at + 4].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
    control[at + 4..at + 8].copy_from_slice(&UDP_SEGMENT.to_ne_bytes());
    // Groups hold datagrams of at most GROUP_BYTES_MAX octets.
    control[header_len..len].copy_from_slice(&(each as u16).to_ne_bytes());
    control
}

/// Octets of one control message with a number in it, as CMSG_SPACE has them.
const CONTROL: usize = size_of::<libc::cmsghdr>() + size_of::<usize>();

fn receive_groups(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: pointer and length are those of `on`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            UDP_GRO,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Receives one group: its octets, the octets of each datagram in it, and who sent it.
fn receive_group(
    socket: &Socket,
    buffer: &mut [u8],
) -> io::Result<(usize, usize, Option<SocketAddr>)> {
    // As many words as a control message with an int takes, and some: aligned for cmsghdr.
    let mut control = [0_u64; 8];
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: the storage is plain octets, for which zero is a value; `recvmsg` writes at most the
    // lengths given in the header, which are those of storage, `buffer` and `control`.
    let ((len, each), address) = unsafe {
        SockAddr::try_init(|storage, storage_len| {
            let mut header: libc::msghdr = core::mem::zeroed();
            header.msg_name = storage.cast();
            header.msg_namelen = *storage_len;
            header.msg_iov = &raw mut part;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&control);
            let len = libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT);
            let Ok(len) = usize::try_from(len) else {
                return Err(io::Error::last_os_error());
            };
            *storage_len = header.msg_namelen;
            Ok((len, group_size(&header).unwrap_or(len)))
        })?
    };
    Ok((len, each, address.as_socket()))
}

/// The octets of each datagram, if the kernel has joined several.
///
/// # Safety
/// `header` was filled by `recvmsg`, and its control memory is alive.
unsafe fn group_size(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the caller's promise; CMSG_FIRSTHDR gives null or a whole header in that memory.
    let first = unsafe { libc::CMSG_FIRSTHDR(header).as_ref()? };
    if first.cmsg_level != libc::SOL_UDP || first.cmsg_type != UDP_GRO {
        return None;
    }
    // SAFETY: a UDP_GRO message carries an int.
    let size = unsafe {
        libc::CMSG_DATA(first)
            .cast::<libc::c_int>()
            .read_unaligned()
    };
    usize::try_from(size).ok()
}
