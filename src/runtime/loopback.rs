//! The embedded default on a host that lacks one of its addresses: it runs on the others.
//!
//! A listener from a file is what its operator asked for, and one that cannot be bound ends the
//! start; nobody asked for `[::1]`, so a host without IPv6 is told in a warning only.

use std::io;
use std::net::{IpAddr, UdpSocket};

use crate::shard::Listener;

/// Leaves out the listeners whose address this host does not have, unless that is all of them.
pub fn leave_out_missing(listeners: &mut Vec<Listener>) {
    let kept = listeners_kept(listeners, &has_address);
    if !kept.is_empty() {
        *listeners = kept;
    }
}

fn listeners_kept(
    listeners: &[Listener],
    has_address: &dyn Fn(IpAddr) -> io::Result<()>,
) -> Vec<Listener> {
    let is_kept = |listener: &&Listener| match has_address(listener.bind.ip()) {
        Ok(()) => true,
        Err(fault) => {
            let bind = listener.bind;
            tracing::warn!(%fault, "no listener on udp {bind}: this host has no such address");
            false
        }
    };
    listeners.iter().filter(is_kept).cloned().collect()
}

/// Whether a socket can have this address at all: port 0 is never in use.
fn has_address(ip: IpAddr) -> io::Result<()> {
    UdpSocket::bind((ip, 0)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::default_config;

    #[test]
    fn without_ipv6_the_default_listens_on_ipv4_only() {
        let no_ipv6 = |ip: IpAddr| match ip {
            IpAddr::V4(_) => Ok(()),
            IpAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
        };
        let mut listeners = default_config().plan.listeners;
        listeners = listeners_kept(&listeners, &no_ipv6);
        assert_eq!(listeners.len(), 1);
        assert!(listeners[0].bind.is_ipv4());
    }

    #[test]
    fn a_host_without_any_loopback_keeps_all_so_that_the_bind_says_why() {
        let mut listeners = default_config().plan.listeners;
        for listener in &mut listeners {
            // Documentation addresses (RFC 5737): no host has them.
            listener.bind.set_ip(IpAddr::from([192, 0, 2, 1]));
        }
        leave_out_missing(&mut listeners);
        assert_eq!(listeners.len(), 2);
    }
}
