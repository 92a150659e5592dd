//! Transactions of RFC 3261 §17 with RFC 6026: four machines, their timers, keys and tables.

pub mod timings;

pub use timings::Timings;
