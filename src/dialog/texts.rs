//! The words of a call that must live longer than its messages: for lists, and for the BYE that the
//! node itself sends when an operator or `call_time_max` ends a call.

use crate::base::bytes::{ByteStore, Handle};

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

/// Longest record; what is longer keeps its first parts and leaves the others empty.
const OCTETS_MAX: usize = 4096;

/// Where a record is put together before it is stored; one for all calls.
#[derive(Debug)]
pub struct Draft(Box<[u8]>);

impl Default for Draft {
    fn default() -> Draft {
        Draft(vec![0; OCTETS_MAX].into_boxed_slice())
    }
}

/// Parts of a call in one block of a byte store: eight lengths of two octets, then the words.
#[derive(Debug, Default)]
pub struct Texts {
    block: Handle,
}

impl Texts {
    const HEAD: usize = 2 * Part::COUNT;

    /// Replaces what is kept by `parts`; a part that is not named keeps its earlier value.
    pub fn keep(
        &mut self,
        store: &mut ByteStore,
        draft: &mut Draft,
        parts: &[(Part, &[u8])],
    ) -> bool {
        let record = &mut draft.0;
        record[..Self::HEAD].fill(0);
        let mut used = Self::HEAD;
        for number in 0..Part::COUNT {
            let named = parts.iter().find(|(part, _)| *part as usize == number);
            let word = named.map_or_else(|| self.word(store, number), |(_, word)| word);
            let Some(room) = record.get_mut(used..used + word.len()) else {
                continue;
            };
            room.copy_from_slice(word);
            used += word.len();
            // Fits: a word is shorter than the record.
            record[2 * number..2 * number + 2].copy_from_slice(&(word.len() as u16).to_be_bytes());
        }
        let Some(block) = store.store(&record[..used]) else {
            return false;
        };
        store.free(core::mem::replace(&mut self.block, block));
        true
    }

    /// A kept word; empty when there is none.
    pub fn part<'s>(&self, store: &'s ByteStore, part: Part) -> &'s [u8] {
        self.word(store, part as usize)
    }

    /// Gives the block back to its store.
    pub fn free(self, store: &mut ByteStore) {
        store.free(self.block);
    }

    fn word<'s>(&self, store: &'s ByteStore, number: usize) -> &'s [u8] {
        let record = store.get(self.block);
        let length = |at: usize| match record.get(2 * at..2 * at + 2) {
            Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
            _ => 0,
        };
        let start = Self::HEAD + (0..number).map(length).sum::<usize>();
        record.get(start..start + length(number)).unwrap_or(&[])
    }
}
