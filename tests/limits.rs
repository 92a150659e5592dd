//! Limits from outside: what is admitted, what is refused and why, and that the counters are exact
//! when many threads fight over them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use callgate::base::{Instant, Random};
use callgate::limit::{Cps, Direction, Lease, Limits, Maxima, Refused, SlotId, Used, Why};

const TRUNK: SlotId = SlotId(0);
const GROUP: SlotId = SlotId(1);
const OTHER: SlotId = SlotId(2);
const NOW: Instant = Instant::from_micros(5_000_000);
const BOTH: [Direction; 2] = [Direction::In, Direction::Out];

fn calls(in_calls: u32, out_calls: u32) -> Used {
    Used {
        in_calls,
        out_calls,
    }
}

fn refused(slot: SlotId, why: Why) -> Result<Lease, Refused> {
    Err(Refused { slot, why })
}

/// Admits until refused.
fn fill(limits: &Limits, direction: Direction, slots: &[SlotId]) -> (Vec<Lease>, Refused) {
    let mut leases = Vec::new();
    loop {
        match limits.admit(direction, slots, NOW) {
            Ok(lease) => leases.push(lease),
            Err(refused) => return (leases, refused),
        }
    }
}

fn empty(limits: &Limits, leases: Vec<Lease>) {
    for lease in leases {
        limits.give_back(lease);
    }
}

#[test]
fn each_direction_has_its_maximum_and_both_share_one() {
    let limits = Limits::new(1);
    limits.set(
        TRUNK,
        &Maxima {
            calls_max: Some(5),
            calls_in_max: Some(3),
            calls_out_max: Some(4),
            cps: None,
        },
    );
    let (ins, why) = fill(&limits, Direction::In, &[TRUNK]);
    assert_eq!((ins.len(), why.why), (3, Why::CallsInMax));
    let (outs, why) = fill(&limits, Direction::Out, &[TRUNK]);
    assert_eq!((outs.len(), why.why), (2, Why::CallsMax));
    assert_eq!(limits.used(TRUNK), calls(3, 2));
    empty(&limits, ins);
    let (more, why) = fill(&limits, Direction::Out, &[TRUNK]);
    assert_eq!((more.len(), why.why), (2, Why::CallsOutMax));
    empty(&limits, outs);
    empty(&limits, more);
    assert_eq!((limits.total_used(), limits.peak(TRUNK)), (0, 5));
}

#[test]
fn a_slot_without_maxima_counts_and_never_refuses() {
    let limits = Limits::new(3);
    let leases: Vec<_> = (0..1000)
        .map(|i| limits.admit(BOTH[i % 2], &[TRUNK, OTHER], NOW).unwrap())
        .collect();
    assert_eq!(limits.used(TRUNK), calls(500, 500));
    assert_eq!(limits.used(GROUP), calls(0, 0));
    assert_eq!(limits.total_used(), 2000);
    empty(&limits, leases);
    assert_eq!(limits.total_used(), 0);
}

#[test]
fn a_call_refused_by_the_last_slot_leaves_no_trace_in_the_others() {
    let limits = Limits::new(3);
    let slow = Cps {
        sustain: 0.001,
        burst: 1,
    };
    limits.set(
        TRUNK,
        &Maxima {
            cps: Some(slow),
            ..Maxima::default()
        },
    );
    limits.set(
        OTHER,
        &Maxima {
            calls_max: Some(0),
            ..Maxima::default()
        },
    );
    let all = [TRUNK, GROUP, OTHER];
    assert_eq!(
        limits.admit(Direction::In, &all, NOW),
        refused(OTHER, Why::CallsMax)
    );
    assert_eq!(limits.total_used(), 0);
    assert_eq!(limits.peak(GROUP), 0);
    let lease = limits
        .admit(Direction::In, &[TRUNK], NOW)
        .expect("its one token is still there");
    limits.give_back(lease);
}

#[test]
fn a_rate_token_comes_back_when_a_later_rate_refuses() {
    let limits = Limits::new(2);
    let rate = |burst| Maxima {
        cps: Some(Cps {
            sustain: 0.5,
            burst,
        }),
        ..Maxima::default()
    };
    limits.set(TRUNK, &rate(2));
    limits.set(GROUP, &rate(1));
    limits.give_back(limits.admit(Direction::Out, &[TRUNK, GROUP], NOW).unwrap());
    let cps = Why::Cps { retry_after_s: 2 };
    for _ in 0..5 {
        assert_eq!(
            limits.admit(Direction::Out, &[TRUNK, GROUP], NOW),
            refused(GROUP, cps)
        );
    }
    assert_eq!(limits.total_used(), 0);
    limits.give_back(limits.admit(Direction::Out, &[TRUNK], NOW).unwrap());
    assert_eq!(
        limits.admit(Direction::Out, &[TRUNK], NOW),
        refused(TRUNK, cps)
    );
}

