//! Transactions of RFC 3261 §17 with RFC 6026: four machines, their timers, keys and tables.

pub mod client_invite;
pub mod client_non_invite;
mod listed;
pub mod server_invite;
pub mod server_non_invite;
pub mod timings;

pub use timings::{Timer, Timings};
