//! Which trunk a datagram comes from, by its source address.
//!
//! A trunk's own address and port win; then the longest prefix among the `match` blocks and the
//! hosts of all addresses. At the same length an explicit `match` beats an address's host, and then
//! the trunk that stands first in the file wins. Disabled trunks are looked up like all others: who
//! sent something and whether it may call are two questions.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use hashbrown::HashTable;

use super::plan::{Cidr, Plan, Trunk, TrunkId};
use super::policy::mixed;

/// Why a source belongs to its trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It is an address of the trunk, port included.
    Address,
    /// It lies in this `match` block.
    Match(Cidr),
    /// It has the IP of a trunk's address and another port.
    AddressIp,
}

impl Rule {
    /// The rule in words, for `why`.
    pub fn text(&self) -> &'static str {
        match self {
            Rule::Address => "its address and port are the trunk's",
            Rule::Match(_) => "it lies in a match block of the trunk",
            Rule::AddressIp => "its IP is that of one of the trunk's addresses",
        }
    }
}

/// The source table of one plan.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    hosts: HashTable<Host>,
    /// Ports of all hosts; each host has a range of them.
    ports: Vec<(u16, TrunkId)>,
    /// Blocks longer than one host, longest first.
    lengths: Vec<Length>,
}

/// All that is known about one IP; one look-up finds it.
#[derive(Clone, Copy, Debug)]
struct Host {
    /// The IP, IPv4 in its IPv6-mapped form.
    key: u128,
    ports: (u32, u32),
    trunk: TrunkId,
    rule: Rule,
}

/// The blocks of one family and prefix length.
#[derive(Clone, Debug)]
struct Length {
    is_ipv4: bool,
    prefix_len: u8,
    /// Sorted by network.
    blocks: Vec<(u128, TrunkId)>,
}

impl Sources {
    /// Builds the table; the order of the trunks in the file settles what is left of ties.
    pub fn build(plan: &Plan) -> Sources {
        let mut sources = Sources::default();
        let trunks = in_file_order(plan);
        for (id, trunk) in &trunks {
            for block in &trunk.sources {
                sources.add_block(*id, canonical(*block));
            }
        }
        for (id, trunk) in &trunks {
            for address in &trunk.addresses {
                sources.add_host(address.ip(), *id, Rule::AddressIp);
            }
        }
        sources.add_ports(&trunks);
        sources
            .lengths
            .sort_by_key(|length| core::cmp::Reverse(length.prefix_len));
        sources
    }

    /// The trunk that a datagram from `source` belongs to, and by which rule.
    pub fn lookup(&self, source: SocketAddr) -> Option<(TrunkId, Rule)> {
        let ip = source.ip().to_canonical();
        let key = key_of(ip);
        match self.hosts.find(hash(key), |host| host.key == key) {
            Some(host) => Some(self.on_host(host, source.port())),
            None => self.in_block(ip),
        }
    }

    /// A host is as long as a prefix can be, so that no block comes before it.
    fn on_host(&self, host: &Host, port: u16) -> (TrunkId, Rule) {
        let ports = &self.ports[host.ports.0 as usize..host.ports.1 as usize];
        match ports.iter().find(|(known, _)| *known == port) {
            Some((_, trunk)) => (*trunk, Rule::Address),
            None => (host.trunk, host.rule),
        }
    }

    fn in_block(&self, ip: IpAddr) -> Option<(TrunkId, Rule)> {
        self.lengths
            .iter()
            .filter(|length| length.is_ipv4 == ip.is_ipv4())
            .find_map(|length| length.lookup(ip))
    }

    fn add_block(&mut self, trunk: TrunkId, block: Cidr) {
        let is_ipv4 = block.network.is_ipv4();
        if block.prefix_len == bits_of(is_ipv4) {
            self.add_host(block.network, trunk, Rule::Match(block));
            return;
        }
        let same =
            |length: &Length| length.is_ipv4 == is_ipv4 && length.prefix_len == block.prefix_len;
        let at = self.lengths.iter().position(same).unwrap_or_else(|| {
            self.lengths.push(Length {
                is_ipv4,
                prefix_len: block.prefix_len,
                blocks: Vec::new(),
            });
            self.lengths.len() - 1
        });
        self.lengths[at].add(key_of(block.network), trunk);
    }

    /// The first rule for a host stays.
    fn add_host(&mut self, ip: IpAddr, trunk: TrunkId, rule: Rule) {
        let key = key_of(ip.to_canonical());
        self.hosts
            .entry(hash(key), |host| host.key == key, |host| hash(host.key))
            .or_insert(Host {
                key,
                ports: (0, 0),
                trunk,
                rule,
            });
    }

