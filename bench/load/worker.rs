//! The loop of one thread: start what is due, keep the timers, take what has come.
//!
//! The driver, the wheel and the parser are the library's, so the generator pays per datagram what
//! the node pays.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use callgate::base::{Instant, Random, Wheel};
use callgate::io::{Driver, Event, IoKind, Options, Socket};
use callgate::net::{Flow, Outbox};
use callgate::sip::{Method, Scratch, parse, reply_address};

use crate::answerer::{Answerer, Context};
use crate::args::Io;
use crate::caller::Caller;
use crate::clock::Clock;
use crate::desk::{CALLEE, CALLER, Desk, Due};
use crate::grouped::GroupedDriver;
use crate::pace::Pace;
use crate::permit::Permit;
use crate::plan::Plan;
use crate::tally::Tally;
use crate::wording::Place;

/// A thread looks at the other threads' state at least this often.
const WAIT_MAX: Duration = Duration::from_millis(50);
const PUBLISH_EVERY: Duration = Duration::from_millis(50);
/// Calls started between two looks at the sockets: a late thread must not starve its answers.
const STARTS_MAX: usize = 256;
const OUTBOX_DATAGRAMS: usize = 4096;
const OUTBOX_BYTES: usize = 4 << 20;
/// As a share of the socket's queue, 4 ms of a thread at 100,000 datagrams per second.
const RECEIVE_BUFFERS: u16 = 512;
const FIELDS_MAX: usize = 64;
/// A turn with fewer events has emptied the sockets.
const DRAINED: usize = 16;
/// How long a callee waits for the last ACK and BYE once all callers are done.
const CALLEE_PATIENCE: Duration = Duration::from_secs(1);

/// What the threads and the one that watches them share.
#[derive(Default)]
pub struct Shared {
    /// No more calls.
    pub stop: Arc<AtomicBool>,
    /// Threads whose calls are not all over.
    pub callers_busy: AtomicUsize,
    /// Threads that run.
    pub running: AtomicUsize,
    pub started: AtomicU64,
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    pub up: AtomicU64,
    pub answered: AtomicU64,
}

/// What one thread is given.
pub struct Seat {
    pub index: usize,
    pub sockets: Vec<Arc<Socket>>,
    /// Where its calls go.
    pub target: SocketAddr,
    /// Its share of the calls.
    pub share: u64,
    pub seed: [u64; 4],
    /// When the first call of all threads is due.
    pub start: Instant,
}

/// One thread's part of a run.
pub struct Worker<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    clock: Clock,
    role: Role,
    driver: Box<dyn Driver>,
    out: Outbox,
    pace: Pace,
    end: Instant,
    calls_done: Option<Instant>,
    publish_due: Instant,
    published: [u64; 5],
    /// Of the latest turn.
    events: usize,
}

/// Everything that handles an event; apart from the driver, which lends the bytes meanwhile.
struct Role {
    caller: Caller,
    answerer: Answerer,
    wheel: Wheel<Due>,
    tally: Tally,
    scratch: Scratch,
    permit: Permit,
}

impl<'a> Worker<'a> {
    /// Takes all memory that the run will need.
    pub fn new(seat: Seat, plan: &'a Plan, shared: &'a Shared, clock: Clock) -> io::Result<Self> {
        let driver = open(plan, &seat.sockets)?;
        let mut random = Random::new(seat.seed);
        let place = Place {
            local: seat.sockets[usize::from(CALLER.0)].local(),
            salt: format!("{:016x}", random.next_u64()),
        };
        let locals: Vec<SocketAddr> = seat.sockets.iter().map(|socket| socket.local()).collect();
        let threads = plan.cpus.len() as f64;
        let offset = Duration::from_secs_f64(seat.index as f64 / threads / plan.rate_each());
        let start = seat.start + offset;
        let share = if plan.calls_out { seat.share } else { 0 };
        let first = seat.index as u64 * plan.calls_max;
        let mut caller = Caller::new(
            plan,
            seat.target,
            &place,
            Random::new(seeds(&mut random)),
            first,
        );
        caller.set_end(seat.start + plan.time);
        Ok(Worker {
            plan,
            shared,
            clock,
            role: Role {
                caller,
                answerer: Answerer::new(plan, &locals, random),
                wheel: Wheel::new(2 * plan.table_each(), clock.now()),
                tally: Tally::new(),
                scratch: Scratch::new(FIELDS_MAX),
                permit: plan.permit.clone(),
            },
            driver,
            out: Outbox::new(OUTBOX_DATAGRAMS, OUTBOX_BYTES),
            pace: Pace::new(start, plan.rate_each(), share, plan.time),
            end: seat.start + plan.time,
            calls_done: None,
            publish_due: Instant::START,
            published: [0; 5],
            events: 0,
        })
    }

