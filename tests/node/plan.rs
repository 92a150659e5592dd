//! `config show` and `config plan`, completion, man pages and the words of Asterisk.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use super::kit::{Caller, Plan, Scratch, program, run};

/// A capture of Ethernet frames, each with one datagram.
fn pcap(datagrams: &[(SocketAddr, &str)]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(65_535_u32.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for (from, text) in datagrams {
        let SocketAddr::V4(from) = from else {
            panic!("IPv4 only");
        };
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(from.ip().octets(), [127, 0, 0, 1], 64)
            .udp(from.port(), 5060);
        let mut frame = Vec::new();
        builder
            .write(&mut frame, text.as_bytes())
            .expect("a Vec takes it");
        file.extend([0; 8]);
        let length = (frame.len() as u32).to_le_bytes();
        file.extend(length);
        file.extend(length);
        file.extend(frame);
    }
    file
}

#[test]
fn the_configuration_at_work_is_shown_without_secrets_and_can_be_taken_again() {
    let node = Plan::new("config-show").start();
    let text = node.text("config show");
    assert_eq!(text, node.plan.text());
    let shown = node.json("config show");
    assert_eq!(shown["file"], node.plan.config().display().to_string());
    assert_eq!(shown["values"]["trunk"]["carrier-a"]["calls_max"], 20);
    // What a refused reload read is not at work.
    node.plan.write("nonsense");
    assert_eq!(node.command("reload").status.code(), Some(1));
    assert_eq!(node.text("config show"), text);
    node.plan
        .write(&text.replace("calls_max = 20", "calls_max = 21"));
    node.text("reload");
    assert!(node.text("config show").contains("calls_max = 21"));
}

#[test]
fn a_plan_tells_what_would_change_and_changes_nothing() {
    let node = Plan::new("config-plan").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "one");
    let file = node.plan.dir.0.join("new.toml");
    let plan = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        format!("config plan {}", file.display())
    };
    let old = node.plan.text();
    assert_eq!(node.text(&plan(&old)), "nothing would change\n");
    let new = old.replace("calls_max = 20", "calls_max = 30")
        + "[trunk.spare]\naddress = \"127.0.0.9\"\n";
    let words = plan(&new);
    assert_eq!(
        node.text(&words),
        "A reload would change:\n  trunk carrier-a: calls_max 20 -> 30\n  trunk spare: added\n\
         KIND   NAME       CHANGE   LIVE CALLS\n\
         trunk  carrier-a  changed           1\n\
         trunk  spare      added             0\n"
    );
    let planned = node.json(&words);
    assert_eq!(
        planned["affected"][0],
        json!({ "kind": "trunk", "name": "carrier-a", "change": "changed", "calls": 1 })
    );
    assert_eq!(node.calls_max_of_carrier_a(), 20);
    let restart = node.command(&plan(&old.replace("shards = 2", "shards = 1")));
    assert_eq!(restart.status.code(), Some(1), "a reload would be refused");
    assert!(String::from_utf8_lossy(&restart.stdout).contains("needs a restart:\n  shards 2 -> 1"));
    let faulty = node.command(&plan(&old.replace("calls_max", "calls_mux")));
    assert_eq!(faulty.status.code(), Some(1));
    let told = String::from_utf8_lossy(&faulty.stderr).into_owned();
    assert!(
        told.contains("new.toml:17:1: unknown key `calls_mux`"),
        "{told}"
    );
    for absent in ["config plan /nonexistent/new.toml", "config plan /tmp"] {
        assert_eq!(node.command(absent).status.code(), Some(1), "{absent}");
    }
}

