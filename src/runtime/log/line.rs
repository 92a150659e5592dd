//! One line of the log: taken from an event, written as text, for the journal, or as JSON.

use core::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use super::numbers;

/// How lines look.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    Text {
        colour: bool,
    },
    /// With the priority in front and without a time, which the journal knows.
    Journal,
    Json,
}

/// What an event says.
#[derive(Clone, Debug)]
pub struct Parts {
    level: Level,
    target: &'static str,
    /// Where the event stands in the source.
    place: (Option<&'static str>, Option<u32>),
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Parts {
    /// Takes an event apart.
    pub fn of(event: &Event<'_>) -> Parts {
        let metadata: &'static Metadata<'static> = event.metadata();
        let mut parts = Parts {
            level: *metadata.level(),
            target: metadata.target(),
            place: (metadata.file(), metadata.line()),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut parts);
        parts
    }

    /// Whether the two come from one place with one message.
    pub fn is_same_reason(&self, other: &Parts) -> bool {
        self.place == other.place && self.message == other.message
    }

    /// The line that stands for `count` of its kind.
    pub fn repeated(mut self, count: u64) -> Parts {
        self.fields.push(("repeated", count.into()));
        self
    }

    /// Takes the numbers of subscribers out.
    pub fn hide_numbers(&mut self) {
        let hide = |text: &mut String| {
            if let std::borrow::Cow::Owned(hidden) = numbers::hidden(text) {
                *text = hidden;
            }
        };
        hide(&mut self.message);
        for (_, value) in &mut self.fields {
            if let Value::String(text) = value {
                hide(text);
            }
        }
    }

    /// The line, its end included.
    pub fn text(&self, look: Look) -> String {
        match look {
            Look::Json => self.json(),
            Look::Text { colour } => {
                let mut text = now();
                let (on, off) = if colour {
                    (self.colour(), "\u{1b}[0m")
                } else {
                    ("", "")
                };
                let level = self.level;
                let _to_a_string = write!(text, " {on}{level:>5}{off} ");
                self.put(&mut text);
                text + "\n"
            }
            Look::Journal => {
                let mut text = String::new();
                self.put(&mut text);
                let priority = self.priority();
                text.lines()
                    .map(|line| format!("<{priority}>{line}\n"))
                    .collect()
            }
        }
    }

    fn put(&self, text: &mut String) {
        let _to_a_string = write!(text, "{}: ", self.target);
        put_plain(text, &self.message);
        for (name, value) in &self.fields {
            let _to_a_string = match value {
                Value::String(value) => {
                    let _to_a_string = write!(text, " {name}=");
                    put_plain(text, value);
                    Ok(())
                }
                value => write!(text, " {name}={value}"),
            };
        }
    }

    fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("timestamp".to_owned(), now().into());
        object.insert("level".to_owned(), self.level.as_str().into());
        object.insert("target".to_owned(), self.target.into());
        object.insert("message".to_owned(), self.message.as_str().into());
        for (name, value) in &self.fields {
            object.insert((*name).to_owned(), value.clone());
        }
        Value::Object(object).to_string() + "\n"
    }

    /// As in sd-daemon(3).
    fn priority(&self) -> u8 {
        match self.level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        }
    }

    fn colour(&self) -> &'static str {
        match self.level {
            Level::ERROR => "\u{1b}[31m",
            Level::WARN => "\u{1b}[33m",
            Level::INFO => "\u{1b}[32m",
            _ => "\u{1b}[2m",
        }
    }

    #[cfg(test)]
    pub fn sample(message: &str) -> Parts {
        Parts {
            level: Level::WARN,
            target: "callgate",
            place: (Some("sample.rs"), Some(1)),
            message: message.to_owned(),
            fields: Vec::new(),
        }
    }
}

/// Without what would steer a terminal; line ends stay, for texts of several lines.
fn put_plain(text: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\n' => text.push('\n'),
            letter if letter.is_control() => text.extend(letter.escape_default()),
            letter => text.push(letter),
        }
    }
}

fn now() -> String {
    let mut text = String::new();
    let written = SystemTime.format_time(&mut Writer::new(&mut text));
    written.map_or_else(|_| "-".to_owned(), |()| text)
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.fields.push((name, value.into())),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), value.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_a_priority_on_each_line_and_no_time() {
        let parts = Parts::sample("edge.toml:3:1: odd\n  3 | x\u{1b}[2J");
        assert_eq!(
            parts.text(Look::Journal),
            "<4>callgate: edge.toml:3:1: odd\n<4>  3 | x\\u{1b}[2J\n"
        );
    }

    #[test]
    fn json_is_one_object_on_one_line() {
        let line = Parts::sample("two\nlines").repeated(7).text(Look::Json);
        assert_eq!(line.lines().count(), 1);
        let object: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(object["level"], "WARN");
        assert_eq!(object["message"], "two\nlines");
        assert_eq!(object["repeated"], 7);
        assert!(object["timestamp"].as_str().expect("a time").ends_with('Z'));
    }

    #[test]
    fn text_has_time_level_place_message_and_fields() {
        let line = Parts::sample("full")
            .repeated(7)
            .text(Look::Text { colour: false });
        assert!(
            line.ends_with("Z  WARN callgate: full repeated=7\n"),
            "{line}"
        );
        let line = Parts::sample("full").text(Look::Text { colour: true });
        assert!(line.contains("\u{1b}[33m WARN\u{1b}[0m"), "{line:?}");
    }

    #[test]
    fn numbers_are_hidden_in_message_and_fields() {
        let mut parts = Parts::sample("call to sip:+4930123456@192.0.2.1");
        parts.fields.push(("from", "<tel:+49301>".into()));
        parts.hide_numbers();
        let line = parts.text(Look::Journal);
        assert_eq!(line, "<4>callgate: call to sip:…@192.0.2.1 from=<tel:…>\n");
    }
}
