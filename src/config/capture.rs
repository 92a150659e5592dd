//! `[why]`, how much of past calls is remembered, and `[hep]`, copies of messages to Homer.

use core::net::SocketAddr;

use super::fault::Sheet;
use super::names::{Named, Names};
use super::node::{is_multicast_or_broadcast, socket_address};
use super::secret::Secret;
use super::section::{Entry, Section};

/// `[why]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why {
    /// Calls whose decisions each shard remembers.
    pub calls: usize,
    /// Messages that each shard remembers in short.
    pub messages: usize,
}

/// `[hep]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hep {
    pub target: SocketAddr,
    pub transport: HepTransport,
    /// Tells this node from others in Homer.
    pub id: u32,
    pub password: Option<Secret>,
    /// One call in so many.
    pub sample: u32,
    /// Names of trunks; empty = every message.
    pub trunks: Vec<String>,
}

/// How reports travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HepTransport {
    Udp,
    Tcp,
}

impl HepTransport {
    /// The word in the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            HepTransport::Udp => "udp",
            HepTransport::Tcp => "tcp",
        }
    }
}

pub(super) fn read_why(root: &Section<'_>, sheet: &mut Sheet<'_>) -> Why {
    let mut why = Why {
        calls: crate::shard::DECISIONS_MAX,
        messages: crate::shard::MESSAGES_MAX,
    };
    let section = root
        .entry("why")
        .and_then(|entry| Section::open(&entry, "[why]".to_owned(), &["calls", "messages"], sheet));
    let calls = section.as_ref().and_then(|section| section.entry("calls"));
    if let Some(count) = calls.and_then(|entry| entry.integer(sheet, 0..=WHY_CALLS_MOST)) {
        why.calls = count as usize;
    }
    let messages = section.and_then(|section| section.entry("messages"));
    if let Some(count) = messages.and_then(|entry| entry.integer(sheet, 0..=WHY_MESSAGES_MOST)) {
        why.messages = count as usize;
    }
    why
}

pub(super) fn read_hep(
    root: &Section<'_>,
    names: &Names<'_>,
    sheet: &mut Sheet<'_>,
) -> Option<Hep> {
    let entry = root.entry("hep")?;
    let section = Section::open(&entry, "[hep]".to_owned(), HEP_KEYS, sheet)?;
    let Some(target_entry) = section.entry("target") else {
        sheet.fault_hint(
            section.span.clone(),
            "[hep] has no `target`",
            "add target = \"IP:9060\", the address of Homer",
        );
        return None;
    };
    let target = socket_address(&target_entry, HOMER_PORT, sheet);
    let unusable = |target: &SocketAddr| {
        target.port() == 0 || target.ip().is_unspecified() || is_multicast_or_broadcast(*target)
    };
    if let Some(target) = target.filter(unusable) {
        sheet.fault(
            target_entry.span(),
            format!("`target` must be one host and a port; found {target}"),
        );
    }
    let transport = section
        .entry("transport")
        .and_then(|entry| entry.word(sheet, TRANSPORT_WORDS));
    let number = |key, range, sheet: &mut Sheet<'_>| {
        let entry = section.entry(key)?;
        entry.integer(sheet, range).map(|number| number as u32)
    };
    let id = number("id", 0..=i64::from(u32::MAX), sheet);
    let sample = number("sample", 1..=SAMPLE_MOST, sheet);
    let trunks = section.elements("trunks", sheet, HEP_TRUNKS_MAX);
    let trunks = trunks
        .iter()
        .filter_map(|entry| trunk_name(entry, names, sheet))
        .collect();
    Some(Hep {
        target: target?,
        transport: transport.unwrap_or(HepTransport::Udp),
        id: id.unwrap_or(0),
        password: section
            .entry("password")
            .and_then(|entry| Secret::read(&entry, sheet)),
        sample: sample.unwrap_or(1),
        trunks,
    })
}

fn trunk_name(entry: &Entry<'_>, names: &Names<'_>, sheet: &mut Sheet<'_>) -> Option<String> {
    let name = entry.string(sheet, "a list of trunk names")?;
    match names.find(name) {
        Some(Named::Trunk(_)) => return Some(name.to_owned()),
        Some(Named::Group(_)) => sheet.fault_hint(
            entry.span(),
            format!("\"{name}\" is a group"),
            "name its trunks",
        ),
        None => {
            let hint = names.hint(name, false, sheet);
            let message = format!("there is no trunk \"{}\"", name.escape_debug());
            sheet.fault_hint(entry.span(), message, hint);
        }
    }
    None
}

const HEP_KEYS: &[&str] = &["target", "transport", "id", "password", "sample", "trunks"];
const TRANSPORT_WORDS: &[(&str, HepTransport)] =
    &[("udp", HepTransport::Udp), ("tcp", HepTransport::Tcp)];
const HOMER_PORT: u16 = 9060;
/// Fewer than one call in a million is no sample.
const SAMPLE_MOST: i64 = 1_000_000;
/// Who captures more trunks than this by name captures all.
const HEP_TRUNKS_MAX: usize = 64;
/// A gigabyte of memory per shard.
const WHY_CALLS_MOST: i64 = 1_000_000;
/// A gigabyte of memory per shard.
const WHY_MESSAGES_MOST: i64 = 10_000_000;
