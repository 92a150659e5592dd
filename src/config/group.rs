//! `[group.NAME]`: trunks that stand in for each other, and how a call chooses among them.

use crate::route::{Group, LimitMaxima, Member, Policy, Trunk, TrunkId};

use super::fault::Sheet;
use super::names::{Named, Names};
use super::section::{Entry, Section};
use super::trunk::{limits, over_limit};

/// Reads all groups; a faulty one has a stand-in, so that ids stay in step with the names.
pub(super) fn read_all(names: &Names<'_>, trunks: &[Trunk], sheet: &mut Sheet<'_>) -> Vec<Group> {
    let mut reader = Reader {
        names,
        trunks,
        memberships: vec![0; trunks.len()],
    };
    names
        .groups
        .iter()
        .map(|entry| reader.group(entry, sheet))
        .collect()
}

struct Reader<'r, 'd> {
    names: &'r Names<'d>,
    trunks: &'r [Trunk],
    /// Of how many groups each trunk is a member.
    memberships: Vec<u32>,
}

impl Reader<'_, '_> {
    fn group(&mut self, entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Group {
        let title = format!("[group.{}]", entry.key);
        let section = Section::open(entry, title, GROUP_KEYS, sheet);
        let span = section
            .as_ref()
            .map_or(entry.key_span.clone(), |section| section.span.clone());
        let mut group = Group {
            name: entry.key.clone(),
            slot: 0,
            policy: Policy::Priority,
            members: Vec::new(),
            limits: LimitMaxima::default(),
            over_limit: None,
            line: sheet.line_of(&span),
        };
        if let Some(section) = section {
            let policy = section
                .entry("policy")
                .and_then(|entry| entry.word(sheet, POLICY_WORDS));
            group.policy = policy.unwrap_or(Policy::Priority);
            group.members = self.members(&section, sheet);
            group.limits = limits(&section, sheet);
            group.over_limit = over_limit(&section, sheet);
        }
        group
    }

    fn members(&mut self, section: &Section<'_>, sheet: &mut Sheet<'_>) -> Vec<Member> {
        let hint = "write members = [\"TRUNK\", …]";
        let Some(entry) = section.entry("members") else {
            sheet.fault_hint(
                section.span.clone(),
                format!("{} has no `members`", section.title),
                hint,
            );
            return Vec::new();
        };
        let elements = entry.elements(sheet, Group::MEMBERS_MAX);
        if elements.is_empty() {
            sheet.fault_hint(
                entry.span(),
                format!("{} has no member", section.title),
                hint,
            );
        }
        let mut members: Vec<Member> = Vec::new();
        for element in elements {
            let Some(member) = self.member(&element, sheet) else {
                continue;
            };
            if members.iter().any(|other| other.trunk == member.trunk) {
                let name = &self.trunks[usize::from(member.trunk.0)].name;
                sheet.fault(element.span(), format!("trunk `{name}` is a member twice"));
                continue;
            }
            self.count_membership(member.trunk, &element, sheet);
            members.push(member);
        }
        members
    }

    fn member(&self, entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<Member> {
        if entry.item.table().is_none() {
            let trunk = self.trunk(entry, sheet)?;
            return Some(Member { trunk, weight: 1 });
        }
        let section = Section::open(entry, "a member".to_owned(), &["trunk", "weight"], sheet)?;
        let Some(name) = section.entry("trunk") else {
            let hint = "write { trunk = \"NAME\", weight = 1 }";
            sheet.fault_hint(section.span, "a member without `trunk`", hint);
            return None;
        };
        let trunk = self.trunk(&name, sheet);
        let weight = match section.entry("weight") {
            Some(entry) => entry.integer(sheet, 1..=WEIGHT_MAX)? as u32,
            None => 1,
        };
        Some(Member {
            trunk: trunk?,
            weight,
        })
    }

    fn trunk(&self, entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<TrunkId> {
        let name = entry.string(
            sheet,
            "a list of trunk names or { trunk = \"NAME\", weight = 1 }",
        )?;
        let trunk = match self.names.find(name) {
            Some(Named::Trunk(trunk)) => trunk,
            Some(Named::Group(_)) => {
                let message = format!("\"{name}\" is a group; the members of a group are trunks");
                sheet.fault(entry.span(), message);
                return None;
            }
            None => {
                let hint = self.names.hint(name, false, sheet);
                sheet.fault_hint(
                    entry.span(),
                    format!("unknown trunk \"{}\"", name.escape_debug()),
                    hint,
                );
                return None;
            }
        };
        refuse_without_address(self.trunks, trunk, entry, sheet);
        Some(trunk)
    }

    fn count_membership(&mut self, trunk: TrunkId, entry: &Entry<'_>, sheet: &mut Sheet<'_>) {
        let count = &mut self.memberships[usize::from(trunk.0)];
        *count += 1;
        if *count > MEMBERSHIPS_MAX {
            let name = &self.trunks[usize::from(trunk.0)].name;
            let message =
                format!("trunk `{name}` is a member of more than {MEMBERSHIPS_MAX} groups");
            sheet.fault(entry.span(), message);
        }
    }
}

/// A trunk that is only a source cannot be where a call goes.
pub(super) fn refuse_without_address(
    trunks: &[Trunk],
    id: TrunkId,
    entry: &Entry<'_>,
    sheet: &mut Sheet<'_>,
) {
    let trunk = &trunks[usize::from(id.0)];
    if trunk.addresses.is_empty() && !trunk.sources.is_empty() {
        let message = format!(
            "calls cannot go to trunk `{}`: it has no `address`",
            trunk.name
        );
        sheet.fault_hint(
            entry.span(),
            message,
            format!("add `address` to it, line {}", trunk.line),
        );
    }
}

const GROUP_KEYS: &[&str] = &[
    "policy",
    "members",
    "calls_max",
    "calls_in_max",
    "calls_out_max",
    "cps",
    "over_limit",
];
const POLICY_WORDS: &[(&str, Policy)] = &[
    ("priority", Policy::Priority),
    ("round-robin", Policy::RoundRobin),
    ("weighted", Policy::Weighted),
    ("least-calls", Policy::LeastCalls),
    ("call-id-hash", Policy::CallIdHash),
];
const WEIGHT_MAX: i64 = 1_000;
/// A lease holds eight slots: the trunk's and those of seven groups.
const MEMBERSHIPS_MAX: u32 = 7;
