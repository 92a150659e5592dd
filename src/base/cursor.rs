//! Writes bytes into a borrowed buffer without ever allocating.
//!
//! A text that does not fit sets a flag instead of panicking, so that a caller composes a whole
//! message with plain `put` calls and looks once, at the end.

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

    /// Appends `number` in decimal.
    pub fn put_decimal(&mut self, number: u64) {
        if number < 1000 {
            return self.put_small(number as u32);
        }
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.put(&digits[at..]);
    }

    /// Up to three digits: most numbers in a message are octets of an address.
    fn put_small(&mut self, number: u32) {
        let digit = |value: u32| b'0' + (value % 10) as u8;
        let digits = [digit(number / 100), digit(number / 10), digit(number)];
        let zeros = usize::from(number < 100) + usize::from(number < 10);
        self.put(&digits[zeros..]);
    }

    /// Appends `number` as 16 lower-case hexadecimal digits.
    pub fn put_hex(&mut self, number: u64) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 16];
        for (i, digit) in text.iter_mut().enumerate() {
            *digit = DIGITS[(number >> (60 - 4 * i)) as usize & 15];
        }
        self.put(&text);
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
