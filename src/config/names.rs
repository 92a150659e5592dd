//! Names of trunks and groups: which there are, what they may look like, and their stable slots.

use std::collections::BTreeMap;

use crate::route::{GroupId, Plan, TrunkId};

use super::fault::Sheet;
use super::section::{Entry, Section};

/// Gives each trunk and group name its slot, the same one at each reload.
pub trait SlotNames {
    /// The slot of `name`; `None` when all are taken.
    fn slot_of(&mut self, name: &str) -> Option<u16>;
}

/// Slots in the order of asking: for a configuration that is only checked.
#[derive(Debug, Default)]
pub struct InOrder {
    taken: BTreeMap<String, u16>,
}

impl SlotNames for InOrder {
    fn slot_of(&mut self, name: &str) -> Option<u16> {
        if let Some(slot) = self.taken.get(name) {
            return Some(*slot);
        }
        let slot = u16::try_from(self.taken.len()).ok()?;
        self.taken.insert(name.to_owned(), slot);
        Some(slot)
    }
}

/// All trunks and groups of a file, before their contents are read.
pub(super) struct Names<'d> {
    pub(super) trunks: Vec<Entry<'d>>,
    pub(super) groups: Vec<Entry<'d>>,
    trunk_ids: BTreeMap<String, TrunkId>,
    group_ids: BTreeMap<String, GroupId>,
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Trunk(TrunkId),
    Group(GroupId),
}

impl<'d> Names<'d> {
    pub(super) fn collect(root: &Section<'d>, sheet: &mut Sheet<'_>) -> Names<'d> {
        let mut trunks = tables_of(root, "trunk", sheet);
        let mut groups = tables_of(root, "group", sheet);
        refuse_too_many(&mut trunks, TRUNKS_MAX, "trunks", sheet);
        refuse_too_many(&mut groups, GROUPS_MAX, "groups", sheet);
        let names = Names {
            trunk_ids: (0..)
                .zip(&trunks)
                .map(|(at, entry)| (entry.key.clone(), TrunkId(at)))
                .collect(),
            group_ids: (0..)
                .zip(&groups)
                .map(|(at, entry)| (entry.key.clone(), GroupId(at)))
                .collect(),
            trunks,
            groups,
        };
        names.refuse_bad_names(sheet);
        names
    }

    fn refuse_bad_names(&self, sheet: &mut Sheet<'_>) {
        for entry in self.trunks.iter().chain(&self.groups) {
            refuse_bad_name(entry, sheet);
        }
        for entry in &self.groups {
            if let Some(id) = self.trunk_ids.get(&entry.key) {
                let line = sheet.line_of(&self.trunks[usize::from(id.0)].key_span);
                let message = format!(
                    "group `{}` has the name of the trunk in line {line}",
                    entry.key
                );
                sheet.fault_hint(
                    entry.key_span.clone(),
                    message,
                    "give one of them another name",
                );
            }
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<Named> {
        let trunk = self.trunk_ids.get(name).map(|id| Named::Trunk(*id));
        trunk.or_else(|| self.group_ids.get(name).map(|id| Named::Group(*id)))
    }

    /// What to say about a name that is not there.
    pub(super) fn hint(&self, found: &str, groups_too: bool, sheet: &Sheet<'_>) -> String {
        let groups = self.group_ids.keys().filter(|_| groups_too);
        let known = self.trunk_ids.keys().chain(groups).map(String::as_str);
        if let Some(name) = sheet.nearest(found, known.clone()) {
            return format!("did you mean \"{name}\"?");
        }
        let listed: Vec<&str> = known.clone().take(LISTED_MAX).collect();
        match known.count() {
            0 => "this file has none".to_owned(),
            count if count > LISTED_MAX => {
                format!("known: {}, … ({count} in all)", listed.join(", "))
            }
            _ => format!("known: {}", listed.join(", ")),
        }
    }
}

fn tables_of<'d>(root: &Section<'d>, key: &str, sheet: &mut Sheet<'_>) -> Vec<Entry<'d>> {
    let Some(entry) = root.entry(key) else {
        return Vec::new();
    };
    if entry.item.table().is_none() {
        let message = format!(
            "`{key}` must be written [{key}.NAME]; found {}",
            entry.item.describe()
        );
        sheet.fault(entry.key_span.clone(), message);
        return Vec::new();
    }
    Section::open(&entry, format!("[{key}]"), &[], sheet)
        .map_or_else(Vec::new, |section| section.entries())
}

fn refuse_too_many(entries: &mut Vec<Entry<'_>>, max: usize, what: &str, sheet: &mut Sheet<'_>) {
    if let Some(first) = entries.get(max) {
        let message = format!("{} {what}; at most {max} are taken", entries.len());
        sheet.fault(first.key_span.clone(), message);
        entries.truncate(max);
    }
}

fn refuse_bad_name(entry: &Entry<'_>, sheet: &mut Sheet<'_>) {
    let name = entry.key.as_str();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > NAME_LENGTH_MAX || !name.bytes().all(plain) {
        let message = format!(
            "\"{}\" is no name for a trunk or group",
            name.escape_debug()
        );
        let hint = format!("1 to {NAME_LENGTH_MAX} letters, digits, '-', '_' or '.'");
        sheet.fault_hint(entry.key_span.clone(), message, hint);
    } else if RESERVED.contains(&name) {
        let message = format!("\"{name}\" is a word of route lines and no name");
        sheet.fault_hint(entry.key_span.clone(), message, "give it another name");
    }
}

/// Gives each trunk and group its slot.
pub(super) fn assign_slots(plan: &mut Plan, slots: &mut dyn SlotNames) -> Result<(), String> {
    let mut slot = |name: &str| {
        slots
            .slot_of(name)
            .ok_or_else(|| format!("no slot is left for `{name}`"))
    };
    for trunk in &mut plan.trunks {
        trunk.slot = slot(&trunk.name)?;
        trunk.group_slots.clear();
    }
    for group in &mut plan.groups {
        group.slot = slot(&group.name)?;
        for member in &group.members {
            plan.trunks[usize::from(member.trunk.0)]
                .group_slots
                .push(group.slot);
        }
    }
    Ok(())
}

/// Trunks and groups share 65,536 slots.
pub(super) const TRUNKS_MAX: usize = 65_000;
pub(super) const GROUPS_MAX: usize = 500;
const NAME_LENGTH_MAX: usize = 64;
const LISTED_MAX: usize = 8;
const RESERVED: &[&str] = &["reject", "redirect"];
