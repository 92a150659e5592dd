//! STUN on the SIP port: a Binding request is answered with the address it came from.
//!
//! RFC 5389 §7, with the classic form of RFC 3489 §8, as RFC 5626 §4.4.2 asks of a SIP edge. There
//! are no credentials here: MESSAGE-INTEGRITY is not looked at. Responses and indications are not
//! answered, so that two servers cannot be set on each other. On the wire, headers counted, an
//! answer is never half as large again as its request.

use core::net::{IpAddr, SocketAddr};

use crate::base::Cursor;

/// Type, length, magic cookie, transaction id.
pub const HEADER_LEN: usize = 20;

/// Answers the Binding request in `bytes` to the peer at `source`. `None`, with nothing written,
/// when `bytes` is none that is to be answered, or `out` is too small.
pub fn answer(bytes: &[u8], source: SocketAddr, out: &mut Cursor<'_>) -> Option<()> {
    let request = Request::parse(bytes)?;
    let mut room = [0u8; ANSWER_MAX];
    let mut response = Cursor::new(&mut room);
    if request.unknown.count == 0 {
        request.compose_success(source, &mut response);
    } else {
        request.compose_unknown(&mut response);
    }
    out.put(response.written());
    (!response.overflowed() && !out.overflowed()).then_some(())
}

/// What a Binding request says that matters for the answer.
struct Request<'a> {
    /// Cookie and transaction id, or the 16 octets of a classic transaction id.
    transaction: &'a [u8],
    /// Without the cookie of RFC 5389.
    is_classic: bool,
    has_fingerprint: bool,
    unknown: Unknown,
}

/// Attribute types that must be understood and are not.
#[derive(Default)]
struct Unknown {
    types: [u16; Unknown::TYPES_MAX],
    count: usize,
}

impl Unknown {
    /// More than these are not listed: the peer learns of the rest when it asks again.
    const TYPES_MAX: usize = 8;

    fn note(&mut self, kind: u16) {
        if let Some(free) = self.types.get_mut(self.count) {
            *free = kind;
            self.count += 1;
        }
    }

    fn types(&self) -> &[u16] {
        &self.types[..self.count]
    }
}

/// One attribute: its type, its value, and where it begins in the message.
struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
    at: usize,
}

impl<'a> Request<'a> {
    //= rfc5389#7.3
    fn parse(bytes: &'a [u8]) -> Option<Request<'a>> {
        let len = usize::from(number(bytes.get(2..4)?));
        let whole = number(bytes.get(..2)?) == BINDING_REQUEST
            && len.is_multiple_of(4)
            && bytes.len() == HEADER_LEN + len;
        if !whole {
            return None;
        }
        let transaction = &bytes[4..HEADER_LEN];
        let mut request = Request {
            transaction,
            is_classic: !transaction.starts_with(&COOKIE),
            has_fingerprint: false,
            unknown: Unknown::default(),
        };
        request.read_attributes(bytes)?;
        Some(request)
    }

    fn read_attributes(&mut self, bytes: &[u8]) -> Option<()> {
        let mut at = HEADER_LEN;
        let mut sealed = false;
        while at < bytes.len() {
            let attribute = attribute(bytes, at)?;
            at += 4 + attribute.value.len().next_multiple_of(4);
            if attribute.kind == FINGERPRINT && !self.is_classic {
                self.check_fingerprint(bytes, &attribute)?;
            } else if !sealed {
                self.heed(&attribute);
            }
            //= rfc5389#15.4
            sealed |= attribute.kind == MESSAGE_INTEGRITY;
        }
        Some(())
    }

    /// A message with a wrong FINGERPRINT, or with anything behind it, is not STUN.
    //= rfc5389#15.5
    fn check_fingerprint(&mut self, bytes: &[u8], attribute: &Attribute<'_>) -> Option<()> {
        let right = fingerprint(&bytes[..attribute.at]).to_be_bytes();
        let is_last = attribute.at + FINGERPRINT_LEN == bytes.len();
        self.has_fingerprint = is_last && attribute.value == right;
        self.has_fingerprint.then_some(())
    }

    /// RESPONSE-ADDRESS and a CHANGE-REQUEST that asks for a change count as unknown: an answer
    /// from or to another address is what an attacker would want of us.
    fn heed(&mut self, attribute: &Attribute<'_>) {
        let asks_no_change = attribute.kind == CHANGE_REQUEST && attribute.value == [0; 4];
        let optional = attribute.kind >= FIRST_OPTIONAL;
        if !optional && !asks_no_change && !UNDERSTOOD.contains(&attribute.kind) {
            self.unknown.note(attribute.kind);
        }
    }

    fn compose_success(&self, source: SocketAddr, out: &mut Cursor<'_>) {
        let ip = source.ip().to_canonical();
        let value_len = if ip.is_ipv4() { 8 } else { 20 };
        self.compose_header(BINDING_SUCCESS, 4 + value_len, out);
        if self.is_classic {
            out.put(&MAPPED_ADDRESS.to_be_bytes());
            out.put(&(value_len as u16).to_be_bytes());
            put_address(ip, source.port(), &[0; 16], out);
        } else {
            out.put(&XOR_MAPPED_ADDRESS.to_be_bytes());
            out.put(&(value_len as u16).to_be_bytes());
            put_address(ip, source.port(), self.transaction, out);
        }
        self.compose_fingerprint(out);
    }

    /// 420 with an empty reason phrase: words would make the answer larger than it may be.
    //= rfc5389#7.3.1
    fn compose_unknown(&self, out: &mut Cursor<'_>) {
        let list_len = 2 * self.unknown.count;
        let padding = list_len.next_multiple_of(4) - list_len;
        self.compose_header(BINDING_ERROR, 8 + 4 + list_len + padding, out);
        out.put(&ERROR_CODE.to_be_bytes());
        out.put(&[0, 4, 0, 0, 4, 20]);
        out.put(&UNKNOWN_ATTRIBUTES.to_be_bytes());
        out.put(&(list_len as u16).to_be_bytes());
        for kind in self.unknown.types() {
            out.put(&kind.to_be_bytes());
        }
        out.put(&[0; 2][..padding]);
        self.compose_fingerprint(out);
    }

    fn compose_header(&self, kind: u16, attributes_len: usize, out: &mut Cursor<'_>) {
        let fingerprint_len = if self.has_fingerprint {
            FINGERPRINT_LEN
        } else {
            0
        };
        out.put(&kind.to_be_bytes());
        out.put(&((attributes_len + fingerprint_len) as u16).to_be_bytes());
        out.put(self.transaction);
    }

    fn compose_fingerprint(&self, out: &mut Cursor<'_>) {
        if self.has_fingerprint {
            let value = fingerprint(out.written());
            out.put(&FINGERPRINT.to_be_bytes());
            out.put(&[0, 4]);
            out.put(&value.to_be_bytes());
        }
    }
}

/// The attribute at `at`, whose padding must lie within the message too.
fn attribute(bytes: &[u8], at: usize) -> Option<Attribute<'_>> {
    let header = bytes.get(at..at + 4)?;
    let len = usize::from(number(&header[2..]));
    let padded = bytes.get(at + 4..at + 4 + len.next_multiple_of(4))?;
    Some(Attribute {
        kind: number(header),
        value: &padded[..len],
        at,
    })
}

