//! A bounded slab: records in one array reserved at start, found by a key that goes stale.
//!
//! Memory is reserved whole and touched only as far as it was ever used. A key carries the
//! generation of its place, so what is kept in a timer or on another shard cannot reach the wrong
//! record after the place was given to somebody else.

use core::num::NonZeroU32;

use super::{Fresh, prefetch_all};

/// Where a record lives and which of the place's tenants it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub index: u32,
    /// Never zero, so that an `Option` of a key takes no more room.
    pub generation: NonZeroU32,
}

/// Up to `capacity` records of one kind.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    /// The free places among those used before, the last one given back on top: what is in the
    /// caches goes first. Beside the places, since a slab that is full has none.
    free: Vec<u32>,
    len: usize,
    capacity: usize,
}

#[derive(Debug)]
struct Place<T> {
    /// That of the tenant, or of the next one while the place is free.
    generation: NonZeroU32,
    value: Option<T>,
}

impl<T> Slab<T> {
    /// Reserves memory for `capacity` records; there is none taken afterwards.
    pub fn new(capacity: usize) -> Slab<T> {
        assert!(capacity < u32::MAX as usize, "an index is 32 bits wide");
        Slab {
            places: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            len: 0,
            capacity,
        }
    }

    /// Stores `value`, or gives it back when the slab is full.
    pub fn insert(&mut self, value: T) -> Result<Key, T> {
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            self.len += 1;
            place.value = Some(value);
            return Ok(Key {
                index,
                generation: place.generation,
            });
        }
        if self.places.len() == self.capacity {
            return Err(value);
        }
        let index = self.places.len() as u32;
        self.places.push(Place {
            generation: NonZeroU32::MIN,
            value: Some(value),
        });
        self.len += 1;
        Ok(Key {
            index,
            generation: NonZeroU32::MIN,
        })
    }

    /// The record of `key`, unless it was removed.
    pub fn get(&self, key: Key) -> Option<&T> {
        let place = self.places.get(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        place.value.as_ref()
    }

    /// The record of `key` for change, unless it was removed.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        place.value.as_mut()
    }

    /// Takes the record of `key` out; every key of it is stale afterwards.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let value = place.value.take()?;
        place.generation = place.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.free.push(key.index);
        self.len -= 1;
        Some(value)
    }

    /// The record at `index`, whoever it is: for an [`Index`](super::table::Index) that compares.
    pub fn at(&self, index: u32) -> Option<&T> {
        self.places.get(index as usize)?.value.as_ref()
    }

    /// Says that the record at `index` will be looked at soon: it is fetched meanwhile.
    #[inline]
    pub fn expect(&self, index: u32) {
        if let Some(place) = self.places.get(index as usize) {
            prefetch_all(place);
        }
    }

    /// The record at `index` for change, whoever it is.
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.places.get_mut(index as usize)?.value.as_mut()
    }

    /// The key of the record at `index`, if there is one.
    pub fn key_at(&self, index: u32) -> Option<Key> {
        let place = self.places.get(index as usize)?;
        place.value.as_ref()?;
        Some(Key {
            index,
            generation: place.generation,
        })
    }

    /// Records stored.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Records that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Memory that one record takes.
    pub const OCTETS_EACH: usize = size_of::<Place<T>>();

    /// Octets of the places that ever had a record.
    pub fn octets_used(&self) -> usize {
        size_of_val(self.places.as_slice())
    }

    /// The places that no record was ever in.
    pub fn fresh(&self) -> Fresh {
        Fresh::of_vec(&self.places)
    }

    /// All records in the order of their index.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let key = Key {
                index: index as u32,
                generation: place.generation,
            };
            place.value.as_ref().map(|value| (key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::base::Random;

    #[test]
    fn a_stale_key_finds_nothing_after_its_place_was_given_away() {
        let mut slab = Slab::new(1);
        let first = slab.insert("first").unwrap();
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second").unwrap();
        assert_eq!(second.index, first.index);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
        assert_eq!(slab.key_at(second.index), Some(second));
    }

    #[test]
    fn a_full_slab_gives_the_value_back_and_never_grows() {
        let mut slab = Slab::new(2);
        let reserved = slab.places.capacity();
        slab.insert(1).unwrap();
        slab.insert(2).unwrap();
        assert_eq!(slab.insert(3), Err(3));
        assert_eq!(slab.places.capacity(), reserved);
        assert_eq!(Slab::new(0).insert(1), Err(1));
    }

    #[test]
    fn the_count_of_tenants_wraps_past_zero() {
        let mut slab = Slab::new(1);
        slab.insert(()).unwrap();
        slab.places[0].generation = NonZeroU32::MAX;
        slab.remove(slab.key_at(0).unwrap()).unwrap();
        assert_eq!(slab.insert(()).unwrap().generation, NonZeroU32::MIN);
        assert_eq!(size_of::<Option<Key>>(), 8);
    }

    #[test]
    fn it_agrees_with_a_hash_map_over_random_use() {
        let mut random = Random::new([11; 4]);
        let mut slab = Slab::new(64);
        let mut model: HashMap<Key, u64> = HashMap::new();
        let mut ever: Vec<Key> = Vec::new();
        for value in 0..20_000u64 {
            if random.below(2) == 0 {
                match slab.insert(value) {
                    Ok(key) => {
                        assert_eq!(model.insert(key, value), None);
                        ever.push(key);
                    }
                    Err(back) => assert_eq!((back, model.len()), (value, 64)),
                }
            } else if !ever.is_empty() {
                let recent = ever.len() as u64 - 1 - random.below(ever.len().min(200) as u64);
                let key = ever[recent as usize];
                assert_eq!(slab.get(key), model.get(&key));
                assert_eq!(slab.remove(key), model.remove(&key));
            }
            assert_eq!(slab.len(), model.len());
        }
        let mut listed: Vec<_> = model.into_iter().collect();
        listed.sort();
        assert!(slab.iter().map(|(key, value)| (key, *value)).eq(listed));
    }
}
