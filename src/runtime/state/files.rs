//! Sets of dialog files: which one counts, what is in it, and whether it fits the node at work.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Found, FoundSetup, Head, Mapping, Record, Region, positions, rehashed};
use crate::base::hash::HashKey;
use crate::dialog::store::{HeadFault, SetupRecord, Tally, setups};
use crate::net::owner_of_hash;

const SET: &str = "dialogs-";

/// What a node needs of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub shards: usize,
    pub dialogs_each: usize,
}

/// One set of dialog files; the one with the highest number counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    pub number: u64,
    pub path: PathBuf,
}

impl Epoch {
    /// The set with this number.
    pub fn new(directory: &Path, number: u64) -> Epoch {
        Epoch {
            number,
            path: directory.join(format!("{SET}{number}")),
        }
    }

    /// The files of so many shards.
    pub fn files(&self, shards: usize) -> Vec<PathBuf> {
        (0..shards)
            .map(|shard| self.path.join(name_of(shard)))
            .collect()
    }
}

/// The file name of a shard.
pub fn name_of(shard: usize) -> String {
    format!("shard-{shard}.slab")
}

/// All sets of a directory, lowest number first. Drafts are none.
pub fn all(directory: &Path) -> io::Result<Vec<Epoch>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(why) => return Err(why),
    };
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(SET));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            found.push(Epoch::new(directory, number));
        }
    }
    found.sort_by_key(|epoch| epoch.number);
    Ok(found)
}

/// The set that counts. Lower ones are left over from a start that was cut off after it had put
/// the next one into effect, and go.
pub fn newest(directory: &Path) -> io::Result<Option<Epoch>> {
    let mut found = all(directory)?;
    let newest = found.pop();
    for left_over in found {
        fs::remove_dir_all(left_over.path)?;
    }
    Ok(newest)
}

/// The calls of one shard.
#[derive(Clone, Default)]
pub struct Share<'a> {
    pub calls: Vec<Record<'a>>,
    pub setups: Vec<SetupRecord<'a>>,
}

/// One file as it was found.
pub struct FileFound {
    pub path: PathBuf,
    pub head: Result<Head, HeadFault>,
    /// Octets that the head promises and the file does not have.
    pub missing: usize,
    pub tally: Tally,
    /// Whether its records must be hashed again.
    is_of_other_key: bool,
    mapping: Mapping,
}

/// What is in a set.
#[derive(Default)]
pub struct Survey {
    pub files: Vec<FileFound>,
}

impl Survey {
    /// Reads all files of a set.
    pub fn of(epoch: &Epoch, key: &HashKey) -> io::Result<Survey> {
        let mut paths: Vec<PathBuf> = fs::read_dir(&epoch.path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|is| is == "slab"));
        paths.sort();
        let files = paths.into_iter().map(|path| FileFound::read(path, key));
        Ok(Survey {
            files: files.collect::<io::Result<_>>()?,
        })
    }

    /// Counts over all files.
    pub fn tally(&self) -> Tally {
        self.files
            .iter()
            .fold(Tally::default(), |sum, file| sum.plus(file.tally))
    }

    /// Whether everything could be read.
    pub fn is_whole(&self) -> bool {
        self.tally().damaged == 0
            && self
                .files
                .iter()
                .all(|file| file.head.is_ok() && file.missing == 0)
    }

    /// Whether a node of this layout can go on in these very files.
    pub fn fits(&self, layout: &Layout, key: &HashKey) -> bool {
        let has_size = |file: &FileFound| {
            !file.is_of_other_key
                && file
                    .head
                    .is_ok_and(|head| head == Head::new(layout.dialogs_each, key))
        };
        let wanted = (0..layout.shards).map(name_of).collect::<BTreeSet<_>>();
        let names = self.files.iter().filter_map(|file| file.path.file_name());
        let names: BTreeSet<String> = names
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        self.is_whole() && names == wanted && self.files.iter().all(has_size)
    }

    /// All calls that can be read, hashed under `key`.
    pub fn calls(&self, key: &HashKey) -> impl Iterator<Item = Record<'_>> {
        self.files
            .iter()
            .flat_map(|file| file.records())
            .filter_map(move |(record, is_of_other_key)| match is_of_other_key {
                true => rehashed(&record, key),
                false => Some(record),
            })
    }

    /// All calls being set up that a shard under the same key can go on with: under another one it
    /// would not know the answers.
    pub fn setups(&self) -> impl Iterator<Item = SetupRecord<'_>> {
        let files = self.files.iter().filter(|file| !file.is_of_other_key());
        files.flat_map(|file| file.setups())
    }

    /// The calls by the shard that owns them.
    pub fn shares(&self, key: &HashKey, shards: usize) -> Vec<Share<'_>> {
        let mut shares: Vec<Share<'_>> = (0..shards).map(|_| Share::default()).collect();
        let owner = |hash: u64| usize::from(owner_of_hash(hash, shards as u16));
        for record in self.calls(key) {
            shares[owner(record.owner)].calls.push(record);
        }
        for record in self.setups() {
            shares[owner(record.owner)].setups.push(record);
        }
        shares
    }

    /// Names of the trunks that calls go over.
    pub fn trunks(&self) -> BTreeSet<String> {
        let records = self.files.iter().flat_map(|file| file.records());
        let answered = records.flat_map(|(record, _)| [record.trunk_in, record.trunk_out]);
        let setups = self.files.iter().flat_map(|file| file.setups());
        answered
            .chain(setups.flat_map(|record| [record.trunk_in, record.trunk_out]))
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    /// What a person should know; `true` = bad news.
    pub fn lines(&self, epoch: Option<&Epoch>) -> Vec<(bool, String)> {
        let mut lines = Vec::new();
        if epoch.is_none() {
            return lines;
        }
        for file in &self.files {
            lines.extend(file.faults().into_iter().map(|line| (true, line)));
        }
        let tally = self.tally();
        if tally.earlier > 0 {
            let line = format!(
                "{} calls are as they were before a write that was cut off",
                tally.earlier
            );
            lines.push((false, line));
        }
        if tally.unfinished > 0 {
            let line = format!(
                "{} first records of calls were cut off, before anything was passed on",
                tally.unfinished
            );
            lines.push((false, line));
        }
        lines
    }
}

