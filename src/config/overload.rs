//! `[overload]`: when new requests are turned away.

use core::time::Duration;

use toml_edit::Value;

use crate::base::duration;
use crate::guard::overload::Rule;

use super::fault::Sheet;
use super::section::{Entry, Section};

/// Reads `[overload]`.
pub(super) fn read(root: &Section<'_>, sheet: &mut Sheet<'_>) -> Rule {
    let mut rule = Rule::default();
    let Some(entry) = root.entry("overload") else {
        return rule;
    };
    let section = Section::open(&entry, "[overload]".to_owned(), &["target"], sheet);
    let target = section.and_then(|section| section.entry("target"));
    if let Some(target) = target.and_then(|entry| target_of(&entry, sheet)) {
        rule.target = target;
    }
    rule
}

/// A wait, or `off`.
fn target_of(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<Option<Duration>> {
    if entry.value().and_then(Value::as_str) == Some("off") {
        return Some(None);
    }
    entry.duration(sheet, TARGET_LEAST..=TARGET_MOST).map(Some)
}

/// Writes a rule the way it is read.
pub(super) fn show(rule: Rule) -> String {
    rule.target.map_or_else(|| "off".to_owned(), duration::show)
}

/// A busy shard looks at its sockets every millisecond or so.
const TARGET_LEAST: Duration = Duration::from_millis(1);
/// T1: what waits longer is sent again.
const TARGET_MOST: Duration = Duration::from_millis(500);