#[test]
fn recorded_requests_are_routed_by_both_configurations() {
    let node = Plan::new("plan-pcap").start();
    let dir = &node.plan.dir.0;
    let caller = Caller::of(&node);
    let from: SocketAddr = "127.0.0.1:5070".parse().expect("an address");
    let invite = caller.request("INVITE", "a");
    let foreign = invite.replace("sip:1234@", "sip:99@");
    let inside = invite
        .replace("To: <sip:1234@", "To: <sip:x@")
        .replace("\r\nCall-ID", ";tag=9\r\nCall-ID");
    let capture = dir.join("calls.pcap");
    let octets = pcap(&[
        (from, invite.as_str()),
        (from, invite.as_str()),
        (from, foreign.as_str()),
        (from, inside.as_str()),
        (
            "198.51.100.1:5060".parse().expect("an address"),
            invite.as_str(),
        ),
        (from, "\r\n\r\n"),
        (from, "SIP/2.0 200 OK\r\nCall-ID: a\r\n\r\n"),
    ]);
    std::fs::write(&capture, &octets).expect("a file");
    let file = dir.join("new.toml");
    let text = node.plan.text().replace(
        "[[route]]",
        "[[route]]\nuser = \"^1234$\"\nto = \"reject 410\"\n[[route]]",
    );
    std::fs::write(&file, text).expect("a file");
    let words = format!(
        "config plan {} --pcap {}",
        file.display(),
        capture.display()
    );
    let planned = node.json(&words);
    assert_eq!(planned["capture"]["packets"], 7);
    assert_eq!(planned["capture"]["requests"], 4);
    assert_eq!(
        (&planned["capture"]["same"], &planned["capture"]["other"]),
        (&json!(2), &json!(2))
    );
    let rows = planned["routed"].as_array().expect("a list");
    assert_eq!(rows.len(), 1, "{planned:#}");
    assert_eq!(
        (&rows[0]["old"], &rows[0]["new"]),
        (&json!("group pbx"), &json!("reject 410"))
    );
    assert_eq!(
        (&rows[0]["count"], &rows[0]["user"]),
        (&json!(2), &json!("1234"))
    );
    let text = node.text(&words);
    assert!(
        text.contains("Of 4 recorded requests, 2 would go elsewhere.\n"),
        "{text}"
    );
    assert!(
        text.contains("1 packets were left out: a SIP response\n"),
        "{text}"
    );
    assert!(
        text.lines()
            .last()
            .expect("a row")
            .ends_with("group pbx  reject 410"),
        "{text}"
    );

    // Cut off, garbage, and no capture at all.
    std::fs::write(&capture, &octets[..octets.len() - 10]).expect("a file");
    assert_eq!(node.json(&words)["capture"]["requests"], 4);
    std::fs::write(&capture, [&octets[..24], &[0xff; 600][..]].concat()).expect("a file");
    assert_eq!(node.json(&words)["capture"]["requests"], 0);
    for garbage in [&b""[..], b"not a capture", &[0xff; 4096]] {
        std::fs::write(&capture, garbage).expect("a file");
        let output = node.command(&words);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("is no capture"),
            "{output:?}"
        );
    }
}

#[test]
fn what_an_asterisk_operator_types_is_understood() {
    let node = Plan::new("sip-words").start();
    let caller = Caller::of(&node);
    caller.ring(&node, "a-call-id-that-is-long");
    let peers = node.text("sip show peers");
    assert!(
        peers.starts_with("Name/username             Host"),
        "{peers}"
    );
    assert!(
        peers.lines().any(|line| line.starts_with("carrier-a ")
            && line.contains("127.0.0.2")
            && line.ends_with("Unmonitored")),
        "{peers}"
    );
    assert!(
        peers.ends_with(
            "2 sip peers [Monitored: 0 online, 0 offline Unmonitored: 2 online, 0 offline]\n"
        ),
        "{peers}"
    );
    let channels = node.text("sip show channels");
    assert!(
        channels.contains(
            "127.0.0.1        1234             a-call-id-that-  ringing   callers -> carrier-a\n"
        ),
        "{channels}"
    );
    assert!(channels.ends_with("1 active SIP dialog\n"), "{channels}");
    let in_use = node.text("sip show inuse");
    assert!(
        in_use.contains("carrier-a                 1               20\n"),
        "{in_use}"
    );
    assert!(
        in_use.contains("callers                   1               N/A\n"),
        "{in_use}"
    );
    let settings = node.text("sip show settings");
    assert!(
        settings.contains("Global Settings:\n----------------\n  UDP Bindaddress:"),
        "{settings}"
    );
    assert!(
        settings.contains("Node Settings:\n--------------\n") && settings.contains("drain_max:"),
        "{settings}"
    );
    let qualify = node.text("sip qualify peer carrier-a");
    assert!(
        qualify.starts_with("Qualifying peer 'carrier-a': "),
        "{qualify}"
    );
    assert_eq!(node.text("sip reload"), "nothing changed\n");
    for (words, same) in [
        ("sip show peers", "trunk list"),
        ("sip show inuse", "limits"),
        ("sip show settings", "config show"),
    ] {
        let (ours, theirs) = (node.json(same), node.json(words));
        let shape = |value: &Value| value.as_array().map(Vec::len);
        assert_eq!(shape(&ours), shape(&theirs), "{words}");
    }
    assert_eq!(
        node.json("sip show channels")[0]["call_id"],
        "a-call-id-that-is-long"
    );
    assert_eq!(
        node.command("sip qualify peer nobody").status.code(),
        Some(1)
    );
}

