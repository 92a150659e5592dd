//! A block of addresses: what an access list or a ban names. IPv4 stands in its IPv6-mapped form,
//! so that one table holds both.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::str::FromStr;

use crate::base::hash::HashKey;

/// All addresses with the same first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    network: u128,
    /// Of the mapped form: an IPv4 /24 has 120.
    bits: u8,
}

/// Bits in front of an IPv4 address in its mapped form.
const MAPPED_BITS: u8 = 96;

impl Block {
    /// The block of `ip` with this prefix length; what is longer than the address counts as whole.
    pub fn new(ip: IpAddr, prefix_len: u8) -> Block {
        let (ip, bits) = match ip.to_canonical() {
            IpAddr::V4(v4) if ip.is_ipv4() => {
                (v4.to_ipv6_mapped(), MAPPED_BITS + prefix_len.min(32))
            }
            IpAddr::V4(v4) => (v4.to_ipv6_mapped(), prefix_len.min(128)),
            IpAddr::V6(v6) => (v6, prefix_len.min(128)),
        };
        Block {
            network: masked(ip.to_bits(), bits),
            bits,
        }
    }

    /// What is one source: an IPv4 address, or the /64 that an IPv6 host chooses freely within.
    pub fn source(ip: IpAddr) -> Block {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Block::new(v4.into(), 32),
            IpAddr::V6(v6) => Block::new(v6.into(), 64),
        }
    }

    /// The block around an address that is so long; `bits` as in [`Block::bits`].
    pub(super) fn around(ip: IpAddr, bits: u8) -> Block {
        let ip = mapped(ip).to_bits();
        Block {
            network: masked(ip, bits),
            bits,
        }
    }

    /// Prefix length of the mapped form.
    pub(super) fn bits(self) -> u8 {
        self.bits
    }

    /// Whether the address lies in it.
    pub fn contains(self, ip: IpAddr) -> bool {
        Block::around(ip, self.bits) == self
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: Block) -> bool {
        let bits = self.bits.min(other.bits);
        masked(self.network, bits) == masked(other.network, bits)
    }

    /// A keyed hash of it.
    pub fn hash(self, key: &HashKey) -> u64 {
        let mut hasher = key.hasher();
        hasher.write(&self.network.to_ne_bytes());
        hasher.write_u64(self.bits.into());
        hasher.finish()
    }

    /// Whether it is every address of a family.
    pub fn is_everybody(self) -> bool {
        self.bits == 0 || self == Block::new(IpAddr::from([0, 0, 0, 0]), 0)
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn masked(address: u128, bits: u8) -> u128 {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    address & mask
}

impl fmt::Display for Block {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = Ipv6Addr::from_bits(self.network);
        match ip.to_ipv4_mapped().filter(|_| self.bits >= MAPPED_BITS) {
            Some(v4) => write!(out, "{v4}/{}", self.bits - MAPPED_BITS),
            None => write!(out, "{ip}/{}", self.bits),
        }
    }
}

/// The text is no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoBlock;

impl FromStr for Block {
    type Err = NoBlock;

    /// Reads `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`; an IPv6 address alone is its /64. Bits
    /// behind the prefix are cleared.
    fn from_str(text: &str) -> Result<Block, NoBlock> {
        let Some((ip, prefix_len)) = text.split_once('/') else {
            return text.parse().map(Block::source).map_err(|_| NoBlock);
        };
        let ip: IpAddr = ip.parse().map_err(|_| NoBlock)?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        // The standard library takes "+8" for a number.
        let digits = prefix_len.bytes().all(|octet| octet.is_ascii_digit());
        let prefix_len: u8 = prefix_len.parse().map_err(|_| NoBlock)?;
        match digits && prefix_len <= most {
            true => Ok(Block::new(ip, prefix_len)),
            false => Err(NoBlock),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Block {
        text.parse().expect("a block")
    }

    #[test]
    fn blocks_are_read_and_written_alike() {
        for (text, shown) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1", "2001:db8::/64"),
            ("2001:db8:ffff::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
        ] {
            assert_eq!(block(text).to_string(), shown, "{text}");
        }
        for text in [
            "",
            "a",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "::/129",
            "1.2.3/8",
            "/8",
        ] {
            assert_eq!(text.parse::<Block>(), Err(NoBlock), "{text}");
        }
    }

    #[test]
    fn an_address_lies_in_its_blocks_in_whichever_form_it_comes() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(block("192.0.2.0/24").contains(ip("192.0.2.255")));
        assert!(block("192.0.2.0/24").contains(ip("::ffff:192.0.2.255")));
        assert!(!block("192.0.2.0/24").contains(ip("192.0.3.0")));
        assert!(block("2001:db8::/64").contains(ip("2001:db8::9:9")));
        assert!(block("0.0.0.0/0").contains(ip("203.0.113.1")));
        assert!(!block("0.0.0.0/0").contains(ip("2001:db8::1")));
    }

    #[test]
    fn overlap_works_both_ways() {
        let (wide, narrow) = (block("198.51.100.0/24"), block("198.51.100.9"));
        assert!(wide.overlaps(narrow) && narrow.overlaps(wide));
        assert!(!narrow.overlaps(block("198.51.100.10")));
        assert!(block("0.0.0.0/0").is_everybody() && block("::/0").is_everybody());
        assert!(!wide.is_everybody());
    }
}