/// A MAPPED-ADDRESS value, XORed with `mask` (RFC 5389 §15.2), which is 16 octets.
fn put_address(ip: IpAddr, port: u16, mask: &[u8], out: &mut Cursor<'_>) {
    let family = if ip.is_ipv4() { 1 } else { 2 };
    out.put(&[0, family]);
    put_masked(&port.to_be_bytes(), mask, out);
    match ip {
        IpAddr::V4(ip) => put_masked(&ip.octets(), mask, out),
        IpAddr::V6(ip) => put_masked(&ip.octets(), mask, out),
    }
}

fn put_masked(octets: &[u8], mask: &[u8], out: &mut Cursor<'_>) {
    for (octet, mask) in octets.iter().zip(mask) {
        out.put(&[octet ^ mask]);
    }
}

/// The first two octets, big-endian; the caller has looked that they are there.
fn number(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// The FINGERPRINT of a message up to that attribute; its header's length counts it already.
fn fingerprint(bytes: &[u8]) -> u32 {
    crc32(bytes) ^ 0x5354_554e
}

/// CRC-32 of ITU-T V.42.
fn crc32(bytes: &[u8]) -> u32 {
    let rest = bytes.iter().fold(u32::MAX, |rest, octet| {
        (rest >> 8) ^ CRC_TABLE[usize::from(rest as u8 ^ octet)]
    });
    !rest
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut rest = at as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = (rest >> 1) ^ ((rest & 1) * 0xedb8_8320);
            bit += 1;
        }
        table[at] = rest;
        at += 1;
    }
    table
};

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const MAPPED_ADDRESS: u16 = 0x0001;
const CHANGE_REQUEST: u16 = 0x0003;
const USERNAME: u16 = 0x0006;
const PASSWORD: u16 = 0x0007;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FIRST_OPTIONAL: u16 = 0x8000;
const FINGERPRINT: u16 = 0x8028;

/// Known, and of no meaning in a request to a server without credentials.
const UNDERSTOOD: [u16; 9] = [
    MAPPED_ADDRESS,
    USERNAME,
    PASSWORD,
    MESSAGE_INTEGRITY,
    ERROR_CODE,
    UNKNOWN_ATTRIBUTES,
    REALM,
    NONCE,
    XOR_MAPPED_ADDRESS,
];

const FINGERPRINT_LEN: usize = 8;

/// Header, ERROR-CODE, a full UNKNOWN-ATTRIBUTES, FINGERPRINT.
const ANSWER_MAX: usize = HEADER_LEN + 8 + 4 + 2 * Unknown::TYPES_MAX + FINGERPRINT_LEN;

#[cfg(test)]
mod tests;
