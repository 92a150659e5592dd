//! The CSeq value: a number under 2^31 and a method (RFC 3261 §8.1.1.5, §20.16).

use super::Method;
use super::error::{Malformed, MalformedKind};
use super::grammar::{Reader, decimal};

/// A request's place among those of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    pub number: u32,
    pub method: Method,
    pub method_text: &'a [u8],
}

impl<'a> CSeq<'a> {
    /// Reads a value such as `4711 INVITE`.
    pub fn parse(value: &'a [u8]) -> Result<CSeq<'a>, Malformed> {
        let mut reader = Reader::new(value);
        let digits = reader.take_while(|octet| octet.is_ascii_digit());
        //= rfc3261#8.1.1.5
        let number = decimal(digits)
            .filter(|&number| number < 1 << 31)
            .and_then(|number| u32::try_from(number).ok())
            .ok_or(Malformed::new(MalformedKind::CSeq, 0))?;
        let before = reader.at;
        reader.skip_lws();
        let method_text = reader.token(MalformedKind::CSeq)?;
        if reader.at - method_text.len() == before || !reader.is_done() {
            return Err(reader.fault(MalformedKind::CSeq));
        }
        Ok(CSeq {
            number,
            method: Method::parse(method_text),
            method_text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_and_a_fold_are_allowed() {
        let cseq = CSeq::parse(b"0009\r\n  INVITE").expect("well formed");
        assert_eq!((cseq.number, cseq.method), (9, Method::Invite));
    }

    //= rfc3261#8.1.1.5
    #[test]
    fn the_number_stays_under_two_to_the_31st() {
        assert!(CSeq::parse(b"2147483647 BYE").is_ok());
        assert!(CSeq::parse(b"2147483648 BYE").is_err());
        assert!(CSeq::parse(b"36893488147419103232 BYE").is_err());
        assert!(CSeq::parse(b"-1 BYE").is_err());
    }

    #[test]
    fn number_and_method_must_both_be_there_and_nothing_else() {
        assert!(CSeq::parse(b"1").is_err());
        assert!(CSeq::parse(b"1BYE").is_err());
        assert!(CSeq::parse(b"BYE").is_err());
        assert!(CSeq::parse(b"1 BYE x").is_err());
        assert!(CSeq::parse(b"").is_err());
    }
}
