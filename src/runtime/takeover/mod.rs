//! A new process takes a running node over: sockets, records of calls, control. `giver` is the end
//! of the node that runs, `heir` the end of the one that comes; both speak over the admin socket.
//!
//! ```text
//! heir                                giver
//!  takeover {likeness}  ------------>  may it? same user, same listeners, same tables
//!                       <------------  offer, and descriptors: sockets, admin, HTTP, lock
//!  makes its tables and threads; the giver serves
//!  "Take"               ------------>  shards stop reading, mail and outbox run empty
//!                       <------------  "Yours": records are complete; datagrams wait in the sockets
//!  restores the calls, reads the sockets
//!  "Serving"            ------------>  "Bye", and ends
//! ```
//!
//! Whatever goes wrong before "Serving", the giver goes on: with its own shards, or with new ones
//! from its records. If the giver dies, the heir goes on as after a crash.

mod giver;
mod heir;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use giver::Estate;
pub use heir::{Inheritance, Legacy};

use crate::config::Config;
use crate::shard::plan::Capacity;

/// The version of this conversation: another one is refused, with both numbers.
pub const PROTOCOL: u32 = 1;

/// How long an heir may take from "Yours" to "Serving" by its own clock. The giver waits longer,
/// so that the two never read the sockets at once.
const HEIR_TIME: Duration = Duration::from_secs(8);
const GIVER_PATIENCE: Duration = Duration::from_secs(15);
/// How long an heir may take to make its tables.
const PREPARE_TIME: Duration = Duration::from_secs(60);
/// How long shards may take to stand still.
pub const STANDSTILL_TIME: Duration = Duration::from_secs(3);

/// What both processes must have alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Likeness {
    shards: usize,
    /// As configured.
    listeners: Vec<SocketAddr>,
    state_dir: Option<PathBuf>,
    /// `[capacity] dialogs` of one shard.
    dialogs: usize,
}

impl Likeness {
    /// Of a configuration that runs, or is to run, with so many shards.
    pub fn of(config: &Config, shards: usize) -> Likeness {
        let Capacity { dialogs, .. } = config.capacity.per_shard(shards);
        let listeners = config.plan.listeners.iter();
        Likeness {
            shards,
            listeners: listeners.map(|listener| listener.bind).collect(),
            state_dir: config.node.state_dir.clone(),
            dialogs,
        }
    }

    /// A line for each difference, ours first.
    fn differences(&self, heirs: &Likeness) -> Vec<String> {
        let mut lines = Vec::new();
        let mut note = |what: &str, ours: String, theirs: String| {
            if ours != theirs {
                lines.push(format!("{what}: {ours} here, {theirs} in the new process"));
            }
        };
        note("shards", self.shards.to_string(), heirs.shards.to_string());
        note(
            "listeners",
            joined(&self.listeners),
            joined(&heirs.listeners),
        );
        note("state_dir", name(&self.state_dir), name(&heirs.state_dir));
        note(
            "[capacity] dialogs of a shard",
            self.dialogs.to_string(),
            heirs.dialogs.to_string(),
        );
        lines
    }
}

fn joined(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

fn name(path: &Option<PathBuf>) -> String {
    let path = path.as_ref().map(|path| path.display().to_string());
    path.unwrap_or_else(|| "none".to_owned())
}

/// What an heir asks with.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    protocol: u32,
    version: String,
    /// A [`Likeness`], read once the protocol is known to be the same.
    likeness: serde_json::Value,
}

/// What a giver offers. Descriptors follow: the sockets by shard and then by listener, and those
/// that are named here.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Offer {
    protocol: u32,
    version: String,
    /// Calls that a shard has room for.
    dialogs_each: usize,
    key: [u64; 2],
    steering: bool,
    has_lock: bool,
    http: Option<SocketAddr>,
    /// All trunks that calls may go over.
    trunks: Vec<String>,
}

/// What an heir says after the offer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum HeirSays {
    Take,
    Serving,
}

/// What a giver says after the offer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum GiverSays {
    Refused {
        why: String,
    },
    /// So many descriptors of records follow: one for each shard of a node without `state_dir`.
    Yours {
        calls: usize,
        memory: usize,
        health: Vec<TrunkHealth>,
    },
    Bye,
    TakenBack {
        why: String,
    },
}

/// What an heir would not know of a trunk.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TrunkHealth {
    trunk: String,
    order: Option<Ordered>,
    /// Addresses that are taken out, by position.
    dead: Vec<u8>,
}

/// An operator's order that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Ordered {
    Drain,
    Disable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_is_a_line_with_both_values() {
        let ours = Likeness {
            shards: 2,
            listeners: vec!["192.0.2.1:5060".parse().expect("an address")],
            state_dir: None,
            dialogs: 100,
        };
        assert!(ours.differences(&ours).is_empty());
        let theirs = Likeness {
            shards: 4,
            listeners: Vec::new(),
            state_dir: Some("/run/x".into()),
            dialogs: 50,
        };
        assert_eq!(
            ours.differences(&theirs),
            [
                "shards: 2 here, 4 in the new process",
                "listeners: 192.0.2.1:5060 here,  in the new process",
                "state_dir: none here, /run/x in the new process",
                "[capacity] dialogs of a shard: 100 here, 50 in the new process",
            ]
        );
    }
}
