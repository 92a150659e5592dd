//! The thread that takes call detail records from the rings and gives them to the files. It looks
//! every so often: a shard must not be held up by waking it.

use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use super::rings::{Left, Opened};
use super::sink::{Sink, Surroundings};
use crate::cdr::Ring;
use crate::config::{self, Config};
use crate::control::CdrBoard;
use crate::runtime::clock::Clock;

/// How long the writer sleeps, and how long when a ring was filling. Each look costs some system
/// calls, whatever it finds: with one each 50 ms they took as much as writing the lines at 1,000
/// calls/s.
const PAUSE: Duration = Duration::from_millis(100);
const TIGHT: Duration = Duration::from_millis(10);
/// A ring is filling when the records since the last look took this part of it.
const TIGHT_PART: u64 = 8;
/// Turns at the end: a file that does not take its records must not hold up the end.
const LAST_TURNS_MAX: usize = 100_000;

/// What the writer is told.
pub enum Command {
    Configure(Box<Settings>),
    Rotate,
}

/// What the writer works from.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node: String,
    /// Name of the configuration file.
    pub config: String,
    pub cdr: config::Cdr,
}

impl Settings {
    /// The part of a configuration that the writer needs.
    pub fn of(config: &Config) -> Settings {
        Settings {
            node: config.node.name.clone(),
            config: config.source_name.clone(),
            cdr: config.cdr.clone(),
        }
    }
}

/// A ring that is read, and its file where it goes once it is empty.
pub struct Source {
    pub ring: Ring,
    left: Option<PathBuf>,
}

/// What a look at the rings came to, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// There was nothing, or no file took it.
    Nothing,
    Written,
    /// A file that took its batch has as much before it again.
    Behind,
}

/// So many records wait for a file, and the next batch follows without a pause.
const BEHIND: u64 = 64;

/// What waits for the disk counts as written here.
fn behind(sink: &Sink, sources: &[Source]) -> bool {
    let mut sources = sources.iter().enumerate();
    sources.any(|(at, source)| source.ring.head() >= sink.next(at).saturating_add(BEHIND))
}

/// The writer's thread.
pub struct Writer {
    clock: Clock,
    sources: Vec<Source>,
    wall_start_us: Arc<AtomicU64>,
    board: Arc<CdrBoard>,
    settings: Option<Settings>,
    sinks: Vec<Sink>,
}

impl Writer {
    /// A writer without files yet.
    pub fn new(
        clock: Clock,
        opened: Opened,
        wall_start_us: Arc<AtomicU64>,
        board: Arc<CdrBoard>,
    ) -> Writer {
        let own = opened
            .rings
            .into_iter()
            .map(|ring| Source { ring, left: None });
        let left = opened.left.into_iter().map(|Left { ring, path }| Source {
            ring,
            left: Some(path),
        });
        Writer {
            clock,
            sources: own.chain(left).collect(),
            wall_start_us,
            board,
            settings: None,
            sinks: Vec::new(),
        }
    }

    /// Writes until the other end of the channel is gone, and what is left then.
    pub fn run(mut self, orders: &Receiver<Command>) {
        let mut wait = Duration::ZERO;
        loop {
            match orders.recv_timeout(wait) {
                Ok(Command::Configure(settings)) => self.configure(*settings),
                Ok(Command::Rotate) => self.sinks.iter_mut().for_each(Sink::want_rotation),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
            let was_tight = self.is_tight();
            wait = match self.turn(false) {
                Turn::Behind => Duration::ZERO,
                Turn::Written if was_tight => TIGHT,
                Turn::Nothing | Turn::Written => PAUSE,
            };
        }
    }

    /// Files that stay go on where they are; new ones begin with what the rings hold.
    fn configure(&mut self, settings: Settings) {
        let mut before = core::mem::take(&mut self.sinks);
        let tails = || self.sources.iter().map(|source| source.ring.tail());
        let mut sinks = Vec::new();
        for (at, wish) in settings.cdr.files.iter().enumerate() {
            let same = before.iter().position(|sink| sink.file() == wish);
            let sink = match same {
                Some(same) => before.swap_remove(same),
                None => {
                    // The file that had this place hands its position on: nothing comes twice.
                    let place = before.iter().find(|sink| sink.place == at);
                    let from = place.map_or_else(|| tails().collect(), Sink::positions);
                    Sink::new(at, wish.clone(), from)
                }
            };
            sinks.push(sink);
        }
        self.sinks = sinks;
        self.settings = Some(settings);
        self.show();
    }

    /// One look at the rings.
    fn turn(&mut self, is_last: bool) -> Turn {
        let now = self.clock.now();
        self.board.beat(now);
        let wall_start_us = self.clock.wall().start_us;
        self.wall_start_us.store(wall_start_us, Ordering::Relaxed);
        let Some(settings) = &self.settings else {
            return Turn::Nothing;
        };
        let around = Surroundings {
            now,
            wall_us: wall_start_us + now.as_micros(),
            settings,
            sources: &self.sources,
            board: &self.board,
            is_last,
        };
        let mut turn = Turn::Nothing;
        for sink in &mut self.sinks {
            // One that cannot write has time until it is tried again.
            if sink.turn(&around) {
                let behind = behind(sink, &self.sources);
                turn = turn.max(if behind { Turn::Behind } else { Turn::Written });
            }
        }
        self.advance();
        self.show();
        turn
    }

    fn is_tight(&self) -> bool {
        let mut rings = self.sources.iter().map(|source| &source.ring);
        rings.any(|ring| ring.pending() > ring.slots() as u64 / TIGHT_PART)
    }

    /// Gives the places back whose records all files have.
    fn advance(&mut self) {
        for (at, source) in self.sources.iter_mut().enumerate() {
            let safe = self.sinks.iter().map(|sink| sink.safe(at)).min();
            if let Some(safe) = safe.filter(|safe| *safe > source.ring.tail()) {
                source.ring.advance(safe);
            }
            if source.left.is_some() && source.ring.pending() == 0 {
                let path = source.left.take();
                let removed = path.map(std::fs::remove_file);
                if let Some(Err(fault)) = removed {
                    tracing::warn!(%fault, "an empty ring of call detail records was not removed");
                }
            }
        }
    }

    fn show(&self) {
        self.board
            .show_files(self.sinks.iter().map(Sink::state).collect());
    }

    /// The last turns: without a pause, as long as it goes on.
    fn finish(mut self) {
        for _ in 0..LAST_TURNS_MAX {
            if self.turn(true) == Turn::Nothing {
                break;
            }
        }
        let left: u64 = self
            .sources
            .iter()
            .map(|source| source.ring.pending())
            .sum();
        if left > 0 {
            tracing::error!(
                records = left,
                "call detail records are left unwritten; with `state_dir` the next start writes them"
            );
        }
    }
}
