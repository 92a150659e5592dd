//! The main thread while the node runs: it watches the shards, and carries out signals.
//!
//! A shard that panics is replaced at once, one that panics again and again once a second. A shard
//! that stalls cannot be ended from outside: its thread may hold anything. It is logged, the node
//! turns unready, and the service manager's watchdog is no longer fed, so that a unit with
//! `WatchdogSec` restarts the node; without one the shard goes on as soon as it can.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::clock::Clock;
use super::crew::Crew;
use super::notify::{self, State};
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
}

/// How the node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All calls had ended, or `drain_max` was over.
    Drained,
    /// A second signal asked for it.
    Forced,
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
            watchdog: notify::watchdog_interval(),
            fed_at: clock.now(),
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
            self.watch_beats(now);
            self.replace_fallen(now);
            self.feed_watchdog(now);
            if self.is_drained(now) {
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
        }
        None
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
        if all_run && now.since(self.fed_at) >= every.saturating_sub(ROUND) {
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
