//! Copies of messages that leave the node: HEP to Homer over UDP and TCP, and traces into pcap files
//! and onto the terminal, decoded by Kamailio and tshark.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::message::Message;
use support::node::{Node, Setup, program};
use support::phone::{Dialog, Phone};
use support::tool::{self, Running, Scratch};
use support::{eventually, port, seconds};

/// Messages of a call that is set up, answered and hung up, both sides of the node together.
const CALL_MESSAGES: usize = 13;

struct Bench {
    caller: Phone,
    callee: Phone,
    node: Node,
}

impl Bench {
    /// Calls go from the trunk `caller` to the trunk `callee`; `more` is added to the configuration.
    fn new(ip: &str, more: &str) -> Bench {
        let caller = Phone::on(&format!("{ip}:0"));
        let callee = Phone::on(&format!("{ip}:0"));
        let mut setup = Setup::new(format!(
            "[trunk.caller]\naddress = [\"{}\"]\n[trunk.callee]\naddress = [\"{}\"]\n\
             [[route]]\nto = \"callee\"\n{more}",
            caller.address, callee.address
        ));
        let listener: SocketAddr = format!("{ip}:{}", port::free())
            .parse()
            .expect("an address");
        setup.listen = vec![listener];
        let node = Node::start(&setup);
        Bench {
            caller,
            callee,
            node,
        }
    }

    /// One whole call, so that what has been sent has been heard; its Call-ID.
    fn call(&self) -> String {
        self.call_named(None)
    }

    fn call_named(&self, call_id: Option<&str>) -> String {
        let gate = self.node.address;
        let mut dialog = Dialog::to(&self.caller, "sip:bob@example.com", gate);
        if let Some(call_id) = call_id {
            call_id.clone_into(&mut dialog.call_id);
        }
        let invite = dialog.request("INVITE");
        self.caller.send(invite.as_bytes(), gate);
        let arrived = self.callee.expect("INVITE");
        let answer = |text: &str, to: &Message| {
            let sent = self.callee.answer(to, text, gate);
            self.caller.until(&text[..3]);
            sent
        };
        let ringing = answer("180 Ringing", &arrived);
        let answered = answer("200 OK", &arrived);
        assert_eq!(ringing.call_id(), answered.call_id());
        dialog.learn(&answered);
        self.caller.send(dialog.ack().as_bytes(), gate);
        self.callee.expect("ACK");
        let bye = dialog.request("BYE");
        self.caller.send(bye.as_bytes(), gate);
        let bye = self.callee.expect("BYE");
        self.callee.answer(&bye, "200 OK", gate);
        self.caller.until("200");
        self.node.is_quiet_within(seconds(10));
        dialog.call_id
    }

    fn hep(&self, name: &str) -> u64 {
        let page = self.node.page("/metrics");
        let lines = page.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }
}

/// Chunks by type, as the HEP3 paper lays them out; the tests' own reading.
fn chunks(report: &[u8]) -> BTreeMap<u16, Vec<u8>> {
    let number = |at: usize| u16::from_be_bytes([report[at], report[at + 1]]);
    assert_eq!(&report[..4], b"HEP3");
    assert_eq!(usize::from(number(4)), report.len(), "the total length");
    let mut found = BTreeMap::new();
    let mut at = 6;
    while at < report.len() {
        assert_eq!(number(at), 0, "a generic chunk");
        let (kind, len) = (number(at + 2), usize::from(number(at + 4)));
        let again = found.insert(kind, report[at + 6..at + len].to_vec());
        assert!(again.is_none(), "chunk {kind} is there twice");
        at += len;
    }
    found
}

fn text_of(chunks: &BTreeMap<u16, Vec<u8>>, kind: u16) -> String {
    String::from_utf8(chunks[&kind].clone()).expect("text")
}

