//! The transition log: which trunk changed its state, when, and why. The oldest entry makes room.

use std::collections::VecDeque;

use super::State;
use crate::base::Instant;

/// One change of a trunk's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub at: Instant,
    pub slot: u16,
    pub from: State,
    /// Equal to `from` for [`Why::Drained`] only.
    pub to: State,
    pub why: Why,
    /// The address, in the trunk's order, that the signal was about.
    pub address_index: Option<u8>,
}

/// The signal behind a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    ProbeAnswered,
    ProbeTimedOut,
    ProbeUnavailable { status: u16 },
    ProbeRefused,
    CallAnswered,
    CallTimedOut,
    CallUnavailable,
    CallRefused,
    HoldOver,
    DrainOrdered,
    EnableOrdered,
    DisableOrdered,
    Drained,
    AddressesChanged,
    DisabledInFile,
    EnabledInFile,
}

impl Why {
    /// Whether a peer showed by it that it is there.
    pub const fn is_sign_of_life(self) -> bool {
        matches!(self, Why::ProbeAnswered | Why::CallAnswered)
    }

    /// The signal in words.
    pub const fn text(self) -> &'static str {
        match self {
            Why::ProbeAnswered => "a probe was answered",
            Why::ProbeTimedOut => "probes timed out",
            Why::ProbeUnavailable { status: 408 } => "probes were answered 408",
            Why::ProbeUnavailable { .. } => "probes were answered 503",
            Why::ProbeRefused => "probes were refused by ICMP",
            Why::CallAnswered => "a call was answered",
            Why::CallTimedOut => "calls timed out",
            Why::CallUnavailable => "calls were answered 503",
            Why::CallRefused => "calls were refused by ICMP",
            Why::HoldOver => "the hold time is over",
            Why::DrainOrdered => "ordered to drain",
            Why::EnableOrdered => "ordered to take calls",
            Why::DisableOrdered => "ordered off",
            Why::Drained => "the last call has ended",
            Why::AddressesChanged => "its addresses changed",
            Why::DisabledInFile => "disabled in the configuration",
            Why::EnabledInFile => "enabled in the configuration",
        }
    }
}

/// Bounded memory of transitions.
#[derive(Debug)]
pub struct Log(VecDeque<Transition>);

impl Log {
    pub const ENTRIES_MAX: usize = 1024;

    pub fn new() -> Log {
        Log(VecDeque::with_capacity(Log::ENTRIES_MAX))
    }

    /// Notes one; the oldest goes when there is no room.
    pub fn note(&mut self, transition: Transition) {
        if self.0.len() == Log::ENTRIES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(transition);
    }

    /// Oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Transition> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_makes_room() {
        let mut log = Log::new();
        for at in 0..=Log::ENTRIES_MAX as u64 {
            log.note(Transition {
                at: Instant::from_micros(at),
                slot: 0,
                from: State::Up,
                to: State::Down,
                why: Why::CallTimedOut,
                address_index: None,
            });
        }
        assert_eq!(log.iter().len(), Log::ENTRIES_MAX);
        assert_eq!(log.iter().next().map(|entry| entry.at.as_micros()), Some(1));
    }
}
