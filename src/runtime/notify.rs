//! The service manager's notification protocol (sd_notify(3)): one datagram to `$NOTIFY_SOCKET`.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use super::os;

/// What the service manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'t> {
    /// With one line for people, as the others that have one.
    Ready(&'t str),
    Reloading,
    Stopping(&'t str),
    Status(&'t str),
    Watchdog,
    /// Another process of the unit is the node from here on.
    MainProcess(u32),
}

/// Tells the service manager, where there is one; a manager that does not listen changes nothing.
pub fn notify(state: State<'_>) {
    let Some(to) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let text = match state {
        State::Ready(line) => format!("READY=1\nSTATUS={}\n", one_line(line)),
        // Type=notify-reload measures the reload from this moment.
        State::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}\n", os::monotonic_us()),
        State::Stopping(line) => format!("STOPPING=1\nSTATUS={}\n", one_line(line)),
        State::Status(line) => format!("STATUS={}\n", one_line(line)),
        State::Watchdog => "WATCHDOG=1\n".to_owned(),
        State::MainProcess(process) => format!("MAINPID={process}\n"),
    };
    if let Err(fault) = send(&to, text.as_bytes()) {
        tracing::debug!(%fault, "the service manager could not be told");
    }
}

/// How often the watchdog must be fed: half of what the unit's `WatchdogSec` asks for. It may be
/// another process of the unit that is asked; one that has taken the node over is asked in place of
/// the one whose environment it has.
pub fn watchdog_interval(has_taken_over: bool) -> Option<Duration> {
    let asked: Option<u32> = std::env::var("WATCHDOG_PID")
        .ok()
        .and_then(|number| number.parse().ok());
    if !has_taken_over && asked.is_some_and(|process| process != std::process::id()) {
        return None;
    }
    let us: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (us > 0).then(|| Duration::from_micros(us) / 2)
}

/// A line feed would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

fn send(to: &OsString, text: &[u8]) -> std::io::Result<usize> {
    let address = match to.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(to)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text, &address)
}
