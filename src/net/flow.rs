//! A flow: which peer address, over which of our listeners and which transport.

use core::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

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

/// A flow where there are millions of them: ten octets. An IPv6 address is kept beside it, by a
/// number; its flow label is left out, no socket of ours asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactFlow {
    /// An IPv4 address, or the number of an IPv6 one.
    address: [u8; 4],
    port: u16,
    listener: ListenerId,
    transport: Transport,
    is_v6: bool,
}

/// An IPv6 address with its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WideAddress {
    address: [u8; 16],
    scope: u32,
}

impl CompactFlow {
    /// Makes `flow` compact; an IPv6 address is handed to `keep`, which gives its number.
    pub fn of(flow: Flow, keep: impl FnOnce(WideAddress) -> u32) -> CompactFlow {
        let address = match flow.remote {
            SocketAddr::V4(remote) => remote.ip().octets(),
            SocketAddr::V6(remote) => keep(WideAddress {
                address: remote.ip().octets(),
                scope: remote.scope_id(),
            })
            .to_ne_bytes(),
        };
        CompactFlow {
            address,
            port: flow.remote.port(),
            listener: flow.listener,
            transport: flow.transport,
            is_v6: flow.remote.is_ipv6(),
        }
    }

    /// The number of its IPv6 address, where it has one.
    pub fn wide(self) -> Option<u32> {
        self.is_v6.then_some(u32::from_ne_bytes(self.address))
    }

    /// The flow; `kept` gives the IPv6 address of a number.
    pub fn flow(self, kept: impl FnOnce(u32) -> Option<WideAddress>) -> Flow {
        let remote = match self.wide() {
            None => SocketAddr::from((self.address, self.port)),
            Some(number) => {
                let wide = kept(number);
                let ip = wide.map_or(Ipv6Addr::UNSPECIFIED, |wide| wide.address.into());
                let scope = wide.map_or(0, |wide| wide.scope);
                SocketAddrV6::new(ip, self.port, 0, scope).into()
            }
        };
        Flow {
            listener: self.listener,
            transport: self.transport,
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
            let mut wide = None;
            let compact = CompactFlow::of(flow, |address| {
                wide = Some(address);
                77
            });
            assert_eq!(compact.wide(), wide.map(|_| 77));
            assert_eq!(wide.is_some(), flow.remote.is_ipv6());
            let back = compact.flow(|number| wide.filter(|_| number == 77));
            assert_eq!(back, flow);
        }
        assert_eq!(size_of::<Option<CompactFlow>>(), 10);
    }
}
