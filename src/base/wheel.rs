//! A hierarchical timing wheel: four levels of 256 slots, ticks of one millisecond, O(1) to arm
//! and to cancel.
//!
//! A timer lies in the level of the highest octet in which its tick differs from the wheel's.
//! So everything in a level falls due before anything in the level above it, slots never wrap, and
//! the first occupied slot of the lowest occupied level is the next thing to happen, however far
//! away it is. When the wheel reaches a slot of a higher level its timers move down, in order: the
//! timers of one tick fire in the order in which they were armed. What lies beyond the span
//! (2^32 ms, 49 days) waits in a list of its own.

use super::time::Instant;
use super::{Fresh, Halves, prefetch};

/// The wheel has no node left; the caller refuses or goes without the timer, and counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Names one armed timer; stale after it fired or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

impl TimerId {
    /// Names no timer.
    pub const NONE: TimerId = TimerId {
        index: NIL,
        generation: 0,
    };
}

impl Default for TimerId {
    fn default() -> TimerId {
        TimerId::NONE
    }
}

/// Up to `capacity` timers, each of which carries a `T`.
#[derive(Debug)]
pub struct Wheel<T: Copy> {
    nodes: Vec<Node<T>>,
    /// First node of those that fired or were cancelled.
    free: u32,
    capacity: usize,
    len: usize,
    /// Everything with an earlier tick has fired; never ahead of the latest `now`.
    tick: u64,
    /// One list per slot, level by level, and [`PARKED`] at the end.
    lists: Box<[List; LISTS]>,
    /// A bit per slot that holds something.
    occupied: [[u64; SLOTS / 64]; LEVELS],
    /// No parked timer has a tick with fewer spans than this; may be too low after a cancel.
    parked_span: u64,
}

#[derive(Debug)]
struct Node<T> {
    tick: Halves,
    next: u32,
    previous: u32,
    generation: u32,
    /// Index of the list it lies in; [`IDLE`] while free.
    list: u16,
    what: T,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

const LEVELS: usize = 4;
const SLOTS: usize = 256;
const PARKED: u16 = (LEVELS * SLOTS) as u16;
const LISTS: usize = LEVELS * SLOTS + 1;
const IDLE: u16 = u16::MAX;
const NIL: u32 = u32::MAX;
const SPAN_BITS: u32 = 8 * LEVELS as u32;
const EMPTY: List = List {
    first: NIL,
    last: NIL,
};

impl<T: Copy> Wheel<T> {
    /// Reserves memory for `capacity` timers; there is none taken afterwards.
    pub fn new(capacity: usize, now: Instant) -> Wheel<T> {
        assert!(capacity < NIL as usize, "a link is 32 bits wide");
        Wheel {
            nodes: Vec::with_capacity(capacity),
            free: NIL,
            capacity,
            len: 0,
            tick: now.as_millis(),
            lists: Box::new([EMPTY; LISTS]),
            occupied: [[0; SLOTS / 64]; LEVELS],
            parked_span: u64::MAX,
        }
    }

    /// Octets of the nodes that ever had a timer.
    pub fn octets_used(&self) -> usize {
        size_of_val(self.nodes.as_slice())
    }

    /// The nodes that no timer ever had.
    pub fn fresh(&self) -> Fresh {
        Fresh::of_vec(&self.nodes)
    }

    /// Arms a timer that fires at `at`, rounded up to the millisecond; at once if `at` has passed.
    pub fn arm(&mut self, at: Instant, what: T) -> Result<TimerId, Full> {
        let tick = at.as_micros().div_ceil(1000);
        let index = self.take_node(tick, what)?;
        self.len += 1;
        self.place(index);
        Ok(TimerId {
            index,
            generation: self.nodes[index as usize].generation,
        })
    }

