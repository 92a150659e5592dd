//! The wake-up: an eventfd that other threads write and the driver waits on.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use super::sys;
use crate::base::ring::Wake;

/// Ends the wait of one driver.
#[derive(Debug)]
pub(super) struct EventFd(File);

impl EventFd {
    /// A fresh one, not blocking.
    pub(super) fn new() -> io::Result<EventFd> {
        Ok(EventFd(File::from(sys::event_fd()?)))
    }

    /// Forgets all wake-ups so far; true when there was one.
    pub(super) fn clear(&self) -> bool {
        let mut count = [0; 8];
        (&self.0).read(&mut count).is_ok()
    }
}

impl Wake for EventFd {
    /// The only failure is a counter of 2^64 - 2, and such a counter wakes as well.
    fn wake(&self) {
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
