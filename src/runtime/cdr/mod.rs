//! Call detail records on their way from the shards to files: the rings, the thread that writes, and
//! what a reload or an operator may change of it.

mod calendar;
mod rings;
mod sink;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::clock::Clock;
use crate::cdr::Ring;
use crate::config::{self, Config};
use crate::control::CdrBoard;
use crate::shard::Accounting;
use writer::{Command, Settings, Writer};

/// Call detail records of a running node.
pub struct Cdrs {
    clock: Clock,
    shards: usize,
    /// Where the rings outlive the process.
    state_dir: Option<PathBuf>,
    start_id: u64,
    wall_start_us: Arc<AtomicU64>,
    board: Arc<CdrBoard>,
    works: Mutex<Works>,
}

/// What exists once records are made.
#[derive(Default)]
struct Works {
    /// By shard.
    rings: Vec<Ring>,
    unknown_sources: bool,
    is_on: bool,
    writer: Option<(Sender<Command>, JoinHandle<()>)>,
    /// What it follows, to go on after a standstill.
    config: Option<Box<Config>>,
}

impl Cdrs {
    /// Nothing is open before [`Cdrs::configure`].
    pub fn new(config: &Config, clock: Clock, shards: usize, board: Arc<CdrBoard>) -> Cdrs {
        let wall_start_us = clock.wall().start_us;
        Cdrs {
            clock,
            shards,
            state_dir: config.node.state_dir.clone(),
            start_id: wall_start_us,
            wall_start_us: Arc::new(AtomicU64::new(wall_start_us)),
            board,
            works: Mutex::default(),
        }
    }

    /// Follows a configuration: writes where it names a file. Shards must be told by
    /// [`Cdrs::accounting`] afterwards. A file that cannot be written is an alarm, not a reason to
    /// fail; rings that cannot be made are one.
    pub fn configure(&self, config: &Config) -> Result<(), String> {
        let mut works = self.works();
        works.config = Some(Box::new(config.clone()));
        works.is_on = !config.cdr.files.is_empty();
        works.unknown_sources = config.cdr.unknown_sources;
        if works.is_on && works.writer.is_none() {
            self.open(&mut works, &config.cdr)?;
        }
        if let Some((commands, _)) = &works.writer {
            let settings = Settings::of(config);
            // A writer that is gone has said so in the log.
            let _gone = commands.send(Command::Configure(Box::new(settings)));
        }
        Ok(())
    }

    fn open(&self, works: &mut Works, cdr: &config::Cdr) -> Result<(), String> {
        let opened = match &self.state_dir {
            Some(directory) => rings::in_files(directory, self.shards, cdr.ring)?,
            None => rings::in_memory(self.shards, cdr.ring),
        };
        works.rings = opened.rings.clone();
        let mut shown = opened.rings.clone();
        shown.extend(opened.left.iter().map(|left| left.ring.clone()));
        self.board.show_rings(shown);
        let writer = Writer::new(
            self.clock,
            opened,
            Arc::clone(&self.wall_start_us),
            Arc::clone(&self.board),
        );
        let (commands, orders) = channel();
        let thread = std::thread::Builder::new()
            .name("cdr-writer".to_owned())
            .spawn(move || writer.run(&orders))
            .map_err(|fault| format!("no thread for call detail records: {fault}"))?;
        works.writer = Some((commands, thread));
        Ok(())
    }

    /// What a shard needs to make records; `None` = it makes none.
    pub fn accounting(&self, shard: usize) -> Option<Accounting> {
        let works = self.works();
        let ring = works.rings.get(shard).filter(|_| works.is_on)?;
        Some(Accounting {
            ring: ring.clone(),
            wall_start_us: Arc::clone(&self.wall_start_us),
            start_id: self.start_id,
            strangers: works.unknown_sources,
        })
    }

    /// Puts the present files aside and begins new ones; `false` = no records are made.
    pub fn rotate(&self) -> bool {
        let works = self.works();
        let Some((commands, _)) = works.writer.as_ref().filter(|_| works.is_on) else {
            return false;
        };
        commands.send(Command::Rotate).is_ok()
    }

    /// Writes what is left and ends; what a file does not take stays in the rings. Shards must have
    /// ended.
    pub fn stop(&self) {
        let writer = self.works().writer.take();
        if let Some((commands, thread)) = writer {
            drop(commands);
            let _it_says_so_itself = thread.join();
        }
    }

    /// Goes on after [`Cdrs::stop`], with what the rings hold by now.
    pub fn go_on(&self) -> Result<(), String> {
        let config = self.works().config.clone();
        config.map_or(Ok(()), |config| self.configure(&config))
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cdrs {
    fn drop(&mut self) {
        self.stop();
    }
}
