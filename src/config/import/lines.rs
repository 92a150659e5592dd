//! The form of Asterisk's configuration files: sections, templates, comments, includes.

use std::collections::BTreeMap;

use super::LINE_MAX;

/// A `key = value` and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) file: String,
    pub(super) line: u32,
}

impl Setting {
    /// The line without what nobody should read.
    pub(super) fn shown(&self) -> String {
        let is_secret = ["secret", "auth", "password", "md5", "register"]
            .iter()
            .any(|word| self.key.contains(word));
        match is_secret {
            true => format!("{} = (not shown)", self.key),
            false => format!("{} = {}", self.key, self.value),
        }
    }
}

/// A section with what it inherits, in the order in which it counts.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) is_template: bool,
    pub(super) settings: Vec<Setting>,
    pub(super) line: u32,
}

/// Sections of a file and what could not be read as one.
#[derive(Default)]
pub(super) struct Sections {
    pub(super) sections: Vec<Section>,
    /// File, line, text, why.
    pub(super) faults: Vec<(String, u32, String, String)>,
    by_name: BTreeMap<String, usize>,
    /// The section that settings go into.
    current: Option<usize>,
    in_comment: bool,
    files: usize,
}

/// Files that one file may include, and how deep.
const FILES_MAX: usize = 64;
const DEPTH_MAX: usize = 8;

impl Sections {
    /// Reads a text; `include` reads a file by the name in an `#include`.
    pub(super) fn read(
        &mut self,
        file: &str,
        text: &str,
        include: &dyn Fn(&str) -> Result<String, String>,
        depth: usize,
    ) {
        for (number, raw) in (1..).zip(text.lines()) {
            if raw.len() > LINE_MAX {
                let why = format!("a line of more than {LINE_MAX} octets");
                self.fault(file, number, raw, &why);
                continue;
            }
            let line = self.without_comment(raw);
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            if let Some(rest) = line.strip_prefix('#') {
                self.directive(file, number, rest, include, depth);
            } else if line.starts_with('[') {
                self.open(file, number, line);
            } else {
                self.setting(file, number, line);
            }
        }
    }

    fn fault(&mut self, file: &str, line: u32, what: &str, why: &str) {
        self.faults
            .push((file.to_owned(), line, what.to_owned(), why.to_owned()));
    }

    /// Takes out `; …` and `;-- … --;`, which may go over lines; `\;` is a semicolon.
    fn without_comment(&mut self, line: &str) -> String {
        let mut kept = String::new();
        let mut rest = line;
        loop {
            if self.in_comment {
                let Some(end) = rest.find("--;") else {
                    return kept;
                };
                self.in_comment = false;
                rest = &rest[end + 3..];
            }
            let Some(at) = rest.find(';') else {
                kept.push_str(rest);
                return kept;
            };
            if rest[..at].ends_with('\\') {
                kept.push_str(&rest[..at - 1]);
                kept.push(';');
                rest = &rest[at + 1..];
            } else if rest[at..].starts_with(";--") && !rest[at..].starts_with(";---") {
                kept.push_str(&rest[..at]);
                self.in_comment = true;
                rest = &rest[at + 3..];
            } else {
                kept.push_str(&rest[..at]);
                return kept;
            }
        }
    }

    fn directive(
        &mut self,
        file: &str,
        line: u32,
        text: &str,
        include: &dyn Fn(&str) -> Result<String, String>,
        depth: usize,
    ) {
        let whole = format!("#{text}");
        let (word, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let named = argument.trim().trim_matches(['"', '<', '>']);
        if word == "tryinclude" || word == "include" {
            if named.contains(['*', '?']) {
                self.fault(file, line, &whole, "name the files one by one");
            } else if depth >= DEPTH_MAX || self.files >= FILES_MAX {
                let why = format!("more than {FILES_MAX} files, or {DEPTH_MAX} deep: in a circle?");
                self.fault(file, line, &whole, &why);
            } else {
                self.files += 1;
                match include(named) {
                    Ok(text) => self.read(named, &text, include, depth + 1),
                    Err(why) => self.fault(file, line, &whole, &why),
                }
            }
        } else if word == "exec" {
            self.fault(
                file,
                line,
                &whole,
                "no program is run to read a configuration",
            );
        } else {
            self.fault(file, line, &whole, "no directive that is known here");
        }
    }

    /// `[name]`, `[name](!)`, `[name](template,other)`, `[name](+)`.
    fn open(&mut self, file: &str, line: u32, text: &str) {
        let Some((name, options)) = text[1..].split_once(']') else {
            return self.fault(file, line, text, "the section has no `]`");
        };
        let mut section = Section {
            name: name.trim().to_owned(),
            is_template: false,
            settings: Vec::new(),
            line,
        };
        let options = options.trim().trim_start_matches('(').trim_end_matches(')');
        let mut adds = false;
        for option in options
            .split(',')
            .map(str::trim)
            .filter(|option| !option.is_empty())
        {
            match option {
                "!" => section.is_template = true,
                "+" => adds = true,
                template => match self.by_name.get(template) {
                    Some(at) => section.settings.extend(self.sections[*at].settings.clone()),
                    None => {
                        let why = format!("there is no section `{template}` above it");
                        self.fault(file, line, text, &why);
                    }
                },
            }
        }
        let at = match self.by_name.get(&section.name).copied() {
            Some(at) if adds || section.name == "general" => {
                self.sections[at].settings.extend(section.settings);
                at
            }
            _ => {
                let at = self.sections.len();
                self.by_name.insert(section.name.clone(), at);
                self.sections.push(section);
                at
            }
        };
        self.current = Some(at);
    }

    fn setting(&mut self, file: &str, line: u32, text: &str) {
        let Some((key, value)) = text.split_once('=') else {
            return self.fault(file, line, text, "neither a section nor key = value");
        };
        let value = value.strip_prefix('>').unwrap_or(value);
        let setting = Setting {
            key: key.trim().to_ascii_lowercase(),
            value: value.trim().to_owned(),
            file: file.to_owned(),
            line,
        };
        match self.current {
            Some(at) => self.sections[at].settings.push(setting),
            None => self.fault(file, line, &setting.shown(), "stands in no section"),
        }
    }
}
