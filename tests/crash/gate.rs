//! The node under test, which is killed and started again on the same state.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// A node, its files, and the ports of its peers.
pub struct Gate {
    dir: PathBuf,
    pub sip: SocketAddr,
    /// Of the callee, until the agents take it.
    pub callee: SocketAddr,
    pub routing: String,
    pub drain_max: &'static str,
    pub keeps_state: bool,
    /// Where the service manager listens.
    pub notify: Option<PathBuf>,
    child: Option<Child>,
    /// A node that is no child of this process.
    stranger: Option<u32>,
}

impl Gate {
    pub fn new(name: &str) -> Gate {
        let dir =
            std::env::temp_dir().join(format!("callgate-crash-{}-{name}", std::process::id()));
        let _left_over = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a scratch directory");
        let callee = free("127.0.0.2:0");
        Gate {
            dir,
            sip: free("127.0.0.1:0"),
            callee,
            routing: format!(
                "[trunk.callers]\nmatch = [\"127.0.0.1/32\"]\n\
                 [trunk.carrier-a]\naddress = \"{callee}\"\n\
                 [group.pbx]\nmembers = [\"carrier-a\"]\n[[route]]\nto = \"pbx\"\n"
            ),
            drain_max: "60s",
            keeps_state: true,
            notify: None,
            child: None,
            stranger: None,
        }
    }

