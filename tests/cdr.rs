//! Call detail records in files of a running node: one for each call of SIPp, whatever happens to
//! the files, the disk and the process.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::sipp::Scenario;
use support::tool::{Running, Scratch};
use support::{alone, eventually, ms, port, seconds};

/// A node that can be killed and started again on the same files.
struct Gate {
    scratch: Scratch,
    address: SocketAddr,
    process: Option<Running>,
    starts: usize,
}

impl Gate {
    /// A node with this `[cdr]` table, in which `DIR` is its directory, and this routing.
    fn start(cdr: &str, routing: &str) -> Gate {
        let mut gate = Gate {
            scratch: Scratch::new("cdr"),
            address: SocketAddr::from(([127, 0, 0, 1], port::free())),
            process: None,
            starts: 0,
        };
        gate.configure(cdr, routing);
        gate.run(1);
        gate
    }

    fn configure(&self, cdr: &str, routing: &str) {
        let dir = self.scratch.path().display().to_string();
        let text = format!(
            "[node]\nname = \"gate\"\nshards = SHARDS\nstate_dir = \"DIR/state\"\n\
             [capacity]\ndialogs = 2000\ntransactions = 8000\n[timers]\nt1 = \"100ms\"\n\
             [[listen]]\nudp = \"{}\"\n[control]\nsocket = \"DIR/s\"\n\
             [cdr]\n{cdr}\n{routing}",
            self.address
        );
        self.scratch.write("config", &text.replace("DIR", &dir));
    }

    fn run(&mut self, shards: usize) {
        self.starts += 1;
        let text = self.scratch.read("config");
        let text = text.replace("SHARDS", &shards.to_string());
        let file = self.scratch.write("callgate.toml", &text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_callgate"));
        command.arg("run").arg("--config").arg(file);
        let name = format!("callgate{}", self.starts);
        let mut process = Running::start(&name, &mut command, &self.scratch, Stdio::null());
        assert!(
            process.says("callgate: ready", seconds(30)),
            "{}",
            process.output()
        );
        self.process = Some(process);
    }

    fn process(&self) -> &Running {
        self.process.as_ref().expect("it runs")
    }

    fn kill(&mut self) {
        self.process.take().expect("it runs").end(libc::SIGKILL);
    }

    fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.signal(libc::SIGTERM);
        assert!(process.wait(seconds(20)).is_some(), "it drains");
    }

    fn command(&self, words: &[&str]) -> (bool, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_callgate"))
            .args(words)
            .arg("--socket")
            .arg(self.scratch.file("s"))
            .output()
            .expect("the program runs");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.success(), text)
    }

    /// Reads the configuration again with another `[cdr]` table.
    fn reload(&self, cdr: &str, routing: &str) -> String {
        self.configure(cdr, routing);
        let text = self.scratch.read("config").replace("SHARDS", "1");
        self.scratch.write("callgate.toml", &text);
        let (is_done, text) = self.command(&["reload"]);
        assert!(is_done, "{text}");
        text
    }

    fn status(&self) -> Value {
        let (is_done, text) = self.command(&["status", "--json"]);
        assert!(is_done, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    fn alarm(&self) -> Option<String> {
        let status = self.status();
        status["cdr"]["alarm"].as_str().map(str::to_owned)
    }

    /// Paths of `cdr.jsonl` and of the files that were put aside, oldest first.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.scratch.path()).expect("a directory");
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.retain(|path| path.extension().is_some_and(|is| is == "jsonl"));
        paths.sort();
        paths
    }

    /// All records of all files; each line must be one.
    fn records(&self) -> Vec<Value> {
        let mut found = Vec::new();
        for path in self.files() {
            let text = fs::read_to_string(&path).expect("a file");
            for line in text.lines() {
                let record = serde_json::from_str(line);
                found
                    .push(record.unwrap_or_else(|why| panic!("{}: {why}: {line}", path.display())));
            }
        }
        found
    }

    /// Waits until there are so many different attempts.
    fn wait_for(&self, attempts: usize) -> Vec<Value> {
        let found = eventually(seconds(30), || {
            distinct(&self.records(), "attempt_id") >= attempts
        });
        let records = self.records();
        assert!(
            found,
            "{} records for {attempts} attempts",
            distinct(&records, "attempt_id")
        );
        records
    }
}

