//! Which shard owns a call. The kernel's steering program computes the same (`io/steer`).

use crate::base::hash::HashKey;

/// The shard, below `shards`, that owns the calls with this Call-ID (its value without the blanks
/// around it). The upper half of the hash is scaled, not divided: a remainder costs more, and the
/// kernel's program would need it too.
///
/// It is 0 when there are no shards.
pub fn owner(call_id: &[u8], key: &HashKey, shards: u16) -> u16 {
    owner_of_hash(key.hash(call_id), shards)
}

/// The same for the hash of a Call-ID.
pub fn owner_of_hash(call_id: u64, shards: u16) -> u16 {
    let upper = call_id >> 32;
    // Below `shards`, since `upper` is below 2^32.
    ((upper * u64::from(shards)) >> 32) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_spread_evenly_over_the_shards() {
        let key = HashKey::new([1, 2]);
        let mut calls = [0_u32; 5];
        for number in 0..10_000_u32 {
            calls[usize::from(owner(&number.to_be_bytes(), &key, 5))] += 1;
        }
        for count in calls {
            assert!((1_800..2_200).contains(&count), "{calls:?}");
        }
    }

    #[test]
    fn another_key_is_another_spread() {
        let owners = |key| -> Vec<u16> {
            let key = HashKey::new([key, 0]);
            (0..64_u8).map(|call| owner(&[call], &key, 16)).collect()
        };
        assert_ne!(owners(1), owners(2));
    }

    #[test]
    fn one_shard_owns_everything() {
        assert_eq!(owner(b"a@b", &HashKey::new([3, 4]), 1), 0);
        assert_eq!(owner(b"a@b", &HashKey::new([3, 4]), 0), 0);
    }
}
