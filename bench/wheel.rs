//! The timer wheel with a million timers armed, as a shard with many calls has it.

use std::hint::black_box;
use std::time::Duration;

use callgate::base::{Instant, Random, TimerId, Wheel};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const TIMERS: usize = 1_000_000;

/// Deadlines of a call: T1, 64*T1, a session timer, `call_time_max`.
fn deadline(random: &mut Random, now: Instant) -> Instant {
    const SPANS_MS: [u64; 4] = [500, 32_000, 1_800_000, 14_400_000];
    let span_ms = SPANS_MS[random.below(4) as usize];
    now + Duration::from_micros(random.below(span_ms * 1000))
}

fn filled(random: &mut Random) -> (Wheel<u64>, Vec<TimerId>) {
    let mut wheel = Wheel::new(TIMERS + 1, Instant::START);
    let ids = (0..TIMERS as u64)
        .map(|i| wheel.arm(deadline(random, Instant::START), i).unwrap())
        .collect();
    (wheel, ids)
}

fn arm_and_cancel(c: &mut Criterion) {
    let mut random = Random::new([1; 4]);
    let (mut wheel, mut ids) = filled(&mut random);
    let deadlines: Vec<_> = (0..4096)
        .map(|_| deadline(&mut random, Instant::START))
        .collect();
    let mut deadlines = deadlines.iter().cycle();
    let picks: Vec<_> = (0..65_536)
        .map(|_| random.below(TIMERS as u64) as usize)
        .collect();
    let mut picks = picks.iter().cycle();
    c.bench_function(
        "wheel/cancel a random timer and arm another, 1 M armed",
        |b| {
            b.iter(|| {
                let id = &mut ids[*picks.next().unwrap()];
                wheel.cancel(*id);
                *id = wheel.arm(*deadlines.next().unwrap(), 0).unwrap();
            });
        },
    );
    c.bench_function("wheel/arm and cancel the same timer, 1 M armed", |b| {
        b.iter(|| {
            let id = wheel.arm(*deadlines.next().unwrap(), 0).unwrap();
            wheel.cancel(black_box(id))
        });
    });
    c.bench_function("wheel/next_deadline, 1 M armed", |b| {
        b.iter(|| wheel.next_deadline())
    });
}

fn expire(c: &mut Criterion) {
    let mut group = c.benchmark_group("wheel");
    group
        .throughput(Throughput::Elements(TIMERS as u64))
        .sample_size(10);
    group.bench_function("expire 1 M timers over 4 h, ms by ms", |b| {
        b.iter_batched_ref(
            || filled(&mut Random::new([2; 4])).0,
            |wheel| {
                while let Some(now) = wheel.next_deadline() {
                    wheel.expire(now, &mut |what| {
                        black_box(what);
                    });
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("expire 1 M timers after a jump of 4 h", |b| {
        b.iter_batched_ref(
            || filled(&mut Random::new([3; 4])).0,
            |wheel| {
                wheel.expire(Instant::START + Duration::from_secs(14_400), &mut |what| {
                    black_box(what);
                });
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, arm_and_cancel, expire);
criterion_main!(benches);
