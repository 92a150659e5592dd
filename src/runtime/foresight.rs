//! What another configuration would change in the running node, without changing anything.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use super::helm::{self, Names};
use crate::config::{self, Config};
use crate::control::answers::{AffectedRow, PlanWish, Planned, RecordedRequest, RoutedRow};
use crate::control::{Fault, Node};
use crate::limit::SlotId;
use crate::route::{Plan, Sources, Target};

/// Requests that are routed in one answer.
const REQUESTS_MAX: usize = 1000;

/// Compares the configuration at work with another.
pub fn plan(
    node: &Node,
    old: &Config,
    names: &mut Names,
    wish: &PlanWish,
) -> Result<Planned, Fault> {
    if wish.requests.len() > REQUESTS_MAX {
        let message = format!("at most {REQUESTS_MAX} requests");
        return Err(Fault::new(Fault::INVALID_PARAMS, message));
    }
    let file = Path::new(&wish.file);
    let new = config::load(&wish.text, &wish.file, names)
        .map_err(|report| helm::faulty(file, &report))?;
    let difference = config::diff(old, &new);
    Ok(Planned {
        affected: affected(node, old, &difference.applied),
        applied: difference.applied,
        needs_restart: difference.needs_restart,
        warnings: new.warnings.iter().map(ToString::to_string).collect(),
        routed: routed(&old.plan.routing, &new.plan.routing, &wish.requests)?,
    })
}

/// Trunks and groups that the difference names, with their live calls.
fn affected(node: &Node, old: &Config, applied: &[String]) -> Vec<AffectedRow> {
    let routing = &old.plan.routing;
    let slots: BTreeMap<(&str, &str), u16> = routing
        .trunks
        .iter()
        .map(|trunk| (("trunk", trunk.name.as_str()), trunk.slot))
        .chain(
            routing
                .groups
                .iter()
                .map(|group| (("group", group.name.as_str()), group.slot)),
        )
        .collect();
    let mut rows: Vec<AffectedRow> = Vec::new();
    for line in applied {
        let Some((subject, what)) = line.split_once(": ") else {
            continue;
        };
        let Some((kind, name)) = subject
            .split_once(' ')
            .filter(|(kind, _)| ["trunk", "group"].contains(kind))
        else {
            continue;
        };
        if rows.iter().any(|row| row.kind == kind && row.name == name) {
            continue;
        }
        let change = match what {
            "added" | "removed" => what,
            _ => "changed",
        };
        let calls = slots.get(&(kind, name)).map_or(0, |slot| {
            let used = node.shared.limits.used(SlotId(*slot));
            used.in_calls + used.out_calls
        });
        rows.push(AffectedRow {
            kind: kind.to_owned(),
            name: name.to_owned(),
            change: change.to_owned(),
            calls,
        });
    }
    rows
}

fn routed(old: &Plan, new: &Plan, requests: &[RecordedRequest]) -> Result<Vec<RoutedRow>, Fault> {
    let (old_sources, new_sources) = (Sources::build(old), Sources::build(new));
    let route = |request: &RecordedRequest| {
        let source: SocketAddr = request.source.parse().map_err(|_| {
            let message = format!("source: `{}` is no address with a port", request.source);
            Fault::new(Fault::INVALID_PARAMS, message)
        })?;
        Ok(RoutedRow {
            old: target(old, &old_sources, source, request),
            new: target(new, &new_sources, source, request),
        })
    };
    requests.iter().map(route).collect()
}

/// Where a request would go, in the words of a route line.
fn target(plan: &Plan, sources: &Sources, source: SocketAddr, request: &RecordedRequest) -> String {
    let Some((from, _rule)) = sources.lookup(source) else {
        return "403, unknown source".to_owned();
    };
    let (user, domain) = (request.user.as_bytes(), request.domain.as_bytes());
    let chosen = plan.choose(from, user, request.is_number, domain);
    match chosen.map(|(_, line)| &line.to) {
        None => "404, no route".to_owned(),
        Some(Target::Trunk(to)) => format!("trunk {}", plan.trunk(*to).name),
        Some(Target::Group(to)) => format!("group {}", plan.group(*to).name),
        Some(Target::Reject { status }) => format!("reject {status}"),
        Some(Target::Redirect { uri }) => format!("redirect {uri}"),
    }
}
