//! libFuzzer over one of the targets: the name comes in `CALLGATE_FUZZ_TARGET`, since libFuzzer has
//! the command line for itself.

#![no_main]

#[allow(dead_code, reason = "each user of the kit takes a part of it")]
#[path = "../../kit/mod.rs"]
mod kit;
#[path = "../targets/mod.rs"]
mod targets;

use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn target() -> fn(&[u8]) {
    let name = std::env::var("CALLGATE_FUZZ_TARGET").unwrap_or_default();
    let found = targets::TARGETS.iter().find(|(of, _)| *of == name);
    let Some((_, target)) = found else {
        let names: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
        panic!("CALLGATE_FUZZ_TARGET is none of {}", names.join(", "));
    };
    *target
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    TARGET.get_or_init(target)(input);
});
