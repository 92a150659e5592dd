//! What a person reads when a configuration is wrong: where, what was found, what would be accepted.
//!
//! A [`Sheet`] collects the faults and warnings of one text, so that all of them are told at once.

use core::fmt;
use core::ops::Range;

use serde::Serialize;

use super::text::SourceText;
use crate::base::nearest;

/// One thing that is wrong with a configuration, or worth a warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Name of the file, as it was given.
    pub file: String,
    /// From 1; 0 when the fault belongs to no line (a file that cannot be read).
    pub line: u32,
    /// In characters, from 1; 0 when the fault belongs to no line.
    pub column: u32,
    /// What was found and what would be accepted.
    pub message: String,
    /// What to write in its place, where that can be said.
    pub hint: Option<String>,
    /// The offending line with a caret line under it; empty when the fault belongs to no line.
    pub snippet: String,
}

impl Fault {
    /// Makes a fault that belongs to no line of a file.
    pub fn of_file(file: &str, message: String, hint: Option<String>) -> Fault {
        Fault {
            file: file.to_owned(),
            line: 0,
            column: 0,
            message,
            hint,
            snippet: String::new(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file)?;
        if self.line > 0 {
            write!(out, ":{}:{}", self.line, self.column)?;
        }
        write!(out, ": {}", self.message)?;
        let indent = self.line.max(1).ilog10() as usize + 1;
        for (at, row) in self.snippet.lines().enumerate() {
            let gutter = if at == 0 {
                self.line.to_string()
            } else {
                String::new()
            };
            write!(out, "\n  {gutter:>indent$} | {row}")?;
        }
        if let Some(hint) = &self.hint {
            write!(out, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Why a configuration was not taken: all its faults, and the warnings besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In file order; at least one.
    pub faults: Vec<Fault>,
    pub warnings: Vec<Fault>,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(out, "{fault}")?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        match self.faults.len() {
            1 => write!(out, "1 fault"),
            count => write!(out, "{count} faults"),
        }
    }
}

impl core::error::Error for Report {}

/// Faults and warnings of one text while it is read.
pub(super) struct Sheet<'t> {
    text: SourceText<'t>,
    faults: Vec<(usize, Fault)>,
    warnings: Vec<(usize, Fault)>,
    /// Where secrets stand in the text.
    secrets: Vec<Range<usize>>,
}

impl<'t> Sheet<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Sheet<'t> {
        Sheet {
            text: SourceText::new(file, text),
            faults: Vec::new(),
            warnings: Vec::new(),
            secrets: Vec::new(),
        }
    }

    /// Notes that a secret stands at `span`.
    pub(super) fn hide(&mut self, span: Range<usize>) {
        self.secrets.push(span);
    }

    /// Where secrets stand.
    pub(super) fn secrets(&mut self) -> Vec<Range<usize>> {
        core::mem::take(&mut self.secrets)
    }

    /// Notes a fault at `span`.
    pub(super) fn fault(&mut self, span: Range<usize>, message: impl Into<String>) {
        let fault = self.text.fault(&span, message.into(), None);
        self.faults.push((span.start, fault));
    }

    /// Notes a fault at `span` and what to do about it.
    pub(super) fn fault_hint(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let fault = self.text.fault(&span, message.into(), Some(hint.into()));
        self.faults.push((span.start, fault));
    }

    pub(super) fn warn(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let warning = self.text.fault(&span, message.into(), Some(hint.into()));
        self.warnings.push((span.start, warning));
    }

    pub(super) fn line_of(&self, span: &Range<usize>) -> u32 {
        self.text.line_of(span.start)
    }

    /// Nearest of `known` to `found`, for a hint; silent once a file has so many faults that the
    /// search over all names would take longer than reading them.
    pub(super) fn nearest<'n>(
        &self,
        found: &str,
        known: impl Iterator<Item = &'n str>,
    ) -> Option<&'n str> {
        if self.faults.len() < SUGGESTIONS_MAX {
            nearest(found, known)
        } else {
            None
        }
    }

    /// The warnings of a clean text, or everything that is wrong with it, in file order.
    pub(super) fn close(mut self) -> Result<Vec<Fault>, Report> {
        let faults = in_order(&mut self.faults);
        let warnings = in_order(&mut self.warnings);
        if faults.is_empty() {
            Ok(warnings)
        } else {
            Err(Report { faults, warnings })
        }
    }
}

fn in_order(noted: &mut Vec<(usize, Fault)>) -> Vec<Fault> {
    noted.sort_by_key(|(at, _)| *at);
    core::mem::take(noted)
        .into_iter()
        .map(|(_, fault)| fault)
        .collect()
}

/// Faults of one file that get a nearest name.
const SUGGESTIONS_MAX: usize = 200;
