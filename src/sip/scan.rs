//! Finds the lines of a header section: one bit per octet, 64 octets at a time.
//!
//! The positions go to an array first, so that the loop over lines that follows has no branch
//! whose outcome depends on where a line feed happens to lie. On the way it marks the octets of
//! which names, numbers and tokens are made (`marks.rs`).

#[cfg(any(test, not(target_arch = "x86_64")))]
use super::grammar::is_word_octet;
use super::marks::Marks;

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

/// Where the octets of each kind are in a block of 64, octet 0 in bit 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Masks {
    lf: u64,
    cr: u64,
    comma: u64,
    /// Letters, digits, `-`, `.` and `_`.
    word: u64,
}

/// Octets per block.
const BLOCK: usize = 64;

/// Writes the offset of each line feed of `text` into `feeds` until the empty line's, and marks the
/// octets on the way there.
///
/// `text` has at most 65,535 octets and does not start with an empty line.
#[inline(always)]
pub(super) fn lines(text: &[u8], feeds: &mut [u16], marks: &mut Marks, width: Width) -> Lines {
    let mut found = Lines {
        count: 0,
        is_ended: false,
        is_full: false,
        stray_cr: None,
    };
    let mut before = Masks::default();
    let (blocks, tail) = text.as_chunks::<BLOCK>();
    for (i, block) in blocks.iter().enumerate() {
        let masks = masks(block, width);
        marks.put(i, masks.word, masks.comma);
        if take_block(masks, &mut before, i * BLOCK, feeds, &mut found) {
            return found;
        }
    }
    let mut block = [0u8; BLOCK];
    block[..tail.len()].copy_from_slice(tail);
    let masks = masks(&block, width);
    marks.put(blocks.len(), masks.word, masks.comma);
    take_block(masks, &mut before, blocks.len() * BLOCK, feeds, &mut found);
    found
}

/// Takes the line feeds of one block; true when there is nothing more to look for.
#[inline(always)]
fn take_block(
    block: Masks,
    before: &mut Masks,
    base: usize,
    feeds: &mut [u16],
    found: &mut Lines,
) -> bool {
    let lf_1 = block.lf << 1 | before.lf >> 63;
    let lf_2 = block.lf << 2 | before.lf >> 62;
    let cr_1 = block.cr << 1 | before.cr >> 63;
    let ends = block.lf & (lf_1 | cr_1 & lf_2);
    // All bits up to the first end, that one included; all bits when there is none.
    let inside = ends ^ ends.wrapping_sub(1);
    let stray = cr_1 & !block.lf & inside;
    if stray != 0 && found.stray_cr.is_none() {
        found.stray_cr = Some((base + stray.trailing_zeros() as usize).saturating_sub(1));
    }
    *before = block;
    found.is_full = !write_positions(block.lf & inside, base, feeds, &mut found.count);
    found.is_ended = ends != 0 && !found.is_full;
    found.is_ended || found.is_full
}

/// Writes the positions of the bits of `mask`; false when `feeds` is full.
#[inline(always)]
fn write_positions(mut mask: u64, base: usize, feeds: &mut [u16], count: &mut usize) -> bool {
    const STRIDE: usize = 4;
    let total = mask.count_ones() as usize;
    // Up to four are written without asking how many there are: a header line is longer than
    // 16 octets nearly always, and what is written too much is overwritten or never read.
    if let Some(room) = feeds.get_mut(*count..*count + STRIDE) {
        for slot in room.iter_mut() {
            *slot = (base + mask.trailing_zeros() as usize) as u16;
            mask &= mask.wrapping_sub(1);
        }
        if total <= STRIDE {
            *count += total;
            return true;
        }
        *count += STRIDE;
    }
    while mask != 0 {
        let Some(slot) = feeds.get_mut(*count) else {
            return false;
        };
        *slot = (base + mask.trailing_zeros() as usize) as u16;
        mask &= mask - 1;
        *count += 1;
    }
    true
}

