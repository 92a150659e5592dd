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

/// What the hash of a token begins with, so that it is no hash of anything else.
const DOMAIN: u64 = 0x6272_616e_6368_0a01;

/// Makes the token for a nonce: the nonce above, the check of nonce and Call-ID below. The Call-ID
/// comes hashed with the same secret.
pub fn token(secret: &HashKey, nonce: u32, call_id: u64) -> u64 {
    let check = secret.hash_words([DOMAIN, u64::from(nonce), call_id]);
    (u64::from(nonce) << 32) | (check & 0xffff_ffff)
}

/// Whether we made this token for a request with this Call-ID.
pub fn is_ours(secret: &HashKey, token_text: u64, call_id: u64) -> bool {
    token(secret, (token_text >> 32) as u32, call_id) == token_text
}

/// Hashes what a routing decision depends on, `source` being the slot of the trunk that sent it; a
/// request that comes back with the same is a loop, one that comes back changed is a spiral.
//= rfc5393#4.2.1
pub fn loop_check(secret: &HashKey, request: &Message<'_>, source: Option<u16>) -> u64 {
    let mut digest = secret.digest();
    digest.number(request.call_id_hash(secret));
    digest.text(request.request_uri());
    digest.text(request.from_tag().unwrap_or_default());
    digest.text(request.to_tag().unwrap_or_default());
    for id in [HeaderId::Route, HeaderId::ProxyRequire] {
        if request.field(id).is_some() {
            for field in request.fields().iter().filter(|field| field.id == id) {
                digest.text(field.value(request));
            }
        }
    }
    let number = request.cseq().map_or(0, |cseq| u64::from(cseq.number));
    digest.number(source.map_or(u64::MAX, |source| u64::from(source) << 32 | number));
    digest.finish()
}

/// Sixteen lower-case hexadecimal digits as a number.
pub(super) fn hex(digits: &[u8]) -> Option<u64> {
    let digits: &[u8; 16] = digits.try_into().ok()?;
    let (halves, _) = digits.as_chunks::<8>();
    let [high, low] = [hex_half(halves.first()?)?, hex_half(halves.last()?)?];
    Some(u64::from(high) << 32 | u64::from(low))
}

/// Eight digits, all at once.
fn hex_half(digits: &[u8; 8]) -> Option<u32> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let digits = u64::from_be_bytes(*digits);
    // Digits are 0x30 to 0x39 and letters 0x61 to 0x66: bit 6 tells one from the other.
    let letters = digits >> 6 & ONES;
    let values = (digits & (ONES * 0x0f)) + letters * 9;
    // Only a digit is spelt as its value is: any other octet differs here, or is over 15.
    let over_9 = (values + ONES * 6) >> 4 & ONES;
    let spelt = values + ONES * 0x30 + over_9 * 0x27;
    if spelt != digits || values & (ONES * 0xf0) != 0 {
        return None;
    }
    let pairs = (values | values >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    Some((fours | fours >> 16) as u32)
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
    fn sixteen_digits_are_a_number_and_any_other_octet_is_a_fault() {
        assert_eq!(hex(b"0123456789abcdef"), Some(0x0123_4567_89ab_cdef));
        assert_eq!(hex(b"fedcba9876543210"), Some(0xfedc_ba98_7654_3210));
        assert_eq!(hex(b"0123456789abcde"), None);
        for at in 0..16 {
            for octet in 0..=255u8 {
                let mut text = *b"00000000ffffffff";
                text[at] = octet;
                let plain = core::str::from_utf8(&text)
                    .ok()
                    .filter(|_| matches!(octet, b'0'..=b'9' | b'a'..=b'f'))
                    .and_then(|text| u64::from_str_radix(text, 16).ok());
                assert_eq!(hex(&text), plain, "{octet} at {at}");
            }
        }
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
        let made = token(&secret, 42, 7);
        assert!(is_ours(&secret, made, 7));
        assert!(!is_ours(&secret, made, 8));
        assert!(!is_ours(&secret, made ^ 1, 7));
    }
}
