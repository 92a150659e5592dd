//! Starts that succeed, and starts that must fail with a reason.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Output, Stdio};

use super::kit::{Caller, Plan, Scratch, program, run};

#[test]
fn a_node_that_says_ready_answers() {
    let node = Plan::new("ready").start();
    assert!(
        node.banner
            .contains(&format!("listens on udp {}", node.plan.sip)),
        "{}",
        node.banner
    );
    assert!(node.banner.contains("2 shards on CPUs"), "{}", node.banner);
    assert!(node.banner.contains("memory "), "{}", node.banner);
    assert_eq!(Caller::of(&node).options("first"), 200);
}

#[test]
fn either_driver_runs_when_it_is_asked_for() {
    for io in ["mmsg", "auto"] {
        let plan = Plan::new(&format!("driver-{io}"));
        let text = plan
            .text()
            .replace("[node]\n", &format!("[node]\nio = \"{io}\"\n"));
        let node = plan
            .start_with(&text, &[])
            .unwrap_or_else(|ended| panic!("{io}: {}", ended.stderr));
        if io != "auto" {
            assert_eq!(node.json("status")["io"], io);
        }
        assert_eq!(Caller::of(&node).options("driver"), 200);
    }
}

#[test]
fn steering_can_be_turned_off_and_calls_still_find_their_shard() {
    let plan = Plan::new("steering");
    let text = plan
        .text()
        .replace("[node]\n", "[node]\nsteering = \"off\"\n");
    let node = plan
        .start_with(&text, &[])
        .unwrap_or_else(|ended| panic!("{}", ended.stderr));
    let caller = Caller::of(&node);
    for call in 0..16 {
        assert_eq!(caller.options(&format!("walks-{call}")), 200);
    }
    let status = node.json("status");
    assert_eq!(status["steering"], false);
    // One caller's datagrams all come to one shard; half of the calls are the other one's.
    assert!(status["handed_over"].as_u64() > Some(0), "{status}");
}

#[test]
fn a_faulty_file_ends_the_start_with_code_1_and_all_its_places() {
    let plan = Plan::new("faulty");
    let text = plan
        .text()
        .replace("calls_max", "calls_mux")
        .replace("\"pbx\"", "\"pbz\"");
    let file = plan.config().display().to_string();
    let ended = plan.fail(&text);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .contains(&format!("{file}:17:1: unknown key `calls_mux`")),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("pbz"), "{}", ended.stderr);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let (code, _, stderr) = run(&["run", "--config", "/nonexistent/callgate.toml"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("/nonexistent/callgate.toml"), "{stderr}");
}

#[test]
fn a_port_in_use_is_named() {
    let plan = Plan::new("port");
    let _taken = UdpSocket::bind(plan.sip).expect("free a moment ago");
    let (text, sip) = (plan.text(), plan.sip);
    let ended = plan.fail(&text);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains(&format!("udp {sip}: address in use")),
        "{}",
        ended.stderr
    );

    let plan = Plan::new("http-port");
    let _taken = TcpListener::bind(plan.http).expect("free a moment ago");
    let text = plan.text();
    let ended = plan.fail(&text);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("address in use"), "{}", ended.stderr);
}

#[test]
fn a_state_dir_that_cannot_be_written_ends_the_start() {
    let plan = Plan::new("state");
    let text = plan
        .text()
        .replace("[node]\n", "[node]\nstate_dir = \"/dev/null/state\"\n");
    let ended = plan.fail(&text);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("/dev/null/state"), "{}", ended.stderr);
}

#[test]
fn a_capacity_beyond_the_memory_of_the_host_is_refused_with_one_that_fits() {
    let plan = Plan::new("huge");
    let huge = "dialogs = 50_000_000\ntransactions = 50_000_000\n";
    let text = plan
        .text()
        .replace("dialogs = 1000\ntransactions = 1000\n", huge);
    let ended = plan.fail(&text);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("callgate: memory "),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("would fit"), "{}", ended.stderr);
}

#[test]
fn memory_that_the_kernel_does_not_reserve_is_told_and_not_an_abort() {
    let plan = Plan::new("ulimit");
    let large = "dialogs = 500_000\ntransactions = 500_000\n";
    plan.write(
        &plan
            .text()
            .replace("dialogs = 1000\ntransactions = 1000\n", large),
    );
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 1000000 && exec \"$0\" run --config \"$1\""])
        .arg(env!("CARGO_BIN_EXE_callgate"))
        .arg(plan.config())
        .output()
        .expect("a shell");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("the kernel does not reserve as much"),
        "{stderr}"
    );
}

#[test]
fn the_embedded_default_runs_on_loopback_and_cannot_be_reloaded() {
    let Some(node) = DefaultNode::start("default", "true") else {
        return;
    };
    assert!(
        node.banner.contains("listens on udp [::1]:5060"),
        "{}",
        node.banner
    );
    assert!(node.banner.contains("sipp -sn uac"), "{}", node.banner);
    let reload = node.command("reload");
    assert_eq!(reload.status.code(), Some(1));
    let told = String::from_utf8(reload.stderr).expect("text");
    assert!(told.contains("embedded default"), "{told}");
}

#[test]
fn the_embedded_default_runs_without_ipv6_and_says_so() {
    let off = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
    let Some(node) = DefaultNode::start("default-ipv4", off) else {
        return;
    };
    assert!(
        node.banner.contains("listens on udp 127.0.0.1:5060"),
        "{}",
        node.banner
    );
    assert!(!node.banner.contains("[::1]"), "{}", node.banner);
    let log = node.log();
    assert!(log.contains("no listener on udp [::1]:5060"), "{log}");
}

/// A node on the embedded default, alone in a network of its own: its ports are fixed.
struct DefaultNode {
    dir: Scratch,
    child: Child,
    banner: String,
}

impl Drop for DefaultNode {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

impl DefaultNode {
    /// Starts it after `prepare` has changed that network; `None`, said aloud, where this host
    /// does not let us have one.
    fn start(name: &str, prepare: &str) -> Option<DefaultNode> {
        let dir = Scratch::new(name);
        let script = format!("ip link set lo up && {prepare} && exec \"$0\"");
        let probe = Command::new("unshare")
            .args(["-rn", "sh", "-c", &script, "true"])
            .output();
        if !probe.as_ref().is_ok_and(|probe| probe.status.success()) {
            eprintln!("NOT TESTED: no network namespace with `{prepare}` here: {probe:?}");
            return None;
        }
        let child = Command::new("unshare")
            .args(["-rn", "sh", "-c", &script, env!("CARGO_BIN_EXE_callgate")])
            .env("XDG_RUNTIME_DIR", &dir.0)
            .env_remove("NOTIFY_SOCKET")
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.0.join("stderr")).expect("a file"))
            .spawn()
            .expect("unshare runs");
        let mut node = DefaultNode {
            dir,
            child,
            banner: String::new(),
        };
        let stdout = BufReader::new(node.child.stdout.take().expect("piped"));
        for line in stdout.lines().map_while(Result::ok) {
            if line == "callgate: ready" {
                return Some(node);
            }
            node.banner.push_str(&line);
            node.banner.push('\n');
        }
        panic!("the embedded default did not start: {}", node.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.0.join("stderr")).expect("text")
    }

    fn command(&self, word: &str) -> Output {
        program(&[word])
            .env("XDG_RUNTIME_DIR", &self.dir.0)
            .output()
            .expect("the program runs")
    }
}
