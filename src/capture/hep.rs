//! HEP version 3, the format in which Homer takes copies of messages: a header and a list of typed
//! chunks, all numbers in network order.

use core::net::{IpAddr, SocketAddr};

/// Who Homer is, and how this node names itself to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Homer {
    pub target: SocketAddr,
    /// Over TCP; else over UDP.
    pub tcp: bool,
    pub capture_id: u32,
    pub password: Secret,
    pub node_name: String,
}

/// A text that is sent and never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text, for the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str("(not shown)")
    }
}

/// A message as Homer wants to hear of it.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// Microseconds since 1970.
    pub unix_us: u64,
    pub capture_id: u32,
    /// Empty = no authentication chunk.
    pub password: &'a str,
    pub node_name: &'a str,
    /// Empty = no correlation chunk.
    pub call_id: &'a [u8],
    pub payload: &'a [u8],
}

/// Octets that a report has besides its payload, with the longest texts that are sent.
pub const OVERHEAD_MAX: usize = 1024;

/// A text chunk longer than this is cut off: a Call-ID of a thousand octets is nobody's.
const TEXT_MAX: usize = 256;

/// Appends one report to `out`.
pub fn write(report: &Report<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(b"HEP3\0\0");
    // Families differ only when a listener's own address is not known; the peer's decides then.
    let (family, source, destination) = addresses(report.source.ip(), report.destination.ip());
    chunk(out, Chunk::Family, &[family]);
    chunk(out, Chunk::Protocol, &[PROTOCOL_UDP]);
    for (v4, v6, ip) in [
        (Chunk::SourceV4, Chunk::SourceV6, source),
        (Chunk::DestinationV4, Chunk::DestinationV6, destination),
    ] {
        match ip {
            IpAddr::V4(ip) => chunk(out, v4, &ip.octets()),
            IpAddr::V6(ip) => chunk(out, v6, &ip.octets()),
        }
    }
    chunk(out, Chunk::SourcePort, &report.source.port().to_be_bytes());
    chunk(
        out,
        Chunk::DestinationPort,
        &report.destination.port().to_be_bytes(),
    );
    let (seconds, micros) = (report.unix_us / 1_000_000, report.unix_us % 1_000_000);
    chunk(out, Chunk::Seconds, &(seconds as u32).to_be_bytes());
    chunk(out, Chunk::Micros, &(micros as u32).to_be_bytes());
    chunk(out, Chunk::PayloadType, &[PAYLOAD_SIP]);
    chunk(out, Chunk::CaptureId, &report.capture_id.to_be_bytes());
    for (kind, text) in [
        (Chunk::Password, report.password.as_bytes()),
        (Chunk::CorrelationId, report.call_id),
        (Chunk::NodeName, report.node_name.as_bytes()),
    ] {
        if !text.is_empty() {
            chunk(out, kind, &text[..text.len().min(TEXT_MAX)]);
        }
    }
    chunk(out, Chunk::Payload, report.payload);
    // A payload is at most `OCTETS_MAX`, so that the sum fits.
    let total = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    out[start + 4..start + 6].copy_from_slice(&total.to_be_bytes());
}

/// The two addresses in one family: IPv4 unless both can only be said in IPv6.
fn addresses(source: IpAddr, destination: IpAddr) -> (u8, IpAddr, IpAddr) {
    let (source, destination) = (source.to_canonical(), destination.to_canonical());
    if source.is_ipv4() && destination.is_ipv4() {
        return (FAMILY_V4, source, destination);
    }
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
        IpAddr::V6(ip) => IpAddr::V6(ip),
    };
    (FAMILY_V6, wide(source), wide(destination))
}

/// The generic chunk types (vendor 0).
#[derive(Clone, Copy)]
enum Chunk {
    Family = 1,
    Protocol = 2,
    SourceV4 = 3,
    DestinationV4 = 4,
    SourceV6 = 5,
    DestinationV6 = 6,
    SourcePort = 7,
    DestinationPort = 8,
    Seconds = 9,
    Micros = 10,
    PayloadType = 11,
    CaptureId = 12,
    Password = 14,
    Payload = 15,
    CorrelationId = 17,
    NodeName = 19,
}

