//! The HTTP side: `/metrics`, `/healthz` and `/readyz` for GET and HEAD, nothing else.
//!
//! One request per connection, a bounded number of workers, one deadline per client: a scraper
//! that hangs cannot keep `/healthz` from answering for long.

use core::time::Duration;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use super::exposition;
use super::node::Node;
use super::patience::Patience;

/// Clients served at the same time.
const WORKERS: usize = 8;
/// How long a client may take to send its request; scrapers and probes send it at once.
const REQUEST_TIME: Duration = Duration::from_secs(1);
/// How long a client may take to read its answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Octets of a request; its headers are not looked at.
const REQUEST_MAX: usize = 8192;
/// What Prometheus asks for by default.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// Binds the HTTP listener.
pub fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|fault| match fault.kind() {
        io::ErrorKind::AddrInUse => format!("http {address}: address in use"),
        io::ErrorKind::AddrNotAvailable => format!("http {address}: this host has no such address"),
        _ => format!("http {address}: {fault}"),
    })
}

/// Starts the workers; they serve until the process ends.
pub fn serve(listener: TcpListener, node: &Arc<Node>) -> io::Result<()> {
    let listener = Arc::new(listener);
    for worker in 0..WORKERS {
        let (listener, node) = (Arc::clone(&listener), Arc::clone(node));
        std::thread::Builder::new()
            .name(format!("http-{worker}"))
            .spawn(move || serve_clients(&listener, &node))?;
    }
    Ok(())
}

fn serve_clients(listener: &TcpListener, node: &Node) {
    loop {
        let served = listener
            .accept()
            .map(|(client, _peer)| serve_client(client, node));
        match served {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tracing::debug!(%fault, "HTTP client left"),
            Err(fault) => {
                tracing::warn!(%fault, "http: accept failed");
                // Out of descriptors is the usual cause: trying again at once would burn a CPU.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn serve_client(mut client: TcpStream, node: &Node) -> io::Result<()> {
    let now = || node.levers.now();
    let request = read_request(&mut client, &Patience::starting(&now, REQUEST_TIME))?;
    let answer = respond(node, &request);
    let patience = Patience::starting(&now, ANSWER_TIME);
    patience.write_all(&mut client, &answer)?;
    client.shutdown(Shutdown::Write)?;
    if request.len() > REQUEST_MAX {
        patience.see_off(&mut client);
    }
    Ok(())
}

/// Reads up to the empty line, or as much as is taken.
fn read_request(client: &mut TcpStream, patience: &Patience<'_>) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    while memchr::memmem::find(&request, b"\r\n\r\n").is_none() && request.len() <= REQUEST_MAX {
        let mut chunk = [0; 1024];
        match patience.read(client, &mut chunk)? {
            0 => break,
            count => request.extend_from_slice(&chunk[..count]),
        }
    }
    Ok(request)
}

/// Status, content type, text.
type Page = (&'static str, &'static str, String);

fn respond(node: &Node, request: &[u8]) -> Vec<u8> {
    let line = request
        .split(|octet| *octet == b'\r')
        .next()
        .unwrap_or_default();
    let mut words = line.split(|octet| *octet == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next());
    let (status, content_type, text) = match (method, target) {
        _ if request.len() > REQUEST_MAX => refusal("431 Request Header Fields Too Large"),
        (_, None) => refusal("400 Bad Request"),
        (b"GET" | b"HEAD", Some(target)) => page(node, target),
        (_, Some(_)) => refusal("405 Method Not Allowed"),
    };
    let length = text.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Allow: GET, HEAD\r\nConnection: close\r\n\r\n"
    );
    let body = if method == b"HEAD" { "" } else { &text };
    [head.as_bytes(), body.as_bytes()].concat()
}

fn refusal(status: &'static str) -> Page {
    (status, TEXT_TYPE, format!("{status}\n"))
}

fn page(node: &Node, target: &[u8]) -> Page {
    const GOOD: &str = "200 OK";
    const NOT_NOW: &str = "503 Service Unavailable";
    match target
        .split(|octet| *octet == b'?')
        .next()
        .unwrap_or_default()
    {
        b"/metrics" => (GOOD, METRICS_TYPE, exposition::write(node)),
        // Alive = every shard runs; a draining node is alive.
        b"/healthz" => {
            let (running, all) = (node.shards_running(), node.seats.len());
            let status = if running == all { GOOD } else { NOT_NOW };
            (
                status,
                TEXT_TYPE,
                format!("{running} of {all} shards run\n"),
            )
        }
        b"/readyz" => {
            let ready = node.ready();
            let status = if ready.ready { GOOD } else { NOT_NOW };
            (status, TEXT_TYPE, ready.why + "\n")
        }
        _ => {
            let text = "there is /metrics, /healthz and /readyz\n".to_owned();
            ("404 Not Found", TEXT_TYPE, text)
        }
    }
}
