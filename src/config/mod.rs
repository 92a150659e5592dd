//! From a TOML text to a checked configuration, or to all of its faults at once.
//!
//! Pure: nothing here looks at the host, except [`probe_host`], [`host`], [`Secret`] and the socket
//! path's environment, which say so. What the shards need is in [`Config::plan`].

mod address;
mod budget;
mod capture;
mod cdr;
mod coalesce;
mod cpus;
mod diff;
mod fault;
mod file;
mod group;
mod guard;
pub mod host;
pub mod import;
mod names;
mod node;
mod overload;
mod probe;
mod route_line;
mod secret;
mod section;
mod shown;
mod socket_path;
mod summary;
mod text;
mod trunk;

use core::net::SocketAddr;
use core::time::Duration;
use std::path::{Path, PathBuf};

use toml_edit::Document;

use crate::shard::NodePlan;

pub use budget::{Budget, RecordSizes, budget};
pub use capture::{Hep, HepTransport, Why};
pub use cdr::{Cdr, CdrFile, CdrFormat, CdrFsync};
pub use cpus::ShardSpec;
pub use diff::{Difference, diff};
pub use fault::{Fault, Report};
pub use names::{InOrder, SlotNames};
pub use probe::probe_host;
pub use secret::{Origin, Secret};
pub use shown::as_json;
pub use socket_path::default_control_socket;
pub use summary::summary;

use fault::Sheet;
use names::Names;
use section::Section;

/// A configuration without faults.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file's name as it was given; [`DEFAULT_NAME`] for the embedded default.
    pub source_name: String,
    pub node: Node,
    pub capacity: TotalCapacity,
    pub control: Control,
    pub log: Log,
    pub why: Why,
    /// `None`: nothing is sent to Homer.
    pub hep: Option<Hep>,
    pub cdr: Cdr,
    pub plan: NodePlan,
    /// The text that it was read from, without the secrets that stood in it.
    pub text: String,
    /// What is legal and probably not meant.
    pub warnings: Vec<Fault>,
}

/// `[node]`, as far as it is not part of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub shards: ShardSpec,
    /// `None`: dialogs do not survive a restart.
    pub state_dir: Option<PathBuf>,
    /// How often what is under `state_dir` is brought to the disk; `None` = when the kernel likes.
    pub state_flush: Option<Duration>,
    pub io: IoChoice,
    pub steering: SteeringChoice,
    pub coalesce: CoalesceChoice,
    /// Longest time that a draining node waits for its calls to end.
    pub drain_max: Duration,
}

/// Which driver moves the datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoChoice {
    /// `Uring` where the kernel has it, else `Mmsg`.
    Auto,
    Uring,
    Mmsg,
}

/// Whether the kernel chooses the shard by Call-ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SteeringChoice {
    /// Where the process may load the program.
    Auto,
    Off,
}

/// Whether a busy shard lets datagrams gather for a tick before it looks at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoalesceChoice {
    /// While it is busy, for a tick that the rate decides.
    Auto,
    /// Never: each datagram wakes the shard.
    Off,
    /// While it is busy, for this long.
    Tick(Duration),
}

/// `[capacity]`: of all shards together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TotalCapacity {
    pub dialogs: usize,
    pub transactions: usize,
}

impl TotalCapacity {
    /// One shard's part, rounded up.
    pub fn per_shard(&self, shards: usize) -> crate::shard::plan::Capacity {
        let shards = shards.max(1);
        crate::shard::plan::Capacity {
            dialogs: self.dialogs.div_ceil(shards),
            transactions: self.transactions.div_ceil(shards),
        }
    }
}

/// `[control]`; `None` = not opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    pub socket: Option<PathBuf>,
    pub http: Option<SocketAddr>,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
    /// Whether subscribers' numbers are written above `debug`.
    pub numbers: bool,
}

/// Least important line that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The level's word in the configuration and for a log filter.
    pub const fn word(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Name of the embedded default in messages.
pub const DEFAULT_NAME: &str = "embedded default";

/// Checks a configuration text; `file` names it in messages.
///
/// Slots are asked for only when the text has no fault, so that a refused reload takes none.
pub fn load(text: &str, file: &str, slots: &mut dyn SlotNames) -> Result<Config, Report> {
    let mut sheet = Sheet::new(file, text);
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(fault) => {
            let end = text.trim_end().len();
            sheet.fault(fault.span().unwrap_or(end..end), syntax_message(&fault));
            return Err(sheet.close().err().unwrap_or_default());
        }
    };
    let mut config = read(&document, file, &mut sheet);
    config.text = shown::without_secrets(text, &document, sheet.secrets());
    config.warnings = sheet.close()?;
    names::assign_slots(&mut config.plan.routing, slots)
        .map_err(|message| refused(Fault::of_file(file, message, None)))?;
    Ok(config)
}

