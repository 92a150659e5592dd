//! A configuration as it may be shown: its own text without secrets, and the same as JSON.

use core::ops::Range;

use serde_json::{Map, Value as Json};
use toml_edit::{Document, Item, TableLike, Value};

use super::text::sounds_secret;

/// What stands in place of a secret.
const NOT_SHOWN: &str = "\"(not shown)\"";

/// The text with every secret taken out: those that were read as one, and any string under a key
/// that sounds like one.
pub(super) fn without_secrets(
    text: &str,
    document: &Document<&str>,
    mut spans: Vec<Range<usize>>,
) -> String {
    find_secrets(document.as_table(), &mut spans);
    spans.sort_by_key(|span| core::cmp::Reverse(span.start));
    spans.dedup_by_key(|span| span.start);
    let mut shown = text.to_owned();
    for span in spans {
        shown.replace_range(span, NOT_SHOWN);
    }
    shown
}

fn find_secrets(table: &dyn TableLike, spans: &mut Vec<Range<usize>>) {
    for (key, item) in table.iter() {
        if let Some(Value::String(_)) = item.as_value() {
            spans.extend(item.span().filter(|_| sounds_secret(key)));
        }
        if let Some(table) = item.as_table_like() {
            find_secrets(table, spans);
        }
        if let Some(tables) = item.as_array_of_tables() {
            tables.iter().for_each(|table| find_secrets(table, spans));
        }
        if let Some(array) = item.as_array() {
            let tables = array.iter().filter_map(Value::as_inline_table);
            tables.for_each(|table| find_secrets(table, spans));
        }
    }
}

/// The values of a configuration text; `null` for what is no TOML.
pub fn as_json(text: &str) -> Json {
    Document::parse(text).map_or(Json::Null, |document| table(document.as_table()))
}

fn table(from: &dyn TableLike) -> Json {
    let mut object = Map::new();
    for (key, item) in from.iter() {
        let value = match item {
            Item::None => continue,
            Item::Value(found) => value(found),
            Item::Table(found) => table(found),
            Item::ArrayOfTables(tables) => tables.iter().map(|found| table(found)).collect(),
        };
        object.insert(key.to_owned(), value);
    }
    Json::Object(object)
}

fn value(from: &Value) -> Json {
    match from {
        Value::String(text) => text.value().as_str().into(),
        Value::Integer(number) => (*number.value()).into(),
        Value::Float(number) => (*number.value()).into(),
        Value::Boolean(truth) => (*truth.value()).into(),
        Value::Datetime(date) => date.value().to_string().into(),
        Value::Array(array) => array.iter().map(value).collect(),
        Value::InlineTable(found) => table(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_wherever_they_stand_and_the_rest_is_as_it_was() {
        let text = "# mine\n[hep]\nto = \"192.0.2.1\"\npassword = \"hunter2\"\n\
                    [a]\nb = [{ secret = 'hunter2', c = 1 }]\n[[d]]\nauth_token = \"\"\"hunter2\"\"\"\n\
                    [e]\npassword = { file = \"/etc/secret\" }\n";
        let document = Document::parse(text).expect("TOML");
        let shown = without_secrets(text, &document, Vec::new());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(shown.matches(NOT_SHOWN).count(), 3, "{shown}");
        assert!(
            shown.starts_with("# mine\n[hep]\nto = \"192.0.2.1\"\npassword = \"(not shown)\"\n")
        );
        let json = as_json(&shown);
        assert_eq!(json["e"]["password"]["file"], "/etc/secret");
        assert_eq!(json["a"]["b"][0]["c"], 1);
        assert_eq!(json["d"][0]["auth_token"], "(not shown)");
    }

    #[test]
    fn a_secret_that_was_read_as_one_is_taken_out_whatever_its_key() {
        let text = "[hep]\nkey = \"hunter2\"\n";
        let document = Document::parse(text).expect("TOML");
        let at = text.find('"').expect("a quote");
        let shown = without_secrets(text, &document, vec![at..at + 9, at..at + 9]);
        assert_eq!(shown, "[hep]\nkey = \"(not shown)\"\n");
    }
}
