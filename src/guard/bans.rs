//! Who is not served at all, until when and why. One look-up per prefix length in use, most often
//! one; bounded, and full it refuses further bans.
//!
//! The truth is in [`SharedBans`], which all shards and the operator write; each shard looks at a
//! copy of its own, which it takes anew when the version has changed.

use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use hashbrown::HashTable;

use super::block::Block;
use crate::base::Instant;
use crate::base::hash::HashKey;

/// Why a source is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Somebody said so.
    Operator,
    /// More requests than a stranger may send.
    UnknownRate,
    /// More of what is no SIP than anybody may send.
    Malformed,
}

impl Reason {
    /// The word that operators see.
    pub const fn text(self) -> &'static str {
        match self {
            Reason::Operator => "operator",
            Reason::UnknownRate => "unknown_rate",
            Reason::Malformed => "malformed",
        }
    }
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    pub block: Block,
    pub reason: Reason,
    /// What the operator said.
    pub note: Option<Arc<str>>,
    pub since: Instant,
    pub until: Instant,
}

/// There is no room for a further ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BansFull;

/// A bounded table of bans.
#[derive(Clone, Debug)]
pub struct Bans {
    table: HashTable<Ban>,
    /// How many bans there are of each prefix length in use, longest first.
    lengths: Vec<(u8, usize)>,
    key: HashKey,
    bans_max: usize,
}

impl Bans {
    /// Room for so many; the key is secret, or sources could be chosen that share a place.
    pub fn new(bans_max: usize, key: HashKey) -> Bans {
        Bans {
            table: HashTable::with_capacity(bans_max),
            lengths: Vec::with_capacity(129),
            key,
            bans_max,
        }
    }

    /// The ban that an address is under; one that is over is none.
    pub fn find(&self, now: Instant, ip: IpAddr) -> Option<&Ban> {
        self.lengths.iter().find_map(|(bits, _)| {
            let block = Block::around(ip, *bits);
            let ban = self
                .table
                .find(self.hash(block), |ban| ban.block == block)?;
            (now < ban.until).then_some(ban)
        })
    }

    /// Adds a ban, or puts it in place of the one of the same block. Those that are over make room.
    pub fn add(&mut self, now: Instant, ban: Ban) -> Result<(), BansFull> {
        let _replaced = self.remove(ban.block);
        if self.table.len() >= self.bans_max {
            self.forget_ended(now);
        }
        if self.table.len() >= self.bans_max {
            return Err(BansFull);
        }
        let bits = ban.block.bits();
        match self.lengths.iter_mut().find(|(known, _)| *known == bits) {
            Some((_, count)) => *count += 1,
            None => {
                let at = self.lengths.partition_point(|(known, _)| *known > bits);
                self.lengths.insert(at, (bits, 1));
            }
        }
        let hash = self.hash(ban.block);
        let key = self.key;
        self.table
            .insert_unique(hash, ban, |ban| ban.block.hash(&key));
        Ok(())
    }

    /// Takes a ban away.
    pub fn remove(&mut self, block: Block) -> Option<Ban> {
        let entry = self
            .table
            .find_entry(self.hash(block), |ban| ban.block == block);
        let (ban, _) = entry.ok()?.remove();
        self.recount(block.bits());
        Some(ban)
    }

    /// Those that are in force, in the order of their blocks.
    pub fn list(&self, now: Instant) -> Vec<Ban> {
        let in_force = self.table.iter().filter(|ban| now < ban.until);
        let mut bans: Vec<Ban> = in_force.cloned().collect();
        bans.sort_by_key(|ban| ban.block);
        bans
    }

    /// How many there are, with those that are over and not yet forgotten.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    fn forget_ended(&mut self, now: Instant) {
        let lengths = &mut self.lengths;
        self.table.retain(|ban| {
            let stays = now < ban.until;
            if !stays
                && let Some(length) = lengths
                    .iter_mut()
                    .find(|(bits, _)| *bits == ban.block.bits())
            {
                length.1 -= 1;
            }
            stays
        });
        lengths.retain(|(_, count)| *count > 0);
    }

    fn recount(&mut self, bits: u8) {
        if let Some(length) = self.lengths.iter_mut().find(|(known, _)| *known == bits) {
            length.1 -= 1;
        }
        self.lengths.retain(|(_, count)| *count > 0);
    }

    fn hash(&self, block: Block) -> u64 {
        block.hash(&self.key)
    }
}

/// The bans of a node. Whoever holds the lock does a bounded piece of work and no system call.
#[derive(Debug)]
pub struct SharedBans {
    version: AtomicU64,
    bans: Mutex<Bans>,
}

impl SharedBans {
    /// Bans that a node holds at the same time.
    pub const BANS_MAX: usize = 8192;

    /// No bans.
    pub fn new(key: HashKey) -> SharedBans {
        SharedBans {
            version: AtomicU64::new(0),
            bans: Mutex::new(Bans::new(Self::BANS_MAX, key)),
        }
    }

    /// Changes the bans on behalf of an operator.
    pub fn change<T>(&self, act: impl FnOnce(&mut Bans) -> T) -> T {
        // A panic elsewhere leaves a table behind that is whole: each change is one step.
        let mut bans = self.bans.lock().unwrap_or_else(PoisonError::into_inner);
        let done = act(&mut bans);
        self.version.fetch_add(1, Ordering::Release);
        done
    }

