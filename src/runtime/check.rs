//! `callgate check`: every fault of a configuration, and how this host differs from the guide.

use std::io::Write;
use std::path::Path;

use serde_json::json;

use crate::config::{self, Fault, InOrder};
use crate::control::cli::Outcome;

/// Checks a file and prints what it found.
pub fn check_file(file: &Path, json: bool) -> Outcome {
    let (faults, warnings) = match config::load_file(file, &mut InOrder::default()) {
        Ok(config) => (config::probe_host(&config), config.warnings),
        Err(report) => (report.faults, report.warnings),
    };
    if json {
        print(&json!({ "faults": faults, "warnings": warnings }).to_string());
    } else {
        print(&for_people(file, &faults, &warnings));
    }
    match faults.is_empty() {
        true => Outcome::Done,
        false => Outcome::Refused,
    }
}

/// Compares this host with what the tuning guide recommends for a configuration, or for the
/// embedded default.
pub fn check_host(file: Option<&Path>, json: bool) -> Outcome {
    let config = match file.map(|file| config::load_file(file, &mut InOrder::default())) {
        None => config::default_config(),
        Some(Ok(config)) => config,
        Some(Err(report)) => {
            eprintln!("{report}");
            return Outcome::Refused;
        }
    };
    let report = config::host::inspect(Path::new("/"), &config);
    let good = report.is_good();
    match json {
        true => print(&json!({ "good": good, "findings": report.findings }).to_string()),
        false => print(&report.to_string()),
    }
    match good {
        true => Outcome::Done,
        false => Outcome::Refused,
    }
}

fn for_people(file: &Path, faults: &[Fault], warnings: &[Fault]) -> String {
    let faults_text = faults.iter().map(|fault| format!("{fault}\n"));
    let warnings_text = warnings
        .iter()
        .map(|warning| format!("warning: {warning}\n"));
    let count = match faults.len() {
        0 => format!("{}: good", file.display()),
        1 => "1 fault".to_owned(),
        count => format!("{count} faults"),
    };
    faults_text.chain(warnings_text).chain([count]).collect()
}

/// A reader that has seen enough (`| head`) is no fault: the exit code still says what was found.
fn print(text: &str) {
    let _reader_is_gone = writeln!(std::io::stdout().lock(), "{text}");
}
