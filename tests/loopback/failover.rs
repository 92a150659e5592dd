//! Where a call goes: next members after failures, policies, codecs, targets that are no trunk.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::support::message::Message;
use crate::support::node::{Node, Setup};
use crate::support::phone::{Dialog, Phone, offer};
use crate::support::{eventually, ms, now, port, seconds};

fn trunk(name: &str, address: SocketAddr, more: &str) -> String {
    format!("[trunk.{name}]\naddress = [\"{address}\"]\n{more}\n")
}

/// Sends an INVITE; what came back is taken by the other functions.
fn calls(caller: &Phone, gate: SocketAddr, body: &str) -> (Dialog, String) {
    calls_to(caller, gate, "sip:bob@example.com", body)
}

fn calls_to(caller: &Phone, gate: SocketAddr, target: &str, body: &str) -> (Dialog, String) {
    let mut dialog = Dialog::to(caller, target, gate);
    let invite = dialog.request_with("INVITE", "", body);
    caller.send(invite.as_bytes(), gate);
    (dialog, invite)
}

/// The final answer, acknowledged.
fn final_answer(caller: &Phone, gate: SocketAddr, invite: &str) -> Message {
    loop {
        let answer = caller.hears(seconds(8)).expect("a final answer");
        if answer.status() >= 200 {
            if answer.status() >= 300 {
                let ack = Dialog::of_transaction("ACK", invite, &answer.value("To"));
                caller.send(ack.as_bytes(), gate);
            }
            return answer;
        }
    }
}

/// Answers the INVITE at `callee` and takes the call down again.
fn succeeds(caller: &Phone, callee: &Phone, gate: SocketAddr, dialog: &mut Dialog) {
    let came = callee.until("INVITE");
    finishes(caller, callee, gate, dialog, &came);
}

fn finishes(caller: &Phone, callee: &Phone, gate: SocketAddr, dialog: &mut Dialog, came: &Message) {
    callee.answer(came, "200 OK", gate);
    dialog.learn(&caller.until("200"));
    caller.send(dialog.ack().as_bytes(), gate);
    callee.until("ACK");
    caller.send(dialog.request("BYE").as_bytes(), gate);
    let bye = callee.until("BYE");
    callee.answer(&bye, "200 OK", gate);
    caller.until("200");
}

fn has_cause(message: &Message, cause: u16) -> bool {
    message
        .value("Reason")
        .replace(' ', "")
        .contains(&format!("Q.850;cause={cause}"))
}

#[test]
fn a_member_whose_port_is_closed_is_passed_over_at_once() {
    let (caller, callee) = (Phone::new(), Phone::new());
    let closed = SocketAddr::from(([127, 0, 0, 1], port::free()));
    let node = Node::with(
        trunk("caller", caller.address, "")
            + &trunk("closed", closed, "")
            + &trunk("open", callee.address, "")
            + "[group.farm]\npolicy = \"priority\"\nmembers = [\"closed\", \"open\"]\n[[route]]\nto = \"farm\"\n",
    );
    let started = now();
    let (mut dialog, _) = calls(&caller, node.address, "");
    succeeds(&caller, &callee, node.address, &mut dialog);
    // Timer B is 3.2 s here: the refusal by ICMP must have been faster.
    assert!(
        now().saturating_duration_since(started) < seconds(2),
        "the ICMP error was not used"
    );
    node.is_quiet_within(seconds(5));
}

#[test]
fn a_silent_member_is_left_after_auto_congest() {
    let (caller, silent, callee) = (Phone::new(), Phone::new(), Phone::new());
    let node = Node::with(
        trunk("caller", caller.address, "")
            + &trunk("silent", silent.address, "auto_congest = \"400ms\"")
            + &trunk("open", callee.address, "")
            + "[group.farm]\nmembers = [\"silent\", \"open\"]\n[[route]]\nto = \"farm\"\n",
    );
    let (mut dialog, _) = calls(&caller, node.address, "");
    silent.until("INVITE");
    succeeds(&caller, &callee, node.address, &mut dialog);
    node.is_quiet_within(seconds(5));
}

#[test]
fn a_late_answer_of_a_member_that_was_left_makes_no_second_call() {
    let (caller, slow, callee) = (Phone::new(), Phone::new(), Phone::new());
    let node = Node::with(
        trunk("caller", caller.address, "")
            + &trunk("slow", slow.address, "auto_congest = \"300ms\"")
            + &trunk("open", callee.address, "")
            + "[group.farm]\nmembers = [\"slow\", \"open\"]\n[[route]]\nto = \"farm\"\n",
    );
    let gate = node.address;
    let (mut dialog, _) = calls(&caller, gate, "");
    let late = slow.until("INVITE");
    let came = callee.until("INVITE");
    callee.answer(&came, "180 Ringing", gate);
    caller.until("180");
    // What it has missed: the gate tells it that nobody waits for it, by CANCEL.
    slow.answer(&late, "180 Ringing", gate);
    let cancel = slow.until("CANCEL");
    slow.answer(&cancel, "200 OK", gate);
    slow.answer(&late, "487 Request Terminated", gate);
    slow.until("ACK");
    caller.forget();
    finishes(&caller, &callee, gate, &mut dialog, &came);
    node.is_quiet_within(seconds(5));
}

