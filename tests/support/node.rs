//! A Callgate node under test: its configuration, its process, what it tells about itself.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::tool::{Running, Scratch};
use super::{eventually, port, seconds};

/// SIP's timers a tenth of the RFC's: what ends by time-out ends within a test.
pub const QUICK: &str = "t1 = \"50ms\"\nt2 = \"400ms\"\nt4 = \"500ms\"";

/// What a configuration file says, apart from trunks, groups and routes.
#[derive(Clone)]
pub struct Setup {
    pub shards: String,
    pub io: &'static str,
    pub steering: &'static str,
    pub drain_max: Option<&'static str>,
    pub timers: String,
    pub dialogs: usize,
    pub transactions: usize,
    /// Listeners; the first is [`Node::address`].
    pub listen: Vec<SocketAddr>,
    /// Trunks, groups and routes, as TOML.
    pub routing: String,
    http: SocketAddr,
}

impl Setup {
    /// One shard on a free port of 127.0.0.1 with quick timers.
    pub fn new(routing: impl Into<String>) -> Setup {
        Setup {
            shards: "1".to_owned(),
            io: "auto",
            steering: "auto",
            drain_max: None,
            timers: QUICK.to_owned(),
            dialogs: 10_000,
            transactions: 10_000,
            listen: vec![SocketAddr::new(
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                port::free(),
            )],
            routing: routing.into(),
            http: SocketAddr::from(([127, 0, 0, 1], port::free())),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.listen[0]
    }

    pub fn toml(&self, scratch: &Scratch) -> String {
        let mut text = String::new();
        let mut line = |part: &str| writeln!(text, "{part}").expect("writing to a String");
        line("[node]\nname = \"gate\"");
        line(&format!("shards = {}", self.shards));
        line(&format!(
            "io = \"{}\"\nsteering = \"{}\"",
            self.io, self.steering
        ));
        line(&format!("state_dir = \"{}\"", scratch.path().display()));
        if let Some(drain_max) = self.drain_max {
            line(&format!("drain_max = \"{drain_max}\""));
        }
        // On a test host others use the CPUs, too: what waits for that is no overload.
        line("[overload]\ntarget = \"500ms\"");
        line(&format!("[capacity]\ndialogs = {}", self.dialogs));
        line(&format!("transactions = {}", self.transactions));
        line(&format!("[timers]\n{}", self.timers));
        for address in &self.listen {
            line(&format!("[[listen]]\nudp = \"{address}\""));
        }
        line(&format!(
            "[control]\nsocket = \"{}\"",
            scratch.file("s").display()
        ));
        line(&format!("http = \"{}\"", self.http));
        line(&self.routing);
        text
    }
}

/// A running node; killed on drop, its output shown when the test fails.
pub struct Node {
    process: Running,
    scratch: Scratch,
    pub address: SocketAddr,
    http: SocketAddr,
}

/// The program under test.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_callgate"))
}

impl Node {
    /// Starts a node and waits until it says that it is ready.
    pub fn start(setup: &Setup) -> Node {
        let scratch = Scratch::new("node");
        let config = scratch.write("callgate.toml", &setup.toml(&scratch));
        let mut command = program();
        command.arg("run").arg("--config").arg(&config);
        let mut process = Running::start("callgate", &mut command, &scratch, Stdio::null());
        let ready = process.says("callgate: ready", seconds(15));
        assert!(
            ready,
            "the node did not get ready:\n{}\nits configuration:\n{}",
            process.output(),
            setup.toml(&scratch)
        );
        Node {
            process,
            scratch,
            address: setup.address(),
            http: setup.http,
        }
    }

    /// Has a new process take the node over, and waits until it has.
    pub fn take_over(&mut self) {
        let config = self.config_file();
        let mut command = program();
        command.args(["run", "--takeover", "--config"]).arg(&config);
        let mut heir = Running::start("heir", &mut command, &self.scratch, Stdio::null());
        let ready = heir.says("callgate: ready", seconds(30));
        assert!(
            ready,
            "not taken over:\n{}\n{}",
            heir.output(),
            self.output()
        );
        let ended = self.process.wait(seconds(10));
        assert!(
            ended.is_some_and(|ended| ended.success()),
            "the former process: {ended:?}\n{}",
            self.output()
        );
        self.process = heir;
    }

