//! Kamailio as the next hop behind the gate, and as the caller's proxy before it.

use std::net::SocketAddr;

use crate::load::between;
use crate::support::kamailio::{self, Kamailio};
use crate::support::node::{Node, Setup};
use crate::support::sipp::{Scenario, Sipp};
use crate::support::{alone, seconds};

const CALLS: u32 = 1_000;

/// Makes calls into `first_hop` and checks that all of them went well at both ends.
fn calls_pass(
    caller: &str,
    first_hop: SocketAddr,
    local: SocketAddr,
    callee: &mut Sipp,
    node: &Node,
) {
    let mut scenario = Scenario::caller(caller, first_hop, CALLS, 250).arg("-d", 50);
    scenario.local = local;
    let called = scenario.run(seconds(40));
    node.is_quiet_within(seconds(5));
    let answered = callee.end();
    assert_eq!(
        (called.successful, called.failed),
        (u64::from(CALLS), 0),
        "{called:?}"
    );
    assert_eq!(
        (answered.successful, answered.failed),
        (u64::from(CALLS), 0),
        "{answered:?}\n{}",
        callee.complaints()
    );
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], crate::support::port::free()))
}

#[test]
fn calls_pass_to_a_kamailio_behind_the_gate() {
    let _alone = alone();
    for (caller, callee) in [
        ("caller_hangs_up.xml", "callee_is_hung_up.xml"),
        ("caller_is_hung_up.xml", "callee_hangs_up.xml"),
    ] {
        let mut callee = Scenario::callee(callee).start();
        let kamailio = Kamailio::start(kamailio::address(), callee.address);
        let caller_address = local();
        let node = Node::start(&between(caller_address, kamailio.address));
        calls_pass(caller, node.address, caller_address, &mut callee, &node);
    }
}

#[test]
fn calls_pass_from_a_kamailio_before_the_gate() {
    let _alone = alone();
    for (caller, callee) in [
        ("caller_hangs_up.xml", "callee_is_hung_up.xml"),
        ("caller_is_hung_up.xml", "callee_hangs_up.xml"),
    ] {
        let mut callee = Scenario::callee(callee).start();
        let address = kamailio::address();
        let node = Node::start(&between(address, callee.address));
        let kamailio = Kamailio::start(address, node.address);
        calls_pass(caller, kamailio.address, local(), &mut callee, &node);
    }
}

#[test]
fn calls_pass_between_two_kamailios() {
    let _alone = alone();
    let mut callee = Scenario::callee("callee_is_hung_up.xml").start();
    let behind = Kamailio::start(kamailio::address(), callee.address);
    let address = kamailio::address();
    let node = Node::start(&between(address, behind.address));
    let before = Kamailio::start(address, node.address);
    calls_pass(
        "caller_hangs_up.xml",
        before.address,
        local(),
        &mut callee,
        &node,
    );
}

#[test]
fn a_refusal_passes_back_through_both_proxies() {
    let _alone = alone();
    let mut callee = Scenario::callee("callee_is_busy.xml").start();
    let kamailio = Kamailio::start(kamailio::address(), callee.address);
    let caller_address = local();
    let node = Node::start(&between(caller_address, kamailio.address));
    calls_pass(
        "caller_or_refused.xml",
        node.address,
        caller_address,
        &mut callee,
        &node,
    );
}

#[test]
fn a_kamailio_answers_probes_and_is_up() {
    let _alone = alone();
    let address = kamailio::address();
    let kamailio = Kamailio::start(address, local());
    let node = Node::start(&Setup::new(format!(
        "[trunk.kamailio]\naddress = [\"{}\"]\nprobe = \"1s\"\n[[route]]\nto = \"kamailio\"\n",
        kamailio.address
    )));
    let up = crate::support::eventually(seconds(5), || {
        let output = node.command(&["trunk", "list"]);
        String::from_utf8_lossy(&output.stdout).contains("up")
    });
    assert!(up, "{}", node.output());
}
