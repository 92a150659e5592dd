//! What is decided about a datagram before it costs anything: who is not served, what it is by its
//! first octets, how much of what is new an overloaded shard turns away, and the answers to what is
//! not SIP (RFC 5626 keep-alives, STUN).

pub mod access;
pub mod bans;
mod block;
mod opening;
pub mod overload;
pub mod strangers;
pub mod stun;

pub use block::{Block, NoBlock};
pub use opening::opens;

/// What a datagram is, as far as its first octets tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For the parser.
    Sip,
    /// The double CRLF of RFC 5626 §4.4.1; [`KEEP_ALIVE_ANSWER`] goes back.
    KeepAliveCrlf,
    /// For [`stun::answer`].
    Stun,
    /// Nothing, or the single CRLF that answers a keep-alive: nothing goes back.
    Empty,
    /// Nothing that is answered here.
    Garbage,
}

/// The answer to [`Kind::KeepAliveCrlf`].
//= rfc5626#4.4.1
pub const KEEP_ALIVE_ANSWER: &[u8] = b"\r\n";

/// Tells SIP from what shares its port. A request begins with a token character, and a response
/// with the `S` of `SIP/`; STUN begins with an octet below 4 (RFC 5389 §6); CRLF in front of a
/// start line is left to the parser (RFC 3261 §7.5).
pub fn classify(bytes: &[u8]) -> Kind {
    match bytes {
        [] | b"\r\n" => Kind::Empty,
        b"\r\n\r\n" => Kind::KeepAliveCrlf,
        [0..=3, ..] if bytes.len() >= stun::HEADER_LEN => Kind::Stun,
        [b'\r', b'\n', rest @ ..] => after_crlf(rest),
        [first, ..] if is_token(*first) => Kind::Sip,
        [_, ..] => Kind::Garbage,
    }
}

/// CRLFs in front of a start line are SIP; CRLFs alone are one more keep-alive than was asked for.
fn after_crlf(rest: &[u8]) -> Kind {
    let first = rest.iter().find(|octet| !matches!(octet, b'\r' | b'\n'));
    match first {
        Some(first) if is_token(*first) => Kind::Sip,
        Some(_) => Kind::Garbage,
        None => Kind::Empty,
    }
}

/// RFC 3261 §25.1, `token`.
const fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_octets_tell_what_a_datagram_is() {
        assert_eq!(classify(b"INVITE sip:a@b SIP/2.0\r\n"), Kind::Sip);
        assert_eq!(classify(b"SIP/2.0 200 OK\r\n"), Kind::Sip);
        assert_eq!(classify(b"!interesting-Method0123 sip:a@b"), Kind::Sip);
        assert_eq!(classify(b"\r\n\r\nOPTIONS sip:a@b SIP/2.0\r\n"), Kind::Sip);
        assert_eq!(classify(b""), Kind::Empty);
        assert_eq!(classify(b"\r\n"), Kind::Empty);
        assert_eq!(classify(b"\r\n\r\n"), Kind::KeepAliveCrlf);
        assert_eq!(classify(b"\r\n\r\n\r\n"), Kind::Empty);
        assert_eq!(classify(b"\r\n\0"), Kind::Garbage);
        assert_eq!(classify(&[0; 4]), Kind::Garbage);
        assert_eq!(classify(&[0; 20]), Kind::Stun);
        assert_eq!(classify(&[0x80; 40]), Kind::Garbage);
        assert_eq!(classify(b" INVITE"), Kind::Garbage);
    }

    #[test]
    fn every_pair_of_first_octets_is_classified() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let kind = classify(&[first, second]);
                assert_ne!(kind, Kind::Stun);
            }
        }
    }
}
