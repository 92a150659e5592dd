//! The tables of the node itself: `[node]`, `[capacity]`, `[control]`, `[log]`, `[timers]`,
//! `[session]` and `[[listen]]`.

use core::net::SocketAddr;
use core::time::Duration;
use std::path::PathBuf;

use toml_edit::Value;

use crate::shard::Listener;
use crate::transaction::Timings;

use super::address::{self, AddressFault};
use super::coalesce;
use super::fault::Sheet;
use super::section::{Entry, Section};
use super::{
    CoalesceChoice, Control, IoChoice, Log, LogFormat, LogLevel, Node, ShardSpec, SteeringChoice,
    TotalCapacity, default_control_socket,
};

/// `[node]` with what of it goes into the plan.
pub(super) struct NodeTable {
    pub(super) node: Node,
    pub(super) aliases: Vec<String>,
    pub(super) message_max: usize,
}

pub(super) fn read_node(root: &Section<'_>, sheet: &mut Sheet<'_>) -> NodeTable {
    let mut table = NodeTable {
        node: Node {
            name: "callgate".to_owned(),
            shards: ShardSpec::Auto,
            state_dir: None,
            state_flush: None,
            io: IoChoice::Auto,
            steering: SteeringChoice::Auto,
            coalesce: CoalesceChoice::Auto,
            drain_max: Duration::from_secs(600),
        },
        aliases: Vec::new(),
        message_max: MESSAGE_MAX_LARGEST,
    };
    let Some(section) = open(root, "node", NODE_KEYS, sheet) else {
        return table;
    };
    let node = &mut table.node;
    if let Some(name) = section
        .entry("name")
        .and_then(|entry| node_name(&entry, sheet))
    {
        node.name = name;
    }
    if let Some(entry) = section.entry("shards") {
        node.shards = ShardSpec::read(&entry, sheet);
    }
    node.state_dir = section
        .entry("state_dir")
        .and_then(|entry| path(&entry, sheet));
    node.state_flush = section
        .entry("state_flush")
        .and_then(|entry| state_flush(&entry, sheet));
    if let Some(choice) = section
        .entry("io")
        .and_then(|entry| entry.word(sheet, IO_WORDS))
    {
        node.io = choice;
    }
    if let Some(choice) = section
        .entry("steering")
        .and_then(|entry| entry.word(sheet, STEERING_WORDS))
    {
        node.steering = choice;
    }
    if let Some(choice) = section
        .entry("coalesce")
        .and_then(|entry| coalesce::read(&entry, sheet))
    {
        node.coalesce = choice;
    }
    let drain = Duration::ZERO..=Duration::from_secs(7 * 86_400);
    if let Some(longest) = section
        .entry("drain_max")
        .and_then(|entry| entry.duration(sheet, drain))
    {
        node.drain_max = longest;
    }
    if let Some(entry) = section.entry("aliases") {
        table.aliases = aliases(&entry, sheet);
    }
    let sizes = MESSAGE_MAX_LEAST as i64..=MESSAGE_MAX_LARGEST as i64;
    if let Some(octets) = section
        .entry("message_max")
        .and_then(|entry| entry.integer(sheet, sizes))
    {
        table.message_max = octets as usize;
    }
    table
}

pub(super) fn open<'d>(
    root: &Section<'d>,
    key: &str,
    known: &[&str],
    sheet: &mut Sheet<'_>,
) -> Option<Section<'d>> {
    let entry = root.entry(key)?;
    Section::open(&entry, format!("[{key}]"), known, sheet)
}

