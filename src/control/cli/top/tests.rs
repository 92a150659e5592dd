//! The screen on a desk: keys go in, text comes out.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::feed::{Detail, Snapshot, Wanted};
use super::screen::{Act, Page, Screen};
use super::view::Look;
use super::{frame, interval};

const LOOK: Look = Look {
    has_colour: false,
    has_blocks: true,
};

fn trunk(name: &str, state: &str, calls: u32, calls_max: Option<u32>) -> Value {
    json!({
        "name": name, "state": state, "since_s": 60, "rtt_ms": 1.25,
        "addresses": ["192.0.2.1:5060"],
        "limits": {
            "kind": "trunk", "name": name, "calls": calls, "calls_peak": calls,
            "calls_max": calls_max, "calls_in": 0, "calls_in_max": null, "calls_out": calls,
            "calls_out_max": null, "cps_sustain": null, "cps_burst": null,
        },
        "admitted_in": 0, "admitted_out": 100, "answered_in": 0, "answered_out": 40,
    })
}

fn call(number: u32, to: &str) -> Value {
    json!({
        "call_id": format!("call-{number}@test"), "state": "answered", "trunk_in": "callers",
        "trunk_out": "carrier-a", "age_s": 75.0, "answered_s": 70.0, "caller": "192.0.2.9:5060",
        "callee": "192.0.2.1:5060", "from": "sip:alice@example.com", "to": to, "shard": 0,
    })
}

fn shard(received: u64) -> Value {
    json!({
        "shard": 0, "cpu": 0, "state": "running", "beat_age_ms": 1, "calls": 3, "dialogs": 3,
        "dialogs_max": 100, "server_transactions": 0, "client_transactions": 0,
        "transactions_max": 100, "stored_bytes": 0, "stored_bytes_max": 1, "timers": 0,
        "datagrams_received": received, "datagrams_sent": received, "handed_over": 0,
        "restarts": 0, "tick_us": 750, "wakes_per_s": 1000.0, "datagrams_per_wake": 2.0,
        "queue_wait_ms": 0.5, "queue_fill_percent": 1, "shed": 0.25, "shed_silently": 0.0,
    })
}

/// A look at a node with three calls, two seconds after the one before.
fn snapshot(turn: u64, wanted: Wanted, detail: Option<&str>) -> Snapshot {
    let status = json!({
        "name": "edge1", "version": "0.1.0", "uptime_s": 2 * turn, "now_ms": 2000 * turn,
        "state": "ready", "config": null, "listeners": [], "shards": [shard(700 * turn)],
        "shards_running": 1, "io": "uring", "io_why": "", "steering": false, "steering_why": "",
        "handed_over": 0, "calls": 3, "restarts": 0,
    });
    let mut trunks = vec![
        trunk("callers", "up", 3, None),
        trunk("carrier-a", "probing", 10, Some(20)),
    ];
    for row in &mut trunks {
        row["admitted_out"] = json!(100 * turn);
        row["answered_out"] = json!(40 * turn);
    }
    let calls = [
        call(1, "Bob <sip:bob@example.com>;tag=2"),
        call(2, "sip:\u{1b}[2Jcarol@example.com"),
        call(3, "sip:bob@example.net"),
    ];
    let read = "rows as the node writes them";
    Snapshot {
        status: serde_json::from_value(status).expect(read),
        trunks: trunks
            .into_iter()
            .map(|row| serde_json::from_value(row).expect(read))
            .collect(),
        calls: calls
            .into_iter()
            .map(|row| serde_json::from_value(row).expect(read))
            .collect(),
        calls_cut: false,
        wanted,
        detail: detail.map(str::to_owned),
    }
}

fn screen() -> Screen {
    let mut screen = Screen::new(LOOK);
    screen.show(Ok(snapshot(1, Wanted::default(), None)));
    screen.show(Ok(snapshot(2, Wanted::default(), None)));
    screen
}

fn press(screen: &mut Screen, code: KeyCode) -> Act {
    screen.on_key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn text(screen: &Screen) -> String {
    frame(screen, (80, 24))
}

fn line<'t>(text: &'t str, start: &str) -> &'t str {
    let found = text
        .lines()
        .find(|line| line.trim_start().starts_with(start));
    found.unwrap_or_else(|| panic!("no line starts with {start}:\n{text}"))
}

