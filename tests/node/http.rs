//! The HTTP pages: what they say, and clients that are slow or talk nonsense.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::kit::{Caller, PATIENCE, Plan};

#[test]
fn metrics_are_in_the_exposition_format() {
    let node = Plan::new("metrics").start();
    Caller::of(&node).options("counted");
    let (head, text) = node.http_text("GET /metrics", "");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4;"),
        "{head}"
    );
    let families = families_of(&text, &|series, _kind| series.to_owned());
    for wanted in [
        "callgate_shard_restarts_total",
        "callgate_handed_over_total",
        "callgate_limit_used",
        "callgate_limit_max",
        "callgate_trunk_state",
        "callgate_calls",
        "callgate_io_received_total",
        "callgate_leases_lost_total",
        "callgate_shard_stalls_total",
        "callgate_transaction_requests_resent_total",
        "callgate_transaction_responses_ignored_total",
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
fn a_scraper_that_asks_for_openmetrics_gets_it() {
    let node = Plan::new("openmetrics").start();
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3\r\n";
    let (head, text) = node.http_text("GET /metrics", accept);
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0;"),
        "{head}"
    );
    let text = text.strip_suffix("# EOF\n").expect("the end mark");
    // Samples of a counter are named after their family, and `_total`.
    let families = families_of(text, &|series, kind| match kind {
        "counter" => series.strip_suffix("_total").expect("a counter").to_owned(),
        _ => series.to_owned(),
    });
    assert!(families.contains("callgate_handed_over") && families.contains("callgate_calls"));
}

/// The families of a page, every line of which is looked at.
fn families_of(text: &str, family_of: &dyn Fn(&str, &str) -> String) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut families = BTreeSet::new();
    let (mut family, mut kind) = ("", "");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            (family, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(
                families.insert(family.to_owned()),
                "{family} stands in two places"
            );
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().expect("split gives one part");
            let parts = ["_bucket", "_sum", "_count"];
            let of_histogram = parts.iter().find_map(|part| name.strip_suffix(part));
            let name = of_histogram.filter(|_| kind == "histogram").unwrap_or(name);
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert_eq!(family_of(name, kind), family, "{line}");
            assert!(!series.contains('{') || series.ends_with('}'), "{line}");
            assert!(seen.insert(series.to_owned()), "{series} twice");
        }
    }
    families
}

#[test]
fn http_answers_get_and_head_of_its_pages_only() {
    let node = Plan::new("http").start();
    assert_eq!(node.http("GET /healthz").0, 200);
    assert_eq!(node.http("GET /readyz"), (200, "ready\n".to_owned()));
    assert_eq!(node.http("HEAD /metrics"), (200, String::new()));
    assert_eq!(node.http("GET /").0, 404);
    assert_eq!(node.http("POST /metrics").0, 405);
    assert_eq!(node.http("BREW /metrics").0, 405);
    assert_eq!(node.http("nonsense").0, 400);
    // Closed with the rest unread: the reset may overtake the answer, but nothing else is said.
    let mut endless = TcpStream::connect(node.plan.http).expect("HTTP listens");
    endless.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let _cut_off =
        endless.write_all(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)).as_bytes());
    let mut answer = Vec::new();
    let _reset = endless.read_to_end(&mut answer);
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"),
        "{answer:?}"
    );
    assert_eq!(node.http("GET /healthz").0, 200);
}

#[test]
fn idle_http_clients_do_not_keep_others_out_for_ever() {
    let node = Plan::new("http-idle").start();
    let _idle: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(node.plan.http).expect("HTTP listens"))
        .collect();
    assert_eq!(node.http("GET /healthz").0, 200);
}

#[test]
fn an_http_client_that_dawdles_over_its_request_is_sent_away() {
    let node = Plan::new("http-slow").start();
    let mut slow = TcpStream::connect(node.plan.http).expect("HTTP listens");
    slow.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let began = Instant::now();
    // One octet now and then gains no time.
    for octet in b"GET /metrics HTTP" {
        if slow.write_all(&[*octet]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut rest = String::new();
    let _reset = slow.read_to_string(&mut rest);
    assert!(began.elapsed() < Duration::from_secs(5), "{rest}");
    assert!(!rest.contains("200 OK"), "{rest}");
}

#[test]
fn an_http_client_that_does_not_read_holds_up_nobody() {
    let node = Plan::new("http-deaf").start();
    let _deaf: Vec<TcpStream> = (0..32)
        .map(|_| {
            let mut stream = TcpStream::connect(node.plan.http).expect("HTTP listens");
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
                .expect("sent");
            stream
        })
        .collect();
    let began = Instant::now();
    assert_eq!(node.http("GET /healthz").0, 200);
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_node_that_ends_does_not_wait_for_idle_http_clients() {
    let mut node = Plan::new("http-end").start();
    let _idle = TcpStream::connect(node.plan.http).expect("HTTP listens");
    let began = Instant::now();
    node.signal("TERM");
    assert_eq!(node.wait(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(3), "{}", node.log());
}
