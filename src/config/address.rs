//! Addresses in a configuration: a socket address with an optional port, a block, a public name.

use core::net::{IpAddr, SocketAddr};

use crate::route::Cidr;

/// Port of SIP over UDP when none is written (RFC 3261 §19.1.2).
pub(super) const SIP_PORT: u16 = 5060;

/// A fault of an address and what would be right.
#[derive(Debug)]
pub(super) struct AddressFault {
    pub(super) what: String,
    pub(super) hint: Option<String>,
}

/// Reads `IP`, `IP:port`, `[IPv6]` or `[IPv6]:port`.
pub(super) fn socket(text: &str, default_port: u16) -> Result<SocketAddr, AddressFault> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 {
            Err(fault("port 0 is no port", None))
        } else {
            Ok(address)
        };
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, default_port)),
        Err(_) => Err(why_no_address(text)),
    }
}

fn why_no_address(text: &str) -> AddressFault {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() {
        return fault(format!("\"{}\" is no port", port.unwrap_or_default()), None);
    }
    if is_host_name(host) && host.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        return fault(
            "names are not resolved",
            Some(format!("write the IP address of {host}")),
        );
    }
    fault("that is no IP address", None)
}

/// Reads `network/length` or a single address.
pub(super) fn cidr(text: &str) -> Result<Cidr, AddressFault> {
    let (network, prefix_len) = match text.split_once('/') {
        Some((network, length)) => (network, Some(length)),
        None => (text, None),
    };
    let network: IpAddr = network
        .parse()
        .map_err(|_| fault("that is no IP address", None))?;
    let width: u8 = if network.is_ipv4() { 32 } else { 128 };
    let prefix_len = match prefix_len {
        None => width,
        Some(length) => match length.parse::<u8>() {
            Ok(length) if length <= width => length,
            _ => return Err(fault(format!("the length must be from 0 to {width}"), None)),
        },
    };
    let masked = masked(network, prefix_len);
    if masked != network {
        let hint = format!("write \"{masked}/{prefix_len}\", or \"{network}\" for the one address");
        return Err(fault("it has bits set beyond its length", Some(hint)));
    }
    Ok(Cidr {
        network,
        prefix_len,
    })
}

/// The network of an address.
pub(super) fn masked(network: IpAddr, prefix_len: u8) -> IpAddr {
    match network {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(prefix_len))
                .unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(prefix_len))
                .unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// Reads the public name of a listener: host (IPv6 in brackets afterwards) and port.
pub(super) fn advertised(text: &str, default_port: u16) -> Result<(String, u16), AddressFault> {
    match socket(text, default_port) {
        Ok(address) if address.ip().is_unspecified() => {
            Err(fault("it must be an address that others can reach", None))
        }
        Ok(address) => Ok((host_text(address.ip()), address.port())),
        Err(why) => advertised_name(text, default_port).ok_or(why),
    }
}

fn advertised_name(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
        None => (text, default_port),
    };
    let named = is_host_name(host) && host.bytes().any(|byte| byte.is_ascii_alphabetic());
    named.then(|| (host.to_ascii_lowercase(), port))
}

/// An address as it stands in a Via or a URI.
pub(super) fn host_text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// Whether `text` may be a host name (RFC 3261 §25.1, `hostname`).
pub(super) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

fn fault(what: impl Into<String>, hint: Option<String>) -> AddressFault {
    AddressFault {
        what: what.into(),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what<T>(result: Result<T, AddressFault>) -> String {
        result.err().map(|fault| fault.what).unwrap_or_default()
    }

    #[test]
    fn a_missing_port_is_5060() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1:5060"),
            ("192.0.2.1:5080", "192.0.2.1:5080"),
            ("2001:db8::1", "[2001:db8::1]:5060"),
            ("[2001:db8::1]", "[2001:db8::1]:5060"),
            ("[2001:db8::1]:6000", "[2001:db8::1]:6000"),
        ] {
            let read = socket(text, SIP_PORT).ok().map(|found| found.to_string());
            assert_eq!(read.as_deref(), Some(address));
        }
    }

    #[test]
    fn what_is_no_address_is_told_apart() {
        assert_eq!(what(socket("192.0.2.1:0", SIP_PORT)), "port 0 is no port");
        assert_eq!(
            what(socket("192.0.2.1:99999", SIP_PORT)),
            "\"99999\" is no port"
        );
        assert_eq!(
            what(socket("sip.example.com:5060", SIP_PORT)),
            "names are not resolved"
        );
        assert_eq!(
            what(socket("192.0.2.300", SIP_PORT)),
            "that is no IP address"
        );
        assert_eq!(what(socket("", SIP_PORT)), "that is no IP address");
    }

    #[test]
    fn a_block_with_host_bits_gets_the_block_that_was_meant() {
        let fault = cidr("198.51.100.7/24").expect_err("host bits are set");
        assert_eq!(fault.what, "it has bits set beyond its length");
        assert_eq!(
            fault.hint.as_deref(),
            Some("write \"198.51.100.0/24\", or \"198.51.100.7\" for the one address")
        );
        assert!(cidr("0.0.0.0/0").is_ok());
        assert!(cidr("::/0").is_ok());
        assert_eq!(cidr("::1").ok().map(|block| block.prefix_len), Some(128));
        assert_eq!(
            what(cidr("198.51.100.0/33")),
            "the length must be from 0 to 32"
        );
    }

    #[test]
    fn an_advertised_name_keeps_its_port_or_takes_the_listeners() {
        assert_eq!(
            advertised("Edge.example.com", 5070).ok(),
            Some(("edge.example.com".into(), 5070))
        );
        assert_eq!(
            advertised("203.0.113.7:5060", 1).ok(),
            Some(("203.0.113.7".into(), 5060))
        );
        assert_eq!(
            advertised("2001:db8::1", 7).ok(),
            Some(("[2001:db8::1]".into(), 7))
        );
        assert!(advertised("0.0.0.0", 7).is_err());
        assert!(advertised("a b", 7).is_err());
        assert!(advertised("host:0", 7).is_err());
    }
}
