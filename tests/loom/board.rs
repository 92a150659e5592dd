//! The board of trunk health: one writer for each row, readers that look at any moment.

use loom::sync::Arc;
use loom::thread;

use super::State;
use super::board::{Board, Phase, Share};
use crate::base::Instant;

/// Claims about the board.
pub const CHECKS: &[(&str, fn())] = &[("a_reader_sees_a_phase_that_was_written_as_one", whole)];

const EARLIER: Phase = Phase {
    state: State::Up,
    share: Share::Whole,
    since: Instant::from_micros(1_000_000),
};
const LATER: Phase = Phase {
    state: State::Probing,
    share: Share::Trial,
    since: Instant::from_micros(9_000_000),
};

fn whole() {
    let board = Arc::new(Board::new(1));
    board.set_phase(0, EARLIER);
    let keeper = Arc::clone(&board);
    let keeper = thread::spawn(move || {
        keeper.set_phase(0, LATER);
        keeper.set_addresses(0, 0b10, 3);
    });
    let now = Instant::from_micros(20_000_000);
    let share = board.share(0, now);
    // Also with the addresses of before or after: both are true a moment ago.
    let address = board.first_alive_address(0, 2, 0);
    assert!([1000, 100].contains(&share), "{share}");
    assert!([None, Some(0), Some(1)].contains(&address), "{address:?}");
    keeper.join().expect("no panic");
    assert_eq!((board.state(0), board.since(0)), (LATER.state, LATER.since));
    assert_eq!((board.alive(0), board.failures(0)), (0b10, 3));
}
