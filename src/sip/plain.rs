//! Numbers and hosts in the form that nearly all have, read all octets at once.
//!
//! A loop would guess wrong about how many digits or labels there are. What is written otherwise is
//! none of them here, and is for the full readers.

use core::net::Ipv4Addr;

use super::Host;
use super::window::{Window, dots, window_at};

/// The number that the `len` octets of `text` at `start` are, up to eight digits: all of them at
/// once, where a loop would guess wrong about how many there are.
#[inline(always)]
pub(super) fn number(text: &[u8], start: usize, len: usize) -> Option<u32> {
    const ZEROS: u64 = u64::from_le_bytes(*b"00000000");
    if len == 0 || len > 8 {
        return None;
    }
    let octets = match text.get(start..).and_then(<[u8]>::first_chunk) {
        Some(octets) => *octets,
        None => last_octets(text, start),
    };
    // The last digit into the highest octet, and zeros in front of the first.
    let shift = 8 * (8 - len as u32);
    let digits = (u64::from_le_bytes(octets) ^ ZEROS) << shift;
    // Above nine, the sum or the octet itself goes over a half octet.
    let sixes = u64::from_le_bytes([6; 8]);
    let high = u64::from_le_bytes([0xf0; 8]);
    if (digits | digits.wrapping_add(sixes)) & high != 0 {
        return None;
    }
    // Two neighbours become one number, three times.
    let pairs = (digits.wrapping_mul(1 + (10 << 8)) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(1 + (100 << 16)) >> 16) & 0x0000_ffff_0000_ffff;
    Some((fours.wrapping_mul(1 + (10_000 << 32)) >> 32) as u32)
}

/// Eight octets from `start` on, zeros behind the end of `text`.
#[cold]
fn last_octets(text: &[u8], start: usize) -> [u8; 8] {
    let mut octets = [0; 8];
    let rest = text.get(start..).unwrap_or_default();
    octets[..rest.len()].copy_from_slice(rest);
    octets
}

/// A host of letters, digits, `-`, `.` and `_`; it stands in `text` at `start`.
#[inline(always)]
pub(super) fn host<'a>(text: &[u8], start: usize, host: &'a [u8]) -> Option<Host<'a>> {
    let first = host.first()?;
    if host.len() > 16 {
        let is_sound = !first.is_ascii_digit() && is_long_name(host);
        return is_sound.then_some(Host::Name(host));
    }
    let window = window_at(text, start);
    let dots = dots(&window) & !(u32::MAX << host.len());
    if first.is_ascii_digit() {
        address(&window, dots, host.len()).map(Host::V4)
    } else {
        is_name(host, dots).then_some(Host::Name(host))
    }
}

/// Whether labels are not empty and the last one begins with a letter, in a name whose dots are
/// given.
#[inline(always)]
fn is_name(text: &[u8], dots: u32) -> bool {
    let label = (u32::BITS - dots.leading_zeros()) as usize;
    dots & (dots << 1 | 1) == 0 && text.get(label).is_some_and(u8::is_ascii_alphabetic)
}

/// The same for a name of any length.
#[inline(never)]
fn is_long_name(text: &[u8]) -> bool {
    let mut label = 0;
    for (at, octet) in text.iter().enumerate() {
        if *octet == b'.' {
            if at == label {
                return false;
            }
            label = at + 1;
        }
    }
    text.get(label).is_some_and(u8::is_ascii_alphabetic)
}

