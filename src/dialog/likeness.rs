//! A text as its difference from another one that it is like. The words of two calls between the
//! same peers are alike but for tags, numbers and Call-IDs, in the same order: so both are gone
//! through side by side, and what is alike costs one octet however long it is.
//!
//! A text is words, each with a [`WORD_END`] behind it, which stands in no word. The difference is
//! a row of steps; the reader of them stands at some place of the other text:
//!
//! | octet | meaning |
//! |---|---|
//! | `0x00..` | copy so many octets and one from the other text |
//! | `0x80..` | so many octets and one follow as they are |
//! | `0xb8..` | two pieces and so many more of hexadecimal digits follow, each as long as the other text's, the octets between them copied from there |
//! | `0xc0..` | so many lower-case hexadecimal digits and one follow, two to an octet |
//! | `0xe0..` | the same piece as the one with this number among those that followed |
//! | `0xf0` | go on so far from here in the other text: two octets, signed |
//! | `0xf1..` | the same between -7 and 7, as that and eight |
//!
//! Pieces that follow take their own length of the other text's along.

use memchr::memchr;

use crate::base::Cursor;

/// Stands behind each word and in none: UTF-8 does not have it.
pub const WORD_END: u8 = 0xff;
/// Octets that are read beyond the end of a text; what they are changes nothing.
pub const SLACK: usize = 8;
/// Octets of a text that others may be like; what is behind them has no likeness.
const OCTETS_MAX: usize = 768;

/// A text that others are compared with.
#[derive(Clone, Debug)]
pub struct Model {
    len: u16,
    octets: [u8; OCTETS_MAX + SLACK],
    /// For each octet, the next one at or behind it where a piece of a word ends.
    stops: [u16; OCTETS_MAX],
}

impl Model {
    /// Like nothing.
    pub const EMPTY: Model = Model {
        len: 0,
        octets: [0; OCTETS_MAX + SLACK],
        stops: [0; OCTETS_MAX],
    };

    /// Becomes the model that `text` is.
    pub fn become_like(&mut self, text: &[u8]) {
        let text = &text[..text.len().min(OCTETS_MAX)];
        self.len = text.len() as u16;
        self.octets[..text.len()].copy_from_slice(text);
        let mut stop = self.len;
        for (at, octet) in text.iter().enumerate().rev() {
            if is_stop(*octet) {
                stop = at as u16;
            }
            self.stops[at] = stop;
        }
    }

    fn text(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }

    /// The length of the piece, or rest of one, that begins at an octet; `None` where there is none,
    /// or one of more digits than are packed.
    fn piece_at(&self, at: usize) -> Option<usize> {
        let stop = usize::from(*self.stops.get(at)?);
        let len = stop.checked_sub(at)?;
        (stop < usize::from(self.len) && (1..=HEX_MAX).contains(&len)).then_some(len)
    }
}

/// Words put together to be told by a difference.
#[derive(Clone, Copy, Debug)]
pub struct Text<'t> {
    /// With [`SLACK`] behind it.
    pub octets: &'t [u8],
    /// Where each word ends.
    pub ends: &'t [u16],
}

impl Text<'_> {
    fn len(&self) -> usize {
        self.ends.last().map_or(0, |end| usize::from(*end) + 1)
    }
}

/// Writes what `text` differs by from `model`. The cursor overflows when that is too much.
pub fn write_difference(text: Text<'_>, model: &Model, out: &mut Cursor<'_>) {
    let len = text.len();
    let mut pieces = Pieces::default();
    let (mut at, mut other) = (0, 0);
    let mut word = 0;
    while at < len && !out.overflowed() {
        let left = (len - at).min(usize::from(model.len).saturating_sub(other));
        if left > 0 {
            let alike = alike(&text.octets[at..], &model.octets[other..], left);
            put_copy(alike, out);
            at += alike;
            other += alike;
        }
        if at == len {
            break;
        }
        while usize::from(text.ends[word]) < at {
            word += 1;
        }
        let (end, meets) = meeting(&text, at, text.ends[word], model, other);
        if meets.wrapping_sub(other) == end - at {
            let run = put_run(&text, at, model, other, &mut pieces, out);
            if run > 0 {
                at += run;
                other += run;
                continue;
            }
        }
        put_pieces(&text.octets[..end], at, &mut pieces, out);
        other += end - at;
        at = end;
        if at < len {
            put_move(other, meets, out);
            other = meets;
        }
    }
}

