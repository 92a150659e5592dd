//! The end of the process that comes: it asks, gets ready, takes, and says when it serves.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::bounded;
use serde_json::{Value, json};

use super::wire::Wire;
use super::{
    GiverSays, HEIR_TIME, HeirSays, Hello, Likeness, Offer, Ordered, PROTOCOL, STANDSTILL_TIME,
    TrunkHealth,
};
use crate::base::Instant;
use crate::base::hash::HashKey;
use crate::control::Fault;
use crate::io::{Socket, socket};
use crate::net::ListenerId;
use crate::route::SlotBook;
use crate::route::health::{Passive, STRIKES_MAX};
use crate::route::slots::SlotKind;
use crate::shard::mail::{Ask, Mail, TrunkOrder};
use crate::shard::{NodePlan, Shared};

/// How long the node may take to answer; it does so from a thread of its own.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// How long it may take to say good-bye.
const FAREWELL_TIME: Duration = Duration::from_secs(5);

/// What the running node gave, and the wire to it.
pub struct Inheritance {
    wire: Wire,
    offer: Offer,
    sockets: Vec<Vec<OwnedFd>>,
    admin: Option<UnixListener>,
    http: Option<TcpListener>,
    lock: Option<File>,
    /// By the heir's clock: until when it must serve.
    deadline: Instant,
}

/// What comes with the calls themselves.
#[derive(Default)]
pub struct Legacy {
    /// Records in memory, by shard; none where they are under `state_dir`.
    pub memory: Vec<OwnedFd>,
    health: Vec<TrunkHealth>,
}

impl Inheritance {
    /// Asks the node that listens on `path`. Until [`Inheritance::take`] it serves as before.
    pub fn ask(path: &Path, likeness: &Likeness) -> Result<Inheritance, String> {
        let fault = |fault: io::Error| format!("takeover on {}: {fault}", path.display());
        let stream = UnixStream::connect(path).map_err(|why| {
            format!(
                "no node to take over on {}: {why}; start without --takeover",
                path.display()
            )
        })?;
        let mut wire = Wire::new(stream).map_err(fault)?;
        let hello = Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            likeness: serde_json::to_value(likeness).map_err(|why| why.to_string())?,
        };
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "takeover", "params": hello});
        wire.send(&request).map_err(fault)?;
        let line = wire.receive(ANSWER_TIME).map_err(fault)?;
        let line = line.ok_or_else(|| fault(io::ErrorKind::UnexpectedEof.into()))?;
        let offer = read_offer(&line)?;
        let listeners = likeness.listeners.len();
        let mut inheritance = Inheritance {
            wire,
            offer,
            sockets: Vec::new(),
            admin: None,
            http: None,
            lock: None,
            deadline: Instant::START,
        };
        inheritance
            .take_descriptors(likeness.shards, listeners)
            .map_err(fault)?;
        Ok(inheritance)
    }

    fn take_descriptors(&mut self, shards: usize, listeners: usize) -> io::Result<()> {
        for _shard in 0..shards {
            let sockets = self.wire.take_fds(listeners, ANSWER_TIME)?;
            self.sockets.push(sockets);
        }
        self.admin = self.next_fd(true)?.map(UnixListener::from);
        self.http = self
            .next_fd(self.offer.http.is_some())?
            .map(TcpListener::from);
        self.lock = self.next_fd(self.offer.has_lock)?.map(File::from);
        Ok(())
    }

    fn next_fd(&mut self, is_there: bool) -> io::Result<Option<OwnedFd>> {
        let count = usize::from(is_there);
        Ok(self.wire.take_fds(count, ANSWER_TIME)?.pop())
    }

    /// The sockets, by shard and then by listener.
    pub fn sockets(&mut self) -> io::Result<Vec<Vec<Arc<Socket>>>> {
        let by_shard = std::mem::take(&mut self.sockets).into_iter();
        let adopted = by_shard.map(|sockets| {
            let sockets = (0u16..).zip(sockets);
            let sockets = sockets.map(|(at, fd)| socket::adopt(ListenerId(at), fd).map(Arc::new));
            sockets.collect()
        });
        adopted.collect()
    }

    /// The listener of operators.
    pub fn admin(&mut self) -> Option<UnixListener> {
        self.admin.take()
    }

    /// The HTTP listener, where it is at this address.
    pub fn http(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let listener = self.http.take();
        listener.filter(|_| self.offer.http == Some(wanted))
    }

    /// The lock of the state directory.
    pub fn lock(&mut self) -> Option<File> {
        self.lock.take()
    }

    /// The node's key.
    pub fn key(&self) -> HashKey {
        HashKey::new(self.offer.key)
    }

    /// Calls that a shard must have room for.
    pub fn dialogs_each(&self) -> usize {
        self.offer.dialogs_each
    }

    /// Whether the kernel steers datagrams to the sockets. It goes on: its program is the group's.
    pub fn steering(&self) -> bool {
        self.offer.steering
    }

    /// Gives slots to trunks that calls go over and that are not configured here.
    pub fn learn_trunks(&self, names: &mut SlotBook) {
        for name in &self.offer.trunks {
            // Full: its calls go on and are not counted on it.
            let _full = names.assign(SlotKind::Trunk, name);
        }
    }

    /// Has the node stand still and takes its calls. `Ok(None)` = it has died meanwhile: what there
    /// is of its records is as after a crash.
    pub fn take(&mut self, now: &dyn Fn() -> Instant) -> Result<Option<Legacy>, String> {
        let said = self.wire.send(&HeirSays::Take);
        let line = said.and_then(|()| self.wire.receive(STANDSTILL_TIME * 5));
        self.deadline = now() + HEIR_TIME;
        let line = match line {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(None),
            Err(fault) if is_gone(&fault) => return Ok(None),
            Err(fault) => return Err(format!("the running node does not stand still: {fault}")),
        };
        match serde_json::from_slice(&line) {
            Ok(GiverSays::Yours {
                calls,
                memory,
                health,
            }) => {
                tracing::info!(calls, "the running node stands still: taking its calls");
                match self.wire.take_fds(memory, ANSWER_TIME) {
                    Ok(memory) => Ok(Some(Legacy { memory, health })),
                    Err(fault) if is_gone(&fault) => Ok(None),
                    Err(fault) => Err(format!("its records: {fault}")),
                }
            }
            Ok(GiverSays::Refused { why } | GiverSays::TakenBack { why }) => {
                Err(format!("the running node goes on: {why}"))
            }
            Ok(GiverSays::Bye) | Err(_) => Err("the running node makes no sense".to_owned()),
        }
    }

    /// How long is left to serve.
    pub fn time_left(&self, now: Instant) -> Duration {
        self.deadline.since(now)
    }

    /// Says that this process serves. An error: it is too late, the node has taken its sockets back
    /// and this process must end at once.
    pub fn serve(mut self, now: Instant) -> Result<(), String> {
        if now >= self.deadline {
            return Err("this process was not ready in time: the running node goes on".to_owned());
        }
        let said = self.wire.send(&HeirSays::Serving);
        let line = match said.and_then(|()| self.wire.receive(FAREWELL_TIME)) {
            Ok(Some(line)) => line,
            // It died, or it is slow to die: the sockets are ours.
            Ok(None) | Err(_) => {
                tracing::warn!("the former process has gone without a word");
                return Ok(());
            }
        };
        match serde_json::from_slice(&line) {
            Ok(GiverSays::TakenBack { why } | GiverSays::Refused { why }) => {
                Err(format!("the running node goes on: {why}"))
            }
            Ok(GiverSays::Bye | GiverSays::Yours { .. }) | Err(_) => Ok(()),
        }
    }
}

