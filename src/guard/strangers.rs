//! How much each stranger sends: leaky buckets in a table of fixed size. A source that is not in
//! it takes the place of the one of its set that was quiet for longest, so a flood from many
//! addresses costs what one from a single address does, and forgets only those who are slow.

use crate::base::Instant;

/// What a stranger may do too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// A request that nobody here asked for.
    Unasked,
    /// What is no SIP, or broken SIP.
    Malformed,
}

/// How much of each is borne: events per second over five seconds; `None` = any number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bearable {
    pub unasked_per_s: Option<f32>,
    pub malformed_per_s: Option<f32>,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Strangers {
    places: Box<[Place]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Keyed hash of the source; two sources with the same 64 bits count as one.
    source: u64,
    last_ms: u64,
    unasked: f32,
    malformed: f32,
}

const SETS: usize = 512;
/// A set is 192 octets, three cache lines.
const WAYS: usize = 8;
/// What may come at once, in seconds of the bearable rate.
const BURST_S: f32 = 5.0;
/// A rate below one per second still bears a few.
const BURST_LEAST: f32 = 5.0;

impl Default for Strangers {
    fn default() -> Strangers {
        Strangers {
            places: vec![Place::default(); SETS * WAYS].into_boxed_slice(),
        }
    }
}

impl Strangers {
    /// Notes an offence of the source with this hash; `true` when it is one too many.
    pub fn note(&mut self, now: Instant, source: u64, what: Offence, bearable: &Bearable) -> bool {
        let per_s = match what {
            Offence::Unasked => bearable.unasked_per_s,
            Offence::Malformed => bearable.malformed_per_s,
        };
        let Some(per_s) = per_s else {
            return false;
        };
        let now_ms = now.as_millis();
        let place = self.place(source, now_ms);
        let quiet_s = now_ms.saturating_sub(place.last_ms) as f32 / 1000.0;
        let leaked =
            |level: f32, per_s: Option<f32>| (level - quiet_s * per_s.unwrap_or(f32::MAX)).max(0.0);
        place.unasked = leaked(place.unasked, bearable.unasked_per_s);
        place.malformed = leaked(place.malformed, bearable.malformed_per_s);
        place.last_ms = now_ms;
        let level = match what {
            Offence::Unasked => &mut place.unasked,
            Offence::Malformed => &mut place.malformed,
        };
        *level += 1.0;
        let is_too_much = *level > (per_s * BURST_S).max(BURST_LEAST);
        if is_too_much {
            // Begun anew, should the ban not come about or be lifted.
            *level = 0.0;
        }
        is_too_much
    }

    /// The source's place, or the one that it takes over.
    fn place(&mut self, source: u64, now_ms: u64) -> &mut Place {
        let start = (source as usize % SETS) * WAYS;
        let set = &mut self.places[start..start + WAYS];
        let known = set.iter().position(|place| place.source == source);
        let quietest = || (0..WAYS).min_by_key(|at| set[*at].last_ms);
        let at = known.or_else(quietest).unwrap_or(0);
        if set[at].source != source {
            set[at] = Place {
                source,
                last_ms: now_ms,
                ..Place::default()
            };
        }
        &mut set[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const TEN: Bearable = Bearable {
        unasked_per_s: Some(10.0),
        malformed_per_s: None,
    };

    #[test]
    fn a_source_is_too_much_past_its_rate_and_not_below() {
        let mut strangers = Strangers::default();
        let mut now = Instant::START;
        for _ in 0..10_000 {
            now = now + Duration::from_millis(100);
            assert!(!strangers.note(now, 7, Offence::Unasked, &TEN));
        }
        let over = (0..1_000).position(|_| strangers.note(now, 8, Offence::Unasked, &TEN));
        assert_eq!(over, Some(50));
        // What nobody set a limit to is borne.
        assert!((0..1_000).all(|_| !strangers.note(now, 8, Offence::Malformed, &TEN)));
    }

    #[test]
    fn a_flood_from_many_addresses_does_not_hide_a_fast_one() {
        let mut strangers = Strangers::default();
        let mut caught = 0;
        for turn in 0..100_000_u64 {
            let now = Instant::from_micros(turn * 100);
            strangers.note(
                now,
                turn.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                Offence::Unasked,
                &TEN,
            );
            caught += u32::from(strangers.note(now, 99, Offence::Unasked, &TEN));
        }
        assert!(caught > 1_000, "{caught}");
    }

    #[test]
    fn a_clock_that_went_back_does_no_harm() {
        let mut strangers = Strangers::default();
        strangers.note(Instant::from_micros(u64::MAX), 1, Offence::Malformed, &TEN);
        let both = Bearable {
            malformed_per_s: Some(0.0),
            ..TEN
        };
        assert!(!strangers.note(Instant::START, 1, Offence::Malformed, &both));
    }
}
