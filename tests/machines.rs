//! The four transaction machines and the timer table, printed: every state and input is one row
//! of a file under `tests/machines/`, so that a change of behaviour is one changed row.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test --test machines` rewrites the files.

use std::fmt::{Debug, Write};
use std::path::Path;

use callgate::transaction::{
    Timer, Timings, client_invite, client_non_invite, server_invite, server_non_invite,
};

/// Prints `step` for each pair, one row each.
fn table<S: Debug + Copy, I: Debug + Copy, A: Debug>(
    states: &[S],
    inputs: &[I],
    step: impl Fn(S, I) -> (S, A),
) -> String {
    let mut text = String::new();
    for &state in states {
        for &input in inputs {
            let (next, action) = step(state, input);
            let (state, input) = (format!("{state:?}"), format!("{input:?}"));
            let next = format!("{next:?}");
            writeln!(text, "{state:<10} {input:<14} -> {next:<10} {action:?}")
                .expect("a String takes everything");
        }
    }
    text
}

/// Fails with the rows that differ from the file; rewrites the file when asked to.
fn compare(name: &str, printed: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/machines/{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, printed).expect("the snapshot is writable");
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = differing_rows(&kept, printed);
    assert!(
        differing.is_empty(),
        "{} differs (UPDATE_SNAPSHOTS=1 rewrites it):\n{differing}",
        path.display(),
    );
}

fn differing_rows(kept: &str, printed: &str) -> String {
    let mut rows = String::new();
    for row in kept
        .lines()
        .filter(|row| !printed.lines().any(|other| other == *row))
    {
        writeln!(rows, "- {row}").expect("a String takes everything");
    }
    for row in printed
        .lines()
        .filter(|row| !kept.lines().any(|other| other == *row))
    {
        writeln!(rows, "+ {row}").expect("a String takes everything");
    }
    rows
}

#[test]
fn client_invite_is_as_printed() {
    use client_invite::{Input, State, step};
    compare("client_invite", &table(State::ALL, Input::ALL, step));
}

#[test]
fn client_non_invite_is_as_printed() {
    use client_non_invite::{Input, State, step};
    compare("client_non_invite", &table(State::ALL, Input::ALL, step));
}

#[test]
fn server_invite_is_as_printed() {
    use server_invite::{Input, State, step};
    compare("server_invite", &table(State::ALL, Input::ALL, step));
}

#[test]
fn server_non_invite_is_as_printed() {
    use server_non_invite::{Input, State, step};
    compare("server_non_invite", &table(State::ALL, Input::ALL, step));
}

#[test]
fn timers_start_as_printed() {
    let timings = Timings::default();
    let mut text = String::from("timer  unreliable  reliable\n");
    for &timer in Timer::ALL {
        let value = |reliable| match timings.first(timer, reliable) {
            Some(span) => format!("{span:?}"),
            None => "-".to_string(),
        };
        let (name, udp, tcp) = (format!("{timer:?}"), value(false), value(true));
        writeln!(text, "{name:<6} {udp:<11} {tcp}").expect("a String takes everything");
    }
    compare("timers", &text);
}

#[test]
fn a_differing_row_is_shown_from_both_sides() {
    assert_eq!(differing_rows("a 1\nb 2\n", "a 1\nb 3\n"), "- b 2\n+ b 3\n");
    assert_eq!(differing_rows("a 1\n", "a 1\n"), "");
}

#[test]
fn what_is_terminated_stays_terminated() {
    for &input in client_invite::Input::ALL {
        let (next, _) = client_invite::step(client_invite::State::Terminated, input);
        assert_eq!(next, client_invite::State::Terminated);
    }
    for &input in server_invite::Input::ALL {
        let (next, _) = server_invite::step(server_invite::State::Terminated, input);
        assert_eq!(next, server_invite::State::Terminated);
    }
}
