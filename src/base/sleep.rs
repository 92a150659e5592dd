//! Whether the reader of a queue sleeps: no writer may leave it asleep over something unread, and
//! none should wake it for nothing, since that is a system call.

use super::atomics::{AtomicBool, Ordering, fence};

/// Kept beside a queue with one reader and many writers.
#[derive(Debug)]
pub struct Sleep {
    asleep: AtomicBool,
}

impl Default for Sleep {
    /// Awake.
    fn default() -> Sleep {
        Sleep {
            asleep: AtomicBool::new(false),
        }
    }
}

impl Sleep {
    /// A writer has put something into the queue; `true` when it must wake the reader.
    pub fn needs_waking(&self) -> bool {
        // The fence pairs with the one in `fall_asleep`: either this sees the reader asleep, or the
        // reader's last look at the queue sees what was put there.
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed)
    }

    /// The reader is about to wait; `false` when `is_empty` says that it must not.
    pub fn fall_asleep(&self, is_empty: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let may_sleep = is_empty();
        if !may_sleep {
            self.asleep.store(false, Ordering::Relaxed);
        }
        may_sleep
    }

    /// The reader is running again.
    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}
