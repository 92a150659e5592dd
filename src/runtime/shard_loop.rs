//! The loop of a shard's thread: wait, hand over a batch, keep the deadlines, show that it lives.
//!
//! The clock is read once per batch. Nothing here knows SIP; nothing in the shard knows a thread.

use core::time::Duration;
use std::io;
use std::sync::Arc;

use super::clock::Clock;
use super::gate::{Order, Orders};
use super::os;
use super::pace::Pacer;
use crate::base::Instant;
use crate::config::CoalesceChoice;
use crate::control::Seat;
use crate::guard::overload::Backlog;
use crate::io::{Driver, EVENTS_MORE, Event};
use crate::net::Outbox;
use crate::shard::{Shard, Shared};

/// A shard comes round at least this often, so that the supervisor can tell sleep from stall.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// How old the published census may be while the shard is busy.
const CENSUS_EVERY: Duration = Duration::from_millis(100);
/// How old it may be how far the tables have grown.
const FRESH_EVERY: Duration = Duration::from_millis(100);
/// The driver asks the kernel for each socket's drops when it is asked what it counted.
const DRIVER_COUNTERS_EVERY: Duration = Duration::from_secs(1);
/// Datagrams and octets that a shard may want to send within one batch before the driver drains.
const OUTBOX_DATAGRAMS: usize = 1024;
const OUTBOX_BYTES: usize = 1 << 20;

/// What a shard's loop works with besides the shard itself.
pub struct Surroundings {
    pub clock: Clock,
    pub seat: Arc<Seat>,
    pub shared: Arc<Shared>,
    pub orders: Arc<Orders>,
}

/// How a shard's loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Stopped,
    /// Everything that was taken from the sockets is dealt with.
    StoodStill,
}

/// Runs the shard until the node stops or stands still; an error means that the driver is of no more use.
pub fn run(
    shard: &mut Shard,
    driver: &mut dyn Driver,
    coalesce: CoalesceChoice,
    around: &Surroundings,
) -> io::Result<Ended> {
    let mut out = Outbox::new(OUTBOX_DATAGRAMS, OUTBOX_BYTES);
    let mut publishing = Publishing::default();
    let mut pacer = Pacer::new(coalesce, around.clock.now());
    let (mut waited, mut events) = (false, 0);
    let mut gathered = Duration::ZERO;
    let mut batch = Batch::default();
    let ended = loop {
        match around.orders.present() {
            Order::Run => {}
            Order::Stop => break Ended::Stopped,
            Order::StandStill if stand_still(shard, driver, around, &mut out)? => {
                break Ended::StoodStill;
            }
            // It was called off.
            Order::StandStill => {}
        }
        let now = around.clock.now();
        around.seat.beat(now);
        batch.observe(now, &around.seat);
        let timer_due = shard.next_deadline().is_some_and(|due| due <= now);
        if pacer.note(now, waited, events, timer_due) {
            around.seat.publish_pace(pacer.shown());
        }
        if shard.weighs_backlog() {
            shard.on_backlog(now, backlog(driver, events, gathered));
        }
        if let Some(turnstile) = shard.turnstile_wanted() {
            let kind = driver.turn_away(turnstile.drop_below);
            shard.turnstile_stands(turnstile, kind);
        }
        shard.on_mail(now, &mut out);
        shard.on_deadline(now, &mut out);
        let wait = match pacer.sleep() {
            Some(_) if events >= EVENTS_MORE => Wait::Gather(Duration::ZERO),
            Some(sleep) => Wait::Gather(sleep),
            None => Wait::First(time_to_wait(shard, around, now)),
        };
        publishing.publish(shard, driver, &around.seat, now, wait);
        waited = !wait.is_zero();
        gathered = match wait {
            Wait::Gather(span) => span,
            Wait::First(_) => Duration::ZERO,
        };
        events = turn(shard, driver, around, wait, &mut batch, &mut out)?;
    };
    driver.flush(&mut out);
    around.seat.publish_census(shard.census());
    around
        .seat
        .publish_transactions(shard.transaction_counters());
    around.seat.publish_driver(driver.counters());
    Ok(ended)
}

/// How long a shard waits for the others to stop reading. The supervisor has called it off by then.
const STANDSTILL_PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks.
const STANDSTILL_EVERY: Duration = Duration::from_micros(50);

