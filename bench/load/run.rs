//! One run: sockets, threads, the progress line, and the sum of what the threads tell.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use callgate::base::Instant;
use callgate::io::{Buffers, Socket, bind_group};

use crate::clock::{Clock, fresh_seed};
use crate::plan::Plan;
use crate::tally::Tally;
use crate::worker::{Seat, Shared, Worker};

/// Time for all threads to take their memory before the first call is due.
const HEAD_START: Duration = Duration::from_millis(100);
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A larger queue than a node's: what the generator drops is not the node's fault.
const BUFFERS: Buffers = Buffers {
    receive: 16 << 20,
    send: 4 << 20,
};

/// What a run gave.
pub struct Outcome {
    pub plan: Plan,
    pub target: SocketAddr,
    pub listen: SocketAddr,
    pub tally: Tally,
    /// From the first call that was due to the end of the last one.
    pub elapsed: Duration,
    /// Time of this process on CPUs, user and system.
    pub cpu: (Duration, Duration),
    pub interrupted: bool,
}

/// What a call may take besides ringing and being held: half of the first retransmission's timer.
const UNDER_WAY_MAX: Duration = Duration::from_millis(250);

impl Outcome {
    /// Whether nothing failed on either side.
    pub fn is_clean(&self) -> bool {
        let counts = &self.tally.counts;
        counts.failed == 0 && counts.not_started == 0 && counts.answers_unacknowledged == 0
    }

    /// Messages that had to be sent again: without that, calls would have failed.
    pub fn resent(&self) -> u64 {
        let counts = &self.tally.counts;
        counts.invites_resent + counts.byes_resent + counts.cancels_resent + counts.requests_resent
    }

    /// Calls that were started early enough to end in time, and did not.
    pub fn overdue(&self) -> u64 {
        let counts = &self.tally.counts;
        let plan = &self.plan;
        let patience = match plan.mix.no_answer {
            0 => Duration::ZERO,
            _ => plan.patience,
        };
        let may_last = plan.hold.longest() + plan.ring.longest() + patience + UNDER_WAY_MAX;
        let under_way = (plan.rate * may_last.as_secs_f64()).ceil() as u64;
        counts
            .started
            .saturating_sub(counts.succeeded_in_time + under_way)
    }

    /// Whether the rate can be kept up: nothing failed, nothing was rescued by being sent again,
    /// and no backlog was left to be worked off when no more calls came.
    pub fn is_sustained(&self) -> bool {
        self.is_clean() && self.resent() == 0 && self.overdue() == 0
    }

    /// How long calls were started: less than planned when their number is the bound.
    pub fn window(&self) -> Duration {
        let by_count = self.plan.calls_max as f64 / self.plan.rate;
        self.plan
            .time
            .min(Duration::from_secs_f64(by_count))
            .min(self.elapsed)
    }

    /// Calls started per second.
    pub fn offered(&self) -> f64 {
        per_second(self.tally.counts.started, self.window())
    }

    /// Calls that succeeded while calls were started, per second.
    pub fn goodput(&self) -> f64 {
        per_second(self.tally.counts.succeeded_in_time, self.window())
    }
}

fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    count as f64 / time.as_secs_f64()
}

/// A flag that SIGINT and SIGTERM raise; the second signal ends the process.
pub fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Carries the plan out.
pub fn run(plan: &Plan, stop: &Arc<AtomicBool>) -> io::Result<Outcome> {
    let clock = Clock::start();
    let sockets = bind(plan)?;
    let listen = sockets[0][1].local();
    let shared = Shared {
        stop: Arc::clone(stop),
        ..Shared::default()
    };
    let threads = plan.cpus.len();
    shared.callers_busy.store(threads, Ordering::Relaxed);
    shared.running.store(threads, Ordering::Relaxed);
    let cpu_before = cpu_time();
    let start = clock.now() + HEAD_START;
    if !plan.calls_out && !plan.quiet {
        eprintln!("load: answering at {listen}");
    }
    let mut tally = Tally::new();
    thread::scope(|scope| -> io::Result<()> {
        let mut handles = Vec::new();
        for (index, sockets) in sockets.into_iter().enumerate() {
            let seat = Seat {
                index,
                target: plan.to.unwrap_or(sockets[1].local()),
                sockets,
                share: share(plan.calls_max, index as u64, threads as u64),
                seed: fresh_seed()?,
                start,
            };
            let shared = &shared;
            let thread = thread::Builder::new().name(format!("load-{index}"));
            handles.push(thread.spawn_scoped(scope, move || work(seat, plan, shared, clock))?);
        }
        watch(plan, &shared, &clock, start);
        for handle in handles {
            let part = handle
                .join()
                .map_err(|_| io::Error::other("a thread panicked"))?;
            tally.add(&part?);
        }
        Ok(())
    })?;
    let cpu_after = cpu_time();
    Ok(Outcome {
        plan: plan.clone(),
        target: plan.to.unwrap_or(listen),
        listen,
        tally,
        elapsed: clock.now().since(start),
        cpu: (cpu_after.0 - cpu_before.0, cpu_after.1 - cpu_before.1),
        interrupted: stop.load(Ordering::Relaxed),
    })
}

