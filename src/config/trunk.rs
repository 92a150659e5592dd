//! `[trunk.NAME]`: a carrier, a PBX, a gateway — where its requests come from and go to, its limits.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;

use toml_edit::Value;

use crate::base::nearest;
use crate::route::{Cidr, Cps, LimitMaxima, Trunk};
use crate::shard::Listener;

use super::address;
use super::fault::Sheet;
use super::names::Names;
use super::node::{bad_address, is_multicast_or_broadcast, socket_address};
use super::section::{Entry, Section};

/// Reads all trunks; a faulty one has a stand-in, so that ids stay in step with the names.
pub(super) fn read_all(
    names: &Names<'_>,
    listeners: &[Listener],
    min_se: Duration,
    sheet: &mut Sheet<'_>,
) -> Vec<Trunk> {
    let mut reader = Reader {
        listeners,
        min_se,
        addresses: BTreeMap::new(),
        sources: BTreeMap::new(),
    };
    names
        .trunks
        .iter()
        .map(|entry| reader.trunk(entry, sheet))
        .collect()
}

/// What the trunks of a file are checked against.
struct Reader<'r> {
    listeners: &'r [Listener],
    min_se: Duration,
    /// Which trunk named an address or a block first.
    addresses: BTreeMap<SocketAddr, String>,
    sources: BTreeMap<(IpAddr, u8), String>,
}

impl Reader<'_> {
    fn trunk(&mut self, entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Trunk {
        let title = format!("[trunk.{}]", entry.key);
        let section = Section::open(entry, title, TRUNK_KEYS, sheet);
        let span = section
            .as_ref()
            .map_or(entry.key_span.clone(), |section| section.span.clone());
        let mut trunk = blank(&entry.key, sheet.line_of(&span));
        if let Some(section) = section {
            self.read_addresses(&section, &mut trunk, sheet);
            trunk.limits = limits(&section, sheet);
            trunk.over_limit = over_limit(&section, sheet);
            self.read_call_rules(&section, &mut trunk, sheet);
        }
        trunk
    }

    fn read_addresses(&mut self, section: &Section<'_>, trunk: &mut Trunk, sheet: &mut Sheet<'_>) {
        if section.entry("address").is_none() && section.entry("match").is_none() {
            let message = format!("{} has neither `address` nor `match`", section.title);
            let hint = "requests go to `address`; `match` names further sources";
            sheet.fault_hint(section.span.clone(), message, hint);
        }
        for element in section.elements("address", sheet, ADDRESSES_MAX) {
            if let Some(address) = self.address(&element, &trunk.name, sheet) {
                trunk.addresses.push(address);
            }
        }
        for element in section.elements("match", sheet, SOURCES_MAX) {
            if let Some(block) = self.source(&element, &trunk.name, sheet) {
                trunk.sources.push(block);
            }
        }
    }

    fn address(
        &mut self,
        entry: &Entry<'_>,
        name: &str,
        sheet: &mut Sheet<'_>,
    ) -> Option<SocketAddr> {
        let address = socket_address(entry, address::SIP_PORT, sheet)?;
        if address.ip().is_unspecified() || is_multicast_or_broadcast(address) {
            sheet.fault(
                entry.span(),
                format!("{} is no address of a single host", address.ip()),
            );
            return None;
        }
        let reachable = |listener: &Listener| listener.bind.is_ipv4() == address.is_ipv4();
        if !self.listeners.is_empty() && !self.listeners.iter().any(reachable) {
            let (family, wildcard) = if address.is_ipv4() {
                ("IPv4", "0.0.0.0")
            } else {
                ("IPv6", "[::]")
            };
            let message = format!("{address} cannot be reached: no listener is {family}");
            sheet.fault_hint(
                entry.span(),
                message,
                format!("add [[listen]] with udp = \"{wildcard}:5060\""),
            );
        }
        match self.addresses.insert(address, name.to_owned()) {
            Some(other) if other == name => {
                sheet.fault(entry.span(), format!("{address} is named twice"));
            }
            Some(other) => {
                let message = format!("{address} is also an address of trunk `{other}`");
                sheet.warn(
                    entry.span(),
                    message,
                    "requests from it belong to the first of the two",
                );
            }
            None => {}
        }
        Some(address)
    }

    fn source(&mut self, entry: &Entry<'_>, name: &str, sheet: &mut Sheet<'_>) -> Option<Cidr> {
        let wanted = "a list of blocks, as in [\"198.51.100.0/24\", \"2001:db8::/32\"]";
        let text = entry.string(sheet, wanted)?;
        let block = address::cidr(text)
            .map_err(|why| bad_address(entry, text, wanted, why, sheet))
            .ok()?;
        match self
            .sources
            .insert((block.network, block.prefix_len), name.to_owned())
        {
            Some(other) if other != name => {
                let message = format!("{text} is also a source of trunk `{other}`");
                sheet.warn(
                    entry.span(),
                    message,
                    "requests from it belong to the first of the two",
                );
            }
            Some(_) | None => {}
        }
        Some(block)
    }

    fn read_call_rules(&self, section: &Section<'_>, trunk: &mut Trunk, sheet: &mut Sheet<'_>) {
        trunk.codecs = section
            .entry("codecs")
            .map_or_else(Vec::new, |entry| codecs(&entry, sheet));
        trunk.probe = section
            .entry("probe")
            .and_then(|entry| probe(&entry, sheet));
        if let (Some(_), true, Some(entry)) = (
            trunk.probe,
            trunk.addresses.is_empty(),
            section.entry("probe"),
        ) {
            sheet.warn(
                entry.key_span,
                "a trunk without `address` is not probed",
                "leave `probe` out",
            );
        }
        let answer = Duration::from_millis(100)..=Duration::from_secs(180);
        trunk.auto_congest = section
            .entry("auto_congest")
            .and_then(|entry| entry.duration(sheet, answer));
        let session = self.min_se..=Duration::from_secs(86_400);
        trunk.session_expires = section
            .entry("session_expires")
            .and_then(|entry| entry.duration(sheet, session));
        let call = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
        trunk.call_time_max = section
            .entry("call_time_max")
            .and_then(|entry| entry.duration(sheet, call));
        let words = [("pass", false), ("strict", true)];
        trunk.cseq_strict = section
            .entry("cseq")
            .and_then(|entry| entry.word(sheet, &words))
            .unwrap_or(false);
        trunk.oc = section
            .entry("oc")
            .and_then(|entry| entry.boolean(sheet))
            .unwrap_or(false);
        trunk.disabled = section
            .entry("disabled")
            .and_then(|entry| entry.boolean(sheet))
            .unwrap_or(false);
    }
}

