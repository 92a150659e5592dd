//! Callgate: a SIP front-end for bare-metal servers.
//!
//! A shard is a single-threaded deterministic machine — (now, datagram) in, datagrams out — pinned
//! to one CPU. Modules are layers: each imports only from those above it in this list
//! (`tests/tidy.rs` holds the table).

#![deny(unsafe_code)]

pub mod base;
pub mod capture;
pub mod cdr;
pub mod config;
pub mod control;
pub mod dialog;
pub mod guard;
pub mod io;
pub mod limit;
pub mod metrics;
pub mod net;
pub mod route;
pub mod runtime;
pub mod shard;
pub mod sip;
pub mod transaction;
