//! Configuration files from the outside: what is taken, and what a person reads when one is not.
//!
//! Each `config/NAME.toml` has beside it, in `config/NAME.txt`, all that is said about it.

use core::time::Duration;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use callgate::config::{self, Config, InOrder, Report, ShardSpec, SlotNames};
use callgate::route::{GroupId, Policy, Target};

const DESIGN: &str = include_str!("config/design.toml");

fn load(text: &str) -> Result<Config, Report> {
    config::load(text, "edge.toml", &mut InOrder::default())
}

/// What is said about a text, faults and warnings.
fn said(text: &str, file: &str) -> String {
    match config::load(text, file, &mut InOrder::default()) {
        Ok(config) => {
            let mut said = String::new();
            for warning in &config.warnings {
                writeln!(said, "warning: {warning}").expect("a String takes any text");
            }
            said + "no fault\n"
        }
        Err(report) => format!("{report}\n"),
    }
}

fn samples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let entries = fs::read_dir(folder).expect("the samples are there");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn each_fault_is_told_with_its_place_and_what_would_be_accepted() {
    let mut differing = Vec::new();
    for path in samples() {
        let file = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("an ASCII name");
        let text = fs::read_to_string(&path).expect("a sample is readable");
        let said = said(&text, file);
        let expected = fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
        if said != expected {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR"))
                .join(file)
                .with_extension("txt");
            fs::write(&kept, &said).expect("the target folder is writable");
            differing.push(format!(
                "{file}: expected\n{expected}\nbut said (kept in {})\n{said}",
                kept.display()
            ));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn the_example_of_the_design_has_no_fault() {
    let config = load(DESIGN).expect("the design's own example");
    assert_eq!(config.warnings, []);
}

#[test]
fn the_plan_says_what_the_file_says() {
    let config = load(DESIGN).expect("the design's own example");
    assert_eq!(config.node.shards, ShardSpec::Auto);
    assert_eq!(config.capacity.transactions, 100_000);
    assert_eq!(config.plan.listeners[0].advertise_host, "203.0.113.7");
    let routing = &config.plan.routing;
    let carrier = routing.trunk(routing.trunk_named("carrier-a").expect("it is in the file"));
    assert_eq!(carrier.addresses.len(), 2);
    assert_eq!(carrier.codecs, ["pcma", "pcmu", "telephone-event"]);
    assert_eq!(carrier.probe, Some(Duration::from_secs(10)));
    assert_eq!(carrier.session_expires, Some(Duration::from_secs(1_800)));
    assert_eq!(carrier.line, 18);
    let pbx = &routing.groups[0];
    assert_eq!(pbx.policy, Policy::LeastCalls);
    assert_eq!(
        pbx.members
            .iter()
            .map(|member| member.weight)
            .collect::<Vec<_>>(),
        [1, 3]
    );
    assert_eq!(routing.trunk(pbx.members[1].trunk).group_slots, [pbx.slot]);
    assert_eq!(routing.routes[0].to, Target::Group(GroupId(0)));
}

#[test]
fn an_advertised_address_is_the_bound_one_unless_that_is_a_wildcard() {
    let config = load(
        "[[listen]]\nudp = \"192.0.2.1:5070\"\n[[listen]]\nudp = \"[::]:5080\"\n\
         [[listen]]\nudp = \"[2001:db8::1]\"\n[[listen]]\nudp = \"0.0.0.0\"\nadvertise = \"Edge.example.com\"",
    )
    .expect("it is right");
    let named: Vec<(&str, u16)> = config
        .plan
        .listeners
        .iter()
        .map(|listener| (listener.advertise_host.as_str(), listener.advertise_port))
        .collect();
    assert_eq!(
        named,
        [
            ("192.0.2.1", 5070),
            ("", 5080),
            ("[2001:db8::1]", 5060),
            ("edge.example.com", 5060)
        ]
    );
}

#[test]
fn a_refused_file_takes_no_slot() {
    let mut slots = InOrder::default();
    let faulty = "[trunk.a]\naddress = \"192.0.2.1\"\ncolour = 1\n[[listen]]\nudp = \"0.0.0.0\"";
    assert!(config::load(faulty, "edge.toml", &mut slots).is_err());
    assert_eq!(slots.slot_of("b"), Some(0));
}

#[test]
fn more_trunks_than_slots_are_refused() {
    let mut text = "[[listen]]\nudp = \"0.0.0.0\"\n[[route]]\nto = \"t0\"\n".to_owned();
    for at in 0..65_001 {
        write!(
            text,
            "[trunk.t{at}]\nmatch = \"10.{}.{}.{}\"\naddress = \"192.0.2.1:{}\"\n",
            at >> 16,
            (at >> 8) & 255,
            at & 255,
            at % 65_000 + 1
        )
        .expect("a String takes any text");
    }
    let report = load(&text).expect_err("one too many");
    let told: Vec<&str> = report
        .faults
        .iter()
        .map(|fault| fault.message.as_str())
        .collect();
    assert_eq!(told, ["65001 trunks; at most 65000 are taken"]);
    assert_eq!(
        (report.faults[0].line, report.faults[0].column),
        (195_005, 8)
    );
}

#[test]
fn more_members_than_a_call_can_remember_are_refused() {
    let mut text = "[[listen]]\nudp = \"0.0.0.0\"\n".to_owned();
    let names: Vec<String> = (0..65).map(|at| format!("\"t{at}\"")).collect();
    write!(text, "[group.g]\nmembers = [{}]\n", names.join(", ")).expect("a String takes any text");
    for at in 0..65 {
        write!(
            text,
            "[trunk.t{at}]\naddress = \"192.0.2.1:{}\"\n",
            at + 6_000
        )
        .expect("a String takes any text");
    }
    let report = load(&text).expect_err("one too many");
    assert_eq!(report.faults.len(), 1);
    assert_eq!(
        report.faults[0].message,
        "`members` has 65 elements; at most 64 are taken"
    );
}

#[test]
fn a_file_that_is_absent_or_not_utf8_is_a_fault_of_the_file() {
    let absent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("absent.toml");
    let report = config::load_file(&absent, &mut InOrder::default()).expect_err("it is not there");
    let message = "there is no such file";
    assert_eq!(report.faults[0].message, message);
    let latin = Path::new(env!("CARGO_TARGET_TMPDIR")).join("latin.toml");
    fs::write(&latin, b"[node]\nname = \"M\xfcnchen\"\n").expect("the target folder is writable");
    let report = config::load_file(&latin, &mut InOrder::default()).expect_err("it is Latin-1");
    assert_eq!((report.faults[0].line, report.faults[0].column), (2, 10));
    assert_eq!(
        report.faults[0].message,
        "the text is not UTF-8 from here on"
    );
}

#[test]
fn a_state_dir_that_cannot_be_written_is_told() {
    let mut config = config::default_config();
    config.control.socket = None;
    assert_eq!(config::probe_host(&config), []);
    config.node.state_dir = Some(PathBuf::from("/proc/callgate/state"));
    let faults = config::probe_host(&config);
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0]
            .message
            .starts_with("`state_dir` /proc/callgate/state is not writable: "),
        "{}",
        faults[0]
    );
    config.node.state_dir = Some(PathBuf::from("/dev/null"));
    let faults = config::probe_host(&config);
    assert_eq!(
        faults[0].message,
        "`state_dir` /dev/null cannot be used: /dev/null is not a directory"
    );
    config.node.state_dir = None;
    config.control.socket = Some(PathBuf::from("/proc/callgate/control.sock"));
    assert_eq!(config::probe_host(&config).len(), 1);
}

#[test]
fn faults_are_also_told_to_programs() {
    let report = load("[node]\nnmae = \"x\"\n[[listen]]\nudp = \"0.0.0.0\"").expect_err("a slip");
    let json = serde_json::to_value(&report).expect("a report is plain data");
    let fault = &json["faults"][0];
    assert_eq!(fault["file"], "edge.toml");
    assert_eq!(
        (fault["line"].as_u64(), fault["column"].as_u64()),
        (Some(2), Some(1))
    );
    assert_eq!(fault["message"], "unknown key `nmae` in [node]");
    assert_eq!(fault["hint"], "did you mean `name`?");
    assert_eq!(fault["snippet"], "nmae = \"x\"\n^^^^");
    assert_eq!(json["warnings"].as_array().map(Vec::len), Some(1));
}

/// Octets deleted, doubled, replaced and moved, from a fixed seed.
#[test]
fn no_mutation_of_a_file_makes_the_checker_panic() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |bound: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % bound.max(1) as u64) as usize
    };
    let alphabet: Vec<char> = "\"'[]{}=.,#\n\r\t -_0159azü\u{0}\u{feff}\\/:😀"
        .chars()
        .collect();
    let texts: Vec<Vec<char>> = samples()
        .iter()
        .map(|path| {
            fs::read_to_string(path)
                .expect("a sample is readable")
                .chars()
                .collect()
        })
        .collect();
    for _ in 0..4_000 {
        let mut text = texts[below(texts.len())].clone();
        for _ in 0..=below(6) {
            let at = below(text.len());
            match below(5) {
                0 => drop(text.drain(at..(at + below(20)).min(text.len()))),
                1 => text.insert(at, alphabet[below(alphabet.len())]),
                2 => text[at] = alphabet[below(alphabet.len())],
                3 => text.truncate(at.max(1)),
                _ => {
                    let piece: Vec<char> = text[at..(at + below(40)).min(text.len())].to_vec();
                    let to = below(text.len());
                    text.splice(to..to, piece);
                }
            }
            if text.is_empty() {
                text.push('=');
            }
        }
        let text: String = text.into_iter().collect();
        let said = said(&text, "mutant.toml");
        assert!(
            said.ends_with("fault\n") || said.ends_with("faults\n"),
            "{said}"
        );
    }
}

