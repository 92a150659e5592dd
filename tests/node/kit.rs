//! A node of a test: its files, its ports, its callers, and how it is asked.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that goes with its owner.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("callgate-node-{}-{name}", std::process::id()));
        let _left_over = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a scratch directory");
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _kept_on_failure = fs::remove_dir_all(&self.0);
    }
}

/// Where a node of a test listens, before it runs.
pub struct Plan {
    pub dir: Scratch,
    pub sip: SocketAddr,
    pub http: SocketAddr,
    /// Calls go here.
    pub uas: UdpSocket,
}

impl Plan {
    pub fn new(name: &str) -> Plan {
        // Another address than the callers': the addresses of a trunk are sources of it, too.
        let uas = UdpSocket::bind("127.0.0.2:0").expect("a free port");
        uas.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Plan {
            dir: Scratch::new(name),
            sip: free_udp(),
            http: free_tcp(),
            uas,
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.0.join("control.sock")
    }

    pub fn config(&self) -> PathBuf {
        self.dir.0.join("callgate.toml")
    }

    pub fn text(&self) -> String {
        format!(
            "[node]\nname = \"edge1\"\nshards = 2\ndrain_max = \"60s\"\n\
             [capacity]\ndialogs = 1000\ntransactions = 1000\n\
             [[listen]]\nudp = \"{}\"\n\
             [control]\nsocket = \"{}\"\nhttp = \"{}\"\n\
             [trunk.callers]\nmatch = [\"127.0.0.0/8\"]\n\
             [trunk.carrier-a]\naddress = \"{}\"\ncalls_max = 20\n\
             [group.pbx]\nmembers = [\"carrier-a\"]\n\
             [[route]]\nto = \"pbx\"\n",
            self.sip,
            self.socket().display(),
            self.http,
            self.uas.local_addr().expect("bound"),
        )
    }

    pub fn write(&self, text: &str) {
        fs::write(self.config(), text).expect("a configuration file");
    }

    /// Starts the node and waits until it says that it is ready.
    pub fn start(self) -> Node {
        let text = self.text();
        self.start_with(&text, &[])
            .unwrap_or_else(|ended| panic!("the node did not start: {}", ended.stderr))
    }

    pub fn start_with(self, text: &str, environment: &[(&str, &str)]) -> Result<Node, Ended> {
        self.write(text);
        let mut child = program(&["run", "--config"])
            .arg(self.config())
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(self.dir.0.join("stderr")).expect("a file"))
            .spawn()
            .expect("the program runs");
        let stdout = child.stdout.take().expect("piped");
        let mut banner = String::new();
        for line in BufReader::new(stdout).lines() {
            let line = line.expect("text");
            banner.push_str(&line);
            banner.push('\n');
            if line == "callgate: ready" {
                return Ok(Node {
                    plan: self,
                    child,
                    banner,
                });
            }
        }
        let status = child.wait().expect("the program ends");
        Err(Ended {
            code: status.code(),
            stderr: fs::read_to_string(self.dir.0.join("stderr")).expect("text"),
        })
    }

    /// Starts a node that must not come up.
    pub fn fail(self, text: &str) -> Ended {
        match self.start_with(text, &[]) {
            Ok(node) => panic!("the node started:\n{}", node.banner),
            Err(ended) => ended,
        }
    }
}

pub struct Ended {
    pub code: Option<i32>,
    pub stderr: String,
}

/// A node that runs.
pub struct Node {
    pub plan: Plan,
    pub child: Child,
    pub banner: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

impl Node {
    pub fn command(&self, words: &str) -> Output {
        program(&words.split(' ').collect::<Vec<_>>())
            .arg("--socket")
            .arg(self.plan.socket())
            .output()
            .expect("the program runs")
    }

    pub fn text(&self, words: &str) -> String {
        let output = self.command(words);
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    pub fn json(&self, words: &str) -> Value {
        let text = self.text(&format!("{words} --json"));
        serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{words}: {fault}: {text}"))
    }

    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status();
        assert!(status.expect("a shell").success(), "{kill}");
    }

