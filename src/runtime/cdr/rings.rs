//! The rings of a node: files under `state_dir`, so that records outlive a crash, or plain memory.
//! A file that does not fit the node at work is set aside until all its records are written.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cdr::{Ring, RingFault};
use crate::runtime::state::{Mapping, SharedMapping};

/// The rings of a node that starts.
pub struct Opened {
    /// By shard.
    pub rings: Vec<Ring>,
    /// Of shards that are no more, or of another size.
    pub left: Vec<Left>,
}

/// A ring that is emptied and then removed.
pub struct Left {
    pub ring: Ring,
    pub path: PathBuf,
}

/// Rings that end with the process.
pub fn in_memory(shards: usize, slots: usize) -> Opened {
    Opened {
        rings: (0..shards).map(|_| Ring::in_memory(slots)).collect(),
        left: Vec::new(),
    }
}

/// Rings under the state directory, with what is still in them.
pub fn in_files(state_dir: &Path, shards: usize, slots: usize) -> Result<Opened, String> {
    let directory = state_dir.join("cdr");
    let fault = |why: io::Error| {
        format!(
            "`state_dir` {}: {why}: {} MiB are needed for the rings of [cdr]",
            directory.display(),
            (Ring::octets(slots) * shards).div_ceil(1 << 20)
        )
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(fault)?;
    let mut rings = Vec::new();
    for shard in 0..shards {
        let path = directory.join(name_of(shard));
        let ring = match take_over(&path, slots).map_err(fault)? {
            Some(ring) => ring,
            None => make(&path, slots).map_err(fault)?,
        };
        rings.push(ring);
    }
    let left = left_over(&directory, shards).map_err(fault)?;
    let waiting: u64 = rings
        .iter()
        .chain(left.iter().map(|left| &left.ring))
        .map(Ring::pending)
        .sum();
    if waiting > 0 {
        tracing::info!(
            records = waiting,
            "call detail records of before are written now"
        );
    }
    Ok(Opened { rings, left })
}

fn name_of(shard: usize) -> String {
    format!("shard-{shard}.ring")
}

/// The ring of a file that has this size; any other is set aside.
fn take_over(path: &Path, slots: usize) -> io::Result<Option<Ring>> {
    match open(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
        Ok(Ok(ring)) if ring.slots() == slots => Ok(Some(ring)),
        Ok(Ok(ring)) if ring.pending() == 0 => fs::remove_file(path).map(|()| None),
        Ok(Ok(_)) => set_aside(path, "left").map(|_| None),
        Ok(Err(fault)) => {
            let kept = set_aside(path, "unread")?;
            tracing::error!(
                ?fault,
                kept = %kept.display(),
                "a ring of call detail records cannot be read: what was in it is lost"
            );
            Ok(None)
        }
    }
}

fn open(path: &Path) -> io::Result<Result<Ring, RingFault>> {
    let mapping = Mapping::open(path)?;
    Ok(Ring::open(Arc::new(SharedMapping::of(mapping))))
}

fn make(path: &Path, slots: usize) -> io::Result<Ring> {
    let mapping = Mapping::create(path, Ring::octets(slots))?;
    Ok(Ring::create(Arc::new(SharedMapping::of(mapping))))
}

/// Gives a file a name of its own that no other has.
fn set_aside(path: &Path, why: &str) -> io::Result<PathBuf> {
    for number in 1..=u32::MAX {
        let aside = path.with_extension(format!("{number}.{why}"));
        if !aside.exists() {
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Rings of shards that are no more, and those that were set aside for their size.
fn left_over(directory: &Path, shards: usize) -> io::Result<Vec<Left>> {
    let mut left = Vec::new();
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_ours = (0..shards).any(|shard| name == name_of(shard));
        let is_ring = name.ends_with(".ring") || name.ends_with(".left");
        if is_ours || !is_ring {
            continue;
        }
        match open(&path)? {
            Ok(ring) => left.push(Left { ring, path }),
            Err(fault) => {
                let kept = set_aside(&path, "unread")?;
                tracing::error!(
                    ?fault,
                    kept = %kept.display(),
                    "a ring of call detail records cannot be read: what was in it is lost"
                );
            }
        }
    }
    Ok(left)
}
