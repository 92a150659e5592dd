//! Copies of messages on their way out of the node: which are wanted, the spool that carries them
//! from a shard to the thread that drains it, and the two formats they leave in (HEP and pcap).
//!
//! Pure: no socket, no clock. A shard copies into the spool and never waits; sending is the
//! runtime's, files are written by the command that asked.

mod glance;
pub mod hep;
pub mod pcap;
mod selection;
mod spool;

pub use glance::{Glance, glance};
pub use selection::{Selection, Subject, Want};
pub use spool::{Direction, OCTETS_MAX, SLOTS_MAX, Spool, Spooled, Tap};
