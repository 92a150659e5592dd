//! What one shard gives another: a bounded lock-free ring, and the means to wake its reader.

pub use crossbeam::queue::ArrayQueue;

/// Ends the wait of a shard's driver; called from any thread.
pub trait Wake: Send + Sync {
    /// Wakes the shard; harmless when it is awake.
    fn wake(&self);
}
