//! One file of call detail records: how it is opened, written, brought to the disk and put aside, and
//! what happens when any of that fails. Calls never wait for it.
//!
//! A batch is formatted once and written until the file has all of it; only then do its records count
//! as written. A regular file that takes a part only is cut back, so that it never holds half a line.

use core::time::Duration;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::calendar;
use super::writer::{Settings, Source};
use crate::base::Instant;
use crate::cdr::{Context, Read, SLOT_OCTETS, csv_head, csv_line, json_line};
use crate::config::{CdrFile, CdrFormat, CdrFsync};
use crate::control::{CdrBoard, CdrFileState};

/// Records of one batch, from all rings together, and its octets, about.
const BATCH_RECORDS: usize = 256;
const BATCH_OCTETS: usize = 256 << 10;
/// How long after a fault the file is tried again, and how often the log says so.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const LOG_EVERY: Duration = Duration::from_secs(60);
/// A reader of a pipe that takes nothing for so long is as good as none.
const PIPE_PATIENCE: Duration = Duration::from_secs(5);
/// Who has just moved the file away and then signals does not want it moved once more.
const MOVED_LATELY: Duration = Duration::from_secs(60);
/// How far back the end of the last whole line is looked for.
const LAST_LINE_MAX: u64 = 64 << 10;

/// What a turn works with.
pub struct Surroundings<'a> {
    pub now: Instant,
    pub wall_us: u64,
    pub settings: &'a Settings,
    pub sources: &'a [Source],
    pub board: &'a CdrBoard,
    /// The node ends: nothing waits for a better time.
    pub is_last: bool,
}

/// A file and how far it has come.
pub struct Sink {
    /// Place in the configuration.
    pub place: usize,
    wish: CdrFile,
    open: Option<Open>,
    /// By source: the next record to be formatted, and the first that must be kept in its ring.
    next: Vec<u64>,
    safe: Vec<u64>,
    batch: Batch,
    written: u64,
    alarm: Option<Alarm>,
    retry_at: Instant,
    synced_at: Instant,
    blocked_since: Option<Instant>,
    rotation_wanted: bool,
    moved_at: Option<Instant>,
}

/// A file that is open.
struct Open {
    file: File,
    device: u64,
    inode: u64,
    is_regular: bool,
    /// Something was written that is not brought to the disk yet.
    is_dirty: bool,
    head_due: bool,
    /// The period of `rotate_every` in which its first record was written.
    period: Option<u64>,
}

/// Formatted records on their way.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    sent: usize,
    records: u64,
    /// What `next` is once the file has all of it.
    ends: Vec<u64>,
}

struct Alarm {
    text: String,
    logged_at: Instant,
}

impl Sink {
    /// A file that begins with these records, by source.
    pub fn new(place: usize, wish: CdrFile, from: Vec<u64>) -> Sink {
        Sink {
            place,
            wish,
            open: None,
            safe: from.clone(),
            next: from,
            batch: Batch::default(),
            written: 0,
            alarm: None,
            retry_at: Instant::START,
            synced_at: Instant::START,
            blocked_since: None,
            rotation_wanted: false,
            moved_at: None,
        }
    }

    /// What the configuration says of it.
    pub fn file(&self) -> &CdrFile {
        &self.wish
    }

    /// The first record of each source that is not in the file.
    pub fn positions(&self) -> Vec<u64> {
        self.next.clone()
    }

    /// The first record of a source that must be kept in its ring.
    pub fn safe(&self, source: usize) -> u64 {
        self.safe.get(source).copied().unwrap_or(0)
    }

    /// The next record of a source that is to be formatted once the batch under way is in the file.
    pub fn next(&self, source: usize) -> u64 {
        self.next.get(source).copied().unwrap_or(u64::MAX)
    }

    /// For `status`.
    pub fn state(&self) -> CdrFileState {
        CdrFileState {
            path: self.wish.path.clone(),
            format: self.wish.format.word(),
            written: self.written,
            alarm: self.alarm.as_ref().map(|alarm| alarm.text.clone()),
        }
    }

    /// The file is put aside before the next record.
    pub fn want_rotation(&mut self) {
        self.rotation_wanted = true;
    }

