//! Socket addresses as the kernel lays them out, encoded and decoded as octets.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Octets of the largest address we use: `sockaddr_in6`.
pub(super) const ADDRESS_MAX: usize = 28;

const V4_LEN: usize = 16;

/// A `sockaddr_in` or `sockaddr_in6`, aligned as the kernel's headers have it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4))]
pub(super) struct RawAddress {
    bytes: [u8; ADDRESS_MAX],
    len: u8,
}

impl RawAddress {
    /// No address; receives one.
    pub(super) const EMPTY: RawAddress = RawAddress {
        bytes: [0; ADDRESS_MAX],
        len: 0,
    };

    /// The kernel's form of `address`.
    pub(super) fn new(address: SocketAddr) -> RawAddress {
        let mut raw = RawAddress::EMPTY;
        raw.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => {
                raw.put_family(libc::AF_INET);
                raw.bytes[4..8].copy_from_slice(&v4.ip().octets());
                raw.len = V4_LEN as u8;
            }
            SocketAddr::V6(v6) => {
                raw.put_family(libc::AF_INET6);
                raw.bytes[8..24].copy_from_slice(&v6.ip().octets());
                raw.bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                raw.len = ADDRESS_MAX as u8;
            }
        }
        raw
    }

    fn put_family(&mut self, family: libc::c_int) {
        // Both family numbers are below 256.
        self.bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.bytes.as_mut_ptr().cast()
    }

    /// Its length for the kernel.
    pub(super) fn len(&self) -> libc::socklen_t {
        libc::socklen_t::from(self.len)
    }

    /// The address that the kernel wrote, `len` octets long; `None` for a family we do not speak.
    pub(super) fn received(&self, len: usize) -> Option<SocketAddr> {
        decode(&self.bytes[..len.min(ADDRESS_MAX)])
    }
}

/// Reads an address that the kernel wrote.
pub(super) fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), port))
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
            let address = SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope);
            Some(SocketAddr::V6(address))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_kernels_layout() {
        for text in ["192.0.2.1:5060", "[2001:db8::1]:5061", "[fe80::1%3]:5060"] {
            let address: SocketAddr = text.parse().expect("an address");
            let raw = RawAddress::new(address);
            assert_eq!(raw.received(raw.len() as usize), Some(address));
            let theirs = socket2::SockAddr::from(address);
            assert_eq!(theirs.len(), raw.len());
        }
    }

    #[test]
    fn what_is_short_or_of_another_family_is_no_address() {
        let raw = RawAddress::new("192.0.2.1:5060".parse().expect("an address"));
        assert_eq!(raw.received(7), None);
        assert_eq!(decode(&[1, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(decode(&[]), None);
    }
}
