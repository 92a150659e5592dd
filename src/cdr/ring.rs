//! The ring between a shard and the writer of call detail records: fixed places in memory that may
//! outlive the process, one producer, one consumer, no lock and no system call.
//!
//! All of it is words of atomic memory, since two threads look at it, and so does a process that comes
//! after a crash. A place is written whole, under a checksum, before the head moves over it; the tail
//! moves when its record is in the file. What lies between the two after a crash is written again.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use super::record::Cdr;
use crate::base::hash::HashKey;

/// Octets of one place.
pub const SLOT_OCTETS: usize = 2048;
const SLOT_WORDS: usize = SLOT_OCTETS / 8;
/// Words in front of the first place: one page.
const HEAD_WORDS: usize = 512;
/// Words in front of a record: checksum, position, length.
const MARK_WORDS: usize = 3;
const BODY_OCTETS: usize = SLOT_OCTETS - 8 * MARK_WORDS;

const MAGIC: u64 = u64::from_le_bytes(*b"CALLGCDR");
/// The version of the format.
const VERSION: u64 = 1;

// Places in the head, each writer's on cache lines of its own.
const AT_MAGIC: usize = 0;
const AT_VERSION: usize = 1;
const AT_SLOTS: usize = 2;
const AT_HEAD: usize = 16;
const AT_SEQUENCE: usize = 17;
const AT_TAIL: usize = 32;

/// Not a secret: it guards against accidents, not against those who can write the file.
const CHECK: HashKey = HashKey::new([0x6361_6c6c_6761_7465, 0x6364_722d_7269_6e67]);

/// Memory that two threads share, and that may be a file.
pub trait Memory: Send + Sync {
    /// All of it.
    fn words(&self) -> &[AtomicU64];
}

impl Memory for Vec<AtomicU64> {
    fn words(&self) -> &[AtomicU64] {
        self
    }
}

/// Why memory cannot be used as a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingFault {
    /// It is no ring, or shorter than it says.
    Damaged,
    Version(u64),
}

/// A ring in its memory.
#[derive(Clone)]
pub struct Ring {
    memory: Arc<dyn Memory>,
    slots: u64,
}

impl Ring {
    /// Octets of memory for so many records.
    pub const fn octets(slots: usize) -> usize {
        8 * HEAD_WORDS + slots * SLOT_OCTETS
    }

    /// An empty ring in memory of this process alone.
    pub fn in_memory(slots: usize) -> Ring {
        let words = Ring::octets(slots) / 8;
        let memory: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
        Ring::create(Arc::new(memory))
    }

    /// Makes an empty ring of as many places as the memory has room for.
    pub fn create(memory: Arc<dyn Memory>) -> Ring {
        let words = memory.words();
        let slots = words.len().saturating_sub(HEAD_WORDS) / SLOT_WORDS;
        for word in words.iter().take(HEAD_WORDS) {
            word.store(0, Ordering::Relaxed);
        }
        for (at, value) in [
            (AT_MAGIC, MAGIC),
            (AT_VERSION, VERSION),
            (AT_SLOTS, slots as u64),
        ] {
            if let Some(word) = words.get(at) {
                word.store(value, Ordering::Relaxed);
            }
        }
        Ring {
            memory,
            slots: slots as u64,
        }
    }

    /// Takes over a ring as it was left. Positions that make no sense are put right: nothing is
    /// lost that was whole, and a damaged place is found by its checksum.
    pub fn open(memory: Arc<dyn Memory>) -> Result<Ring, RingFault> {
        let words = memory.words();
        let word = |at: usize| words.get(at).map_or(0, |word| word.load(Ordering::Acquire));
        if word(AT_MAGIC) != MAGIC {
            return Err(RingFault::Damaged);
        }
        if word(AT_VERSION) != VERSION {
            return Err(RingFault::Version(word(AT_VERSION)));
        }
        let slots = word(AT_SLOTS);
        let room = words.len().saturating_sub(HEAD_WORDS) / SLOT_WORDS;
        if slots != room as u64 || slots == 0 {
            return Err(RingFault::Damaged);
        }
        let (head, tail) = (word(AT_HEAD), word(AT_TAIL));
        if tail > head || head - tail > slots {
            words[AT_TAIL].store(head.saturating_sub(slots), Ordering::Release);
        }
        Ok(Ring { memory, slots })
    }

    /// How many records it has room for.
    pub fn slots(&self) -> usize {
        self.slots as usize
    }

    /// Records that wait for the writer.
    pub fn pending(&self) -> u64 {
        self.head().saturating_sub(self.tail())
    }

    /// Position behind the newest record.
    pub fn head(&self) -> u64 {
        self.word(AT_HEAD).load(Ordering::Acquire)
    }

    /// Position of the oldest record that must still be written.
    pub fn tail(&self) -> u64 {
        self.word(AT_TAIL).load(Ordering::Acquire)
    }

