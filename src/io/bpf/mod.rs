//! bpf(2) without a library: make a map, put a socket into it, load a program.
//!
//! The programs are C here and instruction words, made by `build` and committed, in the program.rs
//! beside their C: nothing of a toolchain is needed to build or to run Callgate.

use core::fmt;
use core::mem::size_of;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Commands, map types and program types of linux/bpf.h.
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;

/// How often a program is given to the verifier that is interrupted each time.
const TRIES_MAX: u32 = 5;

/// Octets of the verifier's log that are asked for when it has rejected the program.
const LOG_LEN: usize = 64 << 10;

/// Octets of `struct scratch` in text.h: the window and three words.
pub(super) const SCRATCH_LEN: u32 = 2048 + 24;

/// Flag of MAP_CREATE: the values can be mapped.
const MAPPED: u32 = 1 << 10;

/// Why there is no program.
#[derive(Debug)]
pub enum Fault {
    /// The process may not load one (CAP_BPF and CAP_NET_ADMIN are needed).
    Forbidden,
    /// The kernel's verifier did not accept it; its last words.
    Rejected(String),
    /// A system call failed.
    Failed(&'static str, io::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Forbidden => {
                f.write_str("loading a BPF program is not permitted (CAP_BPF, CAP_NET_ADMIN)")
            }
            Fault::Rejected(words) => write!(f, "the kernel rejects the program: {words}"),
            Fault::Failed(what, fault) => write!(f, "{what}: {fault}"),
        }
    }
}

impl std::error::Error for Fault {}

/// What a program is run for.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum ProgramKind {
    /// Each datagram that is about to be queued on a socket.
    SocketFilter = 1,
    /// Each datagram for a reuseport group.
    SkReuseport = 21,
}

/// What is put into a placeholder of a program.
#[derive(Clone, Copy, Debug)]
pub(super) enum Filling<'m> {
    Map(&'m Map),
    Number(u64),
}

