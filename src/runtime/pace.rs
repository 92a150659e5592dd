//! Whether a shard waits for each datagram or lets them gather for a tick: interrupt coalescing.
//!
//! A wake-up costs more than the datagram that caused it, so a busy shard sleeps a bounded tick
//! between two looks at its sockets. Decided by what was counted over short windows; no clock here.

use core::time::Duration;

use crate::base::Instant;
use crate::config::CoalesceChoice;
use crate::control::Pace;

/// Decides, turn by turn, how a shard waits.
#[derive(Debug)]
pub struct Pacer {
    choice: CoalesceChoice,
    /// The tick in force; `None` while the shard waits for each datagram.
    tick: Option<Duration>,
    window: Count,
    second: Count,
    shown: Pace,
}

/// What happened since a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    since: Instant,
    /// Waits, of either kind, that were over.
    wakes: u32,
    /// Those of them after which there was something to do.
    useful: u32,
    events: u32,
}

impl Pacer {
    /// Starts as a quiet shard.
    pub fn new(choice: CoalesceChoice, now: Instant) -> Pacer {
        let count = Count {
            since: now,
            ..Count::default()
        };
        Pacer {
            choice,
            tick: None,
            window: count,
            second: count,
            shown: Pace::default(),
        }
    }

    /// How long datagrams may gather before the next look; `None`: wait for the first.
    pub fn tick(&self) -> Option<Duration> {
        self.tick
    }

    /// Notes a turn: whether it had waited, what it brought, and whether a timer was due besides.
    /// True when there is something new to [`Pacer::shown`].
    pub fn note(&mut self, now: Instant, waited: bool, events: usize, timer_due: bool) -> bool {
        for count in [&mut self.window, &mut self.second] {
            count.wakes += u32::from(waited);
            count.useful += u32::from(waited && (events > 0 || timer_due));
            count.events = count.events.saturating_add(events as u32);
        }
        if now.since(self.window.since) >= WINDOW {
            self.decide(now);
        }
        let over = now.since(self.second.since) >= SHOWN_EVERY;
        if over {
            self.show(now);
        }
        over
    }

    /// What an operator sees of the last second.
    pub fn shown(&self) -> Pace {
        self.shown
    }

    fn decide(&mut self, now: Instant) {
        let count = self.window.take(now);
        let wanted = match self.choice {
            CoalesceChoice::Off => return,
            CoalesceChoice::Tick(tick) => tick,
            CoalesceChoice::Auto => auto_tick(count.per_second(count.events, now)),
        };
        let busy = match self.tick {
            // Timers would have woken it as well, so every wait counts.
            None => count.per_second(count.wakes, now) * wanted.as_secs_f64() > ENTER_WAKES,
            Some(_) => f64::from(count.useful) >= STAY_USEFUL * f64::from(count.wakes),
        };
        self.tick = busy.then_some(wanted);
    }

    fn show(&mut self, now: Instant) {
        let count = self.second.take(now);
        self.shown = Pace {
            tick: self.tick,
            wakes_per_s: count.per_second(count.wakes, now),
            datagrams_per_wake: f64::from(count.events) / f64::from(count.wakes.max(1)),
        };
    }
}

impl Count {
    /// Gives what was counted and begins again.
    fn take(&mut self, now: Instant) -> Count {
        let ended = *self;
        *self = Count {
            since: now,
            ..Count::default()
        };
        ended
    }

    fn per_second(&self, count: u32, now: Instant) -> f64 {
        f64::from(count) / now.since(self.since).as_secs_f64().max(1e-6)
    }
}

/// The tick of `coalesce = "auto"` for a rate of datagrams.
///
/// Long enough to gather [`GATHER`] of them, so a faster shard answers sooner at the same cost.
fn auto_tick(datagrams_per_s: f64) -> Duration {
    let tick = Duration::from_secs_f64(GATHER / datagrams_per_s.max(1.0));
    // In steps, so that what `callgate shards` shows does not dance with every window.
    let step = tick.as_micros() as u64 / STEP_US * STEP_US;
    Duration::from_micros(step.clamp(AUTO_LEAST_US, AUTO_MOST_US))
}

