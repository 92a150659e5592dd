//! What a reload would change, line by line, and what of it needs a restart.

use core::fmt::Debug;
use core::time::Duration;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::route::{Group, LimitMaxima, Plan, RouteLine, Target, Trunk, TrunkId};

use super::{Config, Hep, LogFormat};
use super::{coalesce, guard, overload};
use crate::base::duration;

/// The difference between the running configuration and a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// One line per change that a reload applies.
    pub applied: Vec<String>,
    /// One line per change that only a restart applies; a reload that has any is refused.
    pub needs_restart: Vec<String>,
}

impl Difference {
    /// Whether the two configurations mean the same.
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.needs_restart.is_empty()
    }
}

/// Settings by name, as text, in the order in which they are told.
type Settings = Vec<(&'static str, String)>;

/// Compares two configurations.
pub fn diff(old: &Config, new: &Config) -> Difference {
    let mut difference = Difference::default();
    changed("", &fixed(old), &fixed(new), &mut difference.needs_restart);
    let applied = &mut difference.applied;
    changed("", &live(old), &live(new), applied);
    let (old, new) = (&old.plan.routing, &new.plan.routing);
    let trunk = |trunk: &Trunk| (trunk.name.clone(), trunk_settings(trunk));
    named(
        "trunk",
        old.trunks.iter().map(trunk),
        new.trunks.iter().map(trunk),
        applied,
    );
    let group = |plan: &Plan| -> Vec<(String, Settings)> {
        let settings = |group: &Group| (group.name.clone(), group_settings(plan, group));
        plan.groups.iter().map(settings).collect()
    };
    named(
        "group",
        group(old).into_iter(),
        group(new).into_iter(),
        applied,
    );
    routes(old, new, applied);
    difference
}

/// Settings from which sockets, threads and memory were made at the start.
fn fixed(config: &Config) -> Settings {
    let listeners = config.plan.listeners.iter().map(|listener| {
        format!(
            "{} as {}:{}",
            listener.bind, listener.advertise_host, listener.advertise_port
        )
    });
    vec![
        ("[[listen]]", listed(listeners)),
        ("shards", config.node.shards.text()),
        ("io", word(config.node.io)),
        ("steering", word(config.node.steering)),
        ("coalesce", coalesce::show(config.node.coalesce)),
        (
            "state_dir",
            optional(config.node.state_dir.as_ref().map(|path| path.display())),
        ),
        (
            "state_flush",
            config
                .node
                .state_flush
                .map_or_else(|| "off".to_owned(), duration::show),
        ),
        ("why calls", config.why.calls.to_string()),
        ("why messages", config.why.messages.to_string()),
        ("dialogs", config.capacity.dialogs.to_string()),
        ("transactions", config.capacity.transactions.to_string()),
        (
            "control socket",
            optional(config.control.socket.as_ref().map(|path| path.display())),
        ),
        ("control http", optional(config.control.http)),
        ("cdr ring", config.cdr.ring.to_string()),
    ]
}

fn live(config: &Config) -> Settings {
    let format = match config.log.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let timings = config.plan.timings;
    let guard = &config.plan.guard;
    vec![
        ("name", config.node.name.clone()),
        ("drain_max", duration::show(config.node.drain_max)),
        ("aliases", listed(config.plan.aliases.iter())),
        ("min_se", duration::show(config.plan.min_se)),
        ("message_max", config.plan.message_max.to_string()),
        ("overload target", overload::show(config.plan.overload)),
        ("guard deny", listed(guard.access.deny().iter())),
        ("guard allow", listed(guard.access.allow().iter())),
        ("guard unknown_rate", guard::show_rate(guard.unknown_rate)),
        (
            "guard malformed_rate",
            guard::show_rate(guard.malformed_rate),
        ),
        ("guard ban_time", duration::show(guard.ban_time)),
        ("t1", duration::show(timings.t1)),
        ("t2", duration::show(timings.t2)),
        ("t4", duration::show(timings.t4)),
        ("timer_c", duration::show(timings.timer_c)),
        ("log level", config.log.level.word().to_owned()),
        ("log format", format.to_owned()),
        ("hep", hep(config.hep.as_ref())),
        ("log numbers", config.log.numbers.to_string()),
        ("cdr files", cdr_files(config)),
        (
            "cdr rotate_size_mib",
            optional(config.cdr.rotate_size.map(|octets| octets >> 20)),
        ),
        ("cdr rotate_every", span(config.cdr.rotate_every)),
        ("cdr keep", optional(config.cdr.keep)),
        ("cdr fsync", config.cdr.fsync.show()),
        (
            "cdr unknown_sources",
            config.cdr.unknown_sources.to_string(),
        ),
    ]
}

fn hep(hep: Option<&Hep>) -> String {
    let Some(hep) = hep else {
        return "off".to_owned();
    };
    format!(
        "{} {} id {} sample {} password {} trunks {}",
        hep.transport.word(),
        hep.target,
        hep.id,
        hep.sample,
        optional(hep.password.as_ref()),
        listed(hep.trunks.iter())
    )
}

fn cdr_files(config: &Config) -> String {
    let files = config.cdr.files.iter();
    listed(files.map(|file| format!("{} ({})", file.path.display(), file.format.word())))
}

fn trunk_settings(trunk: &Trunk) -> Settings {
    let blocks = trunk
        .sources
        .iter()
        .map(|block| format!("{}/{}", block.network, block.prefix_len));
    let mut settings = vec![
        ("address", listed(trunk.addresses.iter())),
        ("match", listed(blocks)),
        ("codecs", listed(trunk.codecs.iter())),
        ("probe", span(trunk.probe)),
        ("auto_congest", span(trunk.auto_congest)),
        ("session_expires", span(trunk.session_expires)),
        ("call_time_max", span(trunk.call_time_max)),
        ("over_limit", optional(trunk.over_limit)),
        (
            "cseq",
            if trunk.cseq_strict { "strict" } else { "pass" }.to_owned(),
        ),
        ("oc", trunk.oc.to_string()),
        ("disabled", trunk.disabled.to_string()),
    ];
    settings.extend(limit_settings(&trunk.limits));
    settings
}

fn group_settings(plan: &Plan, group: &Group) -> Settings {
    let members = group.members.iter().map(|member| {
        format!(
            "{} (weight {})",
            plan.trunk(member.trunk).name,
            member.weight
        )
    });
    let mut settings = vec![
        ("policy", word(group.policy)),
        ("members", listed(members)),
        ("over_limit", optional(group.over_limit)),
    ];
    settings.extend(limit_settings(&group.limits));
    settings
}

fn limit_settings(limits: &LimitMaxima) -> Settings {
    let cps = limits
        .cps
        .map(|cps| format!("{} burst {}", cps.sustain, cps.burst));
    vec![
        ("calls_max", optional(limits.calls_max)),
        ("calls_in_max", optional(limits.calls_in_max)),
        ("calls_out_max", optional(limits.calls_out_max)),
        ("cps", optional(cps)),
    ]
}

/// Tells which names came, went and changed.
fn named(
    what: &str,
    old: impl Iterator<Item = (String, Settings)>,
    new: impl Iterator<Item = (String, Settings)>,
    told: &mut Vec<String>,
) {
    let mut old: BTreeMap<String, Settings> = old.collect();
    for (name, settings) in new {
        match old.remove(&name) {
            Some(before) => changed(&format!("{what} {name}: "), &before, &settings, told),
            None => told.push(format!("{what} {name}: added")),
        }
    }
    told.extend(old.keys().map(|name| format!("{what} {name}: removed")));
}

fn changed(prefix: &str, old: &Settings, new: &Settings, told: &mut Vec<String>) {
    for ((name, before), (_, after)) in old.iter().zip(new) {
        if before != after {
            told.push(format!("{prefix}{name} {before} -> {after}"));
        }
    }
}

/// Tells which route lines came and went; the same lines in another order are a change too.
fn routes(old: &Plan, new: &Plan, told: &mut Vec<String>) {
    let before: Vec<String> = old
        .routes
        .iter()
        .map(|line| route_text(old, line))
        .collect();
    let after: Vec<String> = new
        .routes
        .iter()
        .map(|line| route_text(new, line))
        .collect();
    let (removed, added) = (only_in(&before, &after), only_in(&after, &before));
    if removed.is_empty() && added.is_empty() && before != after {
        told.push("route: the order of the lines changed".to_owned());
    }
    told.extend(removed.iter().map(|line| format!("route {line}: removed")));
    told.extend(added.iter().map(|line| format!("route {line}: added")));
}

/// The lines of `these` that `those` does not have, each as often as it is missing.
fn only_in<'l>(these: &'l [String], those: &[String]) -> Vec<&'l str> {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for line in those {
        *left.entry(line).or_default() += 1;
    }
    let missing = |line: &&'l str| match left.get_mut(*line) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        Some(_) | None => true,
    };
    these.iter().map(String::as_str).filter(missing).collect()
}