    /// With these trunks and routes, everything else as [`Setup::new`] has it.
    pub fn with(routing: impl Into<String>) -> Node {
        Node::start(&Setup::new(routing))
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn config_file(&self) -> PathBuf {
        self.scratch.file("callgate.toml")
    }

    pub fn output(&self) -> String {
        self.process.output()
    }

    pub fn is_alive(&mut self) -> bool {
        self.process.has_ended().is_none()
    }

    /// Runs `callgate ARGS --socket …` against this node.
    pub fn command(&self, args: &[&str]) -> Output {
        program()
            .args(args)
            .arg("--socket")
            .arg(self.scratch.file("s"))
            .output()
            .expect("the program under test runs")
    }

    /// The same with `--json`, parsed.
    pub fn json(&self, args: &[&str]) -> Value {
        let mut whole = args.to_vec();
        whole.push("--json");
        let output = self.command(&whole);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "callgate {whole:?} failed: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        parse(&text).unwrap_or_else(|| panic!("callgate {whole:?} printed no JSON: {text}"))
    }

    /// Calls that the node has in its dialog tables.
    pub fn calls(&self) -> usize {
        items(&self.json(&["calls"]), "calls").len()
    }

    /// Calls counted at this moment as (trunk or group, incoming, outgoing).
    pub fn limits(&self) -> Vec<(String, u64, u64)> {
        let json = self.json(&["limits"]);
        let mut rows = Vec::new();
        for key in ["limits", "trunks", "groups"] {
            rows.extend(items(&json, key));
        }
        assert!(!rows.is_empty(), "callgate limits lists nothing: {json}");
        rows.iter()
            .map(|row| {
                let name = row["name"].as_str().unwrap_or_default().to_owned();
                let incoming = number(row, &["calls_in", "in_calls"]);
                (name, incoming, number(row, &["calls_out", "out_calls"]))
            })
            .collect()
    }

    /// Calls counted for `name`, both directions.
    pub fn counted(&self, name: &str) -> u64 {
        let limits = self.limits();
        let row = limits.iter().find(|(found, ..)| found == name);
        let (_, incoming, outgoing) =
            row.unwrap_or_else(|| panic!("no limits of {name}: {limits:?}"));
        incoming + outgoing
    }

    /// Fails unless every counter is exactly zero and no call is left, within `patience`.
    pub fn is_quiet_within(&self, patience: Duration) {
        let zero = || {
            self.calls() == 0
                && self
                    .limits()
                    .iter()
                    .all(|(_, incoming, outgoing)| incoming + outgoing == 0)
        };
        assert!(
            eventually(patience, zero),
            "calls are left over: {} calls, limits {:?}",
            self.json(&["calls"]),
            self.limits()
        );
    }

    /// A number of the status, looked for by its key at any depth; lists of numbers are added up.
    pub fn status_number(&self, key: &str) -> u64 {
        let status = self.json(&["status"]);
        let found = search(&status, key).unwrap_or_else(|| panic!("no {key} in {status}"));
        found.as_u64().unwrap_or_else(|| {
            let list = found.as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(Value::as_u64).sum()
        })
    }

    /// A text of the status; `true` and `false` read as "on" and "off".
    pub fn status_text(&self, key: &str) -> String {
        let status = self.json(&["status"]);
        match search(&status, key) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(on)) => if *on { "on" } else { "off" }.to_owned(),
            other => panic!("no text {key} in the status but {other:?}: {status}"),
        }
    }

    /// The page at `path` of the node's HTTP door, headers and all.
    pub fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http).expect("the node's HTTP door");
        let request = format!("GET {path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        page
    }

    /// The values of a metric, one for each set of labels that contains `label`.
    pub fn metric(&self, name: &str, label: &str) -> Vec<u64> {
        let page = self.page("/metrics");
        let rows = page.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        });
        let values = rows.filter_map(|line| line.rsplit(' ').next());
        values
            .map(|text| text.parse().expect("a counter"))
            .collect()
    }

    /// Asks the node to drain and end.
    pub fn terminate(&self) {
        self.process.signal(libc::SIGTERM);
    }

    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    pub fn wait_for_end(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.process.wait(patience)
    }
}

/// One JSON value, or one per line.
fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().or_else(|| {
        let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        lines.ok().map(Value::Array)
    })
}

/// The rows of a listing: the value itself when it is a list, else its member `key`.
fn items(json: &Value, key: &str) -> Vec<Value> {
    let list = json
        .as_array()
        .or_else(|| json.get(key).and_then(Value::as_array));
    list.cloned().unwrap_or_default()
}

fn number(row: &Value, keys: &[&str]) -> u64 {
    let found = keys
        .iter()
        .find_map(|key| search(row, key).and_then(Value::as_u64));
    found.unwrap_or_else(|| panic!("none of {keys:?} in {row}"))
}

fn search<'a>(json: &'a Value, key: &str) -> Option<&'a Value> {
    match json {
        Value::Object(members) => members
            .get(key)
            .or_else(|| members.values().find_map(|member| search(member, key))),
        Value::Array(list) => list.iter().find_map(|item| search(item, key)),
        _ => None,
    }
}
