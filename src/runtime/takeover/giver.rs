//! The end of the node that runs: may it be taken over, what is given, and what if nothing comes
//! of it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::wire::{Peer, Wire};
use super::{
    GIVER_PATIENCE, GiverSays, HeirSays, Hello, Likeness, Offer, Ordered, PREPARE_TIME, PROTOCOL,
    STANDSTILL_TIME, TrunkHealth,
};
use crate::base::hash::HashKey;
use crate::control::{Fault, Node};
use crate::io::Socket;
use crate::route::health;
use crate::route::slots::SlotKind;
use crate::runtime::notify::{self, State};
use crate::runtime::supervisor::{Happening, StoodStill};

/// What a node has to give.
pub struct Estate {
    pub likeness: Likeness,
    /// By shard, then by listener.
    pub sockets: Vec<Vec<Arc<Socket>>>,
    pub admin: OwnedFd,
    pub http: Option<(SocketAddr, OwnedFd)>,
    /// Of the state directory.
    pub lock: Option<OwnedFd>,
    pub key: HashKey,
    pub dialogs_each: usize,
    pub steering: bool,
    /// To the supervisor.
    pub events: Sender<Happening>,
    /// One heir at a time.
    pub is_busy: AtomicBool,
}

impl Estate {
    /// Gives all of it to the process at the other end, or to nobody. A fault is for an answer to its
    /// request; whatever comes later is said on the connection and in the log.
    pub fn hand_over(
        &self,
        node: &Node,
        client: &UnixStream,
        id: &Value,
        params: &Value,
    ) -> Result<(), Fault> {
        let internal = |fault: std::io::Error| Fault::new(Fault::INTERNAL, fault.to_string());
        let mut wire = client.try_clone().and_then(Wire::new).map_err(internal)?;
        let peer = wire.peer().map_err(internal)?;
        let hello = self.may_be_heir(node, peer, params)?;
        if self.is_busy.swap(true, Ordering::AcqRel) {
            return Err(Fault::refused("another takeover is under way"));
        }
        tracing::info!(
            process = peer.process,
            version = hello.version,
            "a new process takes the node over; it prepares"
        );
        let handed = self.converse(node, &mut wire, peer, id);
        self.is_busy.store(false, Ordering::Release);
        if let Err(why) = handed {
            tracing::error!(process = peer.process, %why, "not taken over: this process goes on");
            let _gone = wire.send(&GiverSays::TakenBack { why });
        }
        Ok(())
    }

    fn may_be_heir(&self, node: &Node, peer: Peer, params: &Value) -> Result<Hello, Fault> {
        let hello: Hello = read(params)?;
        if hello.protocol != PROTOCOL {
            return Err(Fault::refused(format!(
                "this node (version {}) hands over by protocol {PROTOCOL}, the new process (version {}) by {}: stop this one and start the other",
                env!("CARGO_PKG_VERSION"),
                hello.version,
                hello.protocol
            )));
        }
        let own = rustix::process::geteuid().as_raw();
        if peer.user != own {
            return Err(Fault::refused(format!(
                "a node hands over to a process of its own user ({own}), not to one of user {}",
                peer.user
            )));
        }
        let likeness: Likeness = read(&hello.likeness)?;
        let data = self.likeness.differences(&likeness);
        if !data.is_empty() {
            let message = "a takeover changes none of these, a restart does:";
            return Err(Fault {
                data,
                ..Fault::refused(message)
            });
        }
        may_stand_still(node).map_err(Fault::refused)?;
        Ok(hello)
    }

    fn converse(&self, node: &Node, wire: &mut Wire, peer: Peer, id: &Value) -> Result<(), String> {
        let left = |fault: std::io::Error| format!("the new process is not reached: {fault}");
        let offer = json!({"jsonrpc": "2.0", "id": id, "result": self.offer(node)});
        wire.send(&offer).map_err(left)?;
        wire.send_fds(&self.descriptors()).map_err(left)?;
        expect(wire, &HeirSays::Take, PREPARE_TIME, "it did not get ready")?;
        // From here on until "Serving" the shards stand still; dropping this sets them going again.
        let mut still = Standstill::begin(&self.events)?;
        let yours = GiverSays::Yours {
            calls: node.calls(),
            memory: still.found.memory.len(),
            health: health_of(node),
        };
        wire.send(&yours).map_err(left)?;
        let memory: Vec<BorrowedFd<'_>> = still.found.memory.iter().map(AsFd::as_fd).collect();
        wire.send_fds(&memory).map_err(left)?;
        expect(wire, &HeirSays::Serving, GIVER_PATIENCE, "it did not serve")?;
        still.is_over = true;
        // Only the main process of a unit is listened to by default: this one still is.
        notify::notify(State::MainProcess(peer.process));
        let _gone = wire.send(&GiverSays::Bye);
        let ended = Happening::HandedOver {
            process: peer.process,
        };
        let _ending = self.events.send(ended);
        Ok(())
    }

