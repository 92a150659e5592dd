//! Real phones on both sides of the gate: a call with sound, and each way to end it.

use crate::support::baresip::Baresip;
use crate::support::node::{Node, Setup};
use crate::support::{alone, seconds};

/// Alice and Bob with a node between them.
fn phones() -> (Baresip, Baresip, Node) {
    let setup = Setup::new("");
    let alice = Baresip::start("alice", setup.address());
    let bob = Baresip::start("bob", setup.address());
    let mut setup = setup;
    setup.timers = String::new();
    setup.routing = format!(
        "[trunk.alice]\naddress = [\"{}\"]\n[trunk.bob]\naddress = [\"{}\"]\n\
         [[route]]\nuser = \"^bob$\"\nto = \"bob\"\n[[route]]\nuser = \"^alice$\"\nto = \"alice\"\n",
        alice.address, bob.address
    );
    let node = Node::start(&setup);
    (alice, bob, node)
}

const BOB: &str = "sip:bob@biloxi.example.com";

fn connect(alice: &mut Baresip, bob: &mut Baresip) {
    alice.dial(BOB);
    bob.expect("CALL_INCOMING");
    alice.expect("CALL_RINGING");
    bob.accept();
    alice.expect("CALL_ESTABLISHED");
    bob.expect("CALL_ESTABLISHED");
}

#[test]
fn a_call_with_sound_is_hung_up_by_the_caller() {
    let _alone = alone();
    let (mut alice, mut bob, node) = phones();
    connect(&mut alice, &mut bob);
    assert_eq!(node.calls(), 1);
    for phone in [&mut alice, &mut bob] {
        assert!(
            phone.hears_sound_within(seconds(8)),
            "no sound: {}",
            phone.output()
        );
    }
    alice.hang_up();
    bob.expect("CALL_CLOSED");
    node.is_quiet_within(seconds(5));
}

#[test]
fn a_call_is_hung_up_by_the_callee() {
    let _alone = alone();
    let (mut alice, mut bob, node) = phones();
    connect(&mut alice, &mut bob);
    bob.hang_up();
    alice.expect("CALL_CLOSED");
    node.is_quiet_within(seconds(5));
}

#[test]
fn a_call_is_cancelled_while_it_rings() {
    let _alone = alone();
    let (mut alice, mut bob, node) = phones();
    alice.dial(BOB);
    bob.expect("CALL_INCOMING");
    alice.expect("CALL_RINGING");
    assert_eq!(node.calls(), 1);
    alice.hang_up();
    bob.expect("CALL_CLOSED");
    node.is_quiet_within(seconds(5));
}

#[test]
fn a_call_is_refused_as_busy() {
    let _alone = alone();
    let (mut alice, mut bob, node) = phones();
    alice.dial(BOB);
    bob.expect("CALL_INCOMING");
    bob.hang_up();
    alice.expect("CALL_CLOSED");
    assert!(alice.output().contains("486"), "{}", alice.output());
    node.is_quiet_within(seconds(5));
}

#[test]
fn phones_call_each_other_in_turn() {
    let _alone = alone();
    let (mut alice, mut bob, node) = phones();
    connect(&mut alice, &mut bob);
    alice.hang_up();
    bob.expect("CALL_CLOSED");
    bob.dial("sip:alice@atlanta.example.com");
    alice.expect("CALL_INCOMING");
    alice.accept();
    bob.expect("CALL_ESTABLISHED");
    bob.hang_up();
    alice.expect("CALL_CLOSED");
    node.is_quiet_within(seconds(5));
}
