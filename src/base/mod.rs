//! Foundations without SIP, sockets or clocks: time, bounded memory, tables, timers, randomness.

pub mod atomics;
pub mod bytes;
pub mod cells;
pub mod cursor;
pub mod dial;
pub mod duration;
pub mod fresh;
pub mod halves;
pub mod hash;
mod nearest;
#[expect(unsafe_code, reason = "a prefetch is an instruction with an address")]
mod prefetch;
pub mod random;
pub mod ring;
pub mod slab;
pub mod sleep;
pub mod table;
pub mod time;
pub mod wheel;

pub use bytes::{ByteStore, Handle};
pub use cells::{Cells, Chain};
pub use cursor::Cursor;
pub use dial::{Dial, Links, Tick, Timed};
pub use fresh::Fresh;
pub use halves::Halves;
pub use hash::{HashKey, Hasher};
pub use nearest::nearest;
pub use prefetch::{prefetch, prefetch_all};
pub use random::Random;
pub use slab::{Key, Slab};
pub use table::Index;
pub use time::Instant;
pub use wheel::{TimerId, Wheel};
