//! What this processor compares at once: 16 octets on any, 32 or 64 where it has the vectors. With it
//! come the masks of a block of 64 octets, the places of their bits, and other work compiled for it.

#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
use super::grammar::is_word_octet;
use super::window::places_up_to;

/// Where the octets of each kind are in a block of 64, octet 0 in bit 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Masks {
    pub lf: u64,
    pub cr: u64,
    pub comma: u64,
    /// Letters, digits, `-`, `.` and `_`.
    pub word: u64,
}

/// Octets per block.
pub(super) const BLOCK: usize = 64;

/// How many octets the processor compares at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Width(Kind);

/// Only `Width::widest` says that a processor has more than each has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// 16, with SSE2 on x86_64 and NEON on aarch64, which each of them has.
    #[default]
    Narrow,
    /// 32: it has what `run_avx2` is compiled for.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 64: it has what `run_avx512` is compiled for.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Width {
    /// What every processor can do.
    pub const NARROW: Width = Width(Kind::Narrow);

    /// The most that this processor can do.
    pub fn widest() -> Width {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("lzcnt")
        {
            // Those with VBMI2 do not lower their clock for vectors of this width.
            let is_wide = is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vbmi2");
            return Width(if is_wide { Kind::Avx512 } else { Kind::Avx2 });
        }
        Width::NARROW
    }

    /// Runs `work` compiled for processors that count and find bits in one instruction, where this
    /// is one; the plain x86_64 of 2003 needs a dozen. What `work` calls is compiled so when it is
    /// inlined.
    #[inline(always)]
    pub fn run<R>(self, work: impl FnOnce(Width) -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        match self.0 {
            Kind::Narrow => {}
            // SAFETY: `widest` found each feature that `run_avx2` is compiled for.
            Kind::Avx2 => return unsafe { run_avx2(work) },
            // SAFETY: `widest` found each feature that `run_avx512` is compiled for.
            Kind::Avx512 => return unsafe { run_avx512(work) },
        }
        work(Width::NARROW)
    }

    /// Which octets of a block are blanks or control characters.
    #[inline(always)]
    pub fn blank_or_control(self, block: &[u8; BLOCK]) -> u64 {
        #[cfg(target_arch = "x86_64")]
        if self.0 == Kind::Avx512 {
            // SAFETY: this `Width` was made where AVX-512BW was found.
            return unsafe { blank_or_control_avx512(block) };
        }
        let (parts, _) = block.as_chunks::<16>();
        let low = |all, (at, part)| all | u64::from(places_up_to(part, b' ')) << (16 * at);
        parts.iter().enumerate().fold(0, low)
    }

    /// Writes `base` and the place of each bit of `mask` together, of 16 bits at most, the first in
    /// front. What is written behind as many as there are bits means nothing.
    #[inline(always)]
    pub fn positions(self, mask: u64, base: u16, room: &mut [u16; 16]) {
        #[cfg(target_arch = "x86_64")]
        if self.0 == Kind::Avx512 {
            // SAFETY: this `Width` was made where AVX-512BW and VBMI2 were found.
            return unsafe { positions_avx512(mask, base, room) };
        }
        positions_plain(mask, base, room);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw")]
#[inline]
fn blank_or_control_avx512(block: &[u8; BLOCK]) -> u64 {
    use core::arch::x86_64::{_mm512_cmple_epu8_mask, _mm512_loadu_si512, _mm512_set1_epi8};
    // SAFETY: 64 octets are there to be read, and need no alignment.
    let octets = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
    _mm512_cmple_epu8_mask(octets, _mm512_set1_epi8(b' ' as i8))
}

/// The places of bits, one after the other.
#[inline(always)]
fn positions_plain(mask: u64, base: u16, room: &mut [u16; 16]) {
    let mut rest = mask;
    let mut next = || {
        let at = rest.trailing_zeros() as u16;
        rest &= rest.wrapping_sub(1);
        base.wrapping_add(at)
    };
    // Four are written without asking how many there are: a header line is longer than 16 octets
    // nearly always.
    let (few, many) = room.split_at_mut(4);
    few.fill_with(&mut next);
    if mask.count_ones() > 4 {
        many.fill_with(next);
    }
}

/// The places of bits, all at once.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw,avx512vl,avx512vbmi2")]
#[inline]
fn positions_avx512(mask: u64, base: u16, room: &mut [u16; 16]) {
    use core::arch::x86_64::{
        _mm256_add_epi16, _mm256_cvtepu8_epi16, _mm256_set1_epi16, _mm256_storeu_si256,
        _mm512_castsi512_si128, _mm512_loadu_si512, _mm512_maskz_compress_epi8,
    };
    const PLACES: [u8; BLOCK] = {
        let mut places = [0; BLOCK];
        let mut at = 0;
        while at < BLOCK {
            places[at] = at as u8;
            at += 1;
        }
        places
    };
    // SAFETY: 64 octets are there to be read, and need no alignment.
    let places = unsafe { _mm512_loadu_si512(PLACES.as_ptr().cast()) };
    let found = _mm512_castsi512_si128(_mm512_maskz_compress_epi8(mask, places));
    let wide = _mm256_add_epi16(_mm256_cvtepu8_epi16(found), _mm256_set1_epi16(base as i16));
    // SAFETY: 32 octets are there to be written, and need no alignment.
    unsafe { _mm256_storeu_si256(room.as_mut_ptr().cast(), wide) };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi1,bmi2,avx2,popcnt,lzcnt")]
fn run_avx2<R>(work: impl FnOnce(Width) -> R) -> R {
    work(Width(Kind::Avx2))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi1,bmi2,avx2,popcnt,lzcnt,avx512bw,avx512vl,avx512vbmi2")]
fn run_avx512<R>(work: impl FnOnce(Width) -> R) -> R {
    work(Width(Kind::Avx512))
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn masks(block: &[u8; BLOCK], width: Width) -> Masks {
    match width.0 {
        // SAFETY: `masks_sse2` needs SSE2, which each x86_64 processor has.
        Kind::Narrow => unsafe { masks_sse2(block) },
        // SAFETY: this `Width` was made where AVX2 was found.
        Kind::Avx2 => unsafe { masks_avx2(block) },
        // SAFETY: this `Width` was made where AVX-512BW was found.
        Kind::Avx512 => unsafe { masks_avx512(block) },
    }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(super) fn masks(block: &[u8; BLOCK], _width: Width) -> Masks {
    // SAFETY: `masks_neon` needs NEON, which each aarch64 processor has.
    unsafe { masks_neon(block) }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn masks(block: &[u8; BLOCK], _width: Width) -> Masks {
    masks_plain(block)
}

/// The masks, four times 16 octets at once.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
#[inline]
fn masks_neon(block: &[u8; BLOCK]) -> Masks {
    use core::arch::aarch64::{
        uint8x16_t, vandq_u8, vceqq_u8, vdupq_n_u8, vgetq_lane_u64, vld1q_u8, vpaddq_u8,
        vqtbl1q_u8, vreinterpretq_u64_u8, vshrq_n_u8, vtstq_u8,
    };
    /// One bit for each of eight octets.
    const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: 16 octets are there to be read, and need no alignment.
    let load = |octets: &[u8; 16]| unsafe { vld1q_u8(octets.as_ptr()) };
    let (bits, by_low, by_high) = (load(&BITS), load(&WORD_BY_LOW), load(&WORD_BY_HIGH));
    let (quarters, _) = block.as_chunks::<16>();
    let octets: [uint8x16_t; 4] = core::array::from_fn(|i| load(&quarters[i]));
    // Three sums of neighbours make an octet of eight bits each of their own.
    let mask = |hits: [uint8x16_t; 4]| {
        let [a, b, c, d] = hits.map(|hits| vandq_u8(hits, bits));
        let eights = vpaddq_u8(vpaddq_u8(a, b), vpaddq_u8(c, d));
        vgetq_lane_u64::<0>(vreinterpretq_u64_u8(vpaddq_u8(eights, eights)))
    };
    let is = |octet: u8| mask(octets.map(|octets| vceqq_u8(octets, vdupq_n_u8(octet))));
    Masks {
        lf: is(b'\n'),
        cr: is(b'\r'),
        comma: is(b','),
        word: mask(octets.map(|octets| {
            let low = vqtbl1q_u8(by_low, vandq_u8(octets, vdupq_n_u8(0x0f)));
            vtstq_u8(low, vqtbl1q_u8(by_high, vshrq_n_u8::<4>(octets)))
        })),
    }
}

/// The masks, all 64 octets at once.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw")]
#[inline]
fn masks_avx512(block: &[u8; BLOCK]) -> Masks {
    use core::arch::x86_64::{
        _mm_set_epi64x, _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_cmpeq_epi8_mask,
        _mm512_loadu_si512, _mm512_set1_epi8, _mm512_shuffle_epi8, _mm512_srli_epi16,
        _mm512_test_epi8_mask,
    };
    let all = |octet: u8| _mm512_set1_epi8(octet as i8);
    let table = |rows: [u8; 16]| {
        let rows = u128::from_le_bytes(rows);
        _mm512_broadcast_i32x4(_mm_set_epi64x((rows >> 64) as i64, rows as i64))
    };
    // SAFETY: 64 octets are there to be read, and need no alignment.
    let octets = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(octets), all(0x0f));
    let low_sets = _mm512_shuffle_epi8(table(WORD_BY_LOW), octets);
    let high_sets = _mm512_shuffle_epi8(table(WORD_BY_HIGH), high);
    Masks {
        lf: _mm512_cmpeq_epi8_mask(octets, all(b'\n')),
        cr: _mm512_cmpeq_epi8_mask(octets, all(b'\r')),
        comma: _mm512_cmpeq_epi8_mask(octets, all(b',')),
        word: _mm512_test_epi8_mask(low_sets, high_sets),
    }
}

/// The masks, 32 octets at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn masks_avx2(block: &[u8; BLOCK]) -> Masks {
    use core::arch::x86_64::{
        __m256i, _mm_set_epi64x, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8,
        _mm256_cmpgt_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8,
        _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
    };
    let all = |octet: u8| _mm256_set1_epi8(octet as i8);
    let is = |octets: __m256i, octet: u8| _mm256_cmpeq_epi8(octets, all(octet));
    let table = |rows: [u8; 16]| {
        let rows = u128::from_le_bytes(rows);
        _mm256_broadcastsi128_si256(_mm_set_epi64x((rows >> 64) as i64, rows as i64))
    };
    let mask = |hits: __m256i| u64::from(_mm256_movemask_epi8(hits) as u32);
    let (by_low, by_high) = (table(WORD_BY_LOW), table(WORD_BY_HIGH));
    let mut masks = Masks::default();
    let (halves, _) = block.as_chunks::<32>();
    for (i, half) in halves.iter().enumerate() {
        // SAFETY: 32 octets are there to be read, and need no alignment.
        let octets = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(octets), all(0x0f));
        // A look-up takes the low half of an octet, or gives zero for one above 127.
        let low_sets = _mm256_shuffle_epi8(by_low, octets);
        let sets = _mm256_and_si256(low_sets, _mm256_shuffle_epi8(by_high, high));
        let words = _mm256_cmpgt_epi8(sets, _mm256_setzero_si256());
        let shift = 32 * i;
        masks.lf |= mask(is(octets, b'\n')) << shift;
        masks.cr |= mask(is(octets, b'\r')) << shift;
        masks.comma |= mask(is(octets, b',')) << shift;
        masks.word |= mask(words) << shift;
    }
    masks
}

/// Letters, digits, `-`, `.` and `_` as five sets, each a row of high halves times a row of low
/// halves: an octet is one of them when a set has both its halves.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const WORD_BY_HIGH: [u8; 16] = [0, 0, 1, 2, 4, 8, 4, 16, 0, 0, 0, 0, 0, 0, 0, 0];

/// The sets that have a low half: `-` and `.`, digits, letters but for `p` to `z`, these in capitals
/// and `_`, these in small.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const WORD_BY_LOW: [u8; 16] = {
    let mut sets = [0; 16];
    let mut low = 0;
    while low < 16 {
        let is_dash_or_dot = low == 0xd || low == 0xe;
        sets[low] = is_dash_or_dot as u8
            | ((low <= 9) as u8) << 1
            | ((low >= 1) as u8) << 2
            | ((low <= 0xa || low == 0xf) as u8) << 3
            | ((low <= 0xa) as u8) << 4;
        low += 1;
    }
    sets
};

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
#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What this processor can do.
    fn widths() -> Vec<Width> {
        let widest = Width::widest();
        vec![
            Width::NARROW,
            widest,
            #[cfg(target_arch = "x86_64")]
            match widest.0 {
                Kind::Avx512 => Width(Kind::Avx2),
                Kind::Narrow | Kind::Avx2 => widest,
            },
        ]
    }

    #[test]
    fn vectors_and_single_octets_give_the_same_masks() {
        for at in 0..BLOCK {
            for octet in 0..=255u8 {
                let mut block = [octet.wrapping_add(1); BLOCK];
                block[at] = octet;
                for width in widths() {
                    let found = width.run(|width| masks(&block, width));
                    assert_eq!(found, masks_plain(&block), "{width:?}");
                }
            }
        }
    }

    #[test]
    fn places_of_bits_and_blanks_are_found_in_each_width() {
        for round in 0..10_000u64 {
            let all = round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let few = all & all.rotate_left(17) & all.rotate_left(41);
            let want: Vec<u16> = (0..64)
                .filter(|bit| few >> bit & 1 == 1)
                .map(|bit| 65_000 + bit)
                .take(16)
                .collect();
            let mut block = [0u8; BLOCK];
            let octets = block.iter_mut().zip(0..);
            octets.for_each(|(octet, at)| *octet = (all >> (at % 57)) as u8 % 70);
            let low = |at: &usize| block[*at] <= b' ';
            let want_low = (0..BLOCK).filter(low).fold(0, |all, at| all | 1u64 << at);
            for width in widths() {
                let mut room = [0; 16];
                width.positions(few, 65_000, &mut room);
                assert_eq!(room[..want.len()], want, "{width:?} {few:x}");
                assert_eq!(width.blank_or_control(&block), want_low, "{width:?}");
            }
        }
    }
}