    /// Gives the places in front of this position to the producer again.
    pub fn advance(&self, tail: u64) {
        self.word(AT_TAIL).store(tail, Ordering::Release);
    }

    /// The writing end; one thread at a time may have it.
    pub fn producer(&self) -> Producer {
        Producer {
            ring: self.clone(),
            scratch: [0; BODY_OCTETS],
        }
    }

    /// Copies the record at a position into `buffer`.
    pub fn read<'b>(&self, position: u64, buffer: &'b mut [u8; SLOT_OCTETS]) -> Read<'b> {
        if position >= self.head() {
            return Read::Empty;
        }
        let place = self.place(position);
        let mark = |at: usize| place[at].load(Ordering::Relaxed);
        let (check, len) = (mark(0), mark(2) as usize);
        if mark(1) != position || len > BODY_OCTETS {
            return Read::Damaged;
        }
        let octets_read = buffer[..len.next_multiple_of(8)].chunks_exact_mut(8);
        for (word, octets) in place[MARK_WORDS..].iter().zip(octets_read) {
            octets.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        let body = &buffer[..len];
        if check != checksum(position, body) {
            return Read::Damaged;
        }
        match Cdr::decode(body) {
            Some(cdr) => Read::Record(Box::new(cdr)),
            None => Read::Damaged,
        }
    }

    fn place(&self, position: u64) -> &[AtomicU64] {
        let start = HEAD_WORDS + (position % self.slots) as usize * SLOT_WORDS;
        &self.memory.words()[start..start + SLOT_WORDS]
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.memory.words()[at]
    }
}

impl core::fmt::Debug for Ring {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ring")
            .field("slots", &self.slots)
            .field("head", &self.head())
            .field("tail", &self.tail())
            .finish()
    }
}

fn checksum(position: u64, body: &[u8]) -> u64 {
    let mut hasher = CHECK.hasher();
    hasher.write_u64(position);
    hasher.write(body);
    hasher.finish()
}

/// What is found at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<'b> {
    /// Nothing was written there yet.
    Empty,
    Record(Box<Cdr<'b>>),
    /// What was written did not outlive the host whole, or another version wrote it.
    Damaged,
}

/// What a push came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    pub sequence: u64,
    /// Some text had no room.
    pub is_cut: bool,
}

/// The ring has no free place: the record is gone, and its sequence number with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The shard's end of a ring.
#[derive(Debug)]
pub struct Producer {
    ring: Ring,
    scratch: [u8; BODY_OCTETS],
}

impl Producer {
    /// Puts a record into the ring, under the next sequence number. One that finds no place takes its
    /// number with it, so that the gap shows in the file.
    pub fn push(&mut self, cdr: &mut Cdr<'_>) -> Result<Pushed, Full> {
        let ring = &self.ring;
        let sequence = ring.word(AT_SEQUENCE).load(Ordering::Relaxed) + 1;
        ring.word(AT_SEQUENCE).store(sequence, Ordering::Relaxed);
        cdr.sequence = sequence;
        let head = ring.word(AT_HEAD).load(Ordering::Relaxed);
        if head.saturating_sub(ring.tail()) >= ring.slots {
            return Err(Full);
        }
        let len = cdr.encode(&mut self.scratch);
        let is_cut = self.scratch[len - 1] != 0;
        let place = ring.place(head);
        let marks = [checksum(head, &self.scratch[..len]), head, len as u64];
        for (word, mark) in place.iter().zip(marks) {
            word.store(mark, Ordering::Relaxed);
        }
        let words = self.scratch[..len.next_multiple_of(8)].chunks_exact(8);
        for (word, octets) in place[MARK_WORDS..].iter().zip(words) {
            let octets: [u8; 8] = octets.try_into().unwrap_or_default();
            word.store(u64::from_le_bytes(octets), Ordering::Relaxed);
        }
        // Release: whoever sees the new head sees the place as well.
        ring.word(AT_HEAD).store(head + 1, Ordering::Release);
        Ok(Pushed { sequence, is_cut })
    }

    /// The ring that it writes to.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::full;
    use super::*;

