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
    tick: Option<Tick>,
    window: Count,
    second: Count,
    shown: Pace,
}

/// How a busy shard waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tick {
    /// From one look at the sockets to the next, as it is meant to be.
    period: Duration,
    /// The part of it that is slept through; the rest is work.
    sleep: Duration,
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

    /// How long to sleep while datagrams gather; `None`: wait for the first.
    pub fn sleep(&self) -> Option<Duration> {
        self.tick.map(|tick| tick.sleep)
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
        let since = self.window.since;
        let count = self.window.take(now);
        let wanted = match self.choice {
            CoalesceChoice::Off => return,
            CoalesceChoice::Tick(sleep) => Tick {
                period: sleep,
                sleep,
            },
            CoalesceChoice::Auto => {
                let period = auto_period(count.per_second(count.events, now));
                let was = now.since(since) / count.wakes.max(1);
                auto_tick(period, self.tick.map(|tick| (tick.sleep, was)))
            }
        };
        let busy = match self.tick {
            // Timers would have woken it as well, so every wait counts.
            None => count.per_second(count.wakes, now) * wanted.period.as_secs_f64() > ENTER_WAKES,
            Some(_) => f64::from(count.useful) >= STAY_USEFUL * f64::from(count.wakes),
        };
        self.tick = busy.then_some(wanted);
    }

    fn show(&mut self, now: Instant) {
        let count = self.second.take(now);
        self.shown = Pace {
            tick: self.tick.map(|tick| tick.period),
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

/// The period of `coalesce = "auto"` for a rate of datagrams.
///
/// Long enough to gather [`GATHER`] of them, so a faster shard answers sooner at the same cost.
fn auto_period(datagrams_per_s: f64) -> Duration {
    let period = Duration::from_secs_f64(GATHER / datagrams_per_s.max(1.0));
    // In steps, so that what `callgate shards` shows does not dance with every window.
    let step = period.as_micros() as u64 / STEP_US * STEP_US;
    Duration::from_micros(step.clamp(AUTO_LEAST_US, AUTO_MOST_US))
}

/// The sleep that makes a period of what was slept and how long the period was. Work and the way
/// into the kernel and back take the rest, which nobody knows but by trying.
fn auto_tick(period: Duration, before: Option<(Duration, Duration)>) -> Tick {
    let least = period.mul_f64(SLEEP_LEAST);
    let sleep = match before {
        None => period.mul_f64(SLEEP_FIRST),
        Some((sleep, was)) if was > period => sleep.saturating_sub((was - period) / 2),
        Some((sleep, was)) => sleep + (period - was) / 2,
    };
    Tick {
        period,
        sleep: sleep.clamp(least, period),
    }
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
/// Datagrams of three to four calls' steps: more would save little more.
const GATHER: f64 = 20.0;
const STEP_US: u64 = 50;
const AUTO_LEAST_US: u64 = 250;
/// A call's INVITE waits for one period and its 180 for nearly another one, so twice this and the
/// work of the last turn must stay below 2 ms.
const AUTO_MOST_US: u64 = 800;
/// A shard sleeps for at least this part of a period, however long its work takes: one that others
/// keep from its CPU would only wake up more often for nothing.
const SLEEP_LEAST: f64 = 0.5;
/// Where the search for the right sleep begins.
const SLEEP_FIRST: f64 = 0.75;

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
        assert_eq!(pacer.sleep(), None);
    }

    #[test]
    fn a_busy_shard_ticks_and_stops_when_it_is_quiet_again() {
        let mut now = Instant::START;
        let mut pacer = Pacer::new(CoalesceChoice::Auto, now);
        pass(&mut pacer, &mut now, 1_000, MS / 5, 1);
        let period = Duration::from_micros(AUTO_MOST_US);
        assert_eq!(pacer.tick.map(|tick| tick.period), Some(period));
        pass(&mut pacer, &mut now, 1_000, period, 1);
        assert!(pacer.sleep().is_some(), "one datagram per tick is enough");
        pass(&mut pacer, &mut now, 100, period, 0);
        assert_eq!(pacer.sleep(), None);
    }

    #[test]
    fn wakes_for_timers_count_as_well() {
        let mut now = Instant::START;
        let mut pacer = Pacer::new(CoalesceChoice::Auto, now);
        for _ in 0..1_000 {
            now = now + MS / 5;
            pacer.note(now, true, 0, true);
        }
        assert!(pacer.sleep().is_some());
    }

    #[test]
    fn off_never_ticks_and_a_given_tick_is_kept() {
        let mut now = Instant::START;
        let mut off = Pacer::new(CoalesceChoice::Off, now);
        pass(&mut off, &mut now, 10_000, MS / 50, 4);
        assert_eq!(off.sleep(), None);
        let given = Duration::from_micros(100);
        let mut fixed = Pacer::new(CoalesceChoice::Tick(given), now);
        pass(&mut fixed, &mut now, 10_000, MS / 50, 4);
        assert_eq!(fixed.sleep(), Some(given));
    }

    #[test]
    fn a_faster_shard_ticks_faster() {
        assert_eq!(auto_period(1_000.0), Duration::from_micros(800));
        assert_eq!(auto_period(32_000.0), Duration::from_micros(600));
        assert_eq!(auto_period(1e6), Duration::from_micros(250));
    }

    #[test]
    fn the_sleep_leaves_room_for_the_work() {
        for (work_us, slept_us) in [(30, 770), (300, 500), (700, 400), (5_000, 400)] {
            let mut now = Instant::START;
            let mut pacer = Pacer::new(CoalesceChoice::Auto, now);
            pass(&mut pacer, &mut now, 1_000, MS / 5, 1);
            for _ in 0..2_000 {
                let sleep = pacer.sleep().expect("it is busy");
                let work = Duration::from_micros(work_us);
                pass(&mut pacer, &mut now, 1, sleep + work, 3);
            }
            let sleep = pacer.sleep().expect("it is busy").as_micros();
            assert!(sleep.abs_diff(slept_us) < 10, "{work_us}: {sleep}");
        }
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