#[test]
fn a_call_refused_for_its_number_uses_up_no_rate() {
    let limits = Limits::new(1);
    let maxima = Maxima {
        calls_max: Some(1),
        cps: Some(Cps {
            sustain: 0.001,
            burst: 2,
        }),
        ..Maxima::default()
    };
    limits.set(TRUNK, &maxima);
    let first = limits.admit(Direction::In, &[TRUNK], NOW).unwrap();
    for _ in 0..10 {
        assert_eq!(
            limits.admit(Direction::In, &[TRUNK], NOW),
            refused(TRUNK, Why::CallsMax)
        );
    }
    limits.give_back(first);
    limits.give_back(limits.admit(Direction::In, &[TRUNK], NOW).unwrap());
}

#[test]
fn a_lowered_maximum_keeps_live_calls_and_refuses_new_ones_until_there_is_room() {
    let limits = Limits::new(1);
    let mut leases: Vec<_> = (0..10)
        .map(|_| limits.admit(Direction::In, &[TRUNK], NOW).unwrap())
        .collect();
    limits.set(
        TRUNK,
        &Maxima {
            calls_max: Some(4),
            ..Maxima::default()
        },
    );
    assert_eq!(limits.used(TRUNK), calls(10, 0));
    while leases.len() >= 4 {
        assert_eq!(
            limits.admit(Direction::In, &[TRUNK], NOW),
            refused(TRUNK, Why::CallsMax)
        );
        limits.give_back(leases.pop().unwrap());
    }
    leases.push(limits.admit(Direction::In, &[TRUNK], NOW).unwrap());
    empty(&limits, leases);
    assert_eq!(limits.total_used(), 0);
}

#[test]
fn a_restored_call_counts_even_above_the_maximum() {
    let limits = Limits::new(2);
    limits.set(
        TRUNK,
        &Maxima {
            calls_max: Some(1),
            ..Maxima::default()
        },
    );
    let leases: Vec<_> = (0..3)
        .map(|_| limits.restore(Direction::Out, &[TRUNK, GROUP]))
        .collect();
    assert_eq!((limits.used(TRUNK), limits.peak(GROUP)), (calls(0, 3), 3));
    assert_eq!(leases[0].slots(), [TRUNK, GROUP]);
    assert_eq!(leases[0].direction(), Direction::Out);
    empty(&limits, leases);
    assert_eq!(limits.total_used(), 0);
}

#[test]
fn a_lease_is_small_and_a_lost_one_is_counted() {
    assert!(size_of::<Lease>() <= 24);
    assert_eq!(size_of::<Option<Lease>>(), size_of::<Lease>());
    let limits = Limits::new(1);
    let before = Lease::lost();
    drop(limits.admit(Direction::In, &[TRUNK], NOW).unwrap());
    assert_eq!(Lease::lost(), before + 1);
    assert_eq!(limits.total_used(), 1);
}

#[test]
fn a_storm_of_threads_never_exceeds_a_maximum_and_ends_at_zero() {
    let limits = Limits::new(8);
    for slot in 0..8 {
        limits.set(
            SlotId(slot),
            &Maxima {
                calls_max: Some(40),
                calls_in_max: Some(25),
                calls_out_max: Some(30),
                cps: None,
            },
        );
    }
    let refusals = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..8 {
            let (limits, refusals) = (&limits, &refusals);
            scope.spawn(move || {
                let mut random = Random::new([thread, 0, 0, 0]);
                let mut held = Vec::new();
                for _ in 0..50_000 {
                    storm_step(limits, &mut random, &mut held, refusals);
                }
                empty(limits, held);
            });
        }
    });
    assert!(refusals.into_inner() > 1000, "the maxima were reached");
    for slot in (0..8).map(SlotId) {
        assert_eq!(limits.used(slot), calls(0, 0));
        assert_eq!(limits.peak(slot), 40);
    }
}