    /// Starts the program again on the same files, after this one has ended.
    pub fn start_again(mut self) -> Node {
        let _ended = self.child.kill();
        self.child.wait().expect("the program ends");
        let mut child = program(&["run", "--config"])
            .arg(self.plan.config())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let stdout = child.stdout.take().expect("piped");
        let is_ready = |line: &std::io::Result<String>| {
            line.as_ref().is_ok_and(|line| line == "callgate: ready")
        };
        assert!(
            BufReader::new(stdout).lines().any(|line| is_ready(&line)),
            "it starts again"
        );
        self.child = child;
        self
    }

    pub fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the node does not end: {}", self.log());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.plan.dir.0.join("stderr")).expect("text")
    }

    /// Status and body of an HTTP answer.
    pub fn http(&self, request: &str) -> (u16, String) {
        let (head, body) = self.http_text(request, "");
        let status = head.split(' ').nth(1).expect("a status line");
        (status.parse().expect("a number"), body)
    }

    /// Head and body of an HTTP answer, for a request with further headers.
    pub fn http_text(&self, request: &str, headers: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.plan.http).expect("HTTP listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // In one piece: a server that has seen enough may close between two.
        let request = format!("{request} HTTP/1.1\r\nHost: edge1\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an empty line");
        (head.to_owned(), body.to_owned())
    }

    /// Waits until `holds` does.
    pub fn until(&self, what: &str, holds: impl Fn(&Node) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn calls_max_of_carrier_a(&self) -> Value {
        let limits = self.json("limits");
        let rows = limits.as_array().expect("a list");
        let row = rows.iter().find(|row| row["name"] == "carrier-a");
        row.expect("the trunk")["calls_max"].clone()
    }

    pub fn calls(&self) -> u64 {
        self.json("status")["calls"].as_u64().expect("a number")
    }
}

pub fn program(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callgate"));
    command
        .args(words)
        .env_remove("CALLGATE_SOCKET")
        .env_remove("NOTIFY_SOCKET");
    command
}

pub fn free_udp() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("bound")
}

pub fn free_tcp() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound")
}

pub fn run(words: &[&str]) -> (Option<i32>, String, String) {
    let output = program(words).output().expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A caller with a socket of its own.
pub struct Caller {
    pub socket: UdpSocket,
    pub node: SocketAddr,
}

impl Caller {
    pub fn of(node: &Node) -> Caller {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Caller {
            socket,
            node: node.plan.sip,
        }
    }

    pub fn request(&self, method: &str, call_id: &str) -> String {
        let own = self.socket.local_addr().expect("bound");
        let node = self.node;
        format!(
            "{method} sip:1234@{node} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{call_id}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:a@{own}>;tag=1\r\nTo: <sip:1234@{node}>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 {method}\r\nContact: <sip:a@{own}>\r\nContent-Length: 0\r\n\r\n"
        )
    }

    pub fn send(&self, text: &str) {
        self.socket
            .send_to(text.as_bytes(), self.node)
            .expect("sent");
    }

    /// The next answer for this call that is not 100.
    pub fn answer_text(&self, call_id: &str) -> String {
        loop {
            let text = receive(&self.socket).0;
            let is_ours = text.contains(&format!("Call-ID: {call_id}\r\n"));
            if is_ours && text.starts_with("SIP/2.0 ") && !text.starts_with("SIP/2.0 100 ") {
                return text;
            }
        }
    }

    /// The status of the next answer for this call that is not 100.
    pub fn answer(&self, call_id: &str) -> u16 {
        let text = self.answer_text(call_id);
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
        status.expect("an answer")
    }

    pub fn options(&self, call_id: &str) -> u16 {
        let text = self.request("OPTIONS", call_id);
        self.send(&text.replace("sip:1234@", "sip:"));
        self.answer(call_id)
    }

    /// Starts a call and lets it ring.
    pub fn ring(&self, node: &Node, call_id: &str) {
        self.send(&self.request("INVITE", call_id));
        let (invite, from) = uas_gets(node, "INVITE", call_id);
        uas_answers(node, &invite, from, "180 Ringing");
        assert_eq!(self.answer(call_id), 180);
    }

    /// Sets a call up and gives back what a request inside of it needs.
    pub fn talk(&self, node: &Node, call_id: &str) -> Talk<'_> {
        self.send(&self.request("INVITE", call_id));
        let (invite, from) = uas_gets(node, "INVITE", call_id);
        uas_answers(node, &invite, from, "200 OK");
        let answer = self.answer_text(call_id);
        let routes = answer
            .lines()
            .filter_map(|line| line.strip_prefix("Record-Route:"));
        let talk = Talk {
            caller: self,
            call_id: call_id.to_owned(),
            routes: routes.map(|route| format!("Route:{route}\r\n")).collect(),
        };
        self.send(&talk.request(node, "ACK", 1));
        uas_gets(node, "ACK", call_id);
        talk
    }
}

