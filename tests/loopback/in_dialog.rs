//! What happens within a call: requests both ways, forks, glare, session timers, odd peers.

use crate::support::message::Message;
use crate::support::node::Node;
use crate::support::phone::{Dialog, Phone};
use crate::support::{ms, seconds};

/// Two phones with a node between them.
struct Pair {
    caller: Phone,
    callee: Phone,
    node: Node,
}

/// An established call.
struct Call {
    caller: Dialog,
    callee: Dialog,
}

impl Pair {
    fn new(of_caller: &str, of_callee: &str) -> Pair {
        let (caller, callee) = (Phone::new(), Phone::new());
        let node = Node::with(format!(
            "[trunk.caller]\naddress = [\"{}\"]\n{of_caller}\n[trunk.callee]\naddress = [\"{}\"]\n{of_callee}\n\
             [[route]]\nto = \"callee\"\n",
            caller.address, callee.address
        ));
        Pair {
            caller,
            callee,
            node,
        }
    }

    fn call(&self) -> Call {
        let gate = self.node.address;
        let mut caller = Dialog::to(&self.caller, "sip:bob@example.com", gate);
        self.caller.send(caller.request("INVITE").as_bytes(), gate);
        let came = self.callee.until("INVITE");
        let answer = self.callee.answer(&came, "200 OK", gate);
        caller.learn(&self.caller.until("200"));
        self.caller.send(caller.ack().as_bytes(), gate);
        self.callee.until("ACK");
        let callee = Dialog::from_invite(&self.callee, &came, &answer, gate);
        Call { caller, callee }
    }

    fn asks(&self, from: &Phone, to: &Phone, request: &str) -> Message {
        from.send(request.as_bytes(), self.node.address);
        let method = Message::new(request).method();
        let came = to.until(&method);
        to.answer(&came, "200 OK", self.node.address);
        from.until("200")
    }

    fn hangs_up(&self, call: &mut Call) {
        self.asks(&self.caller, &self.callee, &call.caller.request("BYE"));
        self.node.is_quiet_within(seconds(5));
    }
}

#[test]
fn every_method_passes_in_both_directions_of_a_call() {
    let pair = Pair::new("", "");
    let mut call = pair.call();
    for method in [
        "INFO",
        "UPDATE",
        "MESSAGE",
        "REFER",
        "NOTIFY",
        "SUBSCRIBE",
        "OPTIONS",
        "PRACK",
        "FROBNICATE",
    ] {
        pair.asks(&pair.caller, &pair.callee, &call.caller.request(method));
        pair.asks(&pair.callee, &pair.caller, &call.callee.request(method));
    }
    assert_eq!(pair.node.counted("caller"), 1);
    pair.hangs_up(&mut call);
}

#[test]
fn a_call_goes_on_from_a_contact_that_is_not_its_trunks() {
    let pair = Pair::new("", "");
    let mut call = pair.call();
    // The phone behind the trunk speaks for itself, from an address that no trunk has.
    let elsewhere = Phone::on("127.0.0.22:0");
    call.caller.address = elsewhere.address;
    pair.asks(&elsewhere, &pair.callee, &call.caller.request("INFO"));
    // Somebody who knows neither the tags nor our Record-Route is a stranger.
    let mut guess = call.caller.clone();
    guess.local = "<sip:alice@example.org>;tag=guessed".to_owned();
    guess.routes.clear();
    elsewhere.send(guess.request("BYE").as_bytes(), pair.node.address);
    elsewhere.expect("481");
    pair.callee.hears_nothing();
    // Who knows our Record-Route, but not the tags, may speak and ends nothing.
    guess.routes.clone_from(&call.caller.routes);
    pair.asks(&elsewhere, &pair.callee, &guess.request("BYE"));
    assert_eq!(pair.node.counted("caller"), 1);
    pair.asks(&elsewhere, &pair.callee, &call.caller.request("BYE"));
    pair.node.is_quiet_within(seconds(5));
}

