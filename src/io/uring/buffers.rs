//! The receive buffers of a ring: a table of addresses shared with the kernel, and the memory.
//!
//! A buffer is the kernel's from `give_back` until a completion names it, and ours from then until
//! the next `give_back`. Each can hold the largest datagram: one that does not fit would be cut,
//! and its retransmission as well. They lie on large pages where the kernel has some, and take all their
//! memory then, 8 MiB for 128; else only touched pages do, two per buffer at SIP's usual sizes.

use core::mem::size_of;
use core::sync::atomic::{AtomicU16, Ordering};
use std::io;

use io_uring::types::BufRingEntry;

use super::super::sys::Mapping;
use super::kernel::Ring;
use crate::base::prefetch;

/// Octets from one buffer to the next: the 16 octets of `io_uring_recvmsg_out`, an address, the
/// largest UDP payload (65,527 over IPv6), rounded up to a cache line.
///
/// Receiving 500 octets took 595–601 ns of CPU time with 128 such buffers and 548–591 ns with 128
/// of 2 KiB (medians of two runs on 2 shared virtual Xeon cores): little enough to do without a
/// second path for large datagrams. With 1,024 it was 689–720 against 564–669 ns.
const STRIDE: usize = 65_600;

/// A ring of receive buffers, registered with an io_uring.
pub(super) struct BufferRing {
    /// `entries` of [`BufRingEntry`]; the kernel reads them below the tail.
    table: Mapping,
    memory: Mapping,
    entries: u16,
    /// How many buffers were ever given to the kernel, wrapping.
    tail: u16,
}

impl BufferRing {
    /// Makes `entries` (a power of two) buffers and gives all of them to the ring.
    pub(super) fn new(ring: &Ring, group: u16, entries: u16) -> io::Result<BufferRing> {
        if !entries.is_power_of_two() || entries > 1 << 15 {
            let text = "the number of receive buffers must be a power of two, at most 32768";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let count = usize::from(entries);
        let mut buffers = BufferRing {
            table: Mapping::new(count * size_of::<BufRingEntry>())?,
            memory: Mapping::large(count * STRIDE)?,
            entries,
            tail: 0,
        };
        // SAFETY: the table is page-aligned, of `entries` entries, and outlives the ring's use of
        // it: the driver drops the ring first.
        unsafe { ring.register_buffers(buffers.table.address(), entries, group)? };
        for buffer in 0..entries {
            buffers.give_back(buffer);
        }
        Ok(buffers)
    }

    /// The first `len` octets of a buffer that a completion has named.
    pub(super) fn filled(&self, buffer: u16, len: usize) -> &[u8] {
        let start = self.start(buffer);
        // SAFETY: `start` is a whole buffer within the mapping. The kernel has handed it to us
        // with the completion and writes to it only after `give_back`, which needs `&mut self`
        // and so cannot happen while the slice is alive.
        unsafe { core::slice::from_raw_parts(start, len.min(STRIDE)) }
    }

    /// Says that the first `len` octets of a buffer that a completion has named will be read soon.
    /// What is fetched of a large one ends where most messages end.
    pub(super) fn expect(&self, buffer: u16, len: usize) {
        const LINE: usize = 64;
        const LINES_MAX: usize = 16;
        let filled = self.filled(buffer, len);
        filled
            .chunks(LINE)
            .take(LINES_MAX)
            .for_each(|line| prefetch(&line[0]));
    }

    /// Gives a buffer to the kernel.
    pub(super) fn give_back(&mut self, buffer: u16) {
        let table = self.table.address().cast::<BufRingEntry>();
        let slot = usize::from(self.tail & (self.entries - 1));
        let start = self.start(buffer) as u64;
        // SAFETY: `slot` is below `entries`. The kernel does not read this slot until the tail has
        // passed it. The tail lies in the reserved field of slot 0, which no setter touches.
        unsafe {
            let entry = &mut *table.add(slot);
            entry.set_addr(start);
            entry.set_len(STRIDE as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is an aligned u16 in the table; only we write it, the kernel reads it.
        let shared = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(table).cast_mut()) };
        shared.store(self.tail, Ordering::Release);
    }

    /// Where a buffer begins. The kernel names only numbers that `give_back` told it.
    fn start(&self, buffer: u16) -> *mut u8 {
        let index = usize::from(buffer & (self.entries - 1));
        // SAFETY: `index` is below `entries`, so the offset is within the mapping.
        unsafe { self.memory.address().add(index * STRIDE) }
    }
}
