//! Histograms of one shard: fixed bounds, plain memory taken at start, one writer. A row of the table
//! below is one histogram; those of a trunk have a copy for each slot.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

/// Upper bounds in microseconds, and as they are written.
type Bounds = &'static [(u64, &'static str)];

/// What the histograms of one name have in common.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    pub bounds: Bounds,
}

/// From taking a batch of datagrams to having sent what it led to.
pub const SHARD_TIME: Family = Family {
    name: "callgate_shard_time_seconds",
    help: "Time from taking a datagram to having sent what it led to.",
    bounds: &[
        (25, "0.000025"),
        (50, "0.00005"),
        (100, "0.0001"),
        (250, "0.00025"),
        (500, "0.0005"),
        (1_000, "0.001"),
        (2_500, "0.0025"),
        (5_000, "0.005"),
        (10_000, "0.01"),
        (25_000, "0.025"),
        (100_000, "0.1"),
        (500_000, "0.5"),
    ],
};

/// From an INVITE to the first answer that tells how it goes (RFC 6076 §4.3.1).
pub const SETUP_DELAY: Family = Family {
    name: "callgate_trunk_setup_delay_seconds",
    help: "Time from an INVITE to the first 18x or 2xx, by trunk.",
    bounds: &[
        (5_000, "0.005"),
        (25_000, "0.025"),
        (100_000, "0.1"),
        (250_000, "0.25"),
        (500_000, "0.5"),
        (1_000_000, "1.0"),
        (2_000_000, "2.0"),
        (3_000_000, "3.0"),
        (5_000_000, "5.0"),
        (8_000_000, "8.0"),
        (12_000_000, "12.0"),
        (20_000_000, "20.0"),
        (32_000_000, "32.0"),
    ],
};

/// Which leg of a call a trunk was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    In,
    Out,
}

impl Leg {
    /// Both, in the order of their cells.
    pub const ALL: [Leg; 2] = [Leg::In, Leg::Out];

    /// The label of metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Leg::In => "in",
            Leg::Out => "out",
        }
    }
}

/// The histograms of one shard.
#[derive(Debug)]
pub struct Histograms {
    shard_time: Box<[AtomicU64]>,
    setup_delay: Box<[AtomicU64]>,
}

/// What a histogram holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Observations in each bucket, the last one above all bounds; not summed up.
    pub buckets: Vec<u64>,
    pub sum_us: u64,
}

impl Reading {
    /// Adds what another shard holds.
    pub fn merge(&mut self, other: &Reading) {
        self.buckets.resize(other.buckets.len(), 0);
        for (sum, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += count;
        }
        self.sum_us += other.sum_us;
    }
}

impl Family {
    /// A cell for each bound, one for what is above them, one for the sum.
    const fn cells(&self) -> usize {
        self.bounds.len() + 2
    }

    fn observe(&self, cells: &[AtomicU64], span: Duration, count: u64) {
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().take_while(|(bound, _)| us > *bound);
        let bucket = bucket.count();
        for (cell, add) in [
            (bucket, count),
            (self.bounds.len() + 1, us.saturating_mul(count)),
        ] {
            if let Some(cell) = cells.get(cell) {
                // The shard's thread is the only writer.
                let sum = cell.load(Ordering::Relaxed).wrapping_add(add);
                cell.store(sum, Ordering::Relaxed);
            }
        }
    }

    fn read(&self, cells: &[AtomicU64]) -> Reading {
        let mut buckets: Vec<u64> = cells
            .iter()
            .map(|cell| cell.load(Ordering::Relaxed))
            .collect();
        let sum_us = buckets.pop().unwrap_or(0);
        Reading { buckets, sum_us }
    }
}

impl Histograms {
    /// Empty histograms, with room for trunk slots below `slots_max`.
    pub fn new(slots_max: usize) -> Histograms {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Histograms {
            shard_time: zeros(SHARD_TIME.cells()),
            setup_delay: zeros(slots_max * Leg::ALL.len() * SETUP_DELAY.cells()),
        }
    }

    /// So many datagrams of a batch took this long.
    pub fn observe_shard_time(&self, span: Duration, datagrams: u64) {
        if datagrams > 0 {
            SHARD_TIME.observe(&self.shard_time, span, datagrams);
        }
    }

    /// The time in the shard.
    pub fn shard_time(&self) -> Reading {
        SHARD_TIME.read(&self.shard_time)
    }

    /// An INVITE of this trunk was told how it goes after so long; a slot beyond the table counts
    /// nowhere.
    pub fn observe_setup_delay(&self, slot: u16, leg: Leg, span: Duration) {
        if let Some(cells) = self.setup_cells(slot, leg) {
            SETUP_DELAY.observe(cells, span, 1);
        }
    }

    /// The set-up delay of a trunk.
    pub fn setup_delay(&self, slot: u16, leg: Leg) -> Reading {
        self.setup_cells(slot, leg)
            .map_or_else(Reading::default, |cells| SETUP_DELAY.read(cells))
    }

    fn setup_cells(&self, slot: u16, leg: Leg) -> Option<&[AtomicU64]> {
        let at = usize::from(slot) * Leg::ALL.len() + leg as usize;
        let cells = SETUP_DELAY.cells();
        self.setup_delay.get(at * cells..(at + 1) * cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise_and_are_written_as_they_are() {
        for family in [SHARD_TIME, SETUP_DELAY] {
            for pair in family.bounds.windows(2) {
                assert!(pair[0].0 < pair[1].0, "{}", family.name);
            }
            for (us, text) in family.bounds {
                let seconds: f64 = text.parse().expect("a number");
                assert_eq!((seconds * 1e6).round() as u64, *us, "{text}");
            }
        }
    }

    #[test]
    fn an_observation_falls_into_the_first_bucket_that_holds_it() {
        let histograms = Histograms::new(2);
        let observe = |us| histograms.observe_setup_delay(1, Leg::Out, Duration::from_micros(us));
        [5_000, 5_001, u64::MAX].into_iter().for_each(observe);
        let read = histograms.setup_delay(1, Leg::Out);
        assert_eq!((read.buckets[0], read.buckets[1]), (1, 1));
        assert_eq!(read.buckets.last(), Some(&1));
        assert_eq!(read.buckets.iter().sum::<u64>(), 3);
        for (slot, leg) in [(1, Leg::In), (0, Leg::Out)] {
            let other = histograms.setup_delay(slot, leg);
            assert_eq!(other.buckets.iter().sum::<u64>(), 0);
        }
        histograms.observe_setup_delay(9, Leg::In, Duration::ZERO);
    }

    #[test]
    fn a_batch_counts_once_for_each_datagram() {
        let histograms = Histograms::new(0);
        histograms.observe_shard_time(Duration::from_micros(40), 3);
        histograms.observe_shard_time(Duration::from_micros(40), 0);
        let mut read = histograms.shard_time();
        assert_eq!((read.buckets[1], read.sum_us), (3, 120));
        read.merge(&histograms.shard_time());
        assert_eq!((read.buckets[1], read.sum_us), (6, 240));
    }
}