    /// Runs until all calls are over; gives what happened.
    pub fn run(mut self) -> io::Result<Tally> {
        let tick = self.plan.tick_each();
        loop {
            let now = self.clock.now();
            if self.shared.stop.load(Ordering::Relaxed) {
                self.pace.stop();
            }
            self.start_due(now);
            self.role.keep_timers(now, &mut self.out);
            self.publish(now);
            if self.is_over(now) {
                break;
            }
            self.turn(tick)?;
        }
        self.close()
    }

    fn start_due(&mut self, now: Instant) {
        for _ in 0..STARTS_MAX {
            let Some(due) = self.pace.take_due(now) else {
                return;
            };
            let Role {
                caller,
                wheel,
                tally,
                ..
            } = &mut self.role;
            let mut desk = Desk {
                now,
                wheel,
                out: &mut self.out,
                tally,
            };
            caller.start(&mut desk, due);
            if self.out.is_nearly_full() {
                self.driver.flush(&mut self.out);
            }
        }
    }

    /// Waits for datagrams and takes them: woken by each, or after a tick for all at once. A turn
    /// that brought many leaves more behind, so the next one follows without a sleep.
    fn turn(&mut self, tick: Option<Duration>) -> io::Result<()> {
        let now = self.clock.now();
        let mut wait = self.next_due().since(now).min(WAIT_MAX);
        if let Some(tick) = tick {
            self.driver.flush(&mut self.out);
            if !wait.is_zero() && self.events < DRAINED {
                std::thread::sleep(tick.min(wait.max(tick / 2)));
            }
            wait = Duration::ZERO;
        }
        let (role, clock) = (&mut self.role, self.clock);
        self.driver
            .turn(Some(wait), &mut self.out, &mut |event, out| {
                role.on_event(clock.now(), event, out);
            })?;
        Ok(())
    }

    fn next_due(&self) -> Instant {
        let call = self.pace.next_due();
        let timer = self.role.wheel.next_deadline();
        let never = Instant::from_micros(u64::MAX);
        call.unwrap_or(never).min(timer.unwrap_or(never))
    }

    /// Whether this thread has nothing more to do, for itself and for the others.
    fn is_over(&mut self, now: Instant) -> bool {
        if self.calls_done.is_none() && self.own_calls_are_over(now) {
            self.calls_done = Some(now);
            self.shared.callers_busy.fetch_sub(1, Ordering::Relaxed);
        }
        let Some(done) = self.calls_done else {
            return false;
        };
        if !self.plan.calls_out {
            return true;
        }
        let others = self.shared.callers_busy.load(Ordering::Relaxed);
        others == 0 && (self.role.answerer.busy() == 0 || now >= done + CALLEE_PATIENCE)
    }

    fn own_calls_are_over(&self, now: Instant) -> bool {
        let stopped = self.shared.stop.load(Ordering::Relaxed);
        if !self.plan.calls_out {
            let answered = self.shared.answered.load(Ordering::Relaxed);
            return now >= self.end || stopped || answered >= self.plan.calls_max;
        }
        let is_given_up = now >= self.end + self.plan.drain;
        self.pace.next_due().is_none() && (self.role.caller.busy() == 0 || is_given_up)
    }

    fn close(mut self) -> io::Result<Tally> {
        let Role {
            caller,
            wheel,
            tally,
            ..
        } = &mut self.role;
        let mut desk = Desk {
            now: self.clock.now(),
            wheel,
            out: &mut self.out,
            tally,
        };
        caller.give_up(&mut desk);
        self.driver.flush(&mut self.out);
        self.publish_due = Instant::START;
        self.publish(self.clock.now());
        self.role.tally.driver = self.driver.counters();
        self.role.tally.driver_name = self.driver.name();
        Ok(self.role.tally)
    }

