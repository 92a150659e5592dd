//! The admin socket: who may have it, and what it does with bad lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::Value;

use super::kit::{PATIENCE, Plan, free_udp};

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
    let _cut_off = stream.write_all(&vec![b'x'; 9 << 20]);
    let mut answer = String::new();
    let _reset = stream.read_to_string(&mut answer);
    assert!(answer.contains("-32600"), "{answer}");
    assert_eq!(node.json("status")["state"], "ready");
}
