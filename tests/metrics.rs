//! What `/metrics` says, what is said about it, and what Prometheus makes of it: the page, its
//! description, the rules and the dashboard in `tuning/`, over a node that carries calls.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::Value;
use support::node::{Node, Setup};
use support::phone::Phone;
use support::sipp::Scenario;
use support::tool::{self, Running, Scratch};
use support::{alone, eventually, ms, port, seconds};

/// What the page is to show at once: a trunk with a probe, limits, a group.
const ROUTING: &str = "\
[trunk.callers]\nmatch = [\"127.0.0.0/8\"]\ncalls_in_max = 500\n\
[trunk.callee]\naddress = [\"@CALLEE@\"]\ncalls_max = 400\n\
[trunk.probed]\naddress = [\"@PROBED@\"]\nprobe = \"1s\"\n\
[group.pbx]\nmembers = [\"callee\"]\ncalls_max = 300\n\
[[route]]\nuser = \"^404\"\nto = \"reject 404\"\n[[route]]\nto = \"pbx\"\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn get(address: SocketAddr, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream
        .set_read_timeout(Some(seconds(20)))
        .expect("a time-out");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    )
    .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    match head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        true => unchunked(body),
        false => body.to_owned(),
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk size");
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}

/// Answers OPTIONS as long as it lives.
struct Answering {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    fn start(phone: Phone, gate: SocketAddr) -> Answering {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let answer = move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(options) = phone.hears(ms(100)) {
                    phone.answer(&options, "200 OK", gate);
                }
            }
        };
        let thread = std::thread::Builder::new().spawn(answer);
        Answering {
            stop,
            thread: Some(thread.expect("a thread")),
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

struct Bench {
    _answering: Answering,
    node: Node,
    callee: SocketAddr,
    http: SocketAddr,
}

impl Bench {
    fn new() -> Bench {
        let callee = SocketAddr::from(([127, 0, 0, 2], port::free()));
        let phone = Phone::on("127.0.0.3:0");
        let routing = ROUTING
            .replace("@CALLEE@", &callee.to_string())
            .replace("@PROBED@", &phone.address.to_string());
        let mut setup = Setup::new(routing);
        setup.shards = "2".to_owned();
        let scratch = Scratch::new("metrics");
        let toml = setup.toml(&scratch);
        let http = toml
            .lines()
            .find_map(|line| line.strip_prefix("http = \"")?.strip_suffix('"'));
        let http = http.expect("an address").parse().expect("an address");
        Bench {
            _answering: Answering::start(phone, setup.address()),
            node: Node::start(&setup),
            callee,
            http,
        }
    }
}

/// By family: type and labels, `le` apart.
fn families(page: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut found = BTreeMap::new();
    let mut open = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            name.clone_into(&mut open);
            let old = found.insert(open.clone(), (kind.to_owned(), BTreeSet::new()));
            assert!(old.is_none(), "{name} stands in two places");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(open.as_str()), "{line} below {open}");
            let (_, labels): &mut (String, BTreeSet<String>) =
                found.get_mut(&open).expect("a family");
            let inside = line.split_once('{').map_or("", |(_, rest)| rest);
            let names = inside
                .split("=\"")
                .filter_map(|part| part.rsplit(['"', ',']).next())
                .filter(|name| !name.is_empty() && *name != "le" && !name.contains('}'));
            labels.extend(names.map(str::to_owned));
        }
    }
    found
}

