//! The parameter `cg` of our Record-Route: proves without any state that a request follows a
//! dialog that went through this node, and tells two passages of one call apart.

use super::branch::hex;
use crate::base::Cursor;
use crate::base::hash::HashKey;

/// What stands in `;cg=`: 16 hex digits, a nonce above and its keyed check with the Call-ID below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    pub nonce: u32,
}

const DOMAIN: u64 = 0x7265_636f_7264_0a01;

impl Cookie {
    /// Appends the cookie's value.
    pub fn put(self, secret: &HashKey, call_id: u64, out: &mut Cursor<'_>) {
        out.put_hex(self.number(secret, call_id));
    }

    /// Reads the value of a `cg` parameter and checks that we wrote it for this Call-ID, which comes
    /// hashed with the same secret.
    pub fn verify(secret: &HashKey, call_id: u64, value: &[u8]) -> Option<Cookie> {
        let number = hex(value)?;
        let cookie = Cookie {
            nonce: (number >> 32) as u32,
        };
        (cookie.number(secret, call_id) == number).then_some(cookie)
    }

    fn number(self, secret: &HashKey, call_id: u64) -> u64 {
        let check = secret.hash_words([DOMAIN, u64::from(self.nonce), call_id]);
        (u64::from(self.nonce) << 32) | (check & 0xffff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_accepted_for_its_own_call_only() {
        let secret = HashKey::new([3, 4]);
        let mut buffer = [0u8; 16];
        let mut cursor = Cursor::new(&mut buffer);
        Cookie { nonce: 9 }.put(&secret, 7, &mut cursor);
        let text = cursor.written();
        assert_eq!(Cookie::verify(&secret, 7, text), Some(Cookie { nonce: 9 }));
        assert_eq!(Cookie::verify(&secret, 8, text), None);
        assert_eq!(Cookie::verify(&secret, 7, &text[1..]), None);
        assert_eq!(Cookie::verify(&secret, 7, b"\xff\xff"), None);
    }
}
