//! Tables for people: aligned columns, headings in capitals, numbers to the right.

use std::fmt::Write as _;

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Cut with an ellipsis where the terminal is too narrow.
    Left,
    Right,
    /// To the left, and never cut: names that are typed again.
    Whole,
}

/// A table that may be written in parts: columns only ever grow wider.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
    has_heading: bool,
    /// Columns of the terminal; `None` = lines are as long as they are.
    room: Option<usize>,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[(&'static str, Align)]) -> Table {
        Table {
            columns: columns.to_vec(),
            widths: columns.iter().map(|(name, _)| width(name)).collect(),
            rows: Vec::new(),
            has_heading: false,
            room: terminal_width(),
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
        let widths = self.fitted();
        for ((cell, wide), (_, align)) in cells.zip(widths).zip(&self.columns) {
            let cell = cut(cell, wide);
            let _to_a_string = match align {
                Align::Left | Align::Whole => write!(line, "{cell:<wide$}  "),
                Align::Right => write!(line, "{cell:>wide$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }

    /// The widths of the columns: the widest that may be cut gives way until the line fits.
    fn fitted(&self) -> Vec<usize> {
        let mut widths = self.widths.clone();
        let Some(room) = self.room else {
            return widths;
        };
        let gaps = 2 * widths.len().saturating_sub(1);
        loop {
            let over = (widths.iter().sum::<usize>() + gaps).saturating_sub(room);
            let may_be_cut = |at: &usize| self.columns[*at].1 == Align::Left;
            let widest = (0..widths.len())
                .filter(may_be_cut)
                .max_by_key(|at| widths[*at]);
            match widest.filter(|at| over > 0 && widths[*at] > CUT_MIN) {
                Some(at) => widths[at] -= 1,
                None => return widths,
            }
        }
    }
}

/// A column is not cut below this.
const CUT_MIN: usize = 8;

/// The terminal's columns, where stdout is one.
fn terminal_width() -> Option<usize> {
    let out = std::io::stdout();
    if !std::io::IsTerminal::is_terminal(&out) {
        return None;
    }
    terminal_size::terminal_size_of(out).map(|(columns, _)| usize::from(columns.0))
}

fn cut(cell: &str, wide: usize) -> String {
    // What peers wrote must not steer the terminal.
    let plain = |letter: char| if letter.is_control() { '?' } else { letter };
    if width(cell) <= wide {
        return cell.chars().map(plain).collect();
    }
    let kept: String = cell
        .chars()
        .map(plain)
        .take(wide.saturating_sub(1))
        .collect();
    kept + "…"
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

/// Writes lines of a name and a value.
pub fn pairs(lines: &[(&str, String)]) -> String {
    let wide = lines.iter().map(|(name, _)| width(name)).max();
    let wide = wide.unwrap_or(0);
    let mut text = String::new();
    for (name, value) in lines {
        let _to_a_string = writeln!(text, "{name:<wide$} {}", cut(value, usize::MAX));
    }
    text
}

/// A moment, from milliseconds since 1970, as RFC 3339 has it.
pub fn utc(time_ms: u64) -> String {
    let (days, of_day) = (time_ms / 86_400_000, time_ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, ms) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a number of days since 1970, by counting from a March so that the leap
/// day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
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
    fn a_narrow_terminal_cuts_texts_and_neither_numbers_nor_names() {
        let columns = [
            ("CALLS", Align::Right),
            ("FROM", Align::Left),
            ("CALL-ID", Align::Whole),
        ];
        let mut table = Table::new(&columns);
        table.room = Some(40);
        table.row(vec![
            "7".into(),
            "sip:".to_owned() + &"x".repeat(60),
            "5fe2a1c0@host".into(),
        ]);
        let text = table.take_text();
        assert!(
            text.lines().all(|line| line.chars().count() <= 40),
            "{text}"
        );
        assert!(
            text.contains("5fe2a1c0@host") && text.contains("xx…"),
            "{text}"
        );
    }

    #[test]
    fn control_characters_of_peers_do_not_reach_the_terminal() {
        let mut table = Table::new(&[("FROM", Align::Left)]);
        table.row(vec!["a\u{1b}[2Jb".into()]);
        assert_eq!(table.take_text(), "FROM\na?[2Jb\n");
    }

    #[test]
    fn moments_are_told_as_rfc_3339_has_them() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(utc(1_795_577_001_000), "2026-11-25T03:23:21.000Z");
        assert_eq!(utc(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn spans_have_two_units_at_most() {
        assert_eq!(span(42), "42s");
        assert_eq!(span(185), "3m05s");
        assert_eq!(span(7441), "2h04m");
        assert_eq!(span(435_601), "5d01h");
    }
}
