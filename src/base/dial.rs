//! A timing wheel for records that have one timer each: the timer is part of the record, eight
//! octets of it, and the dial keeps nothing but the ends of its lists.
//!
//! Four levels of 256 slots, as in the [`wheel`](super::wheel), with ticks of a tenth of a second:
//! for what takes minutes and hours. A timer lies in the level of the highest octet in which its
//! tick differs from the dial's, so that where it lies is known from its tick alone. 2^32 ticks are
//! 13 years; what is later comes then.

use core::num::NonZeroU32;

use super::time::Instant;

/// A moment in ticks since the start, rounded up; none is no room more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(NonZeroU32);

impl Tick {
    /// Microseconds of one.
    pub const US: u64 = 100_000;

    /// The first tick that is not before `at`.
    pub fn of(at: Instant) -> Tick {
        let number = at.as_micros().div_ceil(Tick::US);
        let number = u32::try_from(number).unwrap_or(u32::MAX - 1);
        Tick(NonZeroU32::MIN.saturating_add(number))
    }

    /// The moment of a tick.
    pub fn at(self) -> Instant {
        Instant::from_micros(u64::from(self.number()) * Tick::US)
    }

    fn number(self) -> u32 {
        self.0.get() - 1
    }

    /// The tick that has begun at `now`.
    fn begun(now: Instant) -> u32 {
        u32::try_from(now.as_micros() / Tick::US).unwrap_or(u32::MAX - 1)
    }
}

/// The part of a record that a dial keeps it by: its neighbours in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    next: u32,
    previous: u32,
}

impl Links {
    /// Those of a record whose timer is not armed.
    pub const IDLE: Links = Links {
        next: IDLE,
        previous: IDLE,
    };

    /// Whether the timer is armed.
    pub fn is_armed(self) -> bool {
        self.next != IDLE
    }
}

/// Where the records are, each under a number.
pub trait Timed {
    /// When the timer of a record is due. It stays what it is as long as the timer is armed.
    fn due(&self, index: u32) -> Tick;
    /// The links of a record.
    fn links(&self, index: u32) -> Links;
    /// Notes them: they are the dial's alone.
    fn set_links(&mut self, index: u32, links: Links);
}

/// The lists of armed timers.
#[derive(Debug)]
pub struct Dial {
    len: usize,
    /// Everything with an earlier tick has fired; never ahead of the latest `now`.
    tick: u32,
    lists: Box<[List; LEVELS * SLOTS]>,
    /// A bit per slot that holds something.
    occupied: [[u64; SLOTS / 64]; LEVELS],
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

const LEVELS: usize = 4;
const SLOTS: usize = 256;
/// No neighbour.
const NIL: u32 = u32::MAX;
/// No neighbours, since it is in no list.
const IDLE: u32 = u32::MAX - 1;
const EMPTY: List = List {
    first: NIL,
    last: NIL,
};

impl Dial {
    /// A dial without timers.
    pub fn new(now: Instant) -> Dial {
        Dial {
            len: 0,
            tick: Tick::begun(now),
            lists: Box::new([EMPTY; LEVELS * SLOTS]),
            occupied: [[0; SLOTS / 64]; LEVELS],
        }
    }

    /// Arms the timer of a record, which is not armed; it fires at once if its tick has passed.
    pub fn arm(&mut self, records: &mut impl Timed, index: u32) {
        debug_assert!(!records.links(index).is_armed(), "{index} is armed");
        self.place(records, index);
        self.len += 1;
    }

    /// Disarms the timer of a record and tells whether it was armed.
    pub fn disarm(&mut self, records: &mut impl Timed, index: u32) -> bool {
        let links = records.links(index);
        if !links.is_armed() {
            return false;
        }
        records.set_links(index, Links::IDLE);
        let list = self.list_of(records.due(index));
        let Links { next, previous } = links;
        match previous {
            NIL => self.lists[list].first = next,
            before => change(records, before, |links| links.next = next),
        }
        match next {
            NIL => self.lists[list].last = previous,
            behind => change(records, behind, |links| links.previous = previous),
        }
        if links.previous == NIL && links.next == NIL {
            self.mark_empty(list);
        }
        self.len -= 1;
        true
    }

