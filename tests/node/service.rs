//! What the service manager and the log are told.

use std::os::unix::net::UnixDatagram;

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
