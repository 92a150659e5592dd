//! The messages of groups under way: a ring takes a group as sendmsg does, by a header that points to
//! its parts, its address and its control message, all of which stand here until it has left.

use super::super::address::RawAddress;
use super::super::groups::GROUP_MAX;
use super::super::send::Pass;
use super::super::sys::{self, Segments};

/// Room for the headers and parts of some groups, taken once: nothing in it ever moves.
pub(super) struct Messages {
    headers: Box<[libc::msghdr]>,
    segments: Box<[Segments]>,
    parts: Box<[libc::iovec]>,
    headers_used: usize,
    parts_used: usize,
}

impl Messages {
    /// For at most `count` groups at a time.
    pub(super) fn new(count: usize) -> Messages {
        let nothing = libc::iovec {
            iov_base: core::ptr::null_mut(),
            iov_len: 0,
        };
        Messages {
            headers: (0..count).map(|_| sys::empty_message()).collect(),
            segments: vec![Segments::new(0); count].into(),
            parts: vec![nothing; GROUP_MAX.max(2 * count)].into(),
            headers_used: 0,
            parts_used: 0,
        }
    }

    /// Forgets all of them: none is under way any more.
    pub(super) fn clear(&mut self) {
        self.headers_used = 0;
        self.parts_used = 0;
    }

    /// Whether a group of so many datagrams finds room.
    pub(super) fn has_room(&self, datagrams: usize) -> bool {
        self.headers_used < self.headers.len() && self.parts_used + datagrams <= self.parts.len()
    }

    /// The message of a group, for which there is room. It points into the outbox, to the address,
    /// and to what stands here.
    pub(super) fn compose(
        &mut self,
        pass: &Pass<'_>,
        positions: &[u32],
        address: &mut RawAddress,
    ) -> *const libc::msghdr {
        let parts = &mut self.parts[self.parts_used..][..positions.len()];
        for (part, &position) in parts.iter_mut().zip(positions) {
            let bytes = pass.datagram(position).map_or(&[][..], |(it, _)| it.bytes);
            part.iov_base = bytes.as_ptr().cast_mut().cast();
            part.iov_len = bytes.len();
        }
        let header = &mut self.headers[self.headers_used];
        *header = sys::empty_message();
        header.msg_name = address.as_mut_ptr();
        header.msg_namelen = address.len();
        header.msg_iovlen = parts.len() as _;
        let segments = &mut self.segments[self.headers_used];
        // A group is of datagrams that fit into its 64,000 octets at least three times.
        *segments = Segments::new(parts[0].iov_len as u16);
        segments.attach(header);
        header.msg_iov = parts.as_mut_ptr();
        self.headers_used += 1;
        self.parts_used += positions.len();
        &raw const *header
    }
}
