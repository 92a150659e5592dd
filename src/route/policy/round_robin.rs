//! `round-robin`: members in turn; weights do not matter.

use super::Choice;
use super::set::Members;

/// The member whose turn it is among `ready`. Going round those that are left, and not round all
/// with a step over the missing, keeps the neighbour of a member that is down from getting double.
pub fn pick(choice: &Choice<'_>, ready: Members) -> Option<usize> {
    ready.at_turn(choice.turn)
}
