//! What a shard needs of a checked configuration; read-only, shared by all shards, swapped whole.

use core::net::SocketAddr;
use core::time::Duration;

use crate::guard::access::Guard;
use crate::guard::overload;
use crate::route;
use crate::transaction::Timings;

/// The part of a configuration that a shard works from.
#[derive(Clone, Debug)]
pub struct NodePlan {
    /// Name of the configuration file, for what points to a line of it.
    pub source_name: String,
    pub node_name: String,
    /// In file order; [`crate::net::ListenerId`] is an index into it.
    pub listeners: Vec<Listener>,
    /// Further host names that mean this node in a Request-URI or Route (`[node] aliases`), lower case.
    pub aliases: Vec<String>,
    pub routing: route::Plan,
    pub timings: Timings,
    /// Smallest session interval accepted where a trunk asks for session timers (RFC 4028, at least 90 s).
    pub min_se: Duration,
    /// Largest SIP message taken, in octets; a larger one gets 513.
    pub message_max: usize,
    /// When new requests are turned away.
    pub overload: overload::Rule,
    /// Who is kept out.
    pub guard: Guard,
}

/// One `[[listen]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub bind: SocketAddr,
    /// Host part of what we write into Via and Record-Route; IPv6 in brackets.
    pub advertise_host: String,
    pub advertise_port: u16,
}

/// Sizes of one shard's tables, from `[capacity]` divided by the number of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub dialogs: usize,
    pub transactions: usize,
}

impl NodePlan {
    /// One more than the highest slot of a trunk or group.
    pub fn slots_end(&self) -> usize {
        let trunks = self.routing.trunks.iter().map(|trunk| trunk.slot);
        let groups = self.routing.groups.iter().map(|group| group.slot);
        trunks
            .chain(groups)
            .max()
            .map_or(0, |slot| usize::from(slot) + 1)
    }
}

impl Listener {
    /// The address that stands for this socket where one must be named: what it is bound to, or
    /// what it advertises where it is bound to every address.
    pub fn address(&self) -> SocketAddr {
        if !self.bind.ip().is_unspecified() {
            return self.bind;
        }
        let host = self.advertise_host.trim_matches(['[', ']']);
        let advertised = host.parse().unwrap_or(self.bind.ip());
        SocketAddr::new(advertised, self.bind.port())
    }

    /// Whether a datagram to `ip` and our port may reach this socket.
    pub fn is_bound_to(&self, ip: core::net::IpAddr) -> bool {
        self.bind.ip() == ip
    }
}