fn blank(name: &str, line: u32) -> Trunk {
    Trunk {
        name: name.to_owned(),
        slot: 0,
        group_slots: Vec::new(),
        addresses: Vec::new(),
        sources: Vec::new(),
        limits: LimitMaxima::default(),
        codecs: Vec::new(),
        probe: None,
        auto_congest: None,
        session_expires: None,
        call_time_max: None,
        over_limit: None,
        cseq_strict: false,
        oc: false,
        disabled: false,
        line,
    }
}

/// Reads the limits of a trunk or group.
pub(super) fn limits(section: &Section<'_>, sheet: &mut Sheet<'_>) -> LimitMaxima {
    let mut calls = |key| {
        let entry = section.entry(key)?;
        let count = entry.integer(sheet, 0..=CALLS_MAX)?;
        if count == 0 {
            sheet.warn(
                entry.span(),
                format!("`{key}` = 0 admits no call"),
                "leave it out for no limit",
            );
        }
        Some(count as u32)
    };
    let mut limits = LimitMaxima {
        calls_max: calls("calls_max"),
        calls_in_max: calls("calls_in_max"),
        calls_out_max: calls("calls_out_max"),
        cps: None,
    };
    limits.cps = section
        .entry("cps")
        .and_then(|entry| cps(&entry, &section.title, sheet));
    warn_of_idle_limits(section, &limits, sheet);
    limits
}

fn warn_of_idle_limits(section: &Section<'_>, limits: &LimitMaxima, sheet: &mut Sheet<'_>) {
    for (key, part) in [
        ("calls_in_max", limits.calls_in_max),
        ("calls_out_max", limits.calls_out_max),
    ] {
        if let (Some(part), Some(all), Some(entry)) = (part, limits.calls_max, section.entry(key))
            && part > all
        {
            let message = format!("`{key}` = {part} is never reached: `calls_max` is {all}");
            sheet.warn(
                entry.span(),
                message,
                format!("write {all} or less, or leave it out"),
            );
        }
    }
}

fn cps(entry: &Entry<'_>, title: &str, sheet: &mut Sheet<'_>) -> Option<Cps> {
    if let Some(number) = entry.value().and_then(Value::as_integer) {
        let message = format!("`cps` must be a table; found the number {number}");
        let hint = format!("write cps = {{ sustain = {number}, burst = {number} }}");
        sheet.fault_hint(entry.span(), message, hint);
        return None;
    }
    let section = Section::open(
        entry,
        format!("cps of {title}"),
        &["sustain", "burst"],
        sheet,
    )?;
    let Some(sustain_entry) = section.entry("sustain") else {
        sheet.fault_hint(
            section.span,
            "`cps` has no `sustain`",
            "write cps = { sustain = 100, burst = 150 }",
        );
        return None;
    };
    let sustain = rate(&sustain_entry, sheet)?;
    let burst = match section.entry("burst") {
        Some(entry) => entry.integer(sheet, 1..=CPS_MAX)? as u32,
        None => sustain.ceil() as u32,
    };
    Some(Cps { sustain, burst })
}