    /// Looks at the bans on behalf of an operator.
    pub fn change_nothing<T>(&self, look: impl FnOnce(&Bans) -> T) -> T {
        look(&self.bans.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same as [`SharedBans::change`] for a shard, which never waits: `None` while somebody else is at it.
    pub fn try_change<T>(&self, act: impl FnOnce(&mut Bans) -> T) -> Option<T> {
        let mut bans = match self.bans.try_lock() {
            Ok(bans) => bans,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let done = act(&mut bans);
        self.version.fetch_add(1, Ordering::Release);
        Some(done)
    }

    /// Changes with every change.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Brings a copy up to date and gives the version that it has then; `None` while somebody else
    /// is at it.
    pub fn copy_to(&self, copy: &mut Bans) -> Option<u64> {
        let bans = match self.bans.try_lock() {
            Ok(bans) => bans,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        copy.clone_from(&bans);
        Some(self.version())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const NOW: Instant = Instant::from_micros(1_000_000);

    fn ban(block: &str, for_s: u64) -> Ban {
        Ban {
            block: block.parse().expect("a block"),
            reason: Reason::Operator,
            note: None,
            since: NOW,
            until: NOW + Duration::from_secs(for_s),
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn bans(bans_max: usize) -> Bans {
        Bans::new(bans_max, HashKey::new([1, 2]))
    }

    #[test]
    fn an_address_is_found_under_every_ban_that_covers_it_while_that_lasts() {
        let mut bans = bans(10);
        bans.add(NOW, ban("192.0.2.0/24", 100)).expect("room");
        bans.add(NOW, ban("192.0.2.7", 10)).expect("room");
        bans.add(NOW, ban("2001:db8::/64", 10)).expect("room");
        let under = |text, after_s| {
            let at = NOW + Duration::from_secs(after_s);
            bans.find(at, ip(text)).map(|ban| ban.block.to_string())
        };
        assert_eq!(under("192.0.2.7", 9).as_deref(), Some("192.0.2.7/32"));
        assert_eq!(under("192.0.2.7", 10).as_deref(), Some("192.0.2.0/24"));
        assert_eq!(under("192.0.2.8", 99).as_deref(), Some("192.0.2.0/24"));
        assert_eq!(under("192.0.2.8", 100), None);
        assert_eq!(
            under("2001:db8::1:2:3:4", 0).as_deref(),
            Some("2001:db8::/64")
        );
        assert_eq!(under("2001:db8:0:1::1", 0), None);
        assert_eq!(under("192.0.3.1", 0), None);
    }

    #[test]
    fn a_ban_twice_is_the_later_one_and_removed_it_is_gone() {
        let mut bans = bans(10);
        bans.add(NOW, ban("192.0.2.7", 10)).expect("room");
        bans.add(NOW, ban("192.0.2.7", 20)).expect("room");
        assert_eq!(bans.len(), 1);
        assert!(
            bans.find(NOW + Duration::from_secs(15), ip("192.0.2.7"))
                .is_some()
        );
        let block = "192.0.2.7".parse().expect("a block");
        assert!(bans.remove(block).is_some() && bans.remove(block).is_none());
        assert!(bans.is_empty() && bans.lengths.is_empty());
    }

    #[test]
    fn full_it_forgets_what_is_over_and_refuses_the_rest() {
        let mut bans = bans(3);
        for (block, for_s) in [("192.0.2.1", 1), ("192.0.2.0/24", 1), ("192.0.2.3", 100)] {
            bans.add(NOW, ban(block, for_s)).expect("room");
        }
        assert_eq!(bans.add(NOW, ban("192.0.2.4", 9)), Err(BansFull));
        let later = NOW + Duration::from_secs(2);
        bans.add(later, ban("192.0.2.4", 9)).expect("two are over");
        assert_eq!(bans.len(), 2);
        assert_eq!(bans.lengths, [(128, 2)]);
        let listed: Vec<String> = bans
            .list(later)
            .iter()
            .map(|ban| ban.block.to_string())
            .collect();
        assert_eq!(listed, ["192.0.2.3/32", "192.0.2.4/32"]);
    }

    #[test]
    fn a_copy_follows_by_version() {
        let shared = SharedBans::new(HashKey::new([1, 2]));
        let mut copy = bans(SharedBans::BANS_MAX);
        let before = shared.version();
        shared
            .change(|bans| bans.add(NOW, ban("192.0.2.7", 10)))
            .expect("room");
        assert_ne!(shared.version(), before);
        assert_eq!(shared.copy_to(&mut copy), Some(shared.version()));
        assert!(copy.find(NOW, ip("192.0.2.7")).is_some());
    }

    #[test]
    fn a_shard_does_not_wait_for_an_operator() {
        let shared = SharedBans::new(HashKey::new([1, 2]));
        let mut copy = bans(4);
        shared.change(|_| {
            assert!(shared.try_change(|_| ()).is_none());
            assert!(shared.copy_to(&mut copy).is_none());
        });
        assert!(shared.try_change(|_| ()).is_some());
    }
}
