//! Overload: how much of what is new a shard turns away, so that everything else keeps its pace.
//!
//! Decided by what was measured, never guessed from CPU use: how long datagrams waited in the
//! kernel's queue before the shard took them, and how full that queue is. A controller with a
//! proportional and an integral part moves one number, the pressure; `exp(-pressure)` is the share
//! of new requests that are let in. No clock, no socket, no SIP here; docs/overload.md has the why.

use core::time::Duration;

use crate::base::Instant;

/// `[overload]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The wait that a shard tries not to exceed; `None`: nothing is ever turned away for it.
    pub target: Option<Duration>,
}

impl Default for Rule {
    /// 20 ms is a 25th of T1: no peer sends again for it, no tick of `coalesce` reaches it, and a
    /// neighbour on the same CPU does not bring it about in passing.
    fn default() -> Rule {
        Rule {
            target: Some(Duration::from_millis(20)),
        }
    }
}

/// What a driver saw of its sockets' queues when it had taken a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How long the datagram taken last had waited, without what it was meant to wait.
    pub waited: Duration,
    /// How full the fullest queue is, in hundredths of the room that the kernel granted.
    pub fill_percent: u8,
}

/// Where a new request comes from, as far as it matters for who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A trunk with calls up.
    Talking,
    /// A trunk without.
    Known,
    /// One that asks how loaded we are and sends less when told (RFC 7339): what it sends has been
    /// thinned out already.
    Heeding,
}

/// What there is to drop new requests before they are queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnstileKind {
    /// Nothing.
    Missing,
    /// One that takes a millisecond in the kernel for each move.
    Dear,
    /// One that is moved for nothing.
    Cheap,
}

/// What an operator sees.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shown {
    /// The least wait of the last interval.
    pub waited: Duration,
    pub fill_percent: u8,
    /// The share of new requests turned away, 0 to 1.
    pub shed: f64,
    /// The part of it that is dropped without an answer, 0 to 1 of all new requests.
    pub dropped: f64,
}

/// The controller of one shard.
#[derive(Clone, Debug)]
pub struct Overload {
    rule: Rule,
    /// When the interval under way ends.
    due: Instant,
    /// The least of what was seen in it: a burst that drains at once is no overload.
    least: Option<Backlog>,
    /// How far above its target the last interval was, 1 = on target.
    strain: f64,
    pressure: f64,
    /// What it was on average lately.
    mean_pressure: f64,
    /// Of each 2^32 new requests so many are dropped unread.
    drop_below: u32,
    /// How many steps the turnstile is closed by; `None` = there is none here.
    turnstile: Option<u32>,
    /// Known from its first move on.
    is_cheap: bool,
    /// New requests that were refused and let in since the last step.
    refused: u32,
    let_in: u32,
    /// Of each 2^32 new requests that are read so many are refused.
    shed_below: u32,
    shown: Shown,
}

/// Strength of the answer to a wait that grows or shrinks. With an interval as long as the target
/// a queue that grows by one target per interval means twice the load that can be carried, which
/// ln 2 = 0.69 would correct at once; below it, the calls that are under way have time to show.
const PROPORTIONAL: f64 = 0.5;
/// Strength of the answer to a wait that stays above its target, or below.
const INTEGRAL: f64 = 0.05;
/// What one interval may count for: a queue that cannot grow tells no more.
const STRAIN_MAX: f64 = 4.0;
/// One new request of a thousand is always let in, so that the end of an overload is seen.
const PRESSURE_MAX: f64 = 6.9;
/// From here on (one of twenty let in) further requests are dropped unread: writing nineteen
/// refusals takes more than the call that is let in, and answers and requests inside of dialogs
/// must not be lost between them.
const PRESSURE_REFUSED_MAX: f64 = 3.0;
/// The turnstile, which costs the shard nothing, takes what is past this: nine of ten new requests
/// of those that come through it are let in. A refusal costs a quarter of a call.
const TURNSTILE_FROM: f64 = 0.1;
/// More than one refusal for so many that are let in, and a turnstile closes further that is dear
/// to move: a twentieth of what the shard could carry goes into refusing then.
const DEAR_PART: u32 = 5;
/// The same for one that is cheap to move.
const CHEAP_PART: u32 = 20;
/// Over how many intervals the pressure is averaged, about.
const MEAN_INTERVALS: f64 = 8.0;
/// So much above the average it is the begin of an overload: half of what was let in is too much.
const ONSET: f64 = 0.7;
/// How much further out each step keeps: a twentieth of what the one before let through.
const TURNSTILE_STEP: f64 = 0.05;
/// One that is dear to move goes so many steps at a time.
const STRIDE: u32 = 3;
/// One of a hundred comes through.
const TURNSTILE_STEPS_MAX: u32 = 93;
/// A queue so full is as bad as one that waits for its target: a small one (`rmem_max`) runs over
/// before anything has waited long.
const FILL_TARGET_PERCENT: f64 = 50.0;
const INTERVAL_MOST: Duration = Duration::from_millis(20);
/// Intervals that a shard may have slept through; more of them change nothing.
const INTERVALS_MAX: u64 = 1_000;