#[test]
fn the_page_is_as_its_description_says_and_promtool_has_no_complaint() {
    let bench = Bench::new();
    let probed = || {
        bench
            .node
            .page("/metrics")
            .contains("callgate_trunk_rtt_seconds{")
    };
    assert!(eventually(seconds(20), probed));
    let page = get(bench.http, "/metrics", "text/plain");
    let mut lines = Vec::new();
    for (name, (kind, labels)) in families(&page) {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = match labels.as_slice() {
            [] => "-".to_owned(),
            labels => labels.join(", "),
        };
        let help = page
            .lines()
            .find_map(|line| line.strip_prefix(&format!("# HELP {name} ")));
        let help = help.expect("each family has a help text");
        lines.push(format!("| `{name}` | {kind} | {labels} | {help} |"));
    }
    let description = fs::read_to_string(root().join("docs/metrics.md")).expect("docs/metrics.md");
    let described: BTreeSet<&str> = description
        .lines()
        .filter(|line| line.starts_with("| `callgate_") && line.matches(" | ").count() >= 3)
        .collect();
    let missing: Vec<&String> = lines
        .iter()
        .filter(|line| !described.contains(line.as_str()))
        .collect();
    assert!(missing.is_empty(), "docs/metrics.md lacks:\n{missing:#?}");
    let gone: Vec<&&str> = described
        .iter()
        .filter(|line| !lines.iter().any(|is| is == **line))
        .collect();
    assert!(
        gone.is_empty(),
        "docs/metrics.md describes what is not there:\n{gone:#?}"
    );

    let mut promtool = Command::new(tool::find("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    promtool
        .stdin
        .take()
        .expect("piped")
        .write_all(page.as_bytes())
        .expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.trim().is_empty(), "{told}");
}

#[test]
fn the_rules_are_right_by_their_own_tests() {
    let folder = root().join("tuning/prometheus");
    for args in [
        ["check", "rules", "callgate.rules.yml"],
        ["test", "rules", "callgate.rules.test.yml"],
        ["check", "config", "prometheus.yml"],
    ] {
        let output = Command::new(tool::find("promtool"))
            .args(args)
            .current_dir(&folder)
            .output()
            .expect("promtool runs");
        let told = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {told}");
    }
}

fn dashboard() -> Value {
    let text = fs::read_to_string(root().join("tuning/grafana/callgate.json")).expect("a file");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn the_dashboard_has_what_grafana_asks_for() {
    let dashboard = dashboard();
    assert!(
        dashboard["schemaVersion"]
            .as_u64()
            .is_some_and(|version| version >= 36)
    );
    assert!(dashboard["title"].is_string() && dashboard["uid"].is_string());
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    assert_eq!(variables[0]["type"], "datasource");
    let mut ids = BTreeSet::new();
    let mut taken: Vec<[u64; 4]> = Vec::new();
    for panel in dashboard["panels"].as_array().expect("a list") {
        assert!(
            ids.insert(panel["id"].as_u64().expect("a number")),
            "{panel}"
        );
        let place =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
        let [x, y, w, h] = place;
        assert!(x + w <= 24, "{panel}");
        let apart = |other: &[u64; 4]| {
            let [ox, oy, ow, oh] = *other;
            x + w <= ox || ox + ow <= x || y + h <= oy || oy + oh <= y
        };
        assert!(
            taken.iter().all(apart),
            "{} covers another panel",
            panel["title"]
        );
        taken.push(place);
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
            assert!(!panel["targets"].as_array().expect("a list").is_empty());
        }
    }
}

/// A Prometheus of Debian's package that scrapes the node each second.
struct Prometheus {
    process: Running,
    address: SocketAddr,
    _scratch: Scratch,
}

impl Prometheus {
    fn start(node: SocketAddr) -> Prometheus {
        let scratch = Scratch::new("prometheus");
        let rules = root().join("tuning/prometheus/callgate.rules.yml");
        let config = scratch.write(
            "prometheus.yml",
            &format!(
                "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
                 rule_files: [\"{}\"]\n\
                 scrape_configs:\n  - job_name: callgate\n    static_configs:\n      - targets: [\"{node}\"]\n",
                rules.display()
            ),
        );
        let address = SocketAddr::from(([127, 0, 0, 1], port::free()));
        let data: PathBuf = scratch.file("data");
        let mut command = Command::new(tool::find("prometheus"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={address}"))
            .current_dir(scratch.path());
        let process = Running::start("prometheus", &mut command, &scratch, Stdio::null());
        Prometheus {
            process,
            address,
            _scratch: scratch,
        }
    }

    /// Samples that an expression has at this moment; fails where it is none.
    fn query(&self, expression: &str) -> usize {
        let encoded: String = expression
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect();
        let answer = get(
            self.address,
            &format!("/api/v1/query?query={encoded}"),
            "application/json",
        );
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().map_or(1, Vec::len)
    }

    fn is_ready(&self) -> bool {
        // Until its storage is open it answers in words.
        TcpStream::connect(self.address).is_ok()
            && get(self.address, "/-/ready", "text/plain").contains("Ready.")
            && self.query("up{job=\"callgate\"} == 1") == 1
    }
}

/// A panel's expression with the variables of the dashboard filled in.
fn filled_in(expression: &str) -> String {
    expression
        .replace("$instance", ".*")
        .replace("$trunk", ".*")
        .replace("$__rate_interval", "10s")
}

#[test]
fn prometheus_runs_every_query_of_the_dashboard_and_every_rule_over_calls() {
    let _alone = alone();
    let bench = Bench::new();
    let prometheus = Prometheus::start(bench.http);
    let ready = eventually(seconds(30), || prometheus.is_ready());
    assert!(ready, "{}", prometheus.process.output());
    let callee = Scenario {
        local: bench.callee,
        ..Scenario::callee("uas")
    };
    let _callee = callee.start();
    let caller = Scenario::caller("uac", bench.node.address, 400, 20);
    let mut calls = caller.start();

    // Nothing of this is wrong with the node, so these have no samples.
    let quiet = ["Refused by reason", "Dropped by reason"];
    let mut waiting: Vec<(String, String)> = Vec::new();
    for panel in dashboard()["panels"].as_array().expect("a list") {
        let title = panel["title"].as_str().expect("text");
        for target in panel["targets"].as_array().unwrap_or(&Vec::new()) {
            let expression = filled_in(target["expr"].as_str().expect("text"));
            if quiet.contains(&title) {
                prometheus.query(&expression);
            } else {
                waiting.push((title.to_owned(), expression));
            }
        }
    }
    assert!(waiting.len() > 25, "{waiting:?}");
    let all_answered = eventually(seconds(60), || {
        waiting.retain(|(_, expression)| prometheus.query(expression) == 0);
        waiting.is_empty()
    });
    assert!(all_answered, "no samples: {waiting:#?}");

    let rules = get(prometheus.address, "/api/v1/rules", "application/json");
    let rules: Value = serde_json::from_str(&rules).expect("JSON");
    let mut alerts = 0;
    for group in rules["data"]["groups"].as_array().expect("a list") {
        for rule in group["rules"].as_array().expect("a list") {
            let (name, expression) = (&rule["name"], rule["query"].as_str().expect("text"));
            let samples = prometheus.query(expression);
            match rule["type"].as_str() {
                Some("alerting") => {
                    alerts += 1;
                    assert_eq!(samples, 0, "{name} over a node that is well");
                }
                _ => assert!(samples > 0, "{name} has no samples"),
            }
            let failed = rule["lastError"].as_str().unwrap_or_default();
            assert_eq!(failed, "", "{name}");
        }
    }
    assert!(alerts >= 15, "{alerts}");
    let statistics = calls.wait(seconds(60));
    assert_eq!(statistics.failed, 0);
}
