//! The characters and small productions of RFC 3261 §25.1 that several headers share: tokens,
//! linear white space, quoted strings, numbers, and a reader that walks over them.

use super::error::{Malformed, MalformedKind};

const TOKEN: u16 = 1;
const HOST: u16 = 2;
const USER: u16 = 4;
const PARAM: u16 = 8;
const WORD: u16 = 16;
const URIC: u16 = 32;
const VALUE: u16 = 64;
const PARAM_VALUE: u16 = 128;
const ESCAPE: u16 = 256;

/// Bit sets of the classes each octet is in.
static CLASS: [u16; 256] = classes();

const fn classes() -> [u16; 256] {
    let mut table = [0u16; 256];
    let mut i = 0;
    while i < 256 {
        let octet = i as u8;
        if octet.is_ascii_alphanumeric() {
            table[i] = TOKEN | HOST | USER | PARAM | WORD | URIC | PARAM_VALUE;
        }
        // All but separators of the list around it and controls.
        if octet > b' ' && octet != 0x7f && !matches!(octet, b';' | b',' | b'"' | b'<' | b'>') {
            table[i] |= VALUE;
        }
        i += 1;
    }
    table = mark(table, b"-.!%*_+`'~", TOKEN | WORD | PARAM_VALUE);
    // Of a host in brackets; and what real devices have in tags and branches (Base64, user names).
    table = mark(table, b":[]=/@", PARAM_VALUE);
    // `_` is in no host name of the RFCs and in many of the field.
    table = mark(table, b"-._", HOST);
    // unreserved, user-unreserved, the colon before a password, `%` of an escape; then what dial
    // plans put into user parts against the grammar.
    table = mark(table, b"-_.!~*'()&=+$,;?/:%", USER);
    table = mark(table, b"#{}|^", USER);
    table = mark(table, b"-_.!~*'()[]/:&+$%", PARAM);
    table = mark(table, b"%", ESCAPE);
    table = mark(table, b"()<>:\\\"/[]?{}", WORD);
    table = mark(table, b"-_.!~*'();/?:@&=+$,%[]#|^{}", URIC);
    table
}

const fn mark(mut table: [u16; 256], octets: &[u8], class: u16) -> [u16; 256] {
    let mut i = 0;
    while i < octets.len() {
        table[octets[i] as usize] |= class;
        i += 1;
    }
    table
}

#[inline]
fn is(octet: u8, class: u16) -> bool {
    CLASS[octet as usize] & class != 0
}

/// Looks at every octet: a branch for each costs more than the rare early end saves.
#[inline]
fn all(text: &[u8], class: u16) -> bool {
    text.iter()
        .fold(class, |common, &octet| common & CLASS[octet as usize])
        != 0
}

/// The same for texts in which `%` starts an escape of two hexadecimal digits.
#[inline]
fn all_with_escapes(text: &[u8], class: u16) -> bool {
    let (common, any) = text.iter().fold((class, 0), |(common, any), &octet| {
        let of = CLASS[octet as usize];
        (common & of, any | of)
    });
    common != 0 && (any & ESCAPE == 0 || has_whole_escapes(text))
}

/// Whether `octet` may be in an unquoted parameter value, of whatever grammar.
#[inline]
pub(super) fn is_value_octet(octet: u8) -> bool {
    is(octet, VALUE)
}

/// Whether `text` is a `token` of RFC 3261 §25.1.
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && all(text, TOKEN)
}

/// Whether `text` is a host name: labels that are not empty, the last one not a number, so that
/// `10.1.1.256` is no name; one dot may end it, and `_` is let through.
pub(super) fn is_host_name(text: &[u8]) -> bool {
    let text = text.strip_suffix(b".").unwrap_or(text);
    let mut before = b'.';
    let mut last_label_starts_with = b'.';
    for &octet in text {
        if !is(octet, HOST) || octet == b'.' && before == b'.' {
            return false;
        }
        if before == b'.' {
            last_label_starts_with = octet;
        }
        before = octet;
    }
    before != b'.' && last_label_starts_with.is_ascii_alphabetic()
}

