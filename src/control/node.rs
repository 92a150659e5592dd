//! The running node as the admin socket and HTTP see it: what it is, its seats, and its levers.

use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};

use super::answers::{ConfigShown, LogState, PlanWish, Planned, Ready, Reloaded};
use super::cdr_board::CdrBoard;
use super::desk::Desk;
use super::events::Events;
use super::rpc::Fault;
use super::seat::{Condition, Seat};
use crate::base::Instant;
use crate::route::SlotBook;
use crate::shard::mail::{Ask, Mail};
use crate::shard::{Accounting, NodePlan, Shared};

/// How long a shard may take to answer; a busy one takes microseconds, a stalled one never does.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// What does not change while the node runs.
#[derive(Clone, Debug)]
pub struct Facts {
    pub version: &'static str,
    /// The configuration file; `None` = the embedded default.
    pub config: Option<std::path::PathBuf>,
    pub io: &'static str,
    pub io_why: String,
    pub steering: bool,
    pub steering_why: String,
}

/// What only the runtime can do.
pub trait Levers: Send + Sync {
    /// The node's clock.
    fn now(&self) -> Instant;
    /// Reads the configuration file again and puts it into effect, or changes nothing.
    fn reload(&self, node: &Node) -> Result<Reloaded, Fault>;
    /// The configuration at work.
    fn config(&self) -> ConfigShown;
    /// What a reload of another configuration would do; changes nothing.
    fn plan(&self, node: &Node, wish: &PlanWish) -> Result<Planned, Fault>;
    /// Hands the node over to the process at the other end, which has sent the request `id` with
    /// these parameters. A fault is to be answered; everything else was said already.
    fn hand_over(
        &self,
        node: &Node,
        client: &UnixStream,
        id: &serde_json::Value,
        params: &serde_json::Value,
    ) -> Result<(), Fault>;
    /// The slots of all names that this node has seen.
    fn slots(&self) -> Arc<SlotBook>;
    /// The wall clock at a moment of the node's clock, in milliseconds since 1970.
    fn wall_ms(&self, at: Instant) -> u64;
    /// Longest time that a draining node waits for its calls to end.
    fn drain_max(&self) -> Duration;
    /// What is logged, and how.
    fn log(&self) -> LogState;
    /// Changes what is logged, by a directive such as `debug` or `info,callgate::io=trace`.
    fn set_log_level(&self, directive: &str) -> Result<(), String>;
    /// Puts the files of call detail records aside and begins new ones; `false` = there are none.
    fn rotate_cdrs(&self) -> bool;
}

/// A running node.
pub struct Node {
    pub facts: Facts,
    pub seats: Vec<Arc<Seat>>,
    pub shared: Arc<Shared>,
    pub levers: Box<dyn Levers>,
    pub events: Events,
    /// Who has copies of messages made.
    pub desk: Desk,
    pub cdr: Arc<CdrBoard>,
    plan: RwLock<Arc<NodePlan>>,
}

impl Node {
    /// Puts the parts together.
    pub fn new(
        facts: Facts,
        seats: Vec<Arc<Seat>>,
        shared: Arc<Shared>,
        plan: Arc<NodePlan>,
        levers: Box<dyn Levers>,
        cdr: Arc<CdrBoard>,
    ) -> Node {
        Node {
            facts,
            seats,
            shared,
            events: Events::new(levers.wall_ms(Instant::START)),
            levers,
            desk: Desk::default(),
            cdr,
            plan: RwLock::new(plan),
        }
    }

    /// The plan that new shards start from.
    pub fn plan(&self) -> Arc<NodePlan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes an event that happens at this moment.
    pub fn note(&self, kind: &str, about: &str, text: impl Into<String>) {
        self.note_at(self.levers.now(), kind, about, text);
    }

    /// Notes an event of an earlier moment.
    pub fn note_at(&self, at: Instant, kind: &str, about: &str, text: impl Into<String>) {
        self.events.note(self.levers.wall_ms(at), kind, about, text);
    }

    /// Puts another plan into effect and waits until every shard works from it. A shard that does
    /// not answer is named: it takes the plan when it runs again, since the order waits in its inbox.
    pub fn swap(&self, plan: &Arc<NodePlan>) -> Vec<usize> {
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(plan);
        let asked: Vec<_> = (0..self.seats.len())
            .map(|shard| {
                self.post(shard, |done| Ask::Swap {
                    // A plan of its own: a regex shared by shards would have them wait for each other.
                    plan: Arc::new(NodePlan::clone(plan)),
                    done,
                })
            })
            .collect();
        asked
            .into_iter()
            .enumerate()
            .filter(|(_, answer)| match answer {
                Some(answer) => answer.recv_timeout(ANSWER_TIME).is_err(),
                None => true,
            })
            .map(|(shard, _)| shard)
            .collect()
    }

    /// Has the shards copy messages for those who are on the desk's list. A shard that does not
    /// answer in time follows when it does.
    pub fn retap(&self) {
        self.desk.tell(&self.seats, |shard, tap| {
            if let Some(answer) = self.post(shard, |done| Ask::Tap { tap, done }) {
                let _late_is_fine = answer.recv_timeout(ANSWER_TIME);
            }
        });
    }

    /// Asks one shard and waits for its answer.
    pub fn ask<T>(&self, shard: usize, make: impl FnOnce(Sender<T>) -> Ask) -> Result<T, Fault> {
        let answer = self.post(shard, make).ok_or_else(|| {
            Fault::refused(format!("shard {shard} is overloaded: its inbox is full"))
        })?;
        answer
            .recv_timeout(ANSWER_TIME)
            .map_err(|_unanswered| Fault::refused(format!("shard {shard} does not answer")))
    }

    /// Tells every shard where its call detail records go; `false` = one did not answer.
    pub fn account(&self, accounting: &dyn Fn(usize) -> Option<Accounting>) -> bool {
        let asked: Vec<_> = (0..self.seats.len())
            .map(|shard| {
                let accounting = accounting(shard).map(Box::new);
                self.post(shard, |done| Ask::Account { accounting, done })
            })
            .collect();
        asked
            .into_iter()
            .all(|answer| answer.is_some_and(|answer| answer.recv_timeout(ANSWER_TIME).is_ok()))
    }

    fn post<T>(
        &self,
        shard: usize,
        make: impl FnOnce(Sender<T>) -> Ask,
    ) -> Option<crossbeam::channel::Receiver<T>> {
        let (sender, receiver) = bounded(1);
        self.shared
            .mail
            .post(shard, Mail::Ask(Box::new(make(sender))))
            .then_some(receiver)
    }

    /// Whether new calls are refused because the node is about to stop.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// How many shards take traffic.
    pub fn shards_running(&self) -> usize {
        self.seats
            .iter()
            .filter(|seat| seat.condition() == Condition::Running)
            .count()
    }

    /// Live calls of all shards, at most a second old.
    pub fn calls(&self) -> usize {
        self.seats.iter().map(|seat| seat.census().calls).sum()
    }

    /// Whether the node wants traffic, and why not.
    pub fn ready(&self) -> Ready {
        let running = self.shards_running();
        let (ready, why) = if self.is_draining() {
            (false, "draining".to_owned())
        } else if running < self.seats.len() {
            let why = format!("{running} of {} shards run", self.seats.len());
            (false, why)
        } else {
            (true, "ready".to_owned())
        };
        Ready { ready, why }
    }
}
