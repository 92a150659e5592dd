//! Looks at sixteen octets of a text at once: where a colon, a blank or a dot is.

/// Sixteen octets of a text, to be looked at all at once.
pub(super) type Window = [u8; 16];

/// The window that begins at `start`; zeros stand behind the end of `text`.
#[inline(always)]
pub(super) fn window_at(text: &[u8], start: usize) -> Window {
    match text.get(start..).and_then(<[u8]>::first_chunk) {
        Some(window) => *window,
        None => short_window(text.get(start..).unwrap_or_default()),
    }
}

#[cold]
fn short_window(rest: &[u8]) -> Window {
    let mut window = [0; 16];
    window[..rest.len()].copy_from_slice(rest);
    window
}

/// The offset of the first colon in a window; 16 when there is none.
#[inline(always)]
pub(super) fn first_colon(window: &Window) -> usize {
    first_of(window, b':', b':')
}

/// The offset of the first blank or tab in a window; 16 when there is none.
#[inline(always)]
pub(super) fn first_blank(window: &Window) -> usize {
    first_of(window, b' ', b'\t')
}

/// A bit for each dot in a window, its first octet's in bit 0.
#[inline(always)]
pub(super) fn dots(window: &Window) -> u32 {
    places_of(window, b'.', b'.')
}

