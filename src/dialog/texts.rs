//! The words of a call that must live longer than its messages: for lists, and for the BYE that the
//! node itself sends when an operator or `call_time_max` ends a call.
//!
//! They are kept as their difference from the words of an earlier call between the same peers (see
//! [`super::likeness`]). What the INVITE says and what its answer adds are told one by one, so that
//! neither is gone through twice.

use crate::base::{Cells, Chain, Cursor};

use super::likeness::{Model, SLACK, Text, WORD_END, read_difference, write_difference};

/// One word kept of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    CallId,
    /// From and To header values as the caller's requests carry them, with tags once known.
    From,
    To,
    /// Remote target and route set towards each side, as header values.
    CallerContact,
    CallerRoute,
    CalleeContact,
    CalleeRoute,
    /// Of the INVITE as it came, for the call detail record.
    RequestUri,
}

impl Part {
    /// How many there are.
    pub const COUNT: usize = 8;

    /// Each of them, in order.
    pub const ALL: [Part; Part::COUNT] = [
        Part::CallId,
        Part::From,
        Part::To,
        Part::CallerContact,
        Part::CallerRoute,
        Part::CalleeContact,
        Part::CalleeRoute,
        Part::RequestUri,
    ];
}

/// Octets of a call's words in all; of more, the first ones are kept and the others left empty.
const OCTETS_MAX: usize = 4080;
/// Octets of the words with their ends.
const JOINED_MAX: usize = OCTETS_MAX + Part::COUNT;
/// What the tellings of nearly all calls are no longer than.
const SHORT_MAX: usize = 512;
/// Octets of one telling, in full if need be: a length of two octets for each word.
const TOLD_MAX: usize = OCTETS_MAX + 2 * Part::COUNT;

/// Words to keep.
pub type Named<'p, 't> = &'p [(Part, &'t [u8])];

/// The words of a call, read back.
#[derive(Debug)]
pub struct Words {
    octets: [u8; OCTETS_MAX + 2 * Part::COUNT],
    used: usize,
    places: [(u16, u16); Part::COUNT],
}

impl Words {
    /// Those of nobody.
    pub fn none() -> Words {
        Words {
            octets: [0; OCTETS_MAX + 2 * Part::COUNT],
            used: 0,
            places: [(0, 0); Part::COUNT],
        }
    }

    /// A kept word; empty when there is none.
    pub fn word(&self, part: Part) -> &[u8] {
        let (start, end) = self.places[part as usize];
        &self.octets[usize::from(start)..usize::from(end)]
    }
}

/// The words of one call: at most two tellings, one behind the other in one chain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texts {
    first_cell: u32,
    len: u16,
    /// How much of it is the first telling.
    first_len: u16,
    /// Octets of all that was told.
    octets: u16,
    /// By telling: what it is the difference from, and which words it tells, as bits.
    models: [u16; 2],
    parts: [u8; 2],
}

impl Texts {
    fn chain(&self) -> Chain {
        Chain {
            first: self.first_cell,
            len: self.len,
        }
    }

    /// How the words of the tellings lie in the chain.
    fn tellings(&self) -> [(core::ops::Range<usize>, u16, u8); 2] {
        let (first, whole) = (usize::from(self.first_len), usize::from(self.len));
        [
            (0..first, self.models[0], self.parts[0]),
            (first..whole, self.models[1], self.parts[1]),
        ]
    }
}

/// Where the words of all calls are.
#[derive(Debug)]
pub struct TextStore {
    cells: Cells,
    models: Models,
    draft: Draft,
}

impl TextStore {
    /// Room for so many cells of words.
    pub fn new(cells: usize) -> TextStore {
        TextStore {
            cells: Cells::new(cells),
            models: Models::new(),
            draft: Draft::new(),
        }
    }

    /// Octets of the cells in use.
    pub fn octets_used(&self) -> usize {
        self.cells.used() * Cells::OCTETS
    }

    /// The cells that were never written to.
    pub fn fresh(&self) -> crate::base::Fresh {
        self.cells.fresh()
    }