    /// Writes one batch, where there is one and the file takes it; tells whether it went on.
    pub fn turn(&mut self, around: &Surroundings<'_>) -> bool {
        if around.now < self.retry_at && !around.is_last {
            return false;
        }
        match self.work(around) {
            Ok(progressed) => {
                if self.blocked_since.is_none() && self.alarm.take().is_some() {
                    tracing::info!(path = %self.wish.path.display(), "call detail records are written again");
                }
                progressed
            }
            Err(fault) => {
                self.fail(around, &fault);
                false
            }
        }
    }

    fn work(&mut self, around: &Surroundings<'_>) -> io::Result<bool> {
        self.notice_replacement(around)?;
        if self.open.is_none() {
            self.open = Some(self.open_file(around)?);
        }
        if self.batch.text.is_empty() {
            if self.is_rotation_due(around)? {
                self.rotate(around)?;
            }
            self.fill(around);
        }
        let progressed = !self.batch.text.is_empty() && self.write(around)?;
        self.sync_where_due(around)?;
        Ok(progressed)
    }

    /// A file that was moved away or removed is let go: records belong where the path says.
    fn notice_replacement(&mut self, around: &Surroundings<'_>) -> io::Result<()> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        let is_there = fs::metadata(&self.wish.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (open.device, open.inode));
        if is_there {
            return Ok(());
        }
        tracing::info!(path = %self.wish.path.display(), "the file of call detail records was moved away; a new one begins");
        self.moved_at = Some(around.now);
        self.let_go(around)
    }

    /// Closes the file; what was written is on the disk where that was asked for.
    fn let_go(&mut self, around: &Surroundings<'_>) -> io::Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        // Of a part nobody knows: a new file gets the whole batch.
        self.batch.sent = 0;
        if open.is_dirty && around.settings.cdr.fsync != CdrFsync::Off {
            open.file.sync_data()?;
        }
        Ok(())
    }