    fn config(&self) -> PathBuf {
        self.dir.join("callgate.toml")
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("callgate.sock")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn write(&self, shards: usize, sip: SocketAddr, socket: &str) -> PathBuf {
        let file = self.dir.join(format!("{socket}.toml"));
        let state = format!(
            "state_dir = \"{}\"\nstate_flush = \"1s\"\n",
            self.state_dir().display()
        );
        let text = format!(
            "[node]\nshards = {shards}\n{}drain_max = \"{}\"\n\
             [capacity]\ndialogs = 2000\ntransactions = 4000\n[timers]\nt1 = \"100ms\"\n[overload]\ntarget = \"500ms\"\n\
             [[listen]]\nudp = \"{sip}\"\n[control]\nsocket = \"{}\"\n{}",
            if self.keeps_state { state.as_str() } else { "" },
            self.drain_max,
            self.dir.join(format!("{socket}.sock")).display(),
            self.routing,
        );
        fs::write(&file, text).expect("a configuration file");
        file
    }

    /// Starts the node; it has said that it is ready when this returns.
    pub fn start(&mut self, shards: usize) {
        let mut child = self.spawn(shards, &["run", "--config"]);
        let is_ready = is_ready(&mut child);
        self.child = Some(child);
        assert!(is_ready, "the node did not start: {}", self.log());
    }

    fn spawn(&self, shards: usize, words: &[&str]) -> Child {
        let file = self.write(shards, self.sip, "callgate");
        assert_eq!(file, self.config());
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .expect("a file");
        let mut command = program(words);
        if let Some(path) = &self.notify {
            command.env("NOTIFY_SOCKET", path);
        }
        command
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program runs")
    }

    /// A new process takes the node over; the former one has ended well when this returns.
    pub fn take_over(&mut self, shards: usize) {
        let mut heir = self.spawn(shards, &["run", "--takeover", "--config"]);
        let is_ready = is_ready(&mut heir);
        let mut former = self.child.replace(heir).expect("it runs");
        assert!(is_ready, "the heir did not start: {}", self.log());
        let ended = former.wait().expect("it was waited for");
        assert_eq!(ended.code(), Some(0), "{}", self.log());
    }

    /// A new process begins to take the node over, and one of the two is killed so long after. One
    /// of them serves when this returns, or was started again where none was left.
    #[expect(
        clippy::zombie_processes,
        reason = "one of the two is waited for here, the other is kept"
    )]
    pub fn take_over_and_kill(&mut self, shards: usize, heir: bool, after: Duration) -> String {
        let mut new = self.spawn(shards, &["run", "--takeover", "--config"]);
        std::thread::sleep(after);
        let mut old = self.child.take().expect("it runs");
        let victim = if heir { &mut new } else { &mut old };
        victim.kill().expect("killed");
        victim.wait().expect("ended");
        let (mut left, name) = if heir { (old, "former") } else { (new, "heir") };
        if !heir {
            // It says that it is ready, or it ends.
            let serves = is_ready(&mut left);
            if serves {
                self.child = Some(left);
                return "the heir serves".to_owned();
            }
            left.wait().expect("ended");
            self.start(shards);
            return "the heir had nothing yet and ended".to_owned();
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if left.try_wait().expect("a child").is_some() {
                self.start(shards);
                return format!("the {name} had handed over");
            }
            let output = self.command("status --json");
            let runs = output.0 == Some(0) && output.1.contains("\"shards_running\":2");
            if runs {
                // It may be about to end: the new one was ready when it was killed.
                std::thread::sleep(Duration::from_millis(100));
                if left.try_wait().expect("a child").is_none() {
                    self.child = Some(left);
                    return format!("the {name} serves");
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("neither serves: {}", self.log());
    }

    /// What a process says that may not take the node over; the file is as it was afterwards.
    pub fn fail_to_take_over(&self, shards: usize) -> String {
        let before = fs::read(self.config()).ok();
        let heir = self.spawn(shards, &["run", "--takeover", "--config"]);
        let output = heir.wait_with_output().expect("ended");
        if let Some(before) = before {
            fs::write(self.config(), before).expect("written");
        }
        assert_eq!(output.status.code(), Some(1), "{}", self.log());
        let log = self.log();
        let from = log
            .rfind("callgate: ")
            .or_else(|| log.rfind("callgate.toml:"));
        let start = from.map_or(0, |from| from.saturating_sub(600));
        log.get(start..).unwrap_or(&log).to_owned()
    }

    /// The same for a process of another user, where this one may become one.
    pub fn fail_to_take_over_as_another_user(&self, shards: usize) {
        use std::os::unix::process::CommandExt;
        let file = self.write(shards, self.sip, "callgate");
        let mut command = program(&["run", "--takeover", "--config"]);
        match command.arg(&file).uid(65_534).gid(65_534).output() {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(1), "{text}");
                let is_told = text.contains("Permission denied") || text.contains("its own user");
                assert!(is_told, "{text}");
            }
            Err(why) => println!("NOT TESTED: the program does not run as another user: {why}"),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn signal(&self, name: &str) {
        signal(name, self.id());
    }

    /// SIGTERM, without waiting.
    pub fn begin_drain(&self) {
        self.signal("TERM");
    }

    /// The node is this process from here on, which the former one has started.
    pub fn follow(&mut self, process: u32) {
        let mut former = self.child.take().expect("it ran");
        assert_eq!(former.wait().expect("ended").code(), Some(0));
        self.stranger = Some(process);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("killed");
        child.wait().expect("ended");
    }

    /// SIGTERM, and waits.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        signal("TERM", child.id());
        child.wait().expect("ended");
    }

    /// What a second node on the same state directory says before it ends.
    pub fn fail_second(&self) -> String {
        let file = self.write(1, free("127.0.0.1:0"), "second");
        let output = program(&["run", "--config"]).arg(&file).output();
        let output = output.expect("the program runs");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Exit code and text of a command for the running node.
    pub fn command(&self, words: &str) -> (Option<i32>, String) {
        let words: Vec<&str> = words.split(' ').collect();
        let output = program(&words)
            .arg("--config")
            .arg(self.config())
            .output()
            .expect("the program runs");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// The same for a command that needs no node.
    pub fn offline(&self, words: &str) -> (Option<i32>, String) {
        self.command(words)
    }

    pub fn json(&self, words: &str) -> Value {
        let (code, text) = self.command(&format!("{words} --json"));
        assert_eq!(code, Some(0), "{text}");
        serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{words}: {fault}: {text}"))
    }

    pub fn call_ids(&self) -> Vec<String> {
        let rows = self.json("calls");
        let rows = rows.as_array().expect("a list").iter();
        rows.map(|row| row["call_id"].as_str().expect("text").to_owned())
            .collect()
    }

    pub fn limit(&self, name: &str, key: &str) -> u64 {
        let rows = self.json("limits");
        let mut rows = rows.as_array().expect("a list").iter();
        let row = rows.find(|row| row["name"] == name).expect("the limit");
        row[key].as_u64().expect("a number")
    }

    pub fn until(&self, what: &str, holds: impl Fn(&Gate) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The file of shard 0 in the newest set.
    fn file(&self) -> PathBuf {
        let sets = fs::read_dir(self.state_dir()).expect("the directory");
        let newest = sets
            .filter_map(|entry| {
                let name = entry.expect("an entry").file_name();
                let name = name.to_str().expect("text");
                name.strip_prefix("dialogs-")?.parse::<u64>().ok()
            })
            .max()
            .expect("a set");
        let set = self.state_dir().join(format!("dialogs-{newest}"));
        set.join("shard-0.slab")
    }

    /// Turns octets of a file over.
    pub fn damage(&self, at: &[usize]) {
        let mut octets = fs::read(self.file()).expect("the file");
        at.iter().for_each(|at| octets[*at] ^= 0xff);
        fs::write(self.file(), octets).expect("written");
    }

    /// Takes octets off the end of a file.
    pub fn cut(&self, count: u64) {
        let file = fs::OpenOptions::new().write(true).open(self.file());
        let file = file.expect("the file");
        let len = file.metadata().expect("its length").len();
        file.set_len(len - count).expect("cut");
    }

    pub fn make_version(&self, version: u32) {
        use callgate::base::hash::HashKey;
        let mut octets = fs::read(self.file()).expect("the file");
        octets[8..12].copy_from_slice(&version.to_le_bytes());
        let check = HashKey::new([1, 2]).hash(&octets[..24]);
        octets[24..32].copy_from_slice(&check.to_le_bytes());
        fs::write(self.file(), octets).expect("written");
    }

    /// As the first format was: without places for calls that are being set up.
    pub fn make_first_version(&self) {
        self.make_version(1);
        let octets = fs::read(self.file()).expect("the file");
        let positions: [u8; 4] = octets[12..16].try_into().expect("four octets");
        let len = 4096 + 2048 * u64::from(u32::from_le_bytes(positions));
        let file = fs::OpenOptions::new().write(true).open(self.file());
        file.and_then(|file| file.set_len(len)).expect("cut");
    }

    pub fn remove_secret(&self) {
        fs::remove_file(self.state_dir().join("secret")).expect("the secret");
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ended_already = child.kill();
            let _ended_already = child.wait();
        }
        if let Some(process) = self.stranger {
            signal("KILL", process);
        }
        if std::thread::panicking() {
            println!("{}", self.log());
        }
        let _kept_on_failure = fs::remove_dir_all(&self.dir);
    }
}

fn is_ready(child: &mut Child) -> bool {
    let stdout = child.stdout.take().expect("piped");
    let mut lines = BufReader::new(stdout).lines();
    lines.any(|line| line.is_ok_and(|line| line == "callgate: ready"))
}

fn signal(name: &str, process: u32) {
    let kill = format!("kill -{name} {process}");
    let status = Command::new("sh").args(["-c", &kill]).status();
    assert!(status.expect("a shell").success());
}

fn program(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callgate"));
    command.args(words).env_remove("NOTIFY_SOCKET");
    command
}

fn free(address: &str) -> SocketAddr {
    let socket = UdpSocket::bind(address).expect("a free port");
    socket.local_addr().expect("bound")
}