#[test]
fn byes_that_cross_end_one_call_once() {
    let pair = Pair::new("", "");
    for _ in 0..5 {
        let mut call = pair.call();
        let gate = pair.node.address;
        pair.caller
            .send(call.caller.request("BYE").as_bytes(), gate);
        pair.callee
            .send(call.callee.request("BYE").as_bytes(), gate);
        let mut answers = 0;
        for phone in [&pair.caller, &pair.callee, &pair.caller, &pair.callee] {
            while let Some(message) = phone.hears(ms(150)) {
                if message.is_request() {
                    phone.answer(&message, "200 OK", gate);
                } else {
                    answers += 1;
                }
            }
        }
        assert_eq!(answers, 2, "both BYEs must be answered");
        pair.node.is_quiet_within(seconds(5));
    }
}

#[test]
fn a_481_to_bye_ends_the_call_as_well() {
    let pair = Pair::new("", "");
    let mut call = pair.call();
    let gate = pair.node.address;
    pair.caller
        .send(call.caller.request("BYE").as_bytes(), gate);
    let bye = pair.callee.until("BYE");
    pair.callee
        .answer(&bye, "481 Call/Transaction Does Not Exist", gate);
    pair.caller.until("481");
    pair.node.is_quiet_within(seconds(5));
}

#[test]
fn a_second_2xx_of_a_fork_reaches_the_caller_and_both_calls_can_be_hung_up() {
    let pair = Pair::new("", "");
    let gate = pair.node.address;
    let mut first = Dialog::to(&pair.caller, "sip:bob@example.com", gate);
    pair.caller.send(first.request("INVITE").as_bytes(), gate);
    let came = pair.callee.until("INVITE");
    // A proxy behind the gate has forked: two phones ring and both answer.
    let mut dialogs = Vec::new();
    for tag in ["fork-one", "fork-two"] {
        let mut copy = String::from_utf8(came.bytes.clone()).expect("ASCII");
        copy = copy.replacen(
            &format!("To: {}", came.value("To")),
            &format!("To: {};tag={tag}", came.value("To")),
            1,
        );
        let forked = Message::new(copy);
        pair.callee.answer(&forked, "180 Ringing", gate);
        assert_eq!(pair.caller.until("180").to_tag().as_deref(), Some(tag));
        dialogs.push(forked);
    }
    for forked in &dialogs {
        pair.callee.answer(forked, "200 OK", gate);
        let answer = pair.caller.until("200");
        assert_eq!(answer.to_tag(), forked.to_tag());
        let mut dialog = first.clone();
        dialog.learn(&answer);
        pair.caller.send(dialog.ack().as_bytes(), gate);
        let ack = pair.callee.until("ACK");
        assert_eq!(ack.to_tag(), forked.to_tag());
        dialog.cseq += 1;
        pair.asks(&pair.caller, &pair.callee, &dialog.request("BYE"));
    }
    pair.node.is_quiet_within(seconds(5));
}

#[test]
fn a_retransmitted_2xx_reaches_the_caller_each_time() {
    let pair = Pair::new("", "");
    let gate = pair.node.address;
    let mut dialog = Dialog::to(&pair.caller, "sip:bob@example.com", gate);
    pair.caller.send(dialog.request("INVITE").as_bytes(), gate);
    let came = pair.callee.until("INVITE");
    for _ in 0..3 {
        pair.callee.answer(&came, "200 OK", gate);
        dialog.learn(&pair.caller.until("200"));
    }
    for _ in 0..3 {
        pair.caller.send(dialog.ack().as_bytes(), gate);
        pair.callee.until("ACK");
    }
    pair.asks(&pair.caller, &pair.callee, &dialog.request("BYE"));
    pair.node.is_quiet_within(seconds(5));
}

