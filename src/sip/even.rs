//! Messages as nearly all are: each line of the header section ends with CR LF, the section with an
//! empty line.
//!
//! Of such a section the scan has to tell only where the line feeds are; that nothing else is in it
//! comes out as one bit at the end. Whatever it cannot vouch for goes the long way, through `scan` and
//! the general loop over lines in `parse`, from its beginning.

use super::header::HeaderId;
use super::marks::Marks;
use super::message::Field;
use super::name_index::lookup_short;
use super::width::{BLOCK, Masks, Width, masks};
use super::window::{Window, first_colon, places_in_names};

/// Line feeds that one block may have; more in 64 octets are no header fields.
const FEEDS_PER_BLOCK: usize = 16;

/// Room behind the line feeds of a message: as many as are written at once.
pub(super) const SLACK: usize = FEEDS_PER_BLOCK;

/// What the blocks so far say about the next one.
#[derive(Clone, Copy, Default)]
struct Carry {
    /// In bit 0: its first octet follows a carriage return.
    cr: u64,
    /// In bits 0 and 1: its first and second octet are two behind a line feed.
    lf: u64,
    /// Not 0 when some line feed had no carriage return in front of it, or the other way round.
    uneven: u64,
}

/// Writes the offset of each line feed of `text` into `feeds` up to the empty line's, and marks the
/// octets on the way there. Gives how many there are, or nothing when it is not so simple.
///
/// `text` has at most 65,535 octets and does not start with an empty line.
#[inline(always)]
pub(super) fn lines(
    text: &[u8],
    feeds: &mut [u16],
    marks: &mut Marks,
    width: Width,
) -> Option<usize> {
    let feeds_max = feeds.len();
    let mut carry = Carry::default();
    let mut room = feeds;
    let (blocks, tail) = text.as_chunks::<BLOCK>();
    for (i, block) in blocks.iter().enumerate() {
        let masks = masks(block, width);
        marks.put(i, masks.word, masks.comma);
        let is_ended = take_block(masks, &mut carry, i * BLOCK, &mut room, width)?;
        if is_ended {
            return (carry.uneven == 0).then_some(feeds_max - room.len());
        }
    }
    let masks = tail_masks(text, tail.len(), width)?;
    marks.put(blocks.len(), masks.word, masks.comma);
    let base = blocks.len() * BLOCK;
    let is_ended = take_block(masks, &mut carry, base, &mut room, width)?;
    (is_ended && carry.uneven == 0).then_some(feeds_max - room.len())
}

/// The masks of the last `len` octets of `text`, fewer than a block: those of its last 64, moved.
#[inline(always)]
fn tail_masks(text: &[u8], len: usize, width: Width) -> Option<Masks> {
    let masks = masks(text.last_chunk::<BLOCK>()?, width);
    let before = |mask: u64| mask.unbounded_shr((BLOCK - len) as u32);
    Some(Masks {
        lf: before(masks.lf),
        cr: before(masks.cr),
        comma: before(masks.comma),
        word: before(masks.word),
    })
}

/// Takes the line feeds of one block. Says whether the empty line is in it; nothing when there is no
/// room for its line feeds.
#[inline(always)]
fn take_block(
    block: Masks,
    carry: &mut Carry,
    base: usize,
    room: &mut &mut [u16],
    width: Width,
) -> Option<bool> {
    let behind_cr = block.cr << 1 | carry.cr;
    // A line feed two octets behind another ends an empty line, if all are even.
    let ends = block.lf & (block.lf << 2 | carry.lf);
    // All bits up to the first end, that one included; all bits when there is none.
    let inside = ends ^ ends.wrapping_sub(1);
    carry.uneven |= (block.lf ^ behind_cr) & inside;
    carry.cr = block.cr >> 63;
    carry.lf = block.lf >> 62;
    let lf = block.lf & inside;
    let total = lf.count_ones() as usize;
    if total > FEEDS_PER_BLOCK {
        return None;
    }
    width.positions(lf, base as u16, room.first_chunk_mut()?);
    *room = core::mem::take(room).get_mut(total..)?;
    Some(ends != 0)
}

/// Indexes the fields whose line feeds are `feeds`; the first begins behind the line feed at `before`.
/// Gives how many: all, or as many as stand in front of one that has no name of up to 15 octets or
/// one of other octets than names are made of, or is spaced unlike others, or behind the last place
/// in `fields`.
#[inline(always)]
pub(super) fn fields(text: &[u8], before: u16, feeds: &[u16], fields: &mut [Field]) -> usize {
    let mut before = before;
    let mut count = 0;
    for (&feed, place) in feeds.iter().zip(fields) {
        if !put_field(text, before, feed, place) {
            break;
        }
        before = feed;
        count += 1;
    }
    count
}

/// Octets looked at from a field's first on: a short name with its colon, a blank and one more.
const VIEW: usize = 18;

/// The header of an unknown name that is the first `len` octets of a window, if it is one: letters,
/// digits and hyphens. Nearly all are; whatever else a token may have is looked at elsewhere.
#[inline(always)]
fn unknown_short(window: &Window, len: usize) -> Option<HeaderId> {
    let name = (1_u32 << (len & 0x1f)).wrapping_sub(1);
    let is_name = (1..window.len()).contains(&len) && places_in_names(window) & name == name;
    is_name.then_some(HeaderId::Unknown)
}

/// Puts the field between two line feeds into its place, but for the one that it links to, if its
/// name is short, one blank stands in front of its value and none behind.
#[inline(always)]
fn put_field(text: &[u8], before: u16, feed: u16, place: &mut Field) -> bool {
    // Of 16 bits each, so that no sum is seen to overflow.
    let (start, feed) = (usize::from(before) + 1, usize::from(feed));
    let view = text.get(start..start + VIEW);
    let Some(view) = view.and_then(<[u8]>::first_chunk::<VIEW>) else {
        return false;
    };
    let Some(window) = view.first_chunk() else {
        return false;
    };
    let len = first_colon(window);
    let Some(id) = lookup_short(window, len).or_else(|| unknown_short(window, len)) else {
        return false;
    };
    // The colon of a name, no more than 15 octets away, lies within its line; so does what is
    // neither blank nor line end.
    let behind = len & 0xf;
    let is_plain = view[behind + 1] == b' '
        && view[behind + 2] > b' '
        && text
            .get(feed.wrapping_sub(2))
            .is_some_and(|&octet| octet > b' ');
    if is_plain {
        let colon = start + len;
        place.id = id;
        place.start = start as u16;
        place.name_end = colon as u16;
        place.value_start = (colon + 2) as u16;
        place.value_end = feed.wrapping_sub(1) as u16;
        place.end = (feed + 1) as u16;
    }
    is_plain
}
