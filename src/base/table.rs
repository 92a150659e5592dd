//! A bounded hash index: finds a record's place in a slab by a hash of its key.
//!
//! It holds places only; the caller hashes and compares, so that a key is kept once, in its record.
//! Open addressing with eight octets per bucket: a search reads one cache line, and to remove an
//! entry moves its followers up. So there are no marks of removed entries, which a general-purpose
//! table must sweep from time to time in a pause of milliseconds. The hash is keyed: nobody can
//! choose names that make a long run.

use super::prefetch;

/// Up to `capacity` places by hash.
#[derive(Debug)]
pub struct Index {
    /// 0 = empty, else the low half of the hash above the value plus 1. As many as the capacity asks
    /// for and no power of two: that would be up to twice as many.
    buckets: Box<[u64]>,
    len: usize,
    capacity: usize,
}

const EMPTY: u64 = 0;

impl Index {
    /// Reserves memory for `capacity` places; there is none taken afterwards.
    pub fn new(capacity: usize) -> Index {
        assert!(capacity < 1 << 31, "a bucket is found by 32 bits");
        let buckets = Self::buckets_of(capacity);
        Index {
            buckets: vec![EMPTY; buckets].into_boxed_slice(),
            len: 0,
            capacity,
        }
    }

    /// Eight elevenths full at most: a run stays within a cache line or two.
    const fn buckets_of(capacity: usize) -> usize {
        capacity + capacity * 3 / 8 + 1
    }

    /// Octets that one place takes, rounded up.
    pub const OCTETS_EACH: usize = 11;

    /// Adds `value` under `hash`.
    ///
    /// Its owner makes the index as large as the slab it points into, so that it cannot be full.
    pub fn insert(&mut self, hash: u64, value: u32) {
        assert!(self.len < self.capacity, "an index as large as its slab");
        let mut at = self.home(hash);
        while self.buckets[at] != EMPTY {
            at = self.next(at);
        }
        self.buckets[at] = u64::from(hash as u32) << 32 | (u64::from(value) + 1);
        self.len += 1;
    }

    /// The value under `hash` for which `eq` holds.
    pub fn find(&self, hash: u64, eq: impl FnMut(u32) -> bool) -> Option<u32> {
        self.search(hash, eq).map(|at| value_of(self.buckets[at]))
    }

    /// Says that `hash` will be looked for soon: its bucket is fetched meanwhile.
    #[inline]
    pub fn expect(&self, hash: u64) {
        prefetch(&self.buckets[self.home(hash)]);
    }

    /// Takes the value under `hash` out for which `eq` holds.
    pub fn remove(&mut self, hash: u64, eq: impl FnMut(u32) -> bool) -> Option<u32> {
        let at = self.search(hash, eq)?;
        let value = value_of(self.buckets[at]);
        self.close_gap(at);
        self.len -= 1;
        Some(value)
    }

    /// Octets of all buckets.
    pub fn octets(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// Places held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn search(&self, hash: u64, mut eq: impl FnMut(u32) -> bool) -> Option<usize> {
        let mut at = self.home(hash);
        loop {
            let bucket = self.buckets[at];
            if bucket == EMPTY {
                return None;
            }
            if bucket >> 32 == hash & 0xffff_ffff && eq(value_of(bucket)) {
                return Some(at);
            }
            at = self.next(at);
        }
    }

    /// Empties bucket `gap` and moves up whoever stands behind it only because it was taken.
    fn close_gap(&mut self, mut gap: usize) {
        let mut at = self.next(gap);
        while self.buckets[at] != EMPTY {
            let home = self.home(self.buckets[at] >> 32);
            if self.steps(home, at) >= self.steps(gap, at) {
                self.buckets[gap] = self.buckets[at];
                gap = at;
            }
            at = self.next(at);
        }
        self.buckets[gap] = EMPTY;
    }

    /// The low half of the hash as a fraction of all buckets.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        ((u64::from(hash as u32) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        let next = at + 1;
        if next == self.buckets.len() { 0 } else { next }
    }

    /// How many buckets further `to` is than `from`, around the end where need be.
    #[inline]
    fn steps(&self, from: usize, to: usize) -> usize {
        match to.checked_sub(from) {
            Some(steps) => steps,
            None => to + self.buckets.len() - from,
        }
    }
}

#[inline]
fn value_of(bucket: u64) -> u32 {
    (bucket as u32).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::base::{HashKey, Random};

    /// Puts in, finds and takes out random values of which up to `capacity` are held.
    fn compare_with_a_set(capacity: usize, hash: impl Fn(u32) -> u64) {
        let mut random = Random::new([12; 4]);
        let mut index = Index::new(capacity);
        let mut model: HashSet<u32> = HashSet::new();
        for _ in 0..100_000 {
            let value = random.below(2 * capacity as u64) as u32;
            let found = index.find(hash(value), |held| held == value);
            assert_eq!(found, model.get(&value).copied());
            if found.is_some() || model.len() == capacity {
                let removed = index.remove(hash(value), |held| held == value);
                assert_eq!(removed, model.take(&value));
            } else {
                index.insert(hash(value), value);
                model.insert(value);
            }
            assert_eq!(index.len(), model.len());
        }
        for value in model {
            assert_eq!(index.remove(hash(value), |held| held == value), Some(value));
        }
        assert!(index.buckets.iter().all(|&bucket| bucket == EMPTY));
    }

    #[test]
    fn it_agrees_with_a_set_over_random_use() {
        let key = HashKey::new([1, 2]);
        for capacity in [1, 2, 3, 42, 500, 683] {
            compare_with_a_set(capacity, |value| key.hash(&value.to_le_bytes()));
        }
    }

    #[test]
    fn it_agrees_with_a_set_when_runs_are_long_and_wrap_around_the_end() {
        compare_with_a_set(42, |value| {
            u64::from(u32::MAX) - ((u64::from(value) % 5) << 27)
        });
        compare_with_a_set(42, |_| u64::MAX);
    }

    #[test]
    fn equal_hashes_are_told_apart_by_the_comparison() {
        let mut index = Index::new(3);
        for value in [0, 1, u32::MAX - 1] {
            index.insert(99, value);
        }
        for value in [0, 1, u32::MAX - 1] {
            assert_eq!(index.find(99, |held| held == value), Some(value));
            assert_eq!(index.remove(99, |held| held == value), Some(value));
        }
        assert!(index.is_empty());
        assert_eq!(index.find(99, |_| true), None);
    }

    #[test]
    fn an_index_without_room_finds_nothing() {
        assert_eq!(Index::new(0).find(1, |_| true), None);
        assert_eq!(Index::new(0).remove(1, |_| true), None);
    }
}