fn distinct(records: &[Value], field: &str) -> usize {
    let values: BTreeSet<String> = records.iter().map(|cdr| cdr[field].to_string()).collect();
    values.len()
}

fn count(records: &[Value], field: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        let word = record[field].as_str().unwrap_or("null").to_owned();
        *counts.entry(word).or_default() += 1;
    }
    counts
}

/// Callers at any port of 127.0.0.1, one callee.
fn to_callee(callee: SocketAddr) -> String {
    format!(
        "[trunk.callers]\nmatch = [\"127.0.0.1/32\"]\n[trunk.uas]\naddress = \"{callee}\"\n[[route]]\nto = \"uas\"\n"
    )
}

const FILE: &str = "file = \"DIR/cdr.jsonl\"";

#[test]
fn each_call_of_sipp_has_one_record_that_says_how_it_went() {
    let _alone = alone();
    let callee = Scenario::callee("uas").start();
    let busy = Scenario::callee("callee_is_busy.xml").start();
    let closed = SocketAddr::from(([127, 0, 0, 1], port::free()));
    let mut gate = Gate::start(
        "file = \"DIR/cdr.jsonl\"\ncsv_file = \"DIR/cdr.csv\"",
        &format!(
            "[trunk.callers]\nmatch = [\"127.0.0.1/32\"]\n\
             [trunk.uas]\naddress = \"{}\"\n[trunk.busy]\naddress = \"{}\"\n[trunk.closed]\naddress = \"{closed}\"\n\
             [trunk.slow]\naddress = \"{}\"\ncps = {{ sustain = 0.01, burst = 5 }}\n\
             [group.farm]\npolicy = \"priority\"\nmembers = [\"closed\", \"uas\"]\n\
             [[route]]\nuser = \"farm\"\nto = \"farm\"\n[[route]]\nuser = \"busy\"\nto = \"busy\"\n\
             [[route]]\nuser = \"slow\"\nto = \"slow\"\n",
            callee.address, busy.address, callee.address
        ),
    );
    let call = |user: &str, calls| {
        let scenario = Scenario::caller("caller_or_refused.xml", gate.address, calls, 50);
        let sum = scenario.arg("-s", user).arg("-d", 100).run(seconds(60));
        assert_eq!(
            (sum.successful, sum.failed),
            (u64::from(calls), 0),
            "{user}: {sum:?}"
        );
    };
    call("farm", 30);
    call("busy", 20);
    call("slow", 15);
    let records = gate.wait_for(65);
    assert_eq!(records.len(), 65);
    assert_eq!(distinct(&records, "call_id"), 65);
    assert_eq!(
        count(&records, "disposition"),
        BTreeMap::from([
            ("answered".to_owned(), 35),
            ("busy".to_owned(), 20),
            ("refused".to_owned(), 10)
        ])
    );
    let of = |user: &'static str| records.iter().filter(move |cdr| cdr["to"] == user);
    let tried_both = of("farm").filter(|cdr| cdr["attempts_made"] == 2);
    for cdr in tried_both {
        assert_eq!(cdr["attempts"][0]["trunk"], "closed");
        assert_eq!(cdr["attempts"][0]["reason"], "refused by the network");
        assert_eq!(cdr["attempts"][1]["code"], 200);
    }
    // The first calls found out that it is closed; then it is down and not tried.
    assert!(of("farm").any(|cdr| cdr["attempts_made"] == 2));
    for cdr in of("farm") {
        assert_eq!(
            (&cdr["trunk_out"], &cdr["hung_up_by"]),
            (&"uas".into(), &"caller".into())
        );
        assert!(
            cdr["duration_ms"].as_u64().expect("a number") >= 100,
            "{cdr}"
        );
    }
    let over = of("slow").filter(|cdr| cdr["code"] == 503);
    assert!(
        over.clone()
            .all(|cdr| cdr["limit_hit"]["name"] == "slow" && cdr["limit_hit"]["limit"] == "cps")
    );
    assert_eq!(over.count(), 10);
    let mut numbers: Vec<u64> = records
        .iter()
        .map(|cdr| cdr["seq"].as_u64().expect("a number"))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=65).collect::<Vec<u64>>());
    gate.stop();
    let csv = gate.scratch.read("cdr.csv");
    assert_eq!(csv.lines().count(), 66);
    assert!(csv.starts_with("version,node,start_id,"), "{csv}");
}

