//! The destination list of Kamailio's and OpenSIPS' dispatcher module: one destination per line.
//!
//! `setid destination [flags [priority [attributes]]]`; in OpenSIPS the fourth field is the weight.
//! A set becomes a group, a destination a trunk. The algorithm stands in the routing script, so
//! that the policy is a guess that the result says is one.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use super::draft::{Draft, Group, Listener, Trunk};
use super::{Imported, LINE_MAX, shown};
use crate::config::address;

/// Whose list it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    #[default]
    Kamailio,
    /// The fourth field is a weight.
    OpenSips,
}

/// A destination as it was read.
struct Destination {
    set: u32,
    address: SocketAddr,
    priority: i64,
    /// `None` = not given.
    weight: Option<u32>,
    /// A weight that takes no calls.
    is_left_out: bool,
    disabled: bool,
    probed: bool,
    maxload: Option<u32>,
    duid: Option<String>,
    line: u32,
}

/// Reads a list.
pub(super) fn import(file: &str, text: &str, dialect: Dialect) -> Result<Imported, String> {
    let mut draft = Draft::of(file);
    let mut found = Vec::new();
    let mut other_lines = 0;
    for (number, line) in (1..).zip(text.lines()) {
        if line.len() > LINE_MAX {
            draft.leave(
                number,
                line,
                format!("a line of more than {LINE_MAX} octets"),
            );
            other_lines += 1;
            continue;
        }
        // A `#` begins a comment where a word begins.
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match destination(&mut draft, number, line, dialect) {
            Ok(Some(destination)) => found.push(destination),
            Ok(None) => {}
            Err(why) => {
                other_lines += 1;
                draft.leave(number, line, why);
            }
        }
    }
    if found.is_empty() {
        let first = draft.finish().left.into_iter().next();
        return Err(match first {
            Some(left) => format!(
                "no destination could be carried over; line {}: {}: {}",
                left.line, left.what, left.why
            ),
            None => "no destination is in it: is it a dispatcher list?".to_owned(),
        });
    }
    draft.remarks.push(format!(
        "From the dispatcher list {file}: {} destinations.",
        found.len()
    ));
    if other_lines > 0 {
        draft.remarks.push(format!(
            "{other_lines} lines were not understood or not carried over."
        ));
    }
    build(&mut draft, &found);
    Ok(draft.finish())
}

fn destination(
    draft: &mut Draft,
    number: u32,
    line: &str,
    dialect: Dialect,
) -> Result<Option<Destination>, String> {
    let mut words = line.split_ascii_whitespace();
    let set = words.next().unwrap_or_default();
    let set: u32 = set.parse().map_err(|_| {
        "the first field must be the number of a set: is it a dispatcher list?".to_owned()
    })?;
    let uri = words.next().ok_or("the destination is missing")?;
    let address = uri_address(draft, number, uri)?;
    let mut destination = Destination {
        set,
        address,
        priority: 0,
        weight: None,
        is_left_out: false,
        disabled: false,
        probed: false,
        maxload: None,
        duid: None,
        line: number,
    };
    let mut rest = words.peekable();
    if let Some(flags) = rest.next_if(|word| word.parse::<i64>().is_ok()) {
        destination.take_flags(draft, flags.parse().unwrap_or(0));
    }
    if let Some(word) = rest.next_if(|word| word.parse::<i64>().is_ok()) {
        let value: i64 = word.parse().unwrap_or(0);
        match dialect {
            Dialect::Kamailio => destination.priority = value,
            Dialect::OpenSips => destination.take_weight(draft, word),
        }
    }
    for attributes in rest {
        for attribute in attributes
            .split(';')
            .filter(|attribute| !attribute.is_empty())
        {
            destination.take_attribute(draft, attribute);
        }
    }
    Ok(Some(destination))
}

/// The address of `sip:HOST[:PORT][;params]`; parameters that mean nothing here are noted.
fn uri_address(draft: &mut Draft, number: u32, uri: &str) -> Result<SocketAddr, String> {
    let lower = uri.to_ascii_lowercase();
    if lower.starts_with("sips:") {
        return Err("sips needs TLS, and only UDP is carried".to_owned());
    }
    let Some(rest) = lower.strip_prefix("sip:").map(|_| &uri[4..]) else {
        return Err(format!("\"{}\" is no SIP URI", shown(uri)));
    };
    let (host, parameters) = rest.split_once(';').unwrap_or((rest, ""));
    let host = match host.rsplit_once('@') {
        Some((user, host)) => {
            draft.leave(number, &format!("{user}@"), "a trunk has no user part");
            host
        }
        None => host,
    };
    for parameter in parameters
        .split(';')
        .filter(|parameter| !parameter.is_empty())
    {
        match parameter.to_ascii_lowercase().as_str() {
            "transport=udp" => {}
            other if other.starts_with("transport=") => {
                return Err(format!("{parameter}: only UDP is carried"));
            }
            _ => draft.leave(number, parameter, "a trunk's URI has no parameters"),
        }
    }
    address::socket(host, address::SIP_PORT).map_err(|fault| {
        let hint = fault
            .hint
            .map_or_else(String::new, |hint| format!("; {hint}"));
        format!("{}{hint}", fault.what)
    })
}

impl Destination {
    fn take_flags(&mut self, draft: &mut Draft, flags: i64) {
        self.disabled = flags & 0b101 != 0;
        self.probed = flags & 0b1000 != 0;
        if flags & 0b10 != 0 {
            draft.leave(
                self.line,
                "flag 2",
                "\"trying\" is a state, which is found out again",
            );
        }
        if flags & !0b1_1111 != 0 {
            draft.leave(
                self.line,
                &format!("flags {flags}"),
                "bits above 16 are not known here",
            );
        }
    }

