//! The tuning guide and `check --host` say the same, and a host in a folder is judged by it.

use std::fs;
use std::path::{Path, PathBuf};

use callgate::config::host::{Finding, HostReport, KNOBS, SYSCTLS, Verdict, inspect};
use callgate::config::{self, Config, InOrder};

const SYSCTL_FILE: &str = include_str!("../tuning/90-callgate.conf");
const UNIT: &str = include_str!("../tuning/callgate.service");
const GUIDE: &[&str] = &[
    include_str!("../tuning/README.md"),
    include_str!("../tuning/nic.md"),
    include_str!("../tuning/cpu.md"),
];

/// A host made of files, in a folder of its own.
struct FakeHost {
    root: PathBuf,
}

impl FakeHost {
    fn new(name: &str) -> FakeHost {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("hosts")
            .join(name);
        fs::remove_dir_all(&root).ok();
        FakeHost { root }
    }

    fn with(self, path: &str, text: &str) -> FakeHost {
        let path = self.root.join(path);
        let folder = path.parent().expect("a file below the root");
        fs::create_dir_all(folder).expect("the target folder is writable");
        fs::write(path, format!("{text}\n")).expect("the target folder is writable");
        self
    }

    fn inspect(&self, config: &Config) -> HostReport {
        inspect(&self.root, config)
    }
}

fn config(shards: &str) -> Config {
    let text = format!("[node]\nshards = \"{shards}\"\n[[listen]]\nudp = \"127.0.0.1:5060\"\n");
    config::load(&text, "edge.toml", &mut InOrder::default()).expect("the test writes it right")
}

fn finding<'r>(report: &'r HostReport, knob: &str) -> &'r Finding {
    let found = report.findings.iter().find(|finding| finding.knob == knob);
    found.unwrap_or_else(|| panic!("no finding about {knob}"))
}

#[test]
fn the_sysctl_file_has_the_values_of_the_table() {
    let rows: Vec<String> = SYSCTL_FILE
        .lines()
        .filter(|line| line.contains(" = "))
        .map(ToOwned::to_owned)
        .collect();
    let table: Vec<String> = SYSCTLS
        .iter()
        .map(|sysctl| {
            let comment = if sysctl.by_memory { "#" } else { "" };
            format!("{comment}{} = {}", sysctl.name, sysctl.value)
        })
        .collect();
    assert_eq!(rows, table);
}

#[test]
fn the_guide_has_each_knob_with_its_value() {
    for sysctl in SYSCTLS {
        let row = format!("| {} | {} |", sysctl.name, sysctl.value);
        assert!(GUIDE[0].contains(&row), "no row {row}");
    }
    let guide = GUIDE.concat().to_lowercase();
    for knob in KNOBS {
        assert!(
            guide.contains(&knob.name.to_lowercase()),
            "{} is not in the guide",
            knob.name
        );
    }
}

#[test]
fn the_unit_has_the_limits_of_the_table() {
    let wanted = |name: &str| {
        let knob = KNOBS
            .iter()
            .find(|knob| knob.name == name)
            .expect("it is in the table");
        knob.wanted
            .split_whitespace()
            .find(|word| word.parse::<u64>().is_ok())
            .expect("a number")
    };
    for (line, knob) in [
        ("LimitMEMLOCK", "locked memory limit"),
        ("LimitNOFILE", "open files limit"),
    ] {
        let row = format!("\n{line}={}\n", wanted(knob));
        assert!(UNIT.contains(&row), "the unit lacks {row}");
    }
}

#[test]
fn a_host_without_any_knob_is_told_so_and_nothing_is_to_be_changed() {
    let report = FakeHost::new("empty").inspect(&config("auto"));
    assert!(report.is_good());
    for finding in &report.findings {
        let expected = if finding.knob == "connection tracking" {
            Verdict::Good
        } else {
            Verdict::Absent
        };
        assert_eq!(finding.verdict, expected, "{}", finding.knob);
    }
    let said = report.to_string();
    assert!(
        said.contains("absent  net.core.rmem_max: not on this host\n"),
        "{said}"
    );
    assert!(
        said.ends_with("1 good, 0 to change, 0 to look at, 23 not on this host"),
        "{said}"
    );
}

#[test]
fn a_low_variable_is_told_with_the_way_there_and_back() {
    let host = FakeHost::new("low")
        .with("proc/sys/net/core/rmem_max", "212992")
        .with("proc/sys/net/core/wmem_max", "33554432")
        .with("proc/sys/net/ipv4/udp_mem", "65536\t131072\t262143");
    let report = host.inspect(&config("auto"));
    let low = finding(&report, "net.core.rmem_max");
    assert_eq!(
        (low.verdict, low.found.as_str()),
        (Verdict::Change, "212992")
    );
    assert_eq!(low.wanted, "at least 16777216");
    assert_eq!(
        low.set,
        "sysctl -w net.core.rmem_max=\"16777216\"; to keep it: tuning/90-callgate.conf"
    );
    assert_eq!(low.undo, "sysctl -w net.core.rmem_max=\"212992\"");
    assert_eq!(finding(&report, "net.core.wmem_max").verdict, Verdict::Good);
    assert_eq!(
        finding(&report, "net.ipv4.udp_mem").verdict,
        Verdict::Change
    );
    assert!(!report.is_good());
}

