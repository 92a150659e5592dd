//! What comes from files and operators: configuration, recorded calls, lines of the admin socket.

use callgate::config;
use callgate::control::rpc;
use callgate::dialog::store::{Head, Record, Store, Wall};

use crate::kit::Desk;
use crate::kit::talk::CONFIG;

/// Any text is a configuration, or every fault of it is told with its place.
pub fn config(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else {
        return;
    };
    match config::load(text, "fuzz.toml", &mut config::InOrder::default()) {
        Ok(config) => assert!(!config.plan.listeners.is_empty()),
        Err(report) => {
            let told = report.to_string();
            assert!(
                told.contains("fuzz.toml"),
                "a fault without a place: {told}"
            );
        }
    }
}

/// Calls of a file that anybody wrote: first as it is, then as records under a good checksum.
pub fn state(bytes: &[u8]) {
    let _ = Head::read(bytes);
    let (store, tally) = Store::open(Box::new(bytes.to_vec()), |_, record| {
        let _ = record.forks();
        true
    });
    assert!(store.len() <= tally.calls);
    let mut desk = Desk::new(CONFIG);
    let head = Head::new(4, &desk.shared.owner_key);
    let mut region = vec![0; head.octets()];
    head.write(&mut region);
    let front = bytes.len().min(region.len() - 4096);
    region[4096..4096 + front].copy_from_slice(&bytes[..front]);
    let (mut store, _) = Store::open(Box::new(region), |_, _| true);
    if let Some(record) = Record::decode(bytes) {
        let _ = store.write(None, &record);
    }
    desk.keep_calls_in(store.into_region(), Wall { start_us: 0 });
    assert!(desk.shard.census().calls <= 4);
    desk.wait(core::time::Duration::from_secs(40));
    desk.shard.wind_up();
    assert_eq!(
        desk.shared.limits.total_used(),
        0,
        "leases of recalled calls"
    );
}

/// Any line is a request or a fault, and our answers read back.
pub fn control(line: &[u8]) {
    match rpc::read_request(line) {
        Ok(request) => {
            assert!(request.params.is_object());
            let own = rpc::write_request(1, &request.method, &request.params);
            let again = rpc::read_request(&own).expect("our own request");
            assert_eq!(
                (again.method, again.params),
                (request.method, request.params)
            );
        }
        Err((fault, id)) => {
            let answer = rpc::write_answer(&id, &Err(fault.clone()));
            assert_eq!(answer.iter().filter(|octet| **octet == b'\n').count(), 1);
            let read = rpc::read_answer(&answer).expect("our own answer");
            assert_eq!(read, Err(fault));
        }
    }
    let _ = rpc::read_answer(line);
}
