//! The main thread while the node runs: it watches the shards, and carries out signals.
//!
//! A shard that panics is replaced at once, one that panics again and again once a second. A shard
//! that stalls cannot be ended from outside: its thread may hold anything. It is logged, the node
//! turns unready, and the service manager's watchdog is no longer fed, so that a unit with
//! `WatchdogSec` restarts the node; without one the shard goes on as soon as it can.

use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use super::clock::Clock;
use super::crew::Crew;
use super::notify::{self, State};
use super::state::Records;
use super::takeover::STANDSTILL_TIME;
use super::thread;
use crate::base::Instant;
use crate::control::{Condition, Node, Seat};

/// What the supervisor is told.
#[derive(Debug)]
pub enum Happening {
    ShardRunning {
        shard: usize,
        driver: &'static str,
        why: String,
    },
    ShardFallen {
        shard: usize,
        cause: String,
    },
    ReloadWanted,
    RotationWanted,
    StopWanted,
    /// Start the program again, as it is on disk now, to take this node over.
    HeirWanted,
    /// A new process is ready: the shards are to stand still.
    StandStill {
        answer: Sender<Result<StoodStill, String>>,
    },
    /// Nothing came of it.
    GoOn,
    /// The new process serves.
    HandedOver {
        process: u32,
    },
}

/// What shards that stand still have left.
#[derive(Debug)]
pub struct StoodStill {
    /// Records in memory, by shard; none where they are under `state_dir`.
    pub memory: Vec<OwnedFd>,
}

/// How the node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All calls had ended, or `drain_max` was over.
    Drained,
    /// A second signal asked for it.
    Forced,
    /// Another process has the node: nothing of it may be taken apart.
    HandedOver,
}

/// How the program was started, to start it once more.
#[derive(Clone, Debug)]
pub struct Program {
    /// Asked for at the start: when the file is replaced later, the new one is what is wanted.
    pub path: PathBuf,
    pub config: Option<PathBuf>,
}

impl Program {
    /// This program, started with this configuration.
    pub fn own(config: Option<PathBuf>) -> Result<Program, String> {
        let path = std::env::current_exe();
        Ok(Program {
            path: path.map_err(|fault| format!("the program's own path: {fault}"))?,
            config,
        })
    }
}

/// How often the supervisor looks round.
const ROUND: Duration = Duration::from_millis(250);
/// No heartbeat for so long is a stall; a shard that sleeps beats once a second.
const STALL: Duration = Duration::from_secs(5);
/// A shard that falls again is not replaced more often than this.
const RESTART_EVERY: Duration = Duration::from_secs(1);
/// How often a draining node says how many calls are left.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// What was admitted before the drain began is in the published gauges after this time.
const GAUGES_SETTLE: Duration = Duration::from_millis(200);
/// The same where nobody wants to wait.
const FORCED_STOP_TIME: Duration = Duration::from_millis(500);
/// How long shards may take to stop.
const STOP_TIME: Duration = Duration::from_secs(2);

/// Watches over a running node.
pub struct Supervisor {
    node: Arc<Node>,
    crew: Crew,
    events: Receiver<Happening>,
    clock: Clock,
    /// When a fallen shard is replaced, by shard.
    restart_at: Vec<Option<Instant>>,
    restarted_at: Vec<Option<Instant>>,
    drain: Option<Drain>,
    watchdog: Option<Duration>,
    fed_at: Instant,
    program: Program,
    /// Whether the shards have left for a process that takes the node over.
    stands_still: bool,
}

/// A drain under way.
struct Drain {
    began: Instant,
    deadline: Instant,
    progress_at: Instant,
}

impl Supervisor {
    /// Takes over a node that runs.
    pub fn new(
        node: Arc<Node>,
        crew: Crew,
        events: Receiver<Happening>,
        clock: Clock,
        program: Program,
        has_taken_over: bool,
    ) -> Supervisor {
        let shards = node.seats.len();
        Supervisor {
            node,
            crew,
            events,
            clock,
            restart_at: vec![None; shards],
            restarted_at: vec![None; shards],
            drain: None,
            watchdog: notify::watchdog_interval(has_taken_over),
            fed_at: clock.now(),
            program,
            stands_still: false,
        }
    }

    /// Runs until the node is to end.
    pub fn run(mut self) -> Ending {
        loop {
            let happening = match self.events.recv_timeout(ROUND) {
                Ok(happening) => Some(happening),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => unreachable!("the crew holds a sender"),
            };
            let now = self.clock.now();
            if let Some(happening) = happening
                && let Some(ending) = self.handle(happening, now)
            {
                return ending;
            }
            if !self.stands_still {
                self.watch_beats(now);
                self.replace_fallen(now);
            }
            self.feed_watchdog(now);
            if !self.stands_still && self.is_drained(now) {
                self.crew.dismiss(STOP_TIME);
                return Ending::Drained;
            }
        }
    }