    /// Disarms a timer and tells whether it was still armed.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        match self.nodes.get(id.index as usize) {
            Some(node) if node.generation == id.generation && node.list != IDLE => {
                self.unlink(id.index);
                self.release(id.index);
                true
            }
            _ => false,
        }
    }

    /// Takes the next timer that is due at `now`; the caller may arm and cancel between two calls.
    ///
    /// Timers come in the order of their ticks, those of one tick in the order of arming.
    pub fn pop_expired(&mut self, now: Instant) -> Option<T> {
        let due = self.tick as usize % SLOTS;
        let mut index = self.lists[due].first;
        if index == NIL {
            self.advance(now.as_millis());
            index = self.lists[self.tick as usize % SLOTS].first;
        }
        if index == NIL {
            return None;
        }
        self.unlink(index);
        self.release(index);
        Some(self.nodes[index as usize].what)
    }

    /// What the next two timers carry that are due with the one that came last, for whoever can fetch
    /// meanwhile what they are for; the one behind them is fetched here.
    pub fn upcoming(&self) -> [Option<T>; 2] {
        let mut next = self.lists[self.tick as usize % SLOTS].first;
        let upcoming = core::array::from_fn(|_| {
            let node = self.nodes.get(next as usize)?;
            next = node.next;
            Some(node.what)
        });
        if let Some(third) = self.nodes.get(next as usize) {
            prefetch(third);
        }
        upcoming
    }

    /// Fires every timer that is due at `now`.
    pub fn expire(&mut self, now: Instant, fire: &mut impl FnMut(T)) {
        while let Some(what) = self.pop_expired(now) {
            fire(what);
        }
    }

    /// When to call [`Wheel::pop_expired`] next: never too late, and early by less than the slot in
    /// which a far timer still lies. `None` when no timer is armed.
    pub fn next_deadline(&self) -> Option<Instant> {
        let tick = self.next_event()?.tick();
        Some(Instant::from_micros(tick.saturating_mul(1000)))
    }

    /// Timers armed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Timers that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Moves on until timers are due or `now` is reached. Steps from one occupied slot to the next,
    /// so that hours without a timer cost as little as a millisecond.
    fn advance(&mut self, now: u64) {
        loop {
            let event = match self.next_event() {
                Some(event) if event.tick() <= now => event,
                _ => break,
            };
            self.tick = event.tick();
            match event {
                Event::Due { .. } => return,
                Event::Cascade { list, .. } => self.cascade(list),
                Event::Unpark { .. } => self.unpark(),
            }
        }
        // No slot begins at or before `now`, so every timer keeps its place when they are skipped.
        self.tick = self.tick.max(now);
    }

    fn next_event(&self) -> Option<Event> {
        for (level, bits) in self.occupied.iter().enumerate() {
            if let Some(slot) = first_set(bits) {
                let shift = 8 * level as u32;
                let tick = (self.tick >> shift >> 8 << 8 | slot as u64) << shift;
                let list = (level * SLOTS + slot) as u16;
                return Some(match level {
                    0 => Event::Due { tick },
                    _ => Event::Cascade { tick, list },
                });
            }
        }
        let tick = self.parked_span << SPAN_BITS;
        (self.lists[usize::from(PARKED)].first != NIL).then_some(Event::Unpark { tick })
    }

    /// Moves the timers of a slot that has been reached into the levels below.
    fn cascade(&mut self, list: u16) {
        let mut index = self.detach(list);
        while index != NIL {
            let next = self.nodes[index as usize].next;
            self.place(index);
            index = next;
        }
    }

    /// Moves the parked timers whose span has begun into the wheel; the others stay, in order.
    fn unpark(&mut self) {
        self.parked_span = u64::MAX;
        self.cascade(PARKED);
    }

    /// Appends a node to the list of its tick.
    fn place(&mut self, index: u32) {
        let tick = self.nodes[index as usize].tick.number().max(self.tick);
        let differing = tick ^ self.tick;
        let list = if differing >> SPAN_BITS != 0 {
            self.parked_span = self.parked_span.min(tick >> SPAN_BITS);
            PARKED
        } else {
            // The highest differing octet; no difference at all is level 0: due.
            let level = (63 - (differing | 1).leading_zeros()) as usize / 8;
            let slot = (tick >> (8 * level)) as usize % SLOTS;
            self.occupied[level][slot / 64] |= 1 << (slot % 64);
            (level * SLOTS + slot) as u16
        };
        self.append(list, index);
    }

    fn append(&mut self, list: u16, index: u32) {
        let last = self.lists[usize::from(list)].last;
        let node = &mut self.nodes[index as usize];
        node.list = list;
        node.previous = last;
        node.next = NIL;
        self.lists[usize::from(list)].last = index;
        match last {
            NIL => self.lists[usize::from(list)].first = index,
            _ => self.nodes[last as usize].next = index,
        }
    }

    fn unlink(&mut self, index: u32) {
        let node = &self.nodes[index as usize];
        let (list, next, previous) = (node.list, node.next, node.previous);
        match previous {
            NIL => self.lists[usize::from(list)].first = next,
            _ => self.nodes[previous as usize].next = next,
        }
        match next {
            NIL => self.lists[usize::from(list)].last = previous,
            _ => self.nodes[next as usize].previous = previous,
        }
        if previous == NIL && next == NIL {
            self.mark_empty(list);
        }
    }

    /// Empties a list and returns its first node.
    fn detach(&mut self, list: u16) -> u32 {
        let first = core::mem::replace(&mut self.lists[usize::from(list)], EMPTY).first;
        self.mark_empty(list);
        first
    }

    fn mark_empty(&mut self, list: u16) {
        let (level, slot) = (usize::from(list) / SLOTS, usize::from(list) % SLOTS);
        if let Some(bits) = self.occupied.get_mut(level) {
            bits[slot / 64] &= !(1 << (slot % 64));
        }
    }

    fn take_node(&mut self, tick: u64, what: T) -> Result<u32, Full> {
        let index = self.free;
        if index != NIL {
            let node = &mut self.nodes[index as usize];
            self.free = node.next;
            node.tick = Halves::new(tick);
            node.what = what;
            return Ok(index);
        }
        if self.nodes.len() == self.capacity {
            return Err(Full);
        }
        self.nodes.push(Node {
            tick: Halves::new(tick),
            next: NIL,
            previous: NIL,
            generation: 1,
            list: IDLE,
            what,
        });
        Ok(self.nodes.len() as u32 - 1)
    }

    fn release(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        node.list = IDLE;
        node.generation = node.generation.wrapping_add(1);
        node.next = self.free;
        self.free = index;
        self.len -= 1;
    }
}

