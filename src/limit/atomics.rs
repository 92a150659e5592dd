//! The atomics that the counters are made of: the one place where a model checker's own types can
//! stand in for them.
//!
//! All access is relaxed. Each counter is a single word that is checked and changed in one step,
//! and nothing else is published through it.

pub use core::sync::atomic::Ordering::Relaxed;
pub use core::sync::atomic::{AtomicU32, AtomicU64};