#[test]
fn a_lower_cseq_in_a_call_passes_and_strict_refuses_it_with_500() {
    let pair = Pair::new("", "");
    let mut call = pair.call();
    call.caller.cseq = 50;
    pair.asks(&pair.caller, &pair.callee, &call.caller.request("INVITE"));
    pair.caller
        .send(call.caller.ack().as_bytes(), pair.node.address);
    call.caller.cseq = 20;
    pair.asks(&pair.caller, &pair.callee, &call.caller.request("INVITE"));
    pair.caller
        .send(call.caller.ack().as_bytes(), pair.node.address);
    call.caller.cseq = 60;
    pair.callee.forget();
    pair.hangs_up(&mut call);

    let strict = Pair::new("cseq = \"strict\"", "");
    let mut call = strict.call();
    call.caller.cseq = 50;
    strict.asks(
        &strict.caller,
        &strict.callee,
        &call.caller.request("INVITE"),
    );
    strict
        .caller
        .send(call.caller.ack().as_bytes(), strict.node.address);
    strict.callee.until("ACK");
    call.caller.cseq = 20;
    let low = call.caller.request("INVITE");
    strict.caller.send(low.as_bytes(), strict.node.address);
    let answer = strict.caller.until("500");
    let ack = Dialog::of_transaction("ACK", &low, &answer.value("To"));
    strict.caller.send(ack.as_bytes(), strict.node.address);
    call.caller.cseq = 60;
    strict.hangs_up(&mut call);
}

#[test]
fn a_session_interval_below_the_least_gets_422_with_min_se() {
    let pair = Pair::new("session_expires = \"30m\"", "session_expires = \"30m\"");
    let gate = pair.node.address;
    let mut dialog = Dialog::to(&pair.caller, "sip:bob@example.com", gate);
    let invite = dialog.request_with("INVITE", "Supported: timer\r\nSession-Expires: 30\r\n", "");
    pair.caller.send(invite.as_bytes(), gate);
    let answer = pair.caller.until("422");
    assert_eq!(answer.value("Min-SE"), "90", "{answer:?}");
    pair.caller.send(
        Dialog::of_transaction("ACK", &invite, &answer.value("To")).as_bytes(),
        gate,
    );
    pair.callee.hears_nothing();
}

#[test]
fn a_trunk_that_asks_for_session_timers_gets_them_into_the_invite() {
    let pair = Pair::new("session_expires = \"30m\"", "session_expires = \"30m\"");
    let gate = pair.node.address;
    let mut dialog = Dialog::to(&pair.caller, "sip:bob@example.com", gate);
    let invite = dialog.request_with("INVITE", "Supported: timer\r\n", "");
    pair.caller.send(invite.as_bytes(), gate);
    let came = pair.callee.until("INVITE");
    assert!(
        came.value("Session-Expires").starts_with("1800"),
        "{came:?}"
    );
    pair.callee.answer(&came, "486 Busy Here", gate);
    let answer = pair.caller.until("486");
    pair.caller.send(
        Dialog::of_transaction("ACK", &invite, &answer.value("To")).as_bytes(),
        gate,
    );
}

#[test]
fn a_cancel_before_any_answer_waits_for_the_first_one() {
    let pair = Pair::new("", "");
    let gate = pair.node.address;
    let mut dialog = Dialog::to(&pair.caller, "sip:bob@example.com", gate);
    let invite = dialog.request("INVITE");
    pair.caller.send(invite.as_bytes(), gate);
    let came = pair.callee.expect("INVITE");
    let to = Message::new(invite.as_bytes()).value("To");
    pair.caller.send(
        Dialog::of_transaction("CANCEL", &invite, &to).as_bytes(),
        gate,
    );
    pair.caller.until("200");
    // RFC 3261 §9.1: no CANCEL before a provisional answer; INVITE may be repeated meanwhile.
    let early = pair
        .callee
        .hears(ms(40))
        .is_some_and(|message| message.method() == "CANCEL");
    assert!(!early, "CANCEL was sent before a provisional answer");
    pair.callee.answer(&came, "180 Ringing", gate);
    let cancel = pair.callee.until("CANCEL");
    assert_eq!(cancel.branch(), came.branch());
    pair.callee.answer(&cancel, "200 OK", gate);
    pair.callee.answer(&came, "487 Request Terminated", gate);
    pair.callee.until("ACK");
    let answer = pair.caller.until("487");
    pair.caller.send(
        Dialog::of_transaction("ACK", &invite, &answer.value("To")).as_bytes(),
        gate,
    );
    pair.node.is_quiet_within(seconds(5));
}

