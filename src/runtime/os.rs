//! The system calls that have no safe wrapper here: entropy, the monotonic clock's raw value for
//! systemd, the CPU time of a thread, resource limits, and memory provided before its use.
#![expect(
    unsafe_code,
    reason = "libc calls on local plain data, and one on addresses that changes none"
)]

use core::time::Duration;
use std::io;

/// Fills `bytes` from the kernel's generator; the only entropy of the node.
pub fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: the pointer and length describe `rest`, which is writable and lives over the call.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(count) => filled += count,
            Err(_) => {
                let fault = io::Error::last_os_error();
                if fault.kind() != io::ErrorKind::Interrupted {
                    return Err(fault);
                }
            }
        }
    }
    Ok(())
}

/// Draws `N` numbers of 64 bits.
pub fn random_words<const N: usize>() -> io::Result<[u64; N]> {
    let mut words = [0; N];
    for word in &mut words {
        let mut bytes = [0; 8];
        fill_random(&mut bytes)?;
        *word = u64::from_ne_bytes(bytes);
    }
    Ok(words)
}

/// CLOCK_MONOTONIC in microseconds, as systemd wants it beside RELOADING=1.
pub fn monotonic_us() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec to write to; the clock id is a constant of the kernel.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1000
}

/// CPU time that the calling thread has taken.
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec to write to; the clock id is a constant of the kernel.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::from_secs(time.tv_sec.unsigned_abs())
        + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

/// Has the kernel provide the pages of an address range as if each were written to, which changes
/// nothing in them (MADV_POPULATE_WRITE, since Linux 5.14). The range begins and ends at a page.
pub fn populate(range: core::ops::Range<usize>) -> io::Result<()> {
    let start: *mut libc::c_void = core::ptr::without_provenance_mut(range.start);
    // SAFETY: nothing is read or written by it. Where the range is no longer mapped, or was mapped
    // by another owner meanwhile, it fails, or another owner's pages are there before they are used.
    let result = unsafe { libc::madvise(start, range.len(), libc::MADV_POPULATE_WRITE) };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// A resource that the node wants more of than most systems give by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Open files: sockets of all shards, rings, admin connections.
    OpenFiles,
    /// Locked memory: io_uring's rings and BPF maps on older kernels.
    LockedMemory,
}

/// Raises a limit as far as the process may: to `wanted` where it is privileged, else to the hard
/// limit. Returns the soft limit that holds afterwards.
pub fn raise_limit(resource: Resource, wanted: u64) -> io::Result<u64> {
    let which = match resource {
        Resource::OpenFiles => libc::RLIMIT_NOFILE,
        Resource::LockedMemory => libc::RLIMIT_MEMLOCK,
    };
    let mut held = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `held` is a valid rlimit to write to.
    if unsafe { libc::getrlimit(which, &mut held) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if held.rlim_cur >= wanted {
        return Ok(held.rlim_cur);
    }
    for hard in [held.rlim_max.max(wanted), held.rlim_max] {
        let raised = libc::rlimit {
            rlim_cur: hard.min(wanted),
            rlim_max: hard,
        };
        // SAFETY: `raised` is a valid rlimit to read from.
        if unsafe { libc::setrlimit(which, &raised) } == 0 {
            return Ok(raised.rlim_cur);
        }
    }
    Ok(held.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let [first, second] = random_words::<2>().expect("the kernel gives entropy");
        assert_ne!(first, second);
    }

    #[test]
    fn a_limit_is_never_lowered() {
        let before = raise_limit(Resource::OpenFiles, 0).expect("the limit can be read");
        let after = raise_limit(Resource::OpenFiles, 64).expect("the limit can be read");
        assert!(after >= before.min(64));
    }

    #[test]
    fn a_thread_that_works_takes_cpu_time() {
        let before = thread_cpu_time();
        while thread_cpu_time() == before {}
    }

    #[test]
    fn the_monotonic_clock_runs() {
        assert!(monotonic_us() > 0);
    }
}
