//! The parameter `cg` of our Record-Route: proves without any state that a request follows a
//! dialog that went through this node, and tells two passages of one call apart.

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
    pub fn put(self, secret: &HashKey, call_id: &[u8], out: &mut Cursor<'_>) {
        out.put_hex(self.number(secret, call_id));
    }

    /// Reads the value of a `cg` parameter and checks that we wrote it for this Call-ID.
    pub fn verify(secret: &HashKey, call_id: &[u8], value: &[u8]) -> Option<Cookie> {
        let text = core::str::from_utf8(value)
            .ok()
            .filter(|text| text.len() == 16)?;
        let number = u64::from_str_radix(text, 16).ok()?;
        let cookie = Cookie {
            nonce: (number >> 32) as u32,
        };
        (cookie.number(secret, call_id) == number).then_some(cookie)
    }

    fn number(self, secret: &HashKey, call_id: &[u8]) -> u64 {
        let mut hasher = secret.hasher();
        hasher.write_u64(DOMAIN);
        hasher.write_u64(u64::from(self.nonce));
        hasher.write(call_id);
        (u64::from(self.nonce) << 32) | (hasher.finish() & 0xffff_ffff)
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
        Cookie { nonce: 9 }.put(&secret, b"a@b", &mut cursor);
        let text = cursor.written();
        assert_eq!(
            Cookie::verify(&secret, b"a@b", text),
            Some(Cookie { nonce: 9 })
        );
        assert_eq!(Cookie::verify(&secret, b"other", text), None);
        assert_eq!(Cookie::verify(&secret, b"a@b", &text[1..]), None);
        assert_eq!(Cookie::verify(&secret, b"a@b", b"\xff\xff"), None);
    }
}