/// How often the pace is decided: at the least rate that matters about 60 waits.
const WINDOW: Duration = Duration::from_millis(50);
/// How often the shown figures change.
const SHOWN_EVERY: Duration = Duration::from_secs(1);
/// Ticking begins where it saves one wake-up of five.
const ENTER_WAKES: f64 = 1.25;
/// Ticking ends where every second tick finds nothing to do. Datagrams that come independently
/// of each other at the rate that began it leave 29 % of the ticks empty.
const STAY_USEFUL: f64 = 0.5;
const GATHER: f64 = 16.0;
const STEP_US: u64 = 50;
const AUTO_LEAST_US: u64 = 250;
/// A call's INVITE waits for one tick and its 180 for nearly another one, so twice this and the work
/// of two turns must stay below 2 ms.
const AUTO_MOST_US: u64 = 750;

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a pacer see `turns` turns, `every` apart, each with `events`.
    fn pass(pacer: &mut Pacer, now: &mut Instant, turns: u32, every: Duration, events: usize) {
        for _ in 0..turns {
            *now = *now + every;
            pacer.note(*now, true, events, false);
        }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_quiet_shard_waits_for_each_datagram() {
        let mut now = Instant::START;
        let mut pacer = Pacer::new(CoalesceChoice::Auto, now);
        pass(&mut pacer, &mut now, 1_000, MS, 1);
        assert_eq!(pacer.tick(), None);
    }

    #[test]
    fn a_busy_shard_ticks_and_stops_when_it_is_quiet_again() {
        let mut now = Instant::START;
        let mut pacer = Pacer::new(CoalesceChoice::Auto, now);
        pass(&mut pacer, &mut now, 1_000, MS / 5, 1);
        assert_eq!(pacer.tick(), Some(Duration::from_micros(750)));
        let tick = MS * 3 / 4;
        pass(&mut pacer, &mut now, 1_000, tick, 1);
        assert_eq!(pacer.tick(), Some(tick), "one datagram per tick is enough");
        pass(&mut pacer, &mut now, 100, tick, 0);
        assert_eq!(pacer.tick(), None);
    }

    #[test]
    fn wakes_for_timers_count_as_well() {
        let mut now = Instant::START;
        let mut pacer = Pacer::new(CoalesceChoice::Auto, now);
        for _ in 0..1_000 {
            now = now + MS / 5;
            pacer.note(now, true, 0, true);
        }
        assert!(pacer.tick().is_some());
    }

    #[test]
    fn off_never_ticks_and_a_given_tick_is_kept() {
        let mut now = Instant::START;
        let mut off = Pacer::new(CoalesceChoice::Off, now);
        pass(&mut off, &mut now, 10_000, MS / 50, 4);
        assert_eq!(off.tick(), None);
        let given = Duration::from_micros(100);
        let mut fixed = Pacer::new(CoalesceChoice::Tick(given), now);
        pass(&mut fixed, &mut now, 10_000, MS / 50, 4);
        assert_eq!(fixed.tick(), Some(given));
    }

    #[test]
    fn a_faster_shard_ticks_faster() {
        assert_eq!(auto_tick(1_000.0), Duration::from_micros(750));
        assert_eq!(auto_tick(32_000.0), Duration::from_micros(500));
        assert_eq!(auto_tick(1e6), Duration::from_micros(250));
    }

    #[test]
    fn an_operator_sees_the_last_second() {
        let mut now = Instant::START;
        let mut pacer = Pacer::new(CoalesceChoice::Off, now);
        pass(&mut pacer, &mut now, 1_000, MS, 3);
        let shown = pacer.shown();
        assert_eq!(shown.tick, None);
        assert!((shown.wakes_per_s - 1_000.0).abs() < 1.0);
        assert!((shown.datagrams_per_wake - 3.0).abs() < 0.01);
    }
}
