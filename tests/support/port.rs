//! Free ports of loopback addresses, below the range from which the kernel picks its own.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 20_000;
const COUNT: u32 = 10_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port of 127.0.0.1 that is free for UDP and TCP, and so is the next one.
pub fn free() -> u16 {
    free_on(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The same on `address`.
pub fn free_on(address: IpAddr) -> u16 {
    // Two runs of the tests on one machine start their search in different places.
    let start = std::process::id().wrapping_mul(97) % COUNT;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(4, Ordering::Relaxed);
        let port = (FIRST + (start + step) % COUNT) as u16;
        if is_free(address, port) && is_free(address, port + 1) {
            return port;
        }
    }
    panic!("no free port on {address}");
}

fn is_free(address: IpAddr, port: u16) -> bool {
    UdpSocket::bind((address, port)).is_ok() && TcpListener::bind((address, port)).is_ok()
}
