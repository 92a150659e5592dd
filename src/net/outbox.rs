//! The outbox: datagrams a shard wants sent, written in place into one buffer taken at start.
//!
//! A shard fills it, the driver drains it. When it is full it says so and counts; nothing grows.

use core::num::NonZeroU32;
use core::ops::Range;

use super::Flow;
use crate::base::Cursor;

/// The outbox has no room for the datagram; the caller counts the loss under its own reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// One datagram waiting to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub to: Flow,
    pub bytes: &'a [u8],
    /// A hash of the call that it is of; `None` when that is not known.
    pub call: Option<NonZeroU32>,
}

/// Datagrams to send, in order.
#[derive(Debug)]
pub struct Outbox {
    buffer: Box<[u8]>,
    used: usize,
    entries: Vec<Entry>,
    entries_max: usize,
    /// The call that what is written is of.
    call: Option<NonZeroU32>,
}

/// A datagram by its place in the buffer.
#[derive(Clone, Debug)]
struct Entry {
    to: Flow,
    call: Option<NonZeroU32>,
    range: Range<usize>,
}

impl Outbox {
    /// A UDP payload over IPv4 is never larger: 65,535 less the IP and UDP headers.
    pub const DATAGRAM_MAX: usize = 65_507;

    /// Room for `datagrams_max` datagrams of `bytes_max` octets in all.
    pub fn new(datagrams_max: usize, bytes_max: usize) -> Outbox {
        Outbox {
            buffer: vec![0; bytes_max].into_boxed_slice(),
            used: 0,
            entries: Vec::with_capacity(datagrams_max),
            entries_max: datagrams_max,
            call: None,
        }
    }

    /// What is written from here on is of the call with this hash (`None`: of any call). A driver
    /// may have datagrams of different calls overtake one another, and no others.
    pub fn of_call(&mut self, hash: Option<u64>) {
        // Any bit may be given up, where a collision only keeps an order that nobody needs.
        self.call = hash.and_then(|hash| NonZeroU32::new(hash as u32 | 1));
    }

    /// Composes one datagram in place; what `compose` wrote is sent to `to`.
    pub fn write(
        &mut self,
        to: Flow,
        compose: impl FnOnce(&mut Cursor<'_>),
    ) -> Result<&[u8], Full> {
        if self.entries.len() == self.entries_max {
            return Err(Full);
        }
        let start = self.used;
        let end = self.buffer.len().min(start + Self::DATAGRAM_MAX);
        let mut cursor = Cursor::new(&mut self.buffer[start..end]);
        compose(&mut cursor);
        if cursor.overflowed() {
            return Err(Full);
        }
        let written = start..start + cursor.len();
        self.used = written.end;
        self.entries.push(Entry {
            to,
            call: self.call,
            range: written.clone(),
        });
        Ok(&self.buffer[written])
    }

    /// Queues a copy of `bytes` for `to`.
    pub fn push(&mut self, to: Flow, bytes: &[u8]) -> Result<(), Full> {
        self.write(to, |cursor| cursor.put(bytes)).map(|_| ())
    }

    /// Takes back the datagram written last: its copy for retransmission found no room, and a
    /// request must not leave without one.
    pub fn take_back(&mut self) {
        if let Some(entry) = self.entries.pop() {
            self.used = entry.range.start;
        }
    }

    /// Whether the next large datagram might not fit: the driver drains before it delivers more.
    pub fn is_nearly_full(&self) -> bool {
        self.entries.len() + 16 > self.entries_max
            || self.used + 2 * Self::DATAGRAM_MAX > self.buffer.len()
    }

    /// The datagrams in the order they were written.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Datagram<'_>> {
        self.entries.iter().map(|entry| self.read(entry))
    }

    /// The datagram at `index`, counted from the oldest.
    pub fn datagram(&self, index: usize) -> Option<Datagram<'_>> {
        self.entries.get(index).map(|entry| self.read(entry))
    }

    fn read(&self, entry: &Entry) -> Datagram<'_> {
        Datagram {
            to: entry.to,
            bytes: &self.buffer[entry.range.clone()],
            call: entry.call,
        }
    }

    /// How many datagrams wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets everything; the driver calls this once all datagrams were handed to the kernel.
    pub fn clear(&mut self) {
        self.used = 0;
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ListenerId;

    fn flow() -> Flow {
        Flow::udp(
            ListenerId(0),
            "127.0.0.1:5060".parse().expect("a literal address"),
        )
    }

    #[test]
    fn datagrams_come_out_in_the_order_they_went_in() {
        let mut outbox = Outbox::new(4, 1024);
        outbox.push(flow(), b"one").expect("room");
        outbox
            .write(flow(), |cursor| cursor.put(b"two"))
            .expect("room");
        let texts: Vec<&[u8]> = outbox.iter().map(|datagram| datagram.bytes).collect();
        assert_eq!(texts, [b"one", b"two"]);
    }

    #[test]
    fn a_full_outbox_refuses_and_keeps_what_it_has() {
        let mut outbox = Outbox::new(2, 8);
        outbox.push(flow(), b"12345").expect("room");
        assert_eq!(outbox.push(flow(), b"6789"), Err(Full));
        outbox.push(flow(), b"678").expect("room");
        assert_eq!(outbox.push(flow(), b""), Err(Full));
        assert_eq!(outbox.len(), 2);
        outbox.clear();
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_datagram_taken_back_leaves_its_room_to_the_next() {
        let mut outbox = Outbox::new(2, 8);
        outbox.push(flow(), b"first").expect("room");
        outbox.push(flow(), b"no").expect("room");
        outbox.take_back();
        outbox.push(flow(), b"yes").expect("room");
        let texts: Vec<&[u8]> = outbox.iter().map(|datagram| datagram.bytes).collect();
        assert_eq!(texts, [b"first".as_slice(), b"yes"]);
    }
}