fn chunk(out: &mut Vec<u8>, kind: Chunk, value: &[u8]) {
    const HEADER: usize = 6;
    let len = u16::try_from(HEADER + value.len()).unwrap_or(u16::MAX);
    let value = &value[..usize::from(len) - HEADER];
    out.extend_from_slice(&0_u16.to_be_bytes());
    out.extend_from_slice(&(kind as u16).to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(value);
}

const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;
const PROTOCOL_UDP: u8 = 17;
const PAYLOAD_SIP: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn report<'a>(source: &str, payload: &'a [u8]) -> Report<'a> {
        Report {
            source: source.parse().expect("an address"),
            destination: "192.0.2.2:5080".parse().expect("an address"),
            unix_us: 1_700_000_000_000_123,
            capture_id: 7,
            password: "s3cret",
            node_name: "edge1",
            call_id: b"a@b",
            payload,
        }
    }

    /// Each chunk as (type, value).
    fn chunks(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let number = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!(&bytes[..4], b"HEP3");
        assert_eq!(usize::from(number(4)), bytes.len());
        let mut found = Vec::new();
        let mut at = 6;
        while at < bytes.len() {
            let len = usize::from(number(at + 4));
            found.push((number(at + 2), bytes[at + 6..at + len].to_vec()));
            at += len;
        }
        found
    }

    #[test]
    fn a_report_has_each_chunk_once_and_says_its_length() {
        let mut out = Vec::new();
        write(&report("192.0.2.1:5060", b"INVITE"), &mut out);
        let found = chunks(&out);
        let value = |kind: u16| {
            let mut of_kind = found.iter().filter(|(is, _)| *is == kind);
            let (_, value) = of_kind.next().expect("the chunk");
            assert!(of_kind.next().is_none(), "chunk {kind} is there twice");
            value.as_slice()
        };
        assert_eq!(value(1), [2]);
        assert_eq!(value(3), [192, 0, 2, 1]);
        assert_eq!(value(8), 5080_u16.to_be_bytes());
        assert_eq!(value(9), 1_700_000_000_u32.to_be_bytes());
        assert_eq!(value(10), 123_u32.to_be_bytes());
        assert_eq!(value(14), b"s3cret");
        assert_eq!(value(15), b"INVITE");
        assert_eq!(value(17), b"a@b");
        assert_eq!(value(19), b"edge1");
    }

    #[test]
    fn a_secret_is_not_in_what_is_printed() {
        let homer = Homer {
            target: "192.0.2.1:9060".parse().expect("an address"),
            tcp: false,
            capture_id: 1,
            password: Secret::new("hunter2".to_owned()),
            node_name: "edge1".to_owned(),
        };
        let shown = format!("{homer:?}");
        assert!(
            !shown.contains("hunter2") && shown.contains("(not shown)"),
            "{shown}"
        );
    }

    #[test]
    fn two_families_become_one() {
        let mut out = Vec::new();
        write(&report("[2001:db8::1]:5060", b"x"), &mut out);
        let kinds: Vec<u16> = chunks(&out).iter().map(|(kind, _)| *kind).collect();
        assert!(kinds.contains(&5) && kinds.contains(&6), "{kinds:?}");
        assert!(!kinds.contains(&3) && !kinds.contains(&4), "{kinds:?}");
    }

    #[test]
    fn the_largest_report_fits_its_length_field_and_a_datagram() {
        let payload = vec![b'x'; crate::capture::OCTETS_MAX];
        let long = "n".repeat(1000);
        let mut out = Vec::new();
        write(
            &Report {
                node_name: &long,
                password: &long,
                call_id: long.as_bytes(),
                ..report("[2001:db8::1]:5060", &payload)
            },
            &mut out,
        );
        assert_eq!(chunks(&out).len(), 14);
        assert!(out.len() <= payload.len() + OVERHEAD_MAX);
    }
}