    /// Adds what happened since the last time to the figures of the progress line.
    fn publish(&mut self, now: Instant) {
        if now < self.publish_due {
            return;
        }
        self.publish_due = now + PUBLISH_EVERY;
        self.role.caller.sweep(now);
        self.role.answerer.sweep(now);
        let counts = &self.role.tally.counts;
        let present = [
            counts.started,
            counts.succeeded,
            counts.failed,
            self.role.caller.busy() as u64,
            self.role.answerer.ended(),
        ];
        let shared = [
            &self.shared.started,
            &self.shared.succeeded,
            &self.shared.failed,
            &self.shared.up,
            &self.shared.answered,
        ];
        for ((total, new), old) in shared.into_iter().zip(present).zip(self.published) {
            // A gauge may fall: the difference wraps, and so does the sum.
            total.fetch_add(new.wrapping_sub(old), Ordering::Relaxed);
        }
        self.published = present;
    }
}

impl Role {
    fn on_event(&mut self, now: Instant, event: Event<'_>, out: &mut Outbox) {
        match event {
            Event::Datagram { from, bytes } => self.on_datagram(now, from, bytes, out),
            Event::Unreachable { quoted, .. } => {
                self.tally.counts.unreachable += 1;
                let Role {
                    caller,
                    wheel,
                    tally,
                    ..
                } = self;
                let mut desk = Desk {
                    now,
                    wheel,
                    out,
                    tally,
                };
                caller.on_unreachable(&mut desk, quoted);
            }
            Event::Truncated { .. } => self.tally.counts.malformed += 1,
            Event::Woken => {}
        }
    }

    fn on_datagram(&mut self, now: Instant, from: Flow, bytes: &[u8], out: &mut Outbox) {
        let Role {
            caller,
            answerer,
            wheel,
            tally,
            scratch,
            permit,
        } = self;
        if !permit.allows(from.remote.ip()) {
            tally.counts.foreign += 1;
            return;
        }
        let Ok(message) = parse(bytes, scratch) else {
            tally.counts.malformed += 1;
            return;
        };
        let mut desk = Desk {
            now,
            wheel,
            out,
            tally,
        };
        if !message.is_request() {
            return caller.on_response(&mut desk, &message);
        }
        if message.method() == Method::Bye && caller.on_bye(&mut desk, &message) {
            if let Ok(via) = message.top_via() {
                let reply_to = reply_address(&via, from.remote);
                let context = Context {
                    from,
                    reply_to,
                    request: message,
                    via,
                };
                answerer.answer_plainly(&mut desk, &context, 200);
            }
            return;
        }
        answerer.on_request(&mut desk, from, &message);
    }

    fn keep_timers(&mut self, now: Instant, out: &mut Outbox) {
        while let Some(due) = self.wheel.pop_expired(now) {
            let Role {
                caller,
                answerer,
                wheel,
                tally,
                ..
            } = self;
            let mut desk = Desk {
                now,
                wheel,
                out,
                tally,
            };
            match due {
                Due::Caller(key) => caller.on_timer(&mut desk, key),
                Due::Callee(key) => answerer.on_timer(&mut desk, key),
            }
        }
    }
}

/// The driver that the plan asks for.
fn open(plan: &Plan, sockets: &[Arc<Socket>]) -> io::Result<Box<dyn Driver>> {
    let options = Options {
        receive_buffers: RECEIVE_BUFFERS,
        ..Options::default()
    };
    let kind = match plan.io {
        Io::Grouped => return Ok(Box::new(GroupedDriver::open(sockets)?)),
        Io::Auto if plan.tick_each().is_some() => {
            if let Ok(driver) = GroupedDriver::open(sockets) {
                return Ok(Box::new(driver));
            }
            IoKind::Auto
        }
        Io::Auto => IoKind::Auto,
        Io::Uring => IoKind::Uring,
        Io::Mmsg => IoKind::Mmsg,
    };
    callgate::io::open(kind, sockets, options).map(|(driver, _why)| driver)
}

/// A seed for another stream.
fn seeds(random: &mut Random) -> [u64; 4] {
    [(); 4].map(|()| random.next_u64())
}

const _: () = assert!(CALLER.0 == 0 && CALLEE.0 == 1);
