//! Walking a TOML document by hand: a table with the keys that it may have, and its typed entries.
//!
//! Nothing here stops at the first fault: each reader notes it in the sheet and gives `None`.

use core::ops::{Range, RangeInclusive};
use core::time::Duration;

use toml_edit::{Item, TableLike, Value};

use super::fault::Sheet;
use crate::base::duration;

/// A table of the document and what it is called in messages.
pub(super) struct Section<'d> {
    table: &'d dyn TableLike,
    /// As a person would write it: `[trunk.carrier-a]`.
    pub(super) title: String,
    pub(super) span: Range<usize>,
}

/// A key of a section and its value.
#[derive(Clone)]
pub(super) struct Entry<'d> {
    pub(super) item: Node<'d>,
    pub(super) key_span: Range<usize>,
    /// `key` or, for an element of a list, the key of the list.
    pub(super) key: String,
}

/// A value, wherever in the document it stands.
#[derive(Clone, Copy)]
pub(super) enum Node<'d> {
    Item(&'d Item),
    Table(&'d toml_edit::Table),
    Value(&'d Value),
}

impl<'d> Section<'d> {
    /// Opens a table and notes a fault for each key that is not in `known`.
    pub(super) fn open(
        entry: &Entry<'d>,
        title: String,
        known: &[&str],
        sheet: &mut Sheet<'_>,
    ) -> Option<Section<'d>> {
        let Some(table) = entry.item.table() else {
            entry.wrong_type(sheet, &format!("a table, as in `{title}`"));
            return None;
        };
        let section = Section {
            table,
            title,
            span: entry.heading_span(),
        };
        section.refuse_unknown(known, sheet);
        Some(section)
    }

    /// The document itself.
    pub(super) fn root(
        table: &'d dyn TableLike,
        known: &[&str],
        sheet: &mut Sheet<'_>,
    ) -> Section<'d> {
        let section = Section {
            table,
            title: String::new(),
            span: 0..0,
        };
        section.refuse_unknown(known, sheet);
        section
    }

    /// The entry of a key, when the file has it.
    pub(super) fn entry(&self, key: &str) -> Option<Entry<'d>> {
        let (found, item) = self.table.get_key_value(key)?;
        if item.is_none() {
            return None;
        }
        Some(Entry::new(found, item))
    }

    /// The elements of a key's list; none when the key is absent.
    pub(super) fn elements(&self, key: &str, sheet: &mut Sheet<'_>, max: usize) -> Vec<Entry<'d>> {
        self.entry(key)
            .map_or_else(Vec::new, |entry| entry.elements(sheet, max))
    }

    /// All entries in file order: for tables whose keys are names.
    pub(super) fn entries(&self) -> Vec<Entry<'d>> {
        self.table
            .iter()
            .filter(|(_, item)| !item.is_none())
            .filter_map(|(key, _)| self.entry(key))
            .collect()
    }

    fn refuse_unknown(&self, known: &[&str], sheet: &mut Sheet<'_>) {
        for entry in self.entries() {
            if known.contains(&entry.key.as_str()) || known.is_empty() {
                continue;
            }
            let place = if self.title.is_empty() {
                format!("unknown table or key `{}`", entry.key)
            } else {
                format!("unknown key `{}` in {}", entry.key, self.title)
            };
            let hint = match sheet.nearest(&entry.key, known.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            sheet.fault_hint(entry.key_span, place, hint);
        }
    }
}

