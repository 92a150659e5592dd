//! A whole call through one shard, and each of its messages alone, with few and with many held
//! dialogs. Seven messages come in and seven go out; six are forwarded.

use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};

mod walk;

use walk::{BATCH, MESSAGES, STEPS, Walk};

const CALLS_PER_S: u32 = 1000;

/// Runs whole batches until `calls` went through and gives the time that `counted` steps took.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn time(walk: &mut Walk, calls: u64, counted: impl Fn(usize) -> bool) -> Duration {
    let batches = calls.div_ceil(BATCH as u64);
    let mut sum = Duration::ZERO;
    for _ in 0..batches {
        walk.batch(|walk, step| {
            let start = Instant::now();
            walk.run(step);
            if counted(step) {
                sum += start.elapsed();
            }
        });
    }
    sum.mul_f64(calls as f64 / (batches * BATCH as u64) as f64)
}

fn each_step(group: &mut BenchmarkGroup<'_, WallTime>, walk: &mut Walk) {
    group.throughput(Throughput::Elements(1));
    for (at, name) in STEPS.into_iter().enumerate() {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|calls| time(walk, calls, |step| step == at));
        });
    }
}

fn calls(criterion: &mut Criterion) {
    for held in [0, 1_000, 100_000] {
        let mut walk = Walk::new(held, CALLS_PER_S);
        let mut group = criterion.benchmark_group(format!("call, {held} held"));
        // The rate that is printed with it is that of messages.
        group.throughput(Throughput::Elements(MESSAGES));
        group.bench_function("whole", |bencher| {
            bencher.iter_custom(|calls| time(&mut walk, calls, |_| true));
        });
        each_step(&mut group, &mut walk);
        group.finish();
    }
}

criterion_group!(benches, calls);
criterion_main!(benches);
