//! Many worlds, one after another on each CPU, until enough was played or something failed.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::arguments::Arguments;
use crate::judge::Violation;
use crate::{TWICE, compare, play, report};

/// A line of progress each time so many hours were played.
const PROGRESS_HOURS: f64 = 1000.0;

/// What was played.
#[derive(Debug, Default)]
pub struct Sum {
    passed: u64,
    pub failed: u64,
    hours: f64,
    calls: usize,
    /// Crashes of a process, panics of a shard.
    deaths: usize,
    seconds: f64,
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sim: {:.0} simulated hours, {} calls, {} crashes, in {:.0} s: {:.1} simulated hours per second",
            self.hours,
            self.calls,
            self.deaths,
            self.seconds,
            self.hours / self.seconds.max(0.001)
        )?;
        write!(f, "sim: {} passed, {} failed", self.passed, self.failed)
    }
}

/// What all threads of a run share; the worlds share nothing.
struct Run<'a> {
    arguments: &'a Arguments,
    clock: Clock,
    next: AtomicU64,
    interrupted: Arc<AtomicBool>,
    sum: Mutex<Sum>,
}

/// Plays worlds on all CPUs.
pub fn run(arguments: &Arguments) -> Sum {
    let interrupted = Arc::new(AtomicBool::new(false));
    let signal = signal_hook::consts::SIGINT;
    // The second one ends the process at once.
    let at_once =
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted));
    let then = signal_hook::flag::register(signal, Arc::clone(&interrupted));
    at_once.and(then).expect("SIGINT can be caught");
    let run = Run {
        arguments,
        clock: Clock::start(),
        next: AtomicU64::new(arguments.first),
        interrupted,
        sum: Mutex::default(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| while run.play_next() {});
        }
    });
    let mut sum = run.sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.seconds = run.clock.seconds();
    sum
}

impl Run<'_> {
    /// Plays one world; `false` when there is none left to play.
    fn play_next(&self) -> bool {
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        if self.is_enough() || !self.arguments.seeds().contains(&seed) {
            return false;
        }
        let span = self.arguments.span(seed);
        let first = play(seed, span, None);
        let verdict = match first.violation {
            Some(violation) => Err(violation),
            None if seed < self.arguments.first + TWICE => compare(seed, span, first.hash),
            None => Ok(()),
        };
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        let before = sum.hours;
        sum.hours += first.hours;
        sum.calls += first.calls;
        sum.deaths += first.deaths;
        if (before / PROGRESS_HOURS).floor() < (sum.hours / PROGRESS_HOURS).floor() {
            println!("sim: {:.0} simulated hours, seed {seed}", sum.hours);
        }
        match verdict {
            Ok(()) => sum.passed += 1,
            Err(violation) => {
                sum.failed += 1;
                self.tell(seed, span, &violation, sum.failed);
            }
        }
        true
    }

    fn tell(&self, seed: u64, span: std::time::Duration, violation: &Violation, failed: u64) {
        if failed <= self.arguments.failures_max {
            report(seed, span, violation);
        }
    }

    fn is_enough(&self) -> bool {
        let sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.failed >= self.arguments.failures_max
            || sum.hours >= self.arguments.hours_max
            || self.clock.seconds() >= self.arguments.seconds_max
            || self.interrupted.load(Ordering::Relaxed)
    }
}

/// Wall time, which decides only how many worlds are played.
struct Clock(std::time::Instant);

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "how many worlds fit into a run is a matter of real time; what happens in them is not"
    )]
    fn start() -> Clock {
        Clock(std::time::Instant::now())
    }

    fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