    fn open_file(&self, around: &Surroundings<'_>) -> io::Result<Open> {
        let path = &self.wish.path;
        let kind = fs::metadata(path).map(|found| found.file_type());
        let is_pipe = kind.is_ok_and(|kind| kind.is_fifo());
        let mut file = OpenOptions::new()
            // Read and write would open a pipe that nobody reads.
            .read(!is_pipe)
            .append(true)
            .create(true)
            .mode(0o640)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|fault| match fault.raw_os_error() {
                Some(libc::ENXIO) => io::Error::other("nobody reads this pipe"),
                _ => fault,
            })?;
        let found = file.metadata()?;
        let is_regular = found.file_type().is_file();
        let mut len = found.len();
        if is_regular && len > 0 {
            len = cut_half_a_line(&mut file, len)?;
        }
        let period = (is_regular && len > 0).then(|| {
            period_of(
                around,
                u64::try_from(found.mtime()).unwrap_or(0) * 1_000_000,
            )
        });
        Ok(Open {
            device: found.dev(),
            inode: found.ino(),
            is_regular,
            is_dirty: false,
            head_due: !is_regular || len == 0,
            period: period.flatten(),
            file,
        })
    }

    fn is_rotation_due(&mut self, around: &Surroundings<'_>) -> io::Result<bool> {
        let Some(open) = self.open.as_ref().filter(|open| open.is_regular) else {
            self.rotation_wanted = false;
            return Ok(false);
        };
        let len = open.file.metadata()?.len();
        if len == 0 {
            self.rotation_wanted = false;
            return Ok(false);
        }
        let cdr = &around.settings.cdr;
        let is_over = open.period.is_some() && open.period != period_of(around, around.wall_us);
        let is_asked = self.rotation_wanted && !self.was_moved_lately(around);
        self.rotation_wanted = false;
        Ok(cdr.rotate_size.is_some_and(|most| len >= most) || is_over || is_asked)
    }

    fn was_moved_lately(&self, around: &Surroundings<'_>) -> bool {
        self.moved_at
            .is_some_and(|at| around.now.since(at) < MOVED_LATELY)
    }

    /// Gives the file a name with the time, which no file had before, and begins a new one.
    fn rotate(&mut self, around: &Surroundings<'_>) -> io::Result<()> {
        let aside = reserve(&self.wish.path, around.wall_us)?;
        self.let_go(around)?;
        fs::rename(&self.wish.path, &aside)?;
        around.board.rotations.fetch_add(1, Ordering::Relaxed);
        tracing::info!(path = %aside.display(), "a file of call detail records was put aside");
        if let Some(keep) = around.settings.cdr.keep {
            remove_oldest(&self.wish.path, keep)?;
        }
        self.open = Some(self.open_file(around)?);
        Ok(())
    }

    /// Formats what the rings hold.
    fn fill(&mut self, around: &Surroundings<'_>) {
        let context = Context {
            node: &around.settings.node,
            config: &around.settings.config,
        };
        let batch = &mut self.batch;
        batch.sent = 0;
        batch.records = 0;
        batch.ends.clone_from(&self.next);
        let mut slot = [0u8; SLOT_OCTETS];
        let share = (BATCH_RECORDS / around.sources.len().max(1)).max(1);
        for (source, end) in around.sources.iter().zip(&mut batch.ends) {
            for _ in 0..share {
                if batch.text.len() >= BATCH_OCTETS {
                    break;
                }
                match source.ring.read(*end, &mut slot) {
                    Read::Empty => break,
                    Read::Damaged => {
                        around.board.damaged.fetch_add(1, Ordering::Relaxed);
                    }
                    Read::Record(cdr) => {
                        batch.records += 1;
                        match self.wish.format {
                            CdrFormat::Json => json_line(&cdr, &context, &mut batch.text),
                            CdrFormat::Csv => csv_line(&cdr, &context, &mut batch.text),
                        }
                    }
                }
                *end += 1;
            }
        }
        if batch.text.is_empty() {
            // Nothing but damage, or nothing at all.
            self.next.clone_from(&batch.ends);
        }
    }

    /// Writes the batch, or as much of it as a pipe takes; `false` = the pipe is full.
    fn write(&mut self, around: &Surroundings<'_>) -> io::Result<bool> {
        let Some(open) = &mut self.open else {
            return Ok(false);
        };
        let batch = &mut self.batch;
        let start = open.file.metadata()?.len();
        if open.head_due && self.wish.format == CdrFormat::Csv && batch.sent == 0 {
            let head = csv_head();
            if !batch.text.starts_with(head.as_bytes()) {
                batch.text.splice(0..0, head.bytes());
            }
        }
        while batch.sent < batch.text.len() {
            match open.file.write(&batch.text[batch.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(octets) => {
                    batch.sent += octets;
                    open.head_due = false;
                    self.blocked_since = None;
                }
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {
                    let since = *self.blocked_since.get_or_insert(around.now);
                    if around.now.since(since) > PIPE_PATIENCE {
                        return Err(io::Error::other("nobody reads this pipe"));
                    }
                    return Ok(false);
                }
                Err(fault) => {
                    if open.is_regular {
                        // All or nothing; where not even that works, the next open cuts it.
                        let cut = open.file.set_len(start);
                        batch.sent = 0;
                        if cut.is_err() {
                            self.open = None;
                        }
                    }
                    return Err(fault);
                }
            }
        }
        open.is_dirty = true;
        open.period = open.period.or_else(|| period_of(around, around.wall_us));
        self.written += batch.records;
        self.next.clone_from(&batch.ends);
        batch.text.clear();
        batch.sent = 0;
        Ok(true)
    }

    /// What is written counts as safe as the policy says.
    fn sync_where_due(&mut self, around: &Surroundings<'_>) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let is_due = match around.settings.cdr.fsync {
            CdrFsync::Off => false,
            CdrFsync::AlwaysBatch => open.is_dirty,
            CdrFsync::Every(span) => {
                // A ring that fills gets its places back early.
                let is_tight =
                    |source: &Source| source.ring.pending() > source.ring.slots() as u64 / 2;
                let is_late = around.now.since(self.synced_at) >= span || around.is_last;
                open.is_dirty && (is_late || around.sources.iter().any(is_tight))
            }
        };
        if is_due && open.is_regular {
            open.file.sync_data()?;
        }
        let is_safe = is_due || !open.is_dirty || around.settings.cdr.fsync == CdrFsync::Off;
        if is_safe {
            open.is_dirty = false;
            self.synced_at = around.now;
            self.safe.clone_from(&self.next);
        }
        Ok(())
    }

    fn fail(&mut self, around: &Surroundings<'_>, fault: &io::Error) {
        around.board.faults.fetch_add(1, Ordering::Relaxed);
        self.retry_at = around.now + RETRY_AFTER;
        if let Some(alarm) = &mut self.alarm
            && around.now.since(alarm.logged_at) < LOG_EVERY
        {
            alarm.text = fault.to_string();
            return;
        }
        tracing::error!(
            path = %self.wish.path.display(),
            %fault,
            "call detail records are not written; calls go on"
        );
        self.alarm = Some(Alarm {
            text: fault.to_string(),
            logged_at: around.now,
        });
    }
}

