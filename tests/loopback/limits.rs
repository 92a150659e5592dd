//! Call limits: exact numbers, the right codes and reasons, counters that come back to zero.

use crate::load::between;
use crate::support::message::Message;
use crate::support::node::{Node, Setup};
use crate::support::phone::{Dialog, Phone};
use crate::support::sipp::Scenario;
use crate::support::{alone, ms, seconds};

/// Calls of two seconds, all made within one: only as many as `limit` allows get through.
fn admits_exactly(limit: &str, admitted: u64) {
    let _alone = alone();
    let mut callee = Scenario::callee("callee_is_hung_up.xml").start();
    let mut caller =
        Scenario::caller("caller_or_refused.xml", callee.address, 400, 400).arg("-d", 4_000);
    let mut setup = between(caller.local, callee.address);
    setup.shards = "2".to_owned();
    setup.routing = limit
        .replace("{caller}", &caller.local.to_string())
        .replace("{callee}", &callee.address.to_string());
    let node = Node::start(&setup);
    caller.remote = Some(node.address);
    let mut calling = caller.start();
    let called = calling.wait(seconds(40));
    node.is_quiet_within(seconds(5));
    let answered = callee.end();
    assert_eq!(
        (called.successful, called.failed),
        (400, 0),
        "{called:?}\n{}",
        calling.complaints()
    );
    assert_eq!(answered.created, admitted, "{answered:?}");
}

#[test]
fn calls_in_max_of_the_caller_admits_exactly_that_many() {
    admits_exactly(
        "[trunk.caller]\naddress = [\"{caller}\"]\ncalls_in_max = 50\n\
         [trunk.callee]\naddress = [\"{callee}\"]\n[[route]]\nto = \"callee\"\n",
        50,
    );
}

#[test]
fn calls_max_of_the_callee_admits_exactly_that_many() {
    admits_exactly(
        "[trunk.caller]\naddress = [\"{caller}\"]\n\
         [trunk.callee]\naddress = [\"{callee}\"]\ncalls_max = 37\n[[route]]\nto = \"callee\"\n",
        37,
    );
}

#[test]
fn calls_out_max_of_a_group_admits_exactly_that_many() {
    admits_exactly(
        "[trunk.caller]\naddress = [\"{caller}\"]\n[trunk.callee]\naddress = [\"{callee}\"]\n\
         [group.farm]\nmembers = [\"callee\"]\ncalls_out_max = 61\n[[route]]\nto = \"farm\"\n",
        61,
    );
}

#[test]
fn cps_admits_its_burst_and_refuses_the_rest_with_503_and_retry_after() {
    // One new call in a hundred seconds after a burst of 20: nothing more within this test.
    admits_exactly(
        "[trunk.caller]\naddress = [\"{caller}\"]\ncps = { sustain = 0.01, burst = 20 }\n\
         [trunk.callee]\naddress = [\"{callee}\"]\n[[route]]\nto = \"callee\"\n",
        20,
    );
}

/// A caller, a callee, and a node between them with these lines for the trunks.
struct Pair {
    caller: Phone,
    callee: Phone,
    node: Node,
}

impl Pair {
    fn new(of_caller: &str, of_callee: &str) -> Pair {
        let (caller, callee) = (Phone::new(), Phone::new());
        let node = Node::with(format!(
            "[trunk.caller]\naddress = [\"{}\"]\n{of_caller}\n\
             [trunk.callee]\naddress = [\"{}\"]\n{of_callee}\n[[route]]\nto = \"callee\"\n",
            caller.address, callee.address
        ));
        Pair {
            caller,
            callee,
            node,
        }
    }

    /// A new call that rings.
    fn rings(&self) -> (Dialog, String, Message) {
        let gate = self.node.address;
        let mut dialog = Dialog::to(&self.caller, "sip:bob@example.com", gate);
        let invite = dialog.request("INVITE");
        self.caller.send(invite.as_bytes(), gate);
        let came = self.callee.until("INVITE");
        self.callee.answer(&came, "180 Ringing", gate);
        dialog.learn(&self.caller.until("180"));
        (dialog, invite, came)
    }

    /// A new call that is refused at once; returns the refusal.
    fn is_refused(&self) -> Message {
        let gate = self.node.address;
        let mut dialog = Dialog::to(&self.caller, "sip:bob@example.com", gate);
        let invite = dialog.request("INVITE");
        self.caller.send(invite.as_bytes(), gate);
        loop {
            let answer = self.caller.hears(seconds(3)).expect("a refusal");
            if answer.status() >= 200 {
                let ack = Dialog::of_transaction("ACK", &invite, &answer.value("To"));
                self.caller.send(ack.as_bytes(), gate);
                return answer;
            }
        }
    }

