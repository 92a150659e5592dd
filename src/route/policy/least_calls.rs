//! `least-calls`: the member with the fewest live calls for its weight.

use core::cmp::Ordering;

use super::Choice;
use super::set::Members;

/// The least loaded of `ready`; equals take turns.
pub fn pick(choice: &Choice<'_>, ready: Members) -> Option<usize> {
    let mut least: Option<Load> = None;
    let mut equals = Members::EMPTY;
    for position in ready.iter() {
        let load = Load::of(choice, position);
        match least.map_or(Ordering::Less, |least| load.compare(least)) {
            Ordering::Less => {
                least = Some(load);
                equals = Members::EMPTY;
                equals.insert(position);
            }
            Ordering::Equal => equals.insert(position),
            Ordering::Greater => {}
        }
    }
    equals.at_turn(choice.turn)
}

/// Calls over weight, compared without division.
#[derive(Clone, Copy)]
struct Load {
    calls: u64,
    weight: u64,
}

impl Load {
    fn of(choice: &Choice<'_>, position: usize) -> Load {
        let member = choice.member(position);
        Load {
            calls: u64::from((choice.calls)(member.trunk)),
            weight: u64::from(member.weight.max(1)),
        }
    }

    fn compare(self, other: Load) -> Ordering {
        (self.calls * other.weight).cmp(&(other.calls * self.weight))
    }
}