/// Two sockets per thread: the caller's and the callee's.
fn bind(plan: &Plan) -> io::Result<Vec<Vec<Arc<Socket>>>> {
    (0..plan.cpus.len())
        .map(|index| {
            let addresses = [higher(plan.from, index)?, higher(plan.listen, index)?];
            let group = bind_group(&addresses, 1, BUFFERS)?;
            Ok(group.into_iter().flatten().map(Arc::new).collect())
        })
        .collect()
}

/// The address `steps` ports higher; port 0 stays what it is.
fn higher(mut address: SocketAddr, steps: usize) -> io::Result<SocketAddr> {
    if address.port() != 0 {
        let port = u16::try_from(usize::from(address.port()) + steps);
        address.set_port(port.map_err(|_| io::Error::other("no port is that high"))?);
    }
    Ok(address)
}

fn share(total: u64, index: u64, threads: u64) -> u64 {
    total / threads + u64::from(index < total % threads)
}

fn work(seat: Seat, plan: &Plan, shared: &Shared, clock: Clock) -> io::Result<Tally> {
    let index = seat.index;
    if let Some(cpu) = plan.cpus[index]
        && !core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
    {
        eprintln!("load: CPU {cpu} is not to be had: thread {index} is not pinned");
    }
    let result = Worker::new(seat, plan, shared, clock).and_then(Worker::run);
    if result.is_err() {
        // The others must not wait for this one's calls.
        shared.stop.store(true, Ordering::Relaxed);
        shared.callers_busy.fetch_sub(1, Ordering::Relaxed);
    }
    shared.running.fetch_sub(1, Ordering::Relaxed);
    result
}

/// Prints the progress line until the threads are done.
fn watch(plan: &Plan, shared: &Shared, clock: &Clock, start: Instant) {
    let mut due = start + PROGRESS_EVERY;
    let mut before = [0; 3];
    while shared.running.load(Ordering::Relaxed) > 0 {
        thread::sleep(LOOK_EVERY);
        let now = clock.now();
        if plan.quiet || now < due {
            continue;
        }
        due = due + PROGRESS_EVERY;
        let read = |figure: &std::sync::atomic::AtomicU64| figure.load(Ordering::Relaxed);
        let present = [
            read(&shared.started),
            read(&shared.succeeded),
            read(&shared.failed),
        ];
        let seconds = now.since(start).as_secs_f64();
        if plan.calls_out {
            eprintln!(
                "load: {seconds:5.1} s  started {} (+{})  succeeded {} (+{})  failed {} (+{})  going on {}",
                present[0],
                present[0] - before[0],
                present[1],
                present[1] - before[1],
                present[2],
                present[2] - before[2],
                read(&shared.up),
            );
        } else {
            eprintln!("load: {seconds:5.1} s  answered {}", read(&shared.answered));
        }
        before = present;
    }
}

/// User and system time of this process; zero where /proc does not tell.
fn cpu_time() -> (Duration, Duration) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may have blanks; fields 14 and 15 count from behind it.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    // USER_HZ is 100 on every Linux that this runs on.
    let ticks = |index: usize| -> Duration {
        let ticks = fields.get(index).and_then(|text| text.parse::<u64>().ok());
        Duration::from_millis(10 * ticks.unwrap_or(0))
    };
    (ticks(11), ticks(12))
}
