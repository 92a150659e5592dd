//! Configurations of other programs: what becomes of each line, and that the result is one of ours.
//!
//! `import/dispatcher.list` follows the example in the documentation of Kamailio's dispatcher
//! module, `import/sip.conf` the documentation of Asterisk's chan_sip.

use std::path::{Path, PathBuf};
use std::process::Command;

use callgate::config::import::{self, Dialect, Imported};
use callgate::config::{self, Config, InOrder};
use callgate::route::{Policy, Trunk};

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/import")
        .join(name)
}

/// The configuration, which must have no fault.
fn checked(imported: &Imported) -> Config {
    config::load(&imported.text, "imported.toml", &mut InOrder::default())
        .unwrap_or_else(|report| panic!("{report}\n{}", imported.text))
}

fn trunk<'c>(config: &'c Config, name: &str) -> &'c Trunk {
    let routing = &config.plan.routing;
    routing.trunk(
        routing
            .trunk_named(name)
            .unwrap_or_else(|| panic!("trunk {name}")),
    )
}

/// Asserts that exactly one thing of a line was left behind for this reason.
fn left(imported: &Imported, line: u32, why: &str) {
    let found = imported
        .left
        .iter()
        .filter(|left| left.line == line && left.why.contains(why));
    assert_eq!(found.count(), 1, "{line}: {why}: {:#?}", imported.left);
}

struct Scratch(PathBuf);

