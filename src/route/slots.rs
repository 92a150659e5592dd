//! Slot numbers: a trunk or group name keeps its number over reloads.
//!
//! Slots index the limit counters, the metrics and the health board, which outlive a configuration.
//! The slot of a name that vanished stays its own until it is released, since calls that began
//! under the name still count in it.

use std::collections::BTreeMap;

/// What a name belongs to; a trunk and a group may share a name and have two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotKind {
    Trunk,
    Group,
}

/// All slots are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotsFull {
    /// The name that got none.
    pub name: String,
    pub slots_max: u16,
}

impl core::fmt::Display for SlotsFull {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "no slot left for \"{}\": all {} are taken, also by names of earlier configurations \
             (a restart frees those)",
            self.name, self.slots_max
        )
    }
}

impl core::error::Error for SlotsFull {}

/// Which name has which slot. Clone it for a reload and keep the clone only if the file was good.
#[derive(Clone, Debug)]
pub struct SlotBook {
    slots: BTreeMap<(SlotKind, String), u16>,
    /// The name in each slot that was ever given out; `None` = released.
    names: Vec<Option<(SlotKind, String)>>,
    slots_max: u16,
}

impl SlotBook {
    /// An empty book of at most `slots_max` slots, numbered from 0.
    pub fn new(slots_max: u16) -> SlotBook {
        SlotBook {
            slots: BTreeMap::new(),
            names: Vec::new(),
            slots_max,
        }
    }

    /// The slot of the name: the one it has, else one that was never used, else a released one.
    pub fn assign(&mut self, kind: SlotKind, name: &str) -> Result<u16, SlotsFull> {
        if let Some(slot) = self.find(kind, name) {
            return Ok(slot);
        }
        let slot = self.vacant().ok_or_else(|| SlotsFull {
            name: name.to_owned(),
            slots_max: self.slots_max,
        })?;
        let key = (kind, name.to_owned());
        match self.names.get_mut(usize::from(slot)) {
            Some(vacated) => *vacated = Some(key.clone()),
            None => self.names.push(Some(key.clone())),
        }
        self.slots.insert(key, slot);
        Ok(slot)
    }

    /// A fresh slot is preferred: numbers of a released one may still be on a screen.
    fn vacant(&self) -> Option<u16> {
        match u16::try_from(self.names.len()) {
            Ok(fresh) if fresh < self.slots_max => Some(fresh),
            _ => self
                .names
                .iter()
                .position(Option::is_none)
                .map(|at| at as u16),
        }
    }

    /// The slot of a name that has one.
    pub fn find(&self, kind: SlotKind, name: &str) -> Option<u16> {
        self.slots.get(&(kind, name.to_owned())).copied()
    }

    /// The name in a slot.
    pub fn named(&self, slot: u16) -> Option<(SlotKind, &str)> {
        let (kind, name) = self.names.get(usize::from(slot))?.as_ref()?;
        Some((*kind, name))
    }

    /// Gives a vanished name's slot back for other names, once nothing counts in it any more.
    pub fn release(&mut self, kind: SlotKind, name: &str) -> Option<u16> {
        let slot = self.slots.remove(&(kind, name.to_owned()))?;
        self.names[usize::from(slot)] = None;
        Some(slot)
    }

    /// How many names have a slot.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no name has a slot.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many slots there can be.
    pub fn slots_max(&self) -> u16 {
        self.slots_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_slot_and_kinds_do_not_share() {
        let mut book = SlotBook::new(8);
        let trunk = book.assign(SlotKind::Trunk, "pbx").expect("room");
        let group = book.assign(SlotKind::Group, "pbx").expect("room");
        assert_ne!(trunk, group);
        assert_eq!(book.assign(SlotKind::Trunk, "pbx"), Ok(trunk));
        assert_eq!(book.named(group), Some((SlotKind::Group, "pbx")));
        assert_eq!(book.find(SlotKind::Trunk, "other"), None);
        assert_eq!(book.len(), 2);
    }

    #[test]
    fn a_vanished_name_holds_its_slot_until_it_is_released() {
        let mut book = SlotBook::new(2);
        book.assign(SlotKind::Trunk, "a").expect("room");
        book.assign(SlotKind::Trunk, "b").expect("room");
        let full = book.assign(SlotKind::Trunk, "c").expect_err("full");
        assert!(full.to_string().contains("\"c\""), "{full}");
        assert!(full.to_string().contains("all 2"), "{full}");
        assert_eq!(book.release(SlotKind::Trunk, "a"), Some(0));
        assert_eq!(book.release(SlotKind::Trunk, "a"), None);
        assert_eq!(book.assign(SlotKind::Trunk, "c"), Ok(0));
        assert_eq!(book.named(0), Some((SlotKind::Trunk, "c")));
    }

    #[test]
    fn a_released_slot_is_taken_last() {
        let mut book = SlotBook::new(3);
        book.assign(SlotKind::Group, "a").expect("room");
        book.assign(SlotKind::Group, "b").expect("room");
        book.release(SlotKind::Group, "a");
        assert_eq!(book.assign(SlotKind::Group, "c"), Ok(2));
        assert_eq!(book.assign(SlotKind::Group, "d"), Ok(0));
    }

    #[test]
    fn a_book_of_no_slots_refuses() {
        assert!(SlotBook::new(0).assign(SlotKind::Trunk, "a").is_err());
    }
}
