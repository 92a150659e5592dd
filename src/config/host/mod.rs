//! `callgate check --host`: compares this host with the recommendations of `tuning/`.
//!
//! Reads below a root that the caller names (`/` but for tests) and changes nothing. What is
//! recommended stands in two tables, [`SYSCTLS`] and [`KNOBS`]; the guide repeats it for people, and
//! a test compares the two.

mod hardware;
mod knobs;
mod network;
mod sysctls;

use core::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Config;
use super::cpus::{ShardSpec, cpu_list};

pub use knobs::{KNOBS, Knob};
pub use sysctls::{Accept, SYSCTLS, Sysctl};

/// What was found about one knob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The knob, and which of several it is: `NIC queues eth0`.
    pub knob: String,
    pub verdict: Verdict,
    pub found: String,
    pub wanted: String,
    pub why: &'static str,
    /// How to set it; empty when there is nothing to do.
    pub set: String,
    /// How to go back to what was found.
    pub undo: String,
}

/// What to do about a knob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As recommended.
    Good,
    /// Differs from the recommendation.
    Change,
    /// Cannot be told from here; the commands show it.
    Look,
    /// This host has no such knob.
    Absent,
}

/// All findings, in the order of the tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostReport {
    pub findings: Vec<Finding>,
}

impl HostReport {
    /// Whether nothing is to be changed.
    pub fn is_good(&self) -> bool {
        self.count(Verdict::Change) == 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.verdict == verdict)
            .count()
    }
}

impl fmt::Display for HostReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            match finding.verdict {
                Verdict::Good => writeln!(out, "good    {}: {}", finding.knob, finding.found)?,
                Verdict::Absent => writeln!(out, "absent  {}: not on this host", finding.knob)?,
                Verdict::Change => detailed(out, "change", finding)?,
                Verdict::Look => detailed(out, "look at", finding)?,
            }
        }
        let (good, change) = (self.count(Verdict::Good), self.count(Verdict::Change));
        let (look, absent) = (self.count(Verdict::Look), self.count(Verdict::Absent));
        write!(
            out,
            "{good} good, {change} to change, {look} to look at, {absent} not on this host"
        )
    }
}

fn detailed(out: &mut fmt::Formatter<'_>, what: &str, finding: &Finding) -> fmt::Result {
    writeln!(out, "{what:<7} {}: {}", finding.knob, finding.found)?;
    writeln!(out, "          wanted  {}", finding.wanted)?;
    writeln!(out, "          why     {}", finding.why)?;
    writeln!(out, "          set     {}", finding.set)?;
    writeln!(out, "          undo    {}", finding.undo)
}

/// The host as far as it is looked at.
pub(super) struct Host<'h> {
    root: &'h Path,
    /// CPUs that the configuration gives to shards; empty unless it lists them.
    shard_cpus: Vec<usize>,
    shards: usize,
    /// Ports that the node binds.
    ports: Vec<u16>,
}

/// Looks at everything; `root` is `/` but for tests.
pub fn inspect(root: &Path, config: &Config) -> HostReport {
    let host = Host::new(root, config);
    let mut findings: Vec<Finding> = SYSCTLS.iter().map(|sysctl| sysctl.look(&host)).collect();
    findings.extend(KNOBS.iter().flat_map(|knob| knob.look(&host)));
    HostReport { findings }
}

impl<'h> Host<'h> {
    fn new(root: &'h Path, config: &Config) -> Host<'h> {
        let listeners = config
            .plan
            .listeners
            .iter()
            .map(|listener| listener.bind.port());
        let http = config.control.http.map(|address| address.port());
        let mut host = Host {
            root,
            shard_cpus: Vec::new(),
            shards: 0,
            ports: listeners.chain(http).collect(),
        };
        if let ShardSpec::CpuList(cpus) = &config.node.shards {
            host.shard_cpus.clone_from(cpus);
        }
        let online = host
            .cpus("sys/devices/system/cpu/online")
            .unwrap_or_default();
        host.shards = config.node.shards.count(online.len());
        host
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A file's text without white space around it; `None` when there is no such file.
    fn text(&self, relative: &str) -> Option<String> {
        fs::read_to_string(self.path(relative))
            .ok()
            .map(|text| text.trim().to_owned())
    }

    /// A kernel list of CPUs; an empty file is an empty list.
    fn cpus(&self, relative: &str) -> Option<Vec<usize>> {
        match self.text(relative)?.as_str() {
            "" | "(null)" => Some(Vec::new()),
            text => cpu_list(text).ok(),
        }
    }

    /// The names in a directory, in order, so that no report depends on the file system's order.
    fn names(&self, relative: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(relative))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }
}

/// CPUs as the kernel writes them: `2-5,8`.
fn list_text(cpus: &[usize]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some(&first) = cpus.get(at) {
        let run = (0..)
            .zip(&cpus[at..])
            .take_while(|(step, cpu)| **cpu == first + step)
            .count();
        let last = first + run - 1;
        parts.push(if last > first {
            format!("{first}-{last}")
        } else {
            first.to_string()
        });
        at += run;
    }
    if parts.is_empty() {
        "none".to_owned()
    } else {
        parts.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_written_as_the_kernel_does() {
        assert_eq!(list_text(&[]), "none");
        assert_eq!(list_text(&[2, 3, 4, 5, 8]), "2-5,8");
        assert_eq!(list_text(&[1]), "1");
    }
}
