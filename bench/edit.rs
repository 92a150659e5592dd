//! What a proxy does to an INVITE on its way: the splices of RFC 3261 §16.6, and an answer.

use std::hint::black_box;
use std::net::SocketAddr;

use callgate::base::Cursor;
use callgate::sip::{Edit, Message, Scratch, compose, parse, validate_request};
use criterion::{Criterion, criterion_group, criterion_main};

mod messages;

/// In the order in which a shard makes these changes.
fn forward(edit: &mut Edit, message: &Message<'_>, source: SocketAddr, out: &mut Cursor<'_>) {
    edit.begin();
    edit.replace_request_uri(message, b"sip:+4930123456@198.51.100.10:5060");
    edit.stamp_top_via(message, source);
    edit.insert_top_via(message, |out| {
        out.put(b"SIP/2.0/UDP 203.0.113.7:5060;branch=z9hG4bK");
        out.put_hex(0x0123_4567_89ab_cdef);
    });
    edit.decrement_max_forwards(message);
    edit.insert_record_route(message, |out| out.put(b"<sip:203.0.113.7:5060;lr>"));
    edit.write(message.bytes(), out).expect("a sound edit");
}

fn editing(criterion: &mut Criterion) {
    let variants = messages::shuffled_invites(512);
    let mut scratch = Scratch::new(128);
    let mut edit = Edit::new(16, 1024);
    let mut buffer = vec![0; 4096];
    let source = "192.0.2.10:5060".parse().expect("a literal");
    let mut next = 0;
    // What is edited was validated, which reads the top Via: the difference of these two is the edit.
    criterion.bench_function("edit/parse and validate 512 INVITEs", |bencher| {
        bencher.iter(|| {
            next = (next + 1) % variants.len();
            let message = parse(black_box(&variants[next]), &mut scratch).expect("sound");
            validate_request(&message).expect("valid");
            let out = Cursor::new(&mut buffer);
            out.len()
        });
    });
    criterion.bench_function("edit/parse, validate and forward 512 INVITEs", |bencher| {
        bencher.iter(|| {
            next = (next + 1) % variants.len();
            let message = parse(black_box(&variants[next]), &mut scratch).expect("sound");
            validate_request(&message).expect("valid");
            let mut out = Cursor::new(&mut buffer);
            forward(&mut edit, &message, black_box(source), &mut out);
            out.len()
        });
    });
    criterion.bench_function("edit/parse and answer 512 INVITEs", |bencher| {
        let asker = compose::Asker {
            source,
            feedback: None,
        };
        bencher.iter(|| {
            next = (next + 1) % variants.len();
            let message = parse(black_box(&variants[next]), &mut scratch).expect("sound");
            let mut out = Cursor::new(&mut buffer);
            compose::response(&mut out, &message, asker, 100, "Trying", None, &[]);
            out.len()
        });
    });
}

criterion_group!(benches, editing);
criterion_main!(benches);
