//! Tables for people: aligned columns, headings in capitals, numbers to the right.

use std::fmt::Write as _;

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A table that may be written in parts: columns only ever grow wider.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
    has_heading: bool,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[(&'static str, Align)]) -> Table {
        Table {
            columns: columns.to_vec(),
            widths: columns.iter().map(|(name, _)| width(name)).collect(),
            rows: Vec::new(),
            has_heading: false,
        }
    }

    /// Adds a row; a value that is missing is written as `-`.
    pub fn row(&mut self, cells: Vec<String>) {
        for (wide, cell) in self.widths.iter_mut().zip(&cells) {
            *wide = (*wide).max(width(cell));
        }
        self.rows.push(cells);
    }

    /// Takes the text of the rows added so far; the first time with the heading.
    pub fn take_text(&mut self) -> String {
        let mut text = String::new();
        if !std::mem::replace(&mut self.has_heading, true) {
            let names = self.columns.iter().map(|(name, _)| *name);
            self.write(&mut text, names);
        }
        for row in std::mem::take(&mut self.rows) {
            self.write(&mut text, row.iter().map(String::as_str));
        }
        text
    }

    fn write<'c>(&self, text: &mut String, cells: impl Iterator<Item = &'c str>) {
        let mut line = String::new();
        for ((cell, wide), (_, align)) in cells.zip(&self.widths).zip(&self.columns) {
            let wide = *wide;
            let _to_a_string = match align {
                Align::Left => write!(line, "{cell:<wide$}  "),
                Align::Right => write!(line, "{cell:>wide$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Writes a value that may be missing.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Use of a maximum: `7/2000`, or `7` where there is none.
pub fn of(used: impl ToString, max: Option<impl ToString>) -> String {
    match max {
        Some(max) => format!("{}/{}", used.to_string(), max.to_string()),
        None => used.to_string(),
    }
}

/// Writes a span the way one says it: `42s`, `3m05s`, `2h04m`, `5d01h`.
pub fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new(&[("NAME", Align::Left), ("CALLS", Align::Right)]);
        table.row(vec!["carrier-a".into(), "7".into()]);
        table.row(vec!["pbx".into(), "1200".into()]);
        assert_eq!(
            table.take_text(),
            "NAME       CALLS\ncarrier-a      7\npbx         1200\n"
        );
        table.row(vec!["x".into(), "1".into()]);
        assert_eq!(table.take_text(), "x              1\n");
    }

    #[test]
    fn spans_have_two_units_at_most() {
        assert_eq!(span(42), "42s");
        assert_eq!(span(185), "3m05s");
        assert_eq!(span(7441), "2h04m");
        assert_eq!(span(435_601), "5d01h");
    }
}