    /// Lays the ports of each host side by side, in file order.
    fn add_ports(&mut self, trunks: &[(TrunkId, &Trunk)]) {
        let mut addresses: Vec<(u128, u16, TrunkId)> = trunks
            .iter()
            .flat_map(|(id, trunk)| trunk.addresses.iter().map(move |address| (id, address)))
            .map(|(id, address)| (key_of(address.ip().to_canonical()), address.port(), *id))
            .collect();
        addresses.sort_by_key(|(key, _, _)| *key);
        for of_one_host in addresses.chunk_by(|one, other| one.0 == other.0) {
            let start = self.ports.len() as u32;
            self.ports
                .extend(of_one_host.iter().map(|(_, port, trunk)| (*port, *trunk)));
            let key = of_one_host[0].0;
            if let Some(host) = self.hosts.find_mut(hash(key), |host| host.key == key) {
                host.ports = (start, self.ports.len() as u32);
            }
        }
    }
}

impl Length {
    /// The first trunk of a block stays.
    fn add(&mut self, network: u128, trunk: TrunkId) {
        if let Err(at) = self.blocks.binary_search_by_key(&network, |block| block.0) {
            self.blocks.insert(at, (network, trunk));
        }
    }

    fn lookup(&self, ip: IpAddr) -> Option<(TrunkId, Rule)> {
        let block = canonical(Cidr {
            network: ip,
            prefix_len: self.prefix_len,
        });
        let network = key_of(block.network);
        let at = self.blocks.binary_search_by_key(&network, |block| block.0);
        at.ok().map(|at| (self.blocks[at].1, Rule::Match(block)))
    }
}

/// Trunks by the line of their heading.
fn in_file_order(plan: &Plan) -> Vec<(TrunkId, &Trunk)> {
    let mut trunks: Vec<(TrunkId, &Trunk)> = plan
        .trunks
        .iter()
        .enumerate()
        .map(|(at, trunk)| (TrunkId(at as u16), trunk))
        .collect();
    trunks.sort_by_key(|(_, trunk)| trunk.line);
    trunks
}

/// The block with its host bits cleared, and an IPv4-mapped one as the IPv4 block it means.
fn canonical(block: Cidr) -> Cidr {
    let mapped = match block.network {
        IpAddr::V6(network) if block.prefix_len >= 96 => network.to_ipv4_mapped(),
        IpAddr::V6(_) | IpAddr::V4(_) => None,
    };
    let (network, prefix_len) = match mapped {
        Some(network) => (IpAddr::V4(network), block.prefix_len.min(128) - 96),
        None => {
            let bits = bits_of(block.network.is_ipv4());
            (block.network, block.prefix_len.min(bits))
        }
    };
    Cidr {
        network: masked(network, prefix_len),
        prefix_len,
    }
}

fn masked(network: IpAddr, prefix_len: u8) -> IpAddr {
    match network {
        IpAddr::V4(network) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len));
            IpAddr::V4((network.to_bits() & mask.unwrap_or(0)).into())
        }
        IpAddr::V6(network) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len));
            IpAddr::V6(Ipv6Addr::from_bits(network.to_bits() & mask.unwrap_or(0)))
        }
    }
}

const fn bits_of(is_ipv4: bool) -> u8 {
    if is_ipv4 { 32 } else { 128 }
}