/// Whether `text` is an unquoted parameter value: `token / host`, and inside of it `=`, `/`, `@`,
/// which real devices have in tags and branches (Base64, user names).
pub(super) fn is_param_value(text: &[u8]) -> bool {
    let is_opening = |octet: u8| is(octet, TOKEN) || matches!(octet, b':' | b'[' | b']');
    text.first().is_some_and(|&octet| is_opening(octet)) && all(text, PARAM_VALUE)
}

/// Whether `text` is `*( token LWS )`, a display name without quotes. UTF-8 is let through, which
/// the grammar has in quotes only: a caller's umlaut is no reason to refuse the call (RFC 4475
/// §3.1.2.15 leaves the choice).
pub(super) fn are_tokens(text: &[u8]) -> bool {
    text.iter()
        .all(|&octet| is(octet, TOKEN) || is_lws(octet) || !octet.is_ascii())
}

/// Whether the inside of a quoted string has no control octet but white space and escaped ones.
pub(super) fn is_quotable(quoted: &[u8]) -> bool {
    // Most have neither escapes nor controls; the loop then ends without a look at states.
    let is_plain = |&octet: &u8| octet >= b' ' && octet != b'\\' && octet != 0x7f;
    if quoted.iter().all(is_plain) {
        return true;
    }
    let mut is_escaped = false;
    quoted.iter().all(|&octet| {
        let is_sound = is_escaped || is_lws(octet) || !octet.is_ascii_control();
        is_escaped = octet == b'\\' && !is_escaped;
        is_sound
    })
}

/// Whether `octet` may be in a host name.
#[inline]
pub(super) fn is_host_octet(octet: u8) -> bool {
    is(octet, HOST)
}

/// Whether `octet` is a letter, a digit, `-`, `.` or `_`: what most names, numbers and tokens
/// are made of, and a member of each class but for blanks and controls (see `marks.rs`).
#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(super) fn is_word_octet(octet: u8) -> bool {
    is(octet, HOST)
}

/// Whether `octet` may be in an unquoted parameter value behind its first octet.
#[inline]
pub(super) fn is_param_value_octet(octet: u8) -> bool {
    is(octet, PARAM_VALUE)
}

/// Whether `text` has only octets that a user part may have, and whole escapes.
pub(super) fn is_user(text: &[u8]) -> bool {
    all_with_escapes(text, USER)
}

/// Whether `text` has only octets of a URI parameter, and whole escapes.
pub(super) fn is_uri_param(text: &[u8]) -> bool {
    all_with_escapes(text, PARAM)
}

/// Whether `text` has only octets that a URI of any scheme may have, at least one.
pub(super) fn is_uric(text: &[u8]) -> bool {
    !text.is_empty() && all(text, URIC)
}

/// Whether `text` is `word [ "@" word ]`, the form of a Call-ID.
pub(super) fn is_call_id(text: &[u8]) -> bool {
    let mut words = text.splitn(2, |&octet| octet == b'@');
    let first = words.next().unwrap_or_default();
    !first.is_empty()
        && all(first, WORD)
        && words.next().is_none_or(|w| !w.is_empty() && all(w, WORD))
}

