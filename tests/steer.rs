//! Kernel steering against its user-space twin: what the program in the kernel decides is what
//! `net::owner` says, and what it cannot decide still arrives.
//!
//! These tests load a BPF program. Where that is not permitted they fail and say so, unless
//! CALLGATE_TEST_NO_BPF=1 excuses them.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;

use callgate::base::hash::HashKey;
use callgate::io::steer::{self, Steering};
use callgate::io::{Buffers, Driver, Event, MmsgDriver, Options, Socket, bind_group};
use callgate::net::{Outbox, owner};

const KEY: HashKey = HashKey::new([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);

/// A steered listener on some shards, and one peer with one address and port.
struct Group {
    shards: Vec<MmsgDriver>,
    sockets: Vec<Vec<Arc<Socket>>>,
    steering: Vec<Steering>,
    peer: UdpSocket,
}

impl Group {
    /// `None` where tests with BPF are excused.
    fn new(address: &str, shards: usize) -> Option<Group> {
        if std::env::var_os("CALLGATE_TEST_NO_BPF").is_some_and(|value| value == "1") {
            eprintln!("NOT TESTED: CALLGATE_TEST_NO_BPF=1 leaves steering out");
            return None;
        }
        let any: SocketAddr = address.parse().expect("an address");
        let by_shard = bind_group(&[any], shards, Buffers::default()).expect("a free port");
        let sockets: Vec<Vec<Arc<Socket>>> = by_shard
            .into_iter()
            .map(|sockets| sockets.into_iter().map(Arc::new).collect())
            .collect();
        let steering = steer::attach_all(&sockets, &KEY).unwrap_or_else(|fault| {
            panic!("steering cannot be tested: {fault} (CALLGATE_TEST_NO_BPF=1 leaves it out)")
        });
        let open = |sockets: &Vec<Arc<Socket>>| {
            MmsgDriver::open(sockets, Options::default()).expect("a driver")
        };
        let peer = UdpSocket::bind(any).expect("a free port");
        peer.connect(sockets[0][0].local()).expect("an address");
        Some(Group {
            shards: sockets.iter().map(open).collect(),
            sockets,
            steering,
            peer,
        })
    }

    fn send(&self, bytes: &[u8]) {
        self.peer.send(bytes).expect("sent");
    }

    /// Takes everything that has arrived: (shard, datagram).
    fn arrived(&mut self) -> Vec<(u16, Vec<u8>)> {
        let mut all = Vec::new();
        let mut out = Outbox::new(32, 1 << 18);
        for (shard, driver) in (0..).zip(&mut self.shards) {
            let mut take = |event: Event<'_>, _: &mut Outbox| {
                let Event::Datagram { bytes, .. } = event else {
                    panic!("{event:?}");
                };
                all.push((shard, bytes.to_vec()));
            };
            while 0 < driver
                .turn(Some(Duration::ZERO), &mut out, &mut take)
                .expect("a driver that works")
            {}
        }
        all
    }

    /// The shard that a datagram arrives on.
    fn shard_of(&mut self, bytes: &[u8]) -> u16 {
        self.send(bytes);
        let arrived = self.arrived();
        assert_eq!(arrived.len(), 1, "exactly one shard gets a datagram");
        assert_eq!(arrived[0].1, bytes);
        arrived[0].0
    }

    fn owner(&self, call_id: &[u8]) -> u16 {
        owner(call_id, &KEY, self.shards.len() as u16)
    }
}

