//! Subscribers' numbers in texts: the user parts of SIP and tel URIs, and numbers in E.164 form.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// What stands in place of a number.
const HIDDEN: &str = "…";

/// A user part up to its `@`, a tel number, or a `+` with five digits and more.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r#"(?i)(sips?:)[^@\s<>"]+@|(tel:)[^\s;,<>"@]+|\+[0-9]{5,}"#;
    Regex::new(pattern).expect("a test compiles it")
});

/// The text without numbers.
pub fn hidden(text: &str) -> Cow<'_, str> {
    NUMBER.replace_all(text, |found: &regex::Captures<'_>| {
        match (found.get(1), found.get(2)) {
            (Some(scheme), _) => format!("{}{HIDDEN}@", scheme.as_str()),
            (None, Some(scheme)) => format!("{}{HIDDEN}", scheme.as_str()),
            (None, None) => HIDDEN.to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_parts_and_numbers_are_hidden_and_hosts_are_not() {
        for (text, shown) in [
            (
                "to <sip:+4930123456@192.0.2.1:5060>;tag=1",
                "to <sip:…@192.0.2.1:5060>;tag=1",
            ),
            ("SIPS:alice;x=1@example.com", "SIPS:…@example.com"),
            (
                "from tel:+4930-123456;phone-context=x",
                "from tel:…;phone-context=x",
            ),
            ("+4930123456 is busy", "… is busy"),
            (
                "sip:192.0.2.1:5060 takes 20000 calls",
                "sip:192.0.2.1:5060 takes 20000 calls",
            ),
            ("calls_max 10 -> 4930123456", "calls_max 10 -> 4930123456"),
        ] {
            assert_eq!(hidden(text), shown);
        }
    }
}