fn address_of(chunks: &BTreeMap<u16, Vec<u8>>, ip: u16, port: u16) -> SocketAddr {
    let octets: [u8; 4] = chunks[&ip].as_slice().try_into().expect("an IPv4 address");
    let port: [u8; 2] = chunks[&port].as_slice().try_into().expect("a port");
    SocketAddr::from((octets, u16::from_be_bytes(port)))
}

/// A Homer of the test on UDP.
fn homer() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket
        .set_read_timeout(Some(seconds(10)))
        .expect("a time-out");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}

fn reports(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    (0..count)
        .map(|at| {
            let len = socket
                .recv(&mut buffer)
                .unwrap_or_else(|fault| panic!("report {at} did not come: {fault}"));
            buffer[..len].to_vec()
        })
        .collect()
}

fn is_silent(socket: &UdpSocket) -> bool {
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a time-out");
    socket.recv(&mut [0; 64]).is_err()
}

fn secret(scratch: &Scratch) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = scratch.write("password", "s3cret-of-homer\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    format!("password = {{ file = \"{}\" }}", path.display())
}

/// Kamailio as a capture server: one line of its log per report.
struct CaptureServer(Running);

impl Drop for CaptureServer {
    fn drop(&mut self) {
        // Its children end with it only when it is asked, not when it is killed.
        self.0.end(libc::SIGTERM);
    }
}

fn kamailio(scratch: &Scratch, address: SocketAddr) -> CaptureServer {
    let text = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/capture/homer.cfg"
    ))
    .expect("the configuration of Kamailio");
    let tables = scratch.file("tables");
    std::fs::create_dir_all(&tables).expect("a directory");
    std::fs::write(
        tables.join("version"),
        "table_name(string) table_version(int)\nsip_capture:4\n",
    )
    .expect("a file");
    let text = text
        .replace("@ADDRESS@", &address.to_string())
        .replace("@TABLES@", &tables.display().to_string());
    let file = scratch.write("homer.cfg", &text);
    let mut command = Command::new(tool::find("kamailio"));
    command
        .args(["-DD", "-E", "-m", "32", "-M", "8", "-f"])
        .arg(file);
    CaptureServer(Running::start(
        "kamailio",
        &mut command,
        scratch,
        Stdio::null(),
    ))
}

#[test]
fn homer_hears_each_message_once_with_its_addresses_and_the_password_is_shown_nowhere() {
    let scratch = Scratch::new("hep");
    let (socket, address) = homer();
    let hep = format!(
        "[hep]\ntarget = \"{address}\"\nid = 77\n{}\n",
        secret(&scratch)
    );
    let bench = Bench::new("127.0.0.1", &hep);
    let call_id = bench.call();
    let reports = reports(&socket, CALL_MESSAGES);
    assert!(is_silent(&socket));
    let gate = bench.node.address;
    let mut ladder = Vec::new();
    for report in &reports {
        let chunks = chunks(report);
        assert_eq!(chunks[&1], [2], "IPv4");
        assert_eq!(chunks[&2], [17], "UDP");
        assert_eq!(chunks[&11], [1], "SIP");
        assert_eq!(chunks[&12], 77_u32.to_be_bytes());
        assert_eq!(text_of(&chunks, 14), "s3cret-of-homer");
        assert_eq!(text_of(&chunks, 17), call_id);
        assert_eq!(text_of(&chunks, 19), "gate");
        let message = Message::new(chunks[&15].clone());
        assert_eq!(message.call_id(), call_id);
        let (from, to) = (address_of(&chunks, 3, 7), address_of(&chunks, 4, 8));
        let name = |address| match address {
            _ if address == bench.caller.address => "caller",
            _ if address == bench.callee.address => "callee",
            _ if address == gate => "gate",
            _ => panic!("{address} is nobody's"),
        };
        ladder.push(format!("{} > {} {}", name(from), name(to), message.kind()));
    }
    assert_eq!(
        ladder,
        [
            "caller > gate INVITE",
            "gate > caller 100",
            "gate > callee INVITE",
            "callee > gate 180",
            "gate > caller 180",
            "callee > gate 200",
            "gate > caller 200",
            "caller > gate ACK",
            "gate > callee ACK",
            "caller > gate BYE",
            "gate > callee BYE",
            "callee > gate 200",
            "gate > caller 200",
        ]
    );
    assert_eq!(bench.hep("callgate_hep_sent_total"), CALL_MESSAGES as u64);
    assert_eq!(bench.hep("callgate_hep_dropped_total"), 0);

    let shown = [
        bench.node.output(),
        bench.node.page("/metrics"),
        bench.node.json(&["status"]).to_string(),
        bench.node.json(&["why", &call_id]).to_string(),
        String::from_utf8_lossy(&bench.node.command(&["reload"]).stdout).into_owned(),
    ];
    for text in shown {
        assert!(!text.contains("s3cret-of-homer"), "{text}");
    }
}

