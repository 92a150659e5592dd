//! `[[route]]`: which call goes where; the first line that matches decides.

use core::ops::Range;

use regex::bytes::Regex;

use crate::base::nearest;
use crate::route::{Group, RouteLine, Target, Trunk, TrunkId};

use super::address::is_host_name;
use super::fault::Sheet;
use super::group::refuse_without_address;
use super::names::{Named, Names};
use super::section::{Entry, Section};

/// What route lines refer to.
struct Reader<'r, 'd> {
    names: &'r Names<'d>,
    trunks: &'r [Trunk],
    groups: &'r [Group],
}

/// Reads all route lines.
pub(super) fn read_all(
    root: &Section<'_>,
    names: &Names<'_>,
    trunks: &[Trunk],
    groups: &[Group],
    sheet: &mut Sheet<'_>,
) -> Vec<RouteLine> {
    let reader = Reader {
        names,
        trunks,
        groups,
    };
    let tables = root
        .entry("route")
        .map_or_else(Vec::new, |entry| entry.tables(sheet));
    if let Some(first) = tables.get(ROUTES_MAX) {
        let message = format!(
            "{} route lines; at most {ROUTES_MAX} are taken",
            tables.len()
        );
        sheet.fault(first.span(), message);
    }
    let mut lines: Vec<RouteLine> = Vec::new();
    let mut spans: Vec<Range<usize>> = Vec::new();
    for table in tables.iter().take(ROUTES_MAX) {
        if let Some((line, span)) = reader.line(table, sheet) {
            lines.push(line);
            spans.push(span);
        }
    }
    if root.entry("route").is_none() {
        sheet.warn(
            0..0,
            "there is no [[route]]: every call gets 404",
            "add [[route]] with to = \"NAME\"",
        );
    }
    warn_of_unreachable(&lines, &spans, sheet);
    lines
}

