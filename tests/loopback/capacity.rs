//! What happens at the edges: full tables, a callee that dies, faulty configurations.

use std::process::Output;

use crate::load::between;
use crate::support::message::Message;
use crate::support::node::{Node, Setup, program};
use crate::support::phone::{Dialog, Phone};
use crate::support::sipp::Scenario;
use crate::support::tool::Scratch;
use crate::support::{alone, eventually, ms, port, seconds};

struct Bench {
    caller: Phone,
    callee: Phone,
    node: Node,
}

impl Bench {
    fn new(dialogs: usize, transactions: usize) -> Bench {
        let (caller, callee) = (Phone::new(), Phone::new());
        let mut setup = Setup::new(format!(
            "[trunk.caller]\naddress = [\"{}\"]\n[trunk.callee]\naddress = [\"{}\"]\n[[route]]\nto = \"callee\"\n",
            caller.address, callee.address
        ));
        setup.dialogs = dialogs;
        setup.transactions = transactions;
        let node = Node::start(&setup);
        Bench {
            caller,
            callee,
            node,
        }
    }

    /// Sends an INVITE and returns it with the first answer that is not 100, if the callee or the
    /// gate gives one; the callee rings.
    fn tries(&self) -> (String, Option<Message>, Option<Message>) {
        let gate = self.node.address;
        let mut dialog = Dialog::to(&self.caller, "sip:bob@example.com", gate);
        let invite = dialog.request("INVITE");
        self.caller.send(invite.as_bytes(), gate);
        let (mut came, mut answer) = (None, None);
        eventually(seconds(2), || {
            while let Some(message) = self.callee.hears(ms(1)) {
                if message.method() == "INVITE"
                    && message.call_id() == dialog.call_id
                    && came.is_none()
                {
                    self.callee.answer(&message, "180 Ringing", gate);
                    came = Some(message);
                }
            }
            answer = self
                .caller
                .hears(ms(5))
                .filter(|message| message.status() > 100 && message.call_id() == dialog.call_id);
            answer.is_some()
        });
        (invite, came, answer)
    }

    fn refuses_with_503(&self, invite: &str, answer: &Message) {
        assert_eq!(answer.status(), 503, "{answer:?}");
        let reason = answer.value("Reason").replace(' ', "");
        assert!(reason.contains("Q.850;cause=42"), "{answer:?}");
        let ack = Dialog::of_transaction("ACK", invite, &answer.value("To"));
        self.caller.send(ack.as_bytes(), self.node.address);
    }

    /// Fills a table with ringing calls until one is refused, then ends all and calls again.
    fn fills_and_recovers(&self, most: usize) {
        let gate = self.node.address;
        let mut ringing = Vec::new();
        let mut refused = false;
        for _ in 0..=most {
            let (invite, came, answer) = self.tries();
            let answer = answer.unwrap_or_else(|| panic!("no answer: {}", self.node.output()));
            if answer.status() == 180 {
                ringing.push(came.expect("180 is the callee's answer"));
            } else {
                self.refuses_with_503(&invite, &answer);
                refused = true;
                break;
            }
        }
        assert!(refused, "{} calls and no end", ringing.len());
        assert!(!ringing.is_empty(), "not a single call was admitted");
        for came in &ringing {
            self.callee.answer(came, "486 Busy Here", gate);
        }
        self.node.is_quiet_within(seconds(15));
        self.caller.forget();
        self.callee.forget();
        let again = eventually(seconds(15), || {
            let (_, came, answer) = self.tries();
            if let Some(came) = came {
                self.callee.answer(&came, "486 Busy Here", gate);
            }
            answer.is_some_and(|answer| answer.status() == 180)
        });
        assert!(
            again,
            "no call after the table was emptied: {}",
            self.node.output()
        );
    }
}

#[test]
fn a_full_dialog_table_refuses_with_503_and_cause_42_and_recovers() {
    Bench::new(8, 1000).fills_and_recovers(8);
}

#[test]
fn a_full_transaction_table_refuses_or_stays_silent_and_recovers() {
    let bench = Bench::new(1000, 16);
    let gate = bench.node.address;
    // More ringing calls than transactions; what cannot even be remembered may be dropped.
    let mut came = Vec::new();
    let mut admitted = 0;
    for _ in 0..24 {
        let (_, invite, answer) = bench.tries();
        admitted += usize::from(answer.as_ref().is_some_and(|answer| answer.status() == 180));
        if let Some(answer) = answer.filter(|answer| answer.status() >= 300) {
            assert_eq!(answer.status(), 503, "{answer:?}");
        }
        came.extend(invite);
    }
    assert!(
        (1..24).contains(&admitted),
        "{admitted} of 24 calls with 16 transactions"
    );
    for invite in &came {
        bench.callee.answer(invite, "486 Busy Here", gate);
    }
    // The caller's ACKs never come: the node must get rid of everything by its own timers.
    bench.node.is_quiet_within(seconds(20));
    // Timer D keeps the record of a refused INVITE for 32 s, whatever T1 is (RFC 3261 §17.1.1.2).
    let again = eventually(seconds(50), || {
        // Not so often that the refusals of these calls alone keep the table full.
        std::thread::sleep(ms(1000));
        bench.caller.forget();
        bench.callee.forget();
        let (invite, came, answer) = bench.tries();
        if let Some(refusal) = answer.as_ref().filter(|answer| answer.status() >= 300) {
            let ack = Dialog::of_transaction("ACK", &invite, &refusal.value("To"));
            bench.caller.send(ack.as_bytes(), gate);
        }
        if let Some(came) = came {
            bench.callee.answer(&came, "486 Busy Here", gate);
        }
        answer.is_some_and(|answer| answer.status() == 180)
    });
    assert!(
        again,
        "no call after the table was emptied: {}",
        bench.node.output()
    );
}