/// How many octets the processor compares at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Width(
    /// Whether it has AVX2; only `run_with_bit_instructions` says so.
    bool,
);

impl Width {
    /// What every processor can do.
    #[cfg(test)]
    pub const NARROW: Width = Width(false);
}

/// Runs `work` compiled for processors that count and find bits in one instruction, where this is
/// one; the plain x86_64 of 2003 needs a dozen. What `work` calls is compiled so when it is inlined.
#[inline(always)]
pub(super) fn with_bit_instructions<R>(work: impl FnOnce(Width) -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("lzcnt")
    {
        // SAFETY: the processor has each feature that `run_with_bit_instructions` is compiled for.
        return unsafe { run_with_bit_instructions(work) };
    }
    work(Width(false))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi1,bmi2,avx2,popcnt,lzcnt")]
fn run_with_bit_instructions<R>(work: impl FnOnce(Width) -> R) -> R {
    work(Width(true))
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn masks(block: &[u8; BLOCK], width: Width) -> Masks {
    if width.0 {
        // SAFETY: this `Width` was made where AVX2 is enabled.
        unsafe { masks_avx2(block) }
    } else {
        // SAFETY: `masks_sse2` needs SSE2, which each x86_64 processor has.
        unsafe { masks_sse2(block) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn masks(block: &[u8; BLOCK], _width: Width) -> Masks {
    masks_plain(block)
}

/// The masks, 32 octets at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn masks_avx2(block: &[u8; BLOCK]) -> Masks {
    use core::arch::x86_64::{
        __m256i, _mm256_add_epi8, _mm256_andnot_si256, _mm256_cmpeq_epi8, _mm256_min_epu8,
        _mm256_movemask_epi8, _mm256_or_si256, _mm256_set_epi64x, _mm256_set1_epi8,
    };
    let all = |octet: u8| _mm256_set1_epi8(octet as i8);
    let is = |octets: __m256i, octet: u8| _mm256_cmpeq_epi8(octets, all(octet));
    // `first..=last`: moved to the front of the range of an octet, what lies inside is no more
    // than the range's length.
    let is_in = |octets: __m256i, first: u8, last: u8| {
        let moved = _mm256_add_epi8(octets, all(first.wrapping_neg()));
        _mm256_cmpeq_epi8(_mm256_min_epu8(moved, all(last - first)), moved)
    };
    let mask = |hits: __m256i| u64::from(_mm256_movemask_epi8(hits) as u32);
    let mut masks = Masks::default();
    let (halves, _) = block.as_chunks::<32>();
    for (i, half) in halves.iter().enumerate() {
        let (words, _) = half.as_chunks::<8>();
        let word = |at: usize| i64::from_le_bytes(words[at]);
        let octets = _mm256_set_epi64x(word(3), word(2), word(1), word(0));
        let letters = is_in(_mm256_or_si256(octets, all(0x20)), b'a', b'z');
        let numbers = _mm256_andnot_si256(is(octets, b'/'), is_in(octets, b'-', b'9'));
        let words = _mm256_or_si256(_mm256_or_si256(letters, numbers), is(octets, b'_'));
        let shift = 32 * i;
        masks.lf |= mask(is(octets, b'\n')) << shift;
        masks.cr |= mask(is(octets, b'\r')) << shift;
        masks.comma |= mask(is(octets, b',')) << shift;
        masks.word |= mask(words) << shift;
    }
    masks
}

/// The masks, 16 octets at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn masks_sse2(block: &[u8; BLOCK]) -> Masks {
    use core::arch::x86_64::{
        __m128i, _mm_add_epi8, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8,
        _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };
    let all = |octet: u8| _mm_set1_epi8(octet as i8);
    let is = |octets: __m128i, octet: u8| _mm_cmpeq_epi8(octets, all(octet));
    let is_in = |octets: __m128i, first: u8, last: u8| {
        let moved = _mm_add_epi8(octets, all(first.wrapping_neg()));
        _mm_cmpeq_epi8(_mm_min_epu8(moved, all(last - first)), moved)
    };
    let mask = |hits: __m128i| u64::from(_mm_movemask_epi8(hits) as u32);
    let mut masks = Masks::default();
    let (quarters, _) = block.as_chunks::<16>();
    for (i, quarter) in quarters.iter().enumerate() {
        let octets = u128::from_le_bytes(*quarter);
        let octets = _mm_set_epi64x((octets >> 64) as i64, octets as i64);
        let letters = is_in(_mm_or_si128(octets, all(0x20)), b'a', b'z');
        let numbers = _mm_andnot_si128(is(octets, b'/'), is_in(octets, b'-', b'9'));
        let words = _mm_or_si128(_mm_or_si128(letters, numbers), is(octets, b'_'));
        let shift = 16 * i;
        masks.lf |= mask(is(octets, b'\n')) << shift;
        masks.cr |= mask(is(octets, b'\r')) << shift;
        masks.comma |= mask(is(octets, b',')) << shift;
        masks.word |= mask(words) << shift;
    }
    masks
}

/// The masks, one octet after the other: what other processors do, and the tests' oracle.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn masks_plain(block: &[u8; BLOCK]) -> Masks {
    let mut masks = Masks::default();
    for (i, &octet) in block.iter().enumerate() {
        masks.lf |= u64::from(octet == b'\n') << i;
        masks.cr |= u64::from(octet == b'\r') << i;
        masks.comma |= u64::from(octet == b',') << i;
        masks.word |= u64::from(is_word_octet(octet)) << i;
    }
    masks
}

/// The offset of the first colon in 16 octets, little-endian; 16 when there is none.
#[inline(always)]
pub(super) fn first_colon(window: u128) -> usize {
    const ONES: u128 = u128::from_le_bytes([1; 16]);
    let differs = window ^ (ONES * b':' as u128);
    // The lowest zero octet borrows first, so the lowest bit is exact; higher ones may not be.
    let zeros = differs.wrapping_sub(ONES) & !differs & (ONES << 7);
    (zeros.trailing_zeros() / 8) as usize
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
            let mut feeds = [0u16; 512];
            let found = lines(&text, &mut feeds, &mut Marks::default(), Width::NARROW);
            let (want, is_ended, stray) = oracle(&text);
            assert_eq!(&feeds[..found.count], &want, "{}", text.escape_ascii());
            assert_eq!(found.is_ended, is_ended);
            // A CR as the very last octet of an unended text is stray or not: nobody can tell.
            let last_cr = text.last() == Some(&b'\r');
            assert!(found.stray_cr == stray || last_cr && !is_ended);
        }
    }

    #[test]
    fn vectors_and_single_octets_give_the_same_masks() {
        for at in 0..BLOCK {
            for octet in 0..=255u8 {
                let mut block = [octet.wrapping_add(1); BLOCK];
                block[at] = octet;
                assert_eq!(masks(&block, Width::NARROW), masks_plain(&block));
                let widest = with_bit_instructions(|width| masks(&block, width));
                assert_eq!(widest, masks_plain(&block));
            }
        }
    }

    #[test]
    fn a_full_array_is_reported_and_not_overrun() {
        let mut feeds = [0u16; 3];
        let text = b"a\nb\nc\nd\n\n";
        let found = lines(text, &mut feeds, &mut Marks::default(), Width::NARROW);
        assert!(found.is_full && !found.is_ended);
        assert_eq!(found.count, 3);
        assert_eq!(feeds, [1, 3, 5]);
    }

    #[test]
    fn the_first_colon_is_found_at_each_place() {
        for at in 0..16 {
            let mut text = *b"abc;9abcdefghi;9";
            text[at] = b':';
            assert_eq!(first_colon(u128::from_le_bytes(text)), at);
        }
        assert_eq!(first_colon(u128::from_le_bytes(*b"abc;9abcdefghi;9")), 16);
    }
}
