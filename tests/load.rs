//! The load generator: straight to itself, through a node, and what it refuses to do.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A directory that goes with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("callgate-load-{}-{name}", std::process::id()));
        let _left_over = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a scratch directory");
        Scratch(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _kept_on_failure = fs::remove_dir_all(&self.0);
    }
}

/// A node that forwards every call from 127.0.0.1 to `callee`, and ends with its owner.
struct Node(Child);

impl Node {
    fn start(dir: &Scratch, listen: SocketAddr, callee: SocketAddr) -> Node {
        let config = dir.file("callgate.toml");
        let text = format!(
            "[node]\nshards = 1\n[capacity]\ndialogs = 2000\ntransactions = 8000\n\
             [[listen]]\nudp = \"{listen}\"\n\
             [trunk.callers]\nmatch = [\"127.0.0.1/32\"]\n\
             [trunk.callees]\naddress = \"{callee}\"\ncalls_max = 1000\n\
             [[route]]\nto = \"callees\"\n"
        );
        fs::write(&config, text).expect("a configuration file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_callgate"))
            .args(["run", "--config"])
            .arg(&config)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let stdout = child.stdout.take().expect("piped");
        let is_ready = BufReader::new(stdout)
            .lines()
            .any(|line| line.is_ok_and(|line| line == "callgate: ready"));
        assert!(is_ready, "the node did not start");
        Node(child)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _ended_already = self.0.wait();
    }
}

fn free(ip: [u8; 4]) -> SocketAddr {
    let socket = UdpSocket::bind(SocketAddr::from((ip, 0))).expect("a free port");
    socket.local_addr().expect("bound")
}

fn load(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_load"))
        .args(arguments)
        .output()
        .expect("the program runs")
}

fn loaded(json: &Path, arguments: &[&str]) -> Value {
    let file = json.to_str().expect("a path in UTF-8");
    let output = load(&[arguments, &["--json", file]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stderr}\n{stdout}");
    let text = fs::read_to_string(json).expect("a result");
    serde_json::from_str(&text).expect("JSON")
}

fn count(result: &Value, name: &str) -> u64 {
    result["counts"][name]
        .as_u64()
        .unwrap_or_else(|| panic!("no count {name} in {result:#}"))
}

#[test]
fn five_hundred_calls_through_a_node_agree_in_every_count() {
    let dir = Scratch::new("node");
    let (listen, callee) = (free([127, 0, 0, 1]), free([127, 0, 0, 2]));
    let _node = Node::start(&dir, listen, callee);
    let result = loaded(
        &dir.file("load.json"),
        &[
            "--to",
            &listen.to_string(),
            "--listen",
            &callee.to_string(),
            "--rate",
            "250",
            "--calls",
            "500",
        ],
    );
    for name in [
        "started",
        "succeeded",
        "invites_sent",
        "invites_received",
        "answers_received",
        "answers_sent",
        "acks_received",
        "byes_sent",
        "byes_received",
        "bye_answers_received",
    ] {
        assert_eq!(count(&result, name), 500, "{name} in {result:#}");
    }
    assert_eq!(count(&result, "failed"), 0);
    assert_eq!(result["failures"], serde_json::json!({}));
    assert_eq!(result["latency_us"]["invite_200"]["count"], 500);
    assert!(result["latency_us"]["bye_200"]["p99"].as_u64() > Some(0));
}

#[test]
fn cancelled_busy_and_unanswered_calls_end_as_they_were_meant_to() {
    let dir = Scratch::new("mix");
    let result = loaded(
        &dir.file("load.json"),
        &[
            "--rate",
            "500",
            "--calls",
            "500",
            "--cancel",
            "20",
            "--busy",
            "20",
            "--no-answer",
            "20",
            "--patience",
            "100ms",
            "--ring",
            "exp:20ms",
            "--hold",
            "exp:20ms",
        ],
    );
    assert_eq!(count(&result, "succeeded"), 500, "{result:#}");
    let answered = count(&result, "answers_received");
    let refused = count(&result, "refusals_received");
    assert_eq!(answered + refused, 500);
    assert!(answered > 100 && refused > 200, "{result:#}");
    assert_eq!(
        count(&result, "cancels_sent"),
        count(&result, "cancels_received")
    );
    assert_eq!(count(&result, "acks_received"), 500);
}

#[test]
fn registers_and_options_are_answered() {
    let dir = Scratch::new("other");
    for mode in ["register", "options"] {
        let result = loaded(
            &dir.file("load.json"),
            &["--mode", mode, "--rate", "500", "--calls", "100"],
        );
        assert_eq!(count(&result, "succeeded"), 100, "{mode}: {result:#}");
        assert_eq!(count(&result, "requests_received"), 100);
    }
}

#[test]
fn the_search_of_rfc_7502_reports_the_rate_it_confirmed() {
    let dir = Scratch::new("search");
    // The bound of the table is the limit here: a call is kept for 100 ms. A machine that stalls for
    // half a second makes it lower.
    let result = load(&[
        "--rfc7502",
        "--rate",
        "50",
        "--time",
        "300ms",
        "--hold",
        "100ms",
        "--table",
        "20",
        "--sessions",
        "100",
        "--resolution",
        "20",
        "--json",
        dir.file("search.json").to_str().expect("UTF-8"),
    ]);
    let text = String::from_utf8_lossy(&result.stdout);
    assert!(text.contains("Session Establishment Rate"), "{text}");
    let json = fs::read_to_string(dir.file("search.json")).expect("a result");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let rate = json["rfc7502"]["rate_per_s"].as_f64().expect("a rate");
    assert!((1.0..=220.0).contains(&rate), "{json:#}");
}

#[test]
fn a_target_that_is_not_loopback_is_refused_with_the_reason() {
    for arguments in [
        ["--uac", "--to", "192.0.2.1:5060"],
        ["--uas", "--listen", "192.0.2.1:5060"],
        ["--uas", "--listen", "0.0.0.0:5060"],
    ] {
        let output = load(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(why.starts_with("load: "), "{why}");
        assert!(
            why.contains("--permit 192.0.2.1") || why.contains("every address"),
            "{why}"
        );
    }
    let relay = load(&["relay", "--listen", "127.0.0.1:0", "--to", "192.0.2.1:5060"]);
    assert_eq!(relay.status.code(), Some(2));
}