impl FileFound {
    fn read(path: PathBuf, key: &HashKey) -> io::Result<FileFound> {
        let mapping = Mapping::open_to_read(&path)?;
        let head = Head::read(mapping.octets());
        let mut tally = Tally::default();
        if !matches!(head, Err(HeadFault::Version(_))) {
            positions(mapping.octets()).for_each(|found| tally.count(&found));
            setups(mapping.octets()).for_each(|found| tally.count_setup(&found));
        }
        let ours = Head::new(0, key).key_print;
        Ok(FileFound {
            missing: head.map_or(0, |head| {
                head.octets().saturating_sub(mapping.octets().len())
            }),
            // A damaged head does not say; what was hashed under our key comes out the same again.
            is_of_other_key: head.map_or(true, |head| head.key_print != ours),
            path,
            head,
            tally,
            mapping,
        })
    }

    /// Nothing where another version of the program wrote it.
    fn readable(&self) -> &[u8] {
        match self.head {
            Err(HeadFault::Version(_)) => &[],
            Ok(_) | Err(HeadFault::Damaged) => self.mapping.octets(),
        }
    }

    /// Whether its head says that its records are hashed under another key.
    fn is_of_other_key(&self) -> bool {
        self.is_of_other_key && self.head.is_ok()
    }

    fn setups(&self) -> impl Iterator<Item = SetupRecord<'_>> {
        setups(self.readable()).filter_map(|found| match found {
            FoundSetup::Call(_, record) | FoundSetup::Earlier(_, record) => Some(record),
            FoundSetup::Vacant | FoundSetup::Unfinished | FoundSetup::Damaged => None,
        })
    }

    fn records(&self) -> impl Iterator<Item = (Record<'_>, bool)> {
        positions(self.readable()).filter_map(|found| match found {
            Found::Call(record) | Found::Earlier(record) => Some((record, self.is_of_other_key)),
            Found::Vacant | Found::Unfinished | Found::Damaged => None,
        })
    }

    /// What is wrong with the file, a line each.
    pub fn faults(&self) -> Vec<String> {
        let path = self.path.display();
        let mut lines = Vec::new();
        match self.head {
            Ok(_) => {}
            Err(HeadFault::Damaged) => {
                lines.push(format!(
                    "{path}: its front is damaged; its calls are taken over"
                ));
            }
            Err(HeadFault::Version(version)) => lines.push(format!(
                "{path}: written in format {version}, this program knows {}: its calls are not taken over",
                crate::dialog::store::VERSION
            )),
        }
        if self.missing > 0 {
            lines.push(format!("{path}: {} octets are missing", self.missing));
        }
        if self.tally.damaged > 0 {
            lines.push(format!(
                "{path}: {} records are damaged: their calls are lost",
                self.tally.damaged
            ));
        }
        if self.is_of_other_key() {
            lines.push(format!(
                "{path}: hashed under another secret; its calls are known by their words, \
                 {} that were being set up are forgotten",
                self.tally.setups
            ));
        }
        lines
    }
}
