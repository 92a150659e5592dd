//! The one source of chance of a simulated world: everything comes from the seed.

use std::ops::Range;
use std::time::Duration;

use callgate::base::random::Random;

/// A generator with the questions that the simulator asks.
pub struct Dice(Random);

impl Dice {
    /// The dice of one stream of a seed: streams do not disturb each other.
    pub fn new(seed: u64, stream: u64) -> Dice {
        Dice(Random::new([seed, stream, 0x5eed, 1]))
    }

    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0.below(end as u64) as usize
    }

    /// True `permille` times of a thousand.
    pub fn chance(&mut self, permille: u32) -> bool {
        self.0.below(1000) < u64::from(permille)
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// One of several, by weight.
    pub fn weighted<T: Copy>(&mut self, from: &[(u32, T)]) -> T {
        let sum: u32 = from.iter().map(|(weight, _)| weight).sum();
        let mut at = self.below(sum as usize) as u32;
        for (weight, what) in from {
            if at < *weight {
                return *what;
            }
            at -= weight;
        }
        from[0].1
    }

    /// Milliseconds in a range, to the microsecond.
    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        let span = (range.end - range.start) * 1000;
        Duration::from_micros(range.start * 1000 + self.0.below(span))
    }
}