    fn handle(&mut self, happening: Happening, now: Instant) -> Option<Ending> {
        match happening {
            Happening::ShardRunning { shard, driver, why } => {
                tracing::info!(shard, driver, %why, "the shard runs");
                self.tell_state();
                self.forget_memory();
            }
            Happening::ShardFallen { shard, cause } => self.note_fallen(shard, &cause, now),
            Happening::ReloadWanted => {
                tracing::info!("SIGHUP: reloading");
                // What came of it is in the log already.
                let _told = self.node.levers.reload(&self.node);
            }
            Happening::RotationWanted => {
                let is_on = self.node.levers.rotate_cdrs();
                tracing::info!(is_on, "SIGUSR1: new files for call detail records");
            }
            Happening::StopWanted if self.drain.is_some() => {
                tracing::warn!(calls = self.node.calls(), "second signal: stopping at once");
                // Calls that end here leave their records.
                self.crew.dismiss(FORCED_STOP_TIME);
                return Some(Ending::Forced);
            }
            Happening::StopWanted => self.begin_drain(now),
            Happening::HeirWanted => self.start_heir(),
            Happening::StandStill { answer } => {
                let found = self.stand_still();
                if let Err(unheard) = answer.send(found)
                    && unheard.0.is_ok()
                {
                    self.go_on();
                }
            }
            Happening::GoOn => self.go_on(),
            Happening::HandedOver { process } => {
                tracing::info!(process, "handed over: the new process serves");
                return Some(Ending::HandedOver);
            }
        }
        None
    }

    /// Starts the program as it is on disk now; it asks for the node over the admin socket. Whether
    /// it comes to anything is in both processes' logs.
    fn start_heir(&self) {
        let mut command = std::process::Command::new(&self.program.path);
        command.args(["run", "--takeover"]);
        if let Some(config) = &self.program.config {
            command.arg("--config").arg(config);
        }
        let started = command.stdin(std::process::Stdio::null()).spawn();
        let waited = started.and_then(|mut heir| {
            tracing::info!(
                process = heir.id(),
                "SIGUSR2: a new process is to take over"
            );
            let waiting = std::thread::Builder::new().name("heir".to_owned());
            waiting.spawn(move || {
                // It outlives this process, or it has failed.
                if let Ok(status) = heir.wait() {
                    tracing::error!(%status, "the new process has ended; this one goes on");
                }
            })
        });
        if let Err(fault) = waited {
            let path = self.program.path.display();
            tracing::error!(%path, %fault, "SIGUSR2: no new process");
        }
    }

    /// Brings the node to a standstill, so that another process can go on with it: what else must
    /// not be under way then is brought to rest here.
    fn stand_still(&mut self) -> Result<StoodStill, String> {
        if self.drain.is_some() {
            return Err("this node drains: it ends by itself".to_owned());
        }
        let (running, all) = (self.node.shards_running(), self.node.seats.len());
        if running < all || self.stands_still {
            return Err(format!("{running} of {all} shards run"));
        }
        self.stands_still = true;
        match self.crew.stand_still(STANDSTILL_TIME) {
            Some(memory) => {
                if let Some(cdrs) = &self.crew.cdrs {
                    cdrs.stop();
                }
                let kept = memory.iter().map(OwnedFd::try_clone);
                let kept = kept.collect::<io::Result<Vec<_>>>();
                if let Some(kept) = kept.ok().filter(|kept| !kept.is_empty()) {
                    let records = Records::in_memory(&self.clock, kept);
                    self.crew.gate.open(Some(Arc::new(records)));
                }
                Ok(StoodStill { memory })
            }
            None => {
                self.go_on();
                Err("not all shards stand still in time".to_owned())
            }
        }
    }

    /// Goes on after a standstill of which nothing came.
    fn go_on(&mut self) {
        if !core::mem::replace(&mut self.stands_still, false) {
            return;
        }
        let (plan, names) = (self.node.plan(), self.node.levers.slots());
        if let Some(Err(fault)) = self.crew.cdrs.as_ref().map(|cdrs| cdrs.go_on()) {
            tracing::error!(%fault, "no call detail records");
        }
        match self.crew.go_on(&plan, &names, STOP_TIME) {
            Ok(()) => tracing::warn!("the shards go on from their records"),
            Err(fault) => tracing::error!(%fault, "the shards do not go on"),
        }
        self.tell_state();
    }

    /// Records in memory are of use once: a shard that falls later must not find calls that have
    /// ended since.
    fn forget_memory(&self) {
        if self.node.shards_running() == self.node.seats.len() {
            self.crew.gate.forget_memory();
        }
    }

    fn note_fallen(&mut self, shard: usize, cause: &str, now: Instant) {
        tracing::error!(shard, cause, "the shard has fallen and is replaced");
        self.tell_state();
        let earliest = self.restarted_at[shard].map_or(now, |last| last + RESTART_EVERY);
        self.restart_at[shard] = Some(earliest.max(now));
    }

