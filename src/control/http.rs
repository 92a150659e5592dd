//! The HTTP side: `/metrics`, `/healthz` and `/readyz` for GET and HEAD, nothing else.
//!
//! hyper on one thread of its own. One request per connection, a bounded number of connections and
//! a bounded time for each: a scraper that hangs cannot keep `/healthz` from answering for long.

use core::convert::Infallible;
use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

use super::exposition::{self, Format};
use super::node::Node;

/// Clients served at the same time; more wait in the kernel's queue.
const CLIENTS_MAX: usize = 64;
/// How long a client may take to send its request; scrapers and probes send it at once.
const REQUEST_TIME: Duration = Duration::from_secs(1);
/// How long a client may take from its connection to the last octet of its answer.
const CLIENT_TIME: Duration = Duration::from_secs(5);
/// How long the last clients of a node that ends may take.
const FAREWELL_TIME: Duration = Duration::from_millis(500);
/// Octets of a request, the least that hyper allows.
const REQUEST_MAX: usize = 8192;
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// Binds the HTTP listener.
pub fn bind(address: SocketAddr) -> Result<std::net::TcpListener, String> {
    std::net::TcpListener::bind(address).map_err(|fault| match fault.kind() {
        io::ErrorKind::AddrInUse => format!("http {address}: address in use"),
        io::ErrorKind::AddrNotAvailable => format!("http {address}: this host has no such address"),
        _ => format!("http {address}: {fault}"),
    })
}

/// The server while it runs.
#[derive(Debug)]
pub struct Serving {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Serving {
    /// Takes no more clients, and gives those that are there a moment to get their answer.
    pub fn close(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::warn!("http: the server panicked");
        }
    }
}

/// Starts the server on a thread of its own.
pub fn serve(listener: std::net::TcpListener, node: &Arc<Node>) -> io::Result<Serving> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    listener.set_nonblocking(true)?;
    let (stop, stopped) = oneshot::channel();
    let node = Arc::clone(node);
    let thread = std::thread::Builder::new()
        .name("http".into())
        .spawn(move || runtime.block_on(serve_until(stopped, listener, node)))?;
    Ok(Serving { stop, thread })
}

async fn serve_until(
    stopped: oneshot::Receiver<()>,
    listener: std::net::TcpListener,
    node: Arc<Node>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(fault) => return tracing::error!(%fault, "http: not listening"),
    };
    let clients = GracefulShutdown::new();
    // Whoever holds the other end never sends: it is dropped when the node ends.
    tokio::select! {
        _dropped = stopped => {}
        () = take_clients(&listener, &node, &clients) => {}
    }
    drop(listener);
    let _late = tokio::time::timeout(FAREWELL_TIME, clients.shutdown()).await;
}

/// Never ends by itself: the semaphore is not closed.
async fn take_clients(listener: &TcpListener, node: &Arc<Node>, clients: &GracefulShutdown) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((client, _peer)) => {
                let served = serve_client(client, Arc::clone(node), clients.watcher());
                tokio::spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(fault) => {
                tracing::warn!(%fault, "http: accept failed");
                // Out of descriptors is the usual cause: trying again at once would burn a CPU.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_client(client: TcpStream, node: Arc<Node>, watcher: Watcher) {
    let respond = service_fn(move |request| {
        let answer = respond(&node, &request);
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_buf_size(REQUEST_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(client), respond);
    match tokio::time::timeout(CLIENT_TIME, watcher.watch(connection)).await {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => tracing::debug!(%fault, "HTTP client left"),
        Err(_elapsed) => tracing::debug!("HTTP client took too long"),
    }
}

fn respond(node: &Node, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "there is GET and HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        refusal.headers_mut().insert(ALLOW, allowed);
        return refusal;
    }
    match request.uri().path() {
        "/metrics" => metrics(node, request.headers().get(ACCEPT)),
        "/healthz" => health(node),
        "/readyz" => {
            let ready = node.ready();
            text(good_if(ready.ready), ready.why + "\n")
        }
        _ => {
            let pages = "there is /metrics, /healthz and /readyz\n";
            text(StatusCode::NOT_FOUND, pages)
        }
    }
}

/// A scraper that understands OpenMetrics says so; everything else gets the older format.
fn metrics(node: &Node, accept: Option<&HeaderValue>) -> Response<Full<Bytes>> {
    let accept = accept.map_or(&b""[..], HeaderValue::as_bytes);
    let format = match memchr::memmem::find(accept, b"application/openmetrics-text") {
        Some(_) => Format::OpenMetrics,
        None => Format::Prometheus,
    };
    let page = exposition::write(node, format);
    answer(StatusCode::OK, format.content_type(), page)
}

/// Alive = every shard runs; a draining node is alive.
fn health(node: &Node) -> Response<Full<Bytes>> {
    let (running, all) = (node.shards_running(), node.seats.len());
    let words = format!("{running} of {all} shards run\n");
    text(good_if(running == all), words)
}

fn good_if(good: bool) -> StatusCode {
    match good {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn text(status: StatusCode, words: impl Into<Bytes>) -> Response<Full<Bytes>> {
    answer(status, TEXT_TYPE, words)
}

/// For HEAD, hyper keeps the length and leaves the body out.
fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