impl Overload {
    /// At rest.
    pub fn new(rule: Rule, now: Instant) -> Overload {
        Overload {
            rule,
            due: now,
            least: None,
            strain: 0.0,
            pressure: 0.0,
            mean_pressure: 0.0,
            drop_below: 0,
            turnstile: Some(0),
            is_cheap: false,
            refused: 0,
            let_in: 0,
            shed_below: 0,
            shown: Shown::default(),
        }
    }

    /// Works by another rule from now on.
    pub fn adopt(&mut self, rule: Rule) {
        self.rule = rule;
        if rule.target.is_none() {
            *self = Overload {
                // What stands is taken down when the loop asks next.
                turnstile: self.turnstile,
                is_cheap: self.is_cheap,
                ..Overload::new(rule, self.due)
            };
        }
    }

    /// Takes what the driver saw after a batch.
    pub fn observe(&mut self, now: Instant, seen: Backlog) {
        let Some(target) = self.rule.target else {
            return;
        };
        let Some(least) = &mut self.least else {
            return self.begin(now, target, seen);
        };
        least.waited = least.waited.min(seen.waited);
        least.fill_percent = least.fill_percent.min(seen.fill_percent);
        let least = *least;
        if now < self.due {
            return;
        }
        self.rest(now, least, target);
        self.refused /= 2;
        self.let_in /= 2;
        self.step(strain(least, target));
        self.show(least);
        self.begin(now, target, seen);
    }

    /// Begins an interval with a look. Two looks are the least that it takes: what a shard finds
    /// after it was kept from its CPU for a while drains by the next one.
    fn begin(&mut self, now: Instant, target: Duration, seen: Backlog) {
        self.least = Some(seen);
        self.due = now + interval(target);
    }

    /// Whether anything is turned away.
    pub fn is_on(&self) -> bool {
        self.shed_below > 0
    }

    /// Whether a new request is dropped before it is read; `draw` is any evenly spread number.
    pub fn drops(&self, draw: u32) -> bool {
        draw < self.drop_below
    }

    /// Whether a new request that was read is refused. `draw` must be the same for each
    /// retransmission of it, or one of them would be answered and another one let in.
    pub fn sheds(&mut self, draw: u32, standing: Standing) -> bool {
        let below = match standing {
            Standing::Talking => self.shed_below,
            Standing::Known => self.shed_below.saturating_mul(2),
            // One who says so and sends on meets what everybody meets past the last refusal.
            Standing::Heeding => self.drop_below,
        };
        let is_refused = draw < below;
        // The turnstile cannot tell who heeds: it is not for them that it closes.
        self.refused += u32::from(is_refused && standing != Standing::Heeding);
        self.let_in += u32::from(!is_refused);
        is_refused
    }

