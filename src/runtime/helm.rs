//! What the control threads may change in a running node: its configuration and its log level.

use core::time::Duration;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::cdr::Cdrs;
use super::clock::Clock;
use super::foresight;
use super::log::LevelLever;
use super::notify::{self, State};
use super::takeover::Estate;
use crate::base::Instant;
use crate::capture::Selection;
use crate::capture::hep::{Homer, Secret};
use crate::config::{self, Config, SlotNames};
use crate::control::answers::{ConfigShown, LogState, PlanWish, Planned, Reloaded};
use crate::control::{Fault, Levers, Node};
use crate::dialog::store::Wall;
use crate::limit::{Cps, Limits, Maxima, SlotId};
use crate::route;
use crate::route::slots::{SlotBook, SlotKind};
use crate::shard::NodePlan;

/// Trunk and group names that a node can have seen in its life; each is a row of counters.
pub const SLOTS_MAX: u16 = 4096;

/// Gives names their slots. Trunks and groups share one space of names in a configuration, so one
/// kind of slot serves both.
pub struct Names(pub SlotBook);

impl SlotNames for Names {
    fn slot_of(&mut self, name: &str) -> Option<u16> {
        self.0.assign(SlotKind::Trunk, name).ok()
    }
}

/// The levers of a running node.
pub struct Helm {
    clock: Clock,
    wall: Wall,
    level: LevelLever,
    /// Held over a whole reload: two at a time would mix two files.
    running: Mutex<Running>,
    config_file: Option<PathBuf>,
    cdrs: Arc<Cdrs>,
    /// What a process may take over; none without an admin socket.
    estate: Option<Estate>,
}

/// The configuration in effect, and the slots that its names have.
pub struct Running {
    pub config: Config,
    pub names: SlotBook,
}

impl Helm {
    /// Levers for a node that runs this configuration, from this file.
    pub fn new(
        clock: Clock,
        level: LevelLever,
        running: Running,
        config_file: Option<PathBuf>,
        cdrs: Arc<Cdrs>,
        estate: Option<Estate>,
    ) -> Helm {
        Helm {
            wall: clock.wall(),
            clock,
            level,
            running: Mutex::new(running),
            config_file,
            cdrs,
            estate,
        }
    }

    fn reload_from(&self, file: &Path, node: &Node) -> Result<Reloaded, Fault> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = Names(running.names.clone());
        let config = config::load_file(file, &mut names).map_err(|report| faulty(file, &report))?;
        let difference = config::diff(&running.config, &config);
        if !difference.needs_restart.is_empty() {
            let message = format!(
                "{}: nothing changed, since this needs a restart:",
                file.display()
            );
            return Err(Fault {
                data: difference.needs_restart,
                ..Fault::refused(message)
            });
        }
        let mut changed = difference.applied;
        changed.extend(self.put_into_effect(&config, node));
        let password = |config: &Config| config.hep.as_ref().and_then(|hep| hep.password.clone());
        if password(&config) != password(&running.config) {
            changed.push("hep password: another one".to_owned());
        }
        set_homer(node, &config);
        let follows = self.follow_cdr(&config, node);
        changed.extend(follows.filter(|_| config.cdr != running.config.cdr));
        if config.log.level != running.config.log.level {
            let set = self.level.set(config.log.level.word());
            changed.extend(set.err());
        }
        self.level.dress(&config.log);
        *running = Running {
            config,
            names: names.0,
        };
        Ok(Reloaded { changed })
    }

    /// Puts `[cdr]` into effect; a line for what did not work.
    fn follow_cdr(&self, config: &Config, node: &Node) -> Option<String> {
        if let Err(why) = self.cdrs.configure(config) {
            return Some(format!("[cdr] not in effect: {why}"));
        }
        let is_known = node.account(&|shard| self.cdrs.accounting(shard));
        (!is_known).then(|| "a shard does not answer: it follows [cdr] when it does".to_owned())
    }

    /// Swaps the plan; returns a line for each shard that has not taken it yet.
    fn put_into_effect(&self, config: &Config, node: &Node) -> Vec<String> {
        let mut plan = config.plan.clone();
        // What the listeners became at the start: real ports, derived addresses.
        plan.listeners.clone_from(&node.plan().listeners);
        node.shared.board.introduce(self.clock.now(), &plan.routing);
        set_limits(&node.shared.limits, &plan);
        let late = node.swap(&Arc::new(plan));
        late.into_iter()
            .map(|shard| format!("shard {shard} does not answer: it follows when it does"))
            .collect()
    }
}

