//! Call detail records: what is known of one call attempt when it is over, the ring that carries it
//! from its shard to the thread that writes files, and how it is written. No file and no clock here.
//!
//! `docs/cdr.md` describes the fields; `docs/decisions/0011-cdr-ring.md` says why a ring.

pub mod format;
pub mod record;
pub mod ring;

pub use format::{Context, csv_head, csv_line, json_line};
pub use record::{
    ATTEMPTS_MAX, AttemptEnd, AttemptRecord, Cdr, Disposition, LimitHit, LimitKind, Party,
};
pub use ring::{Full, Memory, Producer, Pushed, Read, Ring, RingFault, SLOT_OCTETS};
