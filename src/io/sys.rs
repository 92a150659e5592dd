//! System calls without a safe wrapper in the standard library or in socket2, each made safe here.

use core::mem::{size_of, size_of_val};
use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::address::{ADDRESS_MAX, RawAddress};

/// The last error for a result of -1.
pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Sets a socket option whose value is an integer.
pub(super) fn set_option(
    socket: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    check(result).map(drop)
}

/// linux/udp.h; libc has it for some C libraries only.
const UDP_SEGMENT: libc::c_int = 103;

/// Whether the kernel sends several datagrams as one from this socket (Linux 4.18). One that does
/// not may take a group for one long datagram.
pub(super) fn knows_segments(socket: &impl AsRawFd) -> bool {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` octets, the size of `value`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            UDP_SEGMENT,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    result == 0
}

/// The control message that has the kernel cut what is sent into datagrams of one length.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Segments {
    header: libc::cmsghdr,
    /// The length, padded as `CMSG_SPACE` has it.
    each: [u16; size_of::<usize>() / size_of::<u16>()],
}

impl Segments {
    /// Datagrams of `each` octets.
    pub(super) fn new(each: u16) -> Segments {
        // SAFETY: all fields are integers, for which zero is a value.
        let mut header: libc::cmsghdr = unsafe { core::mem::zeroed() };
        header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<u16>()) as _;
        header.cmsg_level = libc::SOL_UDP;
        header.cmsg_type = UDP_SEGMENT;
        let mut padded = [0; _];
        padded[0] = each;
        Segments {
            header,
            each: padded,
        }
    }

    /// Hangs it to a message, which must not outlive it.
    pub(super) fn attach(&mut self, message: &mut libc::msghdr) {
        message.msg_control = (&raw mut *self).cast();
        message.msg_controllen = size_of::<Segments>() as _;
    }
}

/// Major and minor number of the running kernel; zeros when it does not say.
pub(super) fn kernel_version() -> (u32, u32) {
    // SAFETY: a utsname is arrays of octets, for which zeros are good.
    let mut told: libc::utsname = unsafe { core::mem::zeroed() };
    // SAFETY: the pointer is to `told`, which outlives the call.
    if unsafe { libc::uname(&raw mut told) } != 0 {
        return (0, 0);
    }
    let letters = told.release.iter().map(|octet| *octet as u8 as char);
    let release: String = letters.take_while(|letter| *letter != '\0').collect();
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Indices among the numbers of `SO_MEMINFO` (linux/sock_diag.h).
const MEMINFO_RECEIVE_USED: usize = 0;
const MEMINFO_RECEIVE_ROOM: usize = 1;
const MEMINFO_DROPS: usize = 8;

/// The receive queue of a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    /// Octets of the kernel's memory, its own records of each datagram included.
    pub(super) used: u32,
    pub(super) room: u32,
    /// Datagrams that found it full.
    pub(super) drops: u32,
}

/// How the receive queue of `socket` stands.
pub(super) fn queue(socket: &impl AsRawFd) -> io::Result<Queue> {
    let mut numbers = [0_u32; MEMINFO_DROPS + 1];
    let mut len = size_of_val(&numbers) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` octets, the size of `numbers`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            numbers.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    check(result)?;
    Ok(Queue {
        used: numbers[MEMINFO_RECEIVE_USED],
        room: numbers[MEMINFO_RECEIVE_ROOM],
        drops: numbers[MEMINFO_DROPS],
    })
}

/// `SIOCGSTAMPNS_NEW` of linux/sockios.h: two 64-bit numbers on every architecture.
const GET_STAMP: libc::Ioctl = 0x8010_8907_u32 as libc::Ioctl;

/// How long ago the kernel got the datagram that was last taken from `socket`, by the wall clock
/// that both readings come from. The first call has the kernel stamp what comes from then on, 20 ns
/// each; what is not stamped counts as just come.
pub(super) fn waited(socket: &impl AsRawFd) -> io::Result<Duration> {
    let mut stamp = [0_i64; 2];
    // SAFETY: the kernel writes two 64-bit numbers, the size of `stamp`.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), GET_STAMP, stamp.as_mut_ptr()) })?;
    // SAFETY: zero is a value of both fields.
    let mut now: libc::timespec = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel writes one timespec.
    check(unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) })?;
    let now_ns = now.tv_sec as i128 * 1_000_000_000 + now.tv_nsec as i128;
    let then_ns = i128::from(stamp[0]) * 1_000_000_000 + i128::from(stamp[1]);
    // A wall clock that was set back in between gives nothing, one set forward one odd reading.
    Ok(Duration::from_nanos(
        u64::try_from(now_ns - then_ns).unwrap_or(0),
    ))
}

/// An eventfd that does not block.
pub(super) fn event_fd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
    // SAFETY: the kernel gave us this descriptor just now, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One descriptor to wait for.
