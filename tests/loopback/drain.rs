//! How a node ends: with its calls, after its patience, or at once.

use crate::support::node::{Node, Setup};
use crate::support::phone::{Dialog, Phone};
use crate::support::{ms, now, seconds};

struct Bench {
    caller: Phone,
    callee: Phone,
    node: Node,
}

impl Bench {
    fn new(drain_max: &'static str) -> Bench {
        let (caller, callee) = (Phone::new(), Phone::new());
        let mut setup = Setup::new(format!(
            "[trunk.caller]\naddress = [\"{}\"]\n[trunk.callee]\naddress = [\"{}\"]\n[[route]]\nto = \"callee\"\n",
            caller.address, callee.address
        ));
        setup.drain_max = Some(drain_max);
        let node = Node::start(&setup);
        Bench {
            caller,
            callee,
            node,
        }
    }

    fn call(&self) -> Dialog {
        let gate = self.node.address;
        let mut dialog = Dialog::to(&self.caller, "sip:bob@example.com", gate);
        self.caller.send(dialog.request("INVITE").as_bytes(), gate);
        let came = self.callee.until("INVITE");
        self.callee.answer(&came, "200 OK", gate);
        dialog.learn(&self.caller.until("200"));
        self.caller.send(dialog.ack().as_bytes(), gate);
        self.callee.until("ACK");
        dialog
    }
}

#[test]
fn sigterm_refuses_new_calls_finishes_old_ones_and_ends() {
    let mut bench = Bench::new("60s");
    let gate = bench.node.address;
    let mut dialog = bench.call();
    bench.node.terminate();
    std::thread::sleep(ms(300));
    assert!(bench.node.is_alive(), "it ended with a call up");
    let mut refused = Dialog::to(&bench.caller, "sip:bob@example.com", gate);
    let invite = refused.request("INVITE");
    bench.caller.send(invite.as_bytes(), gate);
    let answer = bench.caller.until("503");
    bench.caller.send(
        Dialog::of_transaction("ACK", &invite, &answer.value("To")).as_bytes(),
        gate,
    );
    bench.callee.hears_nothing();
    bench.caller.send(dialog.request("BYE").as_bytes(), gate);
    let bye = bench.callee.until("BYE");
    bench.callee.answer(&bye, "200 OK", gate);
    bench.caller.until("200");
    let ended = bench.node.wait_for_end(seconds(10));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
}

#[test]
fn a_node_without_calls_ends_at_once_on_sigterm() {
    let mut bench = Bench::new("60s");
    bench.node.terminate();
    let ended = bench.node.wait_for_end(seconds(5));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
}

#[test]
fn drain_max_ends_a_node_whose_calls_do_not_end() {
    let mut bench = Bench::new("1s");
    bench.call();
    let started = now();
    bench.node.terminate();
    assert!(
        bench.node.wait_for_end(seconds(8)).is_some(),
        "still there after drain_max"
    );
    assert!(
        now().saturating_duration_since(started) >= ms(800),
        "it did not wait for its call"
    );
}

#[test]
fn a_second_sigterm_ends_a_node_at_once() {
    let mut bench = Bench::new("60s");
    bench.call();
    bench.node.terminate();
    std::thread::sleep(ms(300));
    assert!(bench.node.is_alive());
    bench.node.terminate();
    assert!(
        bench.node.wait_for_end(seconds(3)).is_some(),
        "a second signal was ignored"
    );
}

#[test]
fn sighup_reloads_and_calls_go_on() {
    let mut bench = Bench::new("60s");
    let gate = bench.node.address;
    let mut dialog = bench.call();
    let file = bench.node.config_file();
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(
        &file,
        text.replace("[[route]]", "[[route]]\nuser = \"^bob$\""),
    )
    .expect("a file");
    bench.node.signal(libc::SIGHUP);
    let changed = crate::support::eventually(seconds(5), || {
        let mut other = Dialog::to(&bench.caller, "sip:carol@example.com", gate);
        let invite = other.request("INVITE");
        bench.caller.send(invite.as_bytes(), gate);
        loop {
            let Some(answer) = bench.caller.hears(ms(300)) else {
                return false;
            };
            if answer.status() == 404 {
                let ack = Dialog::of_transaction("ACK", &invite, &answer.value("To"));
                bench.caller.send(ack.as_bytes(), gate);
                return true;
            }
        }
    });
    assert!(
        changed,
        "the new route is not in use: {}",
        bench.node.output()
    );
    assert!(bench.node.is_alive());
    bench.callee.forget();
    bench.caller.send(dialog.request("BYE").as_bytes(), gate);
    let bye = bench.callee.until("BYE");
    bench.callee.answer(&bye, "200 OK", gate);
    bench.caller.until("200");
}
