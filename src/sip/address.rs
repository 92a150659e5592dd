//! Where a response goes: back to where its request came from (RFC 3261 §18.2.2, RFC 3581 §4).
//!
//! Neither `maddr` nor a host name is ever followed: an answer must not be sent to a third party
//! because somebody wrote its name into a Via.

use core::net::{IpAddr, SocketAddr};

use super::Via;
use super::host::parse_ip;

/// The port of SIP where none is written (RFC 3261 §18.1.1).
pub const DEFAULT_PORT: u16 = 5060;

/// Where the response to a request goes that came from `source` with this top Via.
//= rfc3261#18.2.2
//= rfc3581#4
pub fn reply_address(via: &Via<'_>, source: SocketAddr) -> SocketAddr {
    let port = match via.rport {
        Some(_) => source.port(),
        None => via.port.filter(|&port| port != 0).unwrap_or(DEFAULT_PORT),
    };
    let mut target = source;
    target.set_port(port);
    target
}

/// Where a response is forwarded to whose next Via is this one; none when it names no address
/// that one host can have.
pub fn response_address(via: &Via<'_>) -> Option<SocketAddr> {
    let ip = match via.received {
        Some(received) => parse_ip(received)?,
        None => via.host.ip()?,
    };
    let port = match via.rport {
        Some(Some(port)) => port,
        Some(None) | None => via.port.unwrap_or(DEFAULT_PORT),
    };
    (is_one_host(ip) && port != 0).then_some(SocketAddr::new(ip, port))
}

/// Whether datagrams to this address reach one host: no broadcast, multicast or unspecified one,
/// nor one of those in the guise of an IPv6 address, which no IPv6 socket of ours could reach.
pub fn is_one_host(ip: IpAddr) -> bool {
    if matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return false;
    }
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(is_broadcast || ip.is_multicast() || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(via: &str, source: &str) -> String {
        let via = Via::parse(via.as_bytes()).expect("well formed");
        reply_address(&via, source.parse().expect("literal")).to_string()
    }

    fn forward(via: &str) -> Option<String> {
        let via = Via::parse(via.as_bytes()).expect("well formed");
        response_address(&via).map(|address| address.to_string())
    }

    #[test]
    fn a_reply_goes_to_the_source_and_the_port_of_the_via() {
        let source = "192.0.2.9:40000";
        assert_eq!(reply("SIP/2.0/UDP h.example", source), "192.0.2.9:5060");
        assert_eq!(
            reply("SIP/2.0/UDP 198.51.100.1:5070", source),
            "192.0.2.9:5070"
        );
        assert_eq!(
            reply("SIP/2.0/UDP h;maddr=203.0.113.1", source),
            "192.0.2.9:5060"
        );
    }

    //= rfc3581#4
    #[test]
    fn a_reply_goes_to_the_source_port_when_rport_asks_for_it() {
        assert_eq!(
            reply("SIP/2.0/UDP h:5070;rport", "192.0.2.9:40000"),
            "192.0.2.9:40000"
        );
        assert_eq!(
            reply("SIP/2.0/UDP h;rport", "[2001:db8::1]:40000"),
            "[2001:db8::1]:40000"
        );
    }

    #[test]
    fn a_response_is_forwarded_to_received_and_rport_first() {
        assert_eq!(
            forward("SIP/2.0/UDP h;received=192.0.2.1;rport=9").as_deref(),
            Some("192.0.2.1:9")
        );
        assert_eq!(
            forward("SIP/2.0/UDP 192.0.2.3:5070").as_deref(),
            Some("192.0.2.3:5070")
        );
        assert_eq!(
            forward("SIP/2.0/UDP [::1];received=::2").as_deref(),
            Some("[::2]:5060")
        );
    }

    #[test]
    fn a_response_is_never_forwarded_to_names_or_many_hosts() {
        for via in [
            "SIP/2.0/UDP host.example",
            "SIP/2.0/UDP 255.255.255.255",
            "SIP/2.0/UDP 224.0.0.1",
            "SIP/2.0/UDP 0.0.0.0",
            "SIP/2.0/UDP [ff02::1]",
            "SIP/2.0/UDP h;received=other.example",
            "SIP/2.0/UDP 192.0.2.3:0",
        ] {
            assert_eq!(forward(via), None, "{via}");
        }
    }
}
