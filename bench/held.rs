//! Memory that an answered call takes, all that is kept for it included: its record and fork, index,
//! words, leases, and a timer where it has one.
//!
//!   cargo bench --bench held                      a million calls
//!   cargo bench --bench held -- --held 10000000   ten million
//!
//! The tables of a shard are filled with calls whose words are as long and as different as those
//! of carriers and PBXs. Up to two million calls also come up through a shard, message by message.
//! Resident pages are counted; beside them stands what the tables say of themselves.

#[path = "walk/mod.rs"]
#[expect(dead_code, reason = "the other benches measure the walk step by step")]
mod walk;

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use callgate::base::{Instant, Random};
use callgate::dialog::{Call, CallKey, Calls, Part, Phase};
use callgate::limit::{Direction, KeptLease, LeaseBook, Limits, Maxima, SlotId};
use callgate::net::{Flow, ListenerId};
use callgate::shard::Shard;
use walk::Walk;

const HELD: usize = 1_000_000;

/// More would take minutes to bring up through a shard.
const WALKED_MAX: usize = 2_000_000;

/// Few enough that the transactions of the last 32 s, which are no part of a held call, are few too.
const CALLS_PER_S: u32 = 1_000;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let at = arguments.iter().position(|argument| argument == "--held");
    let number = at.and_then(|at| arguments.get(at + 1)?.parse().ok());
    let held = number.unwrap_or(HELD);
    let result = fill_tables(held).and_then(|()| match held {
        ..=WALKED_MAX => walk_calls(held),
        _ => Ok(()),
    });
    if let Err(why) = result {
        println!("held: not measured, {why}");
    }
}

/// Calls in the tables of a shard, without timers and then with one each.
fn fill_tables(held: usize) -> Result<(), String> {
    let start = resident()?;
    let mut tables = Tables::new(held);
    for number in 0..held {
        tables.add(number);
    }
    let filled = resident()?;
    for number in 0..held as u32 {
        tables.arm(number);
    }
    let armed = resident()?;
    let each = |octets: usize| octets as f64 / held as f64;
    println!(
        "held: {held} calls in the tables, {:.0} octets each, {:.0} with a timer",
        each(filled - start),
        each(armed - start)
    );
    for (what, octets) in tables.calls.octets_used() {
        println!("  {what:8} {:6.1} octets each", each(octets));
    }
    assert_eq!(tables.calls.timers_len(), held);
    println!("  words as they came {:.1}", each(tables.words));
    Ok(())
}

/// Calls that came up through a shard.
fn walk_calls(held: usize) -> Result<(), String> {
    // Half of them first: what is touched once and for all is then there before it is looked at.
    let half = resident_after(held / 2)?;
    let whole = resident_after(held)?;
    let grown = whole.saturating_sub(half) / (held - held / 2).max(1);
    let budget = Shard::octets_each().0;
    println!(
        "held: {held} calls through a shard, {grown} octets each (the budget counts with {budget})"
    );
    Ok(())
}

/// What a shard keeps of calls.
struct Tables {
    calls: Calls<KeptLease>,
    leases: LeaseBook,
    limits: Limits,
    random: Random,
    /// Octets of all words.
    words: usize,
}

impl Tables {
    fn new(held: usize) -> Tables {
        let limits = Limits::new(4);
        (0..4).for_each(|slot| limits.set(SlotId(slot), &Maxima::default()));
        Tables {
            calls: Calls::new(held),
            leases: LeaseBook::new(4),
            limits,
            random: Random::new([7; 4]),
            words: 0,
        }
    }

