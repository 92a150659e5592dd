//! The program from outside: start, commands, signals, faults, and what it tells other programs.
//!
//! Each test runs its own node on free loopback ports, in a directory of its own.

#![expect(
    clippy::disallowed_methods,
    reason = "a test of the running program waits for it by the clock"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that goes with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("callgate-node-{}-{name}", std::process::id()));
        let _left_over = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a scratch directory");
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _kept_on_failure = fs::remove_dir_all(&self.0);
    }
}

/// Where a node of a test listens, before it runs.
struct Plan {
    dir: Scratch,
    sip: SocketAddr,
    http: SocketAddr,
    /// Calls go here.
    uas: UdpSocket,
}

impl Plan {
    fn new(name: &str) -> Plan {
        // Another address than the callers': the addresses of a trunk are sources of it, too.
        let uas = UdpSocket::bind("127.0.0.2:0").expect("a free port");
        uas.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Plan {
            dir: Scratch::new(name),
            sip: free_udp(),
            http: free_tcp(),
            uas,
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.0.join("control.sock")
    }

    fn config(&self) -> PathBuf {
        self.dir.0.join("callgate.toml")
    }

    fn text(&self) -> String {
        format!(
            "[node]\nname = \"edge1\"\nshards = 2\ndrain_max = \"60s\"\n\
             [capacity]\ndialogs = 1000\ntransactions = 1000\n\
             [[listen]]\nudp = \"{}\"\n\
             [control]\nsocket = \"{}\"\nhttp = \"{}\"\n\
             [trunk.callers]\nmatch = [\"127.0.0.0/8\"]\n\
             [trunk.carrier-a]\naddress = \"{}\"\ncalls_max = 20\n\
             [group.pbx]\nmembers = [\"carrier-a\"]\n\
             [[route]]\nto = \"pbx\"\n",
            self.sip,
            self.socket().display(),
            self.http,
            self.uas.local_addr().expect("bound"),
        )
    }

    fn write(&self, text: &str) {
        fs::write(self.config(), text).expect("a configuration file");
    }

    /// Starts the node and waits until it says that it is ready.
    fn start(self) -> Node {
        let text = self.text();
        self.start_with(&text, &[])
            .unwrap_or_else(|ended| panic!("the node did not start: {}", ended.stderr))
    }

    fn start_with(self, text: &str, environment: &[(&str, &str)]) -> Result<Node, Ended> {
        self.write(text);
        let mut child = program(&["run", "--config"])
            .arg(self.config())
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(self.dir.0.join("stderr")).expect("a file"))
            .spawn()
            .expect("the program runs");
        let stdout = child.stdout.take().expect("piped");
        let mut banner = String::new();
        for line in BufReader::new(stdout).lines() {
            let line = line.expect("text");
            banner.push_str(&line);
            banner.push('\n');
            if line == "callgate: ready" {
                return Ok(Node {
                    plan: self,
                    child,
                    banner,
                });
            }
        }
        let status = child.wait().expect("the program ends");
        Err(Ended {
            code: status.code(),
            stderr: fs::read_to_string(self.dir.0.join("stderr")).expect("text"),
        })
    }

    /// Starts a node that must not come up.
    fn fail(self, text: &str) -> Ended {
        match self.start_with(text, &[]) {
            Ok(node) => panic!("the node started:\n{}", node.banner),
            Err(ended) => ended,
        }
    }
}

struct Ended {
    code: Option<i32>,
    stderr: String,
}

/// A node that runs.
struct Node {
    plan: Plan,
    child: Child,
    banner: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

impl Node {
    fn command(&self, words: &str) -> Output {
        program(&words.split(' ').collect::<Vec<_>>())
            .arg("--socket")
            .arg(self.plan.socket())
            .output()
            .expect("the program runs")
    }

    fn text(&self, words: &str) -> String {
        let output = self.command(words);
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, words: &str) -> Value {
        let text = self.text(&format!("{words} --json"));
        serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{words}: {fault}: {text}"))
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status();
        assert!(status.expect("a shell").success(), "{kill}");
    }

    fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the node does not end: {}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.plan.dir.0.join("stderr")).expect("text")
    }

    fn http(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.plan.http).expect("HTTP listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        write!(stream, "{request} HTTP/1.1\r\nHost: edge1\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        let status = answer.split(' ').nth(1).expect("a status line");
        let (_head, body) = answer.split_once("\r\n\r\n").expect("an empty line");
        (status.parse().expect("a number"), body.to_owned())
    }

    /// Waits until `holds` does.
    fn until(&self, what: &str, holds: impl Fn(&Node) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn calls_max_of_carrier_a(&self) -> Value {
        let limits = self.json("limits");
        let rows = limits.as_array().expect("a list");
        let row = rows.iter().find(|row| row["name"] == "carrier-a");
        row.expect("the trunk")["calls_max"].clone()
    }

    fn calls(&self) -> u64 {
        self.json("status")["calls"].as_u64().expect("a number")
    }
}

fn program(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callgate"));
    command
        .args(words)
        .env_remove("CALLGATE_SOCKET")
        .env_remove("NOTIFY_SOCKET");
    command
}

fn free_udp() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("bound")
}

fn free_tcp() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound")
}

fn run(words: &[&str]) -> (Option<i32>, String, String) {
    let output = program(words).output().expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A caller with a socket of its own.
struct Caller {
    socket: UdpSocket,
    node: SocketAddr,
}

impl Caller {
    fn of(node: &Node) -> Caller {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Caller {
            socket,
            node: node.plan.sip,
        }
    }

    fn request(&self, method: &str, call_id: &str) -> String {
        let own = self.socket.local_addr().expect("bound");
        let node = self.node;
        format!(
            "{method} sip:1234@{node} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{call_id}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:a@{own}>;tag=1\r\nTo: <sip:1234@{node}>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 {method}\r\nContact: <sip:a@{own}>\r\nContent-Length: 0\r\n\r\n"
        )
    }

    fn send(&self, text: &str) {
        self.socket
            .send_to(text.as_bytes(), self.node)
            .expect("sent");
    }

    /// The status of the next answer for this call that is not 100.
    fn answer(&self, call_id: &str) -> u16 {
        loop {
            let text = receive(&self.socket).0;
            let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
            let status = status.expect("an answer");
            if text.contains(&format!("Call-ID: {call_id}\r\n")) && status != 100 {
                return status;
            }
        }
    }

    fn options(&self, call_id: &str) -> u16 {
        let text = self.request("OPTIONS", call_id);
        self.send(&text.replace("sip:1234@", "sip:"));
        self.answer(call_id)
    }

    /// Starts a call and lets it ring.
    fn ring(&self, node: &Node, call_id: &str) {
        self.send(&self.request("INVITE", call_id));
        let (invite, from) = loop {
            let (text, from) = receive(&node.plan.uas);
            if text.starts_with("INVITE ") && text.contains(&format!("Call-ID: {call_id}\r\n")) {
                break (text, from);
            }
        };
        let kept = ["Via:", "Record-Route:", "From:", "Call-ID:", "CSeq:"];
        let mut answer = "SIP/2.0 180 Ringing\r\n".to_owned();
        for line in invite.split("\r\n") {
            if kept.iter().any(|name| line.starts_with(name)) {
                answer.push_str(&format!("{line}\r\n"));
            }
        }
        let own = node.plan.uas.local_addr().expect("bound");
        answer.push_str(&format!(
            "To: <sip:1234@{own}>;tag=2\r\nContact: <sip:b@{own}>\r\nContent-Length: 0\r\n\r\n"
        ));
        node.plan
            .uas
            .send_to(answer.as_bytes(), from)
            .expect("sent");
        assert_eq!(self.answer(call_id), 180);
    }
}

fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
    (
        String::from_utf8_lossy(&buffer[..length]).into_owned(),
        from,
    )
}

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
fn status_names_what_runs_and_why() {
    let node = Plan::new("status").start();
    let status = node.json("status");
    assert_eq!(status["name"], "edge1");
    assert_eq!(status["state"], "ready");
    assert_eq!(status["calls"], 0);
    assert_eq!(status["shards"].as_array().expect("a list").len(), 2);
    assert!(status["steering"].is_boolean() && status["handed_over"].is_u64());
    let text = node.text("status");
    for word in [
        "node",
        "listening",
        "io",
        "steering",
        "handed over",
        "calls",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(word)),
            "{word}: {text}"
        );
    }
    assert_eq!(node.json("shards").as_array().expect("a list").len(), 2);
    assert_eq!(node.json("calls"), serde_json::json!([]));
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
fn commands_without_a_node_name_the_path_and_exit_with_3() {
    let (code, _, stderr) = run(&["status", "--socket", "/nonexistent/control.sock"]);
    assert_eq!(code, Some(3));
    assert!(stderr.contains("/nonexistent/control.sock"), "{stderr}");
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for words in [
        &["stautus"][..],
        &["check"],
        &["trunk", "show"],
        &["run", "--nope"],
    ] {
        assert_eq!(run(words).0, Some(2), "{words:?}");
    }
}

