//! `callgate check`: every fault of a configuration, and how this host differs from the guide.

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
        println!("{}", json!({ "faults": faults, "warnings": warnings }));
    } else {
        print_for_people(file, &faults, &warnings);
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
        true => println!("{}", json!({ "good": good, "findings": report.findings })),
        false => println!("{report}"),
    }
    match good {
        true => Outcome::Done,
        false => Outcome::Refused,
    }
}

fn print_for_people(file: &Path, faults: &[Fault], warnings: &[Fault]) {
    for fault in faults {
        println!("{fault}");
    }
    for warning in warnings {
        println!("warning: {warning}");
    }
    match faults.len() {
        0 => println!("{}: good", file.display()),
        1 => println!("1 fault"),
        count => println!("{count} faults"),
    }
}
