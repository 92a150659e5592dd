//! `group.list`: groups, their members, and what their limits hold.

use super::limits::limit_row;
use crate::control::answers::{GroupRow, MemberRow};
use crate::control::node::Node;
use crate::limit::SlotId;
use crate::route::{Group, Member, Plan, Policy};

/// All groups in file order.
pub fn list(node: &Node) -> Vec<GroupRow> {
    let plan = node.plan();
    let row = |group: &Group| GroupRow {
        name: group.name.clone(),
        policy: policy_word(group.policy).to_owned(),
        members: group
            .members
            .iter()
            .map(|member| member_row(node, &plan.routing, *member))
            .collect(),
        over_limit: group.over_limit,
        limits: limit_row(node, "group", &group.name, group.slot, &group.limits),
    };
    plan.routing.groups.iter().map(row).collect()
}

fn member_row(node: &Node, plan: &Plan, member: Member) -> MemberRow {
    let trunk = plan.trunk(member.trunk);
    MemberRow {
        trunk: trunk.name.clone(),
        weight: member.weight,
        state: node.shared.board.state(trunk.slot).text().to_owned(),
        calls_out: node.shared.limits.used(SlotId(trunk.slot)).out_calls,
    }
}

/// As it is written in the configuration.
fn policy_word(policy: Policy) -> &'static str {
    match policy {
        Policy::Priority => "priority",
        Policy::RoundRobin => "round-robin",
        Policy::Weighted => "weighted",
        Policy::LeastCalls => "least-calls",
        Policy::CallIdHash => "call-id-hash",
    }
}