fn request(number: usize, call_id: &str) -> Vec<u8> {
    let (method, name) = [
        ("INVITE", "Call-ID"),
        ("ACK", "i"),
        ("BYE", "CALL-ID"),
        ("INFO", "I"),
    ][number % 4];
    // The header stands at different offsets, behind names that begin like it.
    let vias = "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776asdhds\r\n".repeat(number % 6);
    format!(
        "{method} sip:bob@example.com SIP/2.0\r\n{vias}In-Reply-To: x@y\r\nCall-Info: <sip:z>\r\n\
         {name}: {call_id}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

fn every_dialog_stays_with_its_owner(address: &str, shards: usize) {
    let Some(mut group) = Group::new(address, shards) else {
        return;
    };
    let mut per_shard: HashMap<u16, usize> = HashMap::new();
    for dialog in 0..2_000 {
        let call_id = format!("{:x}-{dialog}@198.51.100.{}", dialog * 7_919, dialog % 256);
        let expected = group.owner(call_id.as_bytes());
        for number in 0..8 {
            group.send(&request(number, &call_id));
        }
        let arrived = group.arrived();
        assert_eq!(arrived.len(), 8);
        for (shard, bytes) in arrived {
            assert_eq!(shard, expected, "{}", String::from_utf8_lossy(&bytes));
        }
        *per_shard.entry(expected).or_default() += 1;
    }
    assert_eq!(per_shard.len(), shards, "one source reaches every shard");
}

#[test]
fn every_dialog_of_one_source_stays_with_its_owner() {
    every_dialog_stays_with_its_owner("127.0.0.1:0", 4);
}

#[test]
fn every_dialog_of_one_ipv6_source_stays_with_its_owner() {
    every_dialog_stays_with_its_owner("[::1]:0", 3);
}

/// Headers that the program must decide, each with its value.
#[test]
fn unusual_spellings_are_decided_as_well() {
    let Some(mut group) = Group::new("127.0.0.1:0", 16) else {
        return;
    };
    let long = "x".repeat(128);
    let cases: &[(&str, &str)] = &[
        (
            "\r\n\r\nOPTIONS sip:a SIP/2.0\r\nCall-ID: a@b\r\n\r\n",
            "a@b",
        ),
        ("OPTIONS sip:a SIP/2.0\nCall-ID: a@b\nTo: x\n\n", "a@b"),
        (
            "OPTIONS sip:a SIP/2.0\r\ncAlL-iD \t : \t a@b \t \r\nTo: x\r\n\r\n",
            "a@b",
        ),
        ("OPTIONS sip:a SIP/2.0\r\ni:a@b\r\n\r\n", "a@b"),
        ("OPTIONS sip:a SIP/2.0\r\nI\t:a@b\r\n\r\n", "a@b"),
        (
            "OPTIONS sip:a SIP/2.0\r\n i: folded\r\nCall-ID: a@b\r\n\r\n",
            "a@b",
        ),
        (
            "OPTIONS sip:a SIP/2.0\r\nCall-IDs: no\r\nidentity: no\r\ni: 1\r\n\r\n",
            "1",
        ),
        (
            "OPTIONS sip:a SIP/2.0\r\nCall\rID: no\r\ni: 12345678\r\n\r\n",
            "12345678",
        ),
        (
            "OPTIONS sip:a SIP/2.0\r\ni: first\r\ni: second\r\n\r\n",
            "first",
        ),
        (&format!("A b SIP/2.0\r\ni: {long}\r\n\r\n"), &long),
        (
            &format!(
                "A b SIP/2.0\r\nX: {}\r\ni: far@away\r\n\r\n",
                "y".repeat(1_990)
            ),
            "far@away",
        ),
    ];
    for (text, value) in cases {
        let expected = group.owner(value.as_bytes());
        assert_eq!(group.shard_of(text.as_bytes()), expected, "{text}");
    }
    // Every length of value, every alignment of its beginning.
    for len in 1..=128 {
        let value = "0123456789abcdef".repeat(8)[..len].to_owned();
        let text = format!(
            "A b SIP/2.0\r\n{}: {value}\r\n\r\n",
            ["i", "call-id"][len % 2]
        );
        let expected = group.owner(value.as_bytes());
        assert_eq!(group.shard_of(text.as_bytes()), expected, "{text}");
    }
}

/// What the program leaves to the kernel's choice: one shard for one source, whatever it says,
/// also right after a datagram whose octets still lie in the program's memory.
#[test]
fn the_undecided_is_left_to_the_choice_by_address() {
    let Some(mut group) = Group::new("127.0.0.1:0", 16) else {
        return;
    };
    let default = group.shard_of(b"");
    let other = (0..)
        .map(|number: u32| format!("{number}@x"))
        .find(|call_id| group.owner(call_id.as_bytes()) != default)
        .expect("one of many");
    let decided = format!("A b SIP/2.0\r\nTo: x\r\nCall-ID: {other}\r\nFrom: y\r\n\r\n");
    let cases = [
        String::new(),
        "\r\n\r\n".to_owned(),
        "A b SIP/2.0\r\nTo: x\r\n".to_owned(),
        decided[..30].to_owned(),
        decided[..decided.find("From").expect("it is there")].to_owned(),
        format!("A b SIP/2.0\r\n\r\nCall-ID: {other}\r\nTo: x\r\n\r\n"),
        format!("A b SIP/2.0\r\nCall-ID: {other}\r\n more\r\n\r\n"),
        format!("A b SIP/2.0\r\nCall-ID:\r\n {other}\r\n\r\n"),
        format!("A b SIP/2.0\r\nCall-ID {other}\r\n\r\n"),
        "A b SIP/2.0\r\nCall-ID:   \r\n\r\n".to_owned(),
        format!("A b SIP/2.0\r\nCall-ID: {}\r\n\r\n", "x".repeat(129)),
        format!("A b SIP/2.0\r\nCall-ID: {}\r\n\r\n", "x".repeat(60_000)),
        format!(
            "A b SIP/2.0\r\nX: {}\r\ni: {other}\r\n\r\n",
            "y".repeat(2_100)
        ),
        "\n".repeat(3_000),
        "i:".repeat(1_500),
        "Call-ID:\n".repeat(300),
    ];
    for text in cases {
        assert_ne!(group.shard_of(decided.as_bytes()), default);
        let cut = &text[..text.len().min(40)];
        assert_eq!(group.shard_of(text.as_bytes()), default, "{cut}");
    }
}

/// Cut anywhere, every datagram is decided as its whole or left to the kernel.
#[test]
fn garbage_reaches_one_shard_and_never_none() {
    let Some(mut group) = Group::new("127.0.0.1:0", 4) else {
        return;
    };
    let whole = request(5, "cut@anywhere");
    let mut allowed = vec![group.shard_of(b""), group.owner(b"cut@anywhere")];
    allowed.dedup();
    for end in 0..whole.len() {
        assert!(allowed.contains(&group.shard_of(&whole[..end])));
    }
    let mut state = 1_u32;
    for len in 0..600 {
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b"\r\n\n iI:C\tcallid-\0"[state as usize >> 28]
            })
            .collect();
        group.shard_of(&bytes);
    }
}