    fn offer(&self, node: &Node) -> Offer {
        let slots = node.levers.slots();
        let names = (0..slots.slots_max()).filter_map(|slot| slots.named(slot));
        let trunks = names.filter(|(kind, _)| *kind == SlotKind::Trunk);
        Offer {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            dialogs_each: self.dialogs_each,
            key: self.key.words(),
            steering: self.steering,
            has_lock: self.lock.is_some(),
            http: self.http.as_ref().map(|(address, _)| *address),
            trunks: trunks.map(|(_, name)| name.to_owned()).collect(),
        }
    }

    /// In the order in which the heir takes them.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let sockets = self.sockets.iter().flatten().map(|socket| socket.as_fd());
        let rest = [
            Some(self.admin.as_fd()),
            self.http.as_ref().map(|(_, listener)| listener.as_fd()),
            self.lock.as_ref().map(AsFd::as_fd),
        ];
        sockets.chain(rest.into_iter().flatten()).collect()
    }
}

/// Whether a node can stand still at this moment.
fn may_stand_still(node: &Node) -> Result<(), String> {
    if node.is_draining() {
        return Err("this node drains: it ends by itself".to_owned());
    }
    match (node.shards_running(), node.seats.len()) {
        (running, all) if running < all => Err(format!("{running} of {all} shards run")),
        _ => Ok(()),
    }
}

/// The shards stand still while this lives.
struct Standstill<'e> {
    events: &'e Sender<Happening>,
    found: StoodStill,
    is_over: bool,
}

impl<'e> Standstill<'e> {
    fn begin(events: &'e Sender<Happening>) -> Result<Standstill<'e>, String> {
        let (answer, answered) = bounded(1);
        let ending = "this node ends".to_owned();
        events
            .send(Happening::StandStill { answer })
            .map_err(|_| ending.clone())?;
        let patience = STANDSTILL_TIME + Duration::from_secs(7);
        match answered.recv_timeout(patience) {
            Ok(Ok(found)) => Ok(Standstill {
                events,
                found,
                is_over: false,
            }),
            Ok(Err(why)) => Err(why),
            Err(_) => {
                let _ending = events.send(Happening::GoOn);
                Err(ending)
            }
        }
    }
}

impl Drop for Standstill<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let _ending = self.events.send(Happening::GoOn);
        }
    }
}

/// Waits for one word of the heir.
fn expect(wire: &mut Wire, word: &HeirSays, patience: Duration, what: &str) -> Result<(), String> {
    let line = wire
        .receive(patience)
        .map_err(|fault| format!("{what}: {fault}"))?
        .ok_or_else(|| format!("{what}: the new process has ended"))?;
    match serde_json::from_slice::<HeirSays>(&line) {
        Ok(said) if said == *word => Ok(()),
        Ok(said) => Err(format!("{what}: it said {said:?} out of turn")),
        Err(fault) => Err(format!("{what}: {fault}")),
    }
}

/// Orders of operators that stand, and addresses that are taken out.
fn health_of(node: &Node) -> Vec<TrunkHealth> {
    let plan = node.plan();
    let board = &node.shared.board;
    let rows = plan.routing.trunks.iter().map(|trunk| {
        let alive = board.alive(trunk.slot);
        let addresses = 0..trunk.addresses.len() as u8;
        TrunkHealth {
            trunk: trunk.name.clone(),
            order: match board.state(trunk.slot) {
                health::State::Draining => Some(Ordered::Drain),
                health::State::Disabled if !trunk.disabled => Some(Ordered::Disable),
                health::State::Disabled
                | health::State::Up
                | health::State::Probing
                | health::State::Down => None,
            },
            dead: addresses.filter(|at| alive & (1 << at) == 0).collect(),
        }
    });
    rows.filter(|row| row.order.is_some() || !row.dead.is_empty())
        .collect()
}

fn read<T: DeserializeOwned>(params: &Value) -> Result<T, Fault> {
    T::deserialize(params).map_err(|fault| Fault::new(Fault::INVALID_PARAMS, fault.to_string()))
}
