//! The node's log: lines on stderr, as text or JSON, with a level that can be changed while it runs.
//!
//! `line` writes one line, `flood` holds back what repeats, `numbers` keeps subscribers' numbers
//! out. Nothing is written for a single message of a call above `trace`.

mod flood;
mod line;
mod numbers;

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::clock::Clock;
use crate::config::{Log, LogFormat};
use crate::control::answers::LogState;
use flood::{Flood, Verdict};
use line::{Look, Parts};

/// Changes what is logged, and how.
#[derive(Clone)]
pub struct LevelLever {
    filter: reload::Handle<EnvFilter, Registry>,
    lines: Lines,
}

/// How often what was held back is told, where no further line does it.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Starts the log. `RUST_LOG` goes before the configured level.
pub fn start(wish: &Log) -> LevelLever {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_unset| EnvFilter::new(wish.level.word()));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = Lines(Arc::new(Shared {
        clock: Clock::start(),
        is_journal: is_journal(),
        is_colour: is_terminal(),
        is_json: AtomicBool::new(false),
        numbers: AtomicBool::new(false),
        flood: Mutex::default(),
    }));
    let lever = LevelLever {
        filter: handle,
        lines: lines.clone(),
    };
    lever.dress(wish);
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(lines.clone())
        .try_init();
    if let Err(fault) = started {
        eprintln!("callgate: the log could not be started: {fault}");
    }
    let flusher = std::thread::Builder::new().name("log".into());
    let flush = move || {
        loop {
            std::thread::sleep(FLUSH_EVERY);
            lines.0.flush();
        }
    };
    if let Err(fault) = flusher.spawn(flush) {
        tracing::warn!(%fault, "no thread for the log: counts of repeated lines may come late");
    }
    lever
}

fn is_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// Whether stderr is what systemd says that it connected to the journal (systemd.exec(5)).
fn is_journal() -> bool {
    let Some(named) = std::env::var("JOURNAL_STREAM").ok() else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| named == format!("{}:{}", stderr.dev(), stderr.ino()))
}

impl LevelLever {
    /// Sets the level, or says what is wrong with the directive.
    pub fn set(&self, directive: &str) -> Result<(), String> {
        let filter =
            EnvFilter::try_new(directive).map_err(|fault| format!("`{directive}`: {fault}"))?;
        self.filter
            .reload(filter)
            .map_err(|fault| fault.to_string())
    }

    /// Sets what a reload may change beside the level.
    pub fn dress(&self, wish: &Log) {
        let shared = &self.lines.0;
        shared
            .is_json
            .store(wish.format == LogFormat::Json, Ordering::Relaxed);
        shared.numbers.store(wish.numbers, Ordering::Relaxed);
    }

    /// What is logged, and how.
    pub fn state(&self) -> LogState {
        let level = self.filter.with_current(ToString::to_string);
        let shared = &self.lines.0;
        let format = match shared.is_json.load(Ordering::Relaxed) {
            true => "json",
            false => "text",
        };
        LogState {
            level: level.unwrap_or_else(|fault| fault.to_string()),
            format: format.to_owned(),
            numbers: shared.numbers.load(Ordering::Relaxed),
        }
    }
}

/// The layer that writes.
#[derive(Clone)]
struct Lines(Arc<Shared>);

struct Shared {
    clock: Clock,
    is_journal: bool,
    is_colour: bool,
    is_json: AtomicBool,
    numbers: AtomicBool,
    flood: Mutex<Flood>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let shared = &self.0;
        let mut parts = Parts::of(event);
        let level = *event.metadata().level();
        // What is more talkative than info was asked for, line by line.
        if level <= Level::INFO {
            if !shared.numbers.load(Ordering::Relaxed) {
                parts.hide_numbers();
            }
            let mut flood = shared.flood.lock().unwrap_or_else(PoisonError::into_inner);
            match flood.judge(shared.clock.now(), &parts) {
                Verdict::Write => {}
                Verdict::WriteAfter(held) => shared.write(&held),
                Verdict::Hold => return,
            }
        }
        shared.write(&parts);
    }
}

impl Shared {
    fn write(&self, parts: &Parts) {
        let look = match (self.is_json.load(Ordering::Relaxed), self.is_journal) {
            (true, _) => Look::Json,
            (false, true) => Look::Journal,
            (false, false) => Look::Text {
                colour: self.is_colour,
            },
        };
        // In one write, so that lines of two threads do not mix.
        let _nobody_to_tell = std::io::stderr()
            .lock()
            .write_all(parts.text(look).as_bytes());
    }

    fn flush(&self) {
        let mut flood = self.flood.lock().unwrap_or_else(PoisonError::into_inner);
        let held = flood.due(self.clock.now());
        drop(flood);
        held.iter().for_each(|parts| self.write(parts));
    }
}
