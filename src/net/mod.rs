//! Who sent it and where a reply goes: addresses with their roles, and the outbox of replies.

mod flow;
mod outbox;
mod owner;

pub use flow::{CompactFlow, Flow, ListenerId, Transport, WideAddress};
pub use outbox::{Datagram, Full, Outbox};
pub use owner::{owner, owner_of_hash};