#[test]
fn bash_completes_commands_and_the_names_of_trunks() {
    let node = Plan::new("completion").start();
    let dir = Scratch::new("completion-bin");
    // The script calls the program as the line does.
    let program = env!("CARGO_BIN_EXE_callgate");
    let complete = |words: &[&str]| -> Vec<String> {
        let script = format!(
            "source <('{program}' completion bash)\nCOMP_WORDS=('{program}' {})\nCOMP_CWORD={}\n\
             _callgate_or_names '{program}' '{}' '{}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words
                .iter()
                .map(|word| format!("'{word}'"))
                .collect::<Vec<_>>()
                .join(" "),
            words.len(),
            words.last().expect("a word"),
            words.iter().rev().nth(1).unwrap_or(&program),
        );
        let output = Command::new("bash")
            .args(["-c", &script])
            .env("CALLGATE_SOCKET", node.plan.socket())
            .output()
            .expect("bash is there");
        String::from_utf8(output.stdout)
            .expect("text")
            .lines()
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(complete(&["trunk", "show", "ca"]), ["callers", "carrier-a"]);
    assert_eq!(complete(&["calls", "--trunk", "carr"]), ["carrier-a"]);
    assert_eq!(complete(&["sip", "qualify", "peer", "call"]), ["callers"]);
    assert!(complete(&["trunk", "dr"]).contains(&"drain".to_owned()));
    assert_eq!(complete(&["trunk", "show", "zzz"]), [""]);
    drop(dir);
    for (shell, words) in [
        (
            "zsh",
            &[
                "#compdef callgate",
                "_callgate_trunks()",
                ":NAME:_callgate_trunks",
            ][..],
        ),
        ("fish", &["complete -c callgate", "callgate names trunks"]),
    ] {
        let (code, script, _) = run(&["completion", shell]);
        assert_eq!(code, Some(0));
        for word in words {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(run(&["completion", "csh"]).0, Some(2));
    assert_eq!(node.text("names groups"), "pbx\n");
}

#[test]
fn each_command_has_a_man_page() {
    let dir = Scratch::new("man");
    let path = dir.0.display().to_string();
    assert_eq!(run(&["man", &path]).0, Some(0));
    for page in [
        "callgate",
        "callgate-run",
        "callgate-trunk-show",
        "callgate-config-plan",
        "callgate-sip-show-peers",
    ] {
        let text = std::fs::read_to_string(dir.0.join(format!("{page}.1")))
            .unwrap_or_else(|fault| panic!("{page}: {fault}"));
        assert!(
            text.contains(".TH ") && text.contains("Example"),
            "{page}: {text}"
        );
    }
    let hidden = dir.0.join("callgate-debug.1").exists();
    assert!(!hidden, "commands that break things have no page");
    assert_eq!(run(&["man", "/nonexistent"]).0, Some(1));
    let _lines = program(&["man"]);
}
