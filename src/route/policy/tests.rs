//! Fairness, stability and refusal of the policies.

use super::*;
use crate::route::plan::LimitMaxima;
use crate::route::testing::trunk;

const POLICIES: [Policy; 5] = [
    Policy::Priority,
    Policy::RoundRobin,
    Policy::Weighted,
    Policy::LeastCalls,
    Policy::CallIdHash,
];

/// A plan of one group with these members, named and weighted.
fn plan(policy: Policy, members: &[(&str, u32)]) -> Plan {
    let trunks = members.iter().enumerate();
    Plan {
        trunks: trunks
            .map(|(at, (name, _))| trunk(name, at as u16, &[]))
            .collect(),
        groups: vec![Group {
            name: "g".to_owned(),
            slot: 100,
            policy,
            members: members
                .iter()
                .enumerate()
                .map(|(at, (_, weight))| Member {
                    trunk: TrunkId(at as u16),
                    weight: *weight,
                })
                .collect(),
            limits: LimitMaxima::default(),
            over_limit: None,
            line: 1,
        }],
        routes: Vec::new(),
    }
}

/// Call number `call`, with all members usable and idle.
fn choice(plan: &Plan, call: u64) -> Choice<'_> {
    Choice {
        plan,
        group: &plan.groups[0],
        tried: 0,
        call_id_hash: mixed(call ^ 0xc0ffee),
        random: mixed(call),
        turn: call as u32,
        usable: &|_| true,
        calls: &|_| 0,
        share: &|_| 1000,
    }
}

/// The name of the member that gets call number `call`.
fn name_of(plan: &Plan, call: u64) -> &str {
    let position = next_member(&choice(plan, call)).expect("a usable member");
    &plan.trunks[position].name
}

