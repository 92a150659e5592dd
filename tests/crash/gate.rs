//! The node under test, which is killed and started again on the same state.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
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
    child: Option<Child>,
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
            child: None,
        }
    }

    fn config(&self) -> PathBuf {
        self.dir.join("callgate.toml")
    }

    fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn write(&self, shards: usize, sip: SocketAddr, socket: &str) -> PathBuf {
        let file = self.dir.join(format!("{socket}.toml"));
        let text = format!(
            "[node]\nshards = {shards}\nstate_dir = \"{}\"\nstate_flush = \"1s\"\ndrain_max = \"{}\"\n\
             [capacity]\ndialogs = 2000\ntransactions = 4000\n[timers]\nt1 = \"100ms\"\n[overload]\ntarget = \"500ms\"\n\
             [[listen]]\nudp = \"{sip}\"\n[control]\nsocket = \"{}\"\n{}",
            self.state_dir().display(),
            self.drain_max,
            self.dir.join(format!("{socket}.sock")).display(),
            self.routing,
        );
        fs::write(&file, text).expect("a configuration file");
        file
    }

    /// Starts the node; it has said that it is ready when this returns.
    pub fn start(&mut self, shards: usize) {
        let file = self.write(shards, self.sip, "callgate");
        assert_eq!(file, self.config());
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .expect("a file");
        let mut child = program(&["run", "--config"])
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program runs");
        let stdout = child.stdout.take().expect("piped");
        self.child = Some(child);
        let mut lines = BufReader::new(stdout).lines();
        let is_ready = lines.any(|line| line.is_ok_and(|line| line == "callgate: ready"));
        assert!(is_ready, "the node did not start: {}", self.log());
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
        let kill = format!("kill -TERM {}", child.id());
        let status = Command::new("sh").args(["-c", &kill]).status();
        assert!(status.expect("a shell").success());
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
        if std::thread::panicking() {
            println!("{}", self.log());
        }
        let _kept_on_failure = fs::remove_dir_all(&self.dir);
    }
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
