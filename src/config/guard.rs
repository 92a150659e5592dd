//! `[guard]`: access list, and what leads to a ban.

use core::time::Duration;

use toml_edit::Value;

use crate::guard::Block;
use crate::guard::access::{Access, Guard};
use crate::route::{Cidr, Trunk};

use super::fault::Sheet;
use super::section::{Entry, Section};

/// Reads `[guard]`.
pub(super) fn read(root: &Section<'_>, trunks: &[Trunk], sheet: &mut Sheet<'_>) -> Guard {
    let mut guard = Guard::default();
    let Some(entry) = root.entry("guard") else {
        return guard;
    };
    let Some(section) = Section::open(&entry, "[guard]".to_owned(), KEYS, sheet) else {
        return guard;
    };
    let deny = blocks(&section, "deny", sheet);
    warn_of_trunks(&section, &deny, trunks, sheet);
    let allow = blocks(&section, "allow", sheet);
    guard.access = Access::new(deny, allow);
    guard.unknown_rate = rate(&section, "unknown_rate", sheet);
    guard.malformed_rate = rate(&section, "malformed_rate", sheet);
    let times = Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);
    if let Some(time) = section
        .entry("ban_time")
        .and_then(|entry| entry.duration(sheet, times))
    {
        guard.ban_time = time;
    }
    guard
}

fn blocks(section: &Section<'_>, key: &str, sheet: &mut Sheet<'_>) -> Vec<Block> {
    let Some(entry) = section.entry(key) else {
        return Vec::new();
    };
    let elements = entry.elements(sheet, Access::BLOCKS_MAX);
    let read = |element: &Entry<'_>| block(element, sheet);
    elements.iter().filter_map(read).collect()
}

fn block(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<Block> {
    let text = entry.string(sheet, WANTED)?;
    let Ok(block) = text.parse::<Block>() else {
        let message = format!(
            "`{}` must be {WANTED}; found \"{}\"",
            entry.key,
            text.escape_debug()
        );
        sheet.fault(entry.span(), message);
        return None;
    };
    if block.is_everybody() {
        let message = format!("`{}` must not be everybody; found {block}", entry.key);
        sheet.fault(entry.span(), message);
        return None;
    }
    Some(block)
}

/// A trunk is served though it is denied; whoever denies it may have meant something else.
fn warn_of_trunks(section: &Section<'_>, deny: &[Block], trunks: &[Trunk], sheet: &mut Sheet<'_>) {
    for trunk in trunks {
        let Some(block) = deny.iter().find(|block| touches(**block, trunk)) else {
            continue;
        };
        let span = section
            .entry("deny")
            .map_or(section.span.clone(), |entry| entry.span());
        let message = format!(
            "`deny` has {block}, where trunk {} is: a trunk is served all the same",
            trunk.name
        );
        sheet.warn(span, message, "disabled = true on the trunk keeps it out");
    }
}

/// Whether an address that a trunk is known by lies in the block.
fn touches(block: Block, trunk: &Trunk) -> bool {
    let block_of = |cidr: &Cidr| Block::new(cidr.network, cidr.prefix_len);
    let mut addresses = trunk.addresses.iter();
    addresses.any(|address| block.contains(address.ip()))
        || trunk
            .sources
            .iter()
            .any(|cidr| block_of(cidr).overlaps(block))
}

/// A number of events per second, or `off`.
fn rate(section: &Section<'_>, key: &str, sheet: &mut Sheet<'_>) -> Option<u32> {
    let entry = section.entry(key)?;
    if entry.value().and_then(Value::as_str) == Some("off") {
        return None;
    }
    let number = entry.integer(sheet, 1..=RATE_MAX)?;
    u32::try_from(number).ok()
}

/// Writes a rate the way it is read.
pub(super) fn show_rate(rate: Option<u32>) -> String {
    rate.map_or_else(|| "off".to_owned(), |rate| rate.to_string())
}

const KEYS: &[&str] = &[
    "deny",
    "allow",
    "unknown_rate",
    "malformed_rate",
    "ban_time",
];
const WANTED: &str = "an IP address or a block of them, as in \"192.0.2.0/24\"";
const RATE_MAX: i64 = 1_000_000;
