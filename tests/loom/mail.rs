//! The sleep of a shard over its inbox: mail is read, or its sender wakes the reader.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::base::sleep::Sleep;

/// Claims about waking.
pub const CHECKS: &[(&str, fn())] = &[
    ("no_shard_sleeps_over_its_mail", one_writer),
    ("no_shard_sleeps_over_the_mail_of_two", two_writers),
    ("a_shard_that_is_awake_is_not_woken", awake),
];

/// An inbox of which only the length matters. Its count is relaxed, where the library's ring is
/// stronger: what holds here holds there.
#[derive(Default)]
struct Inbox {
    length: AtomicUsize,
    wakes: AtomicUsize,
    sleep: Sleep,
}

impl Inbox {
    fn post(&self) {
        self.length.fetch_add(1, Ordering::Relaxed);
        if self.sleep.needs_waking() {
            self.wakes.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn fall_asleep(&self) -> bool {
        let is_empty = || self.length.load(Ordering::Relaxed) == 0;
        self.sleep.fall_asleep(is_empty)
    }
}

fn check(writers: usize) {
    let inbox = Arc::new(Inbox::default());
    let post = |inbox: &Arc<Inbox>| {
        let inbox = Arc::clone(inbox);
        thread::spawn(move || inbox.post())
    };
    let writers: Vec<_> = (0..writers).map(|_| post(&inbox)).collect();
    let sleeps = inbox.fall_asleep();
    for writer in writers {
        writer.join().expect("no panic");
    }
    let wakes = inbox.wakes.load(Ordering::Relaxed);
    assert!(!sleeps || wakes > 0, "asleep over unread mail");
}

fn one_writer() {
    check(1);
}

fn two_writers() {
    check(2);
}

fn awake() {
    let inbox = Arc::new(Inbox::default());
    assert!(inbox.fall_asleep());
    inbox.sleep.wake_up();
    let other = Arc::clone(&inbox);
    let writer = thread::spawn(move || other.post());
    writer.join().expect("no panic");
    assert_eq!(inbox.wakes.load(Ordering::Relaxed), 0);
    assert!(!inbox.fall_asleep(), "mail came in");
}
