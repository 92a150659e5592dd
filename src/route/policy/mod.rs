//! Which member of a group gets a call, and which one next when that one fails.
//!
//! Here is what all policies share: members tried or unusable are out, and a member in slow start
//! is passed over for part of the calls. Each policy then picks from the set that is left.
//! Everything is a function of the [`Choice`]; nothing is remembered between calls.

mod call_id_hash;
mod least_calls;
mod priority;
mod round_robin;
mod set;
mod weighted;

use super::plan::{Group, Member, Plan, Policy, TrunkId};
use set::Members;

/// What a policy may look at when it picks a member for one call.
pub struct Choice<'a> {
    pub plan: &'a Plan,
    pub group: &'a Group,
    /// A bit per member position that was already tried or passed over for this call.
    pub tried: u64,
    /// Keyed hash of the Call-ID.
    pub call_id_hash: u64,
    /// A random number; the same one may be given for all tries of one call.
    pub random: u64,
    /// Rotating counter, kept per shard and group, one step per call.
    pub turn: u32,
    /// Whether the trunk takes calls: health, and whatever else the caller knows.
    pub usable: &'a dyn Fn(&Member) -> bool,
    /// Live calls of a trunk.
    pub calls: &'a dyn Fn(TrunkId) -> u32,
    /// Permille of its share that a trunk gets during slow start; 1000 = whole.
    pub share: &'a dyn Fn(TrunkId) -> u16,
}

impl Choice<'_> {
    /// The member at `position`, which lies in a set made of this group's positions.
    fn member(&self, position: usize) -> &Member {
        &self.group.members[position]
    }

    /// Members that are usable and were not tried.
    fn eligible(&self) -> Members {
        let members = self.group.members.iter().take(Group::MEMBERS_MAX);
        let mut eligible = Members::EMPTY;
        for (position, member) in members.enumerate() {
            if self.tried >> position & 1 == 0 && (self.usable)(member) {
                eligible.insert(position);
            }
        }
        eligible
    }

    /// Eligible members less those that slow start passes over for this call; all eligible ones
    /// when it would leave nobody.
    fn ready(&self) -> Members {
        let eligible = self.eligible();
        let mut ready = Members::EMPTY;
        for position in eligible.iter() {
            let trunk = self.member(position).trunk;
            let share = u64::from((self.share)(trunk));
            if share >= 1000 || self.draw(trunk) % 1000 < share {
                ready.insert(position);
            }
        }
        if ready.is_empty() { eligible } else { ready }
    }

    /// The slow-start draw of this call for `trunk`. With call-id-hash it depends on the Call-ID
    /// alone, so that a recovering member gets back its own calls and always the same ones first.
    fn draw(&self, trunk: TrunkId) -> u64 {
        let call = match self.group.policy {
            Policy::CallIdHash => self.call_id_hash,
            Policy::Priority | Policy::RoundRobin | Policy::Weighted | Policy::LeastCalls => {
                self.random
            }
        };
        mixed(call ^ SLOW_START_SALT ^ u64::from(self.plan.trunk(trunk).slot) << 32)
    }
}

/// The position of the member that gets the call next; `None` when no usable one is left.
pub fn next_member(choice: &Choice<'_>) -> Option<usize> {
    let ready = choice.ready();
    match choice.group.policy {
        Policy::Priority => priority::pick(ready),
        Policy::RoundRobin => round_robin::pick(choice, ready),
        Policy::Weighted => weighted::pick(choice, ready),
        Policy::LeastCalls => least_calls::pick(choice, ready),
        Policy::CallIdHash => call_id_hash::pick(choice, ready),
    }
}

/// Spreads each input bit over all output bits (the finaliser of SplitMix64). Not keyed: its inputs
/// are random or keyed already, or names from the configuration.
pub(super) const fn mixed(input: u64) -> u64 {
    let mut bits = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// Keeps the slow-start draw independent of other draws from the same random number.
const SLOW_START_SALT: u64 = 0x736c_6f77_2073_7461;

#[cfg(test)]
mod tests;