/// Admits or gives back one call at random and looks that no slot is above its maxima.
fn storm_step(limits: &Limits, random: &mut Random, held: &mut Vec<Lease>, refusals: &AtomicU64) {
    if random.below(100) < 55 {
        let first = random.below(8) as u16;
        let len = 1 + random.below(8) as u16;
        let slots: Vec<_> = (first..first + len).map(|slot| SlotId(slot % 8)).collect();
        match limits.admit(BOTH[random.below(2) as usize], &slots, NOW) {
            Ok(lease) => held.push(lease),
            Err(_) => drop(refusals.fetch_add(1, Relaxed)),
        }
    } else if !held.is_empty() {
        let pick = random.below(held.len() as u64) as usize;
        limits.give_back(held.swap_remove(pick));
    }
    let used = limits.used(SlotId(random.below(8) as u16));
    assert!(
        used.in_calls <= 25 && used.out_calls <= 30 && used.total() <= 40,
        "{used:?}"
    );
}

/// Eight threads try far more than the rate allows over a simulated span, each with a clock of its
/// own that runs through the span; together they get the burst and the sustained calls, no more.
#[test]
fn a_rate_is_exact_over_threads() {
    for (sustain, burst) in [(100.0, 150), (1.5, 1), (3333.0, 10)] {
        let limits = Limits::new(2);
        let cps = Some(Cps { sustain, burst });
        limits.set(
            GROUP,
            &Maxima {
                cps,
                ..Maxima::default()
            },
        );
        let span_us = 10_000_000;
        let clock = AtomicU64::new(0);
        let admitted = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    loop {
                        let now = clock.fetch_add(20, Relaxed);
                        if now > span_us {
                            break;
                        }
                        let slots = [TRUNK, GROUP];
                        if let Ok(lease) =
                            limits.admit(Direction::In, &slots, Instant::from_micros(now))
                        {
                            admitted.fetch_add(1, Relaxed);
                            limits.give_back(lease);
                        }
                    }
                });
            }
        });
        let expected = f64::from(burst) + sustain * span_us as f64 / 1e6;
        let got = admitted.into_inner() as f64;
        assert!(
            (got - expected).abs() <= 1.0,
            "{got} of {expected} at {sustain}/s"
        );
        assert_eq!(limits.total_used(), 0);
    }
}

#[test]
fn refunds_are_exact_over_threads() {
    let limits = Limits::new(2);
    let rate = |burst| Maxima {
        cps: Some(Cps {
            sustain: 0.001,
            burst,
        }),
        ..Maxima::default()
    };
    limits.set(TRUNK, &rate(1000));
    limits.set(GROUP, &rate(100));
    let admitted = |slots: &[SlotId]| {
        let admitted = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5000 {
                        if let Ok(lease) = limits.admit(Direction::Out, slots, NOW) {
                            admitted.fetch_add(1, Relaxed);
                            limits.give_back(lease);
                        }
                    }
                });
            }
        });
        admitted.into_inner()
    };
    assert_eq!(admitted(&[TRUNK, GROUP]), 100);
    assert_eq!(admitted(&[TRUNK]), 900);
    assert_eq!(limits.total_used(), 0);
}

#[test]
fn a_storm_with_reloads_under_it_ends_at_zero() {
    let limits = Limits::new(4);
    let slots: Vec<_> = (0..4).map(SlotId).collect();
    thread::scope(|scope| {
        for thread in 0..7 {
            let (limits, slots) = (&limits, &slots);
            scope.spawn(move || {
                let mut random = Random::new([thread, 1, 0, 0]);
                let mut held = Vec::new();
                for at in 0..30_000 {
                    let now = Instant::from_micros(at * 100);
                    let direction = BOTH[random.below(2) as usize];
                    held.extend(limits.admit(direction, slots, now));
                    if random.below(2) == 0 {
                        held.drain(..).for_each(|lease| limits.give_back(lease));
                    }
                }
                empty(limits, held);
            });
        }
        scope.spawn(|| {
            let mut random = Random::new([99; 4]);
            for _ in 0..20_000 {
                let max = random.below(40) as u32;
                let maxima = Maxima {
                    calls_max: Some(max),
                    calls_in_max: max.is_multiple_of(2).then_some(max / 2),
                    calls_out_max: None,
                    cps: max.is_multiple_of(3).then_some(Cps {
                        sustain: f64::from(max) * 100.0,
                        burst: max,
                    }),
                };
                limits.set(slots[random.below(4) as usize], &maxima);
            }
        });
    });
    assert_eq!(limits.total_used(), 0);
    assert!(slots.iter().all(|&slot| limits.peak(slot) > 0));
}