/// What the wheel meets next, and at which tick.
#[derive(Clone, Copy)]
enum Event {
    Due { tick: u64 },
    Cascade { tick: u64, list: u16 },
    Unpark { tick: u64 },
}

impl Event {
    fn tick(self) -> u64 {
        match self {
            Event::Due { tick } | Event::Cascade { tick, .. } | Event::Unpark { tick } => tick,
        }
    }
}

#[inline]
fn first_set(bits: &[u64; SLOTS / 64]) -> Option<usize> {
    let word = bits.iter().position(|&word| word != 0)?;
    Some(64 * word + bits[word].trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::Random;

    fn ms(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn us(us: u64) -> Instant {
        Instant::from_micros(us)
    }

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn a_timer_never_fires_early_and_is_late_by_less_than_a_millisecond() {
        for at in [1, 999, 1000, 1001, 500_500, 32_000_001, 14_400_000_000] {
            let mut wheel = Wheel::new(1, ms(0));
            wheel.arm(us(at), at).unwrap();
            let mut now = at - 1;
            assert_eq!(wheel.pop_expired(us(now)), None);
            while wheel.pop_expired(us(now)).is_none() {
                now += 1;
            }
            assert!(now - at < 1000, "armed for {at}, fired at {now}");
        }
    }

    #[test]
    fn timers_of_one_tick_fire_in_the_order_of_arming_whichever_level_they_came_through() {
        let mut wheel = Wheel::new(10, ms(0));
        let at = ms(2 * HOUR_MS + 7);
        wheel.arm(at, 1).unwrap();
        assert_eq!(wheel.pop_expired(ms(HOUR_MS)), None);
        wheel.arm(at, 2).unwrap();
        assert_eq!(wheel.pop_expired(ms(2 * HOUR_MS)), None);
        wheel.arm(at, 3).unwrap();
        assert_eq!(wheel.pop_expired(ms(2 * HOUR_MS + 6)), None);
        wheel.arm(at, 4).unwrap();
        let mut fired = Vec::new();
        wheel.expire(at, &mut |what| fired.push(what));
        assert_eq!(fired, [1, 2, 3, 4]);
    }

    #[test]
    fn a_jump_over_years_fires_everything_in_order() {
        let mut wheel = Wheel::new(10, ms(5));
        let year = 365 * 24 * HOUR_MS;
        let mut ats = [
            year,
            40,
            60 * 24 * HOUR_MS,
            HOUR_MS,
            6,
            20 * year,
            40 * year,
        ];
        for at in ats {
            wheel.arm(ms(at), at).unwrap();
        }
        let mut fired = Vec::new();
        wheel.expire(ms(30 * year), &mut |what| fired.push(what));
        ats.sort();
        assert_eq!(fired, ats[..6]);
        assert_eq!(wheel.len(), 1);
        wheel.expire(us(u64::MAX), &mut |what| fired.push(what));
        assert_eq!(fired, ats);
    }

    #[test]
    fn a_timer_at_the_end_of_time_can_be_armed_and_cancelled() {
        let mut wheel = Wheel::new(1, ms(0));
        let id = wheel.arm(us(u64::MAX), ()).unwrap();
        assert_eq!(wheel.pop_expired(ms(1 << 40)), None);
        assert!(wheel.next_deadline().is_some());
        assert!(wheel.cancel(id));
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn what_is_due_with_a_timer_is_told_ahead() {
        let mut wheel = Wheel::new(9, ms(0));
        for (at, what) in [(5, 1), (6, 5), (5, 2), (5, 3), (5, 4)] {
            wheel.arm(ms(at), what).unwrap();
        }
        let mut told = Vec::new();
        while let Some(what) = wheel.pop_expired(ms(7)) {
            told.push((what, wheel.upcoming()));
        }
        let expected = [
            (1, [Some(2), Some(3)]),
            (2, [Some(3), Some(4)]),
            (3, [Some(4), None]),
            (4, [None, None]),
            (5, [None, None]),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_stale_id_cancels_nothing() {
        let mut wheel = Wheel::new(1, ms(0));
        assert!(!wheel.cancel(TimerId::NONE));
        assert!(!wheel.cancel(TimerId::default()));
        let first = wheel.arm(ms(1), "first").unwrap();
        assert!(wheel.cancel(first));
        assert!(!wheel.cancel(first));
        let second = wheel.arm(ms(1), "second").unwrap();
        assert!(!wheel.cancel(first));
        assert_eq!(wheel.pop_expired(ms(1)), Some("second"));
        assert!(!wheel.cancel(second));
    }

    #[test]
    fn a_full_wheel_refuses_and_never_grows() {
        let mut wheel = Wheel::new(2, ms(0));
        let reserved = wheel.nodes.capacity();
        let first = wheel.arm(ms(1), 1).unwrap();
        wheel.arm(ms(1), 2).unwrap();
        assert_eq!(wheel.arm(ms(1), 3), Err(Full));
        wheel.cancel(first);
        wheel.arm(ms(1), 4).unwrap();
        assert_eq!(wheel.nodes.capacity(), reserved);
        assert_eq!(Wheel::new(0, ms(0)).arm(ms(1), 1), Err(Full));
    }

    #[test]
    fn the_owner_may_arm_and_cancel_between_two_pops() {
        let mut wheel = Wheel::new(10, ms(0));
        wheel.arm(ms(10), 1).unwrap();
        let second = wheel.arm(ms(10), 2).unwrap();
        wheel.arm(ms(20), 3).unwrap();
        assert_eq!(wheel.pop_expired(ms(30)), Some(1));
        wheel.cancel(second);
        wheel.arm(ms(5), 4).unwrap(); // already past: due next
        wheel.arm(ms(15), 5).unwrap();
        wheel.arm(ms(31), 6).unwrap();
        let mut fired = Vec::new();
        wheel.expire(ms(30), &mut |what| fired.push(what));
        assert_eq!(fired, [4, 5, 3]);
        assert_eq!(wheel.next_deadline(), Some(ms(31)));
    }

    /// Deadlines as a call has them: retransmissions, 32 s, session timers, hours; now and then days.
    fn random_span_us(random: &mut Random) -> u64 {
        let longest = [2_000, 500_000, 32_000_000, 1_800_000_000, 14_400_000_000];
        match random.below(100) {
            0 => random.below(200 * 24 * HOUR_MS * 1000),
            pick => random.below(longest[pick as usize % longest.len()]),
        }
    }

    /// Fires all that is due in `model` and `wheel` at `now` and compares.
    fn compare_expiry(
        wheel: &mut Wheel<u64>,
        model: &mut BTreeMap<(u64, u64), TimerId>,
        now: Instant,
    ) {
        let later = model.split_off(&(now.as_millis() + 1, 0));
        let due = core::mem::replace(model, later);
        let mut fired = Vec::new();
        wheel.expire(now, &mut |what| fired.push(what));
        assert!(due.keys().map(|&(_, order)| order).eq(fired), "at {now:?}");
    }

    #[test]
    fn it_agrees_with_an_ordered_map_over_random_use_and_time_jumps() {
        for seed in 0..8 {
            let mut random = Random::new([seed, 1, 2, 3]);
            let mut now = us(random.below(1 << 45));
            let mut wheel = Wheel::new(300, now);
            let mut model: BTreeMap<(u64, u64), TimerId> = BTreeMap::new();
            for order in 0..20_000u64 {
                match random.below(10) {
                    0..5 => {
                        let at = us(now.as_micros() + random_span_us(&mut random));
                        match wheel.arm(at, order) {
                            Ok(id) => {
                                let tick = at.as_micros().div_ceil(1000);
                                model.insert((tick, order), id);
                            }
                            Err(Full) => assert_eq!(model.len(), 300),
                        }
                    }
                    5..7 if !model.is_empty() => {
                        let pick = random.below(model.len() as u64) as usize;
                        let key = *model.keys().nth(pick).unwrap();
                        assert!(wheel.cancel(model.remove(&key).unwrap()));
                    }
                    _ => {
                        now = us(now.as_micros() + random_span_us(&mut random) / 4);
                        compare_expiry(&mut wheel, &mut model, now);
                    }
                }
                let first = model.keys().next().map(|&(tick, _)| ms(tick));
                assert_eq!(wheel.len(), model.len());
                assert_eq!(wheel.next_deadline().is_some(), first.is_some());
                assert!(wheel.next_deadline() <= first, "woken too late");
            }
            compare_expiry(&mut wheel, &mut model, us(u64::MAX));
            assert!(model.is_empty() && wheel.is_empty());
        }
    }
}
