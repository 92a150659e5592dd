//! The methods about limits: use and maxima of every slot.

use crate::control::answers::LimitRow;
use crate::control::node::Node;
use crate::limit::SlotId;
use crate::route;

/// Use and maxima of all trunks and groups.
pub fn list(node: &Node) -> Vec<LimitRow> {
    let plan = node.plan();
    let trunks = plan
        .routing
        .trunks
        .iter()
        .map(|trunk| ("trunk", &trunk.name, trunk.slot, &trunk.limits));
    let groups = plan
        .routing
        .groups
        .iter()
        .map(|group| ("group", &group.name, group.slot, &group.limits));
    trunks
        .chain(groups)
        .map(|(kind, name, slot, maxima)| limit_row(node, kind, name, slot, maxima))
        .collect()
}

/// Use and maxima of one slot.
pub fn limit_row(
    node: &Node,
    kind: &str,
    name: &str,
    slot: u16,
    maxima: &route::LimitMaxima,
) -> LimitRow {
    let slot = SlotId(slot);
    let used = node.shared.limits.used(slot);
    LimitRow {
        kind: kind.to_owned(),
        name: name.to_owned(),
        calls: used.in_calls + used.out_calls,
        calls_peak: node.shared.limits.peak(slot),
        calls_max: maxima.calls_max,
        calls_in: used.in_calls,
        calls_in_max: maxima.calls_in_max,
        calls_out: used.out_calls,
        calls_out_max: maxima.calls_out_max,
        cps_sustain: maxima.cps.map(|cps| cps.sustain),
        cps_burst: maxima.cps.map(|cps| cps.burst),
    }
}

/// The name of a trunk or group by its slot.
pub fn limit_name(plan: &crate::shard::NodePlan, slot: u16) -> String {
    let routing = &plan.routing;
    let trunks = routing.trunks.iter().map(|trunk| (trunk.slot, &trunk.name));
    let groups = routing.groups.iter().map(|group| (group.slot, &group.name));
    let named = trunks.chain(groups).find(|(is, _)| *is == slot);
    named.map_or_else(|| format!("removed#{slot}"), |(_, name)| name.clone())
}