const GOOD: &str =
    "[[listen]]\nudp = \"192.0.2.1\"\n[trunk.a]\naddress = \"192.0.2.2\"\n[[route]]\nto = \"a\"\n";

/// A directory that goes with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir =
            std::env::temp_dir().join(format!("callgate-config-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).expect("a scratch directory");
        Scratch(dir)
    }

    /// What is said about a file of these octets.
    fn said(&self, octets: &[u8]) -> String {
        let path = self.0.join("edge.toml");
        fs::write(&path, octets).expect("a scratch file");
        self.said_of(&path)
    }

    fn said_of(&self, path: &Path) -> String {
        match config::load_file(path, &mut InOrder::default()) {
            Ok(config) => {
                assert_eq!(config.warnings, []);
                "good".to_owned()
            }
            Err(report) => report.to_string(),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _kept_on_failure = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_byte_order_mark_crlf_and_tabs_are_taken_and_keep_places_right() {
    let scratch = Scratch::new("forms");
    let crlf = GOOD.replace('\n', "\r\n");
    let bom = format!("\u{feff}{GOOD}");
    let tabs = GOOD.replace("udp = ", "\tudp\t=\t");
    for form in [crlf.as_str(), &bom, &tabs] {
        assert_eq!(scratch.said(form.as_bytes()), "good", "{form:?}");
    }
    for (form, place) in [
        (crlf.replace("udp", "upd"), ":2:1: unknown key `upd`"),
        (bom.replace("[[listen]]\nudp", "[[lisen]]\nudp"), ":1:"),
        (bom.replace("udp", "upd"), ":2:1: unknown key `upd`"),
        (tabs.replace("udp", "upd"), ":2:2: unknown key `upd`"),
    ] {
        let said = scratch.said(form.as_bytes());
        assert!(said.contains(place), "{place}: {said}");
    }
    let said = scratch.said(tabs.replace("udp", "upd").as_bytes());
    assert!(
        said.contains("\n  2 |  upd = \"192.0.2.1\"\n    |  ^^^\n"),
        "{said}"
    );
}

#[test]
fn what_is_no_text_file_is_told_in_a_sentence() {
    let scratch = Scratch::new("no-file");
    let fifo = scratch.0.join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo is there").success());
    for (path, told) in [
        (
            scratch.0.join("absent.toml"),
            "absent.toml: there is no such file",
        ),
        (scratch.0.clone(), "is a directory, not a file"),
        (fifo, "is a FIFO, not a file"),
        (PathBuf::from("/dev/zero"), "is larger than 64 MiB"),
        (scratch.0.join("edge.toml/x"), "x: "),
    ] {
        let said = scratch.said_of(&path);
        assert!(said.contains(told) && said.ends_with("\n1 fault"), "{said}");
    }
    assert!(
        scratch
            .said(b"[node]\nname = \"\xff\"")
            .contains(":2:9: the text is not UTF-8")
    );
    assert!(scratch.said(b"\x7fELF\x02\x01\0\0").contains("not TOML"));
    assert!(scratch.said(b"").contains("there is no listener"));
    assert!(scratch.said(b"\0\0\0\0").contains("not TOML"));
}

#[test]
fn a_duplicate_key_and_a_duplicate_table_have_the_place_of_the_second() {
    let scratch = Scratch::new("duplicates");
    let again = format!("{GOOD}[trunk.a]\naddress = \"192.0.2.3\"\n");
    assert!(
        scratch.said(again.as_bytes()).contains(":7:"),
        "{}",
        scratch.said(again.as_bytes())
    );
    let key = GOOD.replace("address = ", "address = \"192.0.2.9\"\naddress = ");
    assert!(
        scratch
            .said(key.as_bytes())
            .contains(":5:1: not TOML: duplicate key")
    );
}

#[test]
fn a_file_of_a_megabyte_is_read_whether_it_is_right_or_all_wrong() {
    let scratch = Scratch::new("megabyte");
    let comment = format!("# {}\n", "x".repeat(1 << 20));
    assert_eq!(scratch.said(format!("{comment}{GOOD}").as_bytes()), "good");
    let wrong: String = (0..50_000)
        .map(|at| format!("key{at} = \"a longer value\"\n"))
        .collect();
    let text = format!("{wrong}{GOOD}");
    assert!(text.len() > 1 << 20, "{}", text.len());
    let report = load(&text).expect_err("each key is unknown");
    assert_eq!(report.faults.len(), 50_000);
    assert_eq!(report.faults[49_999].line, 50_000);
    let deep = format!("a = {}", "[".repeat(1 << 20));
    assert!(
        scratch.said(deep.as_bytes()).contains("not TOML"),
        "a nesting without end"
    );
}

/// A configuration with a value for every key, and for each another value that a diff must tell.
const EVERY_KEY: &[(&str, &str, &str)] = &[
    ("node", "name = \"edge1\"", "name = \"edge2\""),
    ("node", "shards = 2", "shards = 3"),
    ("node", "io = \"uring\"", "io = \"mmsg\""),
    ("node", "steering = \"off\"", "steering = \"auto\""),
    ("node", "coalesce = \"off\"", "coalesce = \"250us\""),
    ("node", "state_dir = \"/a\"", "state_dir = \"/b\""),
    ("node", "state_flush = \"1s\"", "state_flush = \"2s\""),
    ("node", "drain_max = \"1m\"", "drain_max = \"2m\""),
    (
        "node",
        "aliases = [\"a.example\"]",
        "aliases = [\"b.example\"]",
    ),
    ("node", "message_max = 2000", "message_max = 3000"),
    ("capacity", "dialogs = 10", "dialogs = 20"),
    ("capacity", "transactions = 10", "transactions = 20"),
    ("timers", "t1 = \"400ms\"", "t1 = \"300ms\""),
    ("timers", "t2 = \"3s\"", "t2 = \"2s\""),
    ("timers", "t4 = \"3s\"", "t4 = \"2s\""),
    ("timers", "timer_c = \"200s\"", "timer_c = \"300s\""),
    ("session", "min_se = \"90s\"", "min_se = \"100s\""),
    ("control", "socket = \"/a.sock\"", "socket = \"/b.sock\""),
    (
        "control",
        "http = \"127.0.0.1:1\"",
        "http = \"127.0.0.1:2\"",
    ),
    ("log", "level = \"warn\"", "level = \"error\""),
    ("log", "format = \"json\"", "format = \"text\""),
    ("log", "numbers = true", "numbers = false"),
    (
        "trunk.a",
        "address = \"192.0.2.8\"",
        "address = \"192.0.2.9\"",
    ),
    (
        "trunk.a",
        "match = [\"198.51.100.0/24\"]",
        "match = [\"203.0.113.0/24\"]",
    ),
    ("trunk.a", "calls_max = 9", "calls_max = 8"),
    ("trunk.a", "calls_in_max = 5", "calls_in_max = 4"),
    ("trunk.a", "calls_out_max = 5", "calls_out_max = 4"),
    (
        "trunk.a",
        "cps = { sustain = 5, burst = 6 }",
        "cps = { sustain = 5, burst = 7 }",
    ),
    ("trunk.a", "codecs = [\"PCMA\"]", "codecs = [\"PCMU\"]"),
    ("trunk.a", "probe = \"10s\"", "probe = false"),
    ("trunk.a", "auto_congest = \"2s\"", "auto_congest = \"3s\""),
    (
        "trunk.a",
        "session_expires = \"30m\"",
        "session_expires = \"20m\"",
    ),
    (
        "trunk.a",
        "call_time_max = \"4h\"",
        "call_time_max = \"3h\"",
    ),
    ("trunk.a", "over_limit = 486", "over_limit = 503"),
    ("trunk.a", "cseq = \"strict\"", "cseq = \"pass\""),
    ("trunk.a", "disabled = true", "disabled = false"),
    ("group.g", "policy = \"weighted\"", "policy = \"priority\""),
    (
        "group.g",
        "members = [{ trunk = \"a\", weight = 2 }]",
        "members = [{ trunk = \"a\", weight = 3 }]",
    ),
    ("group.g", "calls_max = 7", "calls_max = 6"),
    ("group.g", "over_limit = 480", "over_limit = 503"),
];

/// The configuration with the other value for one of the keys.
fn every_key(other: Option<usize>) -> String {
    let mut text = String::new();
    let mut open = "";
    for (at, (table, value, changed)) in EVERY_KEY.iter().enumerate() {
        if *table != open {
            writeln!(text, "[{table}]").expect("a String takes any text");
            open = table;
        }
        let value = if other == Some(at) { changed } else { value };
        writeln!(text, "{value}").expect("a String takes any text");
    }
    text + "[[listen]]\nudp = \"192.0.2.1\"\n[[route]]\nfrom = \"a\"\nuser = \"^1\"\ndomain = \"d.example\"\nto = \"g\"\n"
}

#[test]
fn a_change_of_any_key_is_told() {
    let load = |text: &str| load(text).unwrap_or_else(|report| panic!("{report}"));
    let old = load(&every_key(None));
    assert!(config::diff(&old, &load(&every_key(None))).is_empty());
    for (at, (table, value, _)) in EVERY_KEY.iter().enumerate() {
        let told = config::diff(&old, &load(&every_key(Some(at))));
        let count = told.applied.len() + told.needs_restart.len();
        assert_eq!(count, 1, "[{table}] {value}: {told:?}");
    }
    for (value, changed) in [
        ("udp = \"192.0.2.1\"", "udp = \"192.0.2.2\""),
        (
            "udp = \"192.0.2.1\"",
            "udp = \"192.0.2.1\"\nadvertise = \"203.0.113.1\"",
        ),
        ("from = \"a\"", "from = \"g\""),
        ("user = \"^1\"", "user = \"^2\""),
        ("domain = \"d.example\"", "domain = \"e.example\""),
        ("to = \"g\"", "to = \"a\""),
    ] {
        let told = config::diff(&old, &load(&every_key(None).replace(value, changed)));
        // A group of one trunk names the same sources as the trunk.
        assert_eq!(
            told.is_empty(),
            changed == "from = \"g\"",
            "{changed}: {told:?}"
        );
    }
}

#[test]
fn what_is_shown_of_a_configuration_is_its_text_and_takes_itself_again() {
    let text = every_key(None);
    let config = load(&text).expect("it is right");
    assert_eq!(config.text, text);
    let again = load(&config.text).expect("it is right");
    assert!(config::diff(&config, &again).is_empty());
}
