//! Whether this host lets a checked configuration start: directories that must be writable.
//!
//! Touches the file system, which checking the text does not.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::socket_path::user_id;
use super::{Config, Fault};

/// What would keep the node from starting here; leaves no file behind.
pub fn probe_host(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(state_dir) = &config.node.state_dir
        && let Err(why) = writable(state_dir)
    {
        let message = format!("`state_dir` {} {why}", state_dir.display());
        let hint = "make it, owned by the user that runs callgate: install -d -o USER -m 0700 DIR";
        faults.push(Fault::of_file(
            &config.source_name,
            message,
            Some(hint.to_owned()),
        ));
    }
    if let Some(directory) = config.control.socket.as_deref().and_then(Path::parent)
        && let Err(why) = writable(directory).and_then(|()| own(directory))
    {
        let message = format!(
            "the directory of the control socket, {}, {why}",
            directory.display()
        );
        let hint = "name another `socket` in [control], or change the directory's owner";
        faults.push(Fault::of_file(
            &config.source_name,
            message,
            Some(hint.to_owned()),
        ));
    }
    faults
}

/// Whether a file can be made in `directory`, or the directory itself can be made.
fn writable(directory: &Path) -> Result<(), String> {
    let existing = directory
        .ancestors()
        .map(|path| {
            if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                path
            }
        })
        .find(|path| path.exists())
        .unwrap_or(directory);
    if !existing.is_dir() {
        return Err(format!(
            "cannot be used: {} is not a directory",
            existing.display()
        ));
    }
    let trial = existing.join(format!(".callgate-check-{}", std::process::id()));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&trial)
        .and_then(|_| fs::remove_file(&trial))
        .map_err(|fault| format!("is not writable: {fault}"))
}

/// A directory that somebody else made in a place open to all could hand our socket to them.
fn own(directory: &Path) -> Result<(), String> {
    match fs::metadata(directory) {
        Ok(found)
            if found.uid() != user_id() && user_id() != 0 && directory.starts_with("/tmp") =>
        {
            Err(format!("belongs to user {}", found.uid()))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}
