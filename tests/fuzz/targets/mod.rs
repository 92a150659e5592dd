//! What is fuzzed: each target takes any octets and panics when a promise is broken.
//!
//! The same functions are replayed by `cargo test --test fuzz` and searched by `tests/fuzz/find`.
//! There is no target for digest: this version neither makes nor checks credentials.

mod files;
mod messages;
mod script;
mod values;

/// A name, and the function that must not panic.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("parse", messages::parse),
    ("edit", messages::edit),
    ("uri", values::uri),
    ("via", values::via),
    ("name-addr", values::name_addr),
    ("sdp", values::sdp),
    ("stun", values::stun),
    ("shard", script::shard),
    ("config", files::config),
    ("state", files::state),
    ("control", files::control),
];
