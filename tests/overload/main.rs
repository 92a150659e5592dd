//! Overload, in simulated time: a real shard with its real controller behind a queue like a
//! socket's, on a machine whose every receive, send and step takes the time that was measured for
//! it, under callers who retransmit by RFC 3261. The same run gives the same figures everywhere;
//! `cargo test --profile proof --test overload -- --nocapture` prints them.

#[path = "../kit/mod.rs"]
#[expect(dead_code, reason = "each user of the kit takes a part of it")]
mod kit;

mod peers;
mod world;

use std::time::Duration;

use callgate::guard::overload::TurnstileKind;

use world::{CAPACITY, CONFIG, Load, World};

/// What came of one run: calls per second that went through from begin to end.
struct Goodput {
    during: f64,
    /// In the fifth second after the load fell back to nine tenths of the capacity.
    after: f64,
    report: String,
}

/// Three seconds below capacity, eight seconds of overload, five seconds below capacity again.
fn run(config: &str, load: Load, times: f64) -> Goodput {
    let mut world = World::new(config, load);
    world.offer(CAPACITY * 0.9, Duration::from_secs(3));
    world.offer(CAPACITY * times, Duration::from_secs(8));
    world.offer(CAPACITY * 0.9, Duration::from_secs(5));
    let goodput = Goodput {
        // A second to get there, and none of what is completed when it is over.
        during: world.completed_between(4.0, 11.0),
        after: world.completed_between(15.0, 16.0),
        report: world.report(),
    };
    println!(
        "{times:>4} x the capacity, {}, turnstile {:?}: {:>3.0} % of it, {:>3.0} % after; {}",
        if load.deaf { "deaf" } else { "heeding" },
        load.turnstile,
        goodput.during / CAPACITY * 100.0,
        goodput.after / CAPACITY * 100.0,
        goodput.report
    );
    goodput
}

const HEEDING: Load = Load {
    deaf: false,
    turnstile: TurnstileKind::Cheap,
};
const DEAF: Load = Load {
    deaf: true,
    turnstile: TurnstileKind::Cheap,
};
/// The process may not load programs. What a move costs is not simulated, only that there are few.
const UNPRIVILEGED: Load = Load {
    deaf: true,
    turnstile: TurnstileKind::Dear,
};
/// A kernel that has no turnstile for us.
const ALONE: Load = Load {
    deaf: true,
    turnstile: TurnstileKind::Missing,
};

#[test]
fn callers_who_heed_feedback_keep_calls_back_and_the_rest_get_through() {
    for (times, least) in [(2.0, 0.9), (5.0, 0.9), (10.0, 0.88)] {
        let goodput = run(CONFIG, HEEDING, times);
        assert!(
            goodput.during > least * CAPACITY,
            "{times}: {}",
            goodput.during
        );
        assert!(
            goodput.after > 0.88 * CAPACITY,
            "{times}: {}",
            goodput.after
        );
    }
}

#[test]
fn callers_who_heed_nothing_are_turned_away_by_the_kernel_for_nothing() {
    for times in [2.0, 5.0, 10.0] {
        for load in [DEAF, UNPRIVILEGED] {
            let goodput = run(CONFIG, load, times);
            assert!(
                goodput.during > 0.8 * CAPACITY,
                "{times}: {}",
                goodput.during
            );
            assert!(goodput.after > 0.8 * CAPACITY, "{times}: {}", goodput.after);
        }
    }
}

/// A refusal costs three of the thirteen datagrams of a call.
#[test]
fn where_the_kernel_does_not_help_they_cost_what_their_refusals_cost_and_no_more() {
    let goodput = run(CONFIG, ALONE, 2.0);
    assert!(goodput.during > 0.7 * CAPACITY, "{}", goodput.during);
    assert!(goodput.after > 0.88 * CAPACITY, "{}", goodput.after);
    // Nothing is lost on the way and nothing sent again: no call that was let in has suffered.
    assert!(goodput.report.contains("overrun 0 "), "{}", goodput.report);
    assert!(goodput.report.contains("repeated 0"), "{}", goodput.report);
}

/// The same load on the same machine, with the controller off: the reason for all of this.
#[test]
fn without_control_twice_the_capacity_is_the_end_of_most_calls() {
    let config = format!("[overload]\ntarget = \"off\"\n{CONFIG}");
    let goodput = run(&config, DEAF, 2.0);
    assert!(goodput.during < 0.5 * CAPACITY, "{}", goodput.during);
}

#[test]
fn a_run_can_be_repeated() {
    let report = |_| {
        let mut world = World::new(CONFIG, DEAF);
        world.offer(CAPACITY * 3.0, Duration::from_secs(2));
        world.report()
    };
    assert_eq!(report(1), report(2));
}