#[test]
fn files_are_turned_over_under_traffic_and_no_record_is_lost_or_doubled() {
    let _alone = alone();
    let callee = Scenario::callee("uas").start();
    let mut gate = Gate::start(FILE, &to_callee(callee.address));
    let mut caller = Scenario::caller("uac", gate.address, 300, 100).start();
    for round in 0..6 {
        std::thread::sleep(ms(350));
        match round % 3 {
            0 => gate.process().signal(libc::SIGUSR1),
            1 => {
                let (is_done, text) = gate.command(&["cdr", "rotate"]);
                assert!(is_done, "{text}");
            }
            // As logrotate does: away, and then the signal, which must not turn it over again.
            _ => {
                let to = gate.scratch.file(&format!("moved-{round}.jsonl"));
                fs::rename(gate.scratch.file("cdr.jsonl"), to).expect("moved");
                std::thread::sleep(ms(300));
                gate.process().signal(libc::SIGUSR1);
            }
        }
    }
    let sum = caller.wait(seconds(60));
    assert_eq!((sum.successful, sum.failed), (300, 0), "{sum:?}");
    let records = gate.wait_for(300);
    gate.stop();
    assert_eq!((records.len(), gate.records().len()), (300, 300));
    let files = gate.files();
    assert!((4..=7).contains(&files.len()), "{files:?}");
}

#[test]
fn no_record_is_lost_by_kill_9_under_traffic() {
    let _alone = alone();
    let callee = Scenario::callee("uas").start();
    let mut gate = Gate::start(FILE, &to_callee(callee.address));
    // Killed at another number of shards and at another moment each time.
    let mut caller = Scenario::caller("uac", gate.address, 400, 60)
        // Up for a while, so that a kill finds calls in every state.
        .arg("-d", 500)
        .arg("-max_retrans", 12)
        .arg("-max_invite_retrans", 12)
        .start();
    for (shards, run_ms) in [(2, 1_100), (1, 870), (1, 1_330)] {
        std::thread::sleep(ms(run_ms));
        gate.kill();
        gate.run(shards);
    }
    let sum = caller.wait(seconds(90));
    assert_eq!(sum.created, 400);
    let is_over = eventually(seconds(40), || gate.status()["calls"] == 0);
    assert!(is_over, "calls are left: {}", gate.command(&["calls"]).1);
    let records = gate.wait_for(400);
    assert_eq!(distinct(&records, "attempt_id"), 400, "{sum:?}");
    assert_eq!(distinct(&records, "call_id"), 400);
    let resumed = records.iter().filter(|cdr| cdr["resumed"] == true).count();
    println!(
        "{sum:?}, {} records, {resumed} resumed, {:?}",
        records.len(),
        count(&records, "disposition")
    );
    assert!(records.len() < 800, "a few may come twice, not all");
    assert!(resumed > 0, "no kill found a call that was up");
    assert!(distinct(&records, "start_id") > 1);
}

/// Makes so many short calls, each of which must succeed.
fn call(gate: &Gate, calls: u32) {
    let sum = Scenario::caller("uac", gate.address, calls, 50).run(seconds(60));
    assert_eq!(
        (sum.successful, sum.failed),
        (u64::from(calls), 0),
        "{sum:?}"
    );
}

#[test]
fn a_full_device_stops_records_and_not_calls() {
    let _alone = alone();
    let callee = Scenario::callee("uas").start();
    let routing = to_callee(callee.address);
    let gate = Gate::start("file = \"/dev/full\"", &routing);
    call(&gate, 20);
    assert!(eventually(seconds(10), || gate.alarm().is_some()));
    let alarm = gate.alarm().expect("an alarm");
    assert!(
        alarm.contains("/dev/full: No space left on device"),
        "{alarm}"
    );
    assert_eq!(gate.status()["cdr"]["pending"], 20);
    let (_, text) = gate.command(&["status"]);
    assert!(text.contains("CDR ALARM"), "{text}");
    let log = gate.process().output();
    let told = log.matches("call detail records are not written").count();
    assert_eq!(told, 1, "once, and again after a minute: {log}");
    // What the ring holds goes to the file that a reload names.
    let told = gate.reload(FILE, &routing);
    assert!(told.contains("cdr files"), "{told}");
    assert_eq!(gate.wait_for(20).len(), 20);
    assert!(eventually(seconds(10), || gate.alarm().is_none()));
    // Off and on again.
    gate.reload("", &routing);
    call(&gate, 3);
    assert!(gate.status()["cdr"].is_null());
    assert!(!gate.command(&["cdr", "rotate"]).0);
    gate.reload(FILE, &routing);
    call(&gate, 2);
    assert_eq!(gate.wait_for(22).len(), 22);
}