/// The number of the period of `rotate_every` that a moment lies in.
fn period_of(around: &Surroundings<'_>, wall_us: u64) -> Option<u64> {
    let every = around.settings.cdr.rotate_every?;
    let every_us = u64::try_from(every.as_micros()).ok()?.max(1);
    Some(wall_us / every_us)
}

/// A process that was killed may have left half a line: it goes, its record comes again. Gives the
/// length that is left.
fn cut_half_a_line(file: &mut File, len: u64) -> io::Result<u64> {
    let back = len.min(LAST_LINE_MAX);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(len - back))?;
    file.take(back).read_to_end(&mut tail)?;
    if tail.last() == Some(&b'\n') {
        return Ok(len);
    }
    match tail.iter().rposition(|octet| *octet == b'\n') {
        Some(end) => {
            let whole = len - back + end as u64 + 1;
            file.set_len(whole)?;
            Ok(whole)
        }
        None if back == len => {
            file.set_len(0)?;
            Ok(0)
        }
        // No line of ours is so long: it is somebody else's, and ours begin behind it.
        None => {
            file.write_all(b"\n")?;
            Ok(len + 1)
        }
    }
}

/// `cdr.jsonl` as (`cdr-`, `.jsonl`).
fn name_parts(path: &Path) -> (String, String) {
    let extension = match path.extension() {
        Some(extension) => format!(".{}", extension.to_string_lossy()),
        None => String::new(),
    };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    (format!("{stem}-"), extension)
}

/// Takes a name with the time that no file has: an empty file holds it.
fn reserve(path: &Path, wall_us: u64) -> io::Result<PathBuf> {
    let (front, extension) = name_parts(path);
    let stamp = calendar::stamp(wall_us);
    for number in 0..1000 {
        let more = match number {
            0 => String::new(),
            number => format!(".{number}"),
        };
        let aside = path.with_file_name(format!("{front}{stamp}{more}{extension}"));
        match OpenOptions::new().write(true).create_new(true).open(&aside) {
            Ok(_) => return Ok(aside),
            Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => {}
            Err(fault) => return Err(fault),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Removes files that were put aside, oldest first, until so many are left.
fn remove_oldest(path: &Path, keep: usize) -> io::Result<()> {
    let (front, extension) = name_parts(path);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let mut names: Vec<String> = fs::read_dir(directory)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_stamped(name, &front, &extension))
        .collect();
    names.sort_unstable();
    let count = names.len().saturating_sub(keep);
    for name in &names[..count] {
        fs::remove_file(directory.join(name))?;
    }
    Ok(())
}

fn is_stamped(name: &str, front: &str, extension: &str) -> bool {
    let stamp = name
        .strip_prefix(front)
        .and_then(|rest| rest.strip_suffix(extension));
    stamp.is_some_and(|stamp| {
        let shape = |(at, octet): (usize, u8)| match at {
            8 => octet == b'T',
            15 => octet == b'.',
            19 => octet == b'Z',
            20 => octet == b'.',
            _ => octet.is_ascii_digit(),
        };
        stamp.len() >= 20 && stamp.bytes().enumerate().all(shape)
    })
}