impl Reader<'_, '_> {
    fn line(&self, entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<(RouteLine, Range<usize>)> {
        let section = Section::open(entry, "[[route]]".to_owned(), ROUTE_KEYS, sheet)?;
        let from = section.entry("from").map(|entry| self.from(&entry, sheet));
        let user = section.entry("user").map(|entry| user(&entry, sheet));
        let domain = section.entry("domain").map(|entry| domain(&entry, sheet));
        let Some(to) = section.entry("to") else {
            let hint = "write to = \"NAME\", \"reject 404\" or \"redirect sip:…\"";
            sheet.fault_hint(section.span.clone(), "[[route]] has no `to`", hint);
            return None;
        };
        let to = self.target(&to, sheet)?;
        // A line whose condition is faulty is left out: as a catch-all it would hide what follows.
        let line = RouteLine {
            from: from.map_or(Some(Vec::new()), |from| (!from.is_empty()).then_some(from))?,
            user: user.map_or(Some(None), |user| user.map(Some))?,
            domain: domain.map_or(Some(None), |domain| domain.map(Some))?,
            to,
            line: sheet.line_of(&section.span),
        };
        Some((line, section.span))
    }

    fn from(&self, entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Vec<TrunkId> {
        let elements = entry.elements(sheet, FROM_MAX);
        if elements.is_empty() {
            sheet.fault_hint(
                entry.span(),
                "`from` is empty: the line would match no call",
                "leave it out for any trunk",
            );
        }
        let mut from: Vec<TrunkId> = Vec::new();
        for element in elements {
            let Some(name) = element.string(sheet, "a list of trunk or group names") else {
                continue;
            };
            match self.names.find(name) {
                Some(Named::Trunk(id)) => from.push(id),
                Some(Named::Group(id)) => {
                    from.extend(
                        self.groups[usize::from(id.0)]
                            .members
                            .iter()
                            .map(|member| member.trunk),
                    );
                }
                None => self.unknown(name, &element, sheet),
            }
        }
        from.sort_unstable();
        from.dedup();
        from
    }

    fn unknown(&self, name: &str, entry: &Entry<'_>, sheet: &mut Sheet<'_>) {
        let hint = self.names.hint(name, true, sheet);
        let message = format!("unknown trunk or group \"{}\"", name.escape_debug());
        sheet.fault_hint(entry.span(), message, hint);
    }

    fn target(&self, entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<Target> {
        let text = entry.string(
            sheet,
            "a trunk, a group, \"reject 404\" or \"redirect sip:…\"",
        )?;
        match text.split_once(' ').unwrap_or((text, "")) {
            ("reject", status) => reject(entry, status.trim(), sheet),
            ("redirect", uri) => redirect(entry, uri.trim(), sheet),
            _ => match self.names.find(text) {
                Some(Named::Trunk(id)) => {
                    refuse_without_address(self.trunks, id, entry, sheet);
                    Some(Target::Trunk(id))
                }
                Some(Named::Group(id)) => Some(Target::Group(id)),
                None => {
                    self.unknown_target(text, entry, sheet);
                    None
                }
            },
        }
    }

    fn unknown_target(&self, text: &str, entry: &Entry<'_>, sheet: &mut Sheet<'_>) {
        let verb = text.split(' ').next().unwrap_or_default();
        match nearest(verb, ["reject", "redirect"].into_iter()) {
            Some(meant) if text.contains(' ') => {
                let message = format!("\"{}\" is no action", verb.escape_debug());
                sheet.fault_hint(entry.span(), message, format!("did you mean \"{meant}\"?"));
            }
            Some(_) | None => self.unknown(text, entry, sheet),
        }
    }
}

fn reject(entry: &Entry<'_>, status: &str, sheet: &mut Sheet<'_>) -> Option<Target> {
    if let Ok(status @ 300..=699) = status.parse::<u16>() {
        return Some(Target::Reject { status });
    }
    let message = format!(
        "\"reject\" takes a status from 300 to 699; found {}",
        found(status)
    );
    sheet.fault_hint(entry.span(), message, "write \"reject 404\"");
    None
}

fn found(argument: &str) -> String {
    match argument {
        "" => "none".to_owned(),
        argument => format!("\"{}\"", argument.escape_debug()),
    }
}

fn redirect(entry: &Entry<'_>, uri: &str, sheet: &mut Sheet<'_>) -> Option<Target> {
    let rest = ["sip:", "sips:", "tel:"]
        .iter()
        .find_map(|scheme| uri.strip_prefix(scheme));
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"<>\"\\".contains(&byte);
    if rest.is_some_and(|rest| !rest.is_empty())
        && uri.bytes().all(plain)
        && uri.len() <= URI_LENGTH_MAX
    {
        return Some(Target::Redirect {
            uri: uri.to_owned(),
        });
    }
    let message = format!(
        "\"redirect\" takes a SIP, SIPS or tel URI; found {}",
        found(uri)
    );
    sheet.fault_hint(entry.span(), message, "write \"redirect sip:user@host\"");
    None
}

fn user(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<Regex> {
    let text = entry.string(sheet, "a regular expression, as in \"^\\\\+49\"")?;
    match Regex::new(text) {
        Ok(regex) => Some(regex),
        Err(fault) => {
            let why = fault.to_string();
            let why = why
                .lines()
                .last()
                .unwrap_or_default()
                .trim()
                .trim_start_matches("error: ");
            let message = format!("`user` is no regular expression: {why}");
            sheet.fault(entry.span(), message);
            None
        }
    }
}

fn domain(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<String> {
    let text = entry.string(sheet, "a host name")?;
    if is_host_name(text)
        || text
            .trim_matches(['[', ']'])
            .parse::<core::net::IpAddr>()
            .is_ok()
    {
        return Some(text.to_ascii_lowercase());
    }
    let message = format!(
        "`domain` must be a host name; found \"{}\"",
        text.escape_debug()
    );
    sheet.fault_hint(
        entry.span(),
        message,
        "write the host alone, without \"sip:\" and port",
    );
    None
}

/// Warns of each line that an earlier one leaves nothing to.
fn warn_of_unreachable(lines: &[RouteLine], spans: &[Range<usize>], sheet: &mut Sheet<'_>) {
    for (at, (line, span)) in lines.iter().zip(spans).enumerate() {
        // Comparing each with each is for files that people write; a generated one is looked
        // through for a catch-all only in its first lines.
        let earlier = &lines[..at.min(COMPARED_MAX)];
        if let Some(cover) = earlier.iter().find(|earlier| covers(earlier, line)) {
            let message = format!(
                "this [[route]] is never reached: line {} takes all of its calls",
                cover.line
            );
            sheet.warn(
                span.clone(),
                message,
                "the first line that matches decides; move this one up",
            );
        }
    }
}

fn covers(earlier: &RouteLine, line: &RouteLine) -> bool {
    let from = earlier.from.is_empty()
        || (!line.from.is_empty() && line.from.iter().all(|id| earlier.from.contains(id)));
    let user = match (&earlier.user, &line.user) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(one), Some(other)) => one.as_str() == other.as_str(),
    };
    from && user && (earlier.domain.is_none() || earlier.domain == line.domain)
}

const ROUTE_KEYS: &[&str] = &["from", "user", "domain", "to"];
const ROUTES_MAX: usize = 65_000;
const FROM_MAX: usize = 4_096;
const COMPARED_MAX: usize = 1_000;
const URI_LENGTH_MAX: usize = 256;
