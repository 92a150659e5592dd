//! Routing a call, knowing its source, watching trunks and answering STUN allocate nothing once
//! they are warm.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use callgate::base::{Cursor, Instant};
use callgate::guard;
use callgate::route::{
    Board, Choice, Group, Keeper, LimitMaxima, Member, Passive, Plan, Policy, RouteLine, Sources,
    Target, Trunk, TrunkId, next_member,
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread asks for.
struct Counting;

// SAFETY: every call goes to `System` unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` by `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work` twice and fails if the second run allocates.
fn warm_is_free(mut work: impl FnMut()) {
    work();
    let before = ALLOCATIONS.get();
    work();
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

fn trunk(name: &str, slot: u16) -> Trunk {
    Trunk {
        name: name.to_owned(),
        slot,
        group_slots: Vec::new(),
        addresses: vec!["192.0.2.1:5060".parse().expect("an address")],
        sources: vec![callgate::route::Cidr {
            network: "198.51.100.0".parse().expect("an address"),
            prefix_len: 24,
        }],
        limits: LimitMaxima::default(),
        codecs: Vec::new(),
        probe: Some(Duration::from_secs(1)),
        auto_congest: None,
        session_expires: None,
        call_time_max: None,
        over_limit: None,
        cseq_strict: false,
        oc: false,
        disabled: false,
        line: 1,
    }
}

fn plan(policy: Policy) -> Plan {
    let user = regex::bytes::Regex::new("^\\+49").expect("a literal regex");
    Plan {
        trunks: vec![trunk("a", 0), trunk("b", 1), trunk("c", 2)],
        groups: vec![Group {
            name: "g".to_owned(),
            slot: 3,
            policy,
            members: (0..3)
                .map(|at| Member {
                    trunk: TrunkId(at),
                    weight: 1,
                })
                .collect(),
            limits: LimitMaxima::default(),
            over_limit: None,
            line: 2,
        }],
        routes: vec![RouteLine {
            from: Vec::new(),
            user: Some(user),
            domain: Some("[2001:db8::1]".to_owned()),
            to: Target::Group(callgate::route::GroupId(0)),
            line: 3,
        }],
    }
}

#[test]
fn a_route_line_is_chosen_without_allocation() {
    let plan = plan(Policy::Priority);
    warm_is_free(|| {
        let found = plan.choose(TrunkId(0), b"%2B4930", false, b"[2001:DB8:0::1]");
        assert!(found.is_some());
    });
}

#[test]
fn members_are_chosen_without_allocation() {
    for policy in [
        Policy::Priority,
        Policy::RoundRobin,
        Policy::Weighted,
        Policy::LeastCalls,
        Policy::CallIdHash,
    ] {
        let plan = plan(policy);
        warm_is_free(|| {
            let mut choice = Choice {
                plan: &plan,
                group: &plan.groups[0],
                tried: 0,
                call_id_hash: 7,
                random: 7,
                turn: 7,
                usable: &|_| true,
                calls: &|_| 0,
                share: &|_| 500,
            };
            while let Some(position) = next_member(&choice) {
                choice.tried |= 1 << position;
            }
        });
    }
}

#[test]
fn a_source_is_looked_up_without_allocation() {
    let sources = Sources::build(&plan(Policy::Priority));
    warm_is_free(|| {
        for source in ["192.0.2.1:5060", "192.0.2.1:1", "198.51.100.1:1", "[::1]:1"] {
            sources.lookup(source.parse().expect("an address"));
        }
    });
}

#[test]
fn trunks_are_watched_without_allocation() {
    let plan = plan(Policy::Priority);
    let board = Arc::new(Board::new(8));
    let mut keeper = Keeper::new(0, 1, board);
    keeper.adopt(Instant::START, &plan);
    let mut now = Instant::START;
    warm_is_free(|| {
        for step in 0..100 {
            now = now + Duration::from_millis(500);
            while let Some(probe) = keeper.due(now) {
                let status = if step / 10 % 2 == 0 { 200 } else { 503 };
                keeper.probe_answered(now, probe.slot, 0, status, Duration::from_millis(1));
            }
            keeper.passive(now, 1, 0, Passive::TimedOut);
        }
    });
    assert!(keeper.transitions().len() > 4);
}

#[test]
fn stun_is_answered_without_allocation() {
    let request = b"\x00\x01\x00\x00\x21\x12\xa4\x42............";
    let source = "192.0.2.1:5060".parse().expect("an address");
    warm_is_free(|| {
        let mut buffer = [0; 64];
        let mut out = Cursor::new(&mut buffer);
        assert_eq!(guard::classify(request), guard::Kind::Stun);
        assert_eq!(guard::stun::answer(request, source, &mut out), Some(()));
    });
}
