//! `weighted`: at random, in proportion to the weights.

use super::set::Members;
use super::{Choice, mixed};

/// One of `ready` at random.
pub fn pick(choice: &Choice<'_>, ready: Members) -> Option<usize> {
    let weight = |position: usize| u64::from(choice.member(position).weight);
    // At most 64 weights of 32 bits: no overflow.
    let total: u64 = ready.iter().map(weight).sum();
    // `tried` is mixed in so that a second try of a call is a new draw from the same number.
    let random = mixed(choice.random ^ mixed(choice.tried));
    let mut left = ((u128::from(random) * u128::from(total)) >> 64) as u64;
    for position in ready.iter() {
        match left.checked_sub(weight(position)) {
            Some(rest) => left = rest,
            None => return Some(position),
        }
    }
    // Reached only when all weights are 0, which the configuration refuses.
    ready.iter().next()
}