/// Where text and model, which differ at `at` and `other`, are alike again.
fn meeting(text: &Text<'_>, at: usize, end: u16, model: &Model, other: usize) -> (usize, usize) {
    let end = usize::from(end);
    let rest = model.text().get(other..).unwrap_or_default();
    if rest.is_empty() {
        return (text.len(), other);
    }
    let rest = &rest[..memchr(WORD_END, rest).unwrap_or(rest.len())];
    let word_end = other + rest.len();
    let octet = text.octets[at];
    if octet == WORD_END {
        return (at, word_end);
    }
    if is_stop(octet)
        && let Some(ahead) = memchr(octet, rest)
    {
        return (at, other + ahead);
    }
    let stop = usize::from(model.stops[other]);
    let found = (stop < word_end).then(|| memchr(model.octets[stop], &text.octets[at..end]));
    match found.flatten() {
        Some(ahead) => (at + ahead, stop),
        None => (end, word_end),
    }
}

fn is_stop(octet: u8) -> bool {
    !octet.is_ascii_alphanumeric()
}

/// How many of the first `most` octets are the same.
fn alike(a: &[u8], b: &[u8], most: usize) -> usize {
    for (at, (a, b)) in a
        .as_chunks::<8>()
        .0
        .iter()
        .zip(b.as_chunks::<8>().0)
        .enumerate()
    {
        let differs = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        let alike = 8 * at + differs.trailing_zeros() as usize / 8;
        if differs != 0 || alike >= most {
            return alike.min(most);
        }
    }
    most
}

fn put_copy(mut len: usize, out: &mut Cursor<'_>) {
    while len > 0 {
        let now = len.min(COPY_MAX);
        out.put(&[now as u8 - 1]);
        len -= now;
    }
}

fn put_move(from: usize, to: usize, out: &mut Cursor<'_>) {
    // Both are shorter than a call's words.
    let far = to as i32 - from as i32;
    match far {
        0 => {}
        -7..=7 => out.put(&[(i32::from(MOVE) + 8 + far) as u8]),
        _ => {
            let [low, high] = (far as i16).to_le_bytes();
            out.put(&[MOVE, low, high]);
        }
    }
}

const COPY_MAX: usize = 128;
const PLAIN: u8 = 0x80;
const PLAIN_MAX: usize = (RUN - PLAIN) as usize;
const RUN: u8 = 0xb8;
const RUN_MAX: usize = (HEX - RUN) as usize + 1;
const HEX: u8 = 0xc0;
const HEX_MAX: usize = 32;
const AGAIN: u8 = 0xe0;
const MOVE: u8 = 0xf0;

/// Pieces of a text that are in no model, by number.
#[derive(Debug, Default)]
struct Pieces {
    places: [(u16, u16); Pieces::MAX],
    len: usize,
}

impl Pieces {
    /// As many as there are numbers for.
    const MAX: usize = (MOVE - AGAIN) as usize;
    /// What is shorter costs less than it takes to look for it.
    const OCTETS_MIN: usize = 4;

    fn note(&mut self, at: usize, len: usize) {
        if len >= Self::OCTETS_MIN && self.len < Self::MAX {
            self.places[self.len] = (at as u16, len as u16);
            self.len += 1;
        }
    }

    fn place(&self, number: usize) -> Option<(usize, usize)> {
        let (at, len) = *self.places[..self.len].get(number)?;
        Some((usize::from(at), usize::from(len)))
    }

    fn number_of(&self, piece: &[u8], text: &[u8]) -> Option<usize> {
        self.places[..self.len].iter().position(|(at, len)| {
            usize::from(*len) == piece.len() && text[usize::from(*at)..].starts_with(piece)
        })
    }
}