/// A call that was answered, from its caller's side.
pub struct Talk<'c> {
    caller: &'c Caller,
    call_id: String,
    routes: String,
}

impl Talk<'_> {
    /// A request inside the call.
    pub fn request(&self, node: &Node, method: &str, number: u32) -> String {
        let (own, uas) = (self.caller.socket.local_addr(), node.plan.uas.local_addr());
        let (own, uas) = (own.expect("bound"), uas.expect("bound"));
        let (call_id, routes) = (&self.call_id, &self.routes);
        let to = self.caller.node;
        format!(
            "{method} sip:b@{uas} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {own};branch=z9hG4bK{call_id}{method}{number}\r\n{routes}\
             Max-Forwards: 70\r\nFrom: <sip:a@{own}>;tag=1\r\nTo: <sip:1234@{to}>;tag=2\r\n\
             Call-ID: {call_id}\r\nCSeq: {number} {method}\r\nContact: <sip:a@{own}>\r\n\
             Content-Length: 0\r\n\r\n"
        )
    }

    /// Sends a request inside the call and has it answered with 200 by the other side.
    pub fn exchange(&self, node: &Node, method: &str, number: u32) {
        self.caller.send(&self.request(node, method, number));
        let (request, from) = uas_gets(node, method, &self.call_id);
        uas_answers(node, &request, from, "200 OK");
        assert_eq!(self.caller.answer(&self.call_id), 200, "{method}");
    }
}

/// The next request of this method and call that comes out at the far side.
fn uas_gets(node: &Node, method: &str, call_id: &str) -> (String, SocketAddr) {
    let call_id = format!("Call-ID: {call_id}\r\n");
    loop {
        let (text, from) = receive(&node.plan.uas);
        if text.starts_with(&format!("{method} ")) && text.contains(&call_id) {
            return (text, from);
        }
    }
}

fn uas_answers(node: &Node, request: &str, to: SocketAddr, status: &str) {
    let own = node.plan.uas.local_addr().expect("bound");
    let answer = answer_to(request, status, own);
    node.plan.uas.send_to(answer.as_bytes(), to).expect("sent");
}

/// The answer of a server on `own` to a request.
pub fn answer_to(request: &str, status: &str, own: SocketAddr) -> String {
    let kept = ["Via:", "Record-Route:", "From:", "Call-ID:", "CSeq:"];
    let mut answer = format!("SIP/2.0 {status}\r\n");
    for line in request.split("\r\n") {
        if kept.iter().any(|name| line.starts_with(name)) {
            answer.push_str(&format!("{line}\r\n"));
        }
    }
    let to = request.lines().find(|line| line.starts_with("To:"));
    let to = to.expect("a To header");
    let tag = if to.contains(";tag=") { "" } else { ";tag=2" };
    answer + &format!("{to}{tag}\r\nContact: <sip:b@{own}>\r\nContent-Length: 0\r\n\r\n")
}

pub fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
    (
        String::from_utf8_lossy(&buffer[..length]).into_owned(),
        from,
    )
}
