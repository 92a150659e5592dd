//! What happened to the node, in order: a bounded ring with sequence numbers.
//!
//! Whoever knows of something notes it here; readers ask for what came after the number they have.
//! The ring keeps the last [`Events::KEPT_MAX`]: a reader that is slower is told how many it lost.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use super::answers::{EventRow, EventsPage};

/// The ring.
pub struct Events {
    /// Wall clock at the start, in milliseconds: tells one start of the node from another.
    epoch: u64,
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    rows: VecDeque<EventRow>,
    noted: u64,
}

/// Parameters of `events`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The last number that the reader has; without it, only `next` is told.
    since: Option<u64>,
    #[serde(default = "page_rows")]
    rows_max: usize,
}

fn page_rows() -> usize {
    PAGE_ROWS_MAX
}

/// Rows of one answer.
const PAGE_ROWS_MAX: usize = 512;
/// Octets of one text: what a peer says may be part of it.
const TEXT_MAX: usize = 400;

impl Events {
    /// Events that are kept: about a megabyte.
    pub const KEPT_MAX: usize = 4096;

    /// An empty ring of a node that started at `epoch`.
    pub fn new(epoch: u64) -> Events {
        Events {
            epoch,
            ring: Mutex::default(),
        }
    }

    /// Notes what happened at `time_ms` (UTC, since 1970); the oldest makes room.
    pub fn note(&self, time_ms: u64, kind: &str, about: &str, text: impl Into<String>) {
        let mut text: String = text.into();
        text.retain(|letter| !letter.is_control());
        while text.len() > TEXT_MAX {
            text.pop();
        }
        let mut ring = self.lock();
        ring.noted += 1;
        let row = EventRow {
            seq: ring.noted,
            time_ms,
            kind: kind.to_owned(),
            about: about.to_owned(),
            text,
        };
        if ring.rows.len() == Events::KEPT_MAX {
            ring.rows.pop_front();
        }
        ring.rows.push_back(row);
    }

    /// The events after `since`, oldest first.
    pub fn page(&self, wanted: &Wanted) -> EventsPage {
        let ring = self.lock();
        // A number from before a restart may be ahead of this ring.
        let since = wanted.since.unwrap_or(ring.noted).min(ring.noted);
        let oldest = ring.noted + 1 - ring.rows.len() as u64;
        let lost = oldest.saturating_sub(since + 1);
        let skipped = (since + 1).saturating_sub(oldest) as usize;
        let count = wanted.rows_max.clamp(1, PAGE_ROWS_MAX);
        let rows: Vec<EventRow> = ring
            .rows
            .iter()
            .skip(skipped)
            .take(count)
            .cloned()
            .collect();
        EventsPage {
            epoch: self.epoch,
            next: rows.last().map_or(since.max(oldest - 1), |row| row.seq),
            rows,
            lost,
        }
    }

    /// A panic elsewhere leaves whole rows behind.
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(events: &Events, since: Option<u64>) -> EventsPage {
        events.page(&Wanted {
            since,
            rows_max: PAGE_ROWS_MAX,
        })
    }

    #[test]
    fn a_reader_gets_what_came_after_its_number_and_each_once() {
        let events = Events::new(7);
        assert_eq!(after(&events, None).next, 0);
        for at in 1..=3 {
            events.note(at, "trunk", "a", "up -> down");
        }
        let page = after(&events, Some(1));
        let seqs: Vec<u64> = page.rows.iter().map(|row| row.seq).collect();
        assert_eq!(
            (seqs, page.next, page.lost, page.epoch),
            (vec![2, 3], 3, 0, 7)
        );
        let page = after(&events, Some(page.next));
        assert_eq!((page.rows.len(), page.next, page.lost), (0, 3, 0));
        assert_eq!(after(&events, None).next, 3, "from here on");
    }

    #[test]
    fn a_slow_reader_is_told_how_many_it_lost() {
        let events = Events::new(0);
        let noted = Events::KEPT_MAX as u64 + 10;
        (1..=noted).for_each(|at| events.note(at, "limit", "a", ""));
        let page = after(&events, Some(3));
        assert_eq!((page.lost, page.rows[0].seq), (7, 11));
        let page = after(&events, Some(page.next));
        assert_eq!(
            (page.lost, page.rows[0].seq),
            (0, 11 + PAGE_ROWS_MAX as u64)
        );
    }

    #[test]
    fn a_number_of_another_start_is_no_way_to_miss_what_comes() {
        let events = Events::new(0);
        events.note(1, "drain", "", "begun");
        let page = after(&events, Some(1_000_000));
        assert_eq!((page.rows.len(), page.next), (0, 1));
    }

    #[test]
    fn a_text_is_one_line_of_bounded_length() {
        let events = Events::new(0);
        events.note(
            1,
            "trunk",
            "a",
            format!("a\r\n\u{1b}[2J{}", "ü".repeat(1000)),
        );
        let row = &after(&events, Some(0)).rows[0];
        assert!(
            row.text.starts_with("a[2Jü") && row.text.len() <= TEXT_MAX,
            "{}",
            row.text
        );
    }
}