    /// Replaces what is kept by `named`; a part that is not named keeps its earlier value. Calls
    /// with the same `peer` are expected to have like words. `false` when there is no room, and
    /// then what was kept stays.
    pub fn keep(&mut self, texts: &mut Texts, named: Named<'_, '_>, peer: u64) -> bool {
        let more: usize = named.iter().map(|(_, word)| word.len()).sum();
        let is_first = texts.parts[0] == 0;
        let has_second = texts.parts[1] != 0;
        if has_second || usize::from(texts.octets) + more > OCTETS_MAX {
            return self.keep_anew(texts, named, peer);
        }
        self.draft.join(named);
        let told = self.models.tell(&mut self.draft, peer);
        let mut chain = texts.chain();
        if !self.cells.append(&mut chain, self.draft.told(told.draft)) {
            self.models.give_back(told.model);
            return false;
        }
        let telling = usize::from(!is_first);
        texts.first_cell = chain.first;
        texts.len = chain.len;
        if is_first {
            texts.first_len = chain.len;
        }
        texts.octets += more as u16;
        texts.models[telling] = told.model;
        texts.parts[telling] = self.draft.parts;
        true
    }

    /// As one telling of all parts, in the room that the earlier ones leave.
    fn keep_anew(&mut self, texts: &mut Texts, named: Named<'_, '_>, peer: u64) -> bool {
        let words = self.words(texts);
        let mut left = OCTETS_MAX;
        let all = Part::ALL.map(|part| {
            let new = named.iter().find(|(named, _)| *named == part);
            let word = new.map_or_else(|| words.word(part), |(_, word)| word);
            let word = if word.len() <= left { word } else { b"" };
            left -= word.len();
            (part, word)
        });
        let mut anew = Texts::default();
        if !self.keep(&mut anew, &all, peer) {
            return false;
        }
        self.free(core::mem::replace(texts, anew));
        true
    }

    /// Reads the words of a call.
    pub fn words(&self, texts: &Texts) -> Words {
        let mut words = Words::none();
        // To clear the larger room takes longer than all else.
        match usize::from(texts.len) {
            ..=SHORT_MAX => self.read(texts, &mut [0; SHORT_MAX], &mut words),
            _ => self.read(texts, &mut [0; OCTETS_MAX + 4 * Part::COUNT], &mut words),
        }
        words
    }

    fn read(&self, texts: &Texts, room: &mut [u8], words: &mut Words) {
        let told = self.cells.read(texts.chain(), room);
        for (range, model, parts) in texts.tellings() {
            if parts != 0 {
                let told = told.get(range).unwrap_or_default();
                let read = self.models.read(told, model, parts, words);
                debug_assert!(read.is_some(), "a difference that leads nowhere: {texts:?}");
            }
        }
    }

    /// Gives the room of a call's words back.
    pub fn free(&mut self, texts: Texts) {
        self.cells.free(texts.chain());
        for (_, model, parts) in texts.tellings() {
            if parts != 0 {
                self.models.give_back(model);
            }
        }
    }
}

/// Where words are put together before they are kept; one for all calls.
#[derive(Debug)]
struct Draft {
    joined: Box<[u8; JOINED_MAX + SLACK]>,
    ends: [u16; Part::COUNT],
    words: usize,
    parts: u8,
    /// A word has an octet that ends words.
    is_odd: bool,
    told: Box<[[u8; TOLD_MAX]; 2]>,
}

/// Which of the two places of a draft holds a telling, and how long it is.
type InDraft = (usize, usize);

impl Draft {
    fn new() -> Draft {
        Draft {
            joined: Box::new([0; JOINED_MAX + SLACK]),
            ends: [0; Part::COUNT],
            words: 0,
            parts: 0,
            is_odd: false,
            told: Box::new([[0; TOLD_MAX]; 2]),
        }
    }

