//! SIPp as caller and callee: starts it with a scenario of `tests/loopback/`, reads its statistics.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::tool::{self, Running, Scratch};
use super::{port, seconds};

/// What SIPp's last line of statistics says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    pub created: u64,
    pub successful: u64,
    pub failed: u64,
    pub retransmissions: u64,
    pub out_of_call: u64,
    pub unexpected: u64,
}

/// How SIPp is to be run.
pub struct Scenario<'a> {
    /// A file of `tests/loopback/`, or SIPp's own scenario when it has no `.xml`.
    pub name: &'a str,
    pub local: SocketAddr,
    pub remote: Option<SocketAddr>,
    /// How many calls; `None` = until it is ended.
    pub calls: Option<u32>,
    pub rate: u32,
    /// Further arguments.
    pub args: Vec<String>,
}

impl<'a> Scenario<'a> {
    /// A callee on a free port.
    pub fn callee(name: &'a str) -> Scenario<'a> {
        Scenario {
            name,
            local: SocketAddr::from(([127, 0, 0, 1], port::free())),
            remote: None,
            calls: None,
            rate: 10,
            args: Vec::new(),
        }
    }

    /// A caller that makes `calls` calls through `remote`, `rate` each second.
    pub fn caller(name: &'a str, remote: SocketAddr, calls: u32, rate: u32) -> Scenario<'a> {
        Scenario {
            remote: Some(remote),
            calls: Some(calls),
            rate,
            ..Scenario::callee(name)
        }
    }

    pub fn arg(mut self, name: &str, value: impl ToString) -> Scenario<'a> {
        self.args.extend([name.to_owned(), value.to_string()]);
        self
    }

    pub fn start(&self) -> Sipp {
        let scratch = Scratch::new("sipp");
        let mut command = Command::new(tool::find("sipp"));
        // SIPp opens its logs in its working directory.
        command.current_dir(scratch.path());
        self.name_scenario(&mut command);
        command
            .args(["-nostdin", "-i", &self.local.ip().to_string()])
            .args(["-p", &self.local.port().to_string()])
            // SIPp listens for commands on a port of its own; give it one that nobody else takes.
            .args(["-cp", &(port::free() + 1).to_string()])
            .args(["-trace_stat", "-stf", "stat.csv", "-fd", "1"])
            .args(["-trace_err", "-error_file", "errors.log"])
            .args(["-buff_size", "4194304", "-timer_resol", "5"])
            .args(["-timeout_error"])
            .args(&self.args);
        if let Some(calls) = self.calls {
            command.args(["-m", &calls.to_string(), "-l", &calls.to_string()]);
        }
        if let Some(remote) = self.remote {
            command
                .args(["-r", &self.rate.to_string()])
                .arg(remote.to_string());
        }
        command.env("TERM", "dumb");
        Sipp {
            process: Running::start("sipp", &mut command, &scratch, Stdio::null()),
            scratch,
            address: self.local,
            scenario: self.name.to_owned(),
        }
    }

    fn name_scenario(&self, command: &mut Command) {
        if self.name.ends_with(".xml") {
            let file = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/loopback")
                .join(self.name);
            assert!(file.exists(), "no scenario {}", file.display());
            command.arg("-sf").arg(file);
        } else {
            command.args(["-sn", self.name]);
        }
    }

    /// Runs to the end and returns the statistics.
    pub fn run(&self, patience: Duration) -> Statistics {
        let mut sipp = self.start();
        let status = sipp.process.wait(patience);
        assert!(
            status.is_some(),
            "{} did not end within {patience:?}: {:?}",
            self.name,
            sipp.statistics()
        );
        sipp.statistics()
    }
}

/// A running SIPp.
pub struct Sipp {
    process: Running,
    scratch: Scratch,
    pub address: SocketAddr,
    scenario: String,
}

impl Sipp {
    /// Ends it (a second signal would cut calls off: SIGUSR1 lets them finish) and counts.
    pub fn end(&mut self) -> Statistics {
        self.process.signal(libc::SIGUSR1);
        if self.process.wait(seconds(3)).is_none() {
            self.process.end(libc::SIGTERM);
        }
        self.statistics()
    }

    /// Kills it in the middle of what it does.
    pub fn kill(&mut self) {
        self.process.end(libc::SIGKILL);
    }

    pub fn wait(&mut self, patience: Duration) -> Statistics {
        let ended = self.process.wait(patience);
        assert!(
            ended.is_some(),
            "{} did not end within {patience:?}",
            self.scenario
        );
        self.statistics()
    }

    /// The first lines of what SIPp complained about.
    pub fn complaints(&self) -> String {
        let text = self.scratch.read("errors.log");
        text.lines().take(40).collect::<Vec<&str>>().join("\n")
    }

    pub fn statistics(&self) -> Statistics {
        let text = self.scratch.read("stat.csv");
        let mut lines = text.lines().filter(|line| !line.is_empty());
        let head: Vec<&str> = lines.next().unwrap_or_default().split(';').collect();
        let last: Vec<&str> = lines.next_back().unwrap_or_default().split(';').collect();
        let column = |name: &str| {
            let at = head.iter().position(|found| *found == name);
            let at = at
                .unwrap_or_else(|| panic!("SIPp has no column {name}: {}", self.process.output()));
            last.get(at).and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        Statistics {
            created: column("TotalCallCreated"),
            successful: column("SuccessfulCall(C)"),
            failed: column("FailedCall(C)"),
            retransmissions: column("Retransmissions(C)"),
            out_of_call: column("OutOfCallMsgs(C)"),
            unexpected: column("FailedUnexpectedMessage(C)"),
        }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.file(name)
    }
}
