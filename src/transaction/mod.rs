//! Transactions of RFC 3261 §17 with RFC 6026: four machines, their timers, keys and tables.
//!
//! The machines are pure (`client_invite`, `client_non_invite`, `server_invite`,
//! `server_non_invite`); [`Transactions`] keeps one record per transaction, does what the machines
//! say and tells its user, the shard, what it must know. Everything is taken in `new`: a full
//! table, byte store or outbox refuses, it never grows.

mod client;
pub mod client_invite;
pub mod client_non_invite;
mod clock;
mod expire;
mod key;
mod listed;
mod server;
pub mod server_invite;
pub mod server_non_invite;
mod table;
#[cfg(test)]
mod tests;
pub mod timings;

pub use client::{ClientState, Verdict};
pub use expire::Event;
pub use key::ServerKey;
pub use server::ServerState;
pub use table::{Capacity, ClientId, Counters, Full, Role, ServerId, Transactions};
pub use timings::{Timer, Timings};