#[test]
fn check_host_compares_and_says_what_it_found() {
    let (code, stdout, stderr) = run(&["check", "--host", "--json"]);
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    let good = report["good"].as_bool().expect("a verdict");
    assert_eq!(code, Some(if good { 0 } else { 1 }), "{stderr}");
    assert!(!report["findings"].as_array().expect("a list").is_empty());
}

#[test]
fn help_teaches_by_example() {
    let (code, stdout, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains("Examples:") && stdout.contains("Exit codes:"),
        "{stdout}"
    );
    assert!(
        !stdout.contains("debug "),
        "the commands that break things are hidden: {stdout}"
    );
}

#[test]
fn check_says_good_or_lists_all_faults() {
    let plan = Plan::new("check");
    plan.write(&plan.text());
    let file = plan.config().display().to_string();
    let (code, stdout, _) = run(&["check", &file]);
    assert_eq!((code, stdout.contains("good")), (Some(0), true), "{stdout}");
    plan.write(&plan.text().replace("calls_max", "calls_mux"));
    let (code, stdout, _) = run(&["check", &file, "--json"]);
    assert_eq!(code, Some(1));
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(report["faults"][0]["line"], 17);
}

#[test]
fn sigterm_ends_a_node_without_calls_with_code_0() {
    let mut node = Plan::new("term").start();
    node.signal("TERM");
    assert_eq!(node.wait(), Some(0));
    assert!(!node.plan.socket().exists(), "the socket file is removed");
}

#[test]
fn a_draining_node_keeps_its_calls_and_a_second_signal_ends_it_at_once() {
    let mut node = Plan::new("drain").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "kept");
    node.signal("TERM");
    node.until("draining", |node| node.http("GET /readyz").0 == 503);
    assert_eq!(node.http("GET /healthz").0, 200);
    assert_eq!(node.json("status")["state"], "draining");
    assert_eq!(node.calls(), 1);
    caller.send(&caller.request("INVITE", "late"));
    assert_eq!(caller.answer("late"), 503);
    assert!(
        node.child.try_wait().expect("a child").is_none(),
        "{}",
        node.log()
    );
    node.signal("TERM");
    assert_eq!(node.wait(), Some(1));
}

#[test]
fn a_draining_node_ends_when_its_last_call_has() {
    let mut node = Plan::new("drained").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "last");
    node.signal("INT");
    node.until("draining", |node| {
        node.json("status")["state"] == "draining"
    });
    assert_eq!(node.text("call end last"), "ended last\n");
    assert_eq!(node.wait(), Some(0));
}

#[test]
fn drain_max_ends_a_drain_with_calls_up() {
    let plan = Plan::new("drain-max");
    let text = plan.text().replace("60s", "1s");
    let mut node = plan
        .start_with(&text, &[])
        .unwrap_or_else(|ended| panic!("{}", ended.stderr));
    Caller::of(&node).ring(&node, "long");
    node.signal("TERM");
    assert_eq!(node.wait(), Some(0));
    assert!(node.log().contains("drain_max is over"), "{}", node.log());
}

