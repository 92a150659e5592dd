//! Reading a configuration file of a sane size, or a sentence that says what is there in its place.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// The largest file that is read: hundreds of thousands of trunks fit.
const OCTETS_MAX: u64 = 64 << 20;

/// Reads the whole file; the error is a sentence without a subject.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |fault: io::Error| match fault.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => format!("cannot be read: {fault}"),
    };
    let kind = fs::metadata(path).map_err(unreadable)?.file_type();
    if kind.is_dir() {
        return Err("is a directory, not a file".to_owned());
    }
    // Opening a FIFO waits for a writer, for ever. A pipe of the shell, `<(…)`, has one.
    if kind.is_fifo() && !is_descriptor(path) {
        return Err("is a FIFO, not a file".to_owned());
    }
    let mut octets = Vec::new();
    let count = File::open(path)
        .and_then(|file| file.take(OCTETS_MAX + 1).read_to_end(&mut octets))
        .map_err(unreadable)?;
    if count as u64 > OCTETS_MAX {
        return Err(format!("is larger than {} MiB", OCTETS_MAX >> 20));
    }
    Ok(octets)
}

/// Whether the path is one of the open files of this process.
fn is_descriptor(path: &Path) -> bool {
    ["/dev", "/proc"].iter().any(|dir| path.starts_with(dir))
}
