//! `callgate import`: prints the configuration on stdout, and what was left behind on stderr.

use std::io::Write as _;
use std::path::Path;

use crate::config::import::{self, Dialect, Imported};
use crate::control::cli::Outcome;

/// Imports a dispatcher list.
pub fn dispatcher(file: &Path, opensips: bool, json: bool) -> Outcome {
    let dialect = if opensips {
        Dialect::OpenSips
    } else {
        Dialect::Kamailio
    };
    print(import::dispatcher(file, dialect), json)
}

/// Imports a sip.conf.
pub fn sip_conf(file: &Path, json: bool) -> Outcome {
    print(import::sip_conf(file), json)
}

fn print(imported: Result<Imported, String>, json: bool) -> Outcome {
    let imported = match imported {
        Ok(imported) => imported,
        Err(why) => {
            eprintln!("callgate: {why}");
            return Outcome::Refused;
        }
    };
    let mut out = std::io::stdout().lock();
    // A reader that has seen enough is no fault.
    let _reader_is_gone = match json {
        true => writeln!(out, "{}", serde_json::json!(imported)),
        false => out.write_all(imported.text.as_bytes()),
    };
    if !json {
        for left in &imported.left {
            eprintln!("not carried over: {left}");
        }
    }
    Outcome::Done
}
