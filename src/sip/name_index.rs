//! A perfect hash of the header names, made from the header table when the crate is compiled.
//!
//! One multiplication and one comparison of 16 octets replace a `match` on names, whose
//! mispredicted branches cost twice the rest of the parser (LIMITS.md §4). The comparison is of
//! the whole name, exact but for the case of letters.

use super::header::{HEADERS, Header, HeaderId};
use super::window::Window;

/// Names up to this length, with the colon behind them, fit into one window of 16 octets.
const SHORT_MAX: usize = 15;
const SLOTS_LOG2: u32 = 9;
const SLOTS: usize = 1 << SLOTS_LOG2;

/// One name, as it is compared.
#[derive(Clone, Copy)]
struct Name {
    /// Canonical spelling and a colon; octets past it are zero.
    text: u128,
    /// Bits that must be equal: those of the name but for the case of letters, and of the colon.
    care: u128,
}

struct NameIndex {
    multiplier: u64,
    names: [Name; SLOTS],
    ids: [HeaderId; SLOTS],
}

static INDEX: NameIndex = build();

/// The header called `name`, in any case or in its compact form.
pub(super) fn lookup(name: &[u8]) -> HeaderId {
    if name.len() > SHORT_MAX {
        return lookup_long(name);
    }
    if name.contains(&b':') {
        return HeaderId::Unknown;
    }
    let mut window = [0u8; 16];
    window[..name.len()].copy_from_slice(name);
    window[name.len()] = b':';
    lookup_short(&window, name.len()).unwrap_or(HeaderId::Unknown)
}

/// The header whose name is the first `len` octets of `window`; a colon follows it there, the first,
/// and is compared too: a name with a NUL behind it is another name. With a `len` of 16 there is no
/// colon, and so no name.
#[inline(always)]
pub(super) fn lookup_short(window: &Window, len: usize) -> Option<HeaderId> {
    let text = u128::from_le_bytes(*window);
    let slot = slot_of(text as u64, len, INDEX.multiplier);
    let name = &INDEX.names[slot];
    ((text ^ name.text) & name.care == 0).then(|| INDEX.ids[slot])
}

fn lookup_long(name: &[u8]) -> HeaderId {
    LONG_NAMES
        .iter()
        .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
        .map_or(HeaderId::Unknown, |(_, id)| *id)
}

/// The names that no window has room for.
static LONG_NAMES: [(&str, HeaderId); count_long_names()] = {
    let mut names = [("", HeaderId::Unknown); count_long_names()];
    let mut count = 0;
    let mut i = 0;
    while i < HEADERS.len() {
        if HEADERS[i].name.len() > SHORT_MAX {
            names[count] = (HEADERS[i].name, HEADERS[i].id);
            count += 1;
        }
        i += 1;
    }
    names
};

const fn count_long_names() -> usize {
    let mut count = 0;
    let mut i = 0;
    while i < HEADERS.len() {
        count += (HEADERS[i].name.len() > SHORT_MAX) as usize;
        i += 1;
    }
    count
}

/// Ones over the first 0 to 8 octets of a name as long as the index: a load is cheaper than a shift.
/// As many as a length of five bits needs no check for.
static MASKS: [u64; 32] = {
    let mut masks = [u64::MAX; 32];
    let mut len = 0;
    while len < 8 {
        masks[len] = (1 << (8 * len)) - 1;
        len += 1;
    }
    masks
};

/// The slot of a name: its first eight octets, whatever their case, and its length tell all known
/// ones apart.
#[inline(always)]
const fn slot_of(begin: u64, len: usize, multiplier: u64) -> usize {
    let folded = (begin & MASKS[len & 31]) | u64::from_le_bytes([0x20; 8]);
    let mixed = folded.wrapping_add(len as u64);
    (mixed.wrapping_mul(multiplier) >> (64 - SLOTS_LOG2)) as usize
}

const fn count_short_names() -> usize {
    let mut count = 0;
    let mut i = 0;
    while i < HEADERS.len() {
        count +=
            (HEADERS[i].name.len() <= SHORT_MAX) as usize + HEADERS[i].compact.is_some() as usize;
        i += 1;
    }
    count
}

const fn name_of(text: &[u8]) -> Name {
    let mut spelled = [0u8; 16];
    let mut care = [0; 16];
    let mut i = 0;
    while i < text.len() {
        spelled[i] = text[i];
        care[i] = match text[i].is_ascii_alphabetic() {
            true => !0x20,
            false => 0xff,
        };
        i += 1;
    }
    spelled[text.len()] = b':';
    care[text.len()] = 0xff;
    Name {
        text: u128::from_le_bytes(spelled),
        care: u128::from_le_bytes(care),
    }
}

/// A short name with its length and its header.
#[derive(Clone, Copy)]
struct Entry {
    name: Name,
    len: usize,
    id: HeaderId,
}

const SHORT: [Entry; count_short_names()] = {
    let nothing = Entry {
        name: Name { text: 0, care: 0 },
        len: 0,
        id: HeaderId::Unknown,
    };
    let mut entries = [nothing; count_short_names()];
    let mut count = 0;
    let mut i = 0;
    while i < HEADERS.len() {
        let Header { id, name, .. } = HEADERS[i];
        if name.len() <= SHORT_MAX {
            let (name, len) = (name_of(name.as_bytes()), name.len());
            entries[count] = Entry { name, len, id };
            count += 1;
        }
        if let Some(letter) = HEADERS[i].compact {
            let (name, len) = (name_of(&[letter]), 1);
            entries[count] = Entry { name, len, id };
            count += 1;
        }
        i += 1;
    }
    entries
};

/// Puts each name into its slot under `multiplier`; `None` when two meet in one.
///
/// A slot that no name has holds the first name: what falls into it is not that name, whose slot is
/// another.
const fn place(multiplier: u64) -> Option<NameIndex> {
    let mut index = NameIndex {
        multiplier,
        names: [SHORT[0].name; SLOTS],
        ids: [SHORT[0].id; SLOTS],
    };
    let mut taken = [false; SLOTS];
    let mut i = 0;
    while i < SHORT.len() {
        let Entry { name, len, id } = SHORT[i];
        let slot = slot_of(name.text as u64, len, multiplier);
        if taken[slot] {
            return None;
        }
        taken[slot] = true;
        index.names[slot] = name;
        index.ids[slot] = id;
        i += 1;
    }
    Some(index)
}

/// Tries multipliers until no two names share a slot.
const fn build() -> NameIndex {
    let mut multiplier: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut tries = 0;
    while tries < TRIES_MAX {
        if let Some(index) = place(multiplier) {
            return index;
        }
        multiplier = multiplier.wrapping_mul(0x5851_f42d_4c95_7f2d) | 1;
        tries += 1;
    }
    panic!("no multiplier separates the header names");
}

/// About one in a thousand will do.
const TRIES_MAX: usize = 20_000;