    /// Takes the next record whose timer is due at `now`, and disarms it. They come in the order of
    /// their ticks, those of one tick in the order of arming.
    pub fn pop_expired(&mut self, records: &mut impl Timed, now: Instant) -> Option<u32> {
        let mut index = self.lists[self.tick as usize % SLOTS].first;
        if index == NIL {
            self.advance(records, Tick::begun(now));
            index = self.lists[self.tick as usize % SLOTS].first;
        }
        if index == NIL {
            return None;
        }
        self.disarm(records, index);
        Some(index)
    }

    /// When to call [`Dial::pop_expired`] next: never too late, and early by less than the slot in
    /// which a far timer still lies. `None` when no timer is armed.
    pub fn next_deadline(&self) -> Option<Instant> {
        let (tick, _) = self.next_event()?;
        Some(Instant::from_micros(u64::from(tick) * Tick::US))
    }

    /// Timers armed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Moves on until timers are due or `now` is reached, from one occupied slot to the next.
    fn advance(&mut self, records: &mut impl Timed, now: u32) {
        while let Some((tick, list)) = self.next_event().filter(|(tick, _)| *tick <= now) {
            self.tick = tick;
            if list < SLOTS {
                return;
            }
            self.cascade(records, list);
        }
        // No slot begins at or before `now`, so every timer keeps its place when they are skipped.
        self.tick = self.tick.max(now);
    }

    /// The tick at which the first occupied slot begins, and which one it is.
    fn next_event(&self) -> Option<(u32, usize)> {
        for (level, bits) in self.occupied.iter().enumerate() {
            let Some(word) = bits.iter().position(|&word| word != 0) else {
                continue;
            };
            let slot = 64 * word + bits[word].trailing_zeros() as usize;
            let shift = 8 * level as u32;
            let above = u64::from(self.tick) >> shift >> 8 << 8;
            let tick = (above | slot as u64) << shift;
            return Some((tick as u32, level * SLOTS + slot));
        }
        None
    }

    /// Moves the timers of a slot that has been reached into the levels below, in their order.
    fn cascade(&mut self, records: &mut impl Timed, list: usize) {
        let mut index = core::mem::replace(&mut self.lists[list], EMPTY).first;
        self.mark_empty(list);
        while index != NIL {
            let next = records.links(index).next;
            self.place(records, index);
            index = next;
        }
    }

    /// Appends a record to the list of its tick.
    fn place(&mut self, records: &mut impl Timed, index: u32) {
        let list = self.list_of(records.due(index));
        let last = core::mem::replace(&mut self.lists[list].last, index);
        let links = Links {
            next: NIL,
            previous: last,
        };
        records.set_links(index, links);
        match last {
            NIL => self.lists[list].first = index,
            last => change(records, last, |links| links.next = index),
        }
        self.occupied[list / SLOTS][list % SLOTS / 64] |= 1 << (list % 64);
    }

    /// The list of a tick; one that has passed lies with those that are due now, of which there are
    /// none left before the dial moves on.
    fn list_of(&self, due: Tick) -> usize {
        let tick = due.number().max(self.tick);
        let differing = tick ^ self.tick;
        // The highest differing octet; no difference at all is level 0: due.
        let level = (31 - (differing | 1).leading_zeros()) as usize / 8;
        level * SLOTS + (tick >> (8 * level)) as usize % SLOTS
    }

