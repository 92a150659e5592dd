//! The state directory: what of a node outlives its process.
//!
//! `lock` keeps a second node out, `secret` is the key that decides owners and proves Record-Routes,
//! `dialogs-N/` holds one file per shard. A set of files that does not fit the node at work (another
//! number of shards, another size, damage) is written anew as `dialogs-N+1` and takes effect by one
//! rename; what could not be read is kept as `set-aside-N`.

mod command;
mod files;
mod flush;
mod keeping;
mod mapping;
mod memory;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use command::{Order, carry_out};
pub use flush::Flushing;
pub use keeping::{Keeping, Records};
pub use mapping::{Mapping, SharedMapping};
pub use memory::keep_in_memory;

use super::os;
use crate::base::hash::HashKey;
use crate::dialog::store::{Found, FoundSetup, Head, Record, Region, Store, Taken, positions};
use crate::shard::rehashed;
use files::{Epoch, Layout, Share, Survey};

/// A killed process holds its lock until the kernel has taken it apart.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_EVERY: Duration = Duration::from_millis(10);

/// A state directory that belongs to this process.
pub struct StateDir {
    path: PathBuf,
    /// Held for its lock, which ends with it and all its copies.
    lock: File,
}

/// The files of a node at work.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// By shard.
    pub files: Vec<PathBuf>,
    /// Calls that a shard must have room for: the configured number, or more where more are there.
    pub dialogs_each: usize,
    /// Names of all trunks that the calls go over.
    pub trunks: BTreeSet<String>,
    pub calls: usize,
    pub setups: usize,
    /// What the log should say, and whether it is bad news.
    pub lines: Vec<(bool, String)>,
}

impl StateDir {
    /// Makes the directory where it is missing, and locks it.
    pub fn open(path: &Path) -> Result<StateDir, String> {
        let fault = |what: &str, fault: io::Error| {
            format!("`state_dir` {}: {what}: {fault}", path.display())
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|why| fault("not made", why))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(|why| fault("lock", why))?;
        if !take_lock(&lock) {
            return Err(format!(
                "`state_dir` {} is in use by another node{}",
                path.display(),
                holder(&mut lock)
            ));
        }
        note_holder(&mut lock).map_err(|why| fault("lock", why))?;
        Ok(StateDir {
            path: path.to_owned(),
            lock,
        })
    }

    /// The directory of a process that gave its lock.
    pub fn inherit(path: &Path, mut lock: File) -> StateDir {
        // It is read by people only.
        let _not_noted = note_holder(&mut lock);
        StateDir {
            path: path.to_owned(),
            lock,
        }
    }

    /// A copy of the lock, for a process that takes the directory over.
    pub fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// The files as another process has just left them; a fault where they do not fit this one.
    pub fn reopen(&self, key: &HashKey, layout: Layout) -> Result<Prepared, String> {
        let fault = |why: io::Error| format!("`state_dir` {}: {why}", self.path.display());
        let epoch = files::newest(&self.path).map_err(fault)?;
        let epoch = epoch.ok_or_else(|| fault(io::ErrorKind::NotFound.into()))?;
        let survey = Survey::of(&epoch, key).map_err(fault)?;
        if !survey.fits(&layout, key) {
            return Err(format!(
                "`state_dir` {}: its records do not fit this node: they need a restart",
                self.path.display()
            ));
        }
        let tally = survey.tally();
        Ok(Prepared {
            files: epoch.files(layout.shards),
            dialogs_each: layout.dialogs_each,
            trunks: survey.trunks(),
            calls: tally.calls,
            setups: tally.setups,
            lines: survey.lines(Some(&epoch)),
        })
    }

    /// The key of this node, the same at each start. One that cannot be read is replaced; calls are
    /// then known by their words.
    pub fn key(&self) -> Result<HashKey, String> {
        let path = self.path.join("secret");
        let fault = |why: io::Error| format!("{}: {why}", path.display());
        match fs::read_to_string(&path) {
            Ok(text) => {
                if let Some(key) = key_of(&text) {
                    keep_secret(&path).map_err(fault)?;
                    return Ok(key);
                }
                tracing::error!(path = %path.display(), "the secret is damaged: a new one is made");
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) if why.kind() == io::ErrorKind::InvalidData => {
                tracing::error!(path = %path.display(), "the secret is damaged: a new one is made");
            }
            Err(why) => return Err(fault(why)),
        }
        let words = os::random_words::<2>().map_err(|why| format!("no entropy: {why}"))?;
        self.write_secret(&path, words).map_err(fault)?;
        Ok(HashKey::new(words))
    }

    fn write_secret(&self, path: &Path, words: [u64; 2]) -> io::Result<()> {
        let new = self.path.join("secret.new");
        let _left_over = fs::remove_file(&new);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        writeln!(file, "{:016x}{:016x}", words[0], words[1])?;
        file.sync_all()?;
        fs::rename(&new, path)
    }