#[test]
fn a_live_call_is_listed_counted_and_can_be_ended() {
    let node = Plan::new("calls").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "one");
    caller.ring(&node, "two");
    node.until("two calls", |node| node.calls() == 2);
    let calls = node.json("calls");
    assert_eq!(calls.as_array().expect("a list").len(), 2);
    for call in calls.as_array().expect("a list") {
        assert_eq!(call["state"], "ringing", "{call}");
        assert_eq!(call["trunk_in"], "callers", "{call}");
        assert_eq!(call["trunk_out"], "carrier-a", "{call}");
    }
    assert_eq!(
        node.json("calls --limit 1")
            .as_array()
            .expect("a list")
            .len(),
        1
    );
    assert_eq!(
        node.json("calls --trunk carrier-a")
            .as_array()
            .expect("a list")
            .len(),
        2
    );
    assert_eq!(node.command("calls --trunk nobody").status.code(), Some(1));
    let limits = node.json("limits");
    for (name, field) in [
        ("callers", "calls_in"),
        ("carrier-a", "calls_out"),
        ("pbx", "calls_out"),
    ] {
        let rows = limits.as_array().expect("a list").iter();
        let row = rows.clone().find(|row| row["name"] == name).expect("a row");
        assert_eq!(row[field], 2, "{row}");
    }
    node.text("call end one");
    node.text("call end two");
    node.until("no calls", |node| node.calls() == 0);
    assert_eq!(node.command("call end one").status.code(), Some(1));
}

#[test]
fn a_good_file_is_reloaded_and_the_difference_is_told() {
    let node = Plan::new("reload").start();
    assert_eq!(node.calls_max_of_carrier_a(), 20);
    node.plan
        .write(&node.plan.text().replace("calls_max = 20", "calls_max = 30"));
    let told = node.text("reload");
    assert!(
        told.contains("carrier-a") && told.contains("20") && told.contains("30"),
        "{told}"
    );
    assert_eq!(node.calls_max_of_carrier_a(), 30);
    assert_eq!(node.text("reload"), "nothing changed\n");
    node.plan
        .write(&node.plan.text().replace("calls_max = 20", "calls_max = 40"));
    node.signal("HUP");
    node.until("reloaded", |node| node.calls_max_of_carrier_a() == 40);
}

#[test]
fn a_faulty_file_changes_nothing_and_says_why() {
    let node = Plan::new("reload-faulty").start();
    let faulty = node.plan.text().replace("calls_max = 20", "calls_mux = 30");
    node.plan.write(&faulty);
    let output = node.command("reload");
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains(":17:1: unknown key `calls_mux`"), "{told}");
    assert_eq!(node.calls_max_of_carrier_a(), 20);
    assert!(
        node.log().contains("unknown key `calls_mux`"),
        "{}",
        node.log()
    );
    assert_eq!(Caller::of(&node).options("after"), 200);
}

#[test]
fn a_change_that_needs_a_restart_is_refused_whole() {
    let node = Plan::new("reload-restart").start();
    let changed = node.plan.text().replace("shards = 2", "shards = 1");
    node.plan
        .write(&changed.replace("calls_max = 20", "calls_max = 30"));
    let output = node.command("reload");
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.contains("restart") && told.contains("shards"),
        "{told}"
    );
    assert_eq!(node.calls_max_of_carrier_a(), 20);
}

#[test]
fn trunks_are_shown_and_change_their_state_on_order() {
    let node = Plan::new("trunks").start();
    let state = |node: &Node| node.json("trunk show carrier-a")["state"].clone();
    assert_eq!(state(&node), "up");
    node.text("trunk drain carrier-a");
    node.until("draining", |node| state(node) == "draining");
    node.text("trunk enable carrier-a");
    node.until("enabled", |node| {
        state(node) == "up" || state(node) == "probing"
    });
    node.text("trunk disable carrier-a");
    node.until("disabled", |node| state(node) == "disabled");
    let detail = node.json("trunk show carrier-a");
    assert!(
        detail["transitions"].as_array().expect("a list").len() >= 3,
        "{detail}"
    );
    let unknown = node.command("trunk show carrier-b");
    assert_eq!(unknown.status.code(), Some(1));
    let told = String::from_utf8(unknown.stderr).expect("text");
    assert!(
        told.contains("carrier-a"),
        "the known names are told: {told}"
    );
}