#[test]
fn a_file_that_may_not_grow_is_cut_back_to_whole_lines_and_goes_on_later() {
    let _alone = alone();
    let callee = Scenario::callee("uas").start();
    let mut gate = Gate::start(FILE, &to_callee(callee.address));
    let limit = |octets: &str| {
        let id = gate.process().id().to_string();
        let fsize = format!("--fsize={octets}:unlimited");
        let done = Command::new("prlimit")
            .args(["--pid", &id, &fsize])
            .status();
        assert!(done.expect("prlimit is part of util-linux").success());
    };
    // In the middle of a line, whichever.
    limit("4321");
    call(&gate, 30);
    assert!(eventually(seconds(10), || gate.alarm().is_some()));
    assert!(gate.alarm().expect("an alarm").contains("File too large"));
    let len = fs::metadata(gate.scratch.file("cdr.jsonl"))
        .expect("a file")
        .len();
    assert!(len <= 4321);
    assert!(gate.records().len() < 30, "each line is whole, some wait");
    limit("unlimited");
    assert_eq!(gate.wait_for(30).len(), 30);
    assert!(eventually(seconds(10), || gate.alarm().is_none()));
    gate.stop();
}

#[test]
fn a_file_that_is_removed_a_missing_directory_and_a_pipe_without_reader_heal_by_themselves() {
    let _alone = alone();
    let callee = Scenario::callee("uas").start();
    let routing = to_callee(callee.address);
    let mut gate = Gate::start(FILE, &routing);
    call(&gate, 5);
    gate.wait_for(5);
    fs::remove_file(gate.scratch.file("cdr.jsonl")).expect("removed");
    std::thread::sleep(ms(300));
    call(&gate, 7);
    assert_eq!(gate.wait_for(7).len(), 7);

    gate.reload("file = \"DIR/later/cdr.jsonl\"", &routing);
    call(&gate, 4);
    assert!(eventually(seconds(10), || gate.alarm().is_some()));
    let later = gate.scratch.file("later");
    fs::create_dir(&later).expect("a directory");
    let lines = |path: PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().count()
    };
    assert!(eventually(seconds(10), || lines(later.join("cdr.jsonl")) == 4));
    assert!(eventually(seconds(10), || gate.alarm().is_none()));

    let pipe = gate.scratch.file("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    gate.reload("file = \"DIR/pipe\"\nformat = \"csv\"", &routing);
    call(&gate, 6);
    assert!(eventually(seconds(10), || gate.alarm().is_some()));
    assert!(
        gate.alarm()
            .expect("an alarm")
            .contains("nobody reads this pipe")
    );
    let mut command = Command::new("head");
    command.args(["-n", "7"]).arg(&pipe);
    let mut reader = Running::start("head", &mut command, &gate.scratch, Stdio::null());
    assert!(reader.wait(seconds(10)).is_some(), "{}", reader.output());
    assert_eq!(reader.output().lines().count(), 7);
    gate.stop();
}

#[test]
fn old_files_are_removed_when_there_are_more_than_are_kept() {
    let _alone = alone();
    let callee = Scenario::callee("uas").start();
    let mut gate = Gate::start(
        "file = \"DIR/cdr.jsonl\"\nkeep = 2\nfsync = \"always-batch\"",
        &to_callee(callee.address),
    );
    gate.scratch.write("cdr-mine.jsonl", "");
    for round in 1..=4 {
        call(&gate, 1);
        assert!(eventually(seconds(10), || gate.status()["cdr"]["pending"] == 0));
        gate.process().signal(libc::SIGUSR1);
        let has_turned = || {
            let metadata = fs::metadata(gate.scratch.file("cdr.jsonl"));
            metadata.is_ok_and(|file| file.len() == 0)
        };
        assert!(eventually(seconds(10), has_turned), "round {round}");
    }
    // Two that were put aside, the present one, and one that only looks alike.
    assert_eq!(gate.files().len(), 4, "{:?}", gate.files());
    assert_eq!(gate.records().len(), 2);
    gate.stop();
}