#[test]
fn a_cancel_of_nothing_gets_481() {
    let pair = Pair::new("", "");
    let gate = pair.node.address;
    let mut dialog = Dialog::to(&pair.caller, "sip:bob@example.com", gate);
    let invite = dialog.request("INVITE");
    let cancel = Dialog::of_transaction("CANCEL", &invite, &dialog.remote);
    pair.caller.send(cancel.as_bytes(), gate);
    pair.caller.expect("481");
    pair.callee.hears_nothing();
}

#[test]
fn a_request_of_an_unknown_call_is_routed_from_a_trunk_and_refused_from_a_stranger() {
    let pair = Pair::new("", "");
    let gate = pair.node.address;
    let mut dialog = Dialog::to(&pair.caller, "sip:bob@example.com", gate);
    dialog.remote.push_str(";tag=unknown");
    pair.caller.send(dialog.request("BYE").as_bytes(), gate);
    let bye = pair.callee.until("BYE");
    pair.callee
        .answer(&bye, "481 Call/Transaction Does Not Exist", gate);
    pair.caller.until("481");
    let stranger = Phone::on("127.0.0.23:0");
    dialog.address = stranger.address;
    for (method, status) in [("BYE", "481"), ("INFO", "481"), ("INVITE", "403")] {
        stranger.send(dialog.request(method).as_bytes(), gate);
        stranger.expect(status);
    }
    pair.callee.hears_nothing();
    pair.node.is_quiet_within(seconds(5));
}

#[test]
fn early_media_reliable_answers_and_prack_pass_untouched() {
    let pair = Pair::new("", "");
    let gate = pair.node.address;
    let mut dialog = Dialog::to(&pair.caller, "sip:bob@example.com", gate);
    let invite = dialog.request_with("INVITE", "Supported: 100rel\r\n", "");
    pair.caller.send(invite.as_bytes(), gate);
    let came = pair.callee.until("INVITE");
    assert_eq!(came.value("Supported"), "100rel");
    let body = crate::support::phone::offer("8", &["8 PCMA/8000"]);
    pair.callee.answer_with(
        &came,
        "183 Session Progress",
        "Require: 100rel\r\nRSeq: 7\r\n",
        &body,
        gate,
    );
    let progress = pair.caller.until("183");
    assert_eq!(
        (progress.value("Require"), progress.value("RSeq")),
        ("100rel".to_owned(), "7".to_owned())
    );
    assert_eq!(progress.body(), body.as_bytes());
    dialog.learn(&progress);
    let prack = dialog.request_with("PRACK", "RAck: 7 1 INVITE\r\n", "");
    pair.caller.send(prack.as_bytes(), gate);
    let prack = pair.callee.until("PRACK");
    assert_eq!(prack.value("RAck"), "7 1 INVITE");
    pair.callee.answer(&prack, "200 OK", gate);
    assert_eq!(pair.caller.until("200").method(), "PRACK");
    pair.callee.answer(&came, "200 OK", gate);
    pair.caller.until("200");
    let mut acknowledged = dialog.clone();
    acknowledged.cseq = 1;
    pair.caller.send(acknowledged.ack().as_bytes(), gate);
    pair.callee.until("ACK");
    pair.asks(&pair.caller, &pair.callee, &dialog.request("BYE"));
    pair.node.is_quiet_within(seconds(5));
}
