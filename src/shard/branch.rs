//! The branch that we write into our Via (RFC 3261 §16.6 step 8, §16.11; RFC 5393 §4.2).
//!
//! `z9hG4bKcg` + 16 hex digits + `.` + 16 hex digits. The first number is a nonce and a keyed check
//! of it with the Call-ID: a response that nobody asked for cannot be made up. The second is the
//! loop check: a keyed hash of everything that decides where the request goes.

use crate::base::Cursor;
use crate::base::hash::HashKey;
use crate::sip::{HeaderId, Message};

const PREFIX: &[u8] = b"z9hG4bKcg";

/// The numbers inside a branch of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    pub token: u64,
    pub loop_check: u64,
}

impl Branch {
    /// Reads a branch that looks like one of ours.
    pub fn parse(text: &[u8]) -> Option<Branch> {
        let numbers = text.strip_prefix(PREFIX)?;
        let (token, rest) = numbers.split_at_checked(16)?;
        let loop_check = rest.strip_prefix(b".")?;
        Some(Branch {
            token: hex(token)?,
            loop_check: hex(loop_check)?,
        })
    }

    /// Whether a Via may have a branch of ours: far cheaper than to read it.
    pub fn is_in(via: &[u8]) -> bool {
        memchr::memchr_iter(PREFIX[0], via).any(|at| via[at..].starts_with(PREFIX))
    }

    /// Finds a branch of ours in the text of a datagram that may be cut anywhere.
    pub fn search(text: &[u8]) -> Option<Branch> {
        let at = memchr::memmem::find(text, PREFIX)?;
        Branch::parse(text.get(at..at + PREFIX.len() + 33)?)
    }

    /// Appends the branch as it stands in a Via.
    pub fn put(&self, out: &mut Cursor<'_>) {
        out.put(PREFIX);
        out.put_hex(self.token);
        out.put(b".");
        out.put_hex(self.loop_check);
    }
}

/// Makes the token for a nonce: the nonce above, the check of nonce and Call-ID below.
pub fn token(secret: &HashKey, nonce: u32, call_id: &[u8]) -> u64 {
    let mut hasher = secret.hasher();
    hasher.write_u64(u64::from(nonce));
    hasher.write(call_id);
    (u64::from(nonce) << 32) | (hasher.finish() & 0xffff_ffff)
}

/// Whether we made this token for a request with this Call-ID.
pub fn is_ours(secret: &HashKey, token_text: u64, call_id: &[u8]) -> bool {
    token(secret, (token_text >> 32) as u32, call_id) == token_text
}

/// Hashes what a routing decision depends on, `source` being the slot of the trunk that sent it; a
/// request that comes back with the same is a loop, one that comes back changed is a spiral.
//= rfc5393#4.2.1
pub fn loop_check(secret: &HashKey, request: &Message<'_>, source: Option<u16>) -> u64 {
    let mut hasher = secret.hasher();
    let mut mix = |text: &[u8]| {
        hasher.write(text);
        text.len() as u64
    };
    // All lengths follow, so that no octet can move from one text to the next and keep the sum.
    let lengths = [
        mix(request.request_uri()),
        mix(request.call_id()),
        mix(request.from_tag().unwrap_or_default()),
        mix(request.to_tag().unwrap_or_default()),
    ];
    for id in [HeaderId::Route, HeaderId::ProxyRequire] {
        if request.field(id).is_some() {
            for field in request.fields().iter().filter(|field| field.id == id) {
                let length = mix(field.value(request));
                mix(&length.to_le_bytes());
            }
        }
    }
    let number = request.cseq().map_or(0, |cseq| u64::from(cseq.number));
    hasher.write_u64(source.map_or(u64::MAX, |source| u64::from(source) << 32 | number));
    // Each is below 2^16.
    let lengths = lengths
        .into_iter()
        .fold(0, |all, length| all << 16 | length);
    hasher.write_u64(lengths);
    hasher.finish()
}

fn hex(digits: &[u8]) -> Option<u64> {
    if digits.len() != 16 {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_reads_back_as_it_was_written() {
        let branch = Branch {
            token: 0x0123_4567_89ab_cdef,
            loop_check: 7,
        };
        let mut buffer = [0u8; 64];
        let mut cursor = Cursor::new(&mut buffer);
        branch.put(&mut cursor);
        assert_eq!(
            cursor.written(),
            b"z9hG4bKcg0123456789abcdef.0000000000000007"
        );
        assert_eq!(Branch::parse(cursor.written()), Some(branch));
        assert_eq!(
            Branch::search(b"Via: x;branch=z9hG4bKcg0123456789abcdef.0000000000000007;r"),
            Some(branch)
        );
        assert_eq!(
            Branch::search(b"Via: x;branch=z9hG4bKcg0123456789abcdef.00000"),
            None
        );
    }

    #[test]
    fn foreign_branches_are_not_ours() {
        for text in [
            "",
            "z9hG4bK",
            "z9hG4bKcg",
            "z9hG4bKcg0123456789ABCDEF.0000000000000007",
            "z9hG4bKcg1.2",
        ] {
            assert_eq!(Branch::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_token_belongs_to_its_call_id() {
        let secret = HashKey::new([1, 2]);
        let made = token(&secret, 42, b"a@b");
        assert!(is_ours(&secret, made, b"a@b"));
        assert!(!is_ours(&secret, made, b"a@c"));
        assert!(!is_ours(&secret, made ^ 1, b"a@b"));
    }
}