    fn hangs_up_ringing(&self, invite: &str, came: &Message) {
        let gate = self.node.address;
        let to = Message::new(invite).value("To");
        self.caller.send(
            Dialog::of_transaction("CANCEL", invite, &to).as_bytes(),
            gate,
        );
        let cancel = self.callee.until("CANCEL");
        self.callee.answer(&cancel, "200 OK", gate);
        self.callee.answer(came, "487 Request Terminated", gate);
        self.callee.until("ACK");
        let answer = self.caller.until("487");
        let ack = Dialog::of_transaction("ACK", invite, &answer.value("To"));
        self.caller.send(ack.as_bytes(), gate);
    }
}

#[test]
fn over_the_incoming_limit_is_480_with_cause_44() {
    let pair = Pair::new("calls_in_max = 1", "");
    let (_, invite, came) = pair.rings();
    let refusal = pair.is_refused();
    assert_eq!(refusal.status(), 480, "{refusal:?}");
    assert!(
        refusal
            .value("Reason")
            .replace(' ', "")
            .contains("Q.850;cause=44"),
        "{refusal:?}"
    );
    pair.hangs_up_ringing(&invite, &came);
    pair.node.is_quiet_within(seconds(5));
}

#[test]
fn over_the_outgoing_limit_of_the_last_member_is_486_with_cause_17() {
    let pair = Pair::new("", "calls_out_max = 1");
    let (_, invite, came) = pair.rings();
    let refusal = pair.is_refused();
    assert_eq!(refusal.status(), 486, "{refusal:?}");
    assert!(
        refusal
            .value("Reason")
            .replace(' ', "")
            .contains("Q.850;cause=17"),
        "{refusal:?}"
    );
    pair.hangs_up_ringing(&invite, &came);
    pair.node.is_quiet_within(seconds(5));
}

#[test]
fn over_limit_of_the_trunk_overrides_the_code() {
    let pair = Pair::new("calls_in_max = 1\nover_limit = 503", "");
    let (_, invite, came) = pair.rings();
    assert_eq!(pair.is_refused().status(), 503);
    pair.hangs_up_ringing(&invite, &came);
}

#[test]
fn over_the_rate_is_503_with_retry_after() {
    let pair = Pair::new("cps = { sustain = 0.1, burst = 1 }", "");
    let (_, invite, came) = pair.rings();
    let refusal = pair.is_refused();
    assert_eq!(refusal.status(), 503, "{refusal:?}");
    let after: u32 = refusal
        .value("Retry-After")
        .parse()
        .expect("a number of seconds");
    assert!((1..=11).contains(&after), "{refusal:?}");
    pair.hangs_up_ringing(&invite, &came);
}

#[test]
fn a_ringing_call_counts_and_a_cancelled_one_does_not() {
    let pair = Pair::new("calls_in_max = 1", "");
    for _ in 0..3 {
        let (_, invite, came) = pair.rings();
        assert_eq!(pair.node.counted("caller"), 1);
        assert_eq!(pair.node.counted("callee"), 1);
        pair.hangs_up_ringing(&invite, &came);
        pair.node.is_quiet_within(seconds(5));
    }
}

#[test]
fn a_retransmitted_invite_is_counted_once() {
    let pair = Pair::new("calls_in_max = 2", "");
    let (_, invite, came) = pair.rings();
    for _ in 0..5 {
        pair.caller.send(invite.as_bytes(), pair.node.address);
        // The stored 180 is the answer to each.
        assert_eq!(pair.caller.expect("180").status(), 180);
    }
    assert_eq!(pair.node.counted("caller"), 1);
    pair.callee.hears_nothing();
    pair.hangs_up_ringing(&invite, &came);
    pair.node.is_quiet_within(seconds(5));
}

