//! SipHash-1-3 under a secret 128-bit key: what tables, ownership and branch checks hash with.
//!
//! Written here, since std's hasher cannot be given a key and the steering program in the kernel
//! must compute the very same function. A stranger who does not know the key cannot choose
//! Call-IDs that fall into one bucket or onto one shard.

/// The secret of one start of the node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey([u64; 2]);

impl HashKey {
    /// Takes the two key words as they come from the entropy source.
    pub const fn new(words: [u64; 2]) -> HashKey {
        HashKey(words)
    }

    /// The two key words, for the twin of this function inside the kernel.
    pub const fn words(&self) -> [u64; 2] {
        self.0
    }

    /// Hashes `bytes` in one go.
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut state = State::new(self.0);
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            state.absorb(u64::from_le_bytes(*word));
        }
        state.finish(load_tail(tail), bytes.len())
    }

    /// Hashes whole words; equal to [`HashKey::hash`] of their octets, lowest first.
    pub fn hash_words<const COUNT: usize>(&self, words: [u64; COUNT]) -> u64 {
        let mut state = State::new(self.0);
        for word in words {
            state.absorb(word);
        }
        state.finish(0, 8 * COUNT)
    }

    /// Starts a hash of several texts, none of which can lend octets to the next.
    pub fn digest(&self) -> Digest {
        Digest {
            state: State::new(self.0),
            words: 0,
        }
    }

    /// Starts a hash that is fed in pieces; equal to [`HashKey::hash`] of the joined pieces.
    pub fn hasher(&self) -> Hasher {
        Hasher {
            state: State::new(self.0),
            tail: 0,
            len: 0,
        }
    }
}

impl core::fmt::Debug for HashKey {
    /// Keeps the secret out of logs.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(secret)")
    }
}

/// An unfinished hash.
#[derive(Clone)]
pub struct Hasher {
    state: State,
    /// The `len % 8` octets that do not fill a word yet, first octet lowest.
    tail: u64,
    len: usize,
}

impl Hasher {
    /// Appends `bytes`.
    pub fn write(&mut self, bytes: &[u8]) {
        let held = self.len % 8;
        self.len += bytes.len();
        if held == 0 {
            return self.write_aligned(bytes);
        }
        let (filling, rest) = bytes.split_at(bytes.len().min(8 - held));
        self.tail |= load_tail(filling) << (8 * held);
        if held + filling.len() == 8 {
            self.state.absorb(self.tail);
            self.write_aligned(rest);
        }
    }

    /// Appends the eight octets of `number`, lowest first.
    pub fn write_u64(&mut self, number: u64) {
        let held = self.len % 8;
        self.len += 8;
        if held == 0 {
            return self.state.absorb(number);
        }
        self.state.absorb(self.tail | number << (8 * held));
        self.tail = number >> (64 - 8 * held);
    }

    /// The hash of everything written; the hasher may be fed further.
    pub fn finish(&self) -> u64 {
        self.state.finish(self.tail, self.len)
    }

    /// 128 bits for everything written, where two texts must never meet; the ending is that of
    /// SipHash-128.
    pub fn finish_pair(&self) -> (u64, u64) {
        self.state.finish_pair(self.tail, self.len)
    }

    fn write_aligned(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.state.absorb(u64::from_le_bytes(*word));
        }
        self.tail = load_tail(tail);
    }
}

/// An unfinished hash of numbers and texts: each text has its length in front and is filled up to
/// whole words, so that nothing need be kept between two of them.
#[derive(Clone)]
pub struct Digest {
    state: State,
    words: usize,
}

impl Digest {
    /// Appends a number.
    #[inline]
    pub fn number(&mut self, number: u64) {
        self.words += 1;
        self.state.absorb(number);
    }

    /// Appends a text.
    #[inline]
    pub fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        let (words, tail) = text.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        if !tail.is_empty() {
            self.number(load_tail(tail));
        }
    }

    /// The hash of everything appended.
    pub fn finish(&self) -> u64 {
        self.state.finish(0, 8 * self.words)
    }

    /// 128 bits of it, where two must never meet.
    pub fn finish_pair(&self) -> (u64, u64) {
        self.state.finish_pair(0, 8 * self.words)
    }
}

#[derive(Clone, Copy)]
struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    fn new([k0, k1]: [u64; 2]) -> State {
        State {
            v0: k0 ^ u64::from_be_bytes(*b"somepseu"),
            v1: k1 ^ u64::from_be_bytes(*b"dorandom"),
            v2: k0 ^ u64::from_be_bytes(*b"lygenera"),
            v3: k1 ^ u64::from_be_bytes(*b"tedbytes"),
        }
    }

    #[inline]
    fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    #[inline]
    fn finish(mut self, tail: u64, len: usize) -> u64 {
        self.absorb(tail | (len as u64) << 56);
        self.v2 ^= 0xff;
        self.distil()
    }

    fn finish_pair(mut self, tail: u64, len: usize) -> (u64, u64) {
        self.absorb(tail | (len as u64) << 56);
        self.v2 ^= 0xee;
        let first = self.distil();
        self.v1 ^= 0xdd;
        (first, self.distil())
    }

    #[inline]
    fn distil(&mut self) -> u64 {
        for _ in 0..3 {
            self.round();
        }
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    #[inline]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32).wrapping_add(self.v3);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }
}