#[test]
fn kamailio_as_capture_server_reads_every_report() {
    let scratch = Scratch::new("hep-kamailio");
    let address: SocketAddr = format!("127.0.0.1:{}", port::free())
        .parse()
        .expect("an address");
    let kamailio = kamailio(&scratch, address);
    let (socket, own) = homer();
    let bench = Bench::new("127.0.0.1", &format!("[hep]\ntarget = \"{own}\"\n"));
    let call_id = bench.call();
    let reports = reports(&socket, CALL_MESSAGES);
    let read = |kamailio: &CaptureServer| {
        let output = kamailio.0.output();
        let lines = output.lines().filter_map(|line| line.split_once("HOMER "));
        lines.map(|(_, line)| line.to_owned()).collect::<Vec<_>>()
    };
    // It may not listen yet: the first report is sent until one is read.
    let listens = || {
        socket.send_to(&reports[0], address).expect("sent");
        !read(&kamailio).is_empty()
    };
    assert!(eventually(seconds(20), listens), "{}", kamailio.0.output());
    for report in &reports[1..] {
        socket.send_to(report, address).expect("sent");
    }
    let (caller, callee, gate) = (
        bench.caller.address,
        bench.callee.address,
        bench.node.address,
    );
    let mut wanted: Vec<String> = [
        (caller, "INVITE"),
        (gate, "100"),
        (gate, "INVITE"),
        (callee, "180"),
        (gate, "180"),
        (callee, "200"),
        (gate, "200"),
        (caller, "ACK"),
        (gate, "ACK"),
        (caller, "BYE"),
        (gate, "BYE"),
        (callee, "200"),
        (gate, "200"),
    ]
    .iter()
    .map(|(from, kind)| format!("{from} {kind} {call_id}"))
    .collect();
    let all_read = eventually(seconds(20), || {
        let mut lines = read(&kamailio);
        lines.dedup();
        let mut left = wanted.clone();
        for line in &lines {
            if let Some(at) = left.iter().position(|wanted| wanted == line) {
                left.remove(at);
            }
        }
        left.is_empty()
    });
    wanted.dedup();
    assert!(all_read, "wanted {wanted:#?}\nread {:#?}", read(&kamailio));
}