#[test]
fn one_screen_of_80_by_24_tells_shards_trunks_and_calls() {
    let text = text(&screen());
    assert_eq!(text.lines().count(), 24);
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    assert!(
        text.starts_with("callgate edge1  ready  up 4s  3 calls  1 of 1 shards\n"),
        "{text}"
    );
    // 700 datagrams in two seconds of the node's clock.
    let shard = line(&text, "0   0 running");
    assert!(
        shard.contains(" 350 ") && shard.contains("tick 750 us"),
        "{shard}"
    );
    let trunk = line(&text, "carrier-a");
    for word in ["probing", "█████░░░░░", "10/20", "50.0", "40%", "1.2ms"] {
        assert!(trunk.contains(word), "{word}: {trunk}");
    }
    assert!(
        !line(&text, "callers").contains('░'),
        "no limit, no bar: {text}"
    );
    assert!(
        text.contains("3 calls\n") && text.contains(" alice             bob"),
        "{text}"
    );
    assert!(
        text.trim_end().ends_with("q quit"),
        "the keys are shown: {text}"
    );
}

#[test]
fn what_peers_wrote_does_not_steer_the_terminal() {
    let text = text(&screen());
    assert!(
        !text.contains('\u{1b}') && text.contains("?[2Jcarol"),
        "{text}"
    );
}

#[test]
fn a_small_or_a_large_terminal_is_no_reason_to_fall() {
    for size in [(1, 1), (20, 5), (40, 10), (300, 100)] {
        let text = frame(&screen(), size);
        assert_eq!(text.lines().count(), usize::from(size.1));
    }
    assert!(frame(&Screen::new(LOOK), (80, 24)).starts_with("asking the node"));
}

#[test]
fn a_filter_is_typed_kept_and_dropped() {
    let mut screen = screen();
    press(&mut screen, KeyCode::Char('/'));
    for letter in "EXAMPLE.NETq".chars() {
        press(&mut screen, KeyCode::Char(letter));
    }
    assert!(text(&screen).contains("filter: EXAMPLE.NETq_"));
    press(&mut screen, KeyCode::Backspace);
    press(&mut screen, KeyCode::Enter);
    let filtered = text(&screen);
    assert!(
        filtered.contains("1 calls with \"EXAMPLE.NET\""),
        "{filtered}"
    );
    press(&mut screen, KeyCode::Esc);
    assert!(text(&screen).contains("3 calls\n"));
}

#[test]
fn enter_opens_the_selected_call_and_esc_goes_back() {
    let mut screen = screen();
    press(&mut screen, KeyCode::Down);
    let wanted = Wanted {
        trunk: None,
        detail: Detail::Call("call-2@test".to_owned()),
    };
    assert_eq!(press(&mut screen, KeyCode::Enter), Act::Ask(wanted.clone()));
    assert!(text(&screen).contains("asking the node"));
    // A look that was under way brings another answer than the one that is wanted.
    screen.show(Ok(snapshot(3, Wanted::default(), None)));
    assert!(text(&screen).contains("asking the node"));
    let ladder: String = (1..=40).map(|number| format!("rung {number}\n")).collect();
    screen.show(Ok(snapshot(4, wanted, Some(&ladder))));
    assert!(
        text(&screen).contains("call call-2@test\nrung 1\n"),
        "{}",
        text(&screen)
    );
    press(&mut screen, KeyCode::PageDown);
    assert!(text(&screen).contains("call call-2@test\nrung 11\n"));
    press(&mut screen, KeyCode::End);
    press(&mut screen, KeyCode::Down);
    assert!(text(&screen).contains("call call-2@test\nrung 40\n"));
    assert_eq!(
        press(&mut screen, KeyCode::Esc),
        Act::Ask(Wanted::default())
    );
    assert_eq!(screen.page, Page::Overview);
}