#[test]
fn a_503_goes_to_the_next_member_and_the_caller_never_sees_it() {
    let (caller, full, callee) = (Phone::new(), Phone::new(), Phone::new());
    let node = Node::with(
        trunk("caller", caller.address, "")
            + &trunk("full", full.address, "")
            + &trunk("open", callee.address, "")
            + "[group.farm]\nmembers = [\"full\", \"open\"]\n[[route]]\nto = \"farm\"\n",
    );
    let gate = node.address;
    let (mut dialog, _) = calls(&caller, gate, "");
    let came = full.until("INVITE");
    full.answer(&came, "503 Service Unavailable", gate);
    full.until("ACK");
    caller.expect("100");
    let came = callee.until("INVITE");
    assert_eq!(came.call_id(), dialog.call_id);
    callee.answer(&came, "180 Ringing", gate);
    caller.expect("180");
    finishes(&caller, &callee, gate, &mut dialog, &came);
    node.is_quiet_within(seconds(5));
}

#[test]
fn a_busy_member_ends_the_search() {
    let (caller, busy, other) = (Phone::new(), Phone::new(), Phone::new());
    let node = Node::with(
        trunk("caller", caller.address, "")
            + &trunk("busy", busy.address, "")
            + &trunk("other", other.address, "")
            + "[group.farm]\nmembers = [\"busy\", \"other\"]\n[[route]]\nto = \"farm\"\n",
    );
    let (_, invite) = calls(&caller, node.address, "");
    let came = busy.until("INVITE");
    busy.answer(&came, "486 Busy Here", node.address);
    assert_eq!(final_answer(&caller, node.address, &invite).status(), 486);
    other.hears_nothing();
    node.is_quiet_within(seconds(5));
}

#[test]
fn when_every_member_is_silent_the_answer_is_503_with_cause_34() {
    let (caller, silent) = (Phone::new(), Phone::new());
    let node = Node::with(
        trunk("caller", caller.address, "")
            + &trunk("silent", silent.address, "auto_congest = \"300ms\"")
            + "[[route]]\nto = \"silent\"\n",
    );
    let (_, invite) = calls(&caller, node.address, "");
    let answer = final_answer(&caller, node.address, &invite);
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert!(has_cause(&answer, 34), "{answer:?}");
    node.is_quiet_within(seconds(5));
}

#[test]
fn a_codec_that_no_trunk_allows_is_488_with_cause_58() {
    let (caller, callee) = (Phone::new(), Phone::new());
    let node = Node::with(
        trunk("caller", caller.address, "")
            + &trunk(
                "callee",
                callee.address,
                "codecs = [\"PCMA\", \"telephone-event\"]",
            )
            + "[[route]]\nto = \"callee\"\n",
    );
    let (_, invite) = calls(&caller, node.address, &offer("18", &["18 G729/8000"]));
    let answer = final_answer(&caller, node.address, &invite);
    assert_eq!(answer.status(), 488, "{answer:?}");
    assert!(has_cause(&answer, 58), "{answer:?}");
    // A static payload type has its name without rtpmap (RFC 3551).
    let (mut dialog, _) = calls(&caller, node.address, &offer("18 8", &["18 G729/8000"]));
    succeeds(&caller, &callee, node.address, &mut dialog);
    // No offer, no objection.
    let (mut dialog, _) = calls(&caller, node.address, "");
    succeeds(&caller, &callee, node.address, &mut dialog);
    node.is_quiet_within(seconds(5));
}

#[test]
fn a_codec_goes_to_the_member_that_allows_it() {
    let (caller, narrow, wide) = (Phone::new(), Phone::new(), Phone::new());
    let node = Node::with(
        trunk("caller", caller.address, "")
            + &trunk("narrow", narrow.address, "codecs = [\"PCMA\"]")
            + &trunk("wide", wide.address, "codecs = [\"opus\", \"PCMA\"]")
            + "[group.farm]\nmembers = [\"narrow\", \"wide\"]\n[[route]]\nto = \"farm\"\n",
    );
    let (mut dialog, _) = calls(&caller, node.address, &offer("96", &["96 OPUS/48000/2"]));
    succeeds(&caller, &wide, node.address, &mut dialog);
    narrow.hears_nothing();
}

