//! What the service manager and the log are told.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::kit::{PATIENCE, Plan};

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
    let manager = ServiceManager::new(&plan);
    let text = plan.text();
    let mut node = plan
        .start_with(&text, &[("NOTIFY_SOCKET", &manager.path)])
        .unwrap_or_else(|ended| panic!("{}", ended.stderr));
    assert_eq!(manager.told(), "READY=1\nSTATUS=ready\n");

    // The uptime is told in hundredths of a second.
    let before = monotonic_us();
    node.text("reload");
    let reloading = manager.told();
    let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    let at: u64 = at.expect("a time").trim().parse().expect("a number");
    assert!(
        (before..=monotonic_us() + 10_000).contains(&at),
        "{before} {at}"
    );
    assert!(
        manager
            .told()
            .starts_with("READY=1\nSTATUS=ready; 0 changes")
    );

    node.text("log set info");
    node.plan.write("nonsense");
    assert_eq!(node.command("reload").status.code(), Some(1));
    assert!(manager.told().starts_with("RELOADING=1\n"));
    let told = manager.told();
    assert!(
        told.starts_with("READY=1\nSTATUS=ready; the last reload was refused: "),
        "{told}"
    );

    node.signal("TERM");
    assert_eq!(
        manager.told(),
        "STOPPING=1\nSTATUS=draining: 0 calls are left\n"
    );
    assert_eq!(node.wait(), Some(0));
}

#[test]
fn the_watchdog_is_fed_while_all_shards_run_and_not_while_one_stalls() {
    let plan = Plan::new("watchdog");
    let manager = ServiceManager::new(&plan);
    let text = plan.text();
    let environment = [
        ("NOTIFY_SOCKET", manager.path.as_str()),
        ("WATCHDOG_USEC", "1000000"),
    ];
    let node = plan
        .start_with(&text, &environment)
        .unwrap_or_else(|ended| panic!("{}", ended.stderr));
    assert!(manager.told().starts_with("READY=1\n"));
    let mut last = Instant::now();
    for _meal in 0..4 {
        assert_eq!(manager.told(), "WATCHDOG=1\n");
        assert!(last.elapsed() < Duration::from_secs(1));
        last = Instant::now();
    }
    node.text("debug stall-shard 0 8");
    manager.wait_for("STATUS=1 of 2 shards run\n");
    // What comes next is not a meal but the news that all shards run.
    assert_eq!(manager.told(), "STATUS=ready\n");
    assert_eq!(manager.told(), "WATCHDOG=1\n");
}

#[test]
fn a_watchdog_for_another_process_is_not_fed() {
    let plan = Plan::new("watchdog-other");
    let manager = ServiceManager::new(&plan);
    let text = plan.text();
    let environment = [
        ("NOTIFY_SOCKET", manager.path.as_str()),
        ("WATCHDOG_USEC", "1000000"),
        ("WATCHDOG_PID", "1"),
    ];
    let node = plan
        .start_with(&text, &environment)
        .unwrap_or_else(|ended| panic!("{}", ended.stderr));
    assert!(manager.told().starts_with("READY=1\n"));
    std::thread::sleep(Duration::from_secs(1));
    node.signal("TERM");
    assert!(manager.told().starts_with("STOPPING=1\n"));
}

/// The socket on which systemd would listen.
struct ServiceManager {
    path: String,
    socket: UnixDatagram,
}

impl ServiceManager {
    fn new(plan: &Plan) -> ServiceManager {
        let path = plan.dir.0.join("notify.sock");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let path = path.display().to_string();
        ServiceManager { path, socket }
    }

    fn told(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.socket.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn wait_for(&self, text: &str) {
        while self.told() != text {}
    }
}

/// The clock that MONOTONIC_USEC is read from.
fn monotonic_us() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").expect("proc is mounted");
    let seconds: f64 = uptime
        .split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .expect("a number");
    (seconds * 1e6) as u64
}

#[test]
fn the_form_of_the_log_follows_a_reload_and_is_shown() {
    let node = Plan::new("log-form").start();
    let log = node.json("log show");
    assert_eq!(
        log,
        serde_json::json!({ "level": "info", "format": "text", "numbers": false })
    );
    let text = node.plan.text() + "[log]\nlevel = \"debug\"\nformat = \"json\"\nnumbers = true\n";
    node.plan.write(&text);
    let told = node.text("reload");
    assert_eq!(
        told,
        "log level info -> debug\nlog format text -> json\nlog numbers false -> true\n"
    );
    let log = node.json("log show");
    assert_eq!(
        log,
        serde_json::json!({ "level": "debug", "format": "json", "numbers": true })
    );
    assert!(
        node.log().lines().last().expect("a line").starts_with('{'),
        "{}",
        node.log()
    );
    assert_eq!(node.json("log set warn")["level"], "warn");
    assert!(
        node.text("log show")
            .starts_with("level   warn\nformat  json\n")
    );
}

#[test]
fn the_journal_gets_priorities_and_no_times() {
    use std::os::unix::fs::MetadataExt as _;
    let plan = Plan::new("journal");
    // The file that will be the node's stderr stands for the journal's socket.
    let stderr = plan.dir.0.join("stderr");
    let meta = std::fs::File::create(&stderr)
        .and_then(|file| file.metadata())
        .expect("a file");
    let stream = format!("{}:{}", meta.dev(), meta.ino());
    let text = plan.text();
    let node = plan
        .start_with(&text, &[("JOURNAL_STREAM", &stream)])
        .unwrap_or_else(|ended| panic!("{}", ended.stderr));
    node.text("log set info");
    node.plan.write("nonsense");
    assert_eq!(node.command("reload").status.code(), Some(1));
    let log = node.log();
    assert!(log.lines().all(|line| line.starts_with('<')), "{log}");
    assert!(
        log.lines()
            .any(|line| line.starts_with("<6>callgate::runtime")),
        "{log}"
    );
    assert!(
        log.lines()
            .any(|line| line.starts_with("<3>") && line.contains("reload refused")),
        "{log}"
    );
}

#[test]
fn a_log_of_calls_has_no_number_and_no_line_for_a_message() {
    let node = Plan::new("log-calls").start();
    let caller = super::kit::Caller::of(&node);
    let lines = |node: &super::kit::Node| node.log().lines().count();
    let before = lines(&node);
    for call in ["4930111", "4930222"] {
        let _talk = caller.talk(&node, call);
    }
    assert_eq!(lines(&node), before, "{}", node.log());
    node.text("log set trace");
    let _talk = caller.talk(&node, "4930333");
    node.text("log set info");
    let log = node.log();
    let info = log
        .lines()
        .filter(|line| line.contains(" INFO ") || line.contains(" WARN "));
    for line in info {
        assert!(
            !line.contains("49301") && !line.contains("sip:1234@"),
            "{line}"
        );
    }
}