#[test]
fn a_dropped_guard_gives_the_choice_back_to_the_kernel() {
    let Some(mut group) = Group::new("127.0.0.1:0", 8) else {
        return;
    };
    group.steering.clear();
    let shards: Vec<u16> = (0..50)
        .map(|number| group.shard_of(&request(1, &format!("{number}@x"))))
        .collect();
    assert!(shards.iter().all(|shard| *shard == shards[0]));
    let again = steer::attach_all(&group.sockets, &KEY).expect("attached again");
    assert_eq!(group.shard_of(&request(1, "a@b")), group.owner(b"a@b"));
    drop(again);
}

#[test]
fn a_restarted_shard_keeps_its_place() {
    let Some(mut group) = Group::new("127.0.0.1:0", 3) else {
        return;
    };
    for shard in 0..3 {
        let sockets = &group.sockets[shard];
        group.shards[shard] = MmsgDriver::open(sockets, Options::default()).expect("a driver");
    }
    for number in 0..50 {
        let call_id = format!("{number}@x");
        let expected = group.owner(call_id.as_bytes());
        assert_eq!(group.shard_of(&request(number, &call_id)), expected);
    }
}

#[test]
fn the_committed_words_are_those_of_the_source() {
    let version = Command::new("clang").arg("-dumpversion").output();
    let version = version.map_or(Vec::new(), |output| output.stdout);
    if !version.starts_with(b"14.") {
        eprintln!("NOT TESTED: clang 14, which made each program.rs, is not installed");
        return;
    }
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/src/io/bpf/build");
    let status = Command::new(build)
        .arg("--check")
        .status()
        .expect("it runs");
    assert!(status.success(), "run src/io/bpf/build");
}