#[test]
fn metrics_are_in_the_exposition_format() {
    let node = Plan::new("metrics").start();
    Caller::of(&node).options("counted");
    let (status, text) = node.http("GET /metrics");
    assert_eq!(status, 200);
    let mut seen = std::collections::BTreeSet::new();
    let mut families = std::collections::BTreeSet::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert!(
                families.insert(name.to_owned()),
                "{name} stands in two places"
            );
            family = name;
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert_eq!(series.split('{').next(), Some(family), "{line}");
            assert!(!series.contains('{') || series.ends_with('}'), "{line}");
            assert!(seen.insert(series.to_owned()), "{series} twice");
        }
    }
    for wanted in [
        "callgate_shard_restarts_total",
        "callgate_handed_over_total",
        "callgate_limit_used",
        "callgate_limit_max",
        "callgate_trunk_state",
        "callgate_calls",
        "callgate_io_received_total",
    ] {
        assert!(families.contains(wanted), "{wanted} is missing");
    }
    let received: f64 = text
        .lines()
        .filter(|line| line.starts_with("callgate_datagrams_received_total"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum();
    assert!(received >= 1.0, "{text}");
}

#[test]
fn http_answers_get_and_head_of_its_pages_only() {
    let node = Plan::new("http").start();
    assert_eq!(node.http("GET /healthz").0, 200);
    assert_eq!(node.http("GET /readyz"), (200, "ready\n".to_owned()));
    assert_eq!(node.http("HEAD /metrics"), (200, String::new()));
    assert_eq!(node.http("GET /").0, 404);
    assert_eq!(node.http("POST /metrics").0, 405);
    assert_eq!(node.http("nonsense").0, 405);
    assert_eq!(node.http(&format!("GET /{}", "x".repeat(20_000))).0, 431);
}

#[test]
fn idle_http_clients_do_not_keep_others_out_for_ever() {
    let node = Plan::new("http-idle").start();
    let _idle: Vec<TcpStream> = (0..16)
        .map(|_| TcpStream::connect(node.plan.http).expect("HTTP listens"))
        .collect();
    assert_eq!(node.http("GET /healthz").0, 200);
}

#[test]
fn a_shard_that_panics_is_replaced_and_its_calls_are_given_back() {
    let node = Plan::new("panic").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "lost");
    for shard in 0..2 {
        node.text(&format!("debug panic-shard {shard}"));
    }
    node.until("restarted", |node| {
        let status = node.json("status");
        status["restarts"] == 2 && status["shards_running"] == 2
    });
    for call in 0..16 {
        assert_eq!(caller.options(&format!("after-{call}")), 200);
    }
    for row in node.json("limits").as_array().expect("a list") {
        assert_eq!(row["calls"], 0, "{row}");
    }
    let log = node.log();
    assert!(
        log.contains("panicked at") && log.contains("is replaced"),
        "{log}"
    );
    assert!(
        node.http("GET /metrics")
            .1
            .contains("callgate_shard_restarts_total{shard=\"0\"} 1")
    );
    assert_eq!(node.http("GET /readyz").0, 200);
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_respected() {
    let plan = Plan::new("stale");
    drop(UnixListener::bind(plan.socket()).expect("a socket file"));
    let node = plan.start();
    assert_eq!(node.json("status")["state"], "ready");
    let mut second = Plan::new("second");
    second.sip = free_udp();
    let text = second.text().replace(
        &second.socket().display().to_string(),
        &node.plan.socket().display().to_string(),
    );
    let ended = second.fail(&text);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("another node is running"),
        "{}",
        ended.stderr
    );
    assert_eq!(node.json("status")["state"], "ready");
}

