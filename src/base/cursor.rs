//! Writes bytes into a borrowed buffer without ever allocating.
//!
//! A text that does not fit sets a flag instead of panicking, so that a caller composes a whole
//! message with plain `put` calls and looks once, at the end.

use core::ops::Range;

/// An append-only view of a byte buffer that remembers whether something did not fit.
#[derive(Debug)]
pub struct Cursor<'a> {
    buffer: &'a mut [u8],
    len: usize,
    overflowed: bool,
}

impl<'a> Cursor<'a> {
    /// Starts at the front of `buffer`.
    pub fn new(buffer: &'a mut [u8]) -> Cursor<'a> {
        Cursor {
            buffer,
            len: 0,
            overflowed: false,
        }
    }

    /// Appends `text`, or marks the cursor as overflowed and writes nothing.
    pub fn put(&mut self, text: &[u8]) {
        match self.buffer.get_mut(self.len..self.len + text.len()) {
            Some(room) if !self.overflowed => {
                room.copy_from_slice(text);
                self.len += text.len();
            }
            _ => self.overflowed = true,
        }
    }

    /// Appends `part` of `source`; a part that is not in it spoils the cursor.
    ///
    /// A short one is one move or two of 64 octets, where both sides have so many: what is moved too
    /// much lies behind the end, and the next text covers it.
    #[inline(always)]
    pub fn put_part(&mut self, source: &[u8], part: Range<usize>) {
        const MOVE: usize = 64;
        let len = part.end.wrapping_sub(part.start);
        let room = self.buffer.get_mut(self.len..);
        if len <= 2 * MOVE
            && !self.overflowed
            && let Some(from) = source
                .get(part.start..)
                .and_then(<[u8]>::first_chunk::<{ 2 * MOVE }>)
            && let Some(to) = room.and_then(<[u8]>::first_chunk_mut::<{ 2 * MOVE }>)
        {
            to[..MOVE].copy_from_slice(&from[..MOVE]);
            if len > MOVE {
                to[MOVE..].copy_from_slice(&from[MOVE..]);
            }
            self.len += len;
            return;
        }
        match source.get(part) {
            Some(text) => self.put(text),
            None => self.spoil(),
        }
    }

    /// Appends `number` in decimal.
    #[inline]
    pub fn put_decimal(&mut self, number: u64) {
        match number {
            0..1000 => self.put_small(number as u32),
            1000..100_000_000 => self.put_short(number as u32),
            _ => self.put_long(number),
        }
    }

    /// Appends four numbers with dots between them, the octets of an address.
    pub fn put_dotted(&mut self, numbers: [u8; 4]) {
        let mut text = [0; 16];
        let mut len = 0;
        for number in numbers {
            let [one, two, three, four, behind] = DOTTED[usize::from(number)];
            text[len..len + 4].copy_from_slice(&[one, two, three, four]);
            len += usize::from(behind);
        }
        self.put_padded(&text, len - 1);
    }

    fn put_long(&mut self, number: u64) {
        self.put_decimal(number / 100_000_000);
        let rest = eight_digits((number % 100_000_000) as u32);
        self.put(&rest.to_le_bytes());
    }

    /// Up to three digits: most numbers in a message are octets of an address.
    fn put_small(&mut self, number: u32) {
        // Quotients by a product and a shift, which are exact for numbers as small as these.
        let hundreds = (number * 41) >> 12;
        let rest = number - 100 * hundreds;
        let tens = (rest * 103) >> 10;
        let digits = hundreds | (tens << 8) | ((rest - 10 * tens) << 16);
        let zeros = u32::from(number < 100) + u32::from(number < 10);
        let text = (ZEROS + u64::from(digits)) >> (8 * zeros);
        self.put_padded(&text.to_le_bytes(), 3 - zeros as usize);
    }

    /// Up to eight digits, all worked out at once: a loop would guess wrong about how many there
    /// are.
    fn put_short(&mut self, number: u32) {
        let digits = eight_digits(number);
        let zeros = ((digits ^ ZEROS) | 1 << 56).trailing_zeros() / 8;
        let text = digits >> (8 * zeros);
        self.put_padded(&text.to_le_bytes(), 8 - zeros as usize);
    }

    /// Appends the first `len` octets of `text`: in one move where there is room for all of them.
    #[inline(always)]
    fn put_padded<const N: usize>(&mut self, text: &[u8; N], len: usize) {
        match self
            .buffer
            .get_mut(self.len..)
            .and_then(<[u8]>::first_chunk_mut)
        {
            Some(room) if !self.overflowed => {
                *room = *text;
                self.len += len;
            }
            _ => self.put(&text[..len]),
        }
    }

    /// Appends `number` as 16 lower-case hexadecimal digits.
    pub fn put_hex(&mut self, number: u64) {
        // Each half octet into an octet of its own, the highest one first.
        let spread = |half: u32| {
            let wide = u64::from(half);
            let wide = (wide | (wide << 16)) & 0x0000_ffff_0000_ffff;
            let wide = (wide | (wide << 8)) & 0x00ff_00ff_00ff_00ff;
            let digits = (wide | (wide << 4)) & 0x0f0f_0f0f_0f0f_0f0f;
            // Ten and more go over a half octet with six; letters come 39 behind what follows `9`.
            let letters = ((digits + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
            (digits + ZEROS + letters * 39).swap_bytes().to_le_bytes()
        };
        self.put(&spread((number >> 32) as u32));
        self.put(&spread(number as u32));
    }

    /// Marks what is written as not a whole message, for a caller that cannot go on.
    pub fn spoil(&mut self) {
        self.overflowed = true;
    }

    /// What has been written so far.
    pub fn written(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// Octets written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether some text did not fit; what is written is then not a whole message.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }
}

/// Each octet in decimal with a dot behind it, filled up to four, and how long that is.
static DOTTED: [[u8; 5]; 256] = {
    let mut all = [[0; 5]; 256];
    let mut number = 0;
    while number < all.len() {
        let digits = [number / 100, number / 10 % 10, number % 10];
        let len = 1 + (number > 9) as usize + (number > 99) as usize;
        let mut at = 0;
        while at < len {
            all[number][at] = b'0' + digits[3 - len + at] as u8;
            at += 1;
        }
        all[number][len] = b'.';
        all[number][4] = len as u8 + 1;
        number += 1;
    }
    all
};

/// `0` in each octet.
const ZEROS: u64 = u64::from_le_bytes(*b"00000000");

/// The digits of a number under 100,000,000 with zeros in front, the first one in the lowest octet.
#[inline(always)]
fn eight_digits(number: u32) -> u64 {
    // Two halves of four digits, four of two, eight of one, each side by side in one word: a
    // quotient by a product and a shift, which are exact for numbers as small as these.
    let number = u64::from(number);
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | ((fours - 100 * hundreds) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    ZEROS + (tens | ((twos - 10 * tens) << 8))
}

impl core::fmt::Write for Cursor<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.put(text.as_bytes());
        if self.overflowed {
            Err(core::fmt::Error)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_hex_print_their_whole_range() {
        let mut buffer = [0u8; 64];
        let mut cursor = Cursor::new(&mut buffer);
        for number in [0, 9, 10, 99, 100, 999, 1000] {
            cursor.put_decimal(number);
            cursor.put(b" ");
        }
        cursor.put_decimal(u64::MAX);
        cursor.put(b" ");
        cursor.put_hex(0x0123_4567_89ab_cdef);
        assert_eq!(
            cursor.written(),
            b"0 9 10 99 100 999 1000 18446744073709551615 0123456789abcdef"
        );
    }

    #[test]
    fn numbers_are_printed_as_the_library_prints_them() {
        let small = 0..20_000u64;
        let spread = (0..200_000u64).map(|step| step * 50_021);
        let powers = (0..64).flat_map(|bit| [1 << bit, (1 << bit) - 1]);
        for number in small.chain(spread).chain(powers) {
            let mut buffer = [0u8; 20];
            let mut cursor = Cursor::new(&mut buffer);
            cursor.put_decimal(number);
            assert_eq!(cursor.written(), number.to_string().as_bytes());
            let mut cursor = Cursor::new(&mut buffer);
            cursor.put_hex(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let want = format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert_eq!(cursor.written(), want.as_bytes());
        }
        let mut tight = [0u8; 4];
        let mut cursor = Cursor::new(&mut tight);
        for number in [12, 34, 5] {
            cursor.put_decimal(number);
        }
        assert!(cursor.overflowed());
        assert_eq!(cursor.written(), b"1234");
    }

    #[test]
    fn addresses_are_printed_as_the_library_prints_them() {
        for number in 0..=255u8 {
            for numbers in [[number, 0, 255, number], [10, number, number, 7]] {
                let want = std::net::Ipv4Addr::from(numbers).to_string();
                for size in [want.len(), 40] {
                    let mut buffer = vec![0; size];
                    let mut cursor = Cursor::new(&mut buffer);
                    cursor.put_dotted(numbers);
                    assert_eq!(cursor.written(), want.as_bytes());
                    assert!(!cursor.overflowed());
                }
                let mut buffer = vec![0; want.len() - 1];
                let mut cursor = Cursor::new(&mut buffer);
                cursor.put_dotted(numbers);
                assert!(cursor.overflowed() && cursor.is_empty());
            }
        }
    }

    #[test]
    fn parts_of_any_length_are_put_wherever_they_lie_and_however_little_room_there_is() {
        let source: Vec<u8> = (0..=255).cycle().take(400).collect();
        for len in [0, 1, 63, 64, 65, 127, 128, 129, 200] {
            for start in [0, 1, 100, 399 - len] {
                let part = &source[start..start + len];
                for spare in [0, 1, 63, 64, 500] {
                    let mut buffer = vec![0; 2 * len + spare];
                    let mut cursor = Cursor::new(&mut buffer);
                    cursor.put_part(&source, start..start + len);
                    cursor.put_part(&source, start..start + len);
                    assert_eq!(cursor.written(), [part, part].concat());
                    assert!(!cursor.overflowed());
                }
                if len > 0 {
                    let mut buffer = vec![0; len - 1];
                    let mut cursor = Cursor::new(&mut buffer);
                    cursor.put_part(&source, start..start + len);
                    assert!(cursor.overflowed() && cursor.is_empty());
                }
            }
        }
        let mut buffer = [0; 300];
        for part in [390..401, 401..402, Range { start: 3, end: 2 }] {
            let mut cursor = Cursor::new(&mut buffer);
            cursor.put_part(&source, part);
            assert!(cursor.overflowed());
        }
    }

    #[test]
    fn a_text_that_does_not_fit_is_flagged_and_nothing_follows_it() {
        let mut buffer = [0u8; 4];
        let mut cursor = Cursor::new(&mut buffer);
        cursor.put(b"abc");
        cursor.put(b"de");
        cursor.put(b"f");
        assert!(cursor.overflowed());
        assert_eq!(cursor.written(), b"abc");
    }
}