    /// An answered call.
    fn add(&mut self, number: usize) {
        let now = Instant::from_micros(number as u64 * 1_000);
        let mut hash = || self.random.next_u64();
        let (call_id, caller_tag, callee_tag, owner) = (hash(), hash(), hash(), hash());
        let host = number % 4;
        let caller = flow(&format!("198.51.100.{}:5060", 10 + host));
        let mut call = Call::ringing(owner, call_id, caller_tag, hash() as u32, now);
        call.invite_cseq = 102;
        let lease_in = self.limits.admit(Direction::In, &[SlotId(0)], now);
        call.lease_in = lease_in.ok().map(|lease| self.leases.keep(lease));
        let key = self.calls.insert(call, caller).expect("room for all");
        let words = caller_words(&mut self.random, host);
        self.keep(key, &words);
        let lease_out = self
            .limits
            .admit(Direction::Out, &[SlotId(1), SlotId(2)], now);
        let callee = flow(&format!("203.0.113.{}:5060", 5 + number % 3));
        self.calls.set_callee(key, Some(callee));
        if let Some(call) = self.calls.call_mut(key) {
            call.lease_out = lease_out.ok().map(|lease| self.leases.keep(lease));
            (call.phase, call.answered) = (Phase::Answered, Some(now));
        }
        self.calls
            .confirm_fork(key, callee_tag)
            .expect("room for a fork of each");
        let words = callee_words(&mut self.random, number % 3);
        self.keep(key, &words);
    }

    fn keep(&mut self, key: CallKey, words: &[(Part, String)]) {
        let named: Vec<(Part, &[u8])> = words
            .iter()
            .map(|(part, word)| (*part, word.as_bytes()))
            .collect();
        assert!(self.calls.keep_texts(key, &named), "room for all words");
        self.words += named.iter().map(|(_, word)| word.len()).sum::<usize>();
        let kept = self.calls.words(key);
        for (part, word) in named {
            assert_eq!(kept.word(part), word);
        }
    }

    /// A session timer of half an hour.
    fn arm(&mut self, number: u32) {
        let due = Instant::from_micros(u64::from(number) * 1_000) + Duration::from_secs(1_800);
        let key = self.calls.next_from(number).expect("all places are taken");
        self.calls.set_session_due(key, Some(due));
    }
}

fn flow(address: &str) -> Flow {
    let address: SocketAddr = address.parse().expect("a literal address");
    Flow::udp(ListenerId(0), address)
}

/// Of an INVITE that a carrier's session border controller sends behind a proxy of its own.
fn caller_words(random: &mut Random, host: usize) -> [(Part, String); 6] {
    let caller = 4_915_100_000_000 + random.below(99_999_999);
    let callee = 493_000_000 + random.below(999_999);
    let tag = format!("{:x}", random.next_u64() >> 20);
    let (high, low) = (random.next_u64(), random.next_u64());
    let host = 10 + host;
    [
        (
            Part::CallId,
            format!(
                "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}@198.51.100.{host}",
                high >> 32,
                (high >> 16) as u16,
                high as u16,
                (low >> 48) as u16,
                low & 0xffff_ffff_ffff
            ),
        ),
        (
            Part::From,
            format!("\"+{caller}\" <sip:+{caller}@carrier.example;user=phone>;tag={tag}"),
        ),
        (Part::To, format!("<sip:+{callee}@gate.example;user=phone>")),
        (
            Part::CallerContact,
            format!("sip:+{caller}@198.51.100.{host}:5060;transport=udp"),
        ),
        (
            Part::CallerRoute,
            format!("<sip:198.51.100.2;lr;ftag={tag}>"),
        ),
        (
            Part::RequestUri,
            format!("sip:+{callee}@192.0.2.1:5060;user=phone"),
        ),
    ]
}

/// Of a PBX's 200.
fn callee_words(random: &mut Random, host: usize) -> [(Part, String); 3] {
    let callee = 493_000_000 + random.below(999_999);
    let tag = random.next_u64() as u32;
    [
        (
            Part::To,
            format!("<sip:+{callee}@gate.example;user=phone>;tag=as{tag:08x}"),
        ),
        (
            Part::CalleeContact,
            format!("sip:+{callee}@203.0.113.{}:5060", 5 + host),
        ),
        (Part::CalleeRoute, String::new()),
    ]
}

/// Resident octets of this process once so many calls are up.
fn resident_after(held: usize) -> Result<usize, String> {
    let walk = Walk::new(held, CALLS_PER_S);
    let resident = resident();
    drop(walk);
    resident
}

fn resident() -> Result<usize, String> {
    const PAGE: usize = 4096;
    let text = fs::read_to_string("/proc/self/statm").map_err(|fault| fault.to_string())?;
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages
        .map(|pages| pages * PAGE)
        .ok_or(format!("/proc/self/statm says {text:?}"))
}
