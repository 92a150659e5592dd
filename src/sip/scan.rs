//! Finds the lines of a header section, whatever they end with: one bit per octet, 64 octets at a time.
//! What `even` does not vouch for comes here.
//!
//! The positions go to an array first, so that the loop over lines that follows has no branch
//! whose outcome depends on where a line feed happens to lie. On the way it marks the octets of
//! which names, numbers and tokens are made (`marks.rs`).

use super::marks::Marks;
use super::width::{BLOCK, Masks, Width, masks};

/// What the scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lines {
    /// How many line feeds were written, the empty line's included.
    pub count: usize,
    /// Whether the last of them ends the empty line.
    pub is_ended: bool,
    /// Whether there was no room for all of them.
    pub is_full: bool,
    /// Offset of the first carriage return that no line feed follows.
    pub stray_cr: Option<usize>,
}

/// What one block says about the next one's first octet, in bit 0.
#[derive(Clone, Copy, Debug, Default)]
struct Carry {
    /// It follows a line feed.
    begins: u64,
    /// It follows a carriage return.
    cr: u64,
    /// It follows a carriage return at the beginning of a line.
    empty: u64,
}

/// Writes the offset of each line feed of `text` into `feeds` until the empty line's, and marks the
/// octets on the way there.
///
/// `text` has at most 65,535 octets and does not start with an empty line.
pub(super) fn lines(text: &[u8], feeds: &mut [u16], marks: &mut Marks) -> Lines {
    let mut found = Lines {
        count: 0,
        is_ended: false,
        is_full: false,
        stray_cr: None,
    };
    let feeds_max = feeds.len();
    let mut carry = Carry::default();
    let mut rest = feeds;
    let (blocks, tail) = text.as_chunks::<BLOCK>();
    for (i, block) in blocks.iter().enumerate() {
        let masks = masks(block, Width::NARROW);
        marks.put(i, masks.word, masks.comma);
        rest = take_block(masks, &mut carry, i * BLOCK, rest, &mut found);
        if found.is_ended || found.is_full {
            found.count = feeds_max - rest.len();
            return found;
        }
    }
    let mut block = [0u8; BLOCK];
    block[..tail.len()].copy_from_slice(tail);
    let masks = masks(&block, Width::NARROW);
    marks.put(blocks.len(), masks.word, masks.comma);
    rest = take_block(masks, &mut carry, blocks.len() * BLOCK, rest, &mut found);
    found.count = feeds_max - rest.len();
    found
}

/// Takes the line feeds of one block; gives the room that is left in `feeds`.
fn take_block<'f>(
    block: Masks,
    carry: &mut Carry,
    base: usize,
    feeds: &'f mut [u16],
    found: &mut Lines,
) -> &'f mut [u16] {
    let begins = block.lf << 1 | carry.begins;
    let empty = block.cr & begins;
    let ends = block.lf & (begins | empty << 1 | carry.empty);
    // All bits up to the first end, that one included; all bits when there is none.
    let inside = ends ^ ends.wrapping_sub(1);
    let stray = (block.cr << 1 | carry.cr) & !block.lf & inside;
    if stray != 0 {
        let at = (base + stray.trailing_zeros() as usize).saturating_sub(1);
        found.stray_cr = found.stray_cr.or(Some(at));
    }
    *carry = Carry {
        begins: block.lf >> 63,
        cr: block.cr >> 63,
        empty: empty >> 63,
    };
    found.is_ended = ends != 0;
    write_positions(block.lf & inside, base, feeds, found)
}

/// Writes the positions of the bits of `mask` as long as there is room; gives the room that is left.
fn write_positions<'f>(
    mut mask: u64,
    base: usize,
    feeds: &'f mut [u16],
    found: &mut Lines,
) -> &'f mut [u16] {
    let total = mask.count_ones() as usize;
    found.is_full = total > feeds.len();
    found.is_ended &= !found.is_full;
    let (room, rest) = feeds.split_at_mut(total.min(feeds.len()));
    for slot in room {
        *slot = (base + mask.trailing_zeros() as usize) as u16;
        mask &= mask - 1;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slow way: look at each octet.
    fn oracle(text: &[u8]) -> (Vec<u16>, bool, Option<usize>) {
        let mut feeds = Vec::new();
        let mut stray = None;
        for at in 0..text.len() {
            if text[at] == b'\n' {
                feeds.push(at as u16);
                if at > 0 && (text[..at].ends_with(b"\n") || text[..at].ends_with(b"\n\r")) {
                    return (feeds, true, stray);
                }
            } else if at > 0 && text[at - 1] == b'\r' {
                stray = stray.or(Some(at - 1));
            }
        }
        (feeds, false, stray)
    }

    #[test]
    fn the_scan_agrees_with_a_look_at_each_octet() {
        let mut marks = Marks::default();
        let mut state = 1u64;
        for round in 0..20_000 {
            let len = round % 300;
            let text: Vec<u8> = (0..len)
                .map(|i| {
                    state = state
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    match (state >> 33) % 23 {
                        _ if i == 0 => b'a',
                        0 => b'\n',
                        1 => b'\r',
                        _ => b'x',
                    }
                })
                .collect();
            let (want, is_ended, stray) = oracle(&text);
            let mut feeds = [0u16; 512];
            let found = lines(&text, &mut feeds, &mut marks);
            assert_eq!(&feeds[..found.count], &want, "{}", text.escape_ascii());
            assert_eq!(found.is_ended, is_ended);
            // A CR as the very last octet of an unended text is stray or not: nobody can tell.
            let last_cr = text.last() == Some(&b'\r');
            assert!(found.stray_cr == stray || last_cr && !is_ended);
        }
    }

    #[test]
    fn a_full_array_is_reported_and_not_overrun() {
        let mut feeds = [0u16; 3];
        let text = b"a\nb\nc\nd\n\n";
        let found = lines(text, &mut feeds, &mut Marks::default());
        assert!(found.is_full && !found.is_ended);
        assert_eq!(found.count, 3);
        assert_eq!(feeds, [1, 3, 5]);
    }
}
