//! bpf(2) without a library: make a map, put a socket into it, load a program.

use core::mem::size_of;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::SteerFault;

/// Commands, map types and program types of linux/bpf.h.
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;
const PROG_TYPE_SK_REUSEPORT: u32 = 21;

/// Octets of the verifier's log that are asked for when it has rejected the program.
const LOG_LEN: usize = 64 << 10;

/// The maps that steering needs.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum MapKind {
    /// One value per CPU.
    PerCpu = 6,
    /// Sockets of a reuseport group.
    Sockets = 20,
}

/// A map with u32 keys from 0.
#[derive(Debug)]
pub(super) struct Map(OwnedFd);

/// The attributes of MAP_CREATE.
#[repr(C)]
struct NewMap {
    kind: u32,
    key_len: u32,
    value_len: u32,
    entries_max: u32,
    flags: u32,
}

/// The attributes of MAP_UPDATE_ELEM and MAP_DELETE_ELEM.
#[repr(C)]
struct Element {
    map: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The attributes of PROG_LOAD.
#[repr(C)]
#[derive(Clone, Copy)]
struct NewProgram {
    kind: u32,
    instructions_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_len: u32,
    log: u64,
}

impl Map {
    pub(super) fn new(kind: MapKind, value_len: u32, entries_max: u32) -> Result<Map, SteerFault> {
        let wanted = NewMap {
            kind: kind as u32,
            key_len: 4,
            value_len,
            entries_max,
            flags: 0,
        };
        // SAFETY: MAP_CREATE reads these attributes, which hold no pointers.
        let fd = unsafe { bpf(MAP_CREATE, &wanted) };
        let fd = fd.map_err(|fault| explain("making a BPF map", fault))?;
        // SAFETY: the kernel gave us this descriptor just now, so nobody else owns it.
        Ok(Map(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes `socket` the one of the shard with this number.
    pub(super) fn put_socket(&self, shard: u32, socket: &impl AsRawFd) -> Result<(), SteerFault> {
        // Descriptors are not negative.
        let value = socket.as_raw_fd() as u64;
        let element = Element {
            map: self.0.as_raw_fd() as u32,
            unused: 0,
            key: (&raw const shard) as u64,
            value: (&raw const value) as u64,
            flags: 0,
        };
        // SAFETY: key and value are a u32 and a u64, the sizes that the map was made with.
        let done = unsafe { bpf(MAP_UPDATE_ELEM, &element) };
        done.map_err(|fault| explain("putting a socket into a BPF map", fault))?;
        Ok(())
    }
}

impl Map {
    /// Takes out what stands under this number, if anything.
    pub(super) fn remove(&self, number: u32) {
        let element = Element {
            map: self.0.as_raw_fd() as u32,
            unused: 0,
            key: (&raw const number) as u64,
            value: 0,
            flags: 0,
        };
        // SAFETY: the key is a u32, the size that the map was made with. The only failure is that
        // there is nothing under it.
        let _ = unsafe { bpf(MAP_DELETE_ELEM, &element) };
    }
}

impl AsRawFd for Map {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Loads a program for reuseport groups. It keeps the maps that it names.
pub(super) fn load(words: &[u64]) -> Result<OwnedFd, SteerFault> {
    let mut wanted = NewProgram {
        kind: PROG_TYPE_SK_REUSEPORT,
        instructions_count: words.len() as u32,
        instructions: words.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log_level: 0,
        log_len: 0,
        log: 0,
    };
    // SAFETY: `instructions` and `license` point to data that outlives the call, of these lengths.
    let loaded = unsafe { bpf(PROG_LOAD, &wanted) };
    let fault = match loaded {
        // SAFETY: the kernel gave us this descriptor just now, so nobody else owns it.
        Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Err(fault) => fault,
    };
    // EACCES is the verifier's.
    if fault.raw_os_error() == Some(libc::EPERM) {
        return Err(SteerFault::Forbidden);
    }
    // The verifier explains itself only when asked to, at some cost.
    let mut log = vec![0_u8; LOG_LEN];
    wanted.log_level = 1;
    wanted.log_len = LOG_LEN as u32;
    wanted.log = log.as_mut_ptr() as u64;
    // SAFETY: as above, and the kernel writes at most `log_len` octets to `log`.
    match unsafe { bpf(PROG_LOAD, &wanted) } {
        // SAFETY: as above.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Err(_) => Err(rejection(&log, &fault)),
    }
}

/// The end of the verifier's log, which says what it stumbled over.
fn rejection(log: &[u8], fault: &io::Error) -> SteerFault {
    let text = String::from_utf8_lossy(log);
    let lines: Vec<&str> = text.trim_end_matches(['\0', '\n']).lines().collect();
    let last = lines[lines.len().saturating_sub(6)..].join("; ");
    SteerFault::Rejected(format!("{fault}: {last}"))
}

fn explain(what: &'static str, fault: io::Error) -> SteerFault {
    if matches!(fault.raw_os_error(), Some(libc::EPERM | libc::EACCES)) {
        return SteerFault::Forbidden;
    }
    SteerFault::Failed(what, fault)
}

/// # Safety
/// `attributes` must be those of `command`, and every pointer in them good for it.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    let (address, len) = (core::ptr::from_ref(attributes), size_of::<T>());
    // SAFETY: the caller's promise; the kernel takes attributes shorter than its own union.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, address, len) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // Descriptors fit.
    Ok(result as RawFd)
}
