//! A SIP message as a test sees it: text with a start line, header lines and a body.
//!
//! Deliberately simple and independent of the library under test.

use std::fmt;

/// Compact header names (RFC 3261 §7.3.3) that tests meet.
const COMPACT: &[(&str, &str)] = &[
    ("v", "Via"),
    ("f", "From"),
    ("t", "To"),
    ("i", "Call-ID"),
    ("m", "Contact"),
    ("l", "Content-Length"),
    ("c", "Content-Type"),
    ("s", "Subject"),
    ("k", "Supported"),
];

/// One received or composed message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub bytes: Vec<u8>,
}

impl Message {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Message {
        Message {
            bytes: bytes.into(),
        }
    }

    fn head_end(&self) -> usize {
        find(&self.bytes, b"\r\n\r\n").map_or(self.bytes.len(), |at| at + 2)
    }

    /// Start line and header lines, unfolded, as lossy text.
    fn lines(&self) -> Vec<String> {
        let head = String::from_utf8_lossy(&self.bytes[..self.head_end()]).into_owned();
        let mut lines: Vec<String> = Vec::new();
        for line in head.split("\r\n").filter(|line| !line.is_empty()) {
            match lines.last_mut() {
                Some(before) if line.starts_with([' ', '\t']) => {
                    before.push(' ');
                    before.push_str(line.trim_start());
                }
                _ => lines.push(line.to_owned()),
            }
        }
        lines
    }

    pub fn start_line(&self) -> String {
        self.lines().into_iter().next().unwrap_or_default()
    }

    pub fn is_request(&self) -> bool {
        !self.start_line().starts_with("SIP/2.0 ")
    }

    /// The method of a request, or of the request that a response answers.
    pub fn method(&self) -> String {
        let text = if self.is_request() {
            self.start_line().split(' ').next().map(str::to_owned)
        } else {
            self.value("CSeq")
                .split_whitespace()
                .nth(1)
                .map(str::to_owned)
        };
        text.unwrap_or_default()
    }

    pub fn uri(&self) -> String {
        self.start_line()
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .to_owned()
    }

    /// The status of a response, 0 for a request.
    pub fn status(&self) -> u16 {
        if self.is_request() {
            return 0;
        }
        let line = self.start_line();
        line.split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0)
    }

    /// Header lines as (full name, value), in order.
    pub fn headers(&self) -> Vec<(String, String)> {
        self.lines()
            .iter()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (full_name(name.trim()), value.trim().to_owned()))
            .collect()
    }

    /// The values of all lines with this name.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.headers()
            .into_iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    /// The elements of a header whose values may stand on one line, separated by commas.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.all(name)
            .iter()
            .flat_map(|line| split_list(line))
            .collect()
    }

    /// The first value, or an empty text.
    pub fn value(&self, name: &str) -> String {
        self.all(name).into_iter().next().unwrap_or_default()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    pub fn call_id(&self) -> String {
        self.value("Call-ID")
    }

    pub fn cseq(&self) -> u32 {
        let value = self.value("CSeq");
        value
            .split_whitespace()
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    pub fn to_tag(&self) -> Option<String> {
        parameter(&self.value("To"), "tag")
    }

    /// The `branch` of the topmost Via.
    pub fn branch(&self) -> String {
        let top = self.list("Via").into_iter().next().unwrap_or_default();
        parameter(&top, "branch").unwrap_or_default()
    }

    /// The URI inside the first Contact.
    pub fn contact_uri(&self) -> String {
        bare_uri(&self.value("Contact"))
    }

    pub fn body(&self) -> &[u8] {
        let start = (self.head_end() + 2).min(self.bytes.len());
        &self.bytes[start..]
    }

    /// `INVITE` or `180`: how a ladder names it.
    pub fn kind(&self) -> String {
        if self.is_request() {
            self.method()
        } else {
            self.status().to_string()
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", String::from_utf8_lossy(&self.bytes))
    }
}

/// The URI within `<>`, or up to the first parameter.
pub fn bare_uri(name_addr: &str) -> String {
    match name_addr.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or_default().to_owned(),
        None => name_addr
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned(),
    }
}

/// The value of a `;name=value` parameter that stands after any `<>`.
pub fn parameter(value: &str, name: &str) -> Option<String> {
    let after = value.rsplit_once('>').map_or(value, |(_, after)| after);
    after.split(';').skip(1).find_map(|part| {
        let (found, text) = part.split_once('=').unwrap_or((part, ""));
        found
            .trim()
            .eq_ignore_ascii_case(name)
            .then(|| text.trim().to_owned())
    })
}

/// Elements separated by commas outside of quotes and `<>`.
pub fn split_list(line: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut angle) = (false, false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            '<' if !quoted => angle = true,
            '>' if !quoted => angle = false,
            ',' if !quoted && !angle => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("starts with one part").push(letter);
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

fn full_name(name: &str) -> String {
    COMPACT
        .iter()
        .find(|(short, _)| short.eq_ignore_ascii_case(name))
        .map_or(name.to_owned(), |(_, full)| (*full).to_owned())
}

/// Where `needle` first stands in `bytes`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}