    fn take_weight(&mut self, draft: &mut Draft, text: &str) {
        match text.parse::<u32>() {
            Ok(0) => {
                self.is_left_out = true;
                draft.leave(
                    self.line,
                    "weight 0",
                    "takes no calls: not a member of its group",
                );
            }
            Ok(weight @ 1..=1000) => self.weight = Some(weight),
            Ok(_) | Err(_) => draft.leave(self.line, text, "a weight is a number from 1 to 1000"),
        }
    }

    fn take_attribute(&mut self, draft: &mut Draft, attribute: &str) {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        let number = self.line;
        let mut leave = |why: &str| draft.leave(number, attribute, why);
        match name {
            "weight" | "rweight" => self.take_weight(draft, value),
            "duid" => self.duid = Some(value.to_owned()),
            "maxload" => match value.parse::<u32>() {
                Ok(0) => {}
                Ok(load) if load <= 50_000_000 => self.maxload = Some(load),
                Ok(_) | Err(_) => leave("maxload is a number of calls"),
            },
            "socket" => match udp_socket(value) {
                Some(udp) => {
                    let is_new = draft.listeners.iter().all(|listener| listener.udp != udp);
                    if is_new {
                        draft.listeners.push(Listener {
                            udp,
                            advertise: None,
                        });
                    }
                    let family = |listener: &&Listener| listener.udp.is_ipv4() == udp.is_ipv4();
                    if draft.listeners.iter().filter(family).count() > 1 {
                        let why =
                            "is a [[listen]]; calls leave by the first of their address family";
                        draft.leave(number, attribute, why);
                    }
                }
                None => leave("only udp:IP:PORT is a listener here"),
            },
            "sockname" => leave("listeners have no names: write a [[listen]]"),
            "ping_from" => leave("probes come from the listener's own address"),
            "obproxy" => leave("probes go to the trunk itself"),
            "latency" => leave("the round trip is measured by probes"),
            _ => leave("an attribute for the routing script"),
        }
    }
}

fn udp_socket(value: &str) -> Option<SocketAddr> {
    let rest = value.strip_prefix("udp:").unwrap_or(value);
    let udp = address::socket(rest, address::SIP_PORT).ok()?;
    (!value.starts_with("tcp:") && !value.starts_with("tls:")).then_some(udp)
}

/// Trunks by address, groups by set.
fn build(draft: &mut Draft, found: &[Destination]) {
    let mut names: BTreeMap<SocketAddr, String> = BTreeMap::new();
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for destination in found {
        let count = counts.entry(destination.set).or_default();
        *count += 1;
        if let Some(name) = names.get(&destination.address) {
            let why = format!("the same address as trunk {name}, whose first line counts");
            if destination.maxload.is_some() || destination.disabled || destination.probed {
                draft.leave(destination.line, &destination.address.to_string(), why);
            }
            continue;
        }
        let wanted = destination
            .duid
            .clone()
            .unwrap_or(format!("set{}-{count}", destination.set));
        let name = draft.free_name(&wanted);
        let mut keys = Vec::new();
        keys.extend(
            destination
                .maxload
                .map(|load| format!("calls_out_max = {load}")),
        );
        keys.extend(destination.disabled.then(|| "disabled = true".to_owned()));
        keys.extend(destination.probed.then(|| {
            "probe = \"10s\"  # how often stands in the script: ds_ping_interval".to_owned()
        }));
        draft.trunks.push(Trunk {
            name: name.clone(),
            remark: format!("line {}", destination.line),
            addresses: vec![destination.address],
            sources: Vec::new(),
            keys,
        });
        names.insert(destination.address, name);
    }
    for set in counts.keys() {
        let members: Vec<&Destination> = found
            .iter()
            .filter(|destination| destination.set == *set && !destination.is_left_out)
            .collect();
        add_group(draft, *set, members, &names);
    }
}

fn add_group(
    draft: &mut Draft,
    set: u32,
    mut members: Vec<&Destination>,
    names: &BTreeMap<SocketAddr, String>,
) {
    // The highest priority first; in a set it is no change where all are equal.
    members.sort_by_key(|member| core::cmp::Reverse(member.priority));
    let by_priority = members
        .iter()
        .any(|member| member.priority != members[0].priority);
    let by_weight = members.iter().any(|member| member.weight.is_some());
    let policy = match (by_weight, by_priority) {
        (true, _) => "weighted",
        (false, true) => "priority",
        (false, false) => "round-robin",
    };
    let mut kept: Vec<(String, u32)> = Vec::new();
    for member in members {
        let name = &names[&member.address];
        if kept.iter().any(|(other, _)| other == name) {
            draft.leave(member.line, &member.address.to_string(), "twice in its set");
        } else if kept.len() == MEMBERS_MAX {
            draft.leave(
                member.line,
                name,
                format!("a group has at most {MEMBERS_MAX} members"),
            );
        } else {
            kept.push((name.clone(), member.weight.unwrap_or(1)));
        }
    }
    if kept.is_empty() {
        return;
    }
    let name = draft.free_name(&format!("set{set}"));
    draft.routes.push(format!(
        "[[route]]  to = \"{name}\"  where the script calls ds_select_dst(\"{set}\", …)"
    ));
    draft.groups.push(Group {
        name,
        remark: "the algorithm stands in the script: look at the policy".to_owned(),
        policy,
        members: kept,
    });
}

/// As in the route plan.
const MEMBERS_MAX: usize = crate::route::Group::MEMBERS_MAX;
