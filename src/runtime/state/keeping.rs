//! The state directory of a node that runs: none where the configuration names none.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use super::files::Layout;
use super::{Flushing, Mapping, Prepared, StateDir};
use crate::base::Instant;
use crate::base::hash::HashKey;
use crate::config;
use crate::dialog::store::Wall;
use crate::route::SlotBook;
use crate::route::slots::SlotKind;
use crate::runtime::clock::Clock;
use crate::runtime::os;
use crate::shard::Shard;
use crate::shard::plan::Capacity;

/// The state directory of the node at work, held until the node ends.
pub struct Keeping {
    directory: Option<StateDir>,
    flush_every: Option<std::time::Duration>,
}

impl Keeping {
    /// Takes the configured directory for this process alone.
    pub fn open(node: &config::Node) -> Result<Keeping, String> {
        let directory = node.state_dir.as_deref().map(StateDir::open).transpose()?;
        Ok(Keeping {
            directory,
            flush_every: node.state_flush,
        })
    }

    /// The directory of a process that gives it over with its lock.
    pub fn inherit(node: &config::Node, lock: Option<File>) -> Keeping {
        let path = node.state_dir.as_deref();
        Keeping {
            directory: path
                .zip(lock)
                .map(|(path, lock)| StateDir::inherit(path, lock)),
            flush_every: node.state_flush,
        }
    }

    /// A copy of the directory's lock.
    pub fn lock(&self) -> Result<Option<OwnedFd>, String> {
        let lock = self.directory.as_ref().map(StateDir::lock).transpose();
        let lock = lock.map_err(|fault| format!("`state_dir`: lock: {fault}"))?;
        Ok(lock.map(OwnedFd::from))
    }

    /// The files as the process before this one has left them.
    pub fn reopen(
        &self,
        clock: &Clock,
        key: &HashKey,
        dialogs_each: usize,
        shards: usize,
    ) -> Result<Option<Records>, String> {
        let Some(directory) = &self.directory else {
            return Ok(None);
        };
        let layout = Layout {
            shards,
            dialogs_each,
        };
        let prepared = directory.reopen(key, layout)?;
        Ok(Some(Records::of(clock, prepared)))
    }

    /// The node's key: the one that is kept, else a new one.
    pub fn key(&self) -> Result<HashKey, String> {
        match &self.directory {
            Some(directory) => directory.key(),
            None => os::random_words::<2>()
                .map(HashKey::new)
                .map_err(|fault| format!("no entropy: {fault}")),
        }
    }

    /// Makes the files of all shards; the capacity that comes back holds all calls that go on.
    pub fn prepare(
        &self,
        clock: &Clock,
        key: &HashKey,
        capacity: Capacity,
        shards: usize,
    ) -> Result<(Capacity, Option<Records>), String> {
        let Some(directory) = &self.directory else {
            return Ok((capacity, None));
        };
        let layout = Layout {
            shards,
            dialogs_each: capacity.dialogs,
        };
        let prepared = directory.prepare(key, layout)?;
        for (is_bad, line) in &prepared.lines {
            match is_bad {
                true => tracing::error!("state: {line}"),
                false => tracing::info!("state: {line}"),
            }
        }
        tracing::info!(
            calls = prepared.calls,
            being_set_up = prepared.setups,
            "state: calls that go on"
        );
        let capacity = Capacity {
            dialogs: prepared.dialogs_each,
            ..capacity
        };
        Ok((capacity, Some(Records::of(clock, prepared))))
    }

    /// Starts to bring the files to the disk, where that is configured.
    pub fn flush(&self, records: Option<&Records>) -> Result<Option<Flushing>, String> {
        match (records, self.flush_every) {
            (Some(records), Some(every)) if !records.are_in_memory() => {
                Flushing::start(&records.files, every)
                    .map(Some)
                    .map_err(|fault| format!("`state_flush`: {fault}"))
            }
            (Some(_) | None, _) => Ok(None),
        }
    }
}

/// The files of the shards at work.
pub struct Records {
    wall: Wall,
    /// By shard.
    files: Vec<PathBuf>,
    /// Names of the trunks that calls went over when the node started.
    trunks: Vec<String>,
    /// Files in memory, which are read once: what a shard changes later is not in them.
    memory: Vec<OwnedFd>,
}

impl Records {
    fn of(clock: &Clock, prepared: Prepared) -> Records {
        Records {
            wall: clock.wall(),
            files: prepared.files,
            trunks: prepared.trunks.into_iter().collect(),
            memory: Vec::new(),
        }
    }

    /// What shards have left in memory.
    pub fn in_memory(clock: &Clock, memory: Vec<OwnedFd>) -> Records {
        let path = |fd: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        Records {
            wall: clock.wall(),
            files: memory.iter().map(path).collect(),
            trunks: Vec::new(),
            memory,
        }
    }

    /// Whether they are read once.
    pub fn are_in_memory(&self) -> bool {
        !self.memory.is_empty()
    }

    /// Gives slots to trunks that the configuration has lost and calls still go over.
    pub fn learn_trunks(&self, names: &mut SlotBook) {
        for name in &self.trunks {
            if names.find(SlotKind::Trunk, name).is_some() {
                continue;
            }
            match names.assign(SlotKind::Trunk, name) {
                Ok(_) => tracing::warn!(
                    trunk = name,
                    "state: calls go over a trunk that is not configured; they go on until they end"
                ),
                Err(full) => tracing::error!(
                    trunk = name,
                    "state: its calls are not counted in the limits: {full}"
                ),
            }
        }
    }

    /// Gives a new shard the calls that are in its file, and the file.
    pub fn hand_to(
        &self,
        shard: &mut Shard,
        number: usize,
        now: Instant,
        names: &SlotBook,
    ) -> Result<(), String> {
        let path = self.files.get(number).ok_or("it has no file")?;
        let mapping =
            Mapping::open(path).map_err(|fault| format!("{}: {fault}", path.display()))?;
        let slot_of = |name: &str| names.find(SlotKind::Trunk, name);
        let recalled = shard.keep_calls_in(now, Box::new(mapping), self.wall, &slot_of);
        let calls = (recalled.tally.calls + recalled.tally.setups) - recalled.refused;
        if recalled.refused > 0 || recalled.tally.damaged > 0 {
            tracing::error!(
                shard = number,
                refused = recalled.refused,
                damaged = recalled.tally.damaged,
                "state: calls are lost"
            );
        }
        if calls > 0 {
            tracing::info!(shard = number, calls, "state: calls restored");
        }
        if self.are_in_memory() {
            drop(shard.leave_records());
        }
        Ok(())
    }
}
