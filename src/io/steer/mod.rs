//! Kernel steering: an eBPF program in each reuseport group that hands a datagram to the socket of
//! the shard that owns its call.
//!
//! Without it everything works the same, only that a carrier with one source address lands on one
//! shard, which hands over what is not its own. `steer.bpf.c` is the program, `program.rs` its
//! words (made by `build`, committed), `bpf` the system calls.

#[expect(unsafe_code, reason = "bpf(2) takes a union of pointers")]
mod bpf;
mod program;

use core::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use self::bpf::{Map, MapKind};
use self::program::PROGRAM;
use super::{Socket, sys};
use crate::base::hash::HashKey;

/// Placeholders of steer.bpf.c: the 64-bit constants that `assemble` replaces.
const SOCKETS_MAP: u64 = 0x5ca1_ab1e_0000_0001;
const SCRATCH_MAP: u64 = 0x5ca1_ab1e_0000_0002;
const KEY_LOW: u64 = 0x5ca1_ab1e_0000_0003;
const KEY_HIGH: u64 = 0x5ca1_ab1e_0000_0004;
const SHARDS: u64 = 0x5ca1_ab1e_0000_0005;

/// Octets of `struct scratch`: the window and three words.
const SCRATCH_LEN: u32 = 2048 + 24;

/// Why datagrams are not steered.
#[derive(Debug)]
pub enum SteerFault {
    /// There is no socket, or their shards are more than the program counts.
    BadGroup,
    /// The process may not load a program (CAP_BPF and CAP_NET_ADMIN are needed).
    Forbidden,
    /// The kernel's verifier did not accept the program; its last words.
    Rejected(String),
    /// A system call failed.
    Failed(&'static str, io::Error),
}

impl fmt::Display for SteerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SteerFault::BadGroup => f.write_str("there is no group of sockets to steer"),
            SteerFault::Forbidden => {
                f.write_str("loading a BPF program is not permitted (CAP_BPF, CAP_NET_ADMIN)")
            }
            SteerFault::Rejected(words) => write!(f, "the kernel rejects the program: {words}"),
            SteerFault::Failed(what, fault) => write!(f, "{what}: {fault}"),
        }
    }
}

impl std::error::Error for SteerFault {}

/// Steering of one listener, for as long as this lives.
#[derive(Debug)]
pub struct Steering {
    group: Vec<Arc<Socket>>,
    sockets: Map,
}

impl Drop for Steering {
    /// Detaches the program: the kernel chooses by address again. The map is emptied, since a
    /// socket can be in one map only and the kernel takes its time to free this one.
    fn drop(&mut self) {
        let (level, name) = (libc::SOL_SOCKET, libc::SO_DETACH_REUSEPORT_BPF);
        for (shard, socket) in (0..).zip(&self.group) {
            if shard == 0 {
                // It fails only when the group has no program, which is what is wanted.
                let _ = sys::set_option(&**socket, level, name, 0);
            }
            self.sockets.remove(shard);
        }
    }
}

impl Steering {
    /// Leaves the program with its group, for a process that has the sockets too.
    pub fn leave(self) {
        core::mem::forget(self);
    }
}

/// Steers the datagrams of every listener. The sockets are by shard, then by listener, as
/// [`bind_group`](super::bind_group) gives them, and all of them are bound.
pub fn attach_all(
    by_shard: &[Vec<Arc<Socket>>],
    key: &HashKey,
) -> Result<Vec<Steering>, SteerFault> {
    let listeners = by_shard.first().map_or(0, Vec::len);
    let column = |listener: usize| -> Vec<Arc<Socket>> {
        let sockets = by_shard.iter().filter_map(|shard| shard.get(listener));
        sockets.cloned().collect()
    };
    (0..listeners)
        .map(|listener| attach(&column(listener), key))
        .collect()
}

