//! The admin socket: a bounded number of workers, each serving one client at a time.
//!
//! A client has `PATIENCE` for each step: to finish a request line, and to take the answer. More
//! clients than workers wait in the kernel's backlog, so no number of them costs memory.

use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use super::methods;
use super::node::Node;
use super::patience::Patience;
use super::rpc::{self, Fault};
use crate::base::Instant;

/// Clients served at the same time.
pub const WORKERS: usize = 8;
/// Clients that wait for a worker.
const BACKLOG: i32 = 64;
/// Octets of a request line: `config.plan` has a whole configuration in it.
const LINE_MAX: usize = 8 << 20;
/// How long a client may take to send a request or to take an answer, and may idle.
const PATIENCE: Duration = Duration::from_secs(10);
/// Owner and group may talk to the node.
const MODE: u32 = 0o660;

/// Binds the admin socket. The file of a node that is gone is replaced; one on which a node
/// listens is left alone and refused.
pub fn bind(path: &Path) -> Result<UnixListener, String> {
    let fault =
        |what: &str, error: &io::Error| format!("admin socket {}: {what}: {error}", path.display());
    make_directory(path).map_err(|error| fault("directory not made", &error))?;
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)
        .map_err(|error| fault("no socket", &error))?;
    let address = SockAddr::unix(path).map_err(|error| fault("not a usable path", &error))?;
    socket
        .bind(&address)
        .map_err(|error| fault("not bound", &error))?;
    // Between bind and listen nobody can connect, so there is no moment with a wider mode.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))
        .map_err(|error| fault("mode not set", &error))?;
    socket
        .listen(BACKLOG)
        .map_err(|error| fault("not listening", &error))?;
    Ok(std::os::fd::OwnedFd::from(socket).into())
}

/// A directory that is missing is made for the node's own user only.
fn make_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent),
        _ => Ok(()),
    }
}

fn remove_stale(path: &Path) -> Result<(), String> {
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !meta.file_type().is_socket() {
        return Err(format!(
            "admin socket {}: the path is taken by something that is not a socket",
            path.display()
        ));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(format!(
            "admin socket {}: another node is running on it",
            path.display()
        ));
    }
    std::fs::remove_file(path).map_err(|error| {
        format!(
            "admin socket {}: stale file not removed: {error}",
            path.display()
        )
    })
}

/// Starts the workers; they serve until the process ends.
pub fn serve(listener: UnixListener, node: &Arc<Node>) -> io::Result<()> {
    let listener = Arc::new(listener);
    for worker in 0..WORKERS {
        let (listener, node) = (Arc::clone(&listener), Arc::clone(node));
        std::thread::Builder::new()
            .name(format!("admin-{worker}"))
            .spawn(move || serve_clients(&listener, &node))?;
    }
    Ok(())
}

