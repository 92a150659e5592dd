//! A thousand calls a second from SIPp through a node, in each way that a node can be run.

use std::net::SocketAddr;

use crate::support::node::{Node, Setup};
use crate::support::sipp::Scenario;
use crate::support::{alone, port, seconds};

/// Calls of one run: 20 seconds at [`RATE`].
const CALLS: u32 = 20_000;
const RATE: u32 = 1_000;

/// A node whose trunks are these two addresses, with the RFC's timers.
pub fn between(caller: SocketAddr, callee: SocketAddr) -> Setup {
    let mut setup = Setup::new(format!(
        "[trunk.caller]\naddress = [\"{caller}\"]\n[trunk.callee]\naddress = [\"{callee}\"]\n\
         [[route]]\nfrom = [\"caller\"]\nto = \"callee\"\n"
    ));
    setup.timers = String::new();
    setup.dialogs = 50_000;
    setup.transactions = 200_000;
    setup
}

/// Runs the load and checks everything that must hold after it.
fn carries(shards: usize, steering: &'static str, io: &'static str, calls: u32) {
    let _alone = alone();
    let mut callee = Scenario::callee("callee_is_hung_up.xml").start();
    let mut caller =
        Scenario::caller("caller_hangs_up.xml", callee.address, calls, RATE).arg("-d", 100);
    let mut setup = between(caller.local, callee.address);
    setup.shards = shards.to_string();
    setup.steering = steering;
    setup.io = io;
    let node = Node::start(&setup);
    caller.remote = Some(node.address);
    assert_eq!(node.status_text("io"), io, "the driver in use");

    let called = caller.run(seconds(90));
    node.is_quiet_within(seconds(5));
    let answered = callee.end();
    assert_eq!(
        (called.successful, called.failed),
        (u64::from(calls), 0),
        "{called:?}\n{}",
        callee.complaints()
    );
    assert_eq!(
        (answered.successful, answered.failed),
        (u64::from(calls), 0),
        "{answered:?}\n{}",
        callee.complaints()
    );
    assert_eq!(
        called.retransmissions, 0,
        "the caller had to repeat: {called:?}"
    );
    assert_eq!(
        answered.retransmissions, 0,
        "the callee had to repeat: {answered:?}"
    );
    assert_eq!(
        (called.out_of_call, answered.out_of_call),
        (0, 0),
        "messages of no call"
    );

    let absorbed: u64 = node
        .metric("callgate_retransmissions_absorbed_total", "")
        .iter()
        .sum();
    assert_eq!(absorbed, 0, "the node saw messages twice");
    shares_the_work(&node, shards, calls);
    let is_steered = node.status_text("steering") != "off";
    let handed_over = node.status_number("handed_over");
    match steering {
        "off" => assert!(!is_steered, "steering is on though it was turned off"),
        _ => assert!(
            is_steered || shards == 1 || std::env::var_os("CALLGATE_TEST_NO_BPF").is_some(),
            "the kernel does not steer, so this test shows nothing: it needs the right to load BPF \
             programs (run it as root); CALLGATE_TEST_NO_BPF=1 lets it pass without: {}",
            node.status_text("steering_why")
        ),
    }
    if shards == 1 {
        assert_eq!(handed_over, 0, "one shard has nobody to hand over to");
    } else if is_steered {
        // A message of a call has its Call-ID in reach of the kernel's program, every time.
        assert!(
            handed_over <= u64::from(calls) / 100,
            "{handed_over} handed over in spite of steering"
        );
    } else {
        // All calls come from one address and port, so that the kernel gives them to one shard.
        assert!(
            handed_over > u64::from(calls),
            "only {handed_over} handed over without steering"
        );
    }
}

/// Every shard owned its part of the calls, though all came from one address and port.
fn shares_the_work(node: &Node, shards: usize, calls: u32) {
    let owned = node.metric("callgate_calls_admitted_total", "shard=");
    assert_eq!(owned.len(), shards, "{owned:?}");
    let fair = u64::from(calls) / shards as u64;
    for calls in &owned {
        assert!(
            *calls > fair / 2 && *calls < fair * 2,
            "unfair shares of the calls: {owned:?}"
        );
    }
}

