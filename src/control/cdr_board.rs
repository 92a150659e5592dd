//! How the writing of call detail records goes, for `status` and the metrics: the writer's thread puts
//! it here, the control threads read it.

use core::time::Duration;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::Instant;
use crate::cdr::Ring;

/// The writer is stuck in the kernel when it gave no sign of life for so long.
const STUCK: Duration = Duration::from_secs(10);

/// One file of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CdrFileState {
    pub path: PathBuf,
    pub format: &'static str,
    pub written: u64,
    /// Why nothing is written to it now.
    pub alarm: Option<String>,
}

/// What the writer says of itself.
#[derive(Debug, Default)]
pub struct CdrBoard {
    state: Mutex<State>,
    beat_us: AtomicU64,
    /// Times that a file could not be written.
    pub faults: AtomicU64,
    /// Places of the ring that did not outlive the host whole.
    pub damaged: AtomicU64,
    pub rotations: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<CdrFileState>,
    rings: Vec<Ring>,
}

impl CdrBoard {
    /// Shows the files as they are.
    pub fn show_files(&self, files: Vec<CdrFileState>) {
        self.state().files = files;
    }

    /// Shows the rings that are read.
    pub fn show_rings(&self, rings: Vec<Ring>) {
        self.state().rings = rings;
    }

    /// Shows that the writer lives.
    pub fn beat(&self, now: Instant) {
        self.beat_us.store(now.as_micros(), Ordering::Relaxed);
    }

    /// The files, in the order of the configuration; none = no records are made.
    pub fn files(&self) -> Vec<CdrFileState> {
        self.state().files.clone()
    }

    /// Records that wait for the slowest file.
    pub fn pending(&self) -> u64 {
        self.state().rings.iter().map(Ring::pending).sum()
    }

    /// Why records are not written: a file's own reason, or a writer that hangs in the kernel.
    pub fn alarm(&self, now: Instant) -> Option<String> {
        let state = self.state();
        let own = state
            .files
            .iter()
            .find_map(|file| Some(format!("{}: {}", file.path.display(), file.alarm.as_ref()?)));
        let beat = Instant::from_micros(self.beat_us.load(Ordering::Relaxed));
        let silent = now.since(beat);
        let is_stuck = !state.files.is_empty() && silent > STUCK;
        own.or_else(|| is_stuck.then(|| format!("the writer hangs for {} s", silent.as_secs())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