/// One number per IP: a canonical IPv6 address is never an IPv4-mapped one, so the two do not clash.
fn key_of(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// Not keyed: all that is ever in the table comes from the configuration.
fn hash(key: u128) -> u64 {
    mixed(key as u64 ^ mixed((key >> 64) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::testing::trunk;

    fn cidr(text: &str) -> Cidr {
        let (network, prefix_len) = text.split_once('/').expect("a literal block");
        Cidr {
            network: network.parse().expect("a literal address"),
            prefix_len: prefix_len.parse().expect("a literal length"),
        }
    }

    fn sources(trunks: &[(&[&str], &[&str])]) -> Sources {
        let trunks = trunks.iter().enumerate().map(|(at, (addresses, blocks))| {
            let mut trunk = trunk(&format!("t{at}"), at as u16, addresses);
            trunk.sources = blocks.iter().map(|block| cidr(block)).collect();
            trunk
        });
        Sources::build(&Plan {
            trunks: trunks.collect(),
            ..Plan::default()
        })
    }

    fn found(sources: &Sources, source: &str) -> Option<(u16, Rule)> {
        let source = source.parse().expect("a literal address");
        sources.lookup(source).map(|(trunk, rule)| (trunk.0, rule))
    }

    #[test]
    fn an_exact_address_and_port_wins_over_everything() {
        let sources = sources(&[
            (&["192.0.2.1:5060"], &["192.0.2.1/32"]),
            (&["192.0.2.1:5080"], &[]),
        ]);
        assert_eq!(found(&sources, "192.0.2.1:5080"), Some((1, Rule::Address)));
        assert_eq!(found(&sources, "192.0.2.1:5060"), Some((0, Rule::Address)));
        let by_block = Some((0, Rule::Match(cidr("192.0.2.1/32"))));
        assert_eq!(found(&sources, "192.0.2.1:9"), by_block);
    }

    #[test]
    fn the_longest_prefix_wins_and_an_address_is_a_prefix_of_one_host() {
        let sources = sources(&[
            (&[], &["0.0.0.0/0", "198.51.100.0/24"]),
            (&[], &["198.51.100.128/25"]),
            (&["198.51.100.200:5060"], &[]),
        ]);
        let at = |source| found(&sources, source);
        assert_eq!(at("198.51.100.200:9"), Some((2, Rule::AddressIp)));
        let half = Some((1, Rule::Match(cidr("198.51.100.128/25"))));
        assert_eq!(at("198.51.100.201:9"), half);
        let whole = Some((0, Rule::Match(cidr("198.51.100.0/24"))));
        assert_eq!(at("198.51.100.1:9"), whole);
        assert_eq!(at("8.8.8.8:9"), Some((0, Rule::Match(cidr("0.0.0.0/0")))));
        assert_eq!(at("[2001:db8::1]:9"), None);
    }

    #[test]
    fn an_explicit_match_beats_an_address_of_an_earlier_trunk() {
        let sources = sources(&[(&["192.0.2.1:5060"], &[]), (&[], &["192.0.2.1/32"])]);
        let by_block = Some((1, Rule::Match(cidr("192.0.2.1/32"))));
        assert_eq!(found(&sources, "192.0.2.1:9"), by_block);
        assert_eq!(found(&sources, "192.0.2.1:5060"), Some((0, Rule::Address)));
    }

    #[test]
    fn equal_rules_go_to_the_trunk_that_stands_first_in_the_file() {
        let blocks: &[&str] = &["192.0.2.0/24"];
        let addresses: &[&str] = &["203.0.113.1:5060"];
        let mut plan = Plan {
            trunks: vec![trunk("a", 0, addresses), trunk("b", 1, addresses)],
            ..Plan::default()
        };
        for trunk in &mut plan.trunks {
            trunk.sources = blocks.iter().map(|block| cidr(block)).collect();
        }
        plan.trunks[0].line = 20;
        plan.trunks[1].line = 10;
        let sources = Sources::build(&plan);
        for source in ["192.0.2.7:1", "203.0.113.1:5060", "203.0.113.1:1"] {
            assert_eq!(found(&sources, source).map(|(trunk, _)| trunk), Some(1));
        }
    }

    #[test]
    fn an_ipv4_mapped_source_or_block_is_ipv4() {
        let sources = sources(&[
            (&["[::ffff:192.0.2.1]:5060"], &["::ffff:198.51.100.0/120"]),
            (&[], &["2001:db8::/32", "::/0"]),
        ]);
        let at = |source| found(&sources, source).map(|(trunk, _)| trunk);
        assert_eq!(at("192.0.2.1:5060"), Some(0));
        assert_eq!(at("[::ffff:192.0.2.1]:5060"), Some(0));
        assert_eq!(at("[::ffff:198.51.100.9]:1"), Some(0));
        assert_eq!(at("198.51.100.9:1"), Some(0));
        assert_eq!(at("[::ffff:203.0.113.1]:1"), None);
        assert_eq!(at("[2001:db8::5]:1"), Some(1));
        assert_eq!(at("[fe80::5]:1"), Some(1));
    }

    #[test]
    fn a_block_with_host_bits_is_its_network() {
        let sources = sources(&[(&[], &["192.0.2.77/24"])]);
        let by_block = Some((0, Rule::Match(cidr("192.0.2.0/24"))));
        assert_eq!(found(&sources, "192.0.2.1:1"), by_block);
        assert_eq!(found(&sources, "192.0.3.1:1"), None);
    }

    #[test]
    fn the_table_agrees_with_a_search_by_hand() {
        let blocks = [
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.0/23",
            "10.1.2.0/24",
            "10.1.2.3/32",
        ];
        let trunks: Vec<[&str; 1]> = blocks.iter().map(|block| [*block]).collect();
        let plan: Vec<(&[&str], &[&str])> =
            trunks.iter().map(|block| (&[][..], &block[..])).collect();
        let sources = sources(&plan);
        for seed in 0..20_000u64 {
            let bits = (mixed(seed) as u32 & 0x0103_03ff) | 10 << 24;
            let ip = IpAddr::V4(bits.into());
            let by_hand = blocks
                .iter()
                .rposition(|block| cidr(block).contains(ip))
                .map(|at| TrunkId(at as u16));
            let found = sources.lookup(SocketAddr::new(ip, 5060));
            assert_eq!(found.map(|(trunk, _)| trunk), by_hand, "{ip}");
        }
    }
}
