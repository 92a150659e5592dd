//! Signals become events of the supervisor; nothing happens inside a signal handler.

use std::io;

use crossbeam::channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::supervisor::Happening;

/// Starts the thread that waits for signals. SIGPIPE is ignored by Rust's own start-up code.
pub fn listen(events: Sender<Happening>) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGXFSZ])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                let happening = match signal {
                    SIGHUP => Happening::ReloadWanted,
                    SIGUSR1 => Happening::RotationWanted,
                    // A file has reached the largest size that is allowed: its writer hears of it
                    // by the error of its write, which by default nobody would live to see.
                    SIGXFSZ => continue,
                    SIGUSR2 => Happening::HeirWanted,
                    _ => Happening::StopWanted,
                };
                if events.send(happening).is_err() {
                    return;
                }
            }
        })
        .map(|_runs_until_the_end| ())
}
