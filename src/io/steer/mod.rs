//! Kernel steering: an eBPF program in each reuseport group that hands a datagram to the socket of
//! the shard that owns its call.
//!
//! Without it everything works the same, only that a carrier with one source address lands on one
//! shard, which hands over what is not its own. `steer.bpf.c` is the program.

mod program;

use core::fmt;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use self::program::PROGRAM;
use super::bpf::{self, Filling, Map, MapKind, ProgramKind};
use super::{Socket, sys};
use crate::base::hash::HashKey;

/// Placeholders of steer.bpf.c.
const SOCKETS_MAP: u64 = 0x5ca1_ab1e_0000_0001;
const SCRATCH_MAP: u64 = 0x5ca1_ab1e_0000_0002;
const KEY_LOW: u64 = 0x5ca1_ab1e_0000_0003;
const KEY_HIGH: u64 = 0x5ca1_ab1e_0000_0004;
const SHARDS: u64 = 0x5ca1_ab1e_0000_0005;

/// Why datagrams are not steered.
#[derive(Debug)]
pub enum SteerFault {
    /// There is no socket, or their shards are more than the program counts.
    BadGroup,
    /// There is no program.
    Program(bpf::Fault),
}

impl From<bpf::Fault> for SteerFault {
    fn from(fault: bpf::Fault) -> SteerFault {
        SteerFault::Program(fault)
    }
}

impl fmt::Display for SteerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SteerFault::BadGroup => f.write_str("there is no group of sockets to steer"),
            SteerFault::Program(fault) => fault.fmt(f),
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
    let shards = u16::try_from(group.len()).map_err(|_| SteerFault::BadGroup)?;
    let socket = group.first().ok_or(SteerFault::BadGroup)?;
    let sockets = Map::new(MapKind::Sockets, 8, u32::from(shards))?;
    let scratch = Map::new(MapKind::PerCpu, bpf::SCRATCH_LEN, 1)?;
    for (shard, socket) in (0..).zip(group) {
        sockets.put_socket(shard, &**socket)?;
    }
    let words = assemble(&sockets, &scratch, key, shards);
    let program = bpf::load(ProgramKind::SkReuseport, &words)?;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_EBPF);
    sys::set_option(&**socket, level, name, program.as_raw_fd())
        .map_err(|fault| bpf::Fault::Failed("attaching the steering program", fault))?;
    Ok(Steering {
        group: group.to_vec(),
        sockets,
    })
}

/// The program with its placeholders filled in.
fn assemble(sockets: &Map, scratch: &Map, key: &HashKey, shards: u16) -> Vec<u64> {
    let [low, high] = key.words();
    let fillings = [
        (SOCKETS_MAP, Filling::Map(sockets)),
        (SCRATCH_MAP, Filling::Map(scratch)),
        (KEY_LOW, Filling::Number(low)),
        (KEY_HIGH, Filling::Number(high)),
        (SHARDS, Filling::Number(u64::from(shards))),
    ];
    bpf::fill(PROGRAM, &fillings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_easy_for_the_verifier() {
        let key = HashKey::new([1, 2]);
        let maps = Map::new(MapKind::Sockets, 8, 4)
            .and_then(|sockets| Ok((sockets, Map::new(MapKind::PerCpu, bpf::SCRATCH_LEN, 1)?)));
        bpf::tests::is_easy_for_the_verifier(maps.and_then(|(sockets, scratch)| {
            let words = assemble(&sockets, &scratch, &key, 4);
            bpf::load(ProgramKind::SkReuseport, &words)
        }));
    }

    #[test]
    fn every_placeholder_is_found() {
        let all = [SOCKETS_MAP, SCRATCH_MAP, KEY_LOW, KEY_HIGH, SHARDS];
        bpf::tests::has_placeholders(PROGRAM, &all);
    }
}