pub(super) fn interest(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// Waits until a descriptor is ready or the time is over; a signal ends it early with 0.
pub(super) fn poll(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    let limit = timeout.map(|span| libc::timespec {
        tv_sec: libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: span.subsec_nanos().into(),
    });
    let limit = limit
        .as_ref()
        .map_or(core::ptr::null(), |limit| limit as *const _);
    // SAFETY: pointer and length are those of `fds`; `limit` is null or a timespec that lives on.
    let result = unsafe {
        libc::ppoll(
            fds.as_mut_ptr(),
            fds.len() as libc::nfds_t,
            limit,
            core::ptr::null(),
        )
    };
    match check(result) {
        Ok(count) => Ok(count as usize),
        Err(fault) if fault.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(fault) => Err(fault),
    }
}

/// An entry of a socket's error queue.
pub(super) struct SocketError {
    /// Where the datagram had been sent.
    pub(super) to: Option<core::net::SocketAddr>,
    /// How many octets of the datagram were quoted.
    pub(super) len: usize,
    /// The error number that the kernel derived from the ICMP message, 0 when it gave none.
    pub(super) errno: libc::c_int,
}

/// Takes one entry from the error queue; the quoted datagram goes to `buffer`. `None`: empty.
pub(super) fn take_error(
    socket: &impl AsRawFd,
    buffer: &mut [u8],
) -> io::Result<Option<SocketError>> {
    let mut address = RawAddress::EMPTY;
    // Aligned for `cmsghdr`; room for IP_RECVERR's record with its offender address.
    let mut control = [0_u64; 32];
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut message = empty_message();
    message.msg_name = address.as_mut_ptr();
    message.msg_namelen = ADDRESS_MAX as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: all pointers in `message` are to locals or to `buffer`, with their true lengths.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    if len < 0 {
        let fault = io::Error::last_os_error();
        let empty = fault.kind() == io::ErrorKind::WouldBlock;
        return if empty { Ok(None) } else { Err(fault) };
    }
    Ok(Some(SocketError {
        to: address.received(message.msg_namelen as usize),
        len: len as usize,
        // SAFETY: the kernel has just filled in `message` and its control buffer.
        errno: unsafe { extended_errno(&message) },
    }))
}

/// Reads `ee_errno` of the first `sock_extended_err` among the control messages.
///
/// # Safety
/// `message` must come from a successful recvmsg, its control buffer must still be alive.
unsafe fn extended_errno(message: &libc::msghdr) -> libc::c_int {
    // SAFETY: the caller promises a filled control buffer; CMSG_* stay inside of it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so it points to a whole header in the control buffer.
        let (level, kind) = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        let v4 = (level, kind) == (libc::SOL_IP, libc::IP_RECVERR);
        let v6 = (level, kind) == (libc::SOL_IPV6, libc::IPV6_RECVERR);
        if v4 || v6 {
            // SAFETY: a control message of this kind begins with a sock_extended_err.
            let record = unsafe {
                libc::CMSG_DATA(header)
                    .cast::<libc::sock_extended_err>()
                    .read_unaligned()
            };
            return libc::c_int::try_from(record.ee_errno).unwrap_or(0);
        }
        // SAFETY: `header` came from the same message.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    0
}

/// A message header with nothing in it.
pub(super) fn empty_message() -> libc::msghdr {
    // SAFETY: all fields are integers or pointers, for which zero is a value.
    unsafe { core::mem::zeroed() }
}

/// Memory of this process, page-aligned.
#[derive(Debug)]
pub(super) struct Mapping {
    address: *mut u8,
    len: usize,
}

impl Mapping {
    /// Maps `len` octets of nobody else's, all zero. Pages come with their first use.
    pub(super) fn new(len: usize) -> io::Result<Mapping> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Mapping::make(len, flags, -1)
    }

    /// The same on large pages, where the kernel has some: a datagram is then no page of its own that
    /// the processor has to look up. What of them is never used takes memory too.
    pub(super) fn large(len: usize) -> io::Result<Mapping> {
        let mapping = Mapping::new(len)?;
        // SAFETY: advice about a mapping that nobody else uses. Without large pages it is of no use,
        // and of no harm.
        unsafe { libc::madvise(mapping.address.cast(), len, libc::MADV_HUGEPAGE) };
        Ok(mapping)
    }

    /// Maps the first `len` octets of what is behind a descriptor and is shared with others.
    pub(super) fn shared(of: BorrowedFd<'_>, len: usize) -> io::Result<Mapping> {
        Mapping::make(len, libc::MAP_SHARED, of.as_raw_fd())
    }

    fn make(len: usize, flags: libc::c_int, of: RawFd) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing.
        let address = unsafe { libc::mmap(core::ptr::null_mut(), len, protection, flags, of, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping {
            address: address.cast(),
            len,
        })
    }

    /// Where it begins.
    pub(super) fn address(&self) -> *mut u8 {
        self.address
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `address` and `len` are those of a mapping made in `make`, unmapped only here.
        unsafe { libc::munmap(self.address.cast(), self.len) };
    }
}
