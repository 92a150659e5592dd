//! Replays the kept corpus of every fuzz target, and a few thousand mutations that are the same on
//! each run. `tests/fuzz/find` searches for more; see README.md beside this file.

#[expect(dead_code, reason = "whole folders are read here")]
#[path = "../corpora/mod.rs"]
mod corpora;
#[expect(dead_code, reason = "each user of the kit takes a part of it")]
#[path = "../kit/mod.rs"]
mod kit;
mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use callgate::base::hash::HashKey;
use callgate::sip::{HeaderId, Message, Scratch};
use mutate::Mutator;

/// The files of a folder by name, so that each run sees them in one order.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder);
    let entries = entries.unwrap_or_else(|fault| panic!("{}: {fault}", folder.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    let read = |path: &PathBuf| std::fs::read(path).expect("a file that can be read");
    paths.iter().map(read).collect()
}

fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    files(&folder.join(target))
}

/// Every message of the corpora beside the checkout.
fn messages() -> Vec<Vec<u8>> {
    let mut found = files(&corpora::folder("wild"));
    found.extend(files(&corpora::folder("rfc4475")));
    found.retain(|bytes| bytes.len() < 8000);
    found
}

/// What `read` takes out of every message of the corpora.
fn parts(read: impl Fn(&Message<'_>, &mut Vec<Vec<u8>>)) -> Vec<Vec<u8>> {
    let mut scratch = Scratch::new(256);
    let mut found = Vec::new();
    for bytes in messages() {
        if let Ok(message) = callgate::sip::parse(&bytes, &mut scratch) {
            read(&message, &mut found);
        }
    }
    found.sort();
    found.dedup();
    found
}

fn values(ids: &[HeaderId]) -> Vec<Vec<u8>> {
    parts(|message, found| {
        for id in ids {
            found.extend(message.values(*id).map(|value| value.bytes.to_vec()));
        }
    })
}

/// The tokens of the dictionary beside the checkout: lines of `"text"` with `\xNN`.
fn dictionary() -> Vec<Vec<u8>> {
    let path = corpora::folder("wild").join("../sip.dict");
    let text = std::fs::read_to_string(path).expect("the dictionary");
    let quoted = |line: &str| {
        let open = line.find('"')?;
        let close = line.rfind('"').filter(|close| *close > open)?;
        Some(unescaped(&line.as_bytes()[open + 1..close]))
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(quoted).collect()
}

fn unescaped(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((first, rest)) = text.split_first() {
        let hex = rest
            .get(1..3)
            .and_then(|digits| core::str::from_utf8(digits).ok());
        let octet = hex.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        (out, text) = match (first, rest.first(), octet) {
            (b'\\', Some(b'x'), Some(octet)) => ([out, vec![octet]].concat(), &rest[3..]),
            (b'\\', Some(escaped), _) => ([out, vec![*escaped]].concat(), &rest[1..]),
            _ => ([out, vec![*first]].concat(), rest),
        };
    }
    out
}

/// Runs one input; what breaks a target is written to a file before the test fails.
fn run(name: &str, target: fn(&[u8]), input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_ok() {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let hash = HashKey::new([1, 2]).hash(input);
    let path = folder.join(format!("{name}-{hash:016x}"));
    std::fs::write(&path, input).expect("a file below the target directory");
    panic!("{name} breaks on {}", path.display());
}

/// The kept corpus as it is, then `count` mutations of it and of `seeds`.
fn replay(name: &str, seeds: Vec<Vec<u8>>, count: usize) {
    let found = targets::TARGETS.iter().find(|(of, _)| *of == name);
    let (_, target) = *found.expect("a target of this name");
    let mut all = kept(name);
    all.extend(seeds);
    assert!(!all.is_empty(), "{name} has nothing to start from");
    for input in &all {
        run(name, target, input);
    }
    let tokens = dictionary();
    let mut mutator = Mutator::new(1, &tokens);
    for _ in 0..count {
        let mut input = all[mutator.below(all.len())].clone();
        let other = mutator.below(all.len());
        mutator.mutate(&mut input, &all[other]);
        run(name, target, &input);
    }
}

#[test]
fn parse() {
    replay("parse", messages(), 12_000);
}

#[test]
fn edit() {
    replay("edit", messages(), 20_000);
}

#[test]
fn uri() {
    let request_uris = parts(|message, found| found.push(message.request_uri().to_vec()));
    replay("uri", request_uris, 60_000);
}

#[test]
fn via() {
    replay("via", values(&[HeaderId::Via]), 60_000);
}

#[test]
fn name_addr() {
    let ids = [
        HeaderId::From,
        HeaderId::To,
        HeaderId::Contact,
        HeaderId::Route,
    ];
    replay("name-addr", values(&ids), 60_000);
}

#[test]
fn sdp() {
    let bodies = parts(|message, found| found.push(message.body().to_vec()));
    replay("sdp", bodies, 20_000);
}

#[test]
fn stun() {
    replay("stun", Vec::new(), 60_000);
}

#[test]
fn shard() {
    replay("shard", Vec::new(), 2500);
}

#[test]
fn config() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut texts = files(&folder);
    texts.retain(|text| !text.is_empty());
    replay("config", texts, 3000);
}

#[test]
fn state() {
    replay("state", Vec::new(), 300);
}

#[test]
fn control() {
    replay("control", Vec::new(), 30_000);
}

/// A target without a test here would be replayed by nobody, and one without a corpus by chance.
#[test]
fn every_target_is_replayed() {
    let own = include_str!("main.rs");
    for (name, _) in targets::TARGETS {
        assert!(own.contains(&format!("replay(\"{name}\", ")), "{name}");
        assert!(!kept(name).is_empty(), "{name} has no kept corpus");
    }
}
