//! The turnstile as an eBPF program, for a process that may load one. The share that it drops
//! stands in memory that both have mapped, so that moving it is one store; it counts what it drops.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::super::bpf::{self, Filling, Map, MapKind, ProgramKind};
use super::super::sys::{self, Mapping};
use super::program::PROGRAM;

/// Placeholders of turnstile.bpf.c.
const GATE_MAP: u64 = 0x5ca1_ab1e_0000_0001;
const SCRATCH_MAP: u64 = 0x5ca1_ab1e_0000_0002;

/// `struct gate` of turnstile.bpf.c.
#[repr(C)]
struct Words {
    drop_below: AtomicU32,
    unused: u32,
    dropped: AtomicU64,
}

/// The octets of a map's values are mapped by pages.
const PAGE: usize = 4096;

/// The program and what it shares with us.
#[derive(Debug)]
pub(super) struct Gate {
    program: OwnedFd,
    words: Mapping,
    /// How many drops a driver has told of.
    told: AtomicU64,
}

// SAFETY: what is mapped is read and written by atomics alone, here and in the kernel, and unmapped
// by whoever drops the last of it.
unsafe impl Send for Gate {}
// SAFETY: as above.
unsafe impl Sync for Gate {}

impl Gate {
    /// Loads the program, for as long as this lives or a socket has it.
    pub(super) fn load() -> Result<Gate, bpf::Fault> {
        let gate = Map::new(MapKind::Mapped, size_of::<Words>() as u32, 1)?;
        let scratch = Map::new(MapKind::PerCpu, bpf::SCRATCH_LEN, 1)?;
        let words = Mapping::shared(gate.as_fd(), PAGE)
            .map_err(|fault| bpf::Fault::Failed("mapping a BPF map", fault))?;
        let fillings = [
            (GATE_MAP, Filling::Map(&gate)),
            (SCRATCH_MAP, Filling::Map(&scratch)),
        ];
        let program = bpf::load(ProgramKind::SocketFilter, &bpf::fill(PROGRAM, &fillings))?;
        Ok(Gate {
            program,
            words,
            told: AtomicU64::new(0),
        })
    }

    /// Puts it on a socket, in place of what is there.
    pub(super) fn attach(&self, socket: &impl AsRawFd) -> io::Result<()> {
        let program = self.program.as_raw_fd();
        sys::set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_BPF, program)
    }

    /// Drops so many of 2^32 new INVITEs from here on.
    pub(super) fn set(&self, drop_below: u32) {
        self.words().drop_below.store(drop_below, Ordering::Relaxed);
    }

    /// How many it has dropped, in order to tell it.
    pub(super) fn tell(&self) -> u64 {
        let dropped = self.words().dropped.load(Ordering::Relaxed);
        self.told.store(dropped, Ordering::Relaxed);
        dropped
    }

    /// What was told last.
    pub(super) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    fn words(&self) -> &Words {
        const { assert!(size_of::<Words>() == 16 && offset_of!(Words, dropped) == 8) };
        // SAFETY: the mapping is a page, aligned and longer than `Words`, of a map that it keeps
        // alive. Any octets are good for its fields, and both sides change them by atomics only.
        unsafe { &*self.words.address().cast::<Words>() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_easy_for_the_verifier() {
        bpf::tests::is_easy_for_the_verifier(Gate::load().map(|gate| gate.program));
    }

    #[test]
    fn every_placeholder_is_found() {
        bpf::tests::has_placeholders(PROGRAM, &[GATE_MAP, SCRATCH_MAP]);
    }
}