    /// The steps that the turnstile is to be closed by, where they are others than it is.
    pub fn turnstile_wanted(&self) -> Option<u32> {
        let steps = self.turnstile?;
        let (pressure, stride, part) = match self.is_cheap {
            true => (self.pressure, 1, CHEAP_PART),
            false => (self.lasting(), STRIDE, DEAR_PART),
        };
        let ideal = ((pressure - TURNSTILE_FROM) / TURNSTILE_STEP).floor();
        let ideal = (ideal.max(0.0) as u32).min(TURNSTILE_STEPS_MAX) / stride * stride;
        let words_are_dear = self.refused > self.let_in / part;
        // Between the two it stays where it is, or it would be moved with every interval.
        let is_too_far = pressure < f64::from(steps) * TURNSTILE_STEP;
        let wanted = match ideal {
            closer if closer > steps && words_are_dear => closer,
            wider if wider < steps && is_too_far => wider,
            _ => steps,
        };
        (wanted != steps).then_some(wanted)
    }

    /// The pressure that a turnstile follows which is dear to move: what comes and goes within some
    /// intervals is left to words; the begin of an overload is not.
    fn lasting(&self) -> f64 {
        if self.pressure == 0.0 || self.pressure > self.mean_pressure + ONSET {
            return self.pressure;
        }
        self.mean_pressure
    }

    /// What share of 2^32 new INVITEs a turnstile drops that is closed by so many steps.
    pub fn turnstile_drops(steps: u32) -> u32 {
        part_of_2_32(1.0 - (-TURNSTILE_STEP * f64::from(steps)).exp())
    }

    /// Hears that the turnstile was moved to so many steps, if there is one.
    pub fn turnstile_stands(&mut self, steps: u32, kind: TurnstileKind) {
        (self.turnstile, self.is_cheap) = match kind {
            TurnstileKind::Missing => (None, false),
            TurnstileKind::Dear => (Some(steps), false),
            TurnstileKind::Cheap => (Some(steps), true),
        };
        self.share_out();
    }

    /// What an operator sees.
    pub fn shown(&self) -> Shown {
        self.shown
    }

    /// Intervals that passed without a look, and nothing waits: the shard had nothing to do.
    fn rest(&mut self, now: Instant, seen: Backlog, target: Duration) {
        if seen != Backlog::default() {
            return;
        }
        let slept = now.since(self.due).as_micros() / interval(target).as_micros().max(1);
        for _ in 0..u64::try_from(slept).unwrap_or(u64::MAX).min(INTERVALS_MAX) {
            if self.pressure == 0.0 {
                break;
            }
            self.step(0.0);
        }
    }

    fn step(&mut self, strain: f64) {
        let growth = strain - self.strain;
        self.strain = strain;
        if self.pressure == 0.0 && strain <= 1.0 {
            return;
        }
        let change = PROPORTIONAL * growth + INTEGRAL * (strain - 1.0);
        self.pressure = (self.pressure + change).clamp(0.0, PRESSURE_MAX);
        self.mean_pressure += (self.pressure - self.mean_pressure) / MEAN_INTERVALS;
        self.share_out();
    }

    /// What the turnstile leaves of the pressure is refused in words, and what is past words is
    /// dropped unread.
    fn share_out(&mut self) {
        let kept_out = f64::from(self.turnstile.unwrap_or(0)) * TURNSTILE_STEP;
        let left = (self.pressure - kept_out).max(0.0);
        let refused = left.min(PRESSURE_REFUSED_MAX);
        self.shed_below = part_of_2_32(1.0 - (-refused).exp());
        self.drop_below = part_of_2_32(1.0 - (refused - left).exp());
    }

    fn show(&mut self, least: Backlog) {
        let kept_out = f64::from(self.turnstile.unwrap_or(0)) * TURNSTILE_STEP;
        let read = (-kept_out).exp() * (1.0 - f64::from(self.drop_below) / TWO_32);
        let dropped = 1.0 - read;
        self.shown = Shown {
            waited: least.waited,
            fill_percent: least.fill_percent,
            shed: 1.0 - (-self.pressure).exp(),
            dropped,
        };
    }
}

/// How long looks are gathered before they are judged. No longer than the target, or the queue
/// could grow by several of it meanwhile; with a long target the end of an overload is still seen
/// within three seconds (`PRESSURE_MAX` / `INTEGRAL` intervals).
fn interval(target: Duration) -> Duration {
    target.min(INTERVAL_MOST)
}

