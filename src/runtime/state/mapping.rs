//! A file as memory: what is written there is the kernel's at once, and outlives the process.
#![expect(
    unsafe_code,
    reason = "mmap, munmap and posix_fallocate have no safe wrapper in std"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use crate::cdr::Memory;
use crate::dialog::store::Region;

/// A mapped file of the state directory.
///
/// Invariant: `start` and `len` describe one mapping of this process, which this value alone owns
/// and which lives until it is dropped. The file is not shortened meanwhile: it stands in a
/// directory of ours, under its lock.
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
    is_writable: bool,
}

// SAFETY: the mapping belongs to this value alone and is not tied to the thread that made it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Makes a file of `len` zero octets and maps it. Its blocks are taken at once: a disk that is
    /// full must be heard of here, as writing to a mapping cannot report it.
    pub fn create(path: &Path, len: usize) -> io::Result<Mapping> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        allocate(&file, len)?;
        Mapping::of(&file, len, true)
    }

    /// Maps a file as it is, to be changed.
    pub fn open(path: &Path) -> io::Result<Mapping> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Mapping::of(&file, length(&file)?, true)
    }

    /// Maps an open file as it is, to be changed.
    pub fn over(file: &File) -> io::Result<Mapping> {
        Mapping::of(file, length(file)?, true)
    }

    /// Maps a file as it is, to be read.
    pub fn open_to_read(path: &Path) -> io::Result<Mapping> {
        let file = File::open(path)?;
        Mapping::of(&file, length(&file)?, false)
    }

    fn of(file: &File, len: usize, is_writable: bool) -> io::Result<Mapping> {
        if len == 0 {
            return Ok(Mapping {
                // Of a word: an empty slice must be aligned too.
                start: NonNull::<u64>::dangling().cast(),
                len,
                is_writable,
            });
        }
        let access = match is_writable {
            true => libc::PROT_READ | libc::PROT_WRITE,
            false => libc::PROT_READ,
        };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours; the
        // descriptor is open over the call, and the mapping does not need it afterwards.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                access,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping {
            start,
            len,
            is_writable,
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the invariant: this mapping is ours and nobody holds a slice of it any more.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

/// A mapped file as words that several threads, and the kernel, look at: nobody has a slice of plain
/// octets of it.
pub struct SharedMapping(Mapping);

// SAFETY: all that can be reached through a shared reference are atomic words.
unsafe impl Sync for SharedMapping {}

impl SharedMapping {
    /// Shares a mapping from here on.
    pub fn of(mapping: Mapping) -> SharedMapping {
        SharedMapping(mapping)
    }
}

impl Memory for SharedMapping {
    fn words(&self) -> &[AtomicU64] {
        let Mapping {
            start,
            len,
            is_writable,
        } = self.0;
        if !is_writable {
            return &[];
        }
        // SAFETY: the invariant; a mapping begins at a page and so at a word, any octets are a word,
        // and no other reference into it exists: the mapping is private to this value.
        unsafe { std::slice::from_raw_parts(start.as_ptr().cast(), len / size_of::<AtomicU64>()) }
    }
}

impl Region for Mapping {
    fn octets(&self) -> &[u8] {
        // SAFETY: the invariant; a mapped octet is always initialised, and `&self` keeps writers out.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    fn octets_mut(&mut self) -> &mut [u8] {
        if !self.is_writable {
            return &mut [];
        }
        // SAFETY: as above; `&mut self` makes this the only slice, and the pages may be written.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

fn length(file: &File) -> io::Result<usize> {
    usize::try_from(file.metadata()?.len()).map_err(|_larger| io::ErrorKind::FileTooLarge.into())
}

fn allocate(file: &File, len: usize) -> io::Result<()> {
    let octets = libc::off_t::try_from(len).map_err(|_larger| io::ErrorKind::FileTooLarge)?;
    // SAFETY: the descriptor is open over the call, which touches no memory of ours.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, octets) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_a_mapping_is_in_the_file() {
        let path = std::env::temp_dir().join(format!("callgate-mapping-{}", std::process::id()));
        let _left_over = std::fs::remove_file(&path);
        let mut mapping = Mapping::create(&path, 10_000).expect("room in the temporary directory");
        mapping.octets_mut()[9_999] = 7;
        drop(mapping);
        let mut mapping = Mapping::open_to_read(&path).expect("the file");
        assert_eq!(
            (mapping.octets().len(), mapping.octets()[9_999]),
            (10_000, 7)
        );
        assert!(mapping.octets_mut().is_empty());
        assert!(Mapping::create(&path, 1).is_err(), "it exists");
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn an_empty_file_is_an_empty_region() {
        let path = std::env::temp_dir().join(format!("callgate-empty-{}", std::process::id()));
        std::fs::write(&path, b"").expect("a file");
        assert!(Mapping::open(&path).expect("mapped").octets().is_empty());
        std::fs::remove_file(&path).expect("removed");
    }
}