    fn numbered(id: u64) -> Cdr<'static> {
        Cdr {
            attempt_id: id,
            ..full()
        }
    }

    fn ids(ring: &Ring) -> Vec<(u64, u64)> {
        let mut buffer = [0; SLOT_OCTETS];
        let mut found = Vec::new();
        for position in ring.tail()..ring.head() {
            if let Read::Record(cdr) = ring.read(position, &mut buffer) {
                found.push((cdr.attempt_id, cdr.sequence));
            }
        }
        found
    }

    #[test]
    fn records_come_out_in_order_and_places_are_used_again() {
        let ring = Ring::in_memory(3);
        let mut producer = ring.producer();
        for id in 1..=50 {
            producer.push(&mut numbered(id)).expect("room");
            assert_eq!(ids(&ring), [(id, id)]);
            ring.advance(ring.head());
        }
        assert_eq!(ring.pending(), 0);
        let mut buffer = [0; SLOT_OCTETS];
        assert_eq!(ring.read(ring.head(), &mut buffer), Read::Empty);
    }

    #[test]
    fn a_full_ring_takes_nothing_and_the_sequence_shows_the_gap() {
        let ring = Ring::in_memory(2);
        let mut producer = ring.producer();
        for id in 1..=2 {
            producer.push(&mut numbered(id)).expect("room");
        }
        assert_eq!(producer.push(&mut numbered(3)), Err(Full));
        ring.advance(ring.tail() + 1);
        producer.push(&mut numbered(4)).expect("room");
        assert_eq!(ids(&ring), [(2, 2), (4, 4)]);
    }

    #[test]
    fn a_ring_that_was_left_goes_on_where_it_stood() {
        let memory: Arc<Vec<AtomicU64>> = Arc::new(
            (0..Ring::octets(4) / 8)
                .map(|_| AtomicU64::new(0))
                .collect(),
        );
        let ring = Ring::create(Arc::<Vec<AtomicU64>>::clone(&memory));
        let mut producer = ring.producer();
        for id in 1..=3 {
            producer.push(&mut numbered(id)).expect("room");
        }
        ring.advance(1);
        drop((ring, producer));
        let ring = Ring::open(memory).expect("a ring");
        assert_eq!(ids(&ring), [(2, 2), (3, 3)]);
        ring.producer().push(&mut numbered(9)).expect("room");
        assert_eq!(ids(&ring), [(2, 2), (3, 3), (9, 4)]);
    }

    #[test]
    fn a_torn_place_is_damage_and_its_neighbours_are_whole() {
        let ring = Ring::in_memory(4);
        let mut producer = ring.producer();
        for id in 1..=3 {
            producer.push(&mut numbered(id)).expect("room");
        }
        for at in 0..SLOT_WORDS {
            let word = &ring.place(1)[at];
            let before = word.load(Ordering::Relaxed);
            word.store(before ^ 0x0100, Ordering::Relaxed);
            let mut buffer = [0; SLOT_OCTETS];
            let len = ring.place(1)[2].load(Ordering::Relaxed) as usize;
            let is_used = at < MARK_WORDS + len.div_ceil(8) - 1;
            if is_used {
                assert_eq!(ring.read(1, &mut buffer), Read::Damaged, "word {at}");
                assert_eq!(ids(&ring), [(1, 1), (3, 3)]);
            }
            word.store(before, Ordering::Relaxed);
        }
        assert_eq!(ids(&ring).len(), 3);
    }

    #[test]
    fn positions_that_make_no_sense_are_put_right() {
        let memory: Arc<Vec<AtomicU64>> = Arc::new(
            (0..Ring::octets(2) / 8)
                .map(|_| AtomicU64::new(0))
                .collect(),
        );
        let ring = Ring::create(Arc::<Vec<AtomicU64>>::clone(&memory));
        ring.producer().push(&mut numbered(1)).expect("room");
        for tail in [7, u64::MAX] {
            ring.advance(tail);
            let ring = Ring::open(Arc::<Vec<AtomicU64>>::clone(&memory)).expect("a ring");
            assert_eq!(ids(&ring), [(1, 1)]);
        }
        memory[AT_SLOTS].store(3, Ordering::Relaxed);
        let open = |memory: &Arc<Vec<AtomicU64>>| {
            Ring::open(Arc::<Vec<AtomicU64>>::clone(memory)).map(|ring| ring.slots())
        };
        assert_eq!(open(&memory), Err(RingFault::Damaged));
        memory[AT_SLOTS].store(2, Ordering::Relaxed);
        memory[AT_VERSION].store(9, Ordering::Relaxed);
        assert_eq!(open(&memory), Err(RingFault::Version(9)));
        memory[AT_MAGIC].store(0, Ordering::Relaxed);
        assert_eq!(open(&memory), Err(RingFault::Damaged));
    }

    #[test]
    fn two_threads_pass_every_record() {
        let ring = Ring::in_memory(8);
        let mut producer = ring.producer();
        let writing = std::thread::Builder::new()
            .spawn(move || {
                let mut sent = 0u64;
                while sent < 5_000 {
                    let mut cdr = numbered(sent);
                    if producer.push(&mut cdr).is_ok() {
                        sent += 1;
                    } else {
                        std::thread::yield_now();
                    }
                }
            })
            .expect("a thread");
        let mut buffer = [0; SLOT_OCTETS];
        let mut next = 0u64;
        while next < 5_000 {
            match ring.read(ring.tail(), &mut buffer) {
                Read::Record(cdr) => {
                    assert_eq!(cdr.attempt_id, next);
                    next += 1;
                    ring.advance(ring.tail() + 1);
                }
                Read::Empty => std::thread::yield_now(),
                Read::Damaged => panic!("a torn record was seen"),
            }
        }
        writing.join().expect("no panic");
    }
}
