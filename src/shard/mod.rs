//! The machine of one shard: (now, datagram) in, datagrams out. One file per step of the RFC.

pub mod mail;
pub mod plan;

pub use plan::{Listener, NodePlan};
