//! A flow: which peer address, over which of our listeners and which transport.

use core::net::SocketAddr;

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
