//! Rates from counters of several looks at the node, by the node's own clock.

use std::collections::VecDeque;

use super::feed::Snapshot;

/// How long a look counts for the answer-seizure ratio.
const WINDOW_MS: u64 = 60_000;
const LOOKS_MAX: usize = 600;

/// Counters at one moment.
#[derive(Clone, Debug)]
struct Look {
    now_ms: u64,
    /// Received and sent, by shard.
    shards: Vec<(u64, u64)>,
    trunks: Vec<Traffic>,
}

/// Calls of a trunk since the node's start, both directions.
#[derive(Clone, Debug)]
struct Traffic {
    name: String,
    admitted: u64,
    answered: u64,
}

/// The looks of the last minute.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    looks: VecDeque<Look>,
}

impl Rates {
    /// Takes what a look brought.
    pub fn take(&mut self, snapshot: &Snapshot) {
        let status = &snapshot.status;
        let shards = status.shards.iter();
        let trunks = snapshot.trunks.iter();
        let look = Look {
            now_ms: status.now_ms,
            shards: shards
                .map(|shard| (shard.datagrams_received, shard.datagrams_sent))
                .collect(),
            trunks: trunks
                .map(|trunk| Traffic {
                    name: trunk.name.clone(),
                    admitted: trunk.admitted_in + trunk.admitted_out,
                    answered: trunk.answered_in + trunk.answered_out,
                })
                .collect(),
        };
        // A node that was started again counts from zero.
        if self
            .looks
            .back()
            .is_some_and(|last| last.now_ms > look.now_ms)
        {
            self.looks.clear();
        }
        let since_ms = look.now_ms.saturating_sub(WINDOW_MS);
        self.looks.push_back(look);
        while self.looks.len() > LOOKS_MAX
            || (self.looks.len() > 2 && self.looks[1].now_ms <= since_ms)
        {
            self.looks.pop_front();
        }
    }

    /// Datagrams received and sent per second by a shard, from the last two looks.
    pub fn shard(&self, shard: usize) -> Option<(f64, f64)> {
        let (before, last, seconds) = self.last_two()?;
        let ((in_before, out_before), (in_last, out_last)) =
            (before.shards.get(shard)?, last.shards.get(shard)?);
        let rate = |before: &u64, last: &u64| last.saturating_sub(*before) as f64 / seconds;
        Some((rate(in_before, in_last), rate(out_before, out_last)))
    }

    /// Calls admitted per second over a trunk, from the last two looks.
    pub fn calls(&self, trunk: &str) -> Option<f64> {
        let (before, last, seconds) = self.last_two()?;
        let (before, last) = (before.traffic(trunk)?, last.traffic(trunk)?);
        Some(last.admitted.saturating_sub(before.admitted) as f64 / seconds)
    }

    /// Answer-seizure ratio of the last minute in percent; none where no call came.
    pub fn asr(&self, trunk: &str) -> Option<f64> {
        let (first, last) = (self.looks.front()?, self.looks.back()?);
        let (first, last) = (first.traffic(trunk)?, last.traffic(trunk)?);
        let admitted = last.admitted.checked_sub(first.admitted)?;
        let answered = last.answered.checked_sub(first.answered)?;
        // Calls that were admitted before the minute are answered in it.
        (admitted > 0).then(|| (answered as f64 / admitted as f64 * 100.0).min(100.0))
    }

    fn last_two(&self) -> Option<(&Look, &Look, f64)> {
        let last = self.looks.back()?;
        let before = self.looks.get(self.looks.len().checked_sub(2)?)?;
        let seconds = last.now_ms.checked_sub(before.now_ms)? as f64 / 1000.0;
        (seconds > 0.0).then_some((before, last, seconds))
    }
}

impl Look {
    fn traffic(&self, name: &str) -> Option<&Traffic> {
        self.trunks.iter().find(|trunk| trunk.name == name)
    }
}