    fn replace_fallen(&mut self, now: Instant) {
        for shard in 0..self.restart_at.len() {
            if self.restart_at[shard].is_none_or(|at| at > now) {
                continue;
            }
            self.restart_at[shard] = None;
            self.restarted_at[shard] = Some(now);
            self.node.seats[shard].count_restart();
            if let Err(fault) =
                self.crew
                    .launch(shard, &self.node.plan(), &self.node.levers.slots())
            {
                tracing::error!(shard, %fault, "no thread for the shard; trying again");
                self.restart_at[shard] = Some(now + RESTART_EVERY);
            }
        }
    }

    fn watch_beats(&self, now: Instant) {
        for seat in &self.node.seats {
            let silence = now.since(seat.last_beat());
            let before = seat.condition();
            let condition = judge(before, silence);
            if condition == before {
                continue;
            }
            seat.set_condition(condition);
            match condition {
                Condition::Stalled => note_stall(seat, silence),
                _ => tracing::warn!(shard = seat.shard, "the stalled shard runs again"),
            }
            self.tell_state();
        }
    }

    /// Tells the service manager whether the node wants traffic, and why not.
    fn tell_state(&self) {
        notify::notify(State::Status(&self.node.ready().why));
    }

    /// Feeds the service manager's watchdog while every shard takes traffic.
    fn feed_watchdog(&mut self, now: Instant) {
        let Some(every) = self.watchdog else {
            return;
        };
        let all_run = self.node.shards_running() == self.node.seats.len();
        // A process that takes over has a limit of its own.
        if (all_run || self.stands_still) && now.since(self.fed_at) >= every.saturating_sub(ROUND) {
            self.fed_at = now;
            notify::notify(State::Watchdog);
        }
    }

    fn begin_drain(&mut self, now: Instant) {
        self.node.shared.draining.store(true, Ordering::Relaxed);
        let calls = self.node.calls();
        let drain_max = self.node.levers.drain_max();
        notify::notify(State::Stopping(&format!(
            "draining: {calls} calls are left"
        )));
        tracing::info!(
            calls,
            drain_max_s = drain_max.as_secs(),
            "draining: no new calls; a second signal stops at once"
        );
        self.drain = Some(Drain {
            began: now,
            deadline: now + drain_max,
            progress_at: now + PROGRESS_EVERY,
        });
    }

    fn is_drained(&mut self, now: Instant) -> bool {
        let Some(drain) = &mut self.drain else {
            return false;
        };
        let calls = self.node.calls();
        if calls == 0 && now.since(drain.began) >= GAUGES_SETTLE {
            tracing::info!("drained: no calls are left");
            return true;
        }
        if now >= drain.deadline {
            tracing::warn!(calls, "drain_max is over: stopping with calls up");
            return true;
        }
        if now >= drain.progress_at {
            drain.progress_at = now + PROGRESS_EVERY;
            let left_s = drain.deadline.since(now).as_secs();
            notify::notify(State::Status(&format!(
                "draining: {calls} calls are left, stopping in {left_s} s at most"
            )));
            tracing::info!(calls, left_s, "draining: calls are left");
        }
        false
    }
}

/// What a silence since the last heartbeat makes of a shard.
const fn judge(before: Condition, silence: Duration) -> Condition {
    let silent = silence.as_micros() > STALL.as_micros();
    match before {
        Condition::Running if silent => Condition::Stalled,
        Condition::Stalled if !silent => Condition::Running,
        Condition::Running
        | Condition::Stalled
        | Condition::Starting
        | Condition::Fallen
        | Condition::Stopped => before,
    }
}

fn note_stall(seat: &Seat, silence: Duration) {
    seat.count_stall();
    let process = std::process::id();
    tracing::error!(
        shard = seat.shard,
        silent_s = silence.as_secs(),
        cause = thread::doing(seat.thread()),
        "the shard has stalled; to see where: gdb -p {process} -batch -ex 'thread apply all bt' (thread shard-{})",
        seat.shard
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_makes_a_running_shard_stalled_and_a_beat_makes_it_run_again() {
        let (short, long) = (Duration::from_secs(1), STALL + Duration::from_secs(1));
        assert_eq!(judge(Condition::Running, short), Condition::Running);
        assert_eq!(judge(Condition::Running, long), Condition::Stalled);
        assert_eq!(judge(Condition::Stalled, long), Condition::Stalled);
        assert_eq!(judge(Condition::Stalled, short), Condition::Running);
    }

    #[test]
    fn a_shard_that_does_not_run_is_not_called_stalled() {
        let long = STALL + Duration::from_secs(1);
        for before in [Condition::Starting, Condition::Fallen, Condition::Stopped] {
            assert_eq!(judge(before, long), before);
        }
    }
}
