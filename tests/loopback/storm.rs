//! A storm of calls that ends in every way a call can end, and the zero that must be left.

use crate::support::node::{Node, Setup};
use crate::support::storm::{Ending, Storm};
use crate::support::{alone, seconds};

fn storm_leaves_zero(shards: &str, io: &'static str, calls: usize) {
    let _alone = alone();
    let storm = Storm::new();
    let mut setup = Setup::new(format!(
        "[trunk.caller]\naddress = [\"{}\"]\ncalls_in_max = 5000\n\
         [trunk.callee]\naddress = [\"{}\"]\n\
         [group.farm]\nmembers = [\"callee\"]\ncalls_max = 5000\n[[route]]\nto = \"farm\"\n",
        storm.caller_address(),
        storm.callee_address()
    ));
    setup.shards = shards.to_owned();
    setup.io = io;
    // Silence ends after 64 * T1 = 1.28 s, ringing after timer C = 2 s.
    setup.timers = "t1 = \"20ms\"\nt2 = \"80ms\"\nt4 = \"100ms\"\ntimer_c = \"2s\"".to_owned();
    setup.dialogs = 50_000;
    setup.transactions = 200_000;
    let node = Node::start(&setup);
    let tally = storm.run(node.address, calls, 1000);
    assert!(
        tally.faults.is_empty(),
        "{} faults, the first: {}",
        tally.faults.len(),
        tally.faults[0]
    );
    let first: Vec<_> = tally.unfinished.iter().take(10).collect();
    assert_eq!(
        tally.finished, calls,
        "calls without an end: {first:?} and more; {:?}",
        tally.answers
    );
    for ending in Ending::ALL {
        // One in a hundred of its turns is taken by silence.
        let wanted = calls / Ending::ALL.len() * 9 / 10;
        let answered = tally.answered(ending);
        assert!(
            answered >= wanted,
            "{ending:?}: {answered} of {wanted}: {:?}",
            tally.answers
        );
    }
    node.is_quiet_within(seconds(15));
}

#[test]
fn a_storm_of_100000_calls_that_end_in_every_way_leaves_every_counter_at_zero() {
    storm_leaves_zero("2", "auto", 100_000);
}

#[test]
fn a_storm_over_four_shards_by_mmsg_leaves_every_counter_at_zero() {
    storm_leaves_zero("4", "mmsg", 12_000);
}