#[test]
fn our_ports_inside_the_local_range_are_to_be_changed() {
    let host = FakeHost::new("ports").with("proc/sys/net/ipv4/ip_local_port_range", "1024\t65535");
    let report = host.inspect(&config("auto"));
    assert_eq!(
        finding(&report, "net.ipv4.ip_local_port_range").verdict,
        Verdict::Change
    );
    let host = host.with("proc/sys/net/ipv4/ip_local_port_range", "10000\t65535");
    let report = host.inspect(&config("auto"));
    assert_eq!(
        finding(&report, "net.ipv4.ip_local_port_range").verdict,
        Verdict::Good
    );
}

#[test]
fn cpus_of_shards_that_are_not_isolated_or_share_a_core_are_told() {
    let cpu = "sys/devices/system/cpu";
    let host = FakeHost::new("cpus")
        .with(&format!("{cpu}/online"), "0-7")
        .with(&format!("{cpu}/isolated"), "2-3")
        .with(&format!("{cpu}/nohz_full"), "(null)")
        .with(&format!("{cpu}/smt/active"), "1")
        .with(&format!("{cpu}/cpu2/topology/thread_siblings_list"), "2,6")
        .with(&format!("{cpu}/cpu0/cpufreq/scaling_governor"), "powersave")
        .with(
            &format!("{cpu}/cpu1/cpufreq/scaling_governor"),
            "performance",
        );
    let report = host.inspect(&config("2-3,6"));
    let isolated = finding(&report, "isolated CPUs");
    assert_eq!(
        (isolated.verdict, isolated.found.as_str()),
        (Verdict::Change, "2-3")
    );
    assert_eq!(
        isolated.set,
        "kernel command line: isolcpus=domain,managed_irq,2-3,6 (or cpusets: tuning/cpu.md)"
    );
    assert_eq!(finding(&report, "tickless CPUs").found, "none");
    let threads = finding(&report, "hyper-threads");
    assert_eq!(
        (threads.verdict, threads.found.as_str()),
        (Verdict::Change, "shards on 2 and 6, one core")
    );
    assert_eq!(
        finding(&report, "CPU governor").found,
        "performance,powersave"
    );
    let report = host.inspect(&config("2-3"));
    assert_eq!(finding(&report, "isolated CPUs").verdict, Verdict::Good);
    assert_eq!(finding(&report, "hyper-threads").verdict, Verdict::Good);
}

#[test]
fn a_card_with_too_few_queues_and_wandering_interrupts_is_told() {
    let card = "sys/class/net/eth0";
    let host = FakeHost::new("card")
        .with("sys/class/net/lo/queues/rx-0/rps_cpus", "0")
        .with(&format!("{card}/queues/rx-0/rps_cpus"), "0")
        .with(&format!("{card}/queues/rx-1/rps_cpus"), "0")
        .with(&format!("{card}/queues/tx-0/xps_cpus"), "0")
        .with(&format!("{card}/device/msi_irqs/33"), "msix")
        .with(&format!("{card}/device/msi_irqs/34"), "msix")
        .with("proc/irq/33/smp_affinity_list", "2")
        .with("proc/irq/34/smp_affinity_list", "0-7");
    let report = host.inspect(&config("2-5"));
    let queues = finding(&report, "NIC queues eth0");
    assert_eq!(
        (queues.verdict, queues.found.as_str()),
        (Verdict::Change, "2")
    );
    assert_eq!(
        queues.set,
        "ethtool -L eth0 combined 4   (ethtool -l eth0 shows the most it can)"
    );
    assert_eq!(queues.undo, "ethtool -L eth0 combined 2");
    assert_eq!(
        finding(&report, "NIC flow hash eth0").verdict,
        Verdict::Look
    );
    assert_eq!(finding(&report, "IRQ affinity eth0").found, "irq 34 on 0-7");
    assert!(
        !report
            .findings
            .iter()
            .any(|finding| finding.knob.ends_with(" lo"))
    );
}

#[test]
fn limits_and_choices_of_the_kernel_are_read() {
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                  Max open files            1024                 524288               files     \n\
                  Max locked memory         unlimited            unlimited            bytes     ";
    let host = FakeHost::new("limits")
        .with("proc/self/limits", limits)
        .with("proc/sys/net/netfilter/nf_conntrack_max", "262144")
        .with("proc/sys/net/netfilter/nf_conntrack_count", "17")
        .with(
            "sys/kernel/mm/transparent_hugepage/enabled",
            "[always] madvise never",
        )
        .with(
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet",
        );
    let report = host.inspect(&config("auto"));
    assert_eq!(finding(&report, "open files limit").found, "1024");
    assert_eq!(
        finding(&report, "locked memory limit").verdict,
        Verdict::Good
    );
    assert_eq!(
        finding(&report, "connection tracking").found,
        "loaded, 17 of 262144 entries"
    );
    assert_eq!(
        finding(&report, "connection tracking").verdict,
        Verdict::Look
    );
    assert_eq!(finding(&report, "transparent huge pages").found, "always");
    assert_eq!(
        finding(&report, "clock source").undo,
        "echo hpet > /sys/devices/system/clocksource/clocksource0/current_clocksource"
    );
    let json = serde_json::to_value(&report).expect("a report is plain data");
    assert_eq!(json["findings"][0]["knob"], "net.core.rmem_max");
    assert_eq!(json["findings"][0]["verdict"], "absent");
}

#[test]
fn this_host_can_be_looked_at() {
    let report = inspect(Path::new("/"), &config("auto"));
    assert!(report.findings.len() >= SYSCTLS.len() + KNOBS.len());
    println!("{report}");
}
