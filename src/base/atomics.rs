//! The atomics of what shards share: the one place where a model checker's own types can stand in
//! for them (`tests/loom`).

pub use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
