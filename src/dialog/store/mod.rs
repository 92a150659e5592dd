//! Calls in a byte region that outlives the process: a file mapped by the runtime, plain
//! memory in the simulator. No I/O and no system call here; writing a call is a copy into memory.
//!
//! A position holds two copies of one record and they are written in turn, the older one first. A
//! write that is cut off anywhere, in whatever order its octets arrive, breaks one checksum and
//! leaves the other copy: the call is as it was before the write, or as it is after it.
//!
//! Answered calls come first in a region, calls that are being set up (`setup`) behind them.

mod record;
mod setup;

pub use record::{COPY_OCTETS, End, FORKS_MAX, ForkRecord, Record, Words};
pub use setup::{
    FoundSetup, INVITE_OCTETS_MAX, SETUP_OCTETS, SetupPosition, SetupRecord, Taken, setups,
};

use core::num::NonZeroU32;

use crate::base::hash::HashKey;
use crate::base::{Cursor, Instant};
use record::{Copy, HEAD_OCTETS, Kind, generation_of, read_copy, seal};

/// The version of the format. A file of a later one is set aside, never guessed at.
pub const VERSION: u32 = 2;
/// The format without calls that are being set up; all else is the same.
const VERSION_1: u32 = 1;
/// Octets in front of the first position.
pub const FILE_HEAD_OCTETS: usize = 4096;
/// Octets of one position: both copies of a record.
pub const POSITION_OCTETS: usize = 2 * COPY_OCTETS;

const MAGIC: &[u8; 8] = b"CALLGATE";
/// Where the front stands a second time: without it nobody could tell where the answered calls end.
const SECOND_FRONT: usize = 2048;
/// Set-ups that a small region has room for, where it has room for as many answered calls.
const SETUPS_MIN: u32 = 256;

/// Turns the node's time into wall-clock time, as it was when the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wall {
    /// Microseconds since 1970 at [`Instant::START`].
    pub start_us: u64,
}

impl Wall {
    /// The wall-clock time of a moment, in microseconds since 1970.
    pub fn at(self, moment: Instant) -> u64 {
        self.start_us.saturating_add_signed(moment.offset_us())
    }
}

/// Memory that outlives the one who writes it.
pub trait Region: Send {
    /// All of it.
    fn octets(&self) -> &[u8];
    /// All of it, to be written.
    fn octets_mut(&mut self) -> &mut [u8];
}

impl Region for Vec<u8> {
    fn octets(&self) -> &[u8] {
        self
    }

    fn octets_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// A position in a region. One more than its number, so that an `Option` of it takes no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(NonZeroU32);

impl Position {
    fn at(number: u32) -> Position {
        Position(NonZeroU32::MIN.saturating_add(number))
    }

    fn number(self) -> u32 {
        self.0.get() - 1
    }
}

/// What a region's front says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// For answered calls.
    pub positions: u32,
    /// For calls that are being set up.
    pub setups: u32,
    /// Tells the key that hashed the records, without showing it.
    pub key_print: u64,
}

/// Why a region cannot be used as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFault {
    /// Its front is not one of ours; its records may be whole all the same.
    Damaged,
    /// Another version of the program wrote it.
    Version(u32),
}

impl Head {
    /// The head of a region with this many positions, hashed under this key.
    pub fn new(positions: usize, key: &HashKey) -> Head {
        // More would be terabytes: the configuration does not allow it.
        let positions = u32::try_from(positions).unwrap_or(u32::MAX);
        Head {
            positions,
            setups: Head::setups_for(positions),
            key_print: key.hash(b"callgate state"),
        }
    }

    /// One set-up for eight answered calls: ringing for 20 s before a talk of 160 s.
    fn setups_for(positions: u32) -> u32 {
        (positions / 8).max(positions.min(SETUPS_MIN))
    }

    /// How many positions have room for so many answered calls, and beside them for so many that are
    /// being set up.
    pub fn positions_for(answered: usize, setups: usize) -> usize {
        let enough = |positions: &usize| {
            let count = u32::try_from(*positions).unwrap_or(u32::MAX);
            Head::setups_for(count) as usize >= setups
        };
        let few = answered.max(setups);
        Some(few).filter(enough).unwrap_or(few.max(8 * setups))
    }

    /// How long the region must be.
    pub fn octets(&self) -> usize {
        FILE_HEAD_OCTETS
            + self.positions as usize * POSITION_OCTETS
            + self.setups as usize * SETUP_OCTETS
    }

    /// Writes the front of a region, twice.
    pub fn write(&self, region: &mut [u8]) {
        self.write_at(region.get_mut(SECOND_FRONT..).unwrap_or_default());
        self.write_at(region);
    }