    /// Puts the words together, in the order of their parts.
    fn join(&mut self, named: Named<'_, '_>) {
        self.parts = 0;
        self.words = 0;
        let mut used = 0;
        for part in Part::ALL {
            let Some((_, word)) = named.iter().find(|(named, _)| *named == part) else {
                continue;
            };
            // Fits: the caller has counted.
            self.joined[used..used + word.len()].copy_from_slice(word);
            used += word.len();
            self.joined[used] = WORD_END;
            self.ends[self.words] = used as u16;
            self.words += 1;
            used += 1;
            self.parts |= 1 << part as u8;
        }
        let ends = memchr::memchr_iter(WORD_END, &self.joined[..used]).count();
        self.is_odd = ends != self.words;
    }

    fn len(&self) -> usize {
        match self.words {
            0 => 0,
            words => usize::from(self.ends[words - 1]) + 1,
        }
    }

    /// Tells the words by what they differ by; `None` when that is longer than themselves.
    fn tell_by(&mut self, model: &Model, place: usize) -> Option<usize> {
        let most = self.len();
        let mut out = Cursor::new(&mut self.told[place][..most]);
        let text = Text {
            octets: &self.joined[..],
            ends: &self.ends[..self.words],
        };
        write_difference(text, model, &mut out);
        (!out.overflowed()).then_some(out.len())
    }

    /// Tells the words in full: their lengths and they themselves.
    fn tell_in_full(&mut self) -> InDraft {
        let mut out = Cursor::new(&mut self.told[0]);
        let mut start = 0;
        for end in &self.ends[..self.words] {
            let word = &self.joined[start..usize::from(*end)];
            out.put(&(word.len() as u16).to_le_bytes());
            out.put(word);
            start = usize::from(*end) + 1;
        }
        (0, out.len())
    }

    fn told(&self, (place, len): InDraft) -> &[u8] {
        &self.told[place][..len]
    }
}

/// The words of earlier calls that others are told by.
#[derive(Debug)]
struct Models {
    models: Box<[Model]>,
    /// How many tellings go by each. It stays what it is as long as there are any.
    users: Box<[u32]>,
}

/// A telling in the draft.
struct Told {
    draft: InDraft,
    model: u16,
}

/// Stands for no model: told in full.
const IN_FULL: u16 = u16::MAX;

impl Models {
    /// A power of two. A node has few peers that send many calls; phones are like one another.
    const COUNT: usize = 256;

    fn new() -> Models {
        Models {
            models: vec![Model::EMPTY; Self::COUNT].into_boxed_slice(),
            users: vec![0; Self::COUNT].into_boxed_slice(),
        }
    }