#[test]
fn bad_lines_on_the_admin_socket_get_errors_and_the_next_line_an_answer() {
    let node = Plan::new("rpc").start();
    let mut stream = UnixStream::connect(node.plan.socket()).expect("the node listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
        .write_all(
            b"nonsense\n\
              {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"nope\"}\n\
              {\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"calls\",\"params\":{\"x\":1}}\n\
              {\"jsonrpc\":\"2.0\",\"method\":\"ready\"}\n\
              {\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"ready\"}\n",
        )
        .expect("sent");
    let mut lines = BufReader::new(&stream).lines();
    let mut answer = || -> Value {
        let line = lines.next().expect("an answer").expect("text");
        serde_json::from_str(&line).expect("JSON")
    };
    assert_eq!(answer()["error"]["code"], -32700);
    assert_eq!(answer()["error"]["code"], -32601);
    assert_eq!(answer()["error"]["code"], -32602);
    let last = answer();
    assert_eq!(
        (&last["id"], &last["result"]["ready"]),
        (&3.into(), &true.into())
    );
}

#[test]
fn a_request_line_without_end_is_cut_off() {
    let node = Plan::new("rpc-long").start();
    let mut stream = UnixStream::connect(node.plan.socket()).expect("the node listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let _cut_off = stream.write_all(&[b'x'; 100_000]);
    let mut answer = String::new();
    let _reset = stream.read_to_string(&mut answer);
    assert!(answer.contains("-32600"), "{answer}");
    assert_eq!(node.json("status")["state"], "ready");
}

#[test]
fn the_log_level_changes_while_the_node_runs() {
    let node = Plan::new("log").start();
    assert_eq!(node.text("log set debug"), "log level is debug\n");
    assert_eq!(
        node.command("log set callgate=nonsense").status.code(),
        Some(1)
    );
}

#[test]
fn log_lines_are_json_where_that_is_asked_for() {
    let plan = Plan::new("log-json");
    let text = plan.text() + "[log]\nlevel = \"info\"\nformat = \"json\"\n";
    let mut node = plan
        .start_with(&text, &[])
        .unwrap_or_else(|ended| panic!("{}", ended.stderr));
    node.signal("TERM");
    assert_eq!(node.wait(), Some(0));
    let log = node.log();
    assert!(log.contains("draining"), "{log}");
    for line in log.lines() {
        let entry: Value =
            serde_json::from_str(line).unwrap_or_else(|fault| panic!("{fault}: {line}"));
        assert!(
            entry["level"].is_string() && entry["message"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn the_service_manager_is_told_each_step() {
    let plan = Plan::new("notify");
    let path = plan.dir.0.join("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let told = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let text = plan.text();
    let notify = path.display().to_string();
    let mut node = plan
        .start_with(&text, &[("NOTIFY_SOCKET", &notify)])
        .unwrap_or_else(|ended| panic!("{}", ended.stderr));
    assert_eq!(told(), "READY=1\n");
    node.text("reload");
    assert!(told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(told(), "READY=1\n");
    node.signal("TERM");
    assert_eq!(told(), "STOPPING=1\n");
    assert_eq!(node.wait(), Some(0));
}

#[test]
fn the_embedded_default_runs_on_loopback_and_cannot_be_reloaded() {
    let dir = Scratch::new("default");
    let mut child = program(&[])
        .env("XDG_RUNTIME_DIR", &dir.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let stdout = child.stdout.take().expect("piped");
    let lines: Vec<String> = BufReader::new(stdout)
        .lines()
        .map_while(Result::ok)
        .scan(false, |ended, line| {
            (!std::mem::replace(ended, line == "callgate: ready")).then_some(line)
        })
        .take_while(|line| line != "callgate: ready")
        .collect();
    let reload = default_command(&dir.0, "reload");
    let _ended_already = child.kill();
    let output = child.wait_with_output().expect("the program ends");
    let stderr = String::from_utf8(output.stderr).expect("text");
    if stderr.contains("address in use") {
        eprintln!("NOT TESTED: a port of the embedded default is in use here: {stderr}");
        return;
    }
    assert!(
        lines.iter().any(|line| line.contains("sipp -sn uac")),
        "{lines:?}\n{stderr}"
    );
    assert_eq!(reload.status.code(), Some(1));
    let told = String::from_utf8(reload.stderr).expect("text");
    assert!(told.contains("embedded default"), "{told}");
}

fn default_command(runtime_dir: &Path, word: &str) -> Output {
    program(&[word])
        .env("XDG_RUNTIME_DIR", runtime_dir)
        .output()
        .expect("the program runs")
}