#[test]
fn a_sample_has_all_messages_of_a_call_or_none_and_trunks_are_told_apart() {
    let (socket, address) = homer();
    let hep = format!("[hep]\ntarget = \"{address}\"\nsample = 4\n");
    let bench = Bench::new("127.0.0.1", &hep);
    let calls: Vec<String> = (0..24)
        .map(|number| bench.call_named(Some(&format!("sampled-{number}@test"))))
        .collect();
    let sent = bench.hep("callgate_hep_sent_total") as usize;
    assert!(sent > 0 && sent < 24 * CALL_MESSAGES, "{sent}");
    let mut by_call: BTreeMap<String, usize> = BTreeMap::new();
    for report in reports(&socket, sent) {
        *by_call.entry(text_of(&chunks(&report), 17)).or_default() += 1;
    }
    assert!(
        by_call.values().all(|count| *count == CALL_MESSAGES),
        "{by_call:?}"
    );
    assert!(by_call.keys().all(|call| calls.contains(call)));

    // A reload takes another selection: a trunk that these calls do not touch, then one they do.
    let unused = "[trunk.unused]\naddress = \"127.0.0.77:5060\"\n";
    for (trunk, wanted) in [("unused", 0), ("callee", CALL_MESSAGES)] {
        let text = std::fs::read_to_string(bench.node.config_file()).expect("the configuration");
        let text = text.split("[hep]").next().unwrap_or_default();
        let unused = if text.contains(unused) { "" } else { unused };
        let hep = format!("[hep]\ntarget = \"{address}\"\ntrunks = [\"{trunk}\"]\n");
        std::fs::write(bench.node.config_file(), format!("{text}{unused}{hep}")).expect("written");
        let reloaded = bench.node.command(&["reload"]);
        assert!(reloaded.status.success(), "{reloaded:?}");
        let before = bench.hep("callgate_hep_sent_total");
        bench.call();
        let all = || bench.hep("callgate_hep_sent_total") - before == wanted as u64;
        assert!(eventually(seconds(10), all), "{trunk}");
        assert_eq!(reports(&socket, wanted).len(), wanted);
    }
    assert!(is_silent(&socket));
}

/// Reads whole reports from a stream until `count` have come.
fn stream_reports(stream: &mut TcpStream, count: usize) -> Vec<Vec<u8>> {
    stream
        .set_read_timeout(Some(seconds(20)))
        .expect("a time-out");
    let mut found = Vec::new();
    while found.len() < count {
        let mut head = [0; 6];
        stream.read_exact(&mut head).expect("a report's head");
        let len = usize::from(u16::from_be_bytes([head[4], head[5]]));
        let mut report = head.to_vec();
        report.resize(len, 0);
        stream.read_exact(&mut report[6..]).expect("a whole report");
        chunks(&report);
        found.push(report);
    }
    found
}

#[test]
fn a_tcp_connection_that_is_lost_is_opened_again_and_calls_do_not_wait_for_it() {
    let address: SocketAddr = format!("127.0.0.1:{}", port::free())
        .parse()
        .expect("an address");
    let hep = format!("[hep]\ntarget = \"{address}\"\ntransport = \"tcp\"\n");
    let bench = Bench::new("127.0.0.1", &hep);
    // Nobody listens: the call passes, the reports wait.
    bench.call();
    let failed = || bench.hep("callgate_hep_connect_failures_total") > 0;
    assert!(eventually(seconds(10), failed));
    let listener = TcpListener::bind(address).expect("the port is free");
    let (mut stream, _) = listener.accept().expect("a connection");
    stream_reports(&mut stream, CALL_MESSAGES);
    drop(stream);
    let lost = || {
        let failures = bench.hep("callgate_hep_connect_failures_total");
        failures > 0 && bench.hep("callgate_hep_connects_total") >= 2
    };
    bench.call();
    let (mut stream, _) = listener.accept().expect("a second connection");
    assert!(eventually(seconds(20), lost));
    stream_reports(&mut stream, CALL_MESSAGES);
    assert_eq!(bench.hep("callgate_hep_dropped_total"), 0);
}

