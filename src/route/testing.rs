//! Plans for the tests of this layer.

use super::plan::{LimitMaxima, Trunk};

/// A trunk with these addresses, no probe and nothing limited.
pub fn trunk(name: &str, slot: u16, addresses: &[&str]) -> Trunk {
    Trunk {
        name: name.to_owned(),
        slot,
        group_slots: Vec::new(),
        addresses: addresses
            .iter()
            .map(|address| address.parse().expect("a literal address"))
            .collect(),
        sources: Vec::new(),
        limits: LimitMaxima::default(),
        codecs: Vec::new(),
        probe: None,
        auto_congest: None,
        session_expires: None,
        call_time_max: None,
        over_limit: None,
        cseq_strict: false,
        oc: false,
        disabled: false,
        line: 1,
    }
}
