//! The address that a wildcard listener writes into Via and Record-Route where none is configured.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::shard::NodePlan;

/// Fills in each advertise host that is missing: the local address from which the first trunk of that
/// family is reached. Returns one line for each, for the log.
pub fn derive(plan: &mut NodePlan) -> Vec<String> {
    let peers: Vec<SocketAddr> = plan
        .routing
        .trunks
        .iter()
        .flat_map(|trunk| trunk.addresses.iter().copied())
        .collect();
    let mut lines = Vec::new();
    for listener in &mut plan.listeners {
        // The configuration leaves the host empty for a wildcard listener without `advertise`.
        if !listener.advertise_host.is_empty() {
            continue;
        }
        let peer = peers
            .iter()
            .copied()
            .find(|peer| peer.is_ipv4() == listener.bind.is_ipv4());
        let local = local_towards(peer.unwrap_or_else(|| far_away(listener.bind)))
            .unwrap_or_else(|_unreachable| loopback(listener.bind));
        listener.advertise_host = host_text(local);
        lines.push(format!(
            "listener {} advertises {}: derived from the route to {}; set `advertise` to choose another",
            listener.bind,
            listener.advertise_host,
            peer.map_or_else(|| "the default gateway".to_owned(), |peer| peer.to_string()),
        ));
    }
    lines
}

/// Asks the routing table: a UDP connect sends nothing, and sets the local address.
fn local_towards(peer: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}

/// An address that only the default route reaches (RFC 5737, RFC 3849).
fn far_away(family_of: SocketAddr) -> SocketAddr {
    let ip: IpAddr = if family_of.is_ipv4() {
        Ipv4Addr::new(192, 0, 2, 1).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
    };
    SocketAddr::new(ip, 5060)
}

fn loopback(family_of: SocketAddr) -> IpAddr {
    if family_of.is_ipv4() {
        Ipv4Addr::LOCALHOST.into()
    } else {
        Ipv6Addr::LOCALHOST.into()
    }
}

fn host_text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_to_loopback_starts_at_loopback() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 5080));
        let local = local_towards(peer).expect("loopback has a route");
        assert_eq!(local, IpAddr::from([127, 0, 0, 1]));
        assert_eq!(host_text(Ipv6Addr::LOCALHOST.into()), "[::1]");
    }
}