    /// Tells the words of a draft by the model of their peer, or of the one beside it where that is
    /// shorter; where both are of little use, the words become a model that nobody goes by.
    fn tell(&mut self, draft: &mut Draft, peer: u64) -> Told {
        if draft.is_odd {
            return Told {
                draft: draft.tell_in_full(),
                model: IN_FULL,
            };
        }
        let hash = (peer ^ u64::from(draft.parts) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = (hash >> 56) as usize % Self::COUNT;
        let second = first ^ 1;
        let good = draft.len() / 2;
        let by_first = draft.tell_by(&self.models[first], 0);
        if let Some(len) = by_first.filter(|len| *len <= good) {
            return self.told(first, (0, len));
        }
        let by_second = draft.tell_by(&self.models[second], 1);
        if let Some(len) = by_second.filter(|len| *len <= good) {
            return self.told(second, (1, len));
        }
        if let Some(unused) = [first, second].into_iter().find(|at| self.users[*at] == 0) {
            self.models[unused].become_like(&draft.joined[..draft.len()]);
            if let Some(len) = draft.tell_by(&self.models[unused], 0) {
                return self.told(unused, (0, len));
            }
        }
        match (by_first, by_second) {
            (Some(len), Some(other)) if other < len => self.told(second, (1, other)),
            (None, Some(len)) => self.told(second, (1, len)),
            (Some(len), _) => self.told(first, (0, len)),
            (None, None) => Told {
                draft: draft.tell_in_full(),
                model: IN_FULL,
            },
        }
    }

    fn told(&mut self, model: usize, draft: InDraft) -> Told {
        self.users[model] += 1;
        Told {
            draft,
            model: model as u16,
        }
    }

    fn give_back(&mut self, model: u16) {
        if let Some(users) = self.users.get_mut(usize::from(model)) {
            *users -= 1;
        }
    }

    /// Reads a telling into `words`; `None` when it is none.
    fn read(&self, told: &[u8], model: u16, parts: u8, words: &mut Words) -> Option<()> {
        let named = Part::ALL
            .into_iter()
            .filter(|part| parts & 1 << *part as u8 != 0);
        let room = words.octets.get_mut(words.used..)?;
        let mut at = words.used;
        if model == IN_FULL {
            let mut rest = told;
            for part in named {
                let (len, behind) = rest.split_first_chunk()?;
                let (word, behind) = behind.split_at_checked(u16::from_le_bytes(*len).into())?;
                words
                    .octets
                    .get_mut(at..at + word.len())?
                    .copy_from_slice(word);
                words.places[part as usize] = (at as u16, (at + word.len()) as u16);
                at += word.len();
                rest = behind;
            }
            words.used = at;
            return Some(());
        }
        let len = read_difference(told, self.models.get(usize::from(model))?, room)?;
        words.used += len;
        let mut rest = room.get(..len)?;
        for part in named {
            let word = memchr::memchr(WORD_END, rest)?;
            words.places[part as usize] = (at as u16, (at + word) as u16);
            at += word + 1;
            rest = rest.get(word + 1..)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: [(Part, &[u8]); 4] = [
        (Part::CallId, b"a84b4c76e66710@192.0.2.9"),
        (Part::From, b"<sip:a@b.example>;tag=1928301774"),
        (Part::To, b"<sip:c@d.example>"),
        (Part::RequestUri, b"sip:c@192.0.2.1"),
    ];
    const CALLEE: [(Part, &[u8]); 2] = [
        (Part::To, b"<sip:c@d.example>;tag=a6c85cf"),
        (Part::CalleeContact, b"sip:c@192.0.2.8:5080"),
    ];

    #[test]
    fn what_the_answer_adds_stands_behind_what_the_invite_said() {
        let mut store = TextStore::new(100);
        let mut texts = Texts::default();
        assert_eq!(store.words(&texts).word(Part::CallId), b"");
        assert!(store.keep(&mut texts, &CALLER, 1));
        assert!(store.keep(&mut texts, &CALLEE, 2));
        let words = store.words(&texts);
        assert_eq!(words.word(Part::CallId), CALLER[0].1);
        assert_eq!(words.word(Part::From), CALLER[1].1);
        assert_eq!(words.word(Part::To), CALLEE[0].1);
        assert_eq!(words.word(Part::RequestUri), CALLER[3].1);
        assert_eq!(words.word(Part::CalleeContact), CALLEE[1].1);
        assert_eq!(words.word(Part::CalleeRoute), b"");
        store.free(texts);
        assert_eq!(store.cells.used(), 0);
        assert_eq!(store.models.users.iter().sum::<u32>(), 0);
    }

    #[test]
    fn later_answers_take_the_place_of_the_first_and_no_further_room() {
        let mut store = TextStore::new(100);
        let mut texts = Texts::default();
        assert!(store.keep(&mut texts, &CALLER, 1));
        for number in 0..500 {
            let to = format!("<sip:c@d.example>;tag={number}");
            assert!(store.keep(&mut texts, &[(Part::To, to.as_bytes()), CALLEE[1]], 2));
            let words = store.words(&texts);
            assert_eq!(words.word(Part::To), to.as_bytes());
            assert_eq!(words.word(Part::From), CALLER[1].1);
            assert!(store.cells.used() < 20);
        }
        store.free(texts);
        assert_eq!(store.cells.used(), 0);
        assert_eq!(store.models.users.iter().sum::<u32>(), 0);
    }

    #[test]
    fn words_of_like_calls_take_a_third_of_their_length() {
        let mut store = TextStore::new(1000);
        let mut calls = Vec::new();
        for call in 0..20_u64 {
            let tag = call.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let from = format!("<sip:+49301234{call:04}@carrier.example>;tag={tag:x}");
            let contact = format!("sip:+49301234{call:04}@192.0.2.9:5060;transport=udp");
            let call_id = format!("{:x}@192.0.2.9", tag.rotate_left(13));
            let named: [(Part, &[u8]); 3] = [
                (Part::CallId, call_id.as_bytes()),
                (Part::From, from.as_bytes()),
                (Part::CallerContact, contact.as_bytes()),
            ];
            let mut texts = Texts::default();
            assert!(store.keep(&mut texts, &named, 1));
            for (part, word) in named {
                assert_eq!(store.words(&texts).word(part), word);
            }
            if call > 0 {
                assert!(
                    usize::from(texts.len) < usize::from(texts.octets) / 3,
                    "{texts:?}"
                );
            }
            calls.push(texts);
        }
        calls.into_iter().for_each(|texts| store.free(texts));
        assert_eq!(store.cells.used(), 0);
    }

    #[test]
    fn any_octets_come_back() {
        let every: Vec<u8> = (0..=255).collect();
        let mut store = TextStore::new(100);
        let mut texts = Texts::default();
        assert!(store.keep(
            &mut texts,
            &[(Part::From, &every), (Part::To, &[WORD_END])],
            1
        ));
        assert!(store.keep(&mut texts, &[(Part::CalleeContact, &every)], 1));
        let words = store.words(&texts);
        assert_eq!(words.word(Part::From), every);
        assert_eq!(words.word(Part::To), [WORD_END]);
        assert_eq!(words.word(Part::CalleeContact), every);
    }

    #[test]
    fn words_beyond_the_longest_are_left_out_and_the_first_are_kept() {
        let long = [b'x'; 1500];
        let mut store = TextStore::new(1000);
        let mut texts = Texts::default();
        let caller: [(Part, &[u8]); 3] = [
            (Part::CallId, b"a@b"),
            (Part::From, &long),
            (Part::RequestUri, b"sip:c@d"),
        ];
        assert!(store.keep(&mut texts, &caller, 1));
        assert!(store.keep(
            &mut texts,
            &[(Part::To, &long), (Part::CalleeRoute, &long)],
            2
        ));
        let words = store.words(&texts);
        assert_eq!(words.word(Part::From), long);
        assert_eq!(words.word(Part::To), long);
        assert_eq!(words.word(Part::CalleeRoute), b"");
        assert_eq!(words.word(Part::RequestUri), b"sip:c@d");
        assert!(store.keep(&mut texts, &[(Part::From, &[b'y'; 9000])], 2));
        assert_eq!(store.words(&texts).word(Part::From), b"");
        assert_eq!(store.words(&texts).word(Part::To), long);
    }

    #[test]
    fn a_full_store_keeps_what_it_has() {
        let mut store = TextStore::new(10);
        // In no model, so that they take room.
        let (odd, long): ([u8; 50], [u8; 300]) = ([WORD_END; 50], [WORD_END; 300]);
        let (mut first, mut second) = (Texts::default(), Texts::default());
        assert!(store.keep(&mut first, &CALLER, 1));
        assert!(store.keep(&mut second, &[(Part::From, &odd)], 2));
        assert!(!store.keep(&mut first, &[(Part::To, &long)], 1));
        assert!(!store.keep(&mut second, &[(Part::To, &long)], 2));
        assert!(store.keep(&mut second, &[(Part::To, &odd)], 2));
        assert!(!store.keep(&mut second, &[(Part::To, &long)], 2));
        assert_eq!(store.words(&first).word(Part::CallId), CALLER[0].1);
        assert_eq!(store.words(&first).word(Part::To), CALLER[2].1);
        assert_eq!(store.words(&second).word(Part::From), odd);
        assert_eq!(store.words(&second).word(Part::To), odd);
        store.free(first);
        store.free(second);
        assert_eq!(store.cells.used(), 0);
        assert_eq!(store.models.users.iter().sum::<u32>(), 0);
    }
}
