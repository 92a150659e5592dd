//! How the network card and the packet filter stand, from /sys and /proc.

use super::knobs::Reading;
use super::{Host, Verdict};

/// Connection tracking is loaded when its variables are there; rules are not shown in /proc.
pub(super) fn connection_tracking(host: &Host<'_>) -> Vec<Reading> {
    let folder = "proc/sys/net/netfilter";
    let Some(max) = host.text(&format!("{folder}/nf_conntrack_max")) else {
        return Reading::one("not loaded", true);
    };
    let count = host
        .text(&format!("{folder}/nf_conntrack_count"))
        .unwrap_or_else(|| "?".to_owned());
    vec![Reading {
        subject: String::new(),
        found: format!("loaded, {count} of {max} entries"),
        verdict: Verdict::Look,
    }]
}

/// Interfaces with a device behind them: not loopback, bridges, tunnels.
fn cards(host: &Host<'_>) -> Vec<String> {
    let mut names = host.names("sys/class/net");
    names.retain(|name| host.path(&format!("sys/class/net/{name}/device")).exists());
    names
}

pub(super) fn queues(host: &Host<'_>) -> Vec<Reading> {
    let reading = |name: String| {
        let queues = host.names(&format!("sys/class/net/{name}/queues"));
        let count = queues
            .iter()
            .filter(|queue| queue.starts_with("rx-"))
            .count();
        let verdict = if count >= host.shards {
            Verdict::Good
        } else {
            Verdict::Change
        };
        Reading {
            subject: name,
            found: count.to_string(),
            verdict,
        }
    };
    cards(host).into_iter().map(reading).collect()
}

/// Only worth a look where there is more than one queue to choose from.
pub(super) fn flow_hash(host: &Host<'_>) -> Vec<Reading> {
    queues(host)
        .into_iter()
        .filter(|reading| reading.found != "1" && reading.found != "0")
        .map(|reading| Reading {
            found: format!("{} receive queues, hash unknown", reading.found),
            verdict: Verdict::Look,
            ..reading
        })
        .collect()
}

/// The card's interrupts that more than one CPU may take.
pub(super) fn interrupts(host: &Host<'_>) -> Vec<Reading> {
    cards(host)
        .into_iter()
        .filter_map(|name| interrupts_of(host, name))
        .collect()
}

fn interrupts_of(host: &Host<'_>, name: String) -> Option<Reading> {
    let device = format!("sys/class/net/{name}/device");
    let mut numbers = host.names(&format!("{device}/msi_irqs"));
    if numbers.is_empty() {
        // A virtio card hangs below the PCI device that has the interrupts.
        numbers = host.names(&format!("{device}/../msi_irqs"));
    }
    let mut wandering = Vec::new();
    for number in &numbers {
        let list = host.text(&format!("proc/irq/{number}/smp_affinity_list"))?;
        if list.contains([',', '-']) {
            wandering.push(format!("{number} on {list}"));
        }
    }
    if numbers.is_empty() {
        return None;
    }
    let good = wandering.is_empty();
    let found = if good {
        "each on one CPU".to_owned()
    } else {
        format!("irq {}", wandering.join(", "))
    };
    let verdict = if good { Verdict::Good } else { Verdict::Change };
    Some(Reading {
        subject: name,
        found,
        verdict,
    })
}
