//! Which messages somebody wants a copy of. The question is asked per call, so that a capture has all
//! messages of a call or none.

use crate::base::hash::HashKey;

/// What decides whether a message is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Every message, also those without a Call-ID.
    All,
    /// Calls that these trunks take part in, and whatever else comes from them or goes to them; by
    /// slot.
    Trunks(Vec<u16>),
    /// One call.
    Call(Vec<u8>),
}

/// One listener of the capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Which of [`Want::MAX`] listeners it is.
    pub number: u8,
    pub selection: Selection,
    /// One call in so many, by the hash of the Call-ID: the same calls on each node and after each
    /// start. 1 = all of them.
    pub every: u32,
}

/// What is known of a message.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Empty: it has none.
    pub call_id: &'a [u8],
    /// Slots of the trunks that the call or the message touches.
    pub trunks: &'a [u16],
}

impl Want {
    /// Listeners at the same time: a bit each in the mask of a spooled message.
    pub const MAX: usize = 8;

    /// Whether a message is for this listener.
    pub fn takes(&self, subject: &Subject<'_>) -> bool {
        let selected = match &self.selection {
            Selection::All => true,
            Selection::Trunks(slots) => slots.iter().any(|slot| subject.trunks.contains(slot)),
            Selection::Call(call_id) => call_id == subject.call_id,
        };
        selected && (self.every <= 1 || is_sampled(subject.call_id, self.every))
    }
}

/// Not keyed by the node: whoever can choose his Call-ID can only have his own calls seen.
fn is_sampled(call_id: &[u8], every: u32) -> bool {
    let key = HashKey::new([0x6361_6c6c_6761_7465, 0x7361_6d70_6c65_6421]);
    !call_id.is_empty() && key.hash(call_id).is_multiple_of(u64::from(every))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(selection: Selection, every: u32) -> Want {
        Want {
            number: 0,
            selection,
            every,
        }
    }

    #[test]
    fn a_selection_is_by_call_by_trunk_or_all() {
        let subject = Subject {
            call_id: b"a@b",
            trunks: &[3, 7],
        };
        assert!(want(Selection::All, 1).takes(&subject));
        assert!(want(Selection::Trunks(vec![1, 7]), 1).takes(&subject));
        assert!(!want(Selection::Trunks(vec![1]), 1).takes(&subject));
        assert!(want(Selection::Call(b"a@b".to_vec()), 1).takes(&subject));
        assert!(!want(Selection::Call(b"a@".to_vec()), 1).takes(&subject));
    }

    #[test]
    fn one_call_in_ten_is_about_one_in_ten_and_always_the_same() {
        let want = want(Selection::All, 10);
        let taken = |number: u32| {
            let call_id = format!("{number}@198.51.100.1");
            let subject = Subject {
                call_id: call_id.as_bytes(),
                trunks: &[],
            };
            assert_eq!(want.takes(&subject), want.takes(&subject));
            want.takes(&subject)
        };
        let count = (0..10_000).filter(|number| taken(*number)).count();
        assert!((850..1150).contains(&count), "{count}");
    }

    #[test]
    fn a_sample_leaves_out_what_belongs_to_no_call() {
        let subject = Subject {
            call_id: b"",
            trunks: &[],
        };
        assert!(want(Selection::All, 1).takes(&subject));
        assert!(!want(Selection::All, 2).takes(&subject));
    }
}