/// Four numbers up to 255 without leading zeros, which are the first `len` octets of `window` with
/// dots at these places. What is wrong is asked once, at the end: the lengths of the numbers are
/// another in each address, and a branch on each of them would be guessed wrong.
#[inline(always)]
fn address(window: &Window, dots: u32, len: usize) -> Option<Ipv4Addr> {
    let mut text = [0; 32];
    text[..16].copy_from_slice(window);
    let mut ends = dots | 1 << len;
    let mut start = 0;
    let mut seen = 0;
    let mut is_wrong = false;
    let mut octets = [0; 4];
    for octet in &mut octets {
        let end = ends.trailing_zeros();
        ends &= ends.wrapping_sub(1);
        let len = end.wrapping_sub(start) & 31;
        let place = (start & 15) as usize;
        let digits = [
            text[place],
            text[place + 1],
            text[place + 2],
            text[place + 3],
        ];
        // The last digit into the highest octet, and zeros in front of the first.
        let digits = u32::from_le_bytes(digits) ^ u32::from_le_bytes(*b"0000");
        let digits = digits << ((8 * len).wrapping_neg() % 32);
        seen |= digits | digits.wrapping_add(0x0606_0606);
        let [_, hundreds, tens, ones] = digits.to_le_bytes().map(u32::from);
        let value = 100 * hundreds + 10 * tens + ones;
        let (least, more) = RANGES[len as usize];
        is_wrong |= value.wrapping_sub(least) > more;
        *octet = value as u8;
        start = end + 1;
    }
    let are_digits = seen & 0xf0f0_f0f0 == 0;
    (ends == 0 && are_digits && !is_wrong).then(|| Ipv4Addr::from(octets))
}

/// The least number of so many digits without a zero in front, and how much more one may be; none
/// is as large as what stands for the lengths that no number has.
static RANGES: [(u32, u32); 32] = {
    let mut ranges = [(u32::MAX, 0); 32];
    ranges[1] = (0, 9);
    ranges[2] = (10, 89);
    ranges[3] = (100, 155);
    ranges
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::host::tests::NUMBERS_AND_DOTS;

    #[test]
    fn hosts_are_read_as_the_full_reader_reads_them() {
        let names = ["a", "a.b", "a..b", ".a", "a.", "a.1", "1.a", "_a-.b", "-"];
        for text in NUMBERS_AND_DOTS.into_iter().chain(names) {
            let full = Host::parse(text.as_bytes());
            if let Some(host) = read_host(text) {
                assert_eq!(full, Ok(host), "{text}");
            }
        }
        for name in ["a-1.example", "sixteen-octets.a", "seventeen-octet.a"] {
            assert_eq!(read_host(name), Some(Host::Name(name.as_bytes())));
        }
    }

    /// The host that `text` is, with octets behind it that are none of it.
    fn read_host(text: &str) -> Option<Host<'_>> {
        let behind = format!("..7{text}.1:9;a=1.2.3.4");
        host(behind.as_bytes(), 3, text.as_bytes())
    }

    #[test]
    fn each_number_of_an_address_is_read_or_left_to_the_full_reader() {
        let numbers: Vec<String> = (0..=310)
            .map(|number: u32| number.to_string())
            .chain(["", "00", "01", "001", "1234", "1a", "-1", "9_"].map(str::to_owned))
            .collect();
        for place in 0..4 {
            for number in &numbers {
                for others in [["0", "0", "0"], ["9", "99", "255"], ["100", "10", "1"]] {
                    let mut parts = others.to_vec();
                    parts.insert(place, number);
                    let text = parts.join(".");
                    let full = Host::parse(text.as_bytes());
                    let full = full.ok().filter(|host| matches!(host, Host::V4(_)));
                    assert_eq!(read_host(&text), full, "{text}");
                }
            }
        }
    }

    #[test]
    fn numbers_of_up_to_eight_digits_are_read_and_nothing_else() {
        let text = b"12345678x90";
        for len in 1..=8 {
            let want = core::str::from_utf8(&text[..len]).expect("digits");
            assert_eq!(number(text, 0, len), want.parse().ok());
        }
        assert_eq!(number(text, 9, 2), Some(90));
        for (start, len) in [(0, 0), (0, 9), (1, 8), (8, 1), (9, 3), (11, 1), (12, 1)] {
            assert_eq!(number(text, start, len), None, "{start}, {len}");
        }
        for octet in 0..=255u8 {
            let digits = [b'7', octet, b'0'];
            let want = octet
                .is_ascii_digit()
                .then(|| 700 + 10 * u32::from(octet - b'0'));
            assert_eq!(number(&digits, 0, 3), want);
        }
    }
}