/// The maps that programs here need.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum MapKind {
    /// One value for all, mapped into this process.
    Mapped = 2,
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
    pub(super) fn new(kind: MapKind, value_len: u32, entries_max: u32) -> Result<Map, Fault> {
        let wanted = NewMap {
            kind: kind as u32,
            key_len: 4,
            value_len,
            entries_max,
            flags: match kind {
                MapKind::Mapped => MAPPED,
                MapKind::PerCpu | MapKind::Sockets => 0,
            },
        };
        // SAFETY: MAP_CREATE reads these attributes, which hold no pointers.
        let fd = unsafe { bpf(MAP_CREATE, &wanted) };
        let fd = fd.map_err(|fault| explain("making a BPF map", fault))?;
        // SAFETY: the kernel gave us this descriptor just now, so nobody else owns it.
        Ok(Map(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes `socket` the one of the shard with this number.
    pub(super) fn put_socket(&self, shard: u32, socket: &impl AsRawFd) -> Result<(), Fault> {
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

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Map {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The opcode that loads a 64-bit constant: an instruction of two words whose constant is in the
/// upper halves of both.
const LDDW: u64 = 0x18;

/// The half of a word that holds an instruction's constant.
const UPPER: u64 = 0xffff_ffff_0000_0000;

/// The source register that makes the constant of a `lddw` the descriptor of a map.
const MAP_DESCRIPTOR: u64 = 1 << 12;

/// A program with its placeholders, 64-bit constants of its C, filled in.
pub(super) fn fill(program: &[u64], fillings: &[(u64, Filling<'_>)]) -> Vec<u64> {
    let mut words = program.to_vec();
    let mut at = 0;
    while at + 1 < words.len() {
        if words[at] & 0xff != LDDW {
            at += 1;
            continue;
        }
        let pair = [words[at], words[at + 1]];
        let constant = (pair[0] >> 32) | (pair[1] & UPPER);
        let filling = fillings.iter().find(|(wanted, _)| *wanted == constant);
        if let Some((_, filling)) = filling {
            words[at..at + 2].copy_from_slice(&filled(pair, *filling));
        }
        at += 2;
    }
    words
}

fn filled(pair: [u64; 2], filling: Filling<'_>) -> [u64; 2] {
    let with = |constant: u64, flags: u64| {
        let low = (pair[0] & !UPPER) | (constant << 32) | flags;
        let high = (pair[1] & !UPPER) | (constant & UPPER);
        [low, high]
    };
    match filling {
        // Descriptors are not negative.
        Filling::Map(map) => with(map.as_raw_fd() as u64, MAP_DESCRIPTOR),
        Filling::Number(number) => with(number, 0),
    }
}

/// Loads a program. It keeps the maps that it names.
pub(super) fn load(kind: ProgramKind, words: &[u64]) -> Result<OwnedFd, Fault> {
    if cfg!(target_endian = "big") {
        let why = "its words are for little-endian hosts";
        return Err(Fault::Rejected(why.to_owned()));
    }
    let mut wanted = NewProgram {
        kind: kind as u32,
        instructions_count: words.len() as u32,
        instructions: words.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log_level: 0,
        log_len: 0,
        log: 0,
    };
    let mut tries = 0;
    let fault = loop {
        tries += 1;
        // SAFETY: `instructions` and `license` point to data that outlives the call, of these
        // lengths.
        let fault = match unsafe { bpf(PROG_LOAD, &wanted) } {
            // SAFETY: the kernel gave us this descriptor just now, so nobody else owns it.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(fault) => fault,
        };
        match fault.raw_os_error() {
            // The verifier was interrupted by a signal, such as those of a ring.
            Some(libc::EAGAIN) if tries < TRIES_MAX => {}
            Some(libc::EAGAIN) => return Err(Fault::Failed("loading a BPF program", fault)),
            Some(libc::EPERM) => return Err(Fault::Forbidden),
            // EACCES is the verifier's.
            _ => break fault,
        }
    };
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
fn rejection(log: &[u8], fault: &io::Error) -> Fault {
    let text = String::from_utf8_lossy(log);
    let lines: Vec<&str> = text.trim_end_matches(['\0', '\n']).lines().collect();
    let last = lines[lines.len().saturating_sub(6)..].join("; ");
    Fault::Rejected(format!("{fault}: {last}"))
}

fn explain(what: &'static str, fault: io::Error) -> Fault {
    if matches!(fault.raw_os_error(), Some(libc::EPERM | libc::EACCES)) {
        return Fault::Forbidden;
    }
    Fault::Failed(what, fault)
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The verifier gives up at a million instructions, and other kernels follow more paths.
    const VERIFIED_MAX: u64 = 250_000;

    /// The program loads, and no kernel will find it too long to follow.
    pub(in crate::io) fn is_easy_for_the_verifier(program: Result<OwnedFd, Fault>) {
        let program = match program {
            Err(Fault::Forbidden) => {
                eprintln!("NOT TESTED: this process may not load BPF programs");
                return;
            }
            program => program.expect("a program that the kernel takes"),
        };
        let info = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
        let info = std::fs::read_to_string(info).expect("the kernel's word on it");
        let verified = info
            .lines()
            .find_map(|line| line.strip_prefix("verified_insns:"))
            .map(|count| count.trim().parse::<u64>().expect("a number"));
        match verified {
            Some(count) => {
                println!("{count} instructions were followed");
                assert!(count < VERIFIED_MAX);
            }
            None => eprintln!("NOT TESTED: this kernel does not tell what it verified"),
        }
    }

    /// Every placeholder stands in an instruction that `fill` finds.
    pub(in crate::io) fn has_placeholders(program: &[u64], placeholders: &[u64]) {
        for placeholder in placeholders {
            let marked = fill(program, &[(*placeholder, Filling::Number(0))]);
            assert_ne!(marked, program, "{placeholder:x}");
        }
    }
}
