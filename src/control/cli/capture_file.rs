//! Requests out of a capture, pcap or pcapng: what routing looks at, each different one once.
//!
//! A file is read in pieces and never wholly in memory; packets that are no request over UDP are
//! counted by what they are. Recorded octets are as hostile as those of the wire.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use crate::control::answers::RecordedRequest;
use crate::sip::{self, Method, Scratch, Uri};

/// What a capture holds.
#[derive(Default)]
pub struct Recorded {
    pub packets: u64,
    /// How often each request was recorded.
    pub requests: BTreeMap<RecordedRequest, u64>,
    /// Packets that were left out, by why.
    pub skipped: BTreeMap<&'static str, u64>,
}

/// Different requests that are kept.
const REQUESTS_MAX: usize = 100_000;
/// More than the largest packet; a block that does not fit is no packet.
const BUFFER: usize = 1 << 20;
/// Packets after which nobody waits any longer.
const PACKETS_MAX: u64 = 50_000_000;
const FIELDS_MAX: usize = 256;

/// Reads a capture; an error is a line for a person.
pub fn requests(path: &Path) -> Result<Recorded, String> {
    let name = path.display();
    let file = File::open(path).map_err(|fault| format!("{name}: cannot be read: {fault}"))?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(format!("{name}: is no file"));
    }
    let no_capture = |_| format!("{name}: is no capture: neither pcap nor pcapng");
    let mut reader = create_reader(BUFFER, file).map_err(no_capture)?;
    let mut recorded = Recorded::default();
    let mut links: Vec<Linktype> = Vec::new();
    let mut incomplete_at = None;
    while recorded.packets < PACKETS_MAX {
        match reader.next() {
            Ok((octets, block)) => {
                recorded.take_block(&block, &mut links);
                reader.consume(octets);
                incomplete_at = None;
            }
            Err(PcapError::Eof) => return Ok(recorded),
            // Nothing new since it was incomplete: the file was cut off.
            Err(PcapError::Incomplete(_)) if incomplete_at == Some(recorded.packets) => {
                recorded.skip("the capture is cut off");
                return Ok(recorded);
            }
            Err(PcapError::Incomplete(_)) => {
                incomplete_at = Some(recorded.packets);
                reader
                    .refill()
                    .map_err(|fault| format!("{name}: {fault}"))?;
            }
            Err(_) => {
                recorded.skip("from here on the capture is damaged");
                return Ok(recorded);
            }
        }
    }
    recorded.skip("after fifty million packets");
    Ok(recorded)
}

impl Recorded {
    /// Requests, each as often as it was recorded.
    pub fn count(&self) -> u64 {
        self.requests.values().sum()
    }

    fn skip(&mut self, why: &'static str) {
        *self.skipped.entry(why).or_default() += 1;
    }

    fn take_block(&mut self, block: &PcapBlockOwned<'_>, links: &mut Vec<Linktype>) {
        match block {
            PcapBlockOwned::LegacyHeader(header) => *links = vec![header.network],
            PcapBlockOwned::Legacy(packet) => {
                self.take_packet(links.first().copied(), packet.data);
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => links.clear(),
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                links.push(interface.linktype);
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let link = links.get(packet.if_id as usize).copied();
                let data = packet
                    .data
                    .get(..packet.caplen as usize)
                    .unwrap_or(packet.data);
                self.take_packet(link, data);
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                self.take_packet(links.first().copied(), packet.data);
            }
            PcapBlockOwned::NG(_) => {}
        }
    }

    fn take_packet(&mut self, link: Option<Linktype>, data: &[u8]) {
        self.packets += 1;
        match request(link, data) {
            Ok(request) => {
                let is_full = self.requests.len() >= REQUESTS_MAX;
                if is_full && !self.requests.contains_key(&request) {
                    self.skip("more than 100,000 different requests");
                } else {
                    *self.requests.entry(request).or_default() += 1;
                }
            }
            Err(why) => self.skip(why),
        }
    }
}

fn request(link: Option<Linktype>, data: &[u8]) -> Result<RecordedRequest, &'static str> {
    const OTHER: &str = "neither IPv4 nor IPv6";
    let sliced = match link {
        Some(Linktype::ETHERNET) => SlicedPacket::from_ethernet(data),
        Some(Linktype::LINUX_SLL) => SlicedPacket::from_linux_sll(data),
        // A header of twenty octets, and one that only tells the family.
        Some(Linktype::LINUX_SLL2) => SlicedPacket::from_ip(data.get(20..).ok_or(OTHER)?),
        Some(Linktype::NULL | Linktype::LOOP) => SlicedPacket::from_ip(data.get(4..).ok_or(OTHER)?),
        Some(Linktype::RAW | Linktype::IPV4 | Linktype::IPV6) => SlicedPacket::from_ip(data),
        Some(_) | None => return Err("of a kind of link that is not known here"),
    };
    let sliced = sliced.map_err(|_| "damaged, or not IP")?;
    let ip: IpAddr = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) if ip.is_payload_fragmented() => return Err("a fragment"),
        Some(NetSlice::Ipv6(ip)) if ip.is_payload_fragmented() => return Err("a fragment"),
        Some(NetSlice::Ipv4(ip)) => ip.header().source_addr().into(),
        Some(NetSlice::Ipv6(ip)) => ip.header().source_addr().into(),
        Some(NetSlice::Arp(_)) | None => return Err(OTHER),
    };
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else {
        return Err("not UDP");
    };
    routed_by(SocketAddr::new(ip, udp.source_port()), udp.payload())
}

/// What routing looks at, of a request that begins something.
fn routed_by(source: SocketAddr, payload: &[u8]) -> Result<RecordedRequest, &'static str> {
    let mut scratch = Scratch::new(FIELDS_MAX);
    let message = sip::parse(payload, &mut scratch).map_err(|_| "no SIP message")?;
    if !message.is_request() {
        return Err("a SIP response");
    }
    let is_inside = message.to_tag().is_some();
    if is_inside || matches!(message.method(), Method::Ack | Method::Cancel) {
        return Err("a request inside a dialog or transaction");
    }
    let text = message.request_uri();
    let uri = Uri::parse(text).map_err(|_| "a request with a bad URI")?;
    let words = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    Ok(RecordedRequest {
        source: source.to_string(),
        user: words(uri.user.unwrap_or_default()),
        is_number: uri.is_number(),
        domain: words(uri.host_text(text)),
    })
}
