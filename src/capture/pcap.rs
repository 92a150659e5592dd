//! Capture files in the classic pcap format with link type RAW (101): each packet begins with its IP
//! header. The IP and UDP headers are made here, since a node sees payloads only; checksums are right,
//! so that no reader complains.
//!
//! The format is a header of 24 octets and one of 16 per packet, which is less than a library for it.

use core::net::{IpAddr, SocketAddr};

/// The file header: little-endian, microseconds, no packet cut off below the largest there is.
pub const FILE_HEADER: [u8; 24] = {
    let mut header = [0; 24];
    let magic = 0xa1b2_c3d4_u32.to_le_bytes();
    let largest = 65_535_u32.to_le_bytes();
    let mut at = 0;
    while at < 4 {
        header[at] = magic[at];
        header[16 + at] = largest[at];
        at += 1;
    }
    header[4] = 2;
    header[6] = 4;
    header[20] = LINKTYPE_RAW;
    header
};

const LINKTYPE_RAW: u8 = 101;

/// A datagram to write.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Microseconds since 1970.
    pub unix_us: u64,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// The payload, or its front.
    pub payload: &'a [u8],
    /// Length of the whole payload.
    pub octets: usize,
}

/// Appends one packet record to `out`.
pub fn write(packet: &Packet<'_>, out: &mut Vec<u8>) {
    let mut frame = Vec::with_capacity(packet.payload.len() + 48);
    write_frame(packet, &mut frame);
    let cut_off = packet.octets.saturating_sub(packet.payload.len());
    let seconds = (packet.unix_us / 1_000_000) as u32;
    let micros = (packet.unix_us % 1_000_000) as u32;
    for number in [
        seconds,
        micros,
        frame.len() as u32,
        (frame.len() + cut_off) as u32,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&frame);
}

/// The IP and UDP headers and the payload.
fn write_frame(packet: &Packet<'_>, out: &mut Vec<u8>) {
    let (source, destination) = (
        packet.source.ip().to_canonical(),
        packet.destination.ip().to_canonical(),
    );
    let udp_len = u16::try_from(packet.octets + UDP_HEADER).unwrap_or(u16::MAX);
    let pseudo = match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let start = out.len();
            let total = udp_len.saturating_add(20);
            out.extend_from_slice(&[0x45, 0]);
            out.extend_from_slice(&total.to_be_bytes());
            // No identification, "do not fragment", TTL 64, UDP, the checksum's place.
            out.extend_from_slice(&[0, 0, 0x40, 0, 64, PROTOCOL_UDP, 0, 0]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
            let sum = checksum([&out[start..]]);
            out[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
            [from.octets(), to.octets()].concat()
        }
        (from, to) => {
            let (from, to) = (wide(from), wide(to));
            out.extend_from_slice(&[0x60, 0, 0, 0]);
            out.extend_from_slice(&udp_len.to_be_bytes());
            out.extend_from_slice(&[PROTOCOL_UDP, 64]);
            out.extend_from_slice(&from);
            out.extend_from_slice(&to);
            [from, to].concat()
        }
    };
    let start = out.len();
    out.extend_from_slice(&packet.source.port().to_be_bytes());
    out.extend_from_slice(&packet.destination.port().to_be_bytes());
    out.extend_from_slice(&udp_len.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(packet.payload);
    // Of a packet that was cut off the sum is not known, and 0 says so.
    if packet.octets == packet.payload.len() {
        let length = [[0, PROTOCOL_UDP], udp_len.to_be_bytes()].concat();
        let sum = match checksum([&pseudo, &length, &out[start..]]) {
            0 => 0xffff,
            sum => sum,
        };
        out[start + 6..start + 8].copy_from_slice(&sum.to_be_bytes());
    }
}

fn wide(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The internet checksum over parts of even length; only the last may be odd.
fn checksum<const N: usize>(parts: [&[u8]; N]) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

const PROTOCOL_UDP: u8 = 17;
const UDP_HEADER: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let packet = Packet {
            unix_us: 5_000_007,
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            payload,
            octets: payload.len(),
        };
        write_frame(&packet, &mut out);
        out
    }

    #[test]
    fn the_sum_over_a_header_with_its_checksum_is_nothing() {
        let frame = frame("192.0.2.1:5060", "198.51.100.9:5080", b"odd");
        assert_eq!(checksum([&frame[..20]]), 0);
        let pseudo = [&frame[12..20], &[0, 17, 0, 11]].concat();
        assert_eq!(checksum([&pseudo, &frame[20..]]), 0);
        assert_eq!(frame.len(), 31);
    }

    #[test]
    fn the_same_over_ipv6() {
        let frame = frame("[2001:db8::1]:5060", "[2001:db8::2]:5080", b"even");
        let pseudo = [&frame[8..40], &[0, 17, 0, 12]].concat();
        assert_eq!(checksum([&pseudo, &frame[40..]]), 0);
        assert_eq!(frame[6], PROTOCOL_UDP);
    }

    #[test]
    fn a_packet_that_was_cut_off_says_how_long_it_was() {
        let packet = Packet {
            unix_us: 5_000_007,
            source: "192.0.2.1:5060".parse().expect("an address"),
            destination: "192.0.2.2:5060".parse().expect("an address"),
            payload: b"front",
            octets: 100,
        };
        let mut out = Vec::new();
        write(&packet, &mut out);
        let number =
            |at: usize| u32::from_le_bytes([out[at], out[at + 1], out[at + 2], out[at + 3]]);
        assert_eq!([number(0), number(4)], [5, 7]);
        assert_eq!([number(8), number(12)], [33, 128]);
        assert_eq!(out.len(), 16 + 33);
    }
}