/// Writes the pieces of digits that begin at `at` where they are several, each as long as the
/// model's, as in a UUID. How many octets that tells; none where it is no such run.
fn put_run(
    text: &Text<'_>,
    at: usize,
    model: &Model,
    other: usize,
    pieces: &mut Pieces,
    out: &mut Cursor<'_>,
) -> usize {
    let mut digits = [[0; HEX_MAX / 2]; RUN_MAX];
    let mut ends = [0; RUN_MAX];
    let (mut count, mut told) = (0, 0);
    while count < RUN_MAX {
        let (start, of_model) = (at + told, other + told);
        let Some(len) = model.piece_at(of_model) else {
            break;
        };
        let stop = start + len;
        if text.octets.get(stop) != model.octets.get(of_model + len) || stop >= text.len() {
            break;
        }
        let piece = &text.octets[start..stop];
        let is_known = || pieces.number_of(piece, text.octets).is_some();
        if piece == &model.octets[of_model..of_model + len]
            || pack(piece, &mut digits[count]).is_none()
            || is_known()
        {
            break;
        }
        ends[count] = stop;
        told += len + 1;
        count += 1;
    }
    if count < 2 {
        return 0;
    }
    out.put(&[RUN + count as u8 - 2]);
    let mut start = at;
    for (packed, end) in digits.iter().zip(&ends[..count]) {
        out.put(&packed[..(end - start).div_ceil(2)]);
        pieces.note(start, end - start);
        start = end + 1;
    }
    // Without the octet behind the last piece.
    told - 1
}

/// Writes the end of `text`, from `at` on, as pieces.
fn put_pieces(text: &[u8], mut at: usize, pieces: &mut Pieces, out: &mut Cursor<'_>) {
    let piece = &text[at..];
    if let Some(number) = pieces.number_of(piece, text) {
        return out.put(&[AGAIN + number as u8]);
    }
    while at < text.len() {
        let rest = &text[at..];
        let mut digits = [0; HEX_MAX / 2];
        let len = match pack(rest, &mut digits) {
            Some(packed) => {
                out.put(&[HEX + rest.len() as u8 - 1]);
                out.put(&digits[..packed]);
                rest.len()
            }
            None => {
                let now = &rest[..rest.len().min(PLAIN_MAX)];
                out.put(&[PLAIN + now.len() as u8 - 1]);
                out.put(now);
                now.len()
            }
        };
        pieces.note(at, len);
        at += len;
    }
}

/// Two to an octet, where all are lower-case hexadecimal digits and few enough.
fn pack(text: &[u8], packed: &mut [u8; HEX_MAX / 2]) -> Option<usize> {
    if text.len() > HEX_MAX {
        return None;
    }
    for (text, packed) in text.chunks(8).zip(packed.as_chunks_mut::<4>().0) {
        let mut eight = [b'0'; 8];
        eight[..text.len()].copy_from_slice(text);
        *packed = pack_eight(eight)?;
    }
    Some(text.len().div_ceil(2))
}

/// Eight at once: digits are 0x30 and their value, letters 0x60 and their value less nine.
fn pack_eight(text: [u8; 8]) -> Option<[u8; 4]> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let text = u64::from_le_bytes(text);
    let letters = (text >> 6) & ONES;
    let values = (text & (0x0f * ONES)) + 9 * letters;
    let is_hex = text & (0xf0 * ONES) == 0x30 * (ONES + letters)
        && values & (0x10 * ONES) == 0
        && ((values + 6 * ONES) >> 4) & ONES == letters;
    let pairs = ((values << 4) | (values >> 8)).to_le_bytes();
    is_hex.then_some([pairs[0], pairs[2], pairs[4], pairs[6]])
}

