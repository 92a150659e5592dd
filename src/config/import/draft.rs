//! A configuration while it is put together: listeners, trunks, groups, and what was left behind.

use core::fmt::Write as _;
use core::net::SocketAddr;
use std::collections::BTreeSet;

use super::{Imported, Left, shown};

/// The parts of a configuration, in the order in which they are written.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) file: String,
    /// Comments of the heading.
    pub(super) remarks: Vec<String>,
    pub(super) listeners: Vec<Listener>,
    /// Keys of tables such as `[timers]`, as they are written.
    pub(super) tables: Vec<(&'static str, Vec<String>)>,
    pub(super) trunks: Vec<Trunk>,
    pub(super) groups: Vec<Group>,
    /// Comments in place of route lines.
    pub(super) routes: Vec<String>,
    left: Vec<Left>,
}

pub(super) struct Listener {
    pub(super) udp: SocketAddr,
    pub(super) advertise: Option<String>,
}

/// A trunk; `keys` as they are written, address and sources apart since they are looked at.
pub(super) struct Trunk {
    pub(super) name: String,
    pub(super) remark: String,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) sources: Vec<String>,
    pub(super) keys: Vec<String>,
}

pub(super) struct Group {
    pub(super) name: String,
    pub(super) remark: String,
    pub(super) policy: &'static str,
    /// Names and weights.
    pub(super) members: Vec<(String, u32)>,
}

impl Draft {
    pub(super) fn of(file: &str) -> Draft {
        Draft {
            file: file.to_owned(),
            ..Draft::default()
        }
    }

    /// Notes what is not carried over.
    pub(super) fn leave(&mut self, line: u32, what: &str, why: impl Into<String>) {
        let file = self.file.clone();
        self.leave_in(&file, line, what, why);
    }

    pub(super) fn leave_in(&mut self, file: &str, line: u32, what: &str, why: impl Into<String>) {
        self.left.push(Left {
            file: file.to_owned(),
            line,
            what: shown(what),
            why: why.into(),
        });
    }

    /// A name for a trunk or group that nobody has yet, as near to `wanted` as can be.
    pub(super) fn free_name(&self, wanted: &str) -> String {
        let plain = |letter: char| match letter {
            letter if letter.is_ascii_alphanumeric() || "._-".contains(letter) => letter,
            _ => '-',
        };
        let mut name: String = wanted.chars().map(plain).take(50).collect();
        if name.is_empty() || matches!(name.as_str(), "reject" | "redirect") {
            name.push_str("-1");
        }
        let taken: BTreeSet<&str> = self
            .trunks
            .iter()
            .map(|trunk| trunk.name.as_str())
            .chain(self.groups.iter().map(|group| group.name.as_str()))
            .collect();
        let mut free = name.clone();
        let mut number = 2;
        while taken.contains(free.as_str()) {
            free = format!("{name}-{number}");
            number += 1;
        }
        free
    }

    /// Writes the configuration.
    pub(super) fn finish(mut self) -> Imported {
        self.add_missing_listeners();
        let mut text = String::new();
        for remark in &self.remarks {
            line(&mut text, format_args!("# {}", shown_remark(remark)));
        }
        for listener in &self.listeners {
            line(
                &mut text,
                format_args!("\n[[listen]]\nudp = {}", quoted(&listener.udp.to_string())),
            );
            if let Some(name) = &listener.advertise {
                line(&mut text, format_args!("advertise = {}", quoted(name)));
            }
        }
        line(&mut text, format_args!("\n[control]\nsocket = \"auto\""));
        for (table, keys) in &self.tables {
            line(&mut text, format_args!("\n[{table}]\n{}", keys.join("\n")));
        }
        self.trunks.iter().for_each(|trunk| trunk.write(&mut text));
        self.groups.iter().for_each(|group| group.write(&mut text));
        if !self.routes.is_empty() {
            text.push('\n');
        }
        for route in &self.routes {
            line(&mut text, format_args!("# {}", shown_remark(route)));
        }
        if !self.left.is_empty() {
            line(&mut text, format_args!("\n# Not carried over:"));
        }
        for left in &self.left {
            line(
                &mut text,
                format_args!("# {}", shown_remark(&left.to_string())),
            );
        }
        Imported {
            text,
            left: self.left,
        }
    }

    /// A trunk needs a listener of its address family.
    fn add_missing_listeners(&mut self) {
        let wanted = |v4: bool| {
            self.trunks
                .iter()
                .flat_map(|trunk| &trunk.addresses)
                .any(|address| address.is_ipv4() == v4)
        };
        for (is_v4, any) in [(true, "0.0.0.0:5060"), (false, "[::]:5060")] {
            let has = self
                .listeners
                .iter()
                .any(|listener| listener.udp.is_ipv4() == is_v4);
            let is_needed = wanted(is_v4) || (is_v4 && self.listeners.is_empty());
            if is_needed && !has {
                self.listeners.push(Listener {
                    udp: any.parse().expect("a literal address"),
                    advertise: None,
                });
            }
        }
    }
}

impl Trunk {
    fn write(&self, text: &mut String) {
        line(
            text,
            format_args!("\n[trunk.{}]{}", key(&self.name), remark(&self.remark)),
        );
        let addresses: Vec<String> = self
            .addresses
            .iter()
            .map(|at| quoted(&at.to_string()))
            .collect();
        match addresses.as_slice() {
            [] => {}
            [one] => line(text, format_args!("address = {one}")),
            many => line(text, format_args!("address = [{}]", many.join(", "))),
        }
        if !self.sources.is_empty() {
            let sources: Vec<String> = self.sources.iter().map(|block| quoted(block)).collect();
            line(text, format_args!("match = [{}]", sources.join(", ")));
        }
        self.keys
            .iter()
            .for_each(|key| line(text, format_args!("{key}")));
    }
}

impl Group {
    fn write(&self, text: &mut String) {
        line(
            text,
            format_args!("\n[group.{}]{}", key(&self.name), remark(&self.remark)),
        );
        line(text, format_args!("policy = \"{}\"", self.policy));
        let members: Vec<String> = self
            .members
            .iter()
            .map(|(name, weight)| match weight {
                1 => quoted(name),
                weight => format!("{{ trunk = {}, weight = {weight} }}", quoted(name)),
            })
            .collect();
        line(text, format_args!("members = [{}]", members.join(", ")));
    }
}

fn remark(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("  # {}", shown_remark(text))
    }
}

/// A comment is one line and no control character is in it.
fn shown_remark(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

/// A name with a dot in it would be two tables.
fn key(name: &str) -> String {
    if name.contains('.') {
        quoted(name)
    } else {
        name.to_owned()
    }
}

pub(super) fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

fn line(text: &mut String, arguments: core::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("a String takes any text");
}
