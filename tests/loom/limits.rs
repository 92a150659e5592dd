//! The counters of the limits: checked and taken in one step, whoever else is at it.

use loom::sync::Arc;
use loom::thread;

use crate::base::Instant;
use crate::limit::{Cps, Direction, Limits, Maxima, SlotId};

const TRUNK: SlotId = SlotId(0);
const GROUP: SlotId = SlotId(1);
const NOW: Instant = Instant::from_micros(5_000_000);

/// Claims about the limits.
pub const CHECKS: &[(&str, fn())] = &[
    ("of_two_calls_for_the_last_place_one_gets_it", last_place),
    ("a_call_counts_in_all_its_slots_or_in_none", all_or_none),
    ("the_last_share_of_a_rate_is_taken_once", last_share),
    ("a_share_taken_for_a_refused_call_comes_back", refund),
    ("a_restored_call_is_counted_beside_a_new_one", restore),
    ("a_lowered_maximum_binds_those_who_come_later", lowered),
    ("the_peak_is_as_high_as_it_ever_was", peak),
];

fn limits(trunk: Maxima, group: Maxima) -> Arc<Limits> {
    let limits = Limits::new(2);
    limits.set(TRUNK, &trunk);
    limits.set(GROUP, &group);
    Arc::new(limits)
}

fn calls(max: u32) -> Maxima {
    Maxima {
        calls_max: Some(max),
        ..Maxima::default()
    }
}

/// Runs `act` in two threads; what they came to.
fn twice<T: Send + 'static>(
    limits: &Arc<Limits>,
    act: impl Fn(&Limits, Direction) -> T + Copy + Send + 'static,
) -> [T; 2] {
    let other = Arc::clone(limits);
    let other = thread::spawn(move || act(&other, Direction::Out));
    let own = act(limits, Direction::In);
    [own, other.join().expect("no panic")]
}

fn last_place() {
    let limits = limits(calls(1), Maxima::default());
    let admit = |limits: &Limits, direction| limits.admit(direction, &[TRUNK], NOW).ok();
    let leases = twice(&limits, admit);
    assert_eq!(leases.iter().flatten().count(), 1);
    assert_eq!(limits.total_used(), 1);
    leases
        .into_iter()
        .flatten()
        .for_each(|lease| limits.give_back(lease));
    assert_eq!(limits.total_used(), 0);
}

fn all_or_none() {
    let limits = limits(calls(2), calls(1));
    let call = |limits: &Limits, direction| {
        let lease = limits.admit(direction, &[TRUNK, GROUP], NOW);
        assert!(limits.used(GROUP).total() <= 1);
        if let Ok(lease) = lease {
            limits.give_back(lease);
        }
    };
    twice(&limits, call);
    assert_eq!(limits.total_used(), 0);
}

fn one_a_second() -> Maxima {
    Maxima {
        cps: Some(Cps {
            sustain: 1.0,
            burst: 1,
        }),
        ..Maxima::default()
    }
}

fn last_share() {
    let limits = limits(one_a_second(), Maxima::default());
    let call = |limits: &Limits, direction| match limits.admit(direction, &[TRUNK], NOW) {
        Ok(lease) => {
            limits.give_back(lease);
            true
        }
        Err(_) => false,
    };
    let admitted = twice(&limits, call);
    assert_eq!(admitted.iter().filter(|is| **is).count(), 1);
    assert_eq!(limits.total_used(), 0);
}

fn refund() {
    // The trunk has two shares and the group one: who is refused by the group keeps none.
    let two = Maxima {
        cps: Some(Cps {
            sustain: 1.0,
            burst: 2,
        }),
        ..Maxima::default()
    };
    let limits = limits(two, one_a_second());
    let call = |limits: &Limits, direction| {
        let lease = limits.admit(direction, &[TRUNK, GROUP], NOW).ok();
        lease.map(|lease| limits.give_back(lease)).is_some()
    };
    let admitted = twice(&limits, call);
    assert_eq!(admitted.iter().filter(|is| **is).count(), 1);
    let lease = limits
        .admit(Direction::In, &[TRUNK], NOW)
        .expect("the share that came back");
    limits.give_back(lease);
    assert!(limits.admit(Direction::In, &[TRUNK], NOW).is_err());
}

fn restore() {
    let limits = limits(calls(1), Maxima::default());
    let act = |limits: &Limits, direction| match direction {
        Direction::In => Some(limits.restore(direction, &[TRUNK])),
        Direction::Out => limits.admit(direction, &[TRUNK], NOW).ok(),
    };
    let leases = twice(&limits, act);
    assert!(leases[0].is_some());
    assert_eq!(limits.total_used(), leases.iter().flatten().count() as u64);
    leases
        .into_iter()
        .flatten()
        .for_each(|lease| limits.give_back(lease));
    assert_eq!(limits.total_used(), 0);
}

fn lowered() {
    let limits = limits(calls(2), Maxima::default());
    let act = |limits: &Limits, direction| match direction {
        Direction::In => {
            limits.set(TRUNK, &calls(0));
            None
        }
        Direction::Out => limits.admit(direction, &[TRUNK], NOW).ok(),
    };
    let leases = twice(&limits, act);
    assert!(limits.admit(Direction::In, &[TRUNK], NOW).is_err());
    leases
        .into_iter()
        .flatten()
        .for_each(|lease| limits.give_back(lease));
    assert_eq!(limits.total_used(), 0);
}

fn peak() {
    let limits = limits(Maxima::default(), Maxima::default());
    let admit = |limits: &Limits, direction| limits.admit(direction, &[TRUNK], NOW);
    let leases = twice(&limits, admit);
    assert_eq!(limits.peak(TRUNK), 2);
    leases
        .into_iter()
        .flatten()
        .for_each(|lease| limits.give_back(lease));
}
