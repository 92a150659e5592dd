//! Instructions per call of a shard, counted by valgrind: the same on each run and each machine of
//! one architecture, so that a change of a percent can be seen where time says nothing.
//!
//! Runs itself under callgrind. `--held N` counts while N answered calls are held.

mod counted;

use counted::{Arguments, MESSAGES, per_call};

fn main() {
    let arguments = Arguments::read();
    if arguments.ran_inside() {
        return;
    }
    let held = arguments.held;
    match per_call(held) {
        Ok(call) => println!(
            "instructions: {call} per call, {} per message received, {held} calls held",
            call / MESSAGES
        ),
        Err(why) => println!("instructions: not counted, {why}"),
    }
}