#[test]
fn a_homer_that_is_not_there_or_does_not_read_costs_reports_and_nothing_else() {
    // UDP to a closed port: every report is refused by ICMP sooner or later.
    let hep = format!("[hep]\ntarget = \"127.0.0.1:{}\"\n", port::free());
    let bench = Bench::new("127.0.0.1", &hep);
    bench.call();
    bench.call();
    let all_told = || {
        bench.hep("callgate_hep_sent_total") + bench.hep("callgate_hep_dropped_total")
            == 2 * CALL_MESSAGES as u64
    };
    assert!(eventually(seconds(10), all_told));
    // TCP to somebody who accepts and never reads: the socket fills, then the backlog.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let hep = format!(
        "[hep]\ntarget = \"{}\"\ntransport = \"tcp\"\n",
        listener.local_addr().expect("bound")
    );
    let bench = Bench::new("127.0.0.1", &hep);
    let (_never_read, _) = listener.accept().expect("a connection");
    // Refused requests with much ballast: 7 KB come in for each, and as many reports.
    let ballast = format!("X-Ballast: {}\r\n", "x".repeat(7000));
    let mut dialog = Dialog::to(&bench.caller, "sip:nobody@example.com", bench.node.address);
    let dropped = || bench.hep("callgate_hep_dropped_total") > 0;
    let flood = || {
        for _ in 0..200 {
            let request = dialog.request_with("OPTIONS", &ballast, "");
            bench.caller.send(request.as_bytes(), bench.node.address);
        }
        bench.caller.forget();
        bench.callee.forget();
        dropped()
    };
    assert!(eventually(seconds(60), flood), "the backlog has no bound");
    bench.caller.forget();
    bench.callee.forget();
    let options = Dialog::to(
        &bench.caller,
        &format!("sip:{}", bench.node.address),
        bench.node.address,
    )
    .request("OPTIONS");
    bench.caller.send(options.as_bytes(), bench.node.address);
    bench.caller.until("200");
}

/// A trace under way.
struct Tracing {
    child: Child,
    scratch: Scratch,
}

impl Tracing {
    fn start(bench: &Bench, args: &[&str]) -> Tracing {
        let scratch = Scratch::new("trace");
        let open = |name: &str| std::fs::File::create(scratch.file(name)).expect("a file");
        let child = program()
            .arg("trace")
            .args(args)
            .arg("--config")
            .arg(bench.node.config_file())
            .current_dir(scratch.path())
            .stdout(open("out"))
            .stderr(open("err"))
            .spawn()
            .expect("the program runs");
        let tracing = Tracing { child, scratch };
        let begun = || tracing.scratch.read("err").contains("tracing the ");
        assert!(
            eventually(seconds(20), begun),
            "{}",
            tracing.scratch.read("err")
        );
        tracing
    }