/// Makes the text again that differs so from `model`, at the front of `out`; its length, or `None`
/// where the steps lead nowhere or out of `out`.
pub fn read_difference(mut steps: &[u8], model: &Model, out: &mut [u8]) -> Option<usize> {
    let alike = model.text();
    let mut pieces = Pieces::default();
    let (mut at, mut other) = (0, 0_usize);
    while let Some((step, rest)) = steps.split_first() {
        let number = usize::from(step & 0x1f);
        steps = rest;
        let len = match *step {
            ..PLAIN => {
                let len = usize::from(*step) + 1;
                let alike = alike.get(other..other.checked_add(len)?)?;
                out.get_mut(at..at + len)?.copy_from_slice(alike);
                len
            }
            RUN..HEX => {
                let last = usize::from(step - RUN) + 1;
                for piece in 0..=last {
                    let len = model.piece_at(other)?;
                    let (packed, rest) = steps.split_at_checked(len.div_ceil(2))?;
                    unpack(packed, out.get_mut(at..at + len)?);
                    steps = rest;
                    pieces.note(at, len);
                    at += len;
                    other += len;
                    if piece < last {
                        *out.get_mut(at)? = *alike.get(other)?;
                        at += 1;
                        other += 1;
                    }
                }
                continue;
            }
            PLAIN..RUN => {
                let len = usize::from(step - PLAIN) + 1;
                let (piece, rest) = steps.split_at_checked(len)?;
                out.get_mut(at..at + len)?.copy_from_slice(piece);
                steps = rest;
                pieces.note(at, len);
                len
            }
            HEX..AGAIN => {
                let len = number + 1;
                let (packed, rest) = steps.split_at_checked(len.div_ceil(2))?;
                unpack(packed, out.get_mut(at..at + len)?);
                steps = rest;
                pieces.note(at, len);
                len
            }
            AGAIN..MOVE => {
                let (start, len) = pieces.place(usize::from(step - AGAIN))?;
                out.get(..at + len)?;
                out.copy_within(start..start + len, at);
                len
            }
            MOVE => {
                let (far, rest) = steps.split_first_chunk()?;
                other = other.checked_add_signed(isize::from(i16::from_le_bytes(*far)))?;
                steps = rest;
                continue;
            }
            _ => {
                other = other.checked_add_signed(isize::from(step - MOVE) - 8)?;
                continue;
            }
        };
        at += len;
        other += len;
    }
    Some(at)
}