    fn write_at(&self, place: &mut [u8]) {
        let mut cursor = Cursor::new(place);
        cursor.put(MAGIC);
        cursor.put(&VERSION.to_le_bytes());
        cursor.put(&self.positions.to_le_bytes());
        cursor.put(&self.key_print.to_le_bytes());
        let check = HashKey::new([1, 2]).hash(cursor.written());
        cursor.put(&check.to_le_bytes());
    }

    /// Reads the front of a region.
    pub fn read(region: &[u8]) -> Result<Head, HeadFault> {
        let front = region.first_chunk::<32>().ok_or(HeadFault::Damaged)?;
        let word = |at: usize| {
            let octets = [front[at], front[at + 1], front[at + 2], front[at + 3]];
            u32::from_le_bytes(octets)
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if &front[..8] != MAGIC || HashKey::new([1, 2]).hash(&front[..24]) != long(24) {
            return Err(HeadFault::Damaged);
        }
        let positions = word(12);
        let setups = match word(8) {
            VERSION => Head::setups_for(positions),
            VERSION_1 => 0,
            other => return Err(HeadFault::Version(other)),
        };
        Ok(Head {
            positions,
            setups,
            key_print: long(16),
        })
    }

    /// What the front of a region says, or else its second front.
    pub(in crate::dialog) fn read_either(region: &[u8]) -> Option<Head> {
        let second = || Head::read(region.get(SECOND_FRONT..).unwrap_or_default());
        Head::read(region).or_else(|_damaged| second()).ok()
    }
}

/// What one position holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    Vacant,
    Call(Record<'a>),
    /// A write was cut off and this is the call before it.
    Earlier(Record<'a>),
    /// The first write was cut off: the 2xx of this call was never passed on.
    Unfinished,
    /// Both copies are broken, or one is whole and makes no sense.
    Damaged,
}

/// How many positions of a region hold what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered ones.
    pub calls: usize,
    /// Calls that are being set up.
    pub setups: usize,
    /// Of both: read from the copy before a write that was cut off.
    pub earlier: usize,
    pub unfinished: usize,
    pub damaged: usize,
}

impl Tally {
    /// Counts one position.
    pub fn count(&mut self, found: &Found<'_>) {
        match found {
            Found::Vacant => {}
            Found::Call(_) => self.calls += 1,
            Found::Earlier(_) => {
                self.calls += 1;
                self.earlier += 1;
            }
            Found::Unfinished => self.unfinished += 1,
            Found::Damaged => self.damaged += 1,
        }
    }

    /// The sum of two regions.
    pub fn plus(self, other: Tally) -> Tally {
        Tally {
            calls: self.calls + other.calls,
            setups: self.setups + other.setups,
            earlier: self.earlier + other.earlier,
            unfinished: self.unfinished + other.unfinished,
            damaged: self.damaged + other.damaged,
        }
    }
}

/// Reads every position of a region that is for an answered call, whatever its front says.
pub fn positions(region: &[u8]) -> impl Iterator<Item = Found<'_>> {
    let all = region.get(FILE_HEAD_OCTETS..setup::setups_start(region));
    let all = all.unwrap_or_default();
    all.chunks_exact(POSITION_OCTETS).map(read_position)
}

fn read_position(position: &[u8]) -> Found<'_> {
    let (first, second) = position.split_at(COPY_OCTETS);
    let (newest, other) = match (read_copy(first), read_copy(second)) {
        (Copy::Blank, Copy::Blank) => return Found::Vacant,
        (Copy::Torn, Copy::Torn) => return Found::Damaged,
        (Copy::Torn, Copy::Blank) | (Copy::Blank, Copy::Torn) => return Found::Unfinished,
        (whole @ Copy::Whole { .. }, other @ (Copy::Blank | Copy::Torn))
        | (other @ (Copy::Blank | Copy::Torn), whole @ Copy::Whole { .. }) => (whole, other),
        (a @ Copy::Whole { .. }, b @ Copy::Whole { .. }) => {
            if generation(&a) > generation(&b) {
                (a, b)
            } else {
                (b, a)
            }
        }
    };
    let Copy::Whole { kind, body, .. } = newest else {
        return Found::Damaged;
    };
    match (kind, other) {
        (Kind::Ended, Copy::Torn) => Found::Unfinished,
        (Kind::Ended, _) => Found::Vacant,
        (Kind::Call, other) => match (Record::decode(body), other) {
            (None, _) => Found::Damaged,
            (Some(record), Copy::Torn) => Found::Earlier(record),
            (Some(record), Copy::Blank | Copy::Whole { .. }) => Found::Call(record),
        },
    }
}