/// Reads and checks a configuration file.
pub fn load_file(path: &Path, slots: &mut dyn SlotNames) -> Result<Config, Report> {
    let file = path.display().to_string();
    let octets =
        file::read(path).map_err(|message| refused(Fault::of_file(&file, message, None)))?;
    match core::str::from_utf8(&octets) {
        Ok(text) => load(text, &file, slots),
        Err(fault) => {
            let valid = String::from_utf8_lossy(&octets[..fault.valid_up_to()]).into_owned();
            let mut sheet = Sheet::new(&file, &valid);
            sheet.fault(
                valid.len()..valid.len(),
                "the text is not UTF-8 from here on",
            );
            Err(sheet.close().err().unwrap_or_default())
        }
    }
}

/// The embedded default: loopback only, calls go to 127.0.0.1:5080.
pub fn default_config() -> Config {
    load(DEFAULT_TEXT, DEFAULT_NAME, &mut InOrder::default())
        .expect("a test loads the embedded default")
}

/// The text of the embedded default, for `check` and for a first file of one's own.
pub const DEFAULT_TEXT: &str = include_str!("default.toml");

fn refused(fault: Fault) -> Report {
    Report {
        faults: vec![fault],
        warnings: Vec::new(),
    }
}

fn syntax_message(fault: &toml_edit::TomlError) -> String {
    format!("not TOML: {}", fault.message().trim().replace('\n', "; "))
}

/// Walks the whole document; what is faulty has a stand-in in the result and a fault in the sheet.
fn read(document: &Document<&str>, file: &str, sheet: &mut Sheet<'_>) -> Config {
    let root = Section::root(document.as_table(), TABLES, sheet);
    let names = Names::collect(&root, sheet);
    let node = node::read_node(&root, sheet);
    let listeners = node::read_listeners(&root, sheet);
    let (timings, min_se) = node::read_timers(&root, sheet);
    let trunks = trunk::read_all(&names, &listeners, min_se, sheet);
    let groups = group::read_all(&names, &trunks, sheet);
    let routes = route_line::read_all(&root, &names, &trunks, &groups, sheet);
    let guard = guard::read(&root, &trunks, sheet);
    let plan = NodePlan {
        source_name: file.to_owned(),
        node_name: node.node.name.clone(),
        listeners,
        aliases: node.aliases,
        routing: crate::route::Plan {
            trunks,
            groups,
            routes,
        },
        timings,
        min_se,
        message_max: node.message_max,
        overload: overload::read(&root, sheet),
        guard,
    };
    Config {
        source_name: file.to_owned(),
        node: node.node,
        capacity: node::read_capacity(&root, sheet),
        control: node::read_control(&root, sheet),
        log: node::read_log(&root, sheet),
        why: capture::read_why(&root, sheet),
        hep: capture::read_hep(&root, &names, sheet),
        cdr: cdr::read(&root, sheet),
        plan,
        text: String::new(),
        warnings: Vec::new(),
    }
}

const TABLES: &[&str] = &[
    "node", "capacity", "listen", "control", "log", "timers", "session", "overload", "guard",
    "trunk", "group", "route", "why", "hep", "cdr",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_default_has_no_fault_and_no_warning() {
        let config = load(DEFAULT_TEXT, DEFAULT_NAME, &mut InOrder::default()).expect("it is ours");
        assert_eq!(config.warnings, []);
        assert!(
            config
                .plan
                .listeners
                .iter()
                .all(|listener| listener.bind.ip().is_loopback())
        );
    }

    #[test]
    fn calls_from_any_loopback_address_are_those_of_the_trunk_loopback() {
        let routing = default_config().plan.routing;
        let sources = crate::route::sources::Sources::build(&routing);
        let trunk_of = |source: &str| {
            let source = source.parse().expect("an address");
            let (trunk, _rule) = sources.lookup(source).expect("a known source");
            routing.trunk(trunk).name.clone()
        };
        for caller in ["127.0.0.1:5070", "127.0.0.9:5080", "[::1]:5070"] {
            assert_eq!(trunk_of(caller), "loopback", "{caller}");
        }
        // Its address with its port: what the server itself sends.
        assert_eq!(trunk_of("127.0.0.1:5080"), "uas");
    }
}