fn node_name(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<String> {
    let wanted = "a name of 1 to 64 letters, digits, '-', '_' or '.'";
    let text = entry.string(sheet, wanted)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.len() > 64 || !text.bytes().all(plain) {
        sheet.fault(entry.span(), format!("`{}` must be {wanted}", entry.key));
        return None;
    }
    Some(text.to_owned())
}

pub(super) fn path(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<PathBuf> {
    let text = entry.string(sheet, "a path")?;
    if text.contains('\0') {
        sheet.fault(
            entry.span(),
            format!("`{}` must be a path; found a NUL in it", entry.key),
        );
        return None;
    }
    Some(PathBuf::from(text))
}

fn state_flush(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<Duration> {
    if entry.value().and_then(Value::as_str) == Some("off") {
        return None;
    }
    let range = Duration::from_millis(100)..=Duration::from_secs(3_600);
    entry.duration(sheet, range)
}

fn aliases(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for element in entry.elements(sheet, ALIASES_MAX) {
        let Some(text) = element.string(sheet, "a list of host names") else {
            continue;
        };
        if address::is_host_name(text) || text.parse::<core::net::IpAddr>().is_ok() {
            names.push(text.to_ascii_lowercase());
        } else {
            let message = format!("\"{}\" is no host name", text.escape_debug());
            sheet.fault_hint(
                element.span(),
                message,
                "write the host alone, without \"sip:\" and port",
            );
        }
    }
    names
}

pub(super) fn read_capacity(root: &Section<'_>, sheet: &mut Sheet<'_>) -> TotalCapacity {
    let mut capacity = TotalCapacity {
        dialogs: 200_000,
        transactions: 400_000,
    };
    let Some(section) = open(root, "capacity", &["dialogs", "transactions"], sheet) else {
        return capacity;
    };
    let range = 1..=CAPACITY_MAX;
    if let Some(count) = section
        .entry("dialogs")
        .and_then(|entry| entry.integer(sheet, range.clone()))
    {
        capacity.dialogs = count as usize;
    }
    if let Some(count) = section
        .entry("transactions")
        .and_then(|entry| entry.integer(sheet, range))
    {
        capacity.transactions = count as usize;
    }
    capacity
}

pub(super) fn read_control(root: &Section<'_>, sheet: &mut Sheet<'_>) -> Control {
    let mut control = Control::default();
    let Some(section) = open(root, "control", &["socket", "http"], sheet) else {
        return control;
    };
    control.socket = section
        .entry("socket")
        .and_then(|entry| path(&entry, sheet))
        .map(|path| {
            if path.as_os_str() == "auto" {
                default_control_socket()
            } else {
                path
            }
        });
    if let Some(entry) = section.entry("http") {
        control.http = socket_address(&entry, HTTP_PORT, sheet);
        if control
            .http
            .is_some_and(|address| !address.ip().is_loopback())
        {
            let message = "`http` is open to other hosts, and it asks nobody for a password";
            sheet.warn(
                entry.span(),
                message,
                "bind it to 127.0.0.1 or keep others out by a packet filter",
            );
        }
    }
    control
}

/// Reads an IP address with an optional port.
pub(super) fn socket_address(
    entry: &Entry<'_>,
    default_port: u16,
    sheet: &mut Sheet<'_>,
) -> Option<SocketAddr> {
    let text = entry.string(sheet, WANTED_ADDRESS)?;
    address::socket(text, default_port)
        .map_err(|why| bad_address(entry, text, WANTED_ADDRESS, why, sheet))
        .ok()
}

/// Notes the fault of an address.
pub(super) fn bad_address(
    entry: &Entry<'_>,
    text: &str,
    wanted: &str,
    why: AddressFault,
    sheet: &mut Sheet<'_>,
) {
    let message = format!(
        "`{}` must be {wanted}; found \"{}\": {}",
        entry.key,
        text.escape_debug(),
        why.what
    );
    match why.hint {
        Some(hint) => sheet.fault_hint(entry.span(), message, hint),
        None => sheet.fault(entry.span(), message),
    }
}

pub(super) fn read_log(root: &Section<'_>, sheet: &mut Sheet<'_>) -> Log {
    let mut log = Log {
        level: LogLevel::Info,
        format: LogFormat::Text,
        numbers: false,
    };
    let Some(section) = open(root, "log", &["level", "format", "numbers"], sheet) else {
        return log;
    };
    if let Some(level) = section
        .entry("level")
        .and_then(|entry| entry.word(sheet, LEVEL_WORDS))
    {
        log.level = level;
    }
    if let Some(format) = section
        .entry("format")
        .and_then(|entry| entry.word(sheet, FORMAT_WORDS))
    {
        log.format = format;
    }
    if let Some(numbers) = section
        .entry("numbers")
        .and_then(|entry| entry.boolean(sheet))
    {
        log.numbers = numbers;
    }
    log
}

/// Reads `[timers]` and `[session]`.
pub(super) fn read_timers(root: &Section<'_>, sheet: &mut Sheet<'_>) -> (Timings, Duration) {
    let timings = open(root, "timers", &["t1", "t2", "t4", "timer_c"], sheet)
        .map_or_else(Timings::default, |section| timings(&section, sheet));
    let day = Duration::from_secs(86_400);
    let min_se = open(root, "session", &["min_se"], sheet)
        .and_then(|section| section.entry("min_se"))
        .and_then(|entry| entry.duration(sheet, MIN_SE_LEAST..=day));
    (timings, min_se.unwrap_or(MIN_SE_LEAST))
}

fn timings(section: &Section<'_>, sheet: &mut Sheet<'_>) -> Timings {
    let mut timings = Timings::default();
    let range = Duration::from_millis(1)..=Duration::from_secs(60);
    let ring = Duration::from_secs(1)..=Duration::from_secs(3_600);
    let mut read = |key, range, field: &mut Duration| {
        if let Some(value) = section
            .entry(key)
            .and_then(|entry| entry.duration(sheet, range))
        {
            *field = value;
        }
    };
    read("t1", range.clone(), &mut timings.t1);
    read("t2", range.clone(), &mut timings.t2);
    read("t4", range, &mut timings.t4);
    read("timer_c", ring, &mut timings.timer_c);
    check_timings(section, timings, sheet);
    timings
}

fn check_timings(section: &Section<'_>, timings: Timings, sheet: &mut Sheet<'_>) {
    let span = |key| {
        section
            .entry(key)
            .map_or(section.span.clone(), |entry| entry.span())
    };
    if timings.t2 < timings.t1 {
        sheet.fault_hint(
            span("t2"),
            "`t2` is shorter than `t1`",
            "t2 is where the doubling of t1 ends",
        );
    }
    //= rfc3261#16.6
    if timings.timer_c <= Duration::from_secs(180) && section.entry("timer_c").is_some() {
        let message = "`timer_c` is not more than 3 minutes, which RFC 3261 §16.6 requires";
        sheet.warn(
            span("timer_c"),
            message,
            "a call that rings longer will be cancelled; write \"181s\" or more",
        );
    }
}

pub(super) fn read_listeners(root: &Section<'_>, sheet: &mut Sheet<'_>) -> Vec<Listener> {
    let Some(entry) = root.entry("listen") else {
        sheet.fault_hint(
            0..0,
            "there is no listener",
            "add [[listen]] with udp = \"IP:5060\"",
        );
        return Vec::new();
    };
    let mut listeners: Vec<Listener> = Vec::new();
    for table in entry.tables(sheet) {
        let Some(section) = Section::open(&table, "[[listen]]".to_owned(), LISTEN_KEYS, sheet)
        else {
            continue;
        };
        refuse_later_transports(&section, sheet);
        let Some(listener) = listener(&section, sheet) else {
            continue;
        };
        if listeners.iter().any(|other| other.bind == listener.bind) {
            let span = section
                .entry("udp")
                .map_or(section.span.clone(), |entry| entry.span());
            let message = format!("{} is listened on twice", listener.bind);
            sheet.fault_hint(span, message, "remove one of the two [[listen]] tables");
        }
        listeners.push(listener);
    }
    listeners
}

fn refuse_later_transports(section: &Section<'_>, sheet: &mut Sheet<'_>) {
    for entry in LATER_TRANSPORTS
        .iter()
        .filter_map(|transport| section.entry(transport))
    {
        let message = format!("`{}` is not supported yet", entry.key);
        sheet.fault_hint(entry.key_span, message, "only udp is");
    }
}

fn listener(section: &Section<'_>, sheet: &mut Sheet<'_>) -> Option<Listener> {
    let Some(entry) = section.entry("udp") else {
        if LATER_TRANSPORTS
            .iter()
            .all(|transport| section.entry(transport).is_none())
        {
            sheet.fault_hint(
                section.span.clone(),
                "[[listen]] has no `udp`",
                "add udp = \"IP:5060\"",
            );
        }
        return None;
    };
    let bind = socket_address(&entry, address::SIP_PORT, sheet)?;
    if is_multicast_or_broadcast(bind) {
        sheet.fault(
            entry.span(),
            format!(
                "`udp` must be a unicast address or a wildcard; found {}",
                bind.ip()
            ),
        );
        return None;
    }
    let (advertise_host, advertise_port) = match section.entry("advertise") {
        Some(advertise) => advertised(&advertise, bind.port(), sheet)?,
        None if bind.ip().is_unspecified() => (String::new(), bind.port()),
        None => (address::host_text(bind.ip()), bind.port()),
    };
    Some(Listener {
        bind,
        advertise_host,
        advertise_port,
    })
}

fn advertised(entry: &Entry<'_>, bind_port: u16, sheet: &mut Sheet<'_>) -> Option<(String, u16)> {
    let wanted = "the host and port that others reach this listener by, as in \"203.0.113.7:5060\"";
    let text = entry.string(sheet, wanted)?;
    address::advertised(text, bind_port)
        .map_err(|why| bad_address(entry, text, wanted, why, sheet))
        .ok()
}

pub(super) fn is_multicast_or_broadcast(address: SocketAddr) -> bool {
    match address {
        SocketAddr::V4(v4) => v4.ip().is_multicast() || v4.ip().is_broadcast(),
        SocketAddr::V6(v6) => v6.ip().is_multicast(),
    }
}

const NODE_KEYS: &[&str] = &[
    "name",
    "shards",
    "state_dir",
    "state_flush",
    "io",
    "steering",
    "coalesce",
    "drain_max",
    "aliases",
    "message_max",
];
const LISTEN_KEYS: &[&str] = &["udp", "advertise", "tcp", "tls", "ws", "wss"];
const LATER_TRANSPORTS: &[&str] = &["tcp", "tls", "ws", "wss"];
const IO_WORDS: &[(&str, IoChoice)] = &[
    ("auto", IoChoice::Auto),
    ("uring", IoChoice::Uring),
    ("mmsg", IoChoice::Mmsg),
];
const STEERING_WORDS: &[(&str, SteeringChoice)] =
    &[("auto", SteeringChoice::Auto), ("off", SteeringChoice::Off)];
const LEVEL_WORDS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];
const FORMAT_WORDS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
pub(super) const WANTED_ADDRESS: &str =
    "an IP address with or without a port, as in \"192.0.2.1:5060\"";
const ALIASES_MAX: usize = 256;
const HTTP_PORT: u16 = 9060;
/// RFC 3261 §18.1.1: an element takes messages up to the largest datagram.
const MESSAGE_MAX_LARGEST: usize = 65_535;
const MESSAGE_MAX_LEAST: usize = 1_300;
/// Records of tens of octets up to kilobytes: beyond this the number is a slip of the finger.
const CAPACITY_MAX: i64 = 50_000_000;
/// RFC 4028 §5: no smaller session interval may be asked for.
pub(super) const MIN_SE_LEAST: Duration = Duration::from_secs(90);
