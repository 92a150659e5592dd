//! Mutations of a seed, the same on each run: what a fuzzer would try first.

use callgate::base::random::Random;

/// Numbers at which counters and lengths break.
const NUMBERS: &[&[u8]] = &[
    b"0",
    b"-1",
    b"+5",
    b"255",
    b"256",
    b"65536",
    b"2147483647",
    b"2147483648",
    b"4294967296",
    b"4294967328",
    b"18446744073709551616",
    b"007",
];

/// Octets that separate, end or break something.
const OCTETS: &[u8] = b"\0\r\n\t \"\\<>;,:=@%[]?&/\x7f\x80\xff";

pub struct Mutator<'t> {
    random: Random,
    tokens: &'t [Vec<u8>],
}

impl<'t> Mutator<'t> {
    pub fn new(seed: u64, tokens: &'t [Vec<u8>]) -> Mutator<'t> {
        let random = Random::new([seed, 0x5eed, 3, 4]);
        Mutator { random, tokens }
    }

    /// A number below `end`, 0 where that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.random.next_u64() % end.max(1) as u64) as usize
    }

    /// Changes `bytes` in one to eight places; `other` is a seed to splice with.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..1 + self.below(8) {
            self.change(bytes, other);
        }
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below(64).min(bytes.len() - at);
        let octet = OCTETS[self.below(OCTETS.len())];
        match self.below(10) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = octet,
            2 => bytes.insert(at, octet),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            5 if !self.tokens.is_empty() => {
                let token = self.tokens[self.below(self.tokens.len())].clone();
                bytes.splice(at..at, token);
            }
            6 => {
                let number = NUMBERS[self.below(NUMBERS.len())];
                let digits = bytes[at..]
                    .iter()
                    .take_while(|octet| octet.is_ascii_digit());
                let end = at + digits.count();
                bytes.splice(at..end, number.iter().copied());
            }
            7 => {
                let count = 1 << self.below(12);
                bytes.splice(at..at, vec![octet; count]);
            }
            8 => {
                let from = self.below(other.len() + 1);
                let to = from + self.below(200).min(other.len() - from);
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => bytes.truncate(at),
        }
        bytes.truncate(65_000);
    }
}