#[test]
fn reject_and_redirect_targets_answer_themselves() {
    let caller = Phone::new();
    let node = Node::with(
        trunk("caller", caller.address, "")
            + "[[route]]\nuser = \"^gone$\"\nto = \"reject 410\"\n\
               [[route]]\nuser = \"^moved$\"\nto = \"redirect sip:new@example.net\"\n",
    );
    let gate = node.address;
    let (_, invite) = calls_to(&caller, gate, "sip:gone@example.com", "");
    assert_eq!(final_answer(&caller, gate, &invite).status(), 410);
    let (_, invite) = calls_to(&caller, gate, "sip:moved@example.com", "");
    let answer = final_answer(&caller, gate, &invite);
    assert_eq!(answer.status(), 302);
    assert_eq!(answer.contact_uri(), "sip:new@example.net", "{answer:?}");
    let (_, invite) = calls_to(&caller, gate, "sip:nobody@example.com", "");
    assert_eq!(final_answer(&caller, gate, &invite).status(), 404);
    node.is_quiet_within(seconds(5));
}

#[test]
fn routes_match_by_source_user_and_domain_and_the_first_wins() {
    let (first, second) = (Phone::new(), Phone::new());
    let (a, b, c) = (Phone::new(), Phone::new(), Phone::new());
    let node = Node::with(
        trunk("first", first.address, "")
            + &trunk("second", second.address, "")
            + &trunk("a", a.address, "")
            + &trunk("b", b.address, "")
            + &trunk("c", c.address, "")
            + "[[route]]\nfrom = [\"second\"]\nto = \"c\"\n\
               [[route]]\nuser = \"^\\\\+49\"\nto = \"a\"\n\
               [[route]]\ndomain = \"b.example.com\"\nto = \"b\"\n",
    );
    let gate = node.address;
    let cases = [
        (&second, "sip:+4912@b.example.com", &c),
        (&first, "sip:+4912@b.example.com", &a),
        (&first, "sip:%2b4912@b.example.com", &a),
        (&first, "sip:bob@B.Example.COM;user=phone", &b),
    ];
    for (caller, target, callee) in cases {
        let (mut dialog, _) = calls_to(caller, gate, target, "");
        succeeds(caller, callee, gate, &mut dialog);
    }
    let (_, invite) = calls_to(&first, gate, "sip:49@example.com", "");
    assert_eq!(final_answer(&first, gate, &invite).status(), 404);
    node.is_quiet_within(seconds(5));
}

/// How many of `count` calls each member got.
fn shares(policy: &str, members: &str, count: usize) -> (BTreeMap<u16, usize>, [u16; 3]) {
    let caller = Phone::new();
    let farm = [Phone::new(), Phone::new(), Phone::new()];
    let mut routing = trunk("caller", caller.address, "");
    for (name, phone) in ["a", "b", "c"].iter().zip(&farm) {
        routing += &trunk(name, phone.address, "");
    }
    let node = Node::with(format!(
        "{routing}[group.farm]\npolicy = \"{policy}\"\nmembers = [{members}]\n[[route]]\nto = \"farm\"\n"
    ));
    let gate = node.address;
    let mut got = BTreeMap::new();
    for _ in 0..count {
        let (_, invite) = calls(&caller, gate, "");
        let mut at = None;
        eventually(seconds(3), || {
            at = farm.iter().position(|phone| {
                phone.hears(ms(1)).is_some_and(|came| {
                    let is_invite = came.method() == "INVITE";
                    if is_invite {
                        phone.answer(&came, "603 Decline", gate);
                    }
                    is_invite
                })
            });
            at.is_some()
        });
        assert_eq!(final_answer(&caller, gate, &invite).status(), 603);
        *got.entry(farm[at.expect("a member was called")].address.port())
            .or_insert(0) += 1;
        farm.iter().for_each(Phone::forget);
    }
    node.is_quiet_within(seconds(5));
    (got, [0, 1, 2].map(|at: usize| farm[at].address.port()))
}

#[test]
fn round_robin_gives_each_member_its_turn() {
    let (got, ports) = shares("round-robin", "\"a\", \"b\", \"c\"", 30);
    assert!(
        ports.iter().all(|port| got.get(port) == Some(&10)),
        "{got:?}"
    );
}

#[test]
fn weighted_gives_shares_in_proportion() {
    let (got, ports) = shares(
        "weighted",
        "\"a\", { trunk = \"b\", weight = 3 }, \"c\"",
        200,
    );
    let count = |at: usize| got.get(&ports[at]).copied().unwrap_or(0);
    // Random draws: 40 and 120 are expected, five standard deviations are allowed.
    assert!(
        (12..=68).contains(&count(0)) && (85..=155).contains(&count(1)),
        "{got:?}"
    );
}