/// Steers the datagrams of one listener, whose sockets stand in the order of their shards.
pub fn attach(group: &[Arc<Socket>], key: &HashKey) -> Result<Steering, SteerFault> {
    if cfg!(target_endian = "big") {
        let words = "its words are for little-endian hosts";
        return Err(SteerFault::Rejected(words.to_owned()));
    }
    let shards = u16::try_from(group.len()).map_err(|_| SteerFault::BadGroup)?;
    let socket = group.first().ok_or(SteerFault::BadGroup)?;
    let sockets = Map::new(MapKind::Sockets, 8, u32::from(shards))?;
    let scratch = Map::new(MapKind::PerCpu, SCRATCH_LEN, 1)?;
    for (shard, socket) in (0..).zip(group) {
        sockets.put_socket(shard, &**socket)?;
    }
    let words = assemble(&sockets, &scratch, key, shards);
    let program = bpf::load(&words)?;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_EBPF);
    sys::set_option(&**socket, level, name, program.as_raw_fd())
        .map_err(|fault| SteerFault::Failed("attaching the steering program", fault))?;
    Ok(Steering {
        group: group.to_vec(),
        sockets,
    })
}

/// The program with its placeholders filled in. Each is in a `lddw`: an instruction of two words
/// whose constant is in the upper halves of both.
fn assemble(sockets: &Map, scratch: &Map, key: &HashKey, shards: u16) -> Vec<u64> {
    let mut words = PROGRAM.to_vec();
    let [low, high] = key.words();
    let mut at = 0;
    while at + 1 < words.len() {
        if words[at] & 0xff != LDDW {
            at += 1;
            continue;
        }
        let pair = [words[at], words[at + 1]];
        let constant = (pair[0] >> 32) | (pair[1] & UPPER);
        let filled = match constant {
            SOCKETS_MAP => Some(with_map(pair, sockets)),
            SCRATCH_MAP => Some(with_map(pair, scratch)),
            KEY_LOW => Some(with_constant(pair, low)),
            KEY_HIGH => Some(with_constant(pair, high)),
            SHARDS => Some(with_constant(pair, u64::from(shards))),
            _ => None,
        };
        if let Some(filled) = filled {
            words[at..at + 2].copy_from_slice(&filled);
        }
        at += 2;
    }
    words
}

/// The opcode that loads a 64-bit constant.
const LDDW: u64 = 0x18;

/// The half of a word that holds an instruction's constant.
const UPPER: u64 = 0xffff_ffff_0000_0000;

/// The source register that makes the constant of a `lddw` the descriptor of a map.
const MAP_DESCRIPTOR: u64 = 1 << 12;

fn with_constant(pair: [u64; 2], constant: u64) -> [u64; 2] {
    let low = (pair[0] & !UPPER) | (constant << 32);
    let high = (pair[1] & !UPPER) | (constant & UPPER);
    [low, high]
}

fn with_map(pair: [u64; 2], map: &Map) -> [u64; 2] {
    // Descriptors are not negative.
    let [low, high] = with_constant(pair, map.as_raw_fd() as u64);
    [low | MAP_DESCRIPTOR, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verifier gives up at a million instructions, and other kernels follow more paths.
    const VERIFIED_MAX: u64 = 250_000;

    #[test]
    fn the_program_is_easy_for_the_verifier() {
        let key = HashKey::new([1, 2]);
        let maps = Map::new(MapKind::Sockets, 8, 4)
            .and_then(|sockets| Ok((sockets, Map::new(MapKind::PerCpu, SCRATCH_LEN, 1)?)));
        let program =
            maps.and_then(|(sockets, scratch)| bpf::load(&assemble(&sockets, &scratch, &key, 4)));
        let program = match program {
            Err(SteerFault::Forbidden) => {
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
            Some(count) => assert!(count < VERIFIED_MAX, "{count} instructions"),
            None => eprintln!("NOT TESTED: this kernel does not tell what it verified"),
        }
    }

    #[test]
    fn every_placeholder_is_filled_in() {
        let words: Vec<u64> = PROGRAM.iter().map(|word| word >> 32).collect();
        for placeholder in [SOCKETS_MAP, SCRATCH_MAP, KEY_LOW, KEY_HIGH, SHARDS] {
            let low = placeholder & 0xffff_ffff;
            let pairs = words.windows(2).zip(PROGRAM);
            let found = pairs.filter(|(pair, first)| {
                **first & 0xff == LDDW && pair[0] == low && pair[1] == placeholder >> 32
            });
            assert_ne!(found.count(), 0, "{placeholder:x}");
        }
    }
}
