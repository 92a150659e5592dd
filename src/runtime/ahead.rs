//! The thread that has the kernel provide the tables' memory a little ahead of its use, so that a
//! shard that grows does not stand still while a page of 2 MiB is zeroed. That takes 0.1 ms on a bare
//! host and several ms in a virtual machine whose own memory is not there yet.
//!
//! It looks rather than being told; what is provided grows with what is used, not with what is reserved.

use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::os;
use crate::base::Fresh;
use crate::control::Node;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How far ahead of its use each region is there.
const AHEAD: usize = 8 << 20;
/// What is asked of the kernel at once: a huge page, which is one only where it begins at its size.
const STEP: usize = 2 << 20;

/// The running thread.
pub struct Ahead {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Ahead {
    /// Starts the thread.
    pub fn start(node: &Arc<Node>) -> io::Result<Ahead> {
        let stop = Arc::new(AtomicBool::new(false));
        let (node, stopped) = (Arc::clone(node), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("memory".into())
            .spawn(move || run(&node, &stopped))?;
        Ok(Ahead { stop, thread })
    }

    /// Ends the thread.
    pub fn close(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _panicked = self.thread.join();
    }
}

fn run(node: &Node, stop: &AtomicBool) {
    let mut reached: Vec<Reached> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let regions: Vec<Fresh> = node.seats.iter().flat_map(|seat| seat.fresh()).collect();
        // Those of a shard that was replaced are no more.
        reached.retain(|known| regions.iter().any(|region| region.end == known.end));
        for region in regions.into_iter().filter(|region| region.end > 0) {
            if let Err(fault) = provide(region, &mut reached) {
                // An older kernel: the shards touch their memory themselves, as they come to it.
                tracing::debug!(%fault, "memory is not provided ahead of its use");
                return;
            }
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// How far a region is there.
#[derive(Debug)]
struct Reached {
    end: usize,
    at: usize,
}

/// Provides what a region is likely to use soon and is not there yet.
fn provide(region: Fresh, reached: &mut Vec<Reached>) -> io::Result<()> {
    let known = reached.iter().position(|known| known.end == region.end);
    let known = known.unwrap_or_else(|| {
        let at = region.start;
        reached.push(Reached {
            end: region.end,
            at,
        });
        reached.len() - 1
    });
    let reached = &mut reached[known];
    // The last page may be shared with whatever lies behind the region: it is left alone.
    let last = region.end / PAGE * PAGE;
    let wanted = (region.start + AHEAD).next_multiple_of(STEP).min(last);
    let mut at = reached.at.max(region.start).next_multiple_of(PAGE);
    while at < wanted {
        let next = (at + 1).next_multiple_of(STEP).min(wanted);
        match os::populate(at..next) {
            Ok(()) => {}
            // The region went while we looked at it.
            Err(fault) if fault.raw_os_error() == Some(libc::ENOMEM) => return Ok(()),
            Err(fault) => return Err(fault),
        }
        at = next;
        reached.at = at;
    }
    Ok(())
}

/// A multiple of each page size that there is.
const PAGE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    /// Whether the page of this address is there, as the kernel says.
    fn is_there(address: usize) -> bool {
        let pages = File::open("/proc/self/pagemap").expect("Linux");
        let mut entry = [0; 8];
        let at = address / 4096 * entry.len();
        pages
            .read_exact_at(&mut entry, at as u64)
            .expect("an entry per page");
        u64::from_le_bytes(entry) >> 63 == 1
    }

    #[test]
    fn what_comes_next_is_there_and_what_is_used_stays_as_it_is() {
        const OCTETS: usize = 64 << 20;
        let mut table: Vec<u64> = Vec::with_capacity(OCTETS / 8);
        table.extend(0..1000);
        let mut reached = Vec::new();
        let fresh = Fresh::of_vec(&table);
        assert!(!is_there(fresh.start + AHEAD / 2));
        provide(fresh, &mut reached).expect("Linux 5.14");
        assert!(is_there(fresh.start + AHEAD / 2));
        assert!(!is_there(fresh.end - STEP), "no more than that");
        assert!(table.iter().copied().eq(0..1000));

        let at = reached[0].at;
        provide(fresh, &mut reached).expect("the same again");
        assert_eq!(reached[0].at, at, "nothing was used, nothing is provided");
        table.extend(0..OCTETS as u64 / 16);
        provide(Fresh::of_vec(&table), &mut reached).expect("more");
        assert!(reached[0].at > at && reached.len() == 1);
    }

    #[test]
    fn a_region_is_never_left() {
        let table: Vec<u8> = Vec::with_capacity(10);
        let mut reached = Vec::new();
        provide(Fresh::of_vec(&table), &mut reached).expect("nothing to do");
        let region = Fresh {
            start: usize::MAX / 2 / STEP * STEP,
            end: usize::MAX / 2 / STEP * STEP + STEP,
        };
        provide(region, &mut reached).expect("what is not mapped is no fault");
    }
}
