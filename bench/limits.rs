//! Admitting a call and giving it back: alone, with its groups and rates, and with another core on
//! the same counters.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use callgate::base::Instant;
use callgate::limit::{Cps, Direction, Limits, Maxima, SlotId};
use criterion::{Criterion, criterion_group, criterion_main};

const NOW: Instant = Instant::from_micros(1_000_000);

fn limits(cps: Option<Cps>) -> Limits {
    let limits = Limits::new(8);
    for slot in (0..8).map(SlotId) {
        limits.set(
            slot,
            &Maxima {
                calls_max: Some(2000),
                calls_in_max: Some(1500),
                calls_out_max: Some(1500),
                cps,
            },
        );
    }
    limits
}

fn call(limits: &Limits, slots: &[SlotId]) {
    if let Ok(lease) = limits.admit(Direction::In, slots, NOW) {
        limits.give_back(lease);
    }
}

fn alone(c: &mut Criterion) {
    let plain = limits(None);
    let rated = limits(Some(Cps {
        sustain: 1e9,
        burst: u32::MAX,
    }));
    let slots: Vec<_> = (0..3).map(SlotId).collect();
    c.bench_function("limits/admit and give back, one slot", |b| {
        b.iter(|| call(&plain, &slots[..1]));
    });
    c.bench_function("limits/admit and give back, trunk and two groups", |b| {
        b.iter(|| call(&plain, &slots));
    });
    c.bench_function(
        "limits/admit and give back, trunk and two groups with cps",
        |b| {
            b.iter(|| call(&rated, &slots));
        },
    );
}

fn contended(c: &mut Criterion) {
    let limits = limits(None);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                call(&limits, &[SlotId(0)]);
            }
        });
        c.bench_function("limits/admit and give back, one slot, two cores", |b| {
            b.iter(|| call(&limits, &[SlotId(0)]));
        });
        done.store(true, Relaxed);
    });
}

criterion_group!(benches, alone, contended);
criterion_main!(benches);