/// Whether each `%` starts an escape of two hexadecimal digits.
pub(super) fn has_whole_escapes(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text).all(|at| {
        text.get(at + 1..at + 3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Whether `octet` can be part of linear white space inside a field's value, folds included.
#[inline]
pub fn is_lws(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

/// `text` without linear white space at both ends.
pub fn trim_lws(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&octet| !is_lws(octet));
    let end = text.iter().rposition(|&octet| !is_lws(octet));
    match (start, end) {
        (Some(start), Some(end)) => &text[start..=end],
        _ => b"",
    }
}

/// Reads `text` as a decimal number; none when it is empty, has another octet, or exceeds `u64`.
pub fn decimal(text: &[u8]) -> Option<u64> {
    // Leading zeros aside, 19 digits always fit.
    const DIGITS_MAX: usize = 19;
    if text.is_empty() || text.len() > DIGITS_MAX {
        return long_decimal(text);
    }
    let mut number = 0;
    for &octet in text {
        let digit = octet.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = 10 * number + u64::from(digit);
    }
    Some(number)
}

#[cold]
fn long_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, &octet| {
        let digit = octet.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Reads `text` as a port number.
pub(super) fn port(text: &[u8]) -> Option<u16> {
    decimal(text).and_then(|number| u16::try_from(number).ok())
}

/// Where the quoted string that starts at `open` ends: the offset behind its closing quote.
pub(super) fn quoted_end(text: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    while let Some(&octet) = text.get(at) {
        match octet {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// Walks over a value from left to right.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    pub text: &'a [u8],
    pub at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a [u8]) -> Reader<'a> {
        Reader { text, at: 0 }
    }

    pub fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub fn is_done(&self) -> bool {
        self.at >= self.text.len()
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub fn skip_lws(&mut self) {
        while self.peek().is_some_and(is_lws) {
            self.at += 1;
        }
    }

    /// Takes `octet` when it comes next.
    pub fn eat(&mut self, octet: u8) -> bool {
        let is_next = self.peek() == Some(octet);
        self.at += usize::from(is_next);
        is_next
    }

    /// Takes `octet` with white space around it.
    pub fn eat_separator(&mut self, octet: u8) -> bool {
        let start = self.at;
        self.skip_lws();
        if self.eat(octet) {
            self.skip_lws();
            return true;
        }
        self.at = start;
        false
    }

    /// Takes octets as long as `accept` likes them.
    pub fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a [u8] {
        let start = self.at.min(self.text.len());
        let mut end = start;
        while end < self.text.len() && accept(self.text[end]) {
            end += 1;
        }
        self.at = end;
        &self.text[start..end]
    }

    /// Takes a token; an empty one is a fault.
    pub fn token(&mut self, what: MalformedKind) -> Result<&'a [u8], Malformed> {
        let token = self.take_while(|octet| is(octet, TOKEN));
        if token.is_empty() {
            return Err(self.fault(what));
        }
        Ok(token)
    }

    /// Takes a quoted string, quotes included.
    pub fn quoted(&mut self) -> Result<&'a [u8], Malformed> {
        let end = quoted_end(self.text, self.at).ok_or(self.fault(MalformedKind::Quote))?;
        let quoted = &self.text[self.at..end];
        self.at = end;
        Ok(quoted)
    }

    /// The fault `what`, here.
    pub fn fault(&self, what: MalformedKind) -> Malformed {
        Malformed::new(what, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_digits_only_and_does_not_wrap() {
        assert_eq!(decimal(b"0068"), Some(68));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal(b"18446744073709551616"), None);
        assert_eq!(decimal(b""), None);
        assert_eq!(decimal(b"-1"), None);
        assert_eq!(decimal(b"1 "), None);
    }

    #[test]
    fn a_quoted_string_ends_at_its_unescaped_quote() {
        assert_eq!(quoted_end(br#""a\"b" c"#, 0), Some(6));
        assert_eq!(quoted_end(br#""a\\" c"#, 0), Some(5));
        assert_eq!(quoted_end(br#""a\""#, 0), None);
        assert_eq!(quoted_end(br#""a\"#, 0), None);
    }

    #[test]
    fn a_call_id_is_one_or_two_words() {
        assert!(is_call_id(br#"intmeth.word%ZK-!.*_+'@word`~)(><:\/"][?}{"#));
        assert!(!is_call_id(b"a@b@c"));
        assert!(!is_call_id(b"a b"));
        assert!(!is_call_id(b"a@"));
    }

    #[test]
    fn trimming_takes_folds_off_both_ends() {
        assert_eq!(trim_lws(b" \r\n\t a b\r\n "), b"a b");
        assert_eq!(trim_lws(b" \t "), b"");
    }
}