#[test]
fn two_byes_of_one_call_give_back_one_place() {
    let pair = Pair::new("calls_in_max = 2", "");
    let gate = pair.node.address;
    let (mut first, _, came) = pair.rings();
    pair.callee.answer(&came, "200 OK", gate);
    first.learn(&pair.caller.until("200"));
    pair.caller.send(first.ack().as_bytes(), gate);
    pair.callee.until("ACK");
    // A second call that stays.
    let (_, invite, other) = pair.rings();
    assert_eq!(pair.node.counted("caller"), 2);
    for _ in 0..2 {
        pair.caller.send(first.request("BYE").as_bytes(), gate);
        while let Some(message) = pair.callee.hears(ms(300)) {
            if message.method() == "BYE" {
                pair.callee.answer(&message, "200 OK", gate);
            }
        }
        pair.caller.forget();
    }
    assert_eq!(pair.node.counted("caller"), 1);
    pair.hangs_up_ringing(&invite, &other);
    pair.node.is_quiet_within(seconds(5));
}

#[test]
fn call_time_max_ends_a_call_and_gives_its_place_back() {
    let pair = Pair::new("call_time_max = \"1s\"", "");
    let gate = pair.node.address;
    let (mut dialog, _, came) = pair.rings();
    pair.callee.answer(&came, "200 OK", gate);
    dialog.learn(&pair.caller.until("200"));
    pair.caller.send(dialog.ack().as_bytes(), gate);
    pair.callee.until("ACK");
    assert_eq!(pair.node.counted("caller"), 1);
    for phone in [&pair.caller, &pair.callee] {
        let bye = phone.until("BYE");
        phone.answer(&bye, "200 OK", gate);
    }
    pair.node.is_quiet_within(seconds(5));
}

#[test]
fn a_call_to_a_callee_that_died_gives_its_place_back_by_time_out() {
    let pair = Pair::new("", "");
    let (_, _, came) = pair.rings();
    let gate = pair.node.address;
    let mut dialog = Dialog::from_invite(
        &pair.callee,
        &came,
        &pair.callee.answer(&came, "200 OK", gate),
        gate,
    );
    let answer = pair.caller.until("200");
    let mut caller_side = Dialog::to(&pair.caller, "sip:bob@example.com", gate);
    caller_side.call_id = came.call_id();
    caller_side.local = came.value("From");
    caller_side.cseq = came.cseq();
    caller_side.learn(&answer);
    pair.caller.send(caller_side.ack().as_bytes(), gate);
    pair.callee.until("ACK");
    dialog.cseq += 1;
    // Nobody answers at the callee any more: its socket is closed.
    drop(pair.callee);
    pair.caller
        .send(caller_side.request("BYE").as_bytes(), gate);
    let answer = pair
        .caller
        .hears(seconds(8))
        .expect("an answer in place of the dead callee's");
    assert!(
        matches!(answer.status(), 408 | 480 | 500 | 503),
        "{answer:?}"
    );
    pair.node.is_quiet_within(seconds(8));
}

#[test]
fn a_reload_changes_a_limit_and_keeps_the_calls() {
    let caller = Phone::new();
    let callee = Phone::new();
    let routing = |most: u32| {
        format!(
            "[trunk.caller]\naddress = [\"{}\"]\ncalls_in_max = {most}\n\
             [trunk.callee]\naddress = [\"{}\"]\n[[route]]\nto = \"callee\"\n",
            caller.address, callee.address
        )
    };
    let setup = Setup::new(routing(1));
    let node = Node::start(&setup);
    let file = node.config_file();
    let old = std::fs::read_to_string(&file).expect("the configuration");
    let pair = Pair {
        caller,
        callee,
        node,
    };
    let (_, invite, came) = pair.rings();
    assert_eq!(pair.is_refused().status(), 480);
    // A faulty file changes nothing and says why.
    std::fs::write(&file, old.replace("calls_in_max = 1", "calls_inn_max = 2")).expect("a file");
    let refused = pair.node.command(&["reload"]);
    assert!(!refused.status.success());
    let said = [refused.stdout, refused.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        said.contains("calls_inn_max") && said.contains("calls_in_max"),
        "{said}"
    );
    assert_eq!(pair.is_refused().status(), 480);
    std::fs::write(&file, old.replace("calls_in_max = 1", "calls_in_max = 2")).expect("a file");
    let taken = pair.node.command(&["reload"]);
    assert!(
        taken.status.success(),
        "{}",
        String::from_utf8_lossy(&taken.stderr)
    );
    let (_, second_invite, second) = pair.rings();
    assert_eq!(pair.node.counted("caller"), 2);
    assert_eq!(pair.is_refused().status(), 480);
    pair.hangs_up_ringing(&second_invite, &second);
    pair.hangs_up_ringing(&invite, &came);
    pair.node.is_quiet_within(seconds(5));
}
