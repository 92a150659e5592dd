//! The knobs that are no kernel variable: CPUs, network card, memory, limits of the process.

use super::{Finding, Host, Verdict, hardware, network};

/// One knob of the host.
#[derive(Debug)]
pub struct Knob {
    pub name: &'static str,
    pub wanted: &'static str,
    pub why: &'static str,
    /// `{subject}`, `{found}`, `{shards}` and `{cpus}` are filled in.
    pub set: &'static str,
    pub undo: &'static str,
    look: fn(&Host<'_>) -> Vec<Reading>,
}

/// What a look at a knob gave.
pub(super) struct Reading {
    /// Which of several: an interface, say; empty for the only one.
    pub(super) subject: String,
    pub(super) found: String,
    pub(super) verdict: Verdict,
}

impl Reading {
    /// The only reading of a knob.
    pub(super) fn one(found: impl Into<String>, good: bool) -> Vec<Reading> {
        let verdict = if good { Verdict::Good } else { Verdict::Change };
        vec![Reading {
            subject: String::new(),
            found: found.into(),
            verdict,
        }]
    }
}

/// Locked memory that rings, their buffers and steering maps of a large node stay below.
pub(super) const MEMLOCK_LEAST: u64 = 512 << 20;
/// Sockets of all shards and listeners, rings, control connections, and room for TCP to come.
pub(super) const NOFILE_LEAST: u64 = 65_536;

/// In the order in which the guide treats them.
pub const KNOBS: &[Knob] = &[
    Knob {
        name: "connection tracking",
        wanted: "not loaded, or `notrack` rules for the SIP ports",
        why: "each datagram pays for a look-up, and a full table drops calls that no counter of ours sees",
        set: "nft add table inet callgate; nft 'add chain inet callgate in { type filter hook prerouting priority raw; }'; \
              nft add rule inet callgate in udp dport 5060 notrack; \
              nft 'add chain inet callgate out { type filter hook output priority raw; }'; \
              nft add rule inet callgate out udp sport 5060 notrack",
        undo: "nft delete table inet callgate",
        look: network::connection_tracking,
    },
    Knob {
        name: "NIC queues",
        wanted: "one receive queue per shard",
        why: "a queue is one interrupt and one CPU: fewer queues than shards leave cores waiting for another",
        set: "ethtool -L {subject} combined {shards}   (ethtool -l {subject} shows the most it can)",
        undo: "ethtool -L {subject} combined {found}",
        look: network::queues,
    },
    Knob {
        name: "NIC flow hash",
        wanted: "addresses and ports (sdfn)",
        why: "by addresses alone all datagrams between two hosts land in one queue; /sys does not show the setting",
        set: "ethtool -n {subject} rx-flow-hash udp4; ethtool -N {subject} rx-flow-hash udp4 sdfn (and udp6)",
        undo: "ethtool -N {subject} rx-flow-hash udp4 sd",
        look: network::flow_hash,
    },
    Knob {
        name: "IRQ affinity",
        wanted: "each of the card's interrupts on one CPU",
        why: "an interrupt that wanders moves the queue's work between caches and onto the shards",
        set: "systemctl stop irqbalance; echo CPU > /proc/irq/IRQ/smp_affinity_list for each of them (tuning/nic.md)",
        undo: "echo LIST > /proc/irq/IRQ/smp_affinity_list with the lists shown here; systemctl start irqbalance",
        look: network::interrupts,
    },
    Knob {
        name: "CPU governor",
        wanted: "performance",
        why: "a core that slowed down in a pause takes the next burst at low speed",
        set: "cpupower frequency-set -g performance",
        undo: "cpupower frequency-set -g {found}",
        look: hardware::governor,
    },
    Knob {
        name: "isolated CPUs",
        wanted: "all CPUs of the shards: {cpus}",
        why: "whatever else the scheduler puts on a shard's CPU is delay for every call of the shard",
        set: "kernel command line: isolcpus=domain,managed_irq,{cpus} (or cpusets: tuning/cpu.md)",
        undo: "take the parameter out of the command line, reboot",
        look: hardware::isolated,
    },
    Knob {
        name: "tickless CPUs",
        wanted: "all CPUs of the shards: {cpus}",
        why: "without it the timer tick interrupts a shard that runs alone",
        set: "kernel command line: nohz_full={cpus} rcu_nocbs={cpus}",
        undo: "take the parameters out of the command line, reboot",
        look: hardware::tickless,
    },
    Knob {
        name: "hyper-threads",
        wanted: "no two shards on one core",
        why: "two shards on the threads of one core share its caches and units: neither has the speed that one would",
        set: "name one thread of each core in [node] shards; the pairs are in \
              /sys/devices/system/cpu/cpu*/topology/thread_siblings_list",
        undo: "restore the CPU list",
        look: hardware::siblings,
    },
    Knob {
        name: "clock source",
        wanted: "tsc, or the hypervisor's own that needs no system call",
        why: "the clock is read for each batch; any other source makes that a system call or a slow device access",
        set: "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
        undo: "echo {found} > /sys/devices/system/clocksource/clocksource0/current_clocksource",
        look: hardware::clock_source,
    },
    Knob {
        name: "transparent huge pages",
        wanted: "madvise or never",
        why: "with `always` the kernel compacts memory in the middle of our page faults",
        set: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        undo: "echo {found} > /sys/kernel/mm/transparent_hugepage/enabled",
        look: hardware::huge_pages,
    },
    Knob {
        name: "locked memory limit",
        wanted: "at least 536870912 octets or unlimited",
        why: "ring buffers and steering maps may count as locked memory; the start fails or falls back when they do not fit",
        set: "LimitMEMLOCK= in tuning/callgate.service, or ulimit -l",
        undo: "take the line out, restart the service",
        look: hardware::locked_memory,
    },
    Knob {
        name: "open files limit",
        wanted: "at least 65536",
        why: "each shard has a socket per listener, a ring and a wake-up; control connections come on top",
        set: "LimitNOFILE= in tuning/callgate.service, or ulimit -n",
        undo: "take the line out, restart the service",
        look: hardware::open_files,
    },
];

impl Knob {
    pub(super) fn look(&self, host: &Host<'_>) -> Vec<Finding> {
        let readings = (self.look)(host);
        if readings.is_empty() {
            let absent = Reading {
                subject: String::new(),
                found: String::new(),
                verdict: Verdict::Absent,
            };
            return vec![self.finding(host, absent)];
        }
        readings
            .into_iter()
            .map(|reading| self.finding(host, reading))
            .collect()
    }

    fn finding(&self, host: &Host<'_>, reading: Reading) -> Finding {
        let filled = |text: &str| {
            text.replace("{subject}", &reading.subject)
                .replace("{found}", &reading.found)
                .replace("{shards}", &host.shards.to_string())
                .replace("{cpus}", &super::list_text(&host.shard_cpus))
        };
        Finding {
            knob: format!("{} {}", self.name, reading.subject)
                .trim_end()
                .to_owned(),
            verdict: reading.verdict,
            wanted: filled(self.wanted),
            why: self.why,
            set: filled(self.set),
            undo: filled(self.undo),
            found: reading.found,
        }
    }
}
