//! Parsing: one message, and 512 shuffled variants of it, so that the branch predictor cannot
//! learn the message by heart (one fixed message flatters by 2 to 3 times, LIMITS.md §4).

use std::hint::black_box;

use callgate::sip::{HeaderId, Scratch, parse, validate_request};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

mod messages;

fn parsing(criterion: &mut Criterion) {
    let mut scratch = Scratch::new(128);
    let one = messages::invite(0);
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Bytes(one.len() as u64));
    group.bench_function("one INVITE", |bencher| {
        bencher.iter(|| {
            parse(black_box(&one), &mut scratch)
                .expect("sound")
                .fields()
                .len()
        });
    });
    group.finish();

    let variants = messages::shuffled_invites(512);
    // No division between two messages: it would be counted.
    let mut turn = variants.iter().cycle();
    let mut following = || turn.next().expect("some");
    criterion.bench_function("parse/512 shuffled INVITEs", |bencher| {
        bencher.iter(|| {
            parse(black_box(following()), &mut scratch)
                .expect("sound")
                .fields()
                .len()
        });
    });
    criterion.bench_function("parse/512 and read what a proxy reads", |bencher| {
        bencher.iter(|| {
            let message = parse(black_box(following()), &mut scratch).expect("sound");
            let via = message.top_via().expect("sound");
            let cseq = message.cseq().expect("sound");
            (
                via.port,
                cseq.number,
                message.from_tag().map(<[u8]>::len),
                message.count(HeaderId::Route),
            )
        });
    });
    criterion.bench_function("parse/512 and validate", |bencher| {
        bencher.iter(|| {
            let message = parse(black_box(following()), &mut scratch).expect("sound");
            validate_request(&message).is_ok()
        });
    });
}

criterion_group!(benches, parsing);
criterion_main!(benches);