impl Legacy {
    /// Puts what the former process knew of its trunks into the inboxes of the shards that watch
    /// them: it is read before the first datagram.
    pub fn tell_health(&self, shared: &Shared, plan: &NodePlan) {
        let shards = shared.mail.shards();
        for row in &self.health {
            let mut trunks = plan.routing.trunks.iter();
            let Some(trunk) = trunks.find(|trunk| trunk.name == row.trunk) else {
                continue;
            };
            let keeper = usize::from(trunk.slot) % shards.max(1);
            for address_index in row.dead.iter().copied() {
                for _strike in 0..STRIKES_MAX {
                    let mail = Mail::Passive {
                        slot: trunk.slot,
                        address_index,
                        signal: Passive::TimedOut,
                    };
                    let _taken = shared.mail.post(keeper, mail);
                }
            }
            if let Some(order) = row.order {
                // Nobody waits for the answer.
                let (done, _answer) = bounded(1);
                let order = match order {
                    Ordered::Drain => TrunkOrder::Drain,
                    Ordered::Disable => TrunkOrder::Disable,
                };
                let slot = trunk.slot;
                let ask = Ask::Trunk { slot, order, done };
                let _taken = shared.mail.post(keeper, Mail::Ask(Box::new(ask)));
            }
        }
    }
}

fn is_gone(fault: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(
        fault.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    )
}

fn read_offer(line: &[u8]) -> Result<Offer, String> {
    let answer: Value = serde_json::from_slice(line).map_err(|why| why.to_string())?;
    if let Some(fault) = answer.get("error") {
        let fault: Fault =
            serde_json::from_value(fault.clone()).map_err(|why| format!("{fault}: {why}"))?;
        let hint = match fault.code {
            Fault::NO_SUCH_METHOD => " (it is of a version without hand-over)",
            _ => "",
        };
        let first = format!("the running node refuses: {}{hint}", fault.message);
        let lines: Vec<String> = [first].into_iter().chain(fault.data).collect();
        return Err(lines.join("\n"));
    }
    let offer: Offer = serde_json::from_value(answer["result"].clone())
        .map_err(|why| format!("the running node's offer: {why}"))?;
    match offer.protocol {
        PROTOCOL => Ok(offer),
        other => Err(format!(
            "the running node (version {}) hands over by protocol {other}, this one by {PROTOCOL}",
            offer.version
        )),
    }
}