impl<'d> Entry<'d> {
    pub(super) fn value(&self) -> Option<&'d Value> {
        self.item.as_value()
    }

    fn new(key: &toml_edit::Key, item: &'d Item) -> Entry<'d> {
        let fallback = item.span().unwrap_or(0..0);
        Entry {
            item: Node::Item(item),
            key_span: key.span().unwrap_or(fallback),
            key: key.get().to_owned(),
        }
    }

    /// Where the value stands; a value without a place of its own stands at its key.
    pub(super) fn span(&self) -> Range<usize> {
        self.item.span().unwrap_or_else(|| self.key_span.clone())
    }

    /// Where a table's heading or an inline table's key stands.
    fn heading_span(&self) -> Range<usize> {
        match self.item {
            Node::Item(Item::Table(table)) if !table.is_dotted() && !table.is_implicit() => {
                self.span()
            }
            Node::Item(_) => self.key_span.clone(),
            Node::Table(_) | Node::Value(_) => self.span(),
        }
    }

    pub(super) fn wrong_type(&self, sheet: &mut Sheet<'_>, wanted: &str) {
        let message = format!(
            "`{}` must be {wanted}; found {}",
            self.key,
            self.item.describe()
        );
        sheet.fault(self.span(), message);
    }

    /// Reads a string that is not empty.
    pub(super) fn string(&self, sheet: &mut Sheet<'_>, wanted: &str) -> Option<&'d str> {
        match self.item.as_value() {
            Some(Value::String(text)) if !text.value().is_empty() => Some(text.value()),
            Some(Value::String(_)) => {
                sheet.fault(
                    self.span(),
                    format!("`{}` must be {wanted}; found an empty string", self.key),
                );
                None
            }
            _ => {
                self.wrong_type(sheet, wanted);
                None
            }
        }
    }

    pub(super) fn boolean(&self, sheet: &mut Sheet<'_>) -> Option<bool> {
        let value = self.item.as_value().and_then(Value::as_bool);
        if value.is_none() {
            self.wrong_type(sheet, "true or false");
        }
        value
    }

    /// Reads a whole number within `range`.
    pub(super) fn integer(&self, sheet: &mut Sheet<'_>, range: RangeInclusive<i64>) -> Option<i64> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(number) = self.item.as_value().and_then(Value::as_integer) else {
            self.wrong_type(sheet, &wanted);
            return None;
        };
        if !range.contains(&number) {
            sheet.fault(
                self.span(),
                format!("`{}` must be {wanted}; found {number}", self.key),
            );
            return None;
        }
        Some(number)
    }

    /// Reads a duration within `range`.
    pub(super) fn duration(
        &self,
        sheet: &mut Sheet<'_>,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let wanted = "a duration such as \"500ms\", \"10s\", \"2m\" or \"1h30m\"";
        if let Some(number) = self.item.as_value().and_then(Value::as_integer) {
            let message = format!(
                "`{}` must be {wanted}; found {number} without a unit",
                self.key
            );
            sheet.fault_hint(
                self.span(),
                message,
                format!("for seconds write \"{number}s\""),
            );
            return None;
        }
        let text = self.string(sheet, wanted)?;
        let value = match duration::parse(text) {
            Ok(value) => value,
            Err(fault) => {
                let message = format!("`{}` must be {wanted}; found \"{text}\": {fault}", self.key);
                sheet.fault(self.span(), message);
                return None;
            }
        };
        if !range.contains(&value) {
            let (least, most) = (duration::show(*range.start()), duration::show(*range.end()));
            let message = format!(
                "`{}` must be from {least} to {most}; found {text}",
                self.key
            );
            sheet.fault(self.span(), message);
            return None;
        }
        Some(value)
    }

    /// Reads one of a few words.
    pub(super) fn word<T: Copy>(&self, sheet: &mut Sheet<'_>, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<String> = words
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        let wanted = format!("one of {}", names.join(", "));
        let text = self.string(sheet, &wanted)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let message = format!("`{}` must be {wanted}; found \"{text}\"", self.key);
        match sheet.nearest(text, words.iter().map(|(word, _)| *word)) {
            Some(word) => {
                sheet.fault_hint(self.span(), message, format!("did you mean \"{word}\"?"))
            }
            None => sheet.fault(self.span(), message),
        }
        None
    }

    /// The elements of a list, or the value itself where a single one may stand for a list of one.
    pub(super) fn elements(&self, sheet: &mut Sheet<'_>, max: usize) -> Vec<Entry<'d>> {
        let Some(Value::Array(array)) = self.item.as_value() else {
            return vec![self.clone()];
        };
        if array.len() > max {
            let message = format!(
                "`{}` has {} elements; at most {max} are taken",
                self.key,
                array.len()
            );
            sheet.fault(self.span(), message);
        }
        let element = |value| Entry {
            item: Node::Value(value),
            key_span: self.key_span.clone(),
            key: self.key.clone(),
        };
        array.iter().take(max).map(element).collect()
    }

    /// The tables of `[[key]]`, or of `key = [{…}, {…}]`.
    pub(super) fn tables(&self, sheet: &mut Sheet<'_>) -> Vec<Entry<'d>> {
        match self.item {
            Node::Item(Item::ArrayOfTables(tables)) => {
                tables.iter().map(|table| self.heading(table)).collect()
            }
            _ if matches!(self.item.as_value(), Some(Value::Array(_))) => {
                self.elements(sheet, usize::MAX)
            }
            _ => {
                let message = format!(
                    "`{}` must be written [[{}]], one table per entry",
                    self.key, self.key
                );
                sheet.fault(self.heading_span(), message);
                Vec::new()
            }
        }
    }

    fn heading(&self, table: &'d toml_edit::Table) -> Entry<'d> {
        Entry {
            item: Node::Table(table),
            key_span: table.span().unwrap_or_else(|| self.key_span.clone()),
            key: self.key.clone(),
        }
    }
}

impl<'d> Node<'d> {
    fn as_value(self) -> Option<&'d Value> {
        match self {
            Node::Item(item) => item.as_value(),
            Node::Value(value) => Some(value),
            Node::Table(_) => None,
        }
    }

    pub(super) fn table(self) -> Option<&'d dyn TableLike> {
        match self {
            Node::Item(item) => item.as_table_like(),
            Node::Value(value) => value.as_inline_table().map(|table| table as &dyn TableLike),
            Node::Table(table) => Some(table),
        }
    }

    fn span(self) -> Option<Range<usize>> {
        match self {
            Node::Item(item) => item.span(),
            Node::Value(value) => value.span(),
            Node::Table(table) => table.span(),
        }
    }

    /// The value in words.
    pub(super) fn describe(self) -> String {
        let Some(value) = self.as_value() else {
            return match self {
                Node::Item(Item::ArrayOfTables(_)) => "a list of tables".to_owned(),
                Node::Item(_) | Node::Table(_) | Node::Value(_) => "a table".to_owned(),
            };
        };
        match value {
            Value::String(text) => format!("the string \"{}\"", shortened(text.value())),
            Value::Integer(number) => format!("the number {}", number.value()),
            Value::Float(number) => format!("the number {}", number.value()),
            Value::Boolean(truth) => truth.value().to_string(),
            Value::Datetime(_) => "a date".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::InlineTable(_) => "a table".to_owned(),
        }
    }
}

/// A found text as far as it helps.
fn shortened(text: &str) -> String {
    let mut kept: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    if kept.len() < text.len() {
        kept.push('…');
    }
    kept
}
