//! Whether a ring is to be had here, found out by using one, and why not in an operator's words.

use core::cell::Cell;
use core::time::Duration;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::UringDriver;
use crate::io::socket::{self, Buffers};
use crate::io::{Driver, Event, Options};
use crate::net::{Flow, ListenerId, Outbox};

const WORD: &[u8] = b"is there a ring?";

/// A datagram to oneself arrives within the first turn or two.
const TURNS_MAX: usize = 4;

/// Whether the io_uring driver works on this host and in this sandbox; else the reason.
pub fn available() -> Result<(), String> {
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let socket = socket::bind(ListenerId(0), any, Buffers::default())
        .map_err(|fault| format!("no UDP socket to try it on: {fault}"))?;
    let to = Flow::udp(ListenerId(0), socket.local());
    let options = Options {
        receive_buffers: 2,
        sends_max: 2,
        ..Options::default()
    };
    let mut driver =
        UringDriver::open(&[Arc::new(socket)], options).map_err(|fault| explain(&fault))?;
    match says_it_to_itself(&mut driver, to) {
        Ok(true) => Ok(()),
        Ok(false) => Err(
            "the kernel lacks multishot receive or sends with an address \
                          (Linux 6.1 has both)"
                .to_owned(),
        ),
        Err(fault) => Err(explain(&fault)),
    }
}

/// Sends a datagram to its own socket and waits for it.
fn says_it_to_itself(driver: &mut UringDriver, to: Flow) -> io::Result<bool> {
    let mut out = Outbox::new(32, 3 * Outbox::DATAGRAM_MAX);
    if out.push(to, WORD).is_err() {
        return Ok(false);
    }
    let heard = Cell::new(false);
    let mut listen = |event: Event<'_>, _: &mut Outbox| {
        heard.set(heard.get() || matches!(event, Event::Datagram { bytes: WORD, .. }));
    };
    for _ in 0..TURNS_MAX {
        if heard.get() {
            break;
        }
        driver.turn(Some(Duration::from_millis(50)), &mut out, &mut listen)?;
    }
    Ok(heard.get())
}

/// What an error at the making of a ring means.
fn explain(fault: &io::Error) -> String {
    match fault.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel or its seccomp filter has no io_uring".to_owned(),
        Some(libc::EPERM | libc::EACCES) => forbidden(),
        Some(libc::EINVAL | libc::EOPNOTSUPP) => {
            "this kernel is too old for the ring (Linux 6.1 is needed)".to_owned()
        }
        Some(libc::ENOMEM) => {
            "no memory for the ring; perhaps RLIMIT_MEMLOCK is too low".to_owned()
        }
        _ => format!("the ring fails: {fault}"),
    }
}

fn forbidden() -> String {
    let setting = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match setting.trim() {
        "" | "0" => "a seccomp filter or a security module forbids io_uring".to_owned(),
        value => format!("the host forbids it: kernel.io_uring_disabled = {value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_one_an_operator_can_act_on() {
        let reason = |errno| explain(&io::Error::from_raw_os_error(errno));
        assert!(reason(libc::ENOSYS).contains("no io_uring"));
        assert!(reason(libc::EPERM).contains("forbids"));
        assert!(reason(libc::EINVAL).contains("6.1"));
        assert!(reason(libc::ENOMEM).contains("RLIMIT_MEMLOCK"));
        assert!(reason(libc::EIO).contains("fails"));
    }
}
