//! How CPUs, memory and the limits of the process stand, from /sys and /proc.

use super::knobs::{MEMLOCK_LEAST, NOFILE_LEAST, Reading};
use super::{Host, list_text};

const CPU: &str = "sys/devices/system/cpu";

pub(super) fn governor(host: &Host<'_>) -> Vec<Reading> {
    let mut found: Vec<String> = (host
        .cpus(&format!("{CPU}/online"))
        .unwrap_or_default()
        .iter())
    .filter_map(|cpu| host.text(&format!("{CPU}/cpu{cpu}/cpufreq/scaling_governor")))
    .collect();
    found.sort();
    found.dedup();
    if found.is_empty() {
        return Vec::new();
    }
    Reading::one(found.join(","), found == ["performance"])
}

pub(super) fn isolated(host: &Host<'_>) -> Vec<Reading> {
    covered(host, &format!("{CPU}/isolated"))
}

pub(super) fn tickless(host: &Host<'_>) -> Vec<Reading> {
    covered(host, &format!("{CPU}/nohz_full"))
}

/// Whether a list of the kernel has all CPUs of the shards. Without a CPU list in the configuration
/// the shards use every CPU, and there is nobody to keep off.
fn covered(host: &Host<'_>, file: &str) -> Vec<Reading> {
    let Some(kept) = host.cpus(file) else {
        return Vec::new();
    };
    let missing = host.shard_cpus.iter().any(|cpu| !kept.contains(cpu));
    let note = if host.shard_cpus.is_empty() {
        "; [node] shards names no CPUs"
    } else {
        ""
    };
    Reading::one(format!("{}{note}", list_text(&kept)), !missing)
}

pub(super) fn siblings(host: &Host<'_>) -> Vec<Reading> {
    let Some(active) = host.text(&format!("{CPU}/smt/active")) else {
        return Vec::new();
    };
    if active == "0" {
        return Reading::one("no hyper-threads", true);
    }
    let shared = host.shard_cpus.iter().find_map(|cpu| {
        let pair = host.cpus(&format!("{CPU}/cpu{cpu}/topology/thread_siblings_list"))?;
        let other = pair
            .iter()
            .find(|other| *other != cpu && host.shard_cpus.contains(other))?;
        Some(format!("shards on {cpu} and {other}, one core"))
    });
    match shared {
        Some(found) => Reading::one(found, false),
        None if host.shard_cpus.is_empty() => {
            Reading::one("active, and [node] shards names no CPUs", false)
        }
        None => Reading::one("active, no two shards on one core", true),
    }
}

pub(super) fn clock_source(host: &Host<'_>) -> Vec<Reading> {
    const FAST: &[&str] = &[
        "tsc",
        "kvm-clock",
        "hyperv_clocksource_tsc_page",
        "arch_sys_counter",
    ];
    let file = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    host.text(file).map_or_else(Vec::new, |found| {
        let good = FAST.contains(&found.as_str());
        Reading::one(found, good)
    })
}

pub(super) fn huge_pages(host: &Host<'_>) -> Vec<Reading> {
    let Some(text) = host.text("sys/kernel/mm/transparent_hugepage/enabled") else {
        return Vec::new();
    };
    let chosen = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    let chosen = chosen.unwrap_or(&text);
    Reading::one(chosen, matches!(chosen, "madvise" | "never"))
}

pub(super) fn locked_memory(host: &Host<'_>) -> Vec<Reading> {
    limit(host, "Max locked memory", MEMLOCK_LEAST)
}

pub(super) fn open_files(host: &Host<'_>) -> Vec<Reading> {
    limit(host, "Max open files", NOFILE_LEAST)
}

/// The soft limit of this process, which the service's differs from unless its unit says so.
fn limit(host: &Host<'_>, name: &str, least: u64) -> Vec<Reading> {
    let limits = host.text("proc/self/limits").unwrap_or_default();
    let row = limits.lines().find_map(|line| line.strip_prefix(name));
    let Some(soft) = row.and_then(|rest| rest.split_whitespace().next()) else {
        return Vec::new();
    };
    let good = soft == "unlimited" || soft.parse::<u64>().is_ok_and(|number| number >= least);
    Reading::one(soft, good)
}
