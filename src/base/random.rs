//! A deterministic generator of unguessable numbers: ChaCha8 as a stream, seeded once.
//!
//! Branches and tags come from it, so who has seen thousands of them must not be able to compute
//! the next one; small generators such as xoshiro give their state away after four outputs.
//! The same seed gives the same run, which is what the simulator replays.

/// The generator; its seed is the only entropy it ever sees.
#[derive(Clone)]
pub struct Random {
    key: [u32; 8],
    counter: u64,
    block: [u32; 16],
    /// Words of `block` already given out.
    taken: usize,
}

impl Random {
    /// Starts the stream of `seed`.
    pub fn new(seed: [u64; 4]) -> Random {
        let mut key = [0; 8];
        for (pair, word) in key.as_chunks_mut::<2>().0.iter_mut().zip(seed) {
            *pair = [word as u32, (word >> 32) as u32];
        }
        Random {
            key,
            counter: 0,
            block: [0; 16],
            taken: 16,
        }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        if self.taken == self.block.len() {
            self.block = chacha::<8>(&self.key, self.counter);
            self.counter = self.counter.wrapping_add(1);
            self.taken = 0;
        }
        let low = self.block[self.taken];
        let high = self.block[self.taken + 1];
        self.taken += 2;
        u64::from(low) | u64::from(high) << 32
    }

    /// A number in `0..n`, and 0 for `n` = 0; the bias is under `n` / 2^64.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }
}

impl core::fmt::Debug for Random {
    /// Keeps the key out of logs.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Random(secret)")
    }
}

/// One block of the stream, with a zero nonce.
fn chacha<const ROUNDS: usize>(key: &[u32; 8], counter: u64) -> [u32; 16] {
    let mut start = [0u32; 16];
    start[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    start[4..12].copy_from_slice(key);
    start[12] = counter as u32;
    start[13] = (counter >> 32) as u32;
    let mut state = start;
    for _ in 0..ROUNDS / 2 {
        for column in 0..4 {
            quarter(&mut state, column, 4 + column, 8 + column, 12 + column);
        }
        quarter(&mut state, 0, 5, 10, 15);
        quarter(&mut state, 1, 6, 11, 12);
        quarter(&mut state, 2, 7, 8, 13);
        quarter(&mut state, 3, 4, 9, 14);
    }
    for (word, first) in state.iter_mut().zip(start) {
        *word = word.wrapping_add(first);
    }
    state
}

#[inline]
fn quarter(state: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    for (left, right) in [(16, 12), (8, 7)] {
        state[a] = state[a].wrapping_add(state[b]);
        state[d] = (state[d] ^ state[a]).rotate_left(left);
        state[c] = state[c].wrapping_add(state[d]);
        state[b] = (state[b] ^ state[c]).rotate_left(right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(block: [u32; 16]) -> String {
        block
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .map(|octet| format!("{octet:02x}"))
            .collect()
    }

    #[test]
    fn the_stream_of_the_zero_key_is_the_published_one() {
        // RFC 8439 A.1, test vector 1 and, for 8 rounds, the vectors published with the cipher.
        assert_eq!(
            &hex(chacha::<20>(&[0; 8], 0))[..64],
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        );
        assert_eq!(
            &hex(chacha::<8>(&[0; 8], 0))[..64],
            "3e00ef2f895f40d67f5bb8e81f09a5a12c840ec3ce9a7f3b181be188ef711a1e"
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_seed_others() {
        let run = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| random.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(run([1, 2, 3, 4]), run([1, 2, 3, 4]));
        assert_ne!(run([1, 2, 3, 4]), run([1, 2, 3, 5]));
        assert_ne!(run([0; 4])[0], 0);
    }

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let mut random = Random::new([5; 4]);
        let mut seen = [false; 7];
        for _ in 0..1000 {
            seen[random.below(7) as usize] = true;
        }
        assert_eq!(seen, [true; 7]);
        assert_eq!(random.below(1), 0);
        assert_eq!(random.below(0), 0);
    }
}
