//! The methods about trunks: their state on the health board, and the orders that change it.

use serde_json::Value;

use super::answers::{TransitionRow, TrunkDetail, TrunkRow};
use super::exposition::Page;
use super::methods::{self, Named};
use super::node::Node;
use super::rpc::Fault;
use crate::base::nearest;
use crate::metrics::TrunkCounter;
use crate::route::Trunk;
use crate::route::health::State;
use crate::shard::NodePlan;
use crate::shard::mail::{Ask, TrunkOrder};

/// Finds a trunk by its name.
pub fn find<'p>(plan: &'p NodePlan, name: &str) -> Result<&'p Trunk, Fault> {
    let found = plan.routing.trunk_named(name);
    found
        .map(|id| plan.routing.trunk(id))
        .ok_or_else(|| unknown(plan, name))
}

/// Names shown to one who asked for a trunk that is not there.
const NAMES_SHOWN_MAX: usize = 20;

fn unknown(plan: &NodePlan, name: &str) -> Fault {
    let trunks = &plan.routing.trunks;
    let known = || trunks.iter().map(|trunk| trunk.name.as_str());
    if let Some(meant) = nearest(name, known()) {
        return Fault::refused(format!("no trunk `{name}`; did you mean `{meant}`?"));
    }
    if let Some(group) = plan.routing.groups.iter().find(|group| group.name == name) {
        return Fault::refused(format!("`{}` is a group, not a trunk", group.name));
    }
    let shown: Vec<&str> = known().take(NAMES_SHOWN_MAX).collect();
    let more = match trunks.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more, see `callgate trunk list`"),
    };
    let shown = shown.join(", ");
    Fault::refused(format!("no trunk `{name}`; there are: {shown}{more}"))
}

/// `trunk.list`.
pub fn list(node: &Node) -> Vec<TrunkRow> {
    let plan = node.plan();
    plan.routing
        .trunks
        .iter()
        .map(|trunk| row(node, trunk))
        .collect()
}

fn row(node: &Node, trunk: &Trunk) -> TrunkRow {
    let board = &node.shared.board;
    let since = node.levers.now().since(board.since(trunk.slot));
    TrunkRow {
        name: trunk.name.clone(),
        state: board.state(trunk.slot).text().to_owned(),
        since_s: since.as_secs(),
        rtt_ms: board.rtt_us(trunk.slot).map(|us| f64::from(us) / 1000.0),
        addresses: trunk.addresses.iter().map(ToString::to_string).collect(),
        limits: methods::limit_row(node, "trunk", &trunk.name, trunk.slot, &trunk.limits),
        admitted_in: sum(node, trunk.slot, TrunkCounter::CallsIn as usize),
        admitted_out: sum(node, trunk.slot, TrunkCounter::CallsOut as usize),
        answered_in: sum(node, trunk.slot, TrunkCounter::AnsweredIn as usize),
        answered_out: sum(node, trunk.slot, TrunkCounter::AnsweredOut as usize),
    }
}

/// A counter of a trunk over all shards, by its row in [`TrunkCounter::ROWS`].
fn sum(node: &Node, slot: u16, row: usize) -> u64 {
    let seats = node.seats.iter();
    seats.map(|seat| seat.metrics.trunk_row(slot, row)).sum()
}

/// `trunk.show`.
pub fn show(node: &Node, name: &str) -> Result<TrunkDetail, Fault> {
    let plan = node.plan();
    let trunk = find(&plan, name)?;
    let groups = plan.routing.groups.iter();
    let (transitions, transitions_missing) = match transitions(node, trunk.slot) {
        Ok(transitions) => (transitions, None),
        Err(fault) => (Vec::new(), Some(fault.message)),
    };
    Ok(TrunkDetail {
        row: row(node, trunk),
        groups: groups
            .filter(|group| trunk.group_slots.contains(&group.slot))
            .map(|group| group.name.clone())
            .collect(),
        probe_s: trunk.probe.map(|every| every.as_secs_f64()),
        codecs: trunk.codecs.clone(),
        transitions,
        transitions_missing,
        counters: counters(node, trunk.slot),
    })
}

fn counters(node: &Node, slot: u16) -> std::collections::BTreeMap<String, u64> {
    let rows = TrunkCounter::ROWS.iter().enumerate();
    rows.map(|(row, (name, labels, _help))| {
        let name = format!("{name}{{{labels}}}").replace("{}", "");
        (name, sum(node, slot, row))
    })
    .collect()
}

/// The shard that keeps a trunk's health: the rule of [`crate::route::health::Keeper`].
pub fn keeper(node: &Node, slot: u16) -> usize {
    usize::from(slot) % node.seats.len()
}

fn transitions(node: &Node, slot: u16) -> Result<Vec<TransitionRow>, Fault> {
    let now = node.levers.now();
    let log = node.ask(keeper(node, slot), |reply| Ask::Transitions { reply })?;
    let rows = log.into_iter().filter(|change| change.slot == slot);
    Ok(rows
        .map(|change| TransitionRow {
            ago_s: now.since(change.at).as_secs(),
            from: change.from.text().to_owned(),
            to: change.to.text().to_owned(),
            why: change.why.text().to_owned(),
        })
        .collect())
}

/// Gives an order to the shard that keeps the trunk's health.
pub fn order(node: &Node, params: &Value, order: TrunkOrder) -> Result<TrunkRow, Fault> {
    let name = methods::read::<Named>(params)?.name;
    let plan = node.plan();
    let trunk = find(&plan, &name)?;
    let slot = trunk.slot;
    node.ask(keeper(node, slot), |done| Ask::Trunk { slot, order, done })?
        .map_err(|why| Fault::refused(format!("trunk `{name}`: {why}")))?;
    Ok(row(node, trunk))
}

/// Adds the state of each trunk to the metrics.
pub fn state_gauges(page: &mut Page, node: &Node, plan: &NodePlan) {
    let board = &node.shared.board;
    page.heading(
        "callgate_trunk_state",
        "gauge",
        "1 for the state that the trunk is in.",
    );
    for trunk in &plan.routing.trunks {
        for &state in State::ALL {
            let holds = u8::from(board.state(trunk.slot) == state);
            page.sample(
                "",
                &[("trunk", &trunk.name), ("state", state.text())],
                holds,
            );
        }
    }
    page.heading(
        "callgate_trunk_rtt_seconds",
        "gauge",
        "Round trip of the last probe that was answered.",
    );
    for trunk in &plan.routing.trunks {
        if let Some(us) = board.rtt_us(trunk.slot) {
            page.sample("", &[("trunk", &trunk.name)], f64::from(us) / 1e6);
        }
    }
}
