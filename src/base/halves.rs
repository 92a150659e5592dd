//! A number of 64 bits in two halves. As one number it makes each record that has it a multiple of
//! eight octets, which can be four too many.

/// 64 bits that may lie at any multiple of four octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halves([u32; 2]);

impl Halves {
    /// Splits a number.
    pub const fn new(number: u64) -> Halves {
        Halves([number as u32, (number >> 32) as u32])
    }

    /// The whole of it.
    pub const fn number(self) -> u64 {
        self.0[0] as u64 | (self.0[1] as u64) << 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_are_the_number_and_lie_at_fours() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(Halves::new(number).number(), number);
        }
        assert_eq!((size_of::<Halves>(), align_of::<Halves>()), (8, 4));
    }
}