/// Takes nothing more from the sockets, waits until no shard does, and reads all mail: from then on
/// nothing is under way inside of the node. False = it was called off meanwhile.
fn stand_still(
    shard: &mut Shard,
    driver: &mut dyn Driver,
    around: &Surroundings,
    out: &mut Outbox,
) -> io::Result<bool> {
    let began = around.clock.now();
    around.shared.mail.wake_up(around.seat.shard);
    driver.stop(out, &mut |event, out| match event {
        Event::Datagram { from, bytes } => shard.on_datagram(began, from, bytes, out),
        Event::Unreachable { to, quoted } => shard.on_unreachable(began, to, quoted, out),
        Event::Truncated { .. } | Event::Woken => {}
    })?;
    around.orders.note_stopped();
    while !around.orders.all_stopped() {
        let now = around.clock.now();
        let is_over = now.since(began) > STANDSTILL_PATIENCE;
        if around.orders.present() != Order::StandStill || is_over {
            return Ok(false);
        }
        std::thread::sleep(STANDSTILL_EVERY);
    }
    loop {
        shard.on_mail(around.clock.now(), out);
        driver.flush(out);
        if around.shared.mail.is_empty(around.seat.shard) {
            return Ok(true);
        }
    }
}

/// How the next turn waits.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// At most so long for the first event. What was written before is sent by the driver first.
    First(Duration),
    /// For so long whatever comes. The shard counts as awake to those who send it mail, since it
    /// looks for itself soon enough; deadlines may be late by as much.
    Gather(Duration),
}

impl Wait {
    fn is_zero(self) -> bool {
        match self {
            Wait::First(span) | Wait::Gather(span) => span.is_zero(),
        }
    }
}

/// What waited in the sockets. A turn that has emptied them left nothing behind, and the tick that
/// datagrams were let gather for was meant.
fn backlog(driver: &dyn Driver, events: usize, gathered: Duration) -> Backlog {
    if events < EVENTS_MORE {
        return Backlog::default();
    }
    let seen = driver.backlog();
    Backlog {
        waited: seen.waited.saturating_sub(gathered),
        ..seen
    }
}

/// How long nothing is due. Mail that came in since the inbox was read means: not at all.
fn time_to_wait(shard: &Shard, around: &Surroundings, now: Instant) -> Duration {
    let idle = shard
        .next_deadline()
        .map_or(SLEEP_MAX, |due| due.since(now).min(SLEEP_MAX));
    if idle.is_zero() || around.shared.mail.fall_asleep(around.seat.shard) {
        idle
    } else {
        Duration::ZERO
    }
}

/// Waits for one batch and gives it to the shard, all of it at one moment.
fn turn(
    shard: &mut Shard,
    driver: &mut dyn Driver,
    around: &Surroundings,
    wait: Wait,
    batch: &mut Batch,
    out: &mut Outbox,
) -> io::Result<usize> {
    let mut moment = None;
    let mut datagrams = 0;
    let mail = &around.shared.mail;
    let mut handler = |event: Event<'_>, out: &mut Outbox| {
        let now = *moment.get_or_insert_with(|| {
            // Awake from the first event on: others need not write to the eventfd meanwhile.
            mail.wake_up(around.seat.shard);
            around.clock.now()
        });
        match event {
            Event::Datagram { from, bytes } => {
                datagrams += 1;
                shard.on_datagram(now, from, bytes, out);
            }
            Event::Unreachable { to, quoted } => shard.on_unreachable(now, to, quoted, out),
            // The driver has counted it; there is nothing left that could be answered.
            Event::Truncated { .. } | Event::Woken => {}
        }
    };
    let events = match wait {
        Wait::First(limit) => driver.turn(Some(limit), out, &mut handler)?,
        Wait::Gather(span) => driver.tick(span, out, &mut handler)?,
    };
    mail.wake_up(around.seat.shard);
    *batch = Batch {
        began: moment,
        datagrams,
    };
    Ok(events)
}

/// When the last batch was taken and how many datagrams it had; the loop's next look at the clock
/// says how long it took.
#[derive(Default)]
struct Batch {
    began: Option<Instant>,
    datagrams: u64,
}

impl Batch {
    fn observe(&self, now: Instant, seat: &Seat) {
        if let Some(began) = self.began {
            let histograms = &seat.metrics.histograms;
            histograms.observe_shard_time(now.since(began), self.datagrams);
        }
    }
}

/// When gauges are due again.
#[derive(Default)]
struct Publishing {
    census_due: Instant,
    fresh_due: Instant,
    driver_due: Instant,
}

impl Publishing {
    /// Publishes the census before a sleep, and whatever is due.
    fn publish(
        &mut self,
        shard: &Shard,
        driver: &dyn Driver,
        seat: &Seat,
        now: Instant,
        wait: Wait,
    ) {
        if !wait.is_zero() || now >= self.census_due {
            self.census_due = now + CENSUS_EVERY;
            seat.publish_census(shard.census());
            seat.publish_transactions(shard.transaction_counters());
        }
        if now >= self.fresh_due {
            self.fresh_due = now + FRESH_EVERY;
            seat.publish_fresh(shard.fresh());
        }
        if now >= self.driver_due {
            self.driver_due = now + DRIVER_COUNTERS_EVERY;
            seat.publish_driver(driver.counters());
            seat.publish_cpu_time(os::thread_cpu_time());
        }
    }
}
