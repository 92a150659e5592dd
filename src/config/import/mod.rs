//! Configurations of other programs, read into one of ours, and a list of every line that could
//! not be carried over, with why.
//!
//! What is written passes `callgate check`. Nothing here asks the network: a host name is told, not
//! looked up.

mod dispatcher;
mod draft;
mod lines;
mod sip_conf;

use core::fmt;
use std::path::Path;

use serde::Serialize;

use super::file;

pub use dispatcher::Dialect;

/// What became of a file.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// A configuration in TOML, with what was left behind as comments at its end.
    pub text: String,
    pub left: Vec<Left>,
}

/// A line, or a part of one, that was not carried over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    pub file: String,
    /// From 1.
    pub line: u32,
    /// The line as far as it helps, without secrets.
    pub what: String,
    pub why: String,
}

impl fmt::Display for Left {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Left {
            file,
            line,
            what,
            why,
        } = self;
        write!(out, "{file}:{line}: {what}: {why}")
    }
}

/// Imports a destination list of the dispatcher module.
pub fn dispatcher(path: &Path, dialect: Dialect) -> Result<Imported, String> {
    let name = path.display().to_string();
    let text = read_text(path)?;
    dispatcher::import(&name, &text, dialect).map_err(|why| format!("{name}: {why}"))
}

/// Imports a `sip.conf` and what it includes.
pub fn sip_conf(path: &Path) -> Result<Imported, String> {
    let name = path.display().to_string();
    let text = read_text(path)?;
    let include = |file: &str| {
        let beside = path.parent().unwrap_or(Path::new(".")).join(file);
        read_text(&beside)
    };
    sip_conf::import(&name, &text, &include).map_err(|why| format!("{name}: {why}"))
}

/// Reads a text; octets beyond ASCII may be in any old encoding, as comments often are.
fn read_text(path: &Path) -> Result<String, String> {
    let name = path.display();
    let octets = file::read(path).map_err(|why| format!("{name}: {why}"))?;
    if octets.is_empty() {
        return Err(format!("{name}: the file is empty"));
    }
    if octets.contains(&0) {
        return Err(format!("{name}: this is no text file: it has a NUL in it"));
    }
    let text = String::from_utf8_lossy(&octets).into_owned();
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or(text.clone(), str::to_owned))
}

/// A line of the source as it may be shown.
fn shown(line: &str) -> String {
    let kept: String = line
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(SHOWN_MAX)
        .collect();
    if kept.len() < line.trim().len() {
        kept + "…"
    } else {
        kept
    }
}

/// Characters of a line that are shown.
const SHOWN_MAX: usize = 80;
/// Octets of one line; what is longer is no line that a person wrote.
const LINE_MAX: usize = 64 * 1024;
