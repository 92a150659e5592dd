//! The machine of trunk health, printed: every state and input is one row of
//! `tests/machines/health.txt`, so that a change of behaviour is one changed row.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test --test health` rewrites the file.

use std::fmt::Write;
use std::path::Path;

use callgate::route::health::{Input, State, step};

fn printed() -> String {
    let mut text = String::new();
    for &state in State::ALL {
        for &input in Input::ALL {
            let (next, action) = step(state, input);
            let (state, input) = (format!("{state:?}"), format!("{input:?}"));
            let next = format!("{next:?}");
            writeln!(text, "{state:<8} {input:<18} -> {next:<8} {action:?}")
                .expect("a String takes everything");
        }
    }
    text
}

#[test]
fn health_is_as_printed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines/health.txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, printed()).expect("the snapshot is writable");
        return;
    }
    let kept = std::fs::read_to_string(&path).expect("tests/machines/health.txt");
    for (kept, printed) in kept.lines().zip(printed().lines()) {
        assert_eq!(kept, printed, "UPDATE_SNAPSHOTS=1 rewrites the file");
    }
    assert_eq!(kept.lines().count(), printed().lines().count());
}

#[test]
fn only_an_order_ends_what_an_order_began() {
    let by_order = [Input::EnableProbed, Input::EnableUnprobed, Input::Disable];
    for &input in Input::ALL {
        if !by_order.contains(&input) {
            assert_eq!(step(State::Draining, input).0, State::Draining);
            assert_eq!(step(State::Disabled, input).0, State::Disabled);
        }
    }
}

#[test]
fn a_trunk_that_was_down_needs_two_signs_of_life_to_be_up() {
    for first in [Input::ProbeOk, Input::PassiveOk, Input::HoldOver] {
        assert_eq!(step(State::Down, first).0, State::Probing);
        for second in [Input::ProbeOk, Input::PassiveOk] {
            assert_eq!(step(State::Probing, second).0, State::Up);
        }
    }
}
