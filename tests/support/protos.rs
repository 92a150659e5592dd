//! The cases of the PROTOS suite c07-sip, unpacked and ready for their tags to be filled in.

use std::process::Command;

use super::corpora::folder;
use super::tool;

/// One test case of the PROTOS suite: the tagged form of each of its messages.
pub struct Case {
    pub name: String,
    pub messages: Vec<Vec<u8>>,
}

/// All cases of the PROTOS archive, in order of their names.
pub fn cases() -> Vec<Case> {
    let archive = folder("protos-c07-sip").join("testcases.tar.xz");
    // Unpacked through xz by hand: tar would look for it on the PATH without saying what is missing.
    let packed = Command::new(tool::find("xz"))
        .args(["-dc"])
        .arg(&archive)
        .output()
        .expect("xz runs");
    assert!(
        packed.status.success(),
        "xz cannot unpack {}",
        archive.display()
    );
    let mut cases: Vec<Case> = tar_members(&packed.stdout)
        .into_iter()
        .map(|(name, bytes)| Case {
            name,
            messages: pdus(&bytes),
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(
        cases.len() > 2000,
        "only {} PROTOS cases in {}",
        cases.len(),
        archive.display()
    );
    cases
}

/// The regular files of a tar archive: a 512-octet header each, with name and octal size.
fn tar_members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut members = Vec::new();
    let mut rest = archive;
    while rest.len() >= 512 && rest[0] != 0 {
        let text = |range: std::ops::Range<usize>| {
            let field = rest[range]
                .split(|octet| *octet == 0)
                .next()
                .unwrap_or_default();
            String::from_utf8_lossy(field).trim().to_owned()
        };
        let size = usize::from_str_radix(&text(124..136), 8).expect("an octal size");
        if matches!(rest[156], b'0' | 0) {
            members.push((text(0..100), rest[512..512 + size].to_vec()));
        }
        rest = &rest[(512 + size.next_multiple_of(512)).min(rest.len())..];
    }
    members
}

/// A case file is a row of `<decimal length><space><bytes>`.
fn pdus(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some(blank) = rest.iter().position(|octet| *octet == b' ') {
        let Ok(len) = String::from_utf8_lossy(&rest[..blank])
            .trim()
            .parse::<usize>()
        else {
            break;
        };
        let end = (blank + 1 + len).min(rest.len());
        found.push(rest[blank + 1..end].to_vec());
        rest = &rest[end..];
    }
    found
}

/// Replaces every `tag` in `bytes` by `text`.
pub fn replace(bytes: &[u8], tag: &str, text: &str) -> Vec<u8> {
    let tag = tag.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(tag) {
            out.extend(text.as_bytes());
            at += tag.len();
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}
