//! Splices over received bytes: what a proxy changes in a message it passes on (RFC 3261 §16.6, §16.7).
//!
//! Changes are registered in any order and applied in one copy; all other octets go through as
//! they came. A fault (overlap, no room) is kept and told by `write`, so that the steps of the
//! proxy need not each look. `steps.rs` has the proxy's changes by name.

mod steps;

pub(super) use steps::{needs_received, put_received, put_rport};

use core::fmt;
use core::ops::Range;

use super::width::Width;
use crate::base::Cursor;

/// Why an edit cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditFault {
    /// More splices than the edit was made for.
    TooManySplices,
    /// More new text than the edit was made for.
    TextTooLong,
    /// Two splices change the same octets, or one lies outside of the message: a bug of the caller.
    Overlap,
    /// The output buffer is too small.
    NoRoom,
}

impl fmt::Display for EditFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EditFault::TooManySplices => "too many splices",
            EditFault::TextTooLong => "too much new text",
            EditFault::Overlap => "splices overlap",
            EditFault::NoRoom => "no room for the edited message",
        })
    }
}

impl std::error::Error for EditFault {}

/// Octets `start..end` of the source give way to octets `text..text_end` of the edit's own. Sixteen
/// octets: an edit's splices are one or two cache lines.
#[derive(Clone, Copy, Debug)]
struct Splice {
    start: u32,
    end: u32,
    text: u32,
    text_end: u32,
}

impl Splice {
    const NONE: Splice = Splice {
        start: 0,
        end: 0,
        text: 0,
        text_end: 0,
    };

    /// By place; at one place insertions come first.
    fn key(&self) -> u64 {
        u64::from(self.start) << 1 | u64::from(self.start != self.end)
    }

    fn from(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    fn text(&self) -> Range<usize> {
        self.text as usize..self.text_end as usize
    }
}

/// A set of changes to one message.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// The first `count` by place; at one place insertions come first, in the order they were
    /// registered.
    splices: Box<[Splice]>,
    count: usize,
    text: Box<[u8]>,
    text_len: usize,
    fault: Option<EditFault>,
    width: Width,
}

impl Edit {
    /// Room for `splices_max` changes with `text_max` octets of new text in all.
    pub fn new(splices_max: usize, text_max: usize) -> Edit {
        assert!(u32::try_from(text_max).is_ok(), "places of 32 bits");
        Edit {
            splices: vec![Splice::NONE; splices_max].into_boxed_slice(),
            count: 0,
            text: vec![0; text_max].into_boxed_slice(),
            text_len: 0,
            fault: None,
            width: Width::widest(),
        }
    }

    /// Forgets all changes: the next message's follow.
    pub fn begin(&mut self) {
        self.count = 0;
        self.text_len = 0;
        self.fault = None;
    }

    /// Puts `text` in the place of `range`.
    pub fn replace(&mut self, range: Range<usize>, text: &[u8]) {
        self.replace_with(range, |cursor| cursor.put(text));
    }