/// How far above its target a queue is, 1 = on target.
fn strain(seen: Backlog, target: Duration) -> f64 {
    let waited = seen.waited.as_secs_f64() / target.as_secs_f64().max(1e-6);
    let filled = f64::from(seen.fill_percent) / FILL_TARGET_PERCENT;
    waited.max(filled).min(STRAIN_MAX)
}

const TWO_32: f64 = 4_294_967_296.0;

fn part_of_2_32(share: f64) -> u32 {
    // A float that is out of range is cut to the nearest number there is.
    (share * TWO_32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(20);

    fn waited(ms: u64) -> Backlog {
        Backlog {
            waited: Duration::from_millis(ms),
            fill_percent: 0,
        }
    }

    /// Lets the controller see the same for `times` intervals.
    fn see(overload: &mut Overload, now: &mut Instant, seen: Backlog, times: usize) {
        for _ in 0..times {
            *now = *now + TARGET;
            overload.observe(*now, seen);
        }
    }

    fn at_rest() -> (Overload, Instant) {
        let now = Instant::from_micros(5_000_000);
        (Overload::new(Rule::default(), now), now)
    }

    #[test]
    fn nothing_is_shed_up_to_the_target() {
        let (mut overload, mut now) = at_rest();
        see(&mut overload, &mut now, waited(20), 1_000);
        assert!(!overload.is_on());
        assert!(!overload.sheds(0, Standing::Known));
    }

    #[test]
    fn a_shard_that_was_kept_from_its_cpu_turns_nobody_away() {
        let (mut overload, mut now) = at_rest();
        for _ in 0..1_000 {
            now = now + Duration::from_millis(300);
            overload.observe(now, waited(300));
            now = now + Duration::from_millis(1);
            overload.observe(now, waited(0));
        }
        assert!(!overload.is_on());
    }

    #[test]
    fn a_burst_that_drains_within_an_interval_is_no_overload() {
        let (mut overload, mut now) = at_rest();
        for _ in 0..1_000 {
            now = now + TARGET / 2;
            overload.observe(now, waited(80));
            now = now + TARGET / 2;
            overload.observe(now, waited(0));
        }
        assert!(!overload.is_on());
    }

    #[test]
    fn a_standing_queue_sheds_more_and_more_and_an_empty_one_less_and_less() {
        let (mut overload, mut now) = at_rest();
        see(&mut overload, &mut now, waited(40), 3);
        let first = overload.shown().shed;
        see(&mut overload, &mut now, waited(40), 50);
        assert!(first > 0.0 && overload.shown().shed > first);
        // From everything to nothing within five seconds, whatever it was.
        see(&mut overload, &mut now, waited(1_000), 1_000);
        assert!(overload.shown().shed > 0.99);
        see(&mut overload, &mut now, waited(0), 200);
        assert!(!overload.is_on());
    }

    #[test]
    fn time_asleep_is_time_without_a_queue() {
        let (mut overload, mut now) = at_rest();
        see(&mut overload, &mut now, waited(1_000), 100);
        assert!(overload.is_on());
        now = now + Duration::from_secs(3_600);
        overload.observe(now, waited(0));
        assert!(!overload.is_on());
    }

    #[test]
    fn a_small_queue_counts_by_how_full_it_is() {
        let (mut overload, mut now) = at_rest();
        let full = Backlog {
            waited: Duration::from_micros(300),
            fill_percent: 97,
        };
        see(&mut overload, &mut now, full, 20);
        assert!(overload.shown().shed > 0.3);
    }

    #[test]
    fn peers_with_calls_up_are_refused_half_as_often() {
        let (mut overload, mut now) = at_rest();
        see(&mut overload, &mut now, waited(22), 2);
        let mut count = |standing| {
            let draws = (0..1_000_u32).map(|draw| draw * 4_294_967);
            draws.filter(|draw| overload.sheds(*draw, standing)).count()
        };
        let (talking, known) = (count(Standing::Talking), count(Standing::Known));
        assert!(
            talking > 100 && known.abs_diff(2 * talking) < 3,
            "{talking} {known}"
        );
    }

    #[test]
    fn something_is_always_let_in() {
        let (mut overload, mut now) = at_rest();
        see(&mut overload, &mut now, waited(60_000), 10_000);
        assert!(!overload.drops(u32::MAX));
        assert!(!overload.sheds(u32::MAX, Standing::Talking));
        assert!(overload.drops(0) && overload.shown().dropped > 0.9);
    }

    #[test]
    fn the_turnstile_closes_where_refusing_gets_dear_and_opens_again() {
        let (mut overload, mut now) = at_rest();
        see(&mut overload, &mut now, waited(60), 20);
        assert_eq!(overload.turnstile_wanted(), None, "nobody was refused");
        for draw in 0..1_000_u32 {
            overload.sheds(draw * 4_294_967, Standing::Talking);
        }
        let before = overload.clone();
        let steps = overload.turnstile_wanted().expect("it is dear");
        overload.turnstile_stands(steps, TurnstileKind::Dear);
        assert_eq!(overload.turnstile_wanted(), None);
        // What gets in at last is the same; most of what does not is kept out for nothing.
        let passed = |overload: &Overload, steps: u32| {
            let through = |below: u32| 1.0 - f64::from(below) / TWO_32;
            through(Overload::turnstile_drops(steps))
                * through(overload.drop_below)
                * through(overload.shed_below)
        };
        let (with, without) = (passed(&overload, steps), passed(&before, 0));
        assert!((with / without - 1.0).abs() < 0.001, "{with} {without}");
        assert!(f64::from(overload.shed_below) / TWO_32 < 0.4);
        see(&mut overload, &mut now, waited(0), 300);
        assert_eq!(overload.turnstile_wanted(), Some(0));
        overload.turnstile_stands(0, TurnstileKind::Dear);
        assert!(!overload.is_on());
    }

    #[test]
    fn a_turnstile_that_is_cheap_to_move_leaves_few_to_words() {
        let (mut overload, mut now) = at_rest();
        overload.turnstile_stands(0, TurnstileKind::Cheap);
        for ms in [60, 60, 200, 80, 30, 10, 25, 40] {
            see(&mut overload, &mut now, waited(ms), 5);
            for draw in 0..1_000_u32 {
                overload.sheds(draw * 4_294_967, Standing::Talking);
            }
            if let Some(steps) = overload.turnstile_wanted() {
                overload.turnstile_stands(steps, TurnstileKind::Cheap);
            }
            // TURNSTILE_FROM and a step: a seventh.
            let refused = f64::from(overload.shed_below) / TWO_32;
            assert!(refused < 0.14, "{ms} ms: {refused}");
        }
    }

    #[test]
    fn without_a_turnstile_none_is_asked_for() {
        let (mut overload, mut now) = at_rest();
        overload.turnstile_stands(0, TurnstileKind::Missing);
        see(&mut overload, &mut now, waited(60), 20);
        for draw in 0..1_000_u32 {
            overload.sheds(draw, Standing::Talking);
        }
        assert_eq!(overload.turnstile_wanted(), None);
    }

    #[test]
    fn off_is_off_also_in_the_middle_of_it() {
        let (mut overload, mut now) = at_rest();
        see(&mut overload, &mut now, waited(1_000), 100);
        overload.adopt(Rule { target: None });
        assert!(!overload.is_on());
        see(&mut overload, &mut now, waited(1_000), 100);
        assert!(!overload.is_on() && !overload.drops(0));
    }

    #[test]
    fn a_clock_that_stands_still_and_absurd_waits_do_no_harm() {
        let (mut overload, now) = at_rest();
        for _ in 0..100 {
            overload.observe(
                now,
                Backlog {
                    waited: Duration::MAX,
                    fill_percent: u8::MAX,
                },
            );
        }
        assert!(overload.shown().shed.is_finite());
        let mut instant = Overload::new(
            Rule {
                target: Some(Duration::ZERO),
            },
            now,
        );
        instant.observe(now, waited(1));
        assert!(instant.shown().shed.is_finite());
    }
}
