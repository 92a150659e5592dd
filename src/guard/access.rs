//! `[guard]`: who is kept out, who never is, and what a stranger may do before he is.

use core::net::IpAddr;
use core::time::Duration;

use super::block::Block;
use super::strangers::Bearable;

/// `[guard]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    pub access: Access,
    /// Requests per second that a stranger may send; `None` = any number.
    pub unknown_rate: Option<u32>,
    /// Datagrams per second that are no SIP or broken; `None` = any number.
    pub malformed_rate: Option<u32>,
    /// How long a ban lasts that the node makes, or an operator who does not say.
    pub ban_time: Duration,
}

impl Default for Guard {
    /// Nobody is banned unasked: a source address over UDP may be forged, so whether a ban hits the
    /// sender or the one he names is for those to weigh who know their network.
    fn default() -> Guard {
        Guard {
            access: Access::default(),
            unknown_rate: None,
            malformed_rate: None,
            ban_time: Duration::from_secs(600),
        }
    }
}

impl Guard {
    /// Whether anything leads to a ban by itself.
    pub fn bans_by_itself(&self) -> bool {
        self.unknown_rate.is_some() || self.malformed_rate.is_some()
    }

    /// One shard's part: a source's calls spread over all of them.
    pub fn bearable(&self, shards: usize) -> Bearable {
        let part = |rate: u32| rate as f32 / shards.max(1) as f32;
        Bearable {
            unasked_per_s: self.unknown_rate.map(part),
            malformed_per_s: self.malformed_rate.map(part),
        }
    }
}

/// The access list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    deny: Vec<Block>,
    allow: Vec<Block>,
}

/// Whether somebody is never banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exempt {
    Yes,
    No,
}

impl Access {
    /// Blocks that one list may have: a denied datagram walks past all of them.
    pub const BLOCKS_MAX: usize = 256;

    /// A list; what is in `allow` is served though it is in `deny`.
    pub fn new(deny: Vec<Block>, allow: Vec<Block>) -> Access {
        Access { deny, allow }
    }

    /// Whether everybody is let in.
    pub fn is_open(&self) -> bool {
        self.deny.is_empty()
    }

    /// Whether an address is kept out.
    pub fn denies(&self, ip: IpAddr) -> bool {
        self.deny.iter().any(|block| block.contains(ip)) && self.exempts(ip) == Exempt::No
    }

    /// Whether an address is never banned by the node itself.
    pub fn exempts(&self, ip: IpAddr) -> Exempt {
        match self.allow.iter().any(|block| block.contains(ip)) {
            true => Exempt::Yes,
            false => Exempt::No,
        }
    }

    /// The blocks of `deny`, in file order.
    pub fn deny(&self) -> &[Block] {
        &self.deny
    }

    /// The blocks of `allow`, in file order.
    pub fn allow(&self) -> &[Block] {
        &self.allow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_is_an_exception_from_deny() {
        let blocks = |texts: &[&str]| -> Vec<Block> {
            texts
                .iter()
                .map(|text| text.parse().expect("a block"))
                .collect()
        };
        let access = Access::new(
            blocks(&["192.0.2.0/24", "2001:db8::/32"]),
            blocks(&["192.0.2.7"]),
        );
        let denies = |text: &str| access.denies(text.parse().expect("an address"));
        assert!(denies("192.0.2.8") && denies("::ffff:192.0.2.8") && denies("2001:db8::1"));
        assert!(!denies("192.0.2.7") && !denies("198.51.100.1"));
        assert!(!access.is_open() && Access::default().is_open());
    }

    #[test]
    fn each_shard_bears_its_part() {
        let guard = Guard {
            unknown_rate: Some(40),
            ..Guard::default()
        };
        assert!(guard.bans_by_itself() && !Guard::default().bans_by_itself());
        assert_eq!(guard.bearable(4).unasked_per_s, Some(10.0));
        assert_eq!(guard.bearable(4).malformed_per_s, None);
    }
}