    /// Waits for its end: exit code, output, what it said beside.
    fn end(mut self) -> (Option<i32>, String, Scratch) {
        let mut status = None;
        let ended = eventually(seconds(30), || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        assert!(ended, "the trace does not end");
        let err = self.scratch.read("err");
        (status.and_then(|status| status.code()), err, self.scratch)
    }
}

/// What tshark reads of a file, one line per packet.
fn tshark(scratch: &Scratch, file: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new(tool::find("tshark"));
    command.arg("-r").arg(scratch.file(file)).args([
        "-o",
        "udp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
        "-T",
        "fields",
    ]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().expect("tshark runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

#[test]
fn a_call_that_is_traced_is_a_pcap_that_tshark_reads_with_right_checksums() {
    for ip in ["127.0.0.1", "[::1]"] {
        let bench = Bench::new(ip, "");
        let tracing = Tracing::start(
            &bench,
            &["wanted@test", "--pcap", "call.pcap", "--count", "13"],
        );
        bench.call_named(Some("another@test"));
        bench.call_named(Some("wanted@test"));
        let (code, told, scratch) = tracing.end();
        assert_eq!(code, Some(0), "{told}");
        assert!(
            told.contains("callgate: 13 messages in call.pcap"),
            "{told}"
        );
        // IPv6 has no sum over its header; 1 is "good".
        let (source, header, good) = match ip {
            "127.0.0.1" => ("ip.src", "ip.checksum.status", "1"),
            _ => ("ipv6.src", "ipv6.version", "6"),
        };
        let fields = [
            source,
            "udp.srcport",
            header,
            "udp.checksum.status",
            "sip.Call-ID",
            "sip.Method",
            "sip.Status-Code",
        ];
        let packets = tshark(&scratch, "call.pcap", &fields);
        assert_eq!(packets.len(), CALL_MESSAGES, "{packets:?}");
        for packet in &packets {
            assert_eq!(packet[0], ip.trim_matches(['[', ']']), "{packet:?}");
            assert_eq!((packet[2].as_str(), packet[3].as_str()), (good, "1"));
            assert_eq!(packet[4], "wanted@test", "{packet:?}");
        }
        let kinds: Vec<String> = packets
            .iter()
            .map(|packet| packet[5].clone() + &packet[6])
            .collect();
        assert_eq!(kinds[..4], ["INVITE", "100", "INVITE", "180"], "{kinds:?}");
        let ports: Vec<String> = packets.iter().map(|packet| packet[1].clone()).collect();
        assert_eq!(ports[0], bench.caller.address.port().to_string());
        assert_eq!(ports[1], bench.node.address.port().to_string());
    }
}

#[test]
fn a_trace_of_a_trunk_is_a_ladder_for_each_call_and_ends_cleanly_when_interrupted() {
    let bench = Bench::new("127.0.0.1", "");
    let ladder = Tracing::start(&bench, &["callee", "--follow"]);
    let json = Tracing::start(&bench, &["callee", "--for", "1h", "--json"]);
    let other = Tracing::start(&bench, &["nobody@test", "--for", "500ms"]);
    let calls = [bench.call(), bench.call()];
    let lines = |tracing: &Tracing| tracing.scratch.read("out").lines().count();
    assert!(eventually(seconds(20), || lines(&ladder) == 2 * (CALL_MESSAGES + 3)));
    assert!(eventually(seconds(20), || lines(&json) == 2 * CALL_MESSAGES));
    for tracing in [&ladder, &json] {
        tool::signal_process(tracing.child.id(), libc::SIGINT);
    }
    let (code, told, scratch) = ladder.end();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("callgate: 26 messages"), "{told}");
    let text = scratch.read("out");
    let mut names = String::new();
    for call in &calls {
        writeln!(names, "call {call}").expect("a String takes any text");
        assert!(text.contains(&format!("call {call}\n")), "{text}");
    }
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    let (code, told, scratch) = json.end();
    assert_eq!(code, Some(0), "{told}");
    for line in scratch.read("out").lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let call_id = row["call_id"].as_str().expect("text");
        assert!(calls.iter().any(|call| call == call_id), "{row}");
        assert!(
            row["message"]
                .as_str()
                .is_some_and(|text| text.contains("SIP/2.0")),
            "{row}"
        );
    }
    let (code, told, scratch) = other.end();
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(scratch.read("out"), "", "no message was of that call");
}

#[test]
fn traces_are_bounded_and_a_file_that_cannot_be_written_is_told() {
    let bench = Bench::new("127.0.0.1", "");
    let mut running: Vec<Tracing> = (0..4)
        .map(|_| Tracing::start(&bench, &["caller", "--follow"]))
        .collect();
    let refused = bench.node.command(&["trace", "caller"]);
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("4 traces run already"), "{told}");
    let status = bench.node.command(&["status"]);
    assert!(status.status.success(), "others are served meanwhile");
    for tracing in &running {
        tool::signal_process(tracing.child.id(), libc::SIGINT);
    }
    while let Some(tracing) = running.pop() {
        assert_eq!(tracing.end().0, Some(0));
    }
    let unwritable = bench
        .node
        .command(&["trace", "caller", "--pcap", "/nonexistent/file.pcap"]);
    assert_eq!(unwritable.status.code(), Some(1));
    let told = String::from_utf8_lossy(&unwritable.stderr).into_owned();
    assert!(
        told.contains("/nonexistent/file.pcap: not written"),
        "{told}"
    );
    for usage in [["trace", "x", "--for=7"], ["trace", "x", "--count=0"]] {
        assert_eq!(bench.node.command(&usage).status.code(), Some(2));
    }
}