macro_rules! matrix {
    ($($test:ident: $shards:literal, $steering:literal, $io:literal;)*) => {
        $(#[test] fn $test() { carries($shards, $steering, $io, CALLS); })*
    };
}

matrix! {
    twenty_thousand_calls_pass_1_shard_steered_by_uring: 1, "auto", "uring";
    twenty_thousand_calls_pass_2_shards_steered_by_uring: 2, "auto", "uring";
    twenty_thousand_calls_pass_4_shards_steered_by_uring: 4, "auto", "uring";
    twenty_thousand_calls_pass_1_shard_unsteered_by_uring: 1, "off", "uring";
    twenty_thousand_calls_pass_2_shards_unsteered_by_uring: 2, "off", "uring";
    twenty_thousand_calls_pass_4_shards_unsteered_by_uring: 4, "off", "uring";
    twenty_thousand_calls_pass_1_shard_steered_by_mmsg: 1, "auto", "mmsg";
    twenty_thousand_calls_pass_2_shards_steered_by_mmsg: 2, "auto", "mmsg";
    twenty_thousand_calls_pass_4_shards_steered_by_mmsg: 4, "auto", "mmsg";
    twenty_thousand_calls_pass_1_shard_unsteered_by_mmsg: 1, "off", "mmsg";
    twenty_thousand_calls_pass_2_shards_unsteered_by_mmsg: 2, "off", "mmsg";
    twenty_thousand_calls_pass_4_shards_unsteered_by_mmsg: 4, "off", "mmsg";
}

#[test]
fn calls_that_the_callee_hangs_up_pass_too() {
    let _alone = alone();
    let mut callee = Scenario::callee("callee_hangs_up.xml")
        .arg("-d", 50)
        .start();
    let mut caller = Scenario::caller("caller_is_hung_up.xml", callee.address, 1_000, 500);
    let node = Node::start(&between(caller.local, callee.address));
    caller.remote = Some(node.address);
    let called = caller.run(seconds(30));
    node.is_quiet_within(seconds(5));
    let answered = callee.end();
    assert_eq!((called.successful, called.failed), (1_000, 0), "{called:?}");
    assert_eq!(
        (answered.successful, answered.failed),
        (1_000, 0),
        "{answered:?}\n{}",
        callee.complaints()
    );
}

#[test]
fn sipps_own_scenarios_pass_though_they_ignore_record_route() {
    let _alone = alone();
    let mut callee = Scenario::callee("uas").start();
    let mut caller = Scenario::caller("uac", callee.address, 500, 250).arg("-d", 20);
    let node = Node::start(&between(caller.local, callee.address));
    caller.remote = Some(node.address);
    let called = caller.run(seconds(30));
    node.is_quiet_within(seconds(5));
    callee.end();
    assert_eq!((called.successful, called.failed), (500, 0), "{called:?}");
}

#[test]
fn calls_pass_over_ipv6() {
    let _alone = alone();
    let here = |port: u16| SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    let mut callee = Scenario::callee("callee_is_hung_up.xml");
    callee.local = here(port::free_on(here(0).ip()));
    let mut caller =
        Scenario::caller("caller_hangs_up.xml", callee.local, 1_000, 500).arg("-d", 50);
    caller.local = here(port::free_on(here(0).ip()));
    let mut setup = between(caller.local, callee.local);
    setup.listen = vec![here(port::free_on(here(0).ip()))];
    let node = Node::start(&setup);
    caller.remote = Some(node.address);
    let mut callee = callee.start();
    let called = caller.run(seconds(30));
    node.is_quiet_within(seconds(5));
    let answered = callee.end();
    assert_eq!((called.successful, called.failed), (1_000, 0), "{called:?}");
    assert_eq!(answered.failed, 0, "{answered:?}\n{}", callee.complaints());
}

#[test]
fn calls_pass_from_ipv6_to_ipv4() {
    let _alone = alone();
    let six = |port: u16| SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    let mut callee = Scenario::callee("callee_is_hung_up.xml").start();
    let mut caller =
        Scenario::caller("caller_hangs_up.xml", callee.address, 300, 300).arg("-d", 20);
    caller.local = six(port::free_on(six(0).ip()));
    let mut setup = between(caller.local, callee.address);
    setup.listen.push(six(port::free_on(six(0).ip())));
    let node = Node::start(&setup);
    caller.remote = Some(setup.listen[1]);
    let called = caller.run(seconds(30));
    node.is_quiet_within(seconds(5));
    let answered = callee.end();
    assert_eq!((called.successful, called.failed), (300, 0), "{called:?}");
    assert_eq!(answered.failed, 0, "{answered:?}\n{}", callee.complaints());
}