/// How many of `calls` calls each member gets.
fn spread(plan: &Plan, calls: u64, change: impl Fn(&mut Choice<'_>)) -> Vec<u64> {
    let mut counts = vec![0; plan.groups[0].members.len()];
    for call in 0..calls {
        let mut choice = choice(plan, call);
        change(&mut choice);
        counts[next_member(&choice).expect("a usable member")] += 1;
    }
    counts
}

fn is_near(count: u64, wanted: u64) -> bool {
    count.abs_diff(wanted) * 20 <= wanted
}

#[test]
fn no_policy_gives_a_tried_or_unusable_member_and_all_others_get_their_turn() {
    for policy in POLICIES {
        let plan = plan(policy, &[("a", 1), ("b", 5), ("c", 2), ("d", 1), ("e", 3)]);
        for call in 0..500 {
            let mut choice = choice(&plan, call);
            choice.usable = &|member| member.trunk != TrunkId(2);
            choice.share = &|trunk| if trunk == TrunkId(1) { 100 } else { 1000 };
            let mut got = Vec::new();
            while let Some(position) = next_member(&choice) {
                assert_eq!(next_member(&choice), Some(position), "deterministic");
                assert_eq!(choice.tried >> position & 1, 0, "{policy:?} repeats itself");
                choice.tried |= 1 << position;
                got.push(position);
            }
            got.sort_unstable();
            assert_eq!(got, [0, 1, 3, 4], "{policy:?}");
        }
    }
}

#[test]
fn an_empty_group_and_one_of_64_members_are_served() {
    for policy in POLICIES {
        assert_eq!(next_member(&choice(&plan(policy, &[]), 1)), None);
        let large = plan(policy, &[("m", 1); 64]);
        let mut choice = choice(&large, 1);
        choice.tried = u64::MAX >> 1;
        assert_eq!(next_member(&choice), Some(63));
        choice.tried = u64::MAX;
        assert_eq!(next_member(&choice), None);
    }
}

#[test]
fn priority_is_file_order() {
    let plan = plan(Policy::Priority, &[("a", 1), ("b", 9), ("c", 1)]);
    assert_eq!(name_of(&plan, 1), "a");
    let mut choice = choice(&plan, 1);
    choice.tried = 0b1;
    assert_eq!(next_member(&choice), Some(1));
}

#[test]
fn round_robin_is_exactly_fair_also_while_one_is_down() {
    let plan = plan(Policy::RoundRobin, &[("a", 1), ("b", 7), ("c", 1)]);
    assert_eq!(spread(&plan, 300, |_| {}), [100, 100, 100]);
    let counts = spread(&plan, 300, |choice| {
        choice.usable = &|member| member.trunk != TrunkId(0);
    });
    assert_eq!(counts, [0, 150, 150]);
}

#[test]
fn weighted_follows_the_weights_also_on_a_second_try() {
    let plan = plan(Policy::Weighted, &[("a", 1), ("b", 2), ("c", 5)]);
    let counts = spread(&plan, 80_000, |_| {});
    for (count, wanted) in counts.iter().zip([10_000, 20_000, 50_000]) {
        assert!(is_near(*count, wanted), "{counts:?}");
    }
    let counts = spread(&plan, 60_000, |choice| choice.tried = 0b100);
    for (count, wanted) in counts.iter().zip([20_000, 40_000, 0]) {
        assert!(is_near(*count, wanted), "{counts:?}");
    }
}

#[test]
fn least_calls_looks_at_calls_for_their_weight() {
    let plan = plan(Policy::LeastCalls, &[("a", 1), ("b", 3)]);
    let with = |a: u32, b: u32| {
        let mut choice = choice(&plan, 0);
        let calls = move |trunk: TrunkId| if trunk.0 == 0 { a } else { b };
        choice.calls = &calls;
        next_member(&choice)
    };
    assert_eq!(with(1, 2), Some(1));
    assert_eq!(with(1, 4), Some(0));
    assert_eq!(with(u32::MAX, u32::MAX), Some(1));
}

#[test]
fn least_calls_fills_members_in_proportion() {
    let plan = plan(Policy::LeastCalls, &[("a", 1), ("b", 2), ("c", 1)]);
    let live = [0, 1, 2].map(|_| core::cell::Cell::new(0u32));
    for call in 0..400 {
        let mut choice = choice(&plan, call);
        let calls = |trunk: TrunkId| live[usize::from(trunk.0)].get();
        choice.calls = &calls;
        let position = next_member(&choice).expect("a usable member");
        live[position].set(live[position].get() + 1);
    }
    assert_eq!(live.map(core::cell::Cell::into_inner), [100, 200, 100]);
}

#[test]
fn least_calls_lets_equals_take_turns() {
    let plan = plan(Policy::LeastCalls, &[("a", 1), ("b", 1), ("c", 1)]);
    assert_eq!(spread(&plan, 30, |_| {}), [10, 10, 10]);
}

#[test]
fn call_id_hash_follows_the_weights() {
    let plan = plan(Policy::CallIdHash, &[("a", 1), ("b", 2), ("c", 5)]);
    let counts = spread(&plan, 80_000, |_| {});
    for (count, wanted) in counts.iter().zip([10_000, 20_000, 50_000]) {
        assert!(is_near(*count, wanted), "{counts:?}");
    }
}

#[test]
fn call_id_hash_moves_only_the_calls_of_a_member_that_leaves() {
    let before = plan(
        Policy::CallIdHash,
        &[("a", 1), ("b", 2), ("c", 5), ("d", 1)],
    );
    let after = plan(Policy::CallIdHash, &[("d", 1), ("c", 5), ("a", 1)]);
    let mut moved_to = [0; 3];
    for call in 0..10_000 {
        let (old, new) = (name_of(&before, call), name_of(&after, call));
        assert!(old == new || old == "b", "call {call} left {old} for {new}");
        if old == "b" {
            moved_to["acd".find(new).expect("a member")] += 1;
        }
    }
    assert!(moved_to.iter().all(|count| *count > 0), "{moved_to:?}");
}

#[test]
fn call_id_hash_fails_over_to_where_the_call_would_go_without_the_member() {
    let all = plan(Policy::CallIdHash, &[("a", 1), ("b", 2), ("c", 5)]);
    let less = plan(Policy::CallIdHash, &[("a", 1), ("c", 5)]);
    for call in 0..1000 {
        let mut choice = choice(&all, call);
        choice.tried = 0b010;
        let position = next_member(&choice).expect("a usable member");
        assert_eq!(all.trunks[position].name, name_of(&less, call));
    }
}

#[test]
fn a_member_in_slow_start_gets_its_share_of_its_share() {
    for policy in POLICIES {
        let plan = plan(policy, &[("a", 1), ("b", 1)]);
        let whole = spread(&plan, 40_000, |_| {})[0];
        let tenth = spread(&plan, 40_000, |choice| {
            choice.share = &|trunk| if trunk == TrunkId(0) { 100 } else { 1000 };
        })[0];
        assert!(tenth.abs_diff(whole / 10) < 400, "{policy:?} {tenth}");
    }
}

#[test]
fn a_member_in_slow_start_takes_all_when_nobody_else_can() {
    for policy in POLICIES {
        let plan = plan(policy, &[("a", 1), ("b", 1)]);
        let counts = spread(&plan, 200, |choice| {
            choice.share = &|_| 100;
            choice.usable = &|member| member.trunk == TrunkId(1);
        });
        assert_eq!(counts, [0, 200], "{policy:?}");
    }
}

#[test]
fn a_growing_share_only_adds_calls_to_a_hashed_member() {
    let plan = plan(Policy::CallIdHash, &[("a", 1), ("b", 1)]);
    for call in 0..2000 {
        let at_share = |share: u16| {
            let share_of = move |trunk: TrunkId| if trunk.0 == 0 { share } else { 1000 };
            let mut choice = choice(&plan, call);
            choice.share = &share_of;
            next_member(&choice) == Some(0)
        };
        let path = [100, 400, 700, 1000].map(at_share);
        assert!(path.is_sorted(), "{path:?}");
    }
}