#[inline(always)]
fn first_of(window: &Window, one: u8, other: u8) -> usize {
    (places_of(window, one, other) | 1 << 16).trailing_zeros() as usize
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn places_of(window: &Window, one: u8, other: u8) -> u32 {
    // SAFETY: `places_of_sse2` needs SSE2, which each x86_64 processor has.
    unsafe { places_of_sse2(window, one, other) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn places_of_sse2(window: &Window, one: u8, other: u8) -> u32 {
    use core::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    // SAFETY: 16 octets are there to be read, and need no alignment.
    let octets = unsafe { _mm_loadu_si128(window.as_ptr().cast()) };
    let ones = _mm_cmpeq_epi8(octets, _mm_set1_epi8(one as i8));
    let others = _mm_cmpeq_epi8(octets, _mm_set1_epi8(other as i8));
    _mm_movemask_epi8(_mm_or_si128(ones, others)) as u32
}

/// A bit for each octet of a window that is `most` at most.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn places_up_to(window: &Window, most: u8) -> u32 {
    // SAFETY: `places_up_to_sse2` needs SSE2, which each x86_64 processor has.
    unsafe { places_up_to_sse2(window, most) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn places_up_to_sse2(window: &Window, most: u8) -> u32 {
    use core::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_set1_epi8,
    };
    // SAFETY: 16 octets are there to be read, and need no alignment.
    let octets = unsafe { _mm_loadu_si128(window.as_ptr().cast()) };
    let lower = _mm_min_epu8(octets, _mm_set1_epi8(most as i8));
    _mm_movemask_epi8(_mm_cmpeq_epi8(lower, octets)) as u32
}

/// A bit for each octet of a window that is a letter, a digit or a hyphen.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn places_in_names(window: &Window) -> u32 {
    // SAFETY: `places_in_names_sse2` needs SSE2, which each x86_64 processor has.
    unsafe { places_in_names_sse2(window) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn places_in_names_sse2(window: &Window) -> u32 {
    use core::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8, _mm_sub_epi8,
    };
    // SAFETY: 16 octets are there to be read, and need no alignment.
    let octets = unsafe { _mm_loadu_si128(window.as_ptr().cast()) };
    let within = |octets, first: u8, count: i8| {
        let offsets = _mm_sub_epi8(octets, _mm_set1_epi8(first as i8));
        _mm_cmpeq_epi8(_mm_min_epu8(offsets, _mm_set1_epi8(count - 1)), offsets)
    };
    let folded = _mm_or_si128(octets, _mm_set1_epi8(0x20));
    let hyphens = _mm_cmpeq_epi8(octets, _mm_set1_epi8(b'-' as i8));
    let others = _mm_or_si128(within(folded, b'a', 26), within(octets, b'0', 10));
    _mm_movemask_epi8(_mm_or_si128(hyphens, others)) as u32
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn places_in_names(window: &Window) -> u32 {
    let bit = |&octet: &u8| u32::from(octet == b'-' || octet.is_ascii_alphanumeric());
    window
        .iter()
        .rev()
        .fold(0, |all, octet| all << 1 | bit(octet))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn places_up_to(window: &Window, most: u8) -> u32 {
    let bit = |&octet: &u8| u32::from(octet <= most);
    window
        .iter()
        .rev()
        .fold(0, |all, octet| all << 1 | bit(octet))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn places_of(window: &Window, one: u8, other: u8) -> u32 {
    let bit = |&octet: &u8| u32::from(octet == one || octet == other);
    window
        .iter()
        .rev()
        .fold(0, |all, octet| all << 1 | bit(octet))
}

/// The same three with NEON.
#[cfg(target_arch = "aarch64")]
mod neon {
    use core::arch::aarch64::{
        uint8x16_t, vaddv_u8, vandq_u8, vceqq_u8, vcleq_u8, vdupq_n_u8, vget_high_u8, vget_low_u8,
        vld1q_u8, vorrq_u8, vsubq_u8,
    };

    use super::Window;

    /// One bit for each of eight octets.
    const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];

    #[inline(always)]
    fn load(window: &Window) -> uint8x16_t {
        // SAFETY: 16 octets are there to be read, and need no alignment; each aarch64 has NEON.
        unsafe { vld1q_u8(window.as_ptr()) }
    }

    #[inline(always)]
    fn mask(hits: uint8x16_t) -> u32 {
        let bits = load(&BITS);
        // SAFETY: each aarch64 processor has NEON.
        unsafe {
            let hits = vandq_u8(hits, bits);
            u32::from(vaddv_u8(vget_low_u8(hits))) | u32::from(vaddv_u8(vget_high_u8(hits))) << 8
        }
    }

    #[inline(always)]
    pub fn places_of(window: &Window, one: u8, other: u8) -> u32 {
        let octets = load(window);
        // SAFETY: each aarch64 processor has NEON.
        mask(unsafe {
            let ones = vceqq_u8(octets, vdupq_n_u8(one));
            vorrq_u8(ones, vceqq_u8(octets, vdupq_n_u8(other)))
        })
    }

    #[inline(always)]
    pub fn places_up_to(window: &Window, most: u8) -> u32 {
        // SAFETY: each aarch64 processor has NEON.
        mask(unsafe { vcleq_u8(load(window), vdupq_n_u8(most)) })
    }

    #[inline(always)]
    pub fn places_in_names(window: &Window) -> u32 {
        let octets = load(window);
        // SAFETY: each aarch64 processor has NEON.
        mask(unsafe {
            let within = |octets, first: u8, count: u8| {
                vcleq_u8(vsubq_u8(octets, vdupq_n_u8(first)), vdupq_n_u8(count - 1))
            };
            let folded = vorrq_u8(octets, vdupq_n_u8(0x20));
            let hyphens = vceqq_u8(octets, vdupq_n_u8(b'-'));
            let others = vorrq_u8(within(folded, b'a', 26), within(octets, b'0', 10));
            vorrq_u8(hyphens, others)
        })
    }
}

#[cfg(target_arch = "aarch64")]
use neon::places_of;
#[cfg(target_arch = "aarch64")]
pub(super) use neon::{places_in_names, places_up_to};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_colon_and_the_first_blank_are_found_at_each_place() {
        let plain = *b"abc;9abcdefghi;9";
        for at in 0..16 {
            for octet in [b':', b' ', b'\t'] {
                let mut text = plain;
                text[at] = octet;
                let (colon, blank) = if octet == b':' { (at, 16) } else { (16, at) };
                assert_eq!(first_colon(&text), colon);
                assert_eq!(first_blank(&text), blank);
            }
        }
        for octet in 0..=255 {
            let in_name = octet == b'-' || octet.is_ascii_alphanumeric();
            for at in 0..16 {
                let mut text = [b';'; 16];
                text[at] = octet;
                assert_eq!(places_in_names(&text), u32::from(in_name) << at, "{octet}");
            }
        }
        assert_eq!(window_at(b"ab", 1)[..2], *b"b\0");
        assert_eq!(window_at(b"ab", 3), [0; 16]);
    }
}