fn rate(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<f64> {
    let wanted = format!("a number of calls per second above 0 and up to {CPS_MAX}");
    let number = match entry.value() {
        Some(Value::Integer(number)) => *number.value() as f64,
        Some(Value::Float(number)) => *number.value(),
        _ => {
            entry.wrong_type(sheet, &wanted);
            return None;
        }
    };
    // Below one call in a day the arithmetic of intervals has no meaning for calls.
    if number >= 1e-5 && number <= CPS_MAX as f64 {
        return Some(number);
    }
    sheet.fault(
        entry.span(),
        format!("`sustain` must be {wanted}; found {number}"),
    );
    None
}

/// Reads the code that is answered in place of 480 or 486.
pub(super) fn over_limit(section: &Section<'_>, sheet: &mut Sheet<'_>) -> Option<u16> {
    let entry = section.entry("over_limit")?;
    match entry.value().and_then(Value::as_integer) {
        Some(code @ (480 | 486 | 503)) => Some(code as u16),
        _ => {
            entry.wrong_type(sheet, "480, 486 or 503");
            None
        }
    }
}

fn probe(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<Duration> {
    match entry.value() {
        Some(Value::Boolean(off)) if !off.value() => None,
        Some(Value::Boolean(_)) => {
            let message = "`probe` must be an interval such as \"10s\", or false; found true";
            sheet.fault_hint(entry.span(), message, "write probe = \"10s\"");
            None
        }
        _ => entry.duration(sheet, Duration::from_secs(1)..=Duration::from_secs(3_600)),
    }
}

fn codecs(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Vec<String> {
    let elements = entry.elements(sheet, CODECS_MAX);
    if elements.is_empty() {
        let message = "`codecs` is empty, which would refuse every call";
        sheet.fault_hint(entry.span(), message, "leave it out to allow any");
    }
    let mut codecs: Vec<String> = Vec::new();
    for element in elements {
        let Some(text) = element.string(
            sheet,
            "a list of encoding names, as in [\"PCMA\", \"PCMU\"]",
        ) else {
            continue;
        };
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"/\"\\;,".contains(&byte))
        {
            let message = format!("\"{}\" is no encoding name", text.escape_debug());
            sheet.fault_hint(
                element.span(),
                message,
                "write the name alone, without clock rate, as in \"PCMA\"",
            );
            continue;
        }
        warn_of_misspelt_codec(&element, text, sheet);
        codecs.push(text.to_ascii_lowercase());
    }
    codecs
}

fn warn_of_misspelt_codec(entry: &Entry<'_>, text: &str, sheet: &mut Sheet<'_>) {
    if CODECS_KNOWN
        .iter()
        .any(|known| known.eq_ignore_ascii_case(text))
    {
        return;
    }
    if let Some(known) = nearest(text, CODECS_KNOWN.iter().copied()) {
        let message = format!("\"{text}\" is no encoding name that is known here");
        sheet.warn(entry.span(), message, format!("did you mean \"{known}\"?"));
    }
}

const TRUNK_KEYS: &[&str] = &[
    "address",
    "match",
    "calls_max",
    "calls_in_max",
    "calls_out_max",
    "cps",
    "codecs",
    "probe",
    "auto_congest",
    "session_expires",
    "call_time_max",
    "over_limit",
    "cseq",
    "oc",
    "disabled",
];
/// Names of RFC 3551 and those registered since that telephone traffic has.
const CODECS_KNOWN: &[&str] = &[
    "PCMU",
    "PCMA",
    "G722",
    "G729",
    "G723",
    "GSM",
    "iLBC",
    "opus",
    "speex",
    "AMR",
    "AMR-WB",
    "EVS",
    "L16",
    "CN",
    "telephone-event",
    "G726-16",
    "G726-24",
    "G726-32",
    "G726-40",
    "G728",
    "G7221",
    "G719",
    "SILK",
    "DVI4",
    "LPC",
    "QCELP",
    "EVRC",
    "red",
];
const ADDRESSES_MAX: usize = 64;
const SOURCES_MAX: usize = 1_024;
const CODECS_MAX: usize = 64;
const CALLS_MAX: i64 = 50_000_000;
const CPS_MAX: i64 = 1_000_000;
