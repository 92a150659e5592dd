//! A perfect hash of the header names, made from the header table when the crate is compiled.
//!
//! One multiplication and one comparison of 16 octets replace a `match` on names, whose
//! mispredicted branches cost twice the rest of the parser (LIMITS.md §4). The comparison is of
//! the whole name, exact but for the case of letters.

use super::header::{HEADERS, HeaderId};
use super::scan::Window;

/// Names up to this length, with the colon behind them, fit into one window of 16 octets.
const SHORT_MAX: usize = 15;
const SLOTS_LOG2: u32 = 10;
const SLOTS: usize = 1 << SLOTS_LOG2;
const NAMES: usize = count_short_names();
/// What an empty slot points to: a place that no name has.
const EMPTY: u8 = u8::MAX;
/// One place for each value of an octet, so that the index into them needs no check.
const PLACES: usize = 256;
const _: () = assert!(NAMES < PLACES);

/// One name, as it is compared.
#[derive(Clone, Copy)]
struct Name {
    /// Canonical spelling and a colon; octets past it are zero.
    text: u128,
    /// Bits that must be equal: all but the case bit of letters.
    care: u128,
}

struct NameIndex {
    multiplier: u64,
    slots: [u8; SLOTS],
    names: [Name; PLACES],
    ids: [HeaderId; PLACES],
}

static INDEX: NameIndex = build();

/// The header called `name`, in any case or in its compact form.
pub(super) fn lookup(name: &[u8]) -> HeaderId {
    if name.len() > SHORT_MAX {
        return lookup_long(name);
    }
    let mut window = [0u8; 16];
    window[..name.len()].copy_from_slice(name);
    window[name.len()] = b':';
    lookup_short(&window, name.len()).unwrap_or(HeaderId::Unknown)
}

/// The header whose name is the first `len` octets of `window`; a colon follows it there, and is
/// compared too: a name with a NUL behind it is another name. With a `len` of 16 there is no colon,
/// and so no name.
#[inline(always)]
pub(super) fn lookup_short(window: &Window, len: usize) -> Option<HeaderId> {
    let text = u128::from_le_bytes(*window) & MASKS[len & 31];
    let slot = slot_of(fold(text), INDEX.multiplier);
    let place = INDEX.slots[slot] as usize;
    let name = &INDEX.names[place];
    ((text ^ name.text) & name.care == 0).then(|| INDEX.ids[place])
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

/// Ones over a name of 0 to 15 octets and its colon, over all where there is no colon: a load is
/// cheaper than shifting 128 bits. As many as a `len` of five bits needs no check for.
static MASKS: [u128; 32] = {
    let mut masks = [u128::MAX; 32];
    let mut len = 0;
    while len < 16 {
        masks[len] = u128::MAX >> (128 - 8 * (len as u32 + 1));
        len += 1;
    }
    masks
};

/// Sets the case bit of each octet: enough to hash by, too coarse to compare by. Octets behind the
/// name become blanks in each name alike.
#[inline(always)]
const fn fold(text: u128) -> u128 {
    text | u128::from_le_bytes([0x20; 16])
}

#[inline(always)]
const fn slot_of(folded: u128, multiplier: u64) -> usize {
    let mixed = (folded as u64) ^ ((folded >> 64) as u64).rotate_left(29);
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
    let mut care = [0xff_u8; 16];
    let mut i = 0;
    while i < text.len() {
        spelled[i] = text[i];
        if text[i].is_ascii_alphabetic() {
            care[i] = !0x20;
        }
        i += 1;
    }
    spelled[text.len()] = b':';
    Name {
        text: u128::from_le_bytes(spelled),
        care: u128::from_le_bytes(care),
    }
}

/// All short names, and behind them places that no text equals: what is compared ends with its first
/// colon.
const fn short_names() -> ([Name; PLACES], [HeaderId; PLACES]) {
    let nothing = Name {
        text: u128::from_le_bytes([b':'; 16]),
        care: u128::MAX,
    };
    let mut names = [nothing; PLACES];
    let mut ids = [HeaderId::Unknown; PLACES];
    let mut count = 0;
    let mut i = 0;
    while i < HEADERS.len() {
        if HEADERS[i].name.len() <= SHORT_MAX {
            names[count] = name_of(HEADERS[i].name.as_bytes());
            ids[count] = HEADERS[i].id;
            count += 1;
        }
        if let Some(letter) = HEADERS[i].compact {
            names[count] = name_of(&[letter]);
            ids[count] = HEADERS[i].id;
            count += 1;
        }
        i += 1;
    }
    (names, ids)
}

/// The slots under `multiplier`, or none when two names meet in one.
const fn place(names: &[Name; PLACES], multiplier: u64) -> Option<[u8; SLOTS]> {
    let mut slots = [EMPTY; SLOTS];
    let mut i = 0;
    while i < NAMES {
        let text = names[i].text;
        let slot = slot_of(fold(text), multiplier);
        if slots[slot] != EMPTY {
            return None;
        }
        slots[slot] = i as u8;
        i += 1;
    }
    Some(slots)
}

/// Tries multipliers until no two names share a slot.
const fn build() -> NameIndex {
    let (names, ids) = short_names();
    let mut multiplier: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut tries = 0;
    while tries < 10_000 {
        if let Some(slots) = place(&names, multiplier) {
            return NameIndex {
                multiplier,
                slots,
                names,
                ids,
            };
        }
        multiplier = multiplier.wrapping_mul(0x5851_f42d_4c95_7f2d) | 1;
        tries += 1;
    }
    panic!("no multiplier separates the header names");
}
