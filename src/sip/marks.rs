//! One bit for each octet of a header section: is it a letter, a digit, `-`, `.` or `_`? And one:
//! is it a comma? Written by `even` or `scan`, read by `usual`, which finds the end of a name with a shift
//! and a count where a loop would guess wrong once for each name.

/// The bits of one message.
#[derive(Clone)]
pub(super) struct Marks {
    words: [u8; OCTETS],
    commas: [u8; OCTETS],
}

/// A bit for each offset of 16 bits, and as many octets behind it as one look takes.
const OCTETS: usize = (1 << 16) / 8 + 8;

/// Bits of a look that are sure to be there, wherever in an octet it begins.
const LOOK: usize = 57;

impl Default for Marks {
    fn default() -> Marks {
        Marks {
            words: [0; OCTETS],
            commas: [0; OCTETS],
        }
    }
}

impl core::fmt::Debug for Marks {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Marks")
    }
}

impl Marks {
    /// Keeps the bits of the block of 64 octets with this number.
    #[inline(always)]
    pub fn put(&mut self, block: usize, words: u64, commas: u64) {
        let place = (block & 0x3ff) * 8;
        self.words[place..place + 8].copy_from_slice(&words.to_le_bytes());
        self.commas[place..place + 8].copy_from_slice(&commas.to_le_bytes());
    }

    /// The offset of the first octet at or behind `at` that is no letter, digit, `-`, `.` or `_`.
    /// In a header section there is one: each line has an end.
    #[inline(always)]
    pub fn word_end(&self, at: usize) -> usize {
        let len = word_len(&self.words, at);
        if len < LOOK {
            at + len
        } else {
            self.far_word_end(at)
        }
    }

    #[cold]
    fn far_word_end(&self, at: usize) -> usize {
        let mut at = at;
        loop {
            let len = word_len(&self.words, at);
            if len < LOOK || at >= (1 << 16) - LOOK {
                return at + len;
            }
            at += LOOK;
        }
    }

    /// Whether there is a comma in `start..end`.
    #[inline(always)]
    pub fn has_comma(&self, start: usize, end: usize) -> bool {
        let mut at = start;
        while at < end {
            let commas = look(&self.commas, at);
            let len = (end - at).min(LOOK);
            if commas & !(u64::MAX << len) != 0 {
                return true;
            }
            at += LOOK;
        }
        false
    }
}

/// How many octets of a word are at `at`, as far as one look goes: `LOOK` or more when it goes on.
#[inline(always)]
fn word_len(words: &[u8; OCTETS], at: usize) -> usize {
    // Zeros came in from above, which `!` made ones: none is mistaken for a word's octet. With the
    // highest bit set there is always one to be found, which the processor need not ask.
    (!look(words, at) | 1 << 63).trailing_zeros() as usize
}

/// At least `LOOK` bits from `at` on; zeros above them.
#[inline(always)]
fn look(bits: &[u8; OCTETS], at: usize) -> u64 {
    let place = (at & 0xffff) / 8;
    let mut octets = [0; 8];
    octets.copy_from_slice(&bits[place..place + 8]);
    u64::from_le_bytes(octets) >> (at % 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks of a text, an octet at a time.
    fn marked(text: &[u8]) -> Marks {
        let mut marks = Marks::default();
        for (block, octets) in text.chunks(64).enumerate() {
            let bits = |is: &dyn Fn(u8) -> bool| {
                let each = octets.iter().enumerate();
                each.fold(0, |all, (at, octet)| all | u64::from(is(*octet)) << at)
            };
            let word = |octet: u8| octet.is_ascii_alphanumeric() || b"-._".contains(&octet);
            marks.put(block, bits(&word), bits(&|octet| octet == b','));
        }
        marks
    }

    #[test]
    fn words_and_commas_are_found_wherever_they_lie() {
        let mut text = vec![b'a'; 400];
        for place in [0, 1, 7, 8, 63, 64, 65, 120, 127, 128, 250, 399] {
            text[place] = b',';
        }
        let marks = marked(&text);
        for start in 0..text.len() {
            let next = text[start..].iter().position(|octet| *octet == b',');
            let next = next.map_or(text.len(), |at| start + at);
            assert_eq!(marks.word_end(start), next, "from {start}");
            for end in [start, start + 1, start + 57, start + 58, start + 130] {
                let end = end.min(text.len());
                assert_eq!(marks.has_comma(start, end), next < end, "{start}..{end}");
            }
        }
    }

    #[test]
    fn the_last_octets_of_the_longest_message_have_their_bits() {
        let mut text = vec![b'a'; 65_535];
        text[65_500] = b',';
        text[65_534] = b'\n';
        let marks = marked(&text);
        assert_eq!(marks.word_end(65_400), 65_500);
        assert_eq!(marks.word_end(65_501), 65_534);
        assert!(marks.has_comma(65_400, 65_535));
        assert!(!marks.has_comma(65_501, 65_535));
    }
}