fn generation(copy: &Copy<'_>) -> u64 {
    match copy {
        Copy::Whole { generation, .. } => *generation,
        Copy::Blank | Copy::Torn => 0,
    }
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub at: Position,
    /// Some words of the call had no room.
    pub is_cut: bool,
}

/// The calls of one shard, in its region.
pub struct Store {
    region: Box<dyn Region>,
    /// Free positions; the last one is taken next, so that few pages are ever touched.
    free: Vec<u32>,
    live: usize,
    /// The same of calls that are being set up, and where their positions begin.
    setups_free: Vec<u32>,
    setups_live: usize,
    setups_start: usize,
}

impl core::fmt::Debug for Store {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Store")
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Takes over a region: `take` sees each call in it and says whether it goes on; all other
    /// positions are free. What is broken is counted and wiped, so that neither an old copy nor the
    /// number of a torn one can do harm later. The list of free positions is all that a store
    /// allocates.
    pub fn open(
        mut region: Box<dyn Region>,
        mut take: impl FnMut(Position, &Record<'_>) -> bool,
    ) -> (Store, Tally) {
        let mut tally = Tally::default();
        let mut free = Vec::new();
        let mut wipe = Vec::new();
        let mut live = 0;
        for (at, found) in (0u32..).zip(positions(region.octets())) {
            tally.count(&found);
            let goes_on = match &found {
                Found::Call(record) | Found::Earlier(record) => take(Position::at(at), record),
                Found::Vacant | Found::Unfinished | Found::Damaged => false,
            };
            if goes_on {
                live += 1;
            } else {
                free.push(at);
            }
            match found {
                Found::Vacant => {}
                Found::Call(_) | Found::Earlier(_) if goes_on => wipe.push((at, Wipe::TornCopy)),
                _ => wipe.push((at, Wipe::All)),
            }
        }
        for (at, what) in wipe {
            if let Some(position) = octets_at(region.octets_mut(), Position::at(at)) {
                what.carry_out(position);
            }
        }
        free.reverse();
        // Room for all positions: a call that ends must not grow the list.
        free.reserve_exact(live);
        let store = Store {
            region,
            free,
            live,
            setups_free: Vec::new(),
            setups_live: 0,
            setups_start: 0,
        };
        (store, tally)
    }

    /// Writes a call to its position, or to a free one; `None` when there is none.
    pub fn write(&mut self, at: Option<Position>, record: &Record<'_>) -> Option<Written> {
        let at = match at {
            Some(at) => at,
            None => {
                let at = Position::at(self.free.pop()?);
                self.live += 1;
                at
            }
        };
        let octets = octets_at(self.region.octets_mut(), at)?;
        let (copy, generation) = next_copy(octets, COPY_OCTETS)?;
        let mut cursor = Cursor::new(&mut copy[HEAD_OCTETS..]);
        let is_whole = record.encode(&mut cursor);
        let len = HEAD_OCTETS + cursor.len();
        seal(copy, len, Kind::Call, generation);
        Some(Written {
            at,
            is_cut: !is_whole,
        })
    }

    /// Notes that the call at a position has ended, and frees the position.
    pub fn end(&mut self, at: Position) {
        let octets = octets_at(self.region.octets_mut(), at);
        if let Some((copy, generation)) = octets.and_then(|octets| next_copy(octets, COPY_OCTETS)) {
            seal(copy, HEAD_OCTETS, Kind::Ended, generation);
            self.free.push(at.number());
            self.live -= 1;
        }
    }

    /// Number of calls in the region.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether the region holds no call.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Gives the region back.
    pub fn into_region(self) -> Box<dyn Region> {
        self.region
    }
}

/// What of a position is wiped when a region is opened.
#[derive(Clone, Copy)]
enum Wipe {
    All,
    TornCopy,
}

impl Wipe {
    fn carry_out(self, position: &mut [u8]) {
        for copy in position.chunks_exact_mut(COPY_OCTETS) {
            let wiped = match self {
                Wipe::All => true,
                Wipe::TornCopy => read_copy(copy) == Copy::Torn,
            };
            if wiped {
                copy.fill(0);
            }
        }
    }
}

fn octets_at(region: &mut [u8], at: Position) -> Option<&mut [u8]> {
    let start = FILE_HEAD_OCTETS + at.number() as usize * POSITION_OCTETS;
    region.get_mut(start..start + POSITION_OCTETS)
}

/// The older copy of a position, and the generation that makes it the newer one.
fn next_copy(copies: &mut [u8], copy_octets: usize) -> Option<(&mut [u8], u64)> {
    let (first, second) = copies.split_at_mut_checked(copy_octets)?;
    let (a, b) = (generation_of(first), generation_of(second));
    Some(if a <= b {
        (first, b.wrapping_add(1))
    } else {
        (second, a.wrapping_add(1))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::record::tests::record;
    use super::*;

    const KEY: HashKey = HashKey::new([3, 4]);

    pub(super) fn region(positions: usize) -> Vec<u8> {
        let head = Head::new(positions, &KEY);
        let mut region = vec![0; head.octets()];
        head.write(&mut region);
        region
    }

    fn open(region: Vec<u8>) -> (Store, Vec<u64>, Tally) {
        let mut found = Vec::new();
        let (store, tally) = Store::open(Box::new(region), |_, record| {
            found.push(record.call_id);
            true
        });
        (store, found, tally)
    }

    fn bytes(store: Store) -> Vec<u8> {
        store.into_region().octets().to_vec()
    }

    fn calls(region: &[u8]) -> Vec<Found<'_>> {
        positions(region)
            .filter(|found| *found != Found::Vacant)
            .collect()
    }

    #[test]
    fn calls_are_found_again_until_they_end() {
        let (mut store, _, _) = open(region(3));
        let first = store.write(None, &record(1)).expect("room").at;
        let second = store.write(None, &record(2)).expect("room").at;
        store.write(Some(first), &record(1)).expect("room");
        store.end(second);
        let (store, found, tally) = open(bytes(store));
        assert_eq!(found, [1]);
        assert_eq!(tally.calls, 1);
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn positions_are_used_again_and_the_last_call_finds_no_room() {
        let (mut store, _, _) = open(region(2));
        for round in 0..50 {
            let a = store.write(None, &record(round)).expect("room").at;
            let b = store.write(None, &record(round)).expect("room").at;
            assert_eq!(store.write(None, &record(9)), None);
            store.end(a);
            store.end(b);
        }
        assert!(store.is_empty());
    }

    /// Applies the differences between two regions one octet at a time, forwards and backwards.
    pub(super) fn every_cut(before: &[u8], after: &[u8], mut check: impl FnMut(&[u8])) {
        let changed: Vec<usize> = (0..before.len())
            .filter(|at| before[*at] != after[*at])
            .collect();
        let backwards: Vec<usize> = changed.iter().rev().copied().collect();
        for order in [changed, backwards] {
            let mut region = before.to_vec();
            for at in order {
                check(&region);
                region[at] = after[at];
            }
            assert_eq!(region, after);
        }
    }

    #[test]
    fn a_rewrite_that_is_cut_off_anywhere_leaves_the_call_as_it_was() {
        let (mut store, _, _) = open(region(1));
        let at = store.write(None, &record(1)).expect("room").at;
        for cseq in 8..12 {
            let earlier = store.region.octets().to_vec();
            let mut changed = record(1);
            changed.forks[0].caller_cseq = Some(cseq);
            changed.invite_cseq = cseq;
            store.write(Some(at), &changed).expect("room");
            every_cut(&earlier, store.region.octets(), |region| {
                let found = calls(region);
                let [Found::Call(kept) | Found::Earlier(kept)] = found.as_slice() else {
                    panic!("{found:?}");
                };
                assert_eq!(kept.invite_cseq, cseq - 1);
            });
        }
    }

    #[test]
    fn the_number_of_a_torn_copy_does_not_lead_the_next_write_to_the_whole_one() {
        let (mut store, _, _) = open(region(1));
        let at = store.write(None, &record(1)).expect("room").at;
        store.write(Some(at), &record(1)).expect("room");
        let mut torn = bytes(store);
        torn[FILE_HEAD_OCTETS + 8..FILE_HEAD_OCTETS + 16].fill(0xff);
        let (mut store, found, tally) = open(torn);
        assert_eq!((found.as_slice(), tally.earlier), (&[1][..], 1));
        let earlier = store.region.octets().to_vec();
        store.write(Some(at), &record(1)).expect("room");
        every_cut(&earlier, store.region.octets(), |region| {
            assert_eq!(calls(region).len(), 1);
        });
    }

    #[test]
    fn a_call_that_is_not_taken_over_frees_its_position() {
        let (mut store, _, _) = open(region(1));
        store.write(None, &record(1)).expect("room");
        let (mut store, _) = Store::open(store.into_region(), |_, _| false);
        assert!(store.is_empty());
        assert!(store.write(None, &record(2)).is_some());
    }

    #[test]
    fn a_first_write_that_is_cut_off_is_no_call() {
        let (store, _, _) = open(region(1));
        let blank = bytes(store);
        let (mut store, _, _) = open(blank.clone());
        let at = store.write(None, &record(1)).expect("room").at;
        every_cut(&blank, store.region.octets(), |region| {
            assert!(matches!(calls(region).as_slice(), [] | [Found::Unfinished]));
        });
        store.end(at);
        let used = store.region.octets().to_vec();
        store.write(None, &record(2)).expect("room");
        every_cut(&used, store.region.octets(), |region| {
            assert!(matches!(calls(region).as_slice(), [] | [Found::Unfinished]));
        });
    }

    #[test]
    fn an_end_that_is_cut_off_leaves_the_call() {
        let (mut store, _, _) = open(region(1));
        let at = store.write(None, &record(1)).expect("room").at;
        store.write(Some(at), &record(1)).expect("room");
        let live = store.region.octets().to_vec();
        store.end(at);
        every_cut(&live, store.region.octets(), |region| {
            assert!(matches!(
                calls(region).as_slice(),
                [Found::Call(_) | Found::Earlier(_)]
            ));
        });
        assert!(calls(store.region.octets()).is_empty());
    }

    #[test]
    fn damage_is_found_and_wiped() {
        let (mut store, _, _) = open(region(2));
        let at = store.write(None, &record(1)).expect("room").at;
        store.write(Some(at), &record(1)).expect("room");
        store.write(None, &record(2)).expect("room");
        let mut damaged = bytes(store);
        for copy in 0..2 {
            damaged[FILE_HEAD_OCTETS + copy * COPY_OCTETS + 100] ^= 1;
        }
        let (store, found, tally) = open(damaged);
        assert_eq!(found, [2]);
        assert_eq!((tally.calls, tally.damaged), (1, 1));
        let (_, _, tally) = open(bytes(store));
        assert_eq!(tally.damaged, 0);
    }

    #[test]
    fn a_region_cut_short_gives_the_calls_that_are_left() {
        let (mut store, _, _) = open(region(3));
        for call in 1..=3 {
            store.write(None, &record(call)).expect("room");
        }
        let whole = bytes(store);
        let end = FILE_HEAD_OCTETS + 3 * POSITION_OCTETS;
        let (_, found, _) = open(whole[..end].to_vec());
        assert_eq!(found, [1, 2, 3]);
        let (_, found, _) = open(whole[..end - 1].to_vec());
        assert_eq!(found, [1, 2]);
        assert_eq!(open(whole[..100].to_vec()).1, [0u64; 0]);
    }

    #[test]
    fn the_front_tells_version_and_damage() {
        let mut region = region(2);
        assert_eq!(Head::read(&region), Ok(Head::new(2, &KEY)));
        assert_ne!(Head::new(2, &KEY), Head::new(2, &HashKey::new([5, 6])));
        region[9] ^= 1;
        assert_eq!(Head::read(&region), Err(HeadFault::Damaged));
        let check = HashKey::new([1, 2]).hash(&region[..24]);
        region[24..32].copy_from_slice(&check.to_le_bytes());
        assert_eq!(Head::read(&region), Err(HeadFault::Version(VERSION ^ 256)));
        assert_eq!(Head::read(b"CALL"), Err(HeadFault::Damaged));
    }

    #[test]
    fn a_region_of_the_first_format_has_no_set_ups_and_its_calls_are_read() {
        let (mut store, _, _) = open(region(2));
        store.write(None, &record(1)).expect("room");
        let mut older = bytes(store);
        older.truncate(FILE_HEAD_OCTETS + 2 * POSITION_OCTETS);
        older[8] = 1;
        let check = HashKey::new([1, 2]).hash(&older[..24]);
        older[24..32].copy_from_slice(&check.to_le_bytes());
        let head = Head::read(&older).expect("a head");
        assert_eq!((head.positions, head.setups), (2, 0));
        assert_eq!(head.octets(), older.len());
        assert_eq!(open(older).1, [1]);
    }

    #[test]
    fn behind_a_damaged_front_the_second_one_tells_where_the_set_ups_are() {
        let (mut store, _, _) = open(region(2));
        store.write(None, &record(1)).expect("room");
        let mut damaged = bytes(store);
        damaged[..32].fill(0xff);
        assert_eq!(Head::read(&damaged), Err(HeadFault::Damaged));
        assert_eq!(
            (positions(&damaged).count(), setups(&damaged).count()),
            (2, 2)
        );
        damaged[SECOND_FRONT] ^= 1;
        assert_eq!(calls(&damaged).len(), 1);
        assert_eq!(setups(&damaged).count(), 0);
    }
}
