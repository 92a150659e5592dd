//! A set of member positions in 64 bits.

/// Positions of members of one group, in file order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members(u64);

impl Members {
    pub const EMPTY: Members = Members(0);

    /// Adds a position below 64.
    pub fn insert(&mut self, position: usize) {
        self.0 |= 1 << position;
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The positions in ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let position = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            (position < u64::BITS).then_some(position as usize)
        })
    }

    /// The position that `turn` falls on when the set is gone round again and again.
    pub fn at_turn(self, turn: u32) -> Option<usize> {
        let index = turn.checked_rem(self.len())?;
        self.iter().nth(index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_in_order_and_turns_go_round() {
        let mut set = Members::EMPTY;
        assert_eq!(set.at_turn(5), None);
        for position in [63, 0, 7] {
            set.insert(position);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 7, 63]);
        let turns: Vec<_> = (0..4).map(|turn| set.at_turn(turn)).collect();
        assert_eq!(turns, [Some(0), Some(7), Some(63), Some(0)]);
    }
}