fn serve_clients(listener: &UnixListener, node: &Node) {
    loop {
        match listener.accept() {
            Ok((client, _unnamed)) => {
                if let Err(fault) = serve_client(client, node) {
                    tracing::debug!(%fault, "admin client left");
                }
            }
            Err(fault) => {
                tracing::warn!(%fault, "admin socket: accept failed");
                // Out of descriptors is the usual cause: trying again at once would burn a CPU.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Answers one client's requests until it leaves or takes too long.
fn serve_client(mut client: UnixStream, node: &Node) -> io::Result<()> {
    let now = || node.levers.now();
    let mut lines = Lines::default();
    loop {
        let answer = match lines.next(&mut client, &now)? {
            Line::Request(line) => match takeover(&line) {
                // The connection is the runtime's from here on.
                Some(request) => match hand_over(node, &client, &request) {
                    Some(answer) => Some(answer),
                    None => return Ok(()),
                },
                None => answer(node, &line),
            },
            Line::TooLong => {
                let message = format!("a request is at most {LINE_MAX} octets");
                let fault = Fault::new(Fault::INVALID_REQUEST, message);
                let answer = rpc::write_answer(&Value::Null, &Err(fault));
                let patience = Patience::starting(&now, PATIENCE);
                patience.write_all(&mut client, &answer)?;
                client.shutdown(Shutdown::Write)?;
                patience.see_off(&mut client);
                return Ok(());
            }
            Line::End => return Ok(()),
        };
        if let Some(answer) = answer {
            Patience::starting(&now, PATIENCE).write_all(&mut client, &answer)?;
        }
    }
}

/// A request of another process to take the node over.
fn takeover(line: &[u8]) -> Option<rpc::Request> {
    let request = rpc::read_request(line).ok()?;
    (request.method == "takeover" && request.wants_answer).then_some(request)
}

/// Hands the node over; an answer where it is refused.
fn hand_over(node: &Node, client: &UnixStream, request: &rpc::Request) -> Option<Vec<u8>> {
    let handed = node
        .levers
        .hand_over(node, client, &request.id, &request.params);
    let fault = handed.err()?;
    tracing::warn!(why = %fault.message, "a takeover is refused");
    Some(rpc::write_answer(&request.id, &Err(fault)))
}

/// Answers one request line; a notification gets no answer.
fn answer(node: &Node, line: &[u8]) -> Option<Vec<u8>> {
    match rpc::read_request(line) {
        Ok(request) => {
            let outcome = methods::call(node, &request.method, &request.params);
            request
                .wants_answer
                .then(|| rpc::write_answer(&request.id, &outcome))
        }
        Err((fault, id)) => Some(rpc::write_answer(&id, &Err(fault))),
    }
}

/// What a client sent.
enum Line {
    Request(Vec<u8>),
    TooLong,
    End,
}

/// Splits what a client sends into lines, without growing past one line and one read.
#[derive(Default)]
struct Lines {
    waiting: Vec<u8>,
}

impl Lines {
    /// The next line that is not blank; `TimedOut` when it is not complete within `PATIENCE`.
    fn next(&mut self, client: &mut UnixStream, now: &dyn Fn() -> Instant) -> io::Result<Line> {
        let patience = Patience::starting(now, PATIENCE);
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.waiting) {
                let rest = self.waiting.split_off(end + 1);
                let line = std::mem::replace(&mut self.waiting, rest);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Line::Request(line));
            }
            if self.waiting.len() > LINE_MAX {
                return Ok(Line::TooLong);
            }
            let mut chunk = [0; 4096];
            match patience.read(client, &mut chunk)? {
                0 => return Ok(Line::End),
                count => self.waiting.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("callgate-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a scratch directory");
        dir
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = scratch("stale");
        let path = dir.join("control.sock");
        let first = bind(&path).expect("the first bind");
        let fault = bind(&path).expect_err("a node listens");
        assert!(fault.contains("another node is running"), "{fault}");
        drop(first);
        let again = bind(&path).expect("the file is stale");
        let mode = std::fs::metadata(&path)
            .expect("the file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, MODE);
        drop(again);
        std::fs::remove_dir_all(dir).expect("the scratch directory");
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let dir = scratch("file");
        let path = dir.join("control.sock");
        std::fs::write(&path, "mine").expect("a file");
        assert!(bind(&path).expect_err("a file").contains("not a socket"));
        assert_eq!(std::fs::read(&path).expect("the file"), b"mine");
        std::fs::remove_dir_all(dir).expect("the scratch directory");
    }

    #[test]
    fn lines_are_split_and_a_line_without_end_is_cut_off() {
        let (mut near, mut far) = UnixStream::pair().expect("a pair");
        let now = || Instant::START;
        far.write_all(b"\none\ntwo\nthr").expect("written");
        let mut lines = Lines::default();
        for expected in [&b"one\n"[..], b"two\n"] {
            match lines.next(&mut near, &now).expect("a line") {
                Line::Request(line) => assert_eq!(line, expected),
                Line::TooLong | Line::End => panic!("{expected:?} is missing"),
            }
        }
        let writer = std::thread::Builder::new()
            .spawn(move || far.write_all(&vec![b'x'; LINE_MAX + 8192]))
            .expect("a thread");
        assert!(matches!(
            lines.next(&mut near, &now).expect("read"),
            Line::TooLong
        ));
        drop(near);
        let _cut_off = writer.join();
    }
}