#[test]
fn long_decisions_are_folded_behind_their_time_and_the_ladder_is_not_cut() {
    let mut screen = screen();
    press(&mut screen, KeyCode::Enter);
    let ladder = "    0.000 |-- INVITE + body -------------->|                                |";
    let told = format!(
        "     3.739 s ago  INVITE from 127.0.0.1:5070: trunk carrier (its address and port), which \
         is a long story with a word-that-has-no-blank-{}\n{ladder}\n",
        "x".repeat(90)
    );
    let wanted = screen.wanted.clone();
    screen.show(Ok(snapshot(3, wanted, Some(&told))));
    let text = text(&screen);
    let lines: Vec<&str> = text.lines().map(str::trim_end).skip(2).take(5).collect();
    assert_eq!(
        lines[..2],
        [
            "     3.739 s ago  INVITE from 127.0.0.1:5070: trunk carrier (its address and",
            "                  port), which is a long story with a",
        ]
    );
    assert!(lines[2].starts_with("                  word-that-has-no-blank-xxx"));
    assert_eq!(lines[3], ladder.trim_end());
}

#[test]
fn trunks_are_opened_and_narrow_the_list_of_calls() {
    let mut screen = screen();
    press(&mut screen, KeyCode::Tab);
    press(&mut screen, KeyCode::End);
    let only = Wanted {
        trunk: Some("carrier-a".to_owned()),
        detail: Detail::Nothing,
    };
    assert_eq!(press(&mut screen, KeyCode::Char('t')), Act::Ask(only));
    assert!(text(&screen).contains("3 calls over carrier-a"));
    let opened = Wanted {
        trunk: Some("carrier-a".to_owned()),
        detail: Detail::Trunk("carrier-a".to_owned()),
    };
    assert_eq!(press(&mut screen, KeyCode::Enter), Act::Ask(opened));
    press(&mut screen, KeyCode::Esc);
    assert_eq!(
        press(&mut screen, KeyCode::Char('c')),
        Act::Ask(Wanted::default())
    );
}

#[test]
fn the_selection_stays_on_its_call_when_others_end() {
    let mut screen = screen();
    press(&mut screen, KeyCode::End);
    let mut later = snapshot(3, Wanted::default(), None);
    later.calls.remove(0);
    screen.show(Ok(later));
    let calls = screen.calls();
    assert_eq!(calls[screen.call_at(&calls)].call_id, "call-3@test");
}

#[test]
fn a_picture_that_is_held_stays_and_a_node_that_is_gone_is_told() {
    let mut screen = screen();
    press(&mut screen, KeyCode::Char(' '));
    screen.show(Ok(snapshot(9, Wanted::default(), None)));
    assert!(
        text(&screen).starts_with("callgate edge1  ready  up 4s"),
        "held"
    );
    assert!(text(&screen).contains("PAUSED"));
    screen.show(Err(
        "no node reached at /run/x: no node listens on it".to_owned()
    ));
    assert!(text(&screen).starts_with("no node reached at /run/x: no node listens on it; trying"));
    press(&mut screen, KeyCode::Char(' '));
    // Started again: its clock and its counters begin anew.
    screen.show(Ok(snapshot(1, Wanted::default(), None)));
    assert!(text(&screen).starts_with("callgate edge1  ready  up 2s"));
    assert_eq!(screen.rates.calls("carrier-a"), None);
}

#[test]
fn help_names_every_key_and_quitting_works_everywhere() {
    let mut screen = screen();
    press(&mut screen, KeyCode::Char('?'));
    let help = text(&screen);
    for key in [
        "Tab",
        "Enter",
        "PgUp",
        "Space",
        "Ctrl-C",
        "ASR",
        "goes back",
    ] {
        assert!(help.contains(key), "{key}: {help}");
    }
    assert!(
        press(&mut screen, KeyCode::Char('x')) == Act::Nothing && screen.page == Page::Overview
    );
    press(&mut screen, KeyCode::Char('/'));
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.on_key(control_c), Act::Quit);
    press(&mut screen, KeyCode::Esc);
    assert_eq!(press(&mut screen, KeyCode::Char('q')), Act::Quit);
}

#[test]
fn an_interval_is_within_reason() {
    assert!(interval("500ms").is_ok() && interval("1m").is_ok());
    assert!(interval("1ms").is_err() && interval("2h").is_err() && interval("soon").is_err());
}
