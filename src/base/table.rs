//! A bounded hash index: finds a record's place in a slab by a hash of its key.
//!
//! It holds places only; the caller hashes and compares, so that a key is kept once, in its record.

use hashbrown::HashTable;

/// Up to `capacity` places by hash.
#[derive(Debug)]
pub struct Index {
    table: HashTable<u32>,
    capacity: usize,
}

impl Index {
    /// Reserves memory for `capacity` places; there is none taken afterwards.
    pub fn new(capacity: usize) -> Index {
        Index {
            // Twice the entries: removed ones may leave a mark behind, and a table that is at most
            // half full sweeps its marks in place, where a fuller one would take new memory.
            table: HashTable::with_capacity(2 * capacity),
            capacity,
        }
    }

    /// Adds `value` under `hash`; `rehash` gives the hash of a value already held.
    ///
    /// Its owner makes the index as large as the slab it points into, so that it cannot be full.
    pub fn insert(&mut self, hash: u64, value: u32, rehash: impl Fn(u32) -> u64) {
        assert!(self.len() < self.capacity, "an index as large as its slab");
        self.table.insert_unique(hash, value, |&held| rehash(held));
    }

    /// The value under `hash` for which `eq` holds.
    pub fn find(&self, hash: u64, eq: impl Fn(u32) -> bool) -> Option<u32> {
        self.table.find(hash, |&held| eq(held)).copied()
    }

    /// Takes the value under `hash` out for which `eq` holds.
    pub fn remove(&mut self, hash: u64, eq: impl Fn(u32) -> bool) -> Option<u32> {
        let entry = self.table.find_entry(hash, |&held| eq(held)).ok()?;
        Some(entry.remove().0)
    }

    /// Places held.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::base::{HashKey, Random};

    #[test]
    fn it_agrees_with_a_hash_map_over_random_use_and_never_grows() {
        let key = HashKey::new([1, 2]);
        let hash = |value: u32| key.hash(&value.to_le_bytes());
        let mut random = Random::new([12; 4]);
        let mut index = Index::new(500);
        let reserved = index.table.capacity();
        let mut model: HashMap<u32, u32> = HashMap::new();
        for _ in 0..200_000 {
            let value = random.below(1000) as u32;
            assert_eq!(
                index.find(hash(value), |held| held == value),
                model.get(&value).copied()
            );
            if model.contains_key(&value) || model.len() == 500 {
                assert_eq!(
                    index.remove(hash(value), |held| held == value),
                    model.remove(&value)
                );
            } else {
                index.insert(hash(value), value, hash);
                model.insert(value, value);
            }
            assert_eq!(index.len(), model.len());
            assert_eq!(index.table.capacity(), reserved);
        }
    }

    #[test]
    fn equal_hashes_are_told_apart_by_the_comparison() {
        let mut index = Index::new(3);
        for value in 0..3 {
            index.insert(99, value, |_| 99);
        }
        for value in 0..3 {
            assert_eq!(index.find(99, |held| held == value), Some(value));
            assert_eq!(index.remove(99, |held| held == value), Some(value));
        }
        assert!(index.is_empty());
    }
}
