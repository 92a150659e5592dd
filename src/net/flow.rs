//! A flow: which peer address, over which of our listeners and which transport.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The index of a `[[listen]]` entry of the configuration, in file order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u16);

/// How SIP travels (RFC 3261 §18, RFC 7118). Only UDP is carried today.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
    Ws,
    Wss,
}

/// One peer as seen by one of our listeners: where a datagram came from, or where one goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub listener: ListenerId,
    pub transport: Transport,
    pub remote: SocketAddr,
}

impl Flow {
    /// A UDP flow.
    pub const fn udp(listener: ListenerId, remote: SocketAddr) -> Flow {
        Flow {
            listener,
            transport: Transport::Udp,
            remote,
        }
    }
}

/// A flow where there are millions of them: two thirds of the room. The flow label of an IPv6
/// address is left out; no socket of ours asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactFlow {
    /// An IPv4 address is the first four of them.
    address: [u8; 16],
    scope: [u8; 4],
    port: u16,
    listener: ListenerId,
    transport: Transport,
    is_v6: bool,
}

impl From<Flow> for CompactFlow {
    fn from(flow: Flow) -> CompactFlow {
        let mut address = [0; 16];
        let mut scope = 0;
        match flow.remote {
            SocketAddr::V4(remote) => address[..4].copy_from_slice(&remote.ip().octets()),
            SocketAddr::V6(remote) => {
                address = remote.ip().octets();
                scope = remote.scope_id();
            }
        }
        CompactFlow {
            address,
            scope: scope.to_ne_bytes(),
            port: flow.remote.port(),
            listener: flow.listener,
            transport: flow.transport,
            is_v6: flow.remote.is_ipv6(),
        }
    }
}

impl CompactFlow {
    /// The address alone.
    pub fn ip(self) -> IpAddr {
        let [a, b, c, d, ..] = self.address;
        match self.is_v6 {
            true => IpAddr::V6(Ipv6Addr::from(self.address)),
            false => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        }
    }
}

impl From<CompactFlow> for Flow {
    fn from(kept: CompactFlow) -> Flow {
        let scope = u32::from_ne_bytes(kept.scope);
        let remote = match kept.ip() {
            IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(ip, kept.port)),
            IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, kept.port, 0, scope)),
        };
        Flow {
            listener: kept.listener,
            transport: kept.transport,
            remote,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compact_flow_is_small_and_the_same_flow() {
        let literal = ["192.0.2.1:5060", "[2001:db8::7]:5070", "[fe80::1%3]:5080"];
        for remote in literal {
            let flow = Flow {
                listener: ListenerId(513),
                transport: Transport::Tls,
                remote: remote.parse().expect("a literal address"),
            };
            let kept = CompactFlow::from(flow);
            assert_eq!(Flow::from(kept), flow);
            assert_eq!(kept.ip(), flow.remote.ip());
        }
        assert_eq!(size_of::<Option<CompactFlow>>(), 26);
    }
}
