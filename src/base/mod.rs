//! Foundations without SIP, sockets or clocks: time, bounded memory, tables, timers, randomness.

pub mod cursor;
pub mod ring;
pub mod time;

pub use cursor::Cursor;
pub use time::Instant;
