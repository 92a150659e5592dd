//! `call-id-hash`: weighted rendezvous hashing of Call-ID and trunk name.
//!
//! Each member scores each call on its own, so that a member that leaves moves its own calls only,
//! one that joins takes from each of the others in proportion, and the order of the members in the
//! file means nothing. On failover the member with the next best score follows.

use super::set::Members;
use super::{Choice, mixed};

/// The best score of `ready`.
pub fn pick(choice: &Choice<'_>, ready: Members) -> Option<usize> {
    ready
        .iter()
        .map(|position| (position, score(choice, position)))
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
        .map(|(position, _)| position)
}

/// `-weight / ln(u)` with `u` uniform in (0, 1): the member with the highest score of all is each
/// one with probability weight / sum of weights.
fn score(choice: &Choice<'_>, position: usize) -> f64 {
    let member = choice.member(position);
    let name = name_hash(choice.plan.trunk(member.trunk).name.as_bytes());
    let hash = mixed(choice.call_id_hash ^ name);
    // The upper 53 bits fit a double exactly; the half keeps `u` away from both ends.
    let uniform = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(member.weight) / uniform.ln()
}

/// FNV-1a, mixed: names come from the configuration, so nobody can aim at collisions.
fn name_hash(name: &[u8]) -> u64 {
    mixed(name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    }))
}