    /// Makes the files for a node with this many shards, with all calls that can be read.
    pub fn prepare(&self, key: &HashKey, layout: Layout) -> Result<Prepared, String> {
        let fault = |why: io::Error| format!("`state_dir` {}: {why}", self.path.display());
        let found = files::newest(&self.path).map_err(fault)?;
        let survey = match &found {
            Some(epoch) => Survey::of(epoch, key).map_err(fault)?,
            None => Survey::default(),
        };
        let mut lines = survey.lines(found.as_ref());
        let shares = survey.shares(key, layout.shards);
        let most = shares
            .iter()
            .map(|share| share.calls.len())
            .max()
            .unwrap_or(0);
        let dialogs_each = layout.dialogs_each.max(most);
        if dialogs_each > layout.dialogs_each {
            let line = format!(
                "a shard takes over {most} calls, more than the {} of [capacity]: its tables are larger",
                layout.dialogs_each
            );
            lines.push((true, line));
        }
        let layout = Layout {
            dialogs_each,
            ..layout
        };
        let room = Head::new(dialogs_each, key).setups as usize;
        let left_over = shares
            .iter()
            .map(|share| share.setups.len().saturating_sub(room));
        let left_over: usize = left_over.sum();
        if left_over > 0 {
            let line = format!("{left_over} calls that were being set up have no room");
            lines.push((true, line));
        }
        let files = match &found {
            Some(epoch) if survey.fits(&layout, key) => epoch.files(layout.shards),
            Some(epoch) => {
                let next = self.write_set(epoch.number + 1, key, &layout, &shares)?;
                self.retire(epoch, &survey, &mut lines).map_err(fault)?;
                next
            }
            None => self.write_set(1, key, &layout, &shares)?,
        };
        Ok(Prepared {
            files,
            dialogs_each,
            trunks: survey.trunks(),
            calls: shares.iter().map(|share| share.calls.len()).sum(),
            setups: shares.iter().map(|share| share.setups.len()).sum(),
            lines,
        })
    }

    /// Writes a whole set of files beside the one that counts, and puts it into effect.
    fn write_set(
        &self,
        number: u64,
        key: &HashKey,
        layout: &Layout,
        shares: &[Share<'_>],
    ) -> Result<Vec<PathBuf>, String> {
        let epoch = Epoch::new(&self.path, number);
        let draft = epoch.path.with_extension("new");
        let fault = |why: io::Error| {
            let room = Head::new(layout.dialogs_each, key).octets() * layout.shards;
            format!(
                "`state_dir` {}: {why}: {} MiB are needed for the calls of [capacity]; \
                 make room, lower `dialogs`, or leave `state_dir` out",
                self.path.display(),
                room.div_ceil(1 << 20)
            )
        };
        let _left_over = fs::remove_dir_all(&draft);
        DirBuilder::new()
            .mode(0o700)
            .create(&draft)
            .map_err(fault)?;
        for (shard, share) in shares.iter().enumerate() {
            let path = draft.join(files::name_of(shard));
            write_file(&path, key, layout.dialogs_each, share).map_err(fault)?;
        }
        fs::rename(&draft, &epoch.path).map_err(fault)?;
        File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(fault)?;
        Ok(epoch.files(layout.shards))
    }

    /// Removes a set that was taken over, or keeps it where something in it was not.
    fn retire(
        &self,
        epoch: &Epoch,
        survey: &Survey,
        lines: &mut Vec<(bool, String)>,
    ) -> io::Result<()> {
        if survey.is_whole() {
            return fs::remove_dir_all(&epoch.path);
        }
        let aside = self.path.join(format!("set-aside-{}", epoch.number));
        let _earlier_one = fs::remove_dir_all(&aside);
        fs::rename(&epoch.path, &aside)?;
        lines.push((
            true,
            format!("what could not be read is kept in {}", aside.display()),
        ));
        Ok(())
    }
}

fn write_file(path: &Path, key: &HashKey, positions: usize, share: &Share<'_>) -> io::Result<()> {
    let head = Head::new(positions, key);
    let mut mapping = Mapping::create(path, head.octets())?;
    head.write(mapping.octets_mut());
    let (mut store, _) = Store::open(Box::new(mapping), |_, _| true);
    let _none_yet = store.open_setups(|_, _| Taken::Yes);
    for call in &share.calls {
        // There is a position for each: the file was made for at least so many.
        let _written = store.write(None, call);
    }
    for call in &share.setups {
        // What has no room was told of.
        let _written = store.write_setup(None, call);
    }
    drop(store);
    // Also what was written through the mapping: both are pages of the file.
    File::open(path)?.sync_all()
}

fn take_lock(lock: &File) -> bool {
    let rounds = LOCK_PATIENCE.as_millis() / LOCK_EVERY.as_millis();
    for round in 0..=rounds {
        if lock.try_lock().is_ok() {
            return true;
        }
        if round < rounds {
            std::thread::sleep(LOCK_EVERY);
        }
    }
    false
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    match lock.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!(" (process {})", text.trim()),
        Ok(_) | Err(_) => String::new(),
    }
}

fn note_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn key_of(text: &str) -> Option<HashKey> {
    let digits = text.trim();
    if digits.len() != 32 || !digits.is_ascii() {
        return None;
    }
    let word = |at: usize| u64::from_str_radix(&digits[at..at + 16], 16).ok();
    Some(HashKey::new([word(0)?, word(16)?]))
}

/// Whoever can read the secret can make up Record-Routes and choose which shard a call falls on.
fn keep_secret(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others could read the secret: its mode is 0600 again");
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    Ok(())
}
