//! Hosts and ports: names, IPv4 and IPv6 literals (RFC 3261 §25.1 host, RFC 5118).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::error::{Malformed, MalformedKind};
use super::grammar::{Reader, is_host_name, is_host_octet, port};

/// The host part of a URI or of a Via.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    Name(&'a [u8]),
    V4(Ipv4Addr),
    /// A zone (`%eth0`) is dropped: it means nothing off the link it names.
    V6(Ipv6Addr),
}

impl<'a> Host<'a> {
    /// Reads a host without port: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn parse(text: &'a [u8]) -> Result<Host<'a>, Malformed> {
        let fault = Malformed::new(MalformedKind::Host, 0);
        if let Some(inner) = text.strip_prefix(b"[") {
            let inner = inner.strip_suffix(b"]").ok_or(fault)?;
            return parse_v6(inner).map(Host::V6).ok_or(fault);
        }
        if let Some(address) = parse_v4(text) {
            return Ok(Host::V4(address));
        }
        if is_host_name(text) {
            return Ok(Host::Name(text));
        }
        Err(fault)
    }

    /// The address, unless it is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        match *self {
            Host::Name(_) => None,
            Host::V4(address) => Some(IpAddr::V4(address)),
            Host::V6(address) => Some(IpAddr::V6(address)),
        }
    }
}

/// The address in a `received` or `maddr` parameter: IPv6 comes with and without brackets there.
pub fn parse_ip(text: &[u8]) -> Option<IpAddr> {
    if let Some(address) = parse_v4(text) {
        return Some(IpAddr::V4(address));
    }
    let inner = text
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(b"]"))
        .unwrap_or(text);
    parse_v6(inner).map(IpAddr::V6)
}

fn parse_v6(text: &[u8]) -> Option<Ipv6Addr> {
    let address = text.split(|&octet| octet == b'%').next()?;
    core::str::from_utf8(address).ok()?.parse().ok()
}

/// Four numbers up to 255 without leading zeros, as std reads them from a `str`.
fn parse_v4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut part = 0;
    let mut number = 0u32;
    let mut digits = 0;
    for &octet in text {
        match octet {
            b'0'..=b'9' if digits < 3 && (digits == 0 || number > 0) => {
                number = 10 * number + u32::from(octet - b'0');
                digits += 1;
            }
            b'.' if digits > 0 && part < 3 => {
                octets[part] = u8::try_from(number).ok()?;
                (part, number, digits) = (part + 1, 0, 0);
            }
            _ => return None,
        }
    }
    octets[3] = u8::try_from(number).ok()?;
    (part == 3 && digits > 0).then(|| Ipv4Addr::from(octets))
}

/// Takes `host [ ":" port ]` off `reader`; white space is allowed around the colon, as in a Via.
pub(super) fn read_host_port<'a>(
    reader: &mut Reader<'a>,
) -> Result<(Host<'a>, Option<u16>), Malformed> {
    let start = reader.at;
    let text = if reader.peek() == Some(b'[') {
        let rest = reader.rest();
        let len = memchr::memchr(b']', rest).ok_or(reader.fault(MalformedKind::Host))? + 1;
        reader.at += len;
        &rest[..len]
    } else {
        reader.take_while(is_host_octet)
    };
    let host = Host::parse(text).map_err(|fault| fault.shifted(start))?;
    if !reader.eat_separator(b':') {
        return Ok((host, None));
    }
    let fault = reader.fault(MalformedKind::Port);
    let digits = reader.take_while(|octet| octet.is_ascii_digit());
    Ok((host, Some(port(digits).ok_or(fault)?)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Addresses, and what is nearly one.
    pub(in crate::sip) const NUMBERS_AND_DOTS: [&str; 13] = [
        "0.0.0.0",
        "255.255.255.255",
        "256.1.1.1",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.",
        "1..3.4",
        ".1.2.3",
        "00.1.1.1",
        "1.2.3.4a",
        "1000.1.1.1",
        "9.10.99.100",
    ];

    #[test]
    fn literals_and_names_are_told_apart() {
        assert_eq!(
            Host::parse(b"192.0.2.1"),
            Ok(Host::V4(Ipv4Addr::new(192, 0, 2, 1)))
        );
        assert_eq!(Host::parse(b"[::1]"), Ok(Host::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(
            Host::parse(b"[::1%eth0]"),
            Ok(Host::V6(Ipv6Addr::LOCALHOST))
        );
        assert_eq!(Host::parse(b"a_b.example"), Ok(Host::Name(b"a_b.example")));
        assert!(Host::parse(b"").is_err());
        assert!(Host::parse(b"[::1").is_err());
        assert!(Host::parse(b"a b").is_err());
        assert!(Host::parse(b"::1").is_err());
    }

    #[test]
    fn an_ipv4_address_is_read_as_std_reads_it() {
        for text in NUMBERS_AND_DOTS.into_iter().chain(["", "."]) {
            assert_eq!(parse_v4(text.as_bytes()), text.parse().ok(), "{text}");
        }
    }

    #[test]
    fn a_received_address_needs_no_brackets() {
        assert_eq!(parse_ip(b"::1"), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(parse_ip(b"[::1]"), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(parse_ip(b"host"), None);
    }

    #[test]
    fn a_port_does_not_wrap() {
        let read = |text: &'static [u8]| read_host_port(&mut Reader::new(text));
        assert_eq!(read(b"a:5060"), Ok((Host::Name(b"a"), Some(5060))));
        assert_eq!(read(b"a : 5060;x"), Ok((Host::Name(b"a"), Some(5060))));
        assert!(read(b"a:65536").is_err());
        assert!(read(b"a:").is_err());
    }
}
