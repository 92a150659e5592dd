//! Bans from the command line: added, listed, taken away, refused, and felt by who is banned.

use std::net::UdpSocket;
use std::time::Duration;

use super::kit::{Node, Plan};

/// A node that knows one trunk on loopback and takes everybody else there for a stranger.
fn node(name: &str) -> Node {
    let plan = Plan::new(name);
    let text = plan.text().replace("127.0.0.0/8", "127.0.0.3/32");
    plan.start_with(&text, &[])
        .unwrap_or_else(|ended| panic!("{}", ended.stderr))
}

/// Whether a stranger at this address gets an answer to OPTIONS.
fn is_answered(node: &Node, from: &str) -> bool {
    let socket = UdpSocket::bind((from, 0)).expect("a free port");
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a timeout");
    let at = socket.local_addr().expect("bound");
    let sip = node.plan.sip;
    let text = format!(
        "OPTIONS sip:{sip} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKban\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:{sip}>\r\nCall-ID: ban@{at}\r\n\
         CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    socket.send_to(text.as_bytes(), sip).expect("sent");
    socket.recv(&mut [0; 2048]).is_ok()
}

#[test]
fn a_ban_is_felt_on_every_shard_and_ends_when_it_is_taken_away() {
    let node = node("bans");
    node.until("answered", |node| is_answered(node, "127.0.0.77"));
    let told = node.text("ban add 127.0.0.76/30 --for 1h --reason scanner");
    assert_eq!(told, "127.0.0.76/30 is banned for 1h00m\n");
    node.until("banned", |node| !is_answered(node, "127.0.0.77"));
    node.until("served", |node| is_answered(node, "127.0.0.80"));
    let rows = node.json("ban list");
    assert_eq!(rows[0]["block"], "127.0.0.76/30");
    assert_eq!(rows[0]["reason"], "operator");
    assert_eq!(rows[0]["note"], "scanner");
    assert!(rows[0]["left_s"].as_u64().expect("a number") > 3_500);
    assert!(node.text("ban list").contains("scanner"));
    // A reload leaves bans alone.
    node.text("reload");
    assert!(!is_answered(&node, "127.0.0.77"));
    assert_eq!(
        node.text("ban remove 127.0.0.76/30"),
        "127.0.0.76/30 is no longer banned\n"
    );
    node.until("answered again", |node| is_answered(node, "127.0.0.77"));
    assert_eq!(node.json("ban list"), serde_json::json!([]));
}

#[test]
fn what_must_not_be_banned_is_refused_with_the_reason() {
    let node = node("bans-refused");
    for (words, why) in [
        ("ban add 127.0.0.0/24", "has addresses of trunk `callers`"),
        ("ban add 127.0.0.2", "has addresses of trunk `carrier-a`"),
        ("ban add 0.0.0.0/0", "is everybody"),
        ("ban add 192.0.2.0/33", "is no address and no block"),
        ("ban add example.com", "is no address and no block"),
        ("ban remove 192.0.2.7", "is not banned"),
    ] {
        let output = node.command(words);
        let told = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(told.contains(why), "{words}: {told}");
    }
    for words in [
        "ban add 192.0.2.7 --for soon",
        "ban add",
        "ban add 192.0.2.7 --for 0s",
    ] {
        assert_eq!(node.command(words).status.code(), Some(2), "{words}");
    }
    assert_eq!(node.json("ban list"), serde_json::json!([]));
}

#[test]
fn long_lists_come_in_pages_and_stop_where_they_are_told() {
    let node = node("bans-pages");
    for number in 0..12 {
        node.text(&format!("ban add 192.0.2.{number} --for 1d"));
    }
    assert_eq!(node.json("ban list").as_array().expect("a list").len(), 12);
    let some = node.json("ban list --limit 5");
    assert_eq!(some.as_array().expect("a list").len(), 5);
    assert_eq!(some[4]["block"], "192.0.2.4/32");
}

#[test]
fn an_overloaded_shard_would_be_seen() {
    let node = node("overload-shown");
    assert!(
        node.text("status")
            .contains("overload     none (target 20 ms)\n")
    );
    let shards = node.json("shards");
    assert_eq!(shards[0]["shed"], 0.0);
    assert!(shards[0]["queue_wait_ms"].is_number());
    let (_, metrics) = node.http("GET /metrics");
    for name in [
        "callgate_queue_wait_seconds",
        "callgate_queue_fill_ratio",
        "callgate_shed_ratio",
    ] {
        assert!(
            metrics.contains(&format!("{name}{{shard=\"0\"}} 0\n")),
            "{name}"
        );
    }
    let text = node.plan.text().replace("127.0.0.0/8", "127.0.0.3/32");
    node.plan
        .write(&format!("{text}[overload]\ntarget = \"off\"\n"));
    assert_eq!(node.text("reload"), "overload target 20ms -> off\n");
    assert!(node.text("status").contains("overload     not watched"));
}
