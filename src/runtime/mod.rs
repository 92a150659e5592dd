//! Threads, CPUs, signals, the clock and entropy: what turns the machine into a running node.
//!
//! `start` builds it, `crew` and `shard_loop` are a shard's thread, `supervisor` is the main thread
//! while the node runs, `helm` is what the admin socket may change.

mod advertise;
mod ahead;
mod cdr;
mod check;
mod clock;
mod copying;
mod crew;
mod foresight;
mod gate;
mod helm;
mod homer;
mod import;
mod log;
mod loopback;
mod memory;
mod notify;
mod os;
mod pace;
mod panics;
mod placement;
mod shard_loop;
mod signals;
mod start;
mod state;
mod supervisor;
mod takeover;
mod thread;

use std::path::{Path, PathBuf};

pub use check::{check_file, check_host};
pub use import::{dispatcher as import_dispatcher, sip_conf as import_sip_conf};
pub use state::{Order as StateOrder, carry_out as state_command};

use crate::config;
use crate::control::cli::{Outcome, Remote};
use crate::route::SlotBook;
use supervisor::Ending;

/// Runs a node until it is told to stop: on a file, or on the embedded default. With `takeover` it
/// goes on with the sockets and calls of the node that runs already.
pub fn run(file: Option<PathBuf>, takeover: bool) -> Outcome {
    let mut names = helm::Names(SlotBook::new(helm::SLOTS_MAX));
    let loaded = match &file {
        Some(path) => config::load_file(path, &mut names),
        None => config::load(config::DEFAULT_TEXT, config::DEFAULT_NAME, &mut names),
    };
    let mut config = match loaded {
        Ok(config) => config,
        Err(report) => {
            eprintln!("{report}");
            return Outcome::Refused;
        }
    };
    let level = log::start(&config.log);
    panics::install_hook();
    if file.is_none() {
        loopback::leave_out_missing(&mut config.plan.listeners);
    }
    let wish = start::Wish {
        config,
        names: names.0,
        file,
        level,
        takeover,
    };
    match start::run(wish) {
        Ok(Ending::Drained | Ending::HandedOver) => Outcome::Done,
        Ok(Ending::Forced) => Outcome::Refused,
        Err(why) => {
            why.lines().for_each(|line| eprintln!("callgate: {line}"));
            Outcome::Refused
        }
    }
}

/// Where a command finds its node: `--socket`, the socket of `--config`, `$CALLGATE_SOCKET`, or
/// that of the embedded default.
pub fn socket_for(remote: &Remote) -> Result<PathBuf, String> {
    if let Some(path) = &remote.socket {
        return Ok(path.clone());
    }
    if let Some(file) = &remote.config {
        return configured_socket(file);
    }
    Ok(std::env::var_os("CALLGATE_SOCKET")
        .map_or_else(config::default_control_socket, PathBuf::from))
}

fn configured_socket(file: &Path) -> Result<PathBuf, String> {
    let config = config::load_file(file, &mut config::InOrder::default())
        .map_err(|report| report.to_string())?;
    let none = || format!("{}: [control] has no `socket`", file.display());
    config.control.socket.ok_or_else(none)
}