fn route_text(plan: &Plan, line: &RouteLine) -> String {
    let mut text = String::from("[");
    if !line.from.is_empty() {
        let name = |id: &TrunkId| plan.trunk(*id).name.as_str();
        text.push_str(&format!("from {} ", listed(line.from.iter().map(name))));
    }
    if let Some(user) = &line.user {
        text.push_str(&format!("user {} ", user.as_str()));
    }
    if let Some(domain) = &line.domain {
        text.push_str(&format!("domain {domain} "));
    }
    let to = match &line.to {
        Target::Trunk(id) => plan.trunk(*id).name.clone(),
        Target::Group(id) => plan.group(*id).name.clone(),
        Target::Reject { status } => format!("reject {status}"),
        Target::Redirect { uri } => format!("redirect {uri}"),
    };
    text.push_str(&format!("to {to}]"));
    text
}

fn listed(elements: impl Iterator<Item = impl ToString>) -> String {
    let elements: Vec<String> = elements.map(|element| element.to_string()).collect();
    if elements.is_empty() {
        "none".to_owned()
    } else {
        elements.join(", ")
    }
}

fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn span(value: Option<Duration>) -> String {
    optional(value.map(duration::show))
}

/// The word of a setting whose variants are named as in the file, but for case and hyphens.
fn word(value: impl Debug) -> String {
    let mut text = String::new();
    for (at, letter) in format!("{value:?}").char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{InOrder, load};
    use super::*;

    fn difference(old: &str, new: &str) -> Difference {
        let config = |text: &str| {
            let text = format!("[[listen]]\nudp = \"127.0.0.1\"\n{text}");
            load(&text, "edge.toml", &mut InOrder::default()).expect("the test writes it right")
        };
        diff(&config(old), &config(new))
    }

    #[test]
    fn equal_configurations_differ_in_nothing() {
        assert!(difference("", "# a comment\n[node]\nio = \"auto\"").is_empty());
    }

    #[test]
    fn trunks_groups_and_routes_are_told_by_name() {
        let old = "[trunk.a]\naddress = \"127.0.0.2\"\ncalls_max = 10\n[trunk.b]\naddress = \"127.0.0.3\"\n\
                   [group.g]\npolicy = \"least-calls\"\nmembers = [\"a\"]\n[[route]]\nto = \"g\"";
        let new = "[trunk.a]\naddress = \"127.0.0.2\"\ncalls_max = 20\ncps = { sustain = 5 }\n\
                   [trunk.c]\nmatch = \"127.0.0.3\"\n[group.g]\npolicy = \"call-id-hash\"\nmembers = [\"a\"]\n\
                   [[route]]\nuser = \"^1\"\nfrom = \"c\"\nto = \"g\"\n[log]\nlevel = \"debug\"";
        assert_eq!(difference(old, new).needs_restart, [""; 0]);
        assert_eq!(
            difference(old, new).applied,
            [
                "log level info -> debug",
                "trunk a: calls_max 10 -> 20",
                "trunk a: cps none -> 5 burst 5",
                "trunk c: added",
                "trunk b: removed",
                "group g: policy least-calls -> call-id-hash",
                "route [to g]: removed",
                "route [from c user ^1 to g]: added",
            ]
        );
    }

    #[test]
    fn what_sockets_threads_and_memory_were_made_from_needs_a_restart() {
        let new = "[[listen]]\nudp = \"127.0.0.2\"\n[node]\nshards = 2\nio = \"mmsg\"\nstate_dir = \"/s\"\n\
                   [capacity]\ndialogs = 10\n[control]\nhttp = \"127.0.0.1\"\n[timers]\nt1 = \"100ms\"";
        assert_eq!(
            difference("", new).needs_restart,
            [
                "[[listen]] 127.0.0.1:5060 as 127.0.0.1:5060 -> \
                 127.0.0.1:5060 as 127.0.0.1:5060, 127.0.0.2:5060 as 127.0.0.2:5060",
                "shards auto -> 2",
                "io auto -> mmsg",
                "state_dir none -> /s",
                "dialogs 200000 -> 10",
                "control http none -> 127.0.0.1:9060",
            ]
        );
        assert_eq!(difference("", new).applied, ["t1 500ms -> 100ms"]);
    }

    #[test]
    fn the_same_route_lines_in_another_order_are_a_change() {
        let old = "[[route]]\nuser = \"1\"\nto = \"reject 404\"\n[[route]]\nuser = \"2\"\nto = \"reject 404\"";
        let new = "[[route]]\nuser = \"2\"\nto = \"reject 404\"\n[[route]]\nuser = \"1\"\nto = \"reject 404\"";
        assert_eq!(
            difference(old, new).applied,
            ["route: the order of the lines changed"]
        );
    }
}
