//! Where the control socket is when the configuration says `"auto"`.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// `$XDG_RUNTIME_DIR/callgate/control.sock`, else `/tmp/callgate-UID/control.sock`.
///
/// Reads the environment; the directory need not exist, and whoever makes it makes it 0700.
pub fn default_control_socket() -> PathBuf {
    let runtime_dir = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let directory = match runtime_dir.filter(|path| path.is_absolute() && path.is_dir()) {
        Some(path) => path.join("callgate"),
        None => PathBuf::from(format!("/tmp/callgate-{}", user_id())),
    };
    directory.join("control.sock")
}

/// The user that this process runs as; the owner of its own entry in /proc says so without libc.
pub(super) fn user_id() -> u32 {
    fs::metadata("/proc/self").map_or(0, |entry| entry.uid())
}
