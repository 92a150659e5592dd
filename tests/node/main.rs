//! The program from outside: start, commands, signals, faults, and what it tells other programs.
//!
//! Each test runs its own node on free loopback ports, in a directory of its own.

#![expect(
    clippy::disallowed_methods,
    reason = "a test of the running program waits for it by the clock"
)]

mod bans;
mod commands;
mod door;
mod drain;
mod http;
mod kit;
mod paging;
mod plan;
mod reload;
mod see;
mod service;
mod start;
mod watch;