#[test]
fn a_callee_that_dies_in_mid_call_leaves_no_call_behind() {
    let _alone = alone();
    let mut callee = Scenario::callee("callee_is_hung_up.xml").start();
    let mut caller =
        Scenario::caller("caller_hangs_up.xml", callee.address, 200, 200).arg("-d", 3_000);
    let mut setup = between(caller.local, callee.address);
    setup.timers = crate::support::node::QUICK.to_owned();
    let node = Node::start(&setup);
    caller.remote = Some(node.address);
    let mut calling = caller.start();
    assert!(
        eventually(seconds(5), || node.counted("caller") == 200),
        "{:?}",
        node.limits()
    );
    callee.kill();
    // Each caller's BYE is answered by the gate: by ICMP at once, or after 64 * T1.
    let called = calling.wait(seconds(30));
    assert_eq!(called.successful + called.failed, 200, "{called:?}");
    node.is_quiet_within(seconds(10));
}

fn run_with(toml: &str) -> Output {
    let scratch = Scratch::new("faulty");
    let file = scratch.write("faulty.toml", toml);
    let mut command = program();
    command.arg("run").arg("--config").arg(&file);
    let mut running = crate::support::tool::Running::start(
        "callgate",
        &mut command,
        &scratch,
        std::process::Stdio::null(),
    );
    let status = running.wait(seconds(10));
    let text = running.output();
    Output {
        status: status
            .unwrap_or_else(|| panic!("it runs with this configuration:\n{toml}\n{text}")),
        stdout: text.into_bytes(),
        stderr: Vec::new(),
    }
}

/// The node does not start, and says each of `texts`.
fn is_refused(toml: &str, texts: &[&str]) {
    let output = run_with(toml);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success(), "{said}");
    for text in texts {
        assert!(said.contains(text), "no {text:?} in: {said}");
    }
}

#[test]
fn a_faulty_configuration_is_refused_with_file_line_and_a_suggestion() {
    let at = port::free();
    let good = format!(
        "[[listen]]\nudp = \"127.0.0.1:{at}\"\n[trunk.a]\naddress = [\"127.0.0.1:9\"]\n[[route]]\nto = \"a\"\n"
    );
    is_refused(
        &format!("{good}[nod]\nname = \"x\"\n"),
        &["faulty.toml:7", "nod", "node"],
    );
    is_refused(
        &good.replace("to = \"a\"", "to = \"aa\""),
        &["faulty.toml:6", "aa"],
    );
    is_refused(
        &format!("{good}[[listen]]\nudp = \"127.0.0.1:{at}\"\n"),
        &["faulty.toml:8", "twice"],
    );
    is_refused(
        &good.replace("udp", "upd"),
        &["faulty.toml:2", "upd", "udp"],
    );
    is_refused("this is no TOML", &["faulty.toml:1"]);
}

#[test]
fn a_port_that_is_in_use_is_named() {
    let taken = Phone::new();
    is_refused(
        &format!(
            "[[listen]]\nudp = \"{}\"\n[trunk.a]\naddress = [\"127.0.0.1:9\"]\n[[route]]\nto = \"a\"\n",
            taken.address
        ),
        &[&taken.address.to_string(), "in use"],
    );
}

#[test]
fn a_state_dir_that_cannot_be_written_is_named() {
    let at = port::free();
    // Not even root can make a directory below a file.
    let scratch = Scratch::new("state");
    let file = scratch.write("file", "");
    let dir = file.join("below");
    is_refused(
        &format!(
            "[node]\nstate_dir = \"{}\"\n[[listen]]\nudp = \"127.0.0.1:{at}\"\n[trunk.a]\naddress = [\"127.0.0.1:9\"]\n[[route]]\nto = \"a\"\n",
            dir.display()
        ),
        &["state_dir", &dir.display().to_string()],
    );
}

#[test]
fn check_lists_every_fault_and_fails() {
    let scratch = Scratch::new("check");
    let file = scratch.write("two.toml", "[nod]\n[[listen]]\nudp = \"nowhere\"\n");
    let output = program().arg("check").arg(&file).output().expect("it runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("two.toml:1:") && said.contains("two.toml:3:"),
        "{said}"
    );
}