fn unpack(packed: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, packed) in out.chunks_mut(2).zip(packed) {
        let digits = [packed >> 4, packed & 15].map(|value| DIGITS[usize::from(value)]);
        pair.copy_from_slice(&digits[..pair.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;

    /// The text with slack, and where its words end.
    fn joined(words: &[&[u8]]) -> (Vec<u8>, Vec<u16>) {
        let (mut octets, mut ends) = (Vec::new(), Vec::new());
        for word in words {
            octets.extend_from_slice(word);
            ends.push(octets.len() as u16);
            octets.push(WORD_END);
        }
        octets.extend([0; SLACK]);
        (octets, ends)
    }

    fn model(words: &[&[u8]]) -> Model {
        let (octets, _) = joined(words);
        let mut model = Model::EMPTY;
        model.become_like(&octets[..octets.len() - SLACK]);
        model
    }

    /// Octets of the difference, after a look that it leads back to the words.
    fn difference(words: &[&[u8]], model: &Model) -> usize {
        let (octets, ends) = joined(words);
        let text = &octets[..octets.len() - SLACK];
        let mut room = [0; 16_384];
        let mut steps = Cursor::new(&mut room);
        let joined = Text {
            octets: &octets,
            ends: &ends,
        };
        write_difference(joined, model, &mut steps);
        assert!(!steps.overflowed());
        let mut again = vec![0; text.len()];
        let len = read_difference(steps.written(), model, &mut again);
        assert_eq!(len, Some(text.len()));
        assert_eq!(
            String::from_utf8_lossy(&again),
            String::from_utf8_lossy(text)
        );
        steps.len()
    }

    const EARLIER: [&[u8]; 4] = [
        b"3c26-7f00a1b2c3d4@198.51.100.10",
        b"\"Alice\" <sip:+4915112345678@carrier.example>;tag=a81ff0",
        b"<sip:+4915112345678@198.51.100.10:5060;transport=udp>",
        b"",
    ];

    #[test]
    fn what_is_alike_costs_an_octet_however_long() {
        let model = model(&EARLIER);
        assert_eq!(difference(&EARLIER, &model), 2);
        let words: [&[u8]; 4] = [
            b"99ee-0123456789ab@198.51.100.10",
            b"\"Alice\" <sip:+4930555@carrier.example>;tag=c0ffee",
            b"<sip:+4930555@198.51.100.10:5060;transport=udp>",
            b"",
        ];
        // Call-ID 9, number 5, tag 4; "again" for the second number.
        assert!(difference(&words, &model) < 34);
    }

    #[test]
    fn a_uuid_costs_an_octet_more_than_its_digits_two_to_an_octet() {
        let earlier: [&[u8]; 2] = [b"0f5a1c22-93b1-4d6e-8aa1-0123456789ab@198.51.100.10", b"7"];
        let words: [&[u8]; 2] = [b"c01d3e5f-1234-4d6e-9bcd-fedcba987654@198.51.100.10", b"7"];
        // The third part is alike.
        assert_eq!(
            difference(&words, &model(&earlier)),
            1 + 4 + 2 + 1 + 1 + 2 + 6 + 1
        );
        let words: [&[u8]; 2] = [b"c01d3e5f-1234-5d6e-9bcd-fedcba987654@198.51.100.10", b"7"];
        assert_eq!(difference(&words, &model(&earlier)), 1 + 16 + 1);
    }

    #[test]
    fn a_text_with_more_or_less_than_its_model_comes_back() {
        let model = model(&EARLIER);
        let cases: [[&[u8]; 4]; 6] = [
            [b"", b"", b"", b""],
            [b"x", b"<sip:a@b>", b"sip:a@b", b"<sip:p;lr>, <sip:q;lr>"],
            [
                b"3c26",
                b"\"Alice",
                b"<sip:+4915112345678@198.51.100.10>",
                b":",
            ],
            [b"@", b"<>;tag=", b">>>", b"@"],
            [
                b"3c26-7f00a1b2c3d4@198.51.100.101",
                EARLIER[2],
                EARLIER[1],
                EARLIER[0],
            ],
            [&[b'a'; 200], &[b'z'; 300], &[b'\r'; 5], &[0; 70]],
        ];
        for words in cases {
            difference(&words, &model);
            difference(&words, &Model::EMPTY);
        }
    }

    #[test]
    fn a_model_is_no_longer_than_it_may_be_and_the_rest_is_told_as_it_is() {
        let long = [b'x'; 2000];
        let model = model(&[&long, b"<sip:a@b>"]);
        let len = difference(&[&long, b"<sip:a@b>"], &model);
        assert!((2000 - OCTETS_MAX..1400).contains(&len), "{len}");
    }

    #[test]
    fn random_words_like_other_random_words_come_back() {
        const SYLLABLES: [&[u8]; 12] = [
            b"sip:",
            b"<",
            b">",
            b";tag=",
            b"@",
            b"gate.example",
            b"0a1b",
            b"4930",
            b",",
            b"X",
            b" ",
            b"0123456789abcdef0123456789abcdef01",
        ];
        let mut random = Random::new([19; 4]);
        let mut words = || -> Vec<Vec<u8>> {
            let mut word = || -> Vec<u8> {
                let len = random.below(9);
                (0..len)
                    .flat_map(|_| SYLLABLES[random.below(12) as usize].to_vec())
                    .collect()
            };
            (0..5).map(|_| word()).collect()
        };
        for _ in 0..3000 {
            let (one, two) = (words(), words());
            let one: Vec<&[u8]> = one.iter().map(Vec::as_slice).collect();
            let two: Vec<&[u8]> = two.iter().map(Vec::as_slice).collect();
            difference(&two, &model(&one));
        }
    }

    #[test]
    fn digits_are_packed_and_all_else_is_not() {
        for octet in 0..=255u8 {
            for place in 0..8 {
                let mut text = *b"0a9f5b3c";
                text[place] = octet;
                let packed = pack_eight(text);
                let is_hex = matches!(octet, b'0'..=b'9' | b'a'..=b'f');
                assert_eq!(packed.is_some(), is_hex, "{octet}");
                if let Some(packed) = packed {
                    let mut again = [0; 8];
                    unpack(&packed, &mut again);
                    assert_eq!(again, text);
                }
            }
        }
    }

    #[test]
    fn no_steps_make_the_reader_panic() {
        let mut random = Random::new([23; 4]);
        let model = model(&EARLIER);
        let mut whole = 0;
        for _ in 0..100_000 {
            let mut steps = [0; 24];
            steps
                .iter_mut()
                .for_each(|octet| *octet = random.below(256) as u8);
            let len = random.below(25) as usize;
            let found = read_difference(&steps[..len], &model, &mut [0; 200]);
            whole += usize::from(found.is_some());
        }
        assert!(whole > 100);
    }
}