    fn mark_empty(&mut self, list: usize) {
        self.occupied[list / SLOTS][list % SLOTS / 64] &= !(1 << (list % 64));
    }
}

fn change(records: &mut impl Timed, index: u32, change: impl FnOnce(&mut Links)) {
    let mut links = records.links(index);
    change(&mut links);
    records.set_links(index, links);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::Random;

    struct Records(Vec<(Tick, Links)>);

    impl Timed for Records {
        fn due(&self, index: u32) -> Tick {
            self.0[index as usize].0
        }

        fn links(&self, index: u32) -> Links {
            self.0[index as usize].1
        }

        fn set_links(&mut self, index: u32, links: Links) {
            self.0[index as usize].1 = links;
        }
    }

    fn tenths(ticks: u64) -> Instant {
        Instant::from_micros(ticks * Tick::US)
    }

    fn idle(records: usize) -> Records {
        Records(vec![(Tick::of(tenths(0)), Links::IDLE); records])
    }

    #[test]
    fn a_tick_is_never_early_and_late_by_less_than_a_tenth_of_a_second() {
        for us in [0, 1, 99_999, 100_000, 100_001, 14_400_000_000] {
            let at = Instant::from_micros(us);
            let late = Tick::of(at).at().since(at);
            assert!(Tick::of(at).at() >= at && late.as_micros() < 100_000);
        }
        assert_eq!(size_of::<Option<Tick>>(), 4);
        assert_eq!(
            Tick::of(Instant::START.before(core::time::Duration::MAX)).at(),
            tenths(0)
        );
    }

    #[test]
    fn what_is_later_than_all_ticks_comes_with_the_last_one() {
        let mut records = idle(1);
        let mut dial = Dial::new(tenths(7));
        records.0[0].0 = Tick::of(Instant::from_micros(u64::MAX));
        dial.arm(&mut records, 0);
        assert_eq!(dial.pop_expired(&mut records, tenths(1 << 31)), None);
        assert!(dial.next_deadline().is_some());
        let end = Instant::from_micros(u64::MAX);
        assert_eq!(dial.pop_expired(&mut records, end), Some(0));
        assert_eq!(dial.next_deadline(), None);
    }

    #[test]
    fn those_of_one_tick_fire_in_the_order_of_arming_whichever_level_they_came_through() {
        let mut records = idle(4);
        let mut dial = Dial::new(tenths(0));
        let due = 72_007;
        for (index, now) in [(2, 0), (0, 36_000), (3, 72_000), (1, 72_006)] {
            assert_eq!(dial.pop_expired(&mut records, tenths(now)), None);
            records.0[index].0 = Tick::of(tenths(due));
            dial.arm(&mut records, index as u32);
        }
        let fired: Vec<u32> =
            core::iter::from_fn(|| dial.pop_expired(&mut records, tenths(due))).collect();
        assert_eq!(fired, [2, 0, 3, 1]);
    }

    /// As often small as large.
    fn up_to(random: &mut Random, bits: u64) -> u64 {
        let bits = random.below(bits);
        random.below(1 << bits)
    }

    #[test]
    fn it_agrees_with_a_sorted_map_over_random_use() {
        const RECORDS: usize = 300;
        let mut random = Random::new([5; 4]);
        for start in [0, 250, 65_000, 16_777_000] {
            let mut records = idle(RECORDS);
            let mut now = start;
            let mut dial = Dial::new(tenths(now));
            // By tick, or now where that has passed, and order of arming.
            let mut model: BTreeMap<(u64, usize), u32> = BTreeMap::new();
            for round in 0..40_000 {
                let index = random.below(RECORDS as u64) as u32;
                let armed = model.iter().find(|(_, armed)| **armed == index);
                let at = armed.map(|(at, _)| *at);
                match (random.below(8), at) {
                    (0, _) => {
                        now += up_to(&mut random, 14);
                        let fired: Vec<u32> =
                            core::iter::from_fn(|| dial.pop_expired(&mut records, tenths(now)))
                                .collect();
                        let later = model.split_off(&(now + 1, 0));
                        let due: Vec<u32> = core::mem::replace(&mut model, later)
                            .into_values()
                            .collect();
                        assert_eq!(fired, due);
                    }
                    (_, Some(at)) => {
                        assert!(dial.disarm(&mut records, index));
                        model.remove(&at);
                    }
                    (_, None) => {
                        assert!(!dial.disarm(&mut records, index));
                        let due = now.saturating_sub(5) + up_to(&mut random, 20);
                        records.0[index as usize].0 = Tick::of(tenths(due));
                        dial.arm(&mut records, index);
                        model.insert((due.max(now), round), index);
                    }
                }
                assert_eq!(dial.len(), model.len());
                let next = model.first_key_value().map(|((due, _), _)| tenths(*due));
                assert_eq!(dial.next_deadline().is_some(), next.is_some());
                assert!(dial.next_deadline() <= next);
            }
        }
    }
}