impl Scratch {
    fn file(name: &str, octets: &[u8]) -> Scratch {
        let path =
            std::env::temp_dir().join(format!("callgate-import-{}-{name}", std::process::id()));
        std::fs::write(&path, octets).expect("a scratch file");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _kept_on_failure = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_dispatcher_list_becomes_trunks_and_groups() {
    let imported =
        import::dispatcher(&sample("dispatcher.list"), Dialect::Kamailio).expect("a list");
    let config = checked(&imported);
    let routing = &config.plan.routing;
    let xyz = trunk(&config, "xyz");
    assert_eq!(
        xyz.addresses,
        ["192.0.2.70:7070".parse().expect("an address")]
    );
    assert_eq!(xyz.limits.calls_out_max, Some(20));
    assert!(trunk(&config, "set1-2").disabled, "flag 4");
    assert!(trunk(&config, "set2-2").probe.is_some(), "flag 8");
    let members = |name: &str| -> Vec<(String, u32)> {
        let group = routing
            .groups
            .iter()
            .find(|group| group.name == name)
            .expect("a group");
        let member = |member: &callgate::route::Member| {
            (routing.trunk(member.trunk).name.clone(), member.weight)
        };
        group.members.iter().map(member).collect()
    };
    assert_eq!(routing.groups[0].policy, Policy::Weighted);
    assert_eq!(
        members("set1"),
        [("set1-2".to_owned(), 70), ("xyz".to_owned(), 30)]
    );
    // The highest priority comes first.
    assert_eq!(routing.groups[1].policy, Policy::Priority);
    assert_eq!(
        members("set2"),
        [("set2-2".to_owned(), 1), ("abc".to_owned(), 1)]
    );
    assert_eq!(
        members("set3").len(),
        2,
        "one address in two sets is one trunk"
    );
    let listeners: Vec<String> = config
        .plan
        .listeners
        .iter()
        .map(|listener| listener.address().to_string())
        .collect();
    assert_eq!(listeners, ["192.168.0.125:5060", "[::]:5060"]);
    left(&imported, 4, "only UDP is carried");
    left(&imported, 5, "no parameters");
    left(&imported, 5, "routing script");
    left(&imported, 11, "takes no calls");
    left(&imported, 11, "listener's own address");
    left(&imported, 12, "names are not resolved");
    left(&imported, 13, "TLS");
    left(&imported, 16, "number of a set");
    left(&imported, 17, "destination is missing");
}

#[test]
fn the_fourth_field_is_a_weight_in_opensips() {
    let list = Scratch::file("opensips", b"1 sip:192.0.2.1 0 50\n1 sip:192.0.2.2 0 25\n");
    let imported = import::dispatcher(&list.0, Dialect::OpenSips).expect("a list");
    let config = checked(&imported);
    let group = &config.plan.routing.groups[0];
    assert_eq!(group.policy, Policy::Weighted);
    assert_eq!((group.members[0].weight, group.members[1].weight), (50, 25));
}

#[test]
fn the_samples_of_debians_kamailio_are_read() {
    let folder = Path::new("/usr/share/doc/kamailio/examples/ims");
    assert!(
        folder.is_dir(),
        "tests/run installs the package kamailio, which ships {}",
        folder.display()
    );
    let pcscf = import::dispatcher(
        &folder.join("pcscf/dispatcher.list.sample"),
        Dialect::Kamailio,
    );
    let pcscf = pcscf.expect("one of its destinations is an address");
    let config = checked(&pcscf);
    assert_eq!(trunk(&config, "set2-1").addresses[0].port(), 5070);
    // Its other sample has host names only.
    let scscf = import::dispatcher(
        &folder.join("scscf/dispatcher.list.sample"),
        Dialect::Kamailio,
    );
    let why = scscf.expect_err("nothing but names");
    assert!(
        why.contains("no destination could be carried over")
            && why.contains("names are not resolved"),
        "{why}"
    );
}

#[test]
fn peers_of_a_sip_conf_become_trunks() {
    let imported = import::sip_conf(&sample("sip.conf")).expect("a sip.conf");
    let config = checked(&imported);
    let listener = &config.plan.listeners[0];
    assert_eq!(listener.address().to_string(), "192.0.2.1:5070");
    assert_eq!(listener.advertise_host, "203.0.113.9");
    assert_eq!(config.plan.min_se.as_secs(), 120);

    let a = trunk(&config, "carrier-a");
    assert_eq!(
        a.addresses,
        ["198.51.100.10:5062".parse().expect("an address")]
    );
    assert_eq!(
        (a.limits.calls_max, a.limits.calls_out_max),
        (Some(100), Some(40))
    );
    assert_eq!(a.codecs, ["pcmu", "pcma"], "those of [general]");
    assert_eq!(
        a.probe.map(|every| every.as_secs()),
        Some(30),
        "how often stands in [general]"
    );
    let b = trunk(&config, "carrier-b");
    assert_eq!(b.codecs, ["g722", "pcmu"]);
    assert_eq!(b.session_expires.map(|span| span.as_secs()), Some(600));
    let pbx = trunk(&config, "pbx");
    assert!(pbx.addresses.is_empty());
    let blocks: Vec<String> = pbx
        .sources
        .iter()
        .map(|block| format!("{}/{}", block.network, block.prefix_len))
        .collect();
    assert_eq!(blocks, ["10.1.0.0/16", "10.2.3.4/32"]);
    assert!(trunk(&config, "included").probe.is_none());
    assert_eq!(config.plan.routing.trunks.len(), 4);

    left(&imported, 3, "callers without a peer get 403");
    left(&imported, 13, "no registrations");
    left(&imported, 15, "asks for no password");
    left(&imported, 18, "no program is run");
    left(&imported, 33, "there is no section");
    left(&imported, 36, "h264");
    left(&imported, 43, "there is no registrar");
    left(&imported, 55, "only UDP is carried");
    left(&imported, 59, "names are not resolved");
    left(&imported, 62, "a matter of the PBX");
    let whole = format!("{}{:?}", imported.text, imported.left);
    assert!(
        !whole.contains("hunter2") && !whole.contains("password@"),
        "{whole}"
    );
    let route = "# [[route]]  from = [\"carrier-a\", \"carrier-b\"]";
    assert!(imported.text.contains(route), "{}", imported.text);
}

#[test]
fn what_is_no_such_file_is_refused_with_a_sentence() {
    let files: &[(&str, &[u8], &str, &str)] = &[
        ("empty", b"", "the file is empty", "the file is empty"),
        ("binary", b"\x7fELF\0\0\0", "no text file", "no text file"),
        (
            "comments",
            b"# nothing\n; here\n",
            "is it a dispatcher list?",
            "is it a sip.conf?",
        ),
        (
            "latin",
            b"caf\xe9\n",
            "is it a dispatcher list?",
            "is it a sip.conf?",
        ),
        (
            "toml",
            b"[node]\nname = \"a\"\n",
            "is it a dispatcher list?",
            "nothing could be carried over",
        ),
    ];
    for (name, octets, of_list, of_conf) in files {
        let file = Scratch::file(name, octets);
        let why = import::dispatcher(&file.0, Dialect::Kamailio).expect_err(name);
        assert!(
            why.contains(of_list) || why.contains("no destination"),
            "{name}: {why}"
        );
        match import::sip_conf(&file.0) {
            Err(why) => assert!(why.contains(of_conf), "{name}: {why}"),
            Ok(imported) => {
                assert_eq!(*name, "toml");
                assert!(checked(&imported).plan.routing.trunks.is_empty());
            }
        }
    }
    let list =
        import::dispatcher(&sample("sip.conf"), Dialect::Kamailio).expect_err("another file");
    assert!(list.contains("is it a dispatcher list?"), "{list}");
    let conf = import::sip_conf(&sample("dispatcher.list")).expect_err("another file");
    assert!(conf.contains("is it a sip.conf?"), "{conf}");
    let absent = import::sip_conf(Path::new("/nonexistent/sip.conf")).expect_err("no file");
    assert!(absent.contains("there is no such file"), "{absent}");
}

#[test]
fn garbage_is_bounded_and_never_breaks_the_result() {
    let mut list = b"1 sip:192.0.2.1\n".to_vec();
    list.extend(vec![b'x'; 1 << 20]);
    list.extend(b"\n1 sip:192.0.2.2 99999999999999999999 x;;=;=\n1 sip:\n1 sip:@:;\n-1 sip:a\n\x1b[2J\n1 sip:192.0.2.3 0 0 duid=\"a\\b'\n]\n");
    let file = Scratch::file("garbage-list", &list);
    let imported = import::dispatcher(&file.0, Dialect::Kamailio).expect("three destinations");
    let config = checked(&imported);
    assert_eq!(config.plan.routing.trunks.len(), 3, "{}", imported.text);
    assert!(!imported.text.contains('\u{1b}') && imported.text.len() < 4096);

    let conf = "[general\n[a](!\ntype=peer\n[\"x'\\](b)\ntype=peer\nhost=192.0.2.1\n= y\nx\n;-- open\n[z]\ntype=peer\nhost=192.0.2.9\n";
    let file = Scratch::file("garbage-conf", conf.as_bytes());
    let imported = import::sip_conf(&file.0).expect("one peer");
    let config = checked(&imported);
    assert_eq!(
        config.plan.routing.trunks.len(),
        1,
        "a comment that does not end: {}",
        imported.text
    );

    // A file that includes itself ends.
    let circle = Scratch::file("circle.conf", b"");
    let name = circle
        .0
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    std::fs::write(
        &circle.0,
        format!("[a]\ntype=peer\nhost=192.0.2.1\n#include \"{name}\"\n#include \"{name}\"\n"),
    )
    .expect("written");
    let imported = import::sip_conf(&circle.0).expect("peers");
    assert!(
        imported
            .left
            .iter()
            .any(|left| left.why.contains("in a circle?")),
        "{:?}",
        imported.left
    );
    checked(&imported);
}

#[test]
fn the_command_prints_a_configuration_that_check_takes() {
    for (kind, name) in [("dispatcher", "dispatcher.list"), ("sip.conf", "sip.conf")] {
        let run = |words: &[&str]| {
            let output = Command::new(env!("CARGO_BIN_EXE_callgate"))
                .args(words)
                .output();
            output.expect("the program runs")
        };
        let file = sample(name).display().to_string();
        let output = run(&["import", kind, &file]);
        assert!(output.status.success(), "{output:?}");
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert!(
            stderr
                .lines()
                .all(|line| line.starts_with("not carried over: "))
                && stderr.lines().count() > 5,
            "{stderr}"
        );
        let written = Scratch::file(kind, &output.stdout);
        let check = run(&["check", &written.0.display().to_string()]);
        assert!(
            check.status.success(),
            "{}",
            String::from_utf8_lossy(&check.stdout)
        );
        let json = run(&["import", kind, &file, "--json"]);
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
        assert_eq!(
            json["left"].as_array().expect("a list").len(),
            stderr.lines().count()
        );
        for field in ["file", "line", "what", "why"] {
            assert!(!json["left"][0][field].is_null(), "{field}");
        }
        let refused = run(&["import", kind, "/nonexistent/file"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(refused.stdout.is_empty());
    }
}