impl Levers for Helm {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn reload(&self, node: &Node) -> Result<Reloaded, Fault> {
        let Some(file) = &self.config_file else {
            return Err(Fault::refused(
                "the embedded default has no file to read again; start with --config FILE",
            ));
        };
        notify::notify(State::Reloading);
        let done = self.reload_from(file, node);
        match &done {
            Ok(done) => {
                let changed = &done.changed;
                let noun = if changed.len() == 1 {
                    "change"
                } else {
                    "changes"
                };
                node.note("reload", "", format!("{} {noun}", changed.len()));
                changed
                    .iter()
                    .for_each(|line| node.note("reload", "", line.as_str()));
                let told = format!("ready; {} changes by the last reload", changed.len());
                notify::notify(State::Ready(&told));
                changed
                    .iter()
                    .for_each(|line| tracing::info!("reload: {line}"));
            }
            Err(fault) => {
                let told = format!("ready; the last reload was refused: {}", fault.message);
                notify::notify(State::Ready(&told));
                node.note("reload", "", format!("refused: {}", fault.message));
                tracing::error!("reload refused: {}", fault.message);
                fault.data.iter().for_each(|line| tracing::error!("{line}"));
            }
        }
        done
    }

    fn config(&self) -> ConfigShown {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let text = running.config.text.clone();
        drop(running);
        ConfigShown {
            file: self
                .config_file
                .as_ref()
                .map(|file| file.display().to_string()),
            values: config::as_json(&text),
            text,
        }
    }

    fn plan(&self, node: &Node, wish: &PlanWish) -> Result<Planned, Fault> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, mut names) = (running.config.clone(), Names(running.names.clone()));
        drop(running);
        foresight::plan(node, &old, &mut names, wish)
    }

    fn wall_ms(&self, at: Instant) -> u64 {
        self.wall.at(at) / 1000
    }

    fn log(&self) -> LogState {
        self.level.state()
    }

    fn drain_max(&self) -> Duration {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.config.node.drain_max
    }

    fn hand_over(
        &self,
        node: &Node,
        client: &UnixStream,
        id: &serde_json::Value,
        params: &serde_json::Value,
    ) -> Result<(), Fault> {
        match &self.estate {
            Some(estate) => estate.hand_over(node, client, id, params),
            None => Err(Fault::refused("this node has no admin socket to hand over")),
        }
    }

    fn slots(&self) -> Arc<SlotBook> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::new(running.names.clone())
    }

    fn rotate_cdrs(&self) -> bool {
        self.cdrs.rotate()
    }

    fn set_log_level(&self, directive: &str) -> Result<(), String> {
        self.level.set(directive)?;
        tracing::info!(directive, "log level set");
        Ok(())
    }
}

/// The faults of a file, for the one who asked.
pub fn faulty(file: &Path, report: &config::Report) -> Fault {
    let count = report.faults.len();
    let noun = if count == 1 { "fault" } else { "faults" };
    Fault {
        data: report.faults.iter().map(ToString::to_string).collect(),
        ..Fault::refused(format!(
            "{}: {count} {noun}; nothing changed",
            file.display()
        ))
    }
}

/// Says to whom copies of messages go, and has the shards make them.
pub fn set_homer(node: &Node, config: &Config) {
    let homer = config.hep.as_ref().map(|hep| {
        let password = hep.password.as_ref().map_or("", config::Secret::expose);
        let homer = Homer {
            target: hep.target,
            tcp: hep.transport == config::HepTransport::Tcp,
            capture_id: hep.id,
            password: Secret::new(password.to_owned()),
            node_name: config.node.name.clone(),
        };
        let named = |name: &String| {
            let mut trunks = config.plan.routing.trunks.iter();
            trunks.find(|trunk| trunk.name == *name)
        };
        let selection = match hep.trunks.as_slice() {
            [] => Selection::All,
            names => {
                let slots = names.iter().filter_map(named).map(|trunk| trunk.slot);
                Selection::Trunks(slots.collect())
            }
        };
        (homer, selection, hep.sample)
    });
    if node.desk.set_homer(homer) {
        node.retap();
    }
}

/// Puts the maxima of all trunks and groups into the shared table.
pub fn set_limits(limits: &Limits, plan: &NodePlan) {
    let trunks = plan
        .routing
        .trunks
        .iter()
        .map(|trunk| (trunk.slot, &trunk.limits));
    let groups = plan
        .routing
        .groups
        .iter()
        .map(|group| (group.slot, &group.limits));
    for (slot, wanted) in trunks.chain(groups) {
        limits.set(SlotId(slot), &maxima(wanted));
    }
}

fn maxima(wanted: &route::LimitMaxima) -> Maxima {
    Maxima {
        calls_max: wanted.calls_max,
        calls_in_max: wanted.calls_in_max,
        calls_out_max: wanted.calls_out_max,
        cps: wanted.cps.map(|cps| Cps {
            sustain: cps.sustain,
            burst: cps.burst,
        }),
    }
}
