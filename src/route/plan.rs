//! The checked routing plan: what `[trunk]`, `[group]` and `[[route]]` say, with names resolved.
//!
//! Built by `config`, read-only afterwards and shared by all shards; a reload swaps the whole plan.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use crate::net::ListenerId;

/// Index of a trunk in [`Plan::trunks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrunkId(pub u16);

/// Index of a group in [`Plan::groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u16);

/// The routing part of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub trunks: Vec<Trunk>,
    pub groups: Vec<Group>,
    /// In file order; the first line that matches decides.
    pub routes: Vec<RouteLine>,
}

impl Plan {
    /// The trunk with this id; ids come from the same plan, so it exists.
    pub fn trunk(&self, id: TrunkId) -> &Trunk {
        &self.trunks[usize::from(id.0)]
    }

    /// The group with this id.
    pub fn group(&self, id: GroupId) -> &Group {
        &self.groups[usize::from(id.0)]
    }

    /// Finds a trunk by its configured name.
    pub fn trunk_named(&self, name: &str) -> Option<TrunkId> {
        self.trunks
            .iter()
            .position(|trunk| trunk.name == name)
            .map(|at| TrunkId(at as u16))
    }
}

/// One `[trunk.NAME]`.
#[derive(Clone, Debug)]
pub struct Trunk {
    pub name: String,
    /// Stable number of this name over reloads: indexes limit counters, metrics and the health board.
    pub slot: u16,
    /// Slots of all groups that this trunk is a member of; a call over the trunk counts in each.
    pub group_slots: Vec<u16>,
    /// Requests to the trunk go to the first of these that is alive; their IPs identify it as a source.
    pub addresses: Vec<SocketAddr>,
    /// Further sources (`match`).
    pub sources: Vec<Cidr>,
    pub limits: LimitMaxima,
    /// Allowed audio encodings, lower case; empty = any.
    pub codecs: Vec<String>,
    /// Interval of OPTIONS probes; `None` = off.
    pub probe: Option<Duration>,
    /// `None` = the default rule: four times the probe's round trip, at least 2 s, 32 s without a probe.
    pub auto_congest: Option<Duration>,
    /// Session-Expires that is asked for on calls of this trunk (RFC 4028).
    pub session_expires: Option<Duration>,
    pub call_time_max: Option<Duration>,
    /// Answer in place of 480 or 486 when a calls limit is reached: 480, 486 or 503.
    pub over_limit: Option<u16>,
    /// `cseq = "strict"`: an INVITE with a lower CSeq in a dialog gets 500.
    pub cseq_strict: bool,
    /// It is asked how loaded it is, and sent less when it says so (RFC 7339).
    pub oc: bool,
    /// Whether the trunk starts as `disabled`.
    pub disabled: bool,
    /// Line of the table's heading in the configuration file, for `why`.
    pub line: u32,
}

/// Limits of one trunk or group; `None` = not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LimitMaxima {
    pub calls_max: Option<u32>,
    pub calls_in_max: Option<u32>,
    pub calls_out_max: Option<u32>,
    pub cps: Option<Cps>,
}

/// New calls per second: a sustained rate and how many may come at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cps {
    pub sustain: f64,
    pub burst: u32,
}

/// A block of addresses, as in `198.51.100.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub network: IpAddr,
    pub prefix_len: u8,
}

impl Cidr {
    /// Whether `address` lies in the block; families never match each other.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix_len.min(32));
                u64::from(network.to_bits()) >> shift == u64::from(address.to_bits()) >> shift
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix_len.min(128));
                network.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// One `[group.NAME]`.
#[derive(Clone, Debug)]
pub struct Group {
    pub name: String,
    /// Stable number of this name over reloads, from the same space as [`Trunk::slot`].
    pub slot: u16,
    pub policy: Policy,
    /// At most [`Group::MEMBERS_MAX`].
    pub members: Vec<Member>,
    pub limits: LimitMaxima,
    pub over_limit: Option<u16>,
    pub line: u32,
}

impl Group {
    /// Members tried for one call are remembered in 64 bits.
    pub const MEMBERS_MAX: usize = 64;
}

/// A trunk in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub trunk: TrunkId,
    /// At least 1.
    pub weight: u32,
}

/// How a group orders its members for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Priority,
    RoundRobin,
    Weighted,
    LeastCalls,
    CallIdHash,
}

/// One `[[route]]`.
#[derive(Clone, Debug)]
pub struct RouteLine {
    /// Groups are expanded to their members; empty = any trunk.
    pub from: Vec<TrunkId>,
    /// Matches the user part of the Request-URI, unescaped.
    pub user: Option<regex::bytes::Regex>,
    /// Host of the Request-URI, lower case.
    pub domain: Option<String>,
    pub to: Target,
    pub line: u32,
}

/// Where a route line sends a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Trunk(TrunkId),
    Group(GroupId),
    Reject { status: u16 },
    Redirect { uri: String },
}

/// The listener over which an address is reached.
pub fn listener_for(listeners: &[SocketAddr], to: SocketAddr) -> Option<ListenerId> {
    listeners
        .iter()
        .position(|bound| bound.is_ipv4() == to.is_ipv4())
        .map(|at| ListenerId(at as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(network: &str, prefix_len: u8) -> Cidr {
        Cidr {
            network: network.parse().expect("a literal address"),
            prefix_len,
        }
    }

    #[test]
    fn a_block_contains_its_own_addresses_only() {
        let address = |text: &str| text.parse::<IpAddr>().expect("a literal address");
        assert!(cidr("198.51.100.0", 24).contains(address("198.51.100.255")));
        assert!(!cidr("198.51.100.0", 24).contains(address("198.51.101.0")));
        assert!(cidr("0.0.0.0", 0).contains(address("255.255.255.255")));
        assert!(!cidr("0.0.0.0", 0).contains(address("::1")));
        assert!(cidr("::", 0).contains(address("ffff::1")));
        assert!(cidr("2001:db8::", 32).contains(address("2001:db8:1::5")));
        assert!(!cidr("2001:db8::", 32).contains(address("2001:db9::")));
        assert!(cidr("::1", 128).contains(address("::1")));
    }
}
