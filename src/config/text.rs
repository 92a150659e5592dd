//! The text of a configuration file as a person sees it: lines, columns, a line with a caret.

use core::ops::Range;

use super::fault::Fault;

/// A configuration text and where its lines begin.
pub(super) struct SourceText<'t> {
    file: &'t str,
    text: &'t str,
    line_starts: Vec<usize>,
}

impl<'t> SourceText<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> SourceText<'t> {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = core::iter::once(0)
            .chain(breaks.map(|(at, _)| at + 1))
            .collect();
        SourceText {
            file,
            text,
            line_starts,
        }
    }

    /// Makes a fault whose position is the start of `span`.
    pub(super) fn fault(
        &self,
        span: &Range<usize>,
        message: String,
        hint: Option<String>,
    ) -> Fault {
        let start = self.char_boundary(span.start);
        let line = self.line_of(start);
        let row = self.row(line);
        let before = &self.text[row.start..start.min(row.end)];
        Fault {
            file: self.file.to_owned(),
            line,
            column: before.chars().count() as u32 + 1,
            message,
            hint,
            snippet: self.snippet(row, start, span.end),
        }
    }

    /// Line number, from 1, of an offset.
    pub(super) fn line_of(&self, at: usize) -> u32 {
        self.line_starts.partition_point(|start| *start <= at) as u32
    }

    /// The octets of a line, without its end.
    fn row(&self, line: u32) -> Range<usize> {
        let index = line as usize - 1;
        let start = self.line_starts[index];
        let end = self
            .line_starts
            .get(index + 1)
            .map_or(self.text.len(), |next| next - 1);
        let kept = self.text[start..end].trim_end_matches('\r').len();
        start..start + kept
    }

    fn char_boundary(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    /// The line and a caret line; a long line is cut to a window around the caret.
    fn snippet(&self, row: Range<usize>, start: usize, end: usize) -> String {
        let shown = without_secret(&self.text[row.clone()]);
        let start = start.clamp(row.start, row.end) - row.start;
        let end = self.char_boundary(end).clamp(row.start, row.end) - row.start;
        let first = self.text[row.clone()][..start].chars().count();
        let marked = self.text[row][start..end.max(start)].chars().count();
        let shown: Vec<char> = shown.chars().map(printable).collect();
        let from = first.saturating_sub(COLUMNS_BEFORE_MAX);
        let upto = shown.len().min(first + COLUMNS_AFTER_MAX);
        let window: String = shown
            .get(from.min(upto)..upto)
            .unwrap_or_default()
            .iter()
            .collect();
        let carets = marked
            .min((from + window.chars().count()).saturating_sub(first))
            .max(1);
        let padding = " ".repeat(first - from);
        format!("{window}\n{padding}{}", "^".repeat(carets))
    }
}

/// Keeps a terminal's control sequences out of the output; a tab becomes one column so that the
/// caret stands right.
fn printable(character: char) -> char {
    if character.is_control() {
        ' '
    } else {
        character
    }
}

/// Whether what is assigned to this name must not be shown.
pub(super) fn sounds_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| lower.contains(word))
}

/// A line as it may be shown: what is assigned to a name that sounds secret is left out.
fn without_secret(row: &str) -> String {
    let lower = row.to_ascii_lowercase();
    let named = SECRET_WORDS
        .iter()
        .filter_map(|word| lower.find(word))
        .min();
    let assigned = named.and_then(|at| row[at..].find('=').map(|equals| at + equals));
    match assigned {
        Some(equals) => format!("{}= (not shown)", &row[..equals]),
        None => row.to_owned(),
    }
}

const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "token",
    "private",
    "credential",
];
const COLUMNS_BEFORE_MAX: usize = 80;
const COLUMNS_AFTER_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, span: Range<usize>) -> Fault {
        SourceText::new("a.toml", text).fault(&span, "m".to_owned(), None)
    }

    #[test]
    fn a_position_counts_characters_and_lines_from_one() {
        let text = "a = 1\r\nü = \"x\"\n";
        let fault = at(text, 12..15);
        assert_eq!((fault.line, fault.column), (2, 5));
        assert_eq!(fault.snippet, "ü = \"x\"\n    ^^^");
        let end = at(text, text.len()..text.len());
        assert_eq!((end.line, end.column), (3, 1));
    }

    #[test]
    fn a_long_line_is_cut_to_a_window_around_the_caret() {
        let text = format!("{}x = 1{}", " ".repeat(5000), " ".repeat(5000));
        let fault = at(&text, 5000..5001);
        assert_eq!(fault.column, 5001);
        assert!(fault.snippet.len() < 300, "{}", fault.snippet.len());
        assert!(fault.snippet.ends_with(" ^"));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let fault = at("password = \"hunter2\"", 0..8);
        assert_eq!(fault.snippet, "password = (not shown)\n^^^^^^^^");
    }

    #[test]
    fn terminal_control_octets_do_not_reach_the_output() {
        let fault = at("a\u{1b}[2J = 1", 0..1);
        assert_eq!(fault.snippet, "a [2J = 1\n^");
    }
}
