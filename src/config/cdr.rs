//! `[cdr]`: where call detail records go, and how their files are turned over.

use core::time::Duration;
use std::path::PathBuf;

use toml_edit::Value;

use crate::base::duration;

use super::fault::Sheet;
use super::node::{open, path};
use super::section::{Entry, Section};

/// `[cdr]`; without a file no records are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cdr {
    pub files: Vec<CdrFile>,
    /// A file that is larger is put aside; in octets.
    pub rotate_size: Option<u64>,
    /// A file is put aside when the wall clock passes a multiple of this.
    pub rotate_every: Option<Duration>,
    /// Files that were put aside and are kept; `None` = all.
    pub keep: Option<usize>,
    pub fsync: CdrFsync,
    /// Records that may wait for the writer, by shard.
    pub ring: usize,
    /// Also records of INVITEs that come from no trunk.
    pub unknown_sources: bool,
}

/// A file of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CdrFile {
    pub path: PathBuf,
    pub format: CdrFormat,
}

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CdrFormat {
    Json,
    Csv,
}

impl CdrFormat {
    /// The word of the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            CdrFormat::Json => "json",
            CdrFormat::Csv => "csv",
        }
    }
}

/// When records are brought to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CdrFsync {
    /// When the kernel likes.
    Off,
    Every(Duration),
    /// After each batch.
    AlwaysBatch,
}

impl CdrFsync {
    /// As it stands in the configuration.
    pub fn show(self) -> String {
        match self {
            CdrFsync::Off => "off".to_owned(),
            CdrFsync::Every(span) => duration::show(span),
            CdrFsync::AlwaysBatch => "always-batch".to_owned(),
        }
    }
}

impl Default for Cdr {
    fn default() -> Cdr {
        Cdr {
            files: Vec::new(),
            rotate_size: None,
            rotate_every: None,
            keep: None,
            fsync: CdrFsync::Off,
            ring: RING_DEFAULT,
            unknown_sources: false,
        }
    }
}

/// 16 MiB by shard: the records of four seconds at 2,000 calls per second.
const RING_DEFAULT: usize = 8192;

const KEYS: &[&str] = &[
    "file",
    "format",
    "csv_file",
    "rotate_size_mib",
    "rotate_every",
    "keep",
    "fsync",
    "ring",
    "unknown_sources",
];

const FORMAT_WORDS: &[(&str, CdrFormat)] = &[("json", CdrFormat::Json), ("csv", CdrFormat::Csv)];

pub(super) fn read(root: &Section<'_>, sheet: &mut Sheet<'_>) -> Cdr {
    let mut cdr = Cdr::default();
    let Some(section) = open(root, "cdr", KEYS, sheet) else {
        return cdr;
    };
    read_files(&section, &mut cdr, sheet);
    let entry = |key| section.entry(key);
    if let Some(mib) =
        entry("rotate_size_mib").and_then(|entry| entry.integer(sheet, 1..=1_048_576))
    {
        cdr.rotate_size = Some((mib as u64) << 20);
    }
    let spans = Duration::from_secs(60)..=Duration::from_secs(31 * 86_400);
    cdr.rotate_every = entry("rotate_every").and_then(|entry| entry.duration(sheet, spans));
    cdr.keep = entry("keep")
        .and_then(|entry| entry.integer(sheet, 1..=100_000))
        .map(|count| count as usize);
    if let Some(fsync) = entry("fsync").and_then(|entry| fsync(&entry, sheet)) {
        cdr.fsync = fsync;
    }
    if let Some(records) = entry("ring").and_then(|entry| entry.integer(sheet, 64..=4_194_304)) {
        cdr.ring = records as usize;
    }
    if let Some(truth) = entry("unknown_sources").and_then(|entry| entry.boolean(sheet)) {
        cdr.unknown_sources = truth;
    }
    cdr
}

fn read_files(section: &Section<'_>, cdr: &mut Cdr, sheet: &mut Sheet<'_>) {
    let format = section
        .entry("format")
        .and_then(|entry| entry.word(sheet, FORMAT_WORDS));
    let wishes = [
        ("file", format.unwrap_or(CdrFormat::Json)),
        ("csv_file", CdrFormat::Csv),
    ];
    for (key, format) in wishes {
        let Some(entry) = section.entry(key) else {
            continue;
        };
        let Some(path) = path(&entry, sheet) else {
            continue;
        };
        if cdr.files.iter().any(|file| file.path == path) {
            sheet.fault(
                entry.span(),
                format!("`{key}` must be another file than `file`"),
            );
            continue;
        }
        cdr.files.push(CdrFile { path, format });
    }
    if cdr.files.is_empty()
        && section.entry("file").is_none()
        && section.entry("csv_file").is_none()
    {
        sheet.warn(
            section.span.clone(),
            "[cdr] names no `file`: no call detail records are made",
            "write file = \"/var/log/callgate/cdr.jsonl\"",
        );
    }
}

fn fsync(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<CdrFsync> {
    match entry.value().and_then(Value::as_str) {
        Some("off") => Some(CdrFsync::Off),
        Some("always-batch") => Some(CdrFsync::AlwaysBatch),
        Some(text) if !text.starts_with(|letter: char| letter.is_ascii_digit()) => {
            let message = format!(
                "`fsync` must be \"off\", \"always-batch\" or a duration such as \"1s\"; found \"{}\"",
                text.escape_debug()
            );
            sheet.fault(entry.span(), message);
            None
        }
        _ => {
            let spans = Duration::from_millis(100)..=Duration::from_secs(3_600);
            entry.duration(sheet, spans).map(CdrFsync::Every)
        }
    }
}
