//! Dialogs of RFC 3261 §12 as a proxy sees them: calls, their early and confirmed forks, and the
//! memory of both sides' CSeq. Session timers (RFC 4028) are computed in `session`; `store` is the
//! form in which answered calls outlive the process.

mod call;
mod likeness;
pub mod session;
pub mod store;
pub mod table;
pub mod texts;
mod timers;

pub use call::{Call, Fork, Phase, SetUp, Side};
pub use table::{CallKey, Calls, ForkKey, Full, Match};
pub use texts::{Part, Texts, Words};
pub use timers::Due;