/// Up to seven octets as the low end of a word.
#[inline]
fn load_tail(bytes: &[u8]) -> u64 {
    // Two loads that overlap: what both have is the same, and no loop is needed.
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            let high = u64::from(u32::from_le_bytes(*last)) << (8 * (bytes.len() - 4));
            u64::from(u32::from_le_bytes(*first)) | high
        }
        _ => match *bytes {
            [first, second, third] => u64::from(u32::from_le_bytes([first, second, third, 0])),
            [first, second] => u64::from(u16::from_le_bytes([first, second])),
            [first] => u64::from(first),
            _ => 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher as _};

    use super::*;

    fn oracle(bytes: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        hasher.finish()
    }

    #[test]
    fn words_hash_as_their_octets_and_texts_stay_apart() {
        let key = HashKey::new([1, 2]);
        let octets: Vec<u8> = (0..16).collect();
        let words = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(key.hash_words(words), key.hash(&octets));
        let of = |texts: &[&[u8]]| {
            let mut digest = key.digest();
            texts.iter().for_each(|text| digest.text(text));
            (digest.finish(), digest.finish_pair())
        };
        let all = [
            of(&[b"ab", b"c"]),
            of(&[b"a", b"bc"]),
            of(&[b"abc"]),
            of(&[b"abc", b""]),
            of(&[b"ab\0", b"c"]),
            of(&[b"ab", b"c\0"]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(
                all[..at]
                    .iter()
                    .all(|other| other.0 != one.0 && other.1 != one.1)
            );
        }
    }

    #[test]
    fn with_a_zero_key_it_is_the_standard_librarys_siphash_1_3() {
        let text: Vec<u8> = (0..300u32).map(|i| (i * 7) as u8).collect();
        let key = HashKey::new([0, 0]);
        for len in 0..text.len() {
            assert_eq!(key.hash(&text[..len]), oracle(&text[..len]), "length {len}");
        }
    }

    #[test]
    fn pieces_hash_like_the_whole() {
        let text = b"a84b4c76e66710@pc33.atlanta.example.com;z9hG4bK776asdhds";
        let key = HashKey::new([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut hasher = key.hasher();
                hasher.write(&text[..first]);
                hasher.write(&text[first..second]);
                hasher.write(&text[second..]);
                assert_eq!(hasher.finish(), key.hash(text), "{first} {second}");
            }
        }
    }

    #[test]
    fn a_pair_is_two_hashes_that_the_short_one_does_not_tell() {
        let hasher = HashKey::new([1, 2]).hasher();
        let (first, second) = hasher.finish_pair();
        assert!(first != second && first != hasher.finish() && second != hasher.finish());
        let mut other = hasher.clone();
        other.write(b"a");
        assert!(other.finish_pair().0 != first && other.finish_pair().1 != second);
    }

    #[test]
    fn numbers_are_written_like_their_octets_wherever_they_start() {
        for held in 0..9 {
            let mut by_number = HashKey::new([1, 2]).hasher();
            by_number.write(&b"abcdefghi"[..held]);
            let mut by_octets = by_number.clone();
            by_number.write_u64(0x0807_0605_0403_0201);
            by_octets.write(&[1, 2, 3, 4, 5, 6, 7, 8]);
            by_number.write(b"x");
            by_octets.write(b"x");
            assert_eq!(by_number.finish(), by_octets.finish(), "{held} octets held");
        }
    }

    #[test]
    fn a_number_is_written_lowest_octet_first() {
        let key = HashKey::new([1, 2]);
        let mut hasher = key.hasher();
        hasher.write(b"abc");
        hasher.write_u64(0x0807_0605_0403_0201);
        assert_eq!(
            hasher.finish(),
            key.hash(b"abc\x01\x02\x03\x04\x05\x06\x07\x08")
        );
    }

    #[test]
    fn both_key_words_matter_and_neither_is_printed() {
        let text = b"call-id";
        let hash = HashKey::new([7, 9]).hash(text);
        assert_ne!(hash, HashKey::new([8, 9]).hash(text));
        assert_ne!(hash, HashKey::new([7, 8]).hash(text));
        assert_eq!(format!("{:?}", HashKey::new([7, 9])), "HashKey(secret)");
    }
}