#[test]
fn call_id_hash_uses_every_member() {
    let (got, _) = shares("call-id-hash", "\"a\", \"b\", \"c\"", 60);
    assert_eq!(got.len(), 3, "{got:?}");
}

#[test]
fn least_calls_goes_to_the_member_with_the_fewest() {
    let (caller, a, b) = (Phone::new(), Phone::new(), Phone::new());
    let node = Node::with(
        trunk("caller", caller.address, "")
            + &trunk("a", a.address, "")
            + &trunk("b", b.address, "")
            + "[group.farm]\npolicy = \"least-calls\"\nmembers = [\"a\", \"b\"]\n[[route]]\nto = \"farm\"\n",
    );
    let gate = node.address;
    // Ringing calls count: the second goes where the first is not.
    calls(&caller, gate, "");
    calls(&caller, gate, "");
    let first = a.until("INVITE");
    let second = b.until("INVITE");
    for (phone, invite) in [(&a, &first), (&b, &second)] {
        phone.answer(invite, "603 Decline", gate);
        phone.until("ACK");
    }
}

#[test]
fn a_probed_trunk_goes_down_when_it_is_silent_and_comes_back() {
    let (caller, callee) = (Phone::new(), Phone::new());
    let node = Node::with(
        trunk("caller", caller.address, "")
            + &trunk("callee", callee.address, "probe = \"1s\"")
            + "[[route]]\nto = \"callee\"\n",
    );
    let gate = node.address;
    let probe = callee.until("OPTIONS");
    callee.answer(&probe, "200 OK", gate);
    let state = || {
        let output = node.command(&["trunk", "list"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(
        eventually(seconds(3), || state().contains("up")),
        "{}",
        state()
    );
    // No answers: after some strikes it is down, and calls to it get 480 with cause 20.
    assert!(
        eventually(seconds(15), || state().contains("down")),
        "{}",
        state()
    );
    let output = node.command(&["trunk", "show", "callee"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = "callgate_trunk_probes_total{outcome=\"failed\"} ";
    let count = shown.split_once(failed).map(|(_, rest)| rest.trim_start());
    assert!(
        count.is_some_and(|count| !count.starts_with('0')),
        "{shown}"
    );
    callee.forget();
    let (_, invite) = calls(&caller, gate, "");
    let answer = final_answer(&caller, gate, &invite);
    assert_eq!(answer.status(), 480, "{answer:?}");
    assert!(has_cause(&answer, 20), "{answer:?}");
    // Answers again: calls pass again.
    let back = eventually(seconds(15), || {
        while let Some(message) = callee.hears(ms(1)) {
            if message.method() == "OPTIONS" {
                callee.answer(&message, "200 OK", gate);
            }
        }
        !state().contains("down")
    });
    assert!(back, "{}", state());
}

#[test]
fn a_drained_trunk_takes_no_new_calls_and_keeps_its_old_ones() {
    let (caller, callee) = (Phone::new(), Phone::new());
    let node = Node::start(&Setup::new(
        trunk("caller", caller.address, "")
            + &trunk("callee", callee.address, "")
            + "[[route]]\nto = \"callee\"\n",
    ));
    let gate = node.address;
    let (mut dialog, _) = calls(&caller, gate, "");
    let came = callee.until("INVITE");
    callee.answer(&came, "200 OK", gate);
    dialog.learn(&caller.until("200"));
    caller.send(dialog.ack().as_bytes(), gate);
    callee.until("ACK");
    let drained = node.command(&["trunk", "drain", "callee"]);
    assert!(
        drained.status.success(),
        "{}",
        String::from_utf8_lossy(&drained.stderr)
    );
    let (_, invite) = calls(&caller, gate, "");
    assert_eq!(final_answer(&caller, gate, &invite).status(), 480);
    // The old call goes on in both directions.
    caller.send(dialog.request("INFO").as_bytes(), gate);
    let info = callee.until("INFO");
    callee.answer(&info, "200 OK", gate);
    caller.until("200");
    caller.send(dialog.request("BYE").as_bytes(), gate);
    let bye = callee.until("BYE");
    callee.answer(&bye, "200 OK", gate);
    caller.until("200");
    let enabled = node.command(&["trunk", "enable", "callee"]);
    assert!(
        enabled.status.success(),
        "{}",
        String::from_utf8_lossy(&enabled.stderr)
    );
    let (mut dialog, _) = calls(&caller, gate, "");
    succeeds(&caller, &callee, gate, &mut dialog);
    node.is_quiet_within(seconds(5));
}