    /// Puts what `compose` writes in the place of `range`.
    pub fn replace_with(&mut self, range: Range<usize>, compose: impl FnOnce(&mut Cursor<'_>)) {
        let start = self.text_len;
        let mut cursor = Cursor::new(self.text.get_mut(start..).unwrap_or_default());
        compose(&mut cursor);
        if cursor.overflowed() {
            self.fail(EditFault::TextTooLong);
            return;
        }
        self.text_len += cursor.len();
        self.register(range, start..self.text_len);
    }

    /// Puts `text` in front of the octet at `at`.
    pub fn insert(&mut self, at: usize, text: &[u8]) {
        self.replace(at..at, text);
    }

    /// Puts what `compose` writes in front of the octet at `at`.
    pub fn insert_with(&mut self, at: usize, compose: impl FnOnce(&mut Cursor<'_>)) {
        self.replace_with(at..at, compose);
    }

    /// Leaves `range` out.
    pub fn remove(&mut self, range: Range<usize>) {
        self.replace(range, b"");
    }

    /// How long a source of `source_len` octets becomes, unless a change could not be registered.
    pub fn written_len(&self, source_len: usize) -> Result<usize, EditFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let splices = self.splices.get(..self.count).unwrap_or_default();
        let gone: usize = splices.iter().map(|splice| splice.from().len()).sum();
        Ok(source_len.saturating_sub(gone) + self.text_len)
    }

    /// Writes `source` with all changes to `out`.
    pub fn write(&self, source: &[u8], out: &mut Cursor<'_>) -> Result<(), EditFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        // Few wide moves in place of many narrow ones.
        self.width.run(
            #[inline(always)]
            |_| self.splice(source, out),
        )
    }

    #[inline(always)]
    fn splice(&self, source: &[u8], out: &mut Cursor<'_>) -> Result<(), EditFault> {
        let mut at = 0;
        for splice in self.splices.get(..self.count).unwrap_or_default() {
            let from = splice.from();
            if from.start < at || from.start > source.len() {
                return Err(EditFault::Overlap);
            }
            out.put_part(source, at..from.start);
            out.put_part(&self.text, splice.text());
            at = from.end;
        }
        out.put(source.get(at..).ok_or(EditFault::Overlap)?);
        if out.overflowed() {
            return Err(EditFault::NoRoom);
        }
        Ok(())
    }

    fn register(&mut self, from: Range<usize>, text: Range<usize>) {
        let Some(places) = self.splices.get_mut(..=self.count) else {
            self.fail(EditFault::TooManySplices);
            return;
        };
        if from.start > from.end || from.end > u32::MAX as usize {
            self.fail(EditFault::Overlap);
            return;
        }
        // What is inserted right behind the change made last goes with it.
        if let Some(last) = self.count.checked_sub(1).and_then(|at| places.get_mut(at))
            && last.end as usize == from.start
            && last.text_end as usize == text.start
            && from.is_empty()
        {
            last.text_end = text.end as u32;
            return;
        }
        let splice = Splice {
            start: from.start as u32,
            end: from.end as u32,
            text: text.start as u32,
            text_end: text.end as u32,
        };
        self.count += 1;
        // From the end: most changes are registered from the front to the back.
        let mut place = places.len() - 1;
        while let Some(before) = place.checked_sub(1)
            && places[before].key() > splice.key()
        {
            places[place] = places[before];
            place = before;
        }
        places[place] = splice;
    }

    /// Keeps the first fault.
    fn fail(&mut self, fault: EditFault) {
        self.fault.get_or_insert(fault);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(edit: &Edit, source: &[u8]) -> Result<String, EditFault> {
        let mut buffer = [0u8; 64];
        let mut out = Cursor::new(&mut buffer);
        edit.write(source, &mut out)?;
        Ok(String::from_utf8_lossy(out.written()).into_owned())
    }

    #[test]
    fn changes_apply_by_place_whatever_their_order() {
        let mut edit = Edit::new(8, 64);
        edit.insert(10, b"!");
        edit.replace(0..1, b"AA");
        edit.remove(4..6);
        edit.insert(4, b"<");
        edit.insert(4, b">");
        assert_eq!(written(&edit, b"0123456789").as_deref(), Ok("AA123<>6789!"));
        assert_eq!(edit.written_len(10), Ok(12));
        edit.begin();
        assert_eq!(written(&edit, b"0123").as_deref(), Ok("0123"));
    }

    #[test]
    fn an_insertion_at_the_start_of_a_removal_is_kept_in_either_order() {
        let mut edit = Edit::new(8, 64);
        edit.remove(2..4);
        edit.insert(2, b"x");
        edit.remove(4..5);
        edit.insert(5, b"y");
        assert_eq!(written(&edit, b"012345").as_deref(), Ok("01xy5"));
    }

    #[test]
    fn what_is_inserted_behind_a_change_stays_behind_it_and_in_front_of_the_next() {
        let mut edit = Edit::new(8, 64);
        edit.replace(2..4, b"ab");
        edit.insert(4, b"c");
        edit.insert(4, b"d");
        edit.replace(4..5, b"E");
        edit.insert(2, b"<");
        edit.insert(4, b"e");
        assert_eq!(written(&edit, b"0123456").as_deref(), Ok("01<abcdeE56"));
    }

    #[test]
    fn faults_are_kept_until_the_write() {
        let mut edit = Edit::new(2, 4);
        edit.replace(0..3, b"");
        edit.replace(2..4, b"");
        assert_eq!(written(&edit, b"012345"), Err(EditFault::Overlap));
        edit.remove(5..6);
        assert_eq!(written(&edit, b"012345"), Err(EditFault::TooManySplices));
        edit.begin();
        edit.insert(0, b"12345");
        assert_eq!(written(&edit, b"0"), Err(EditFault::TextTooLong));
        edit.begin();
        edit.remove(3..9);
        assert_eq!(written(&edit, b"0123"), Err(EditFault::Overlap));
        edit.begin();
        let mut small = [0u8; 2];
        assert_eq!(
            edit.write(b"0123", &mut Cursor::new(&mut small)),
            Err(EditFault::NoRoom)
        );
    }
}
