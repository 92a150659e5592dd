//! The kernel variables that Callgate cares for: what to write into `tuning/90-callgate.conf`.

use super::{Finding, Host, Verdict};

/// One kernel variable.
#[derive(Debug)]
pub struct Sysctl {
    pub name: &'static str,
    /// What is recommended, as it stands in the file.
    pub value: &'static str,
    pub accept: Accept,
    pub why: &'static str,
    /// The kernel derives it from the host's memory, so the file has it as a comment: written
    /// everywhere it would lower what a large host has.
    pub by_memory: bool,
}

/// Which values are as good as the recommended one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Each number is at least the recommended one.
    AtLeast,
    /// The number is at most the recommended one.
    AtMost,
    /// The two numbers are a range without any port that the node binds.
    PortsOutside,
}

/// In the order of `tuning/90-callgate.conf`.
pub const SYSCTLS: &[Sysctl] = &[
    Sysctl {
        name: "net.core.rmem_max",
        value: "16777216",
        accept: Accept::AtLeast,
        why: "the kernel silently clamps a socket's receive buffer to it; a burst that finds the buffer full is lost",
        by_memory: false,
    },
    Sysctl {
        name: "net.core.wmem_max",
        value: "16777216",
        accept: Accept::AtLeast,
        why: "the same for the send buffer: a full one makes a send fail with EAGAIN",
        by_memory: false,
    },
    Sysctl {
        name: "net.core.rmem_default",
        value: "1048576",
        accept: Accept::AtLeast,
        why: "the receive buffer of every socket that does not ask for one, such as a peer's on the same host",
        by_memory: false,
    },
    Sysctl {
        name: "net.core.optmem_max",
        value: "131072",
        accept: Accept::AtLeast,
        why: "without the privilege to load eBPF programs, the filter that keeps new calls out of an overloaded shard takes 70 KB of a socket's; with less, each is refused in words",
        by_memory: false,
    },
    Sysctl {
        name: "net.core.netdev_max_backlog",
        value: "16384",
        accept: Accept::AtLeast,
        why: "packets wait there when the kernel hands them to another CPU, and all loopback traffic does; beyond it they are dropped",
        by_memory: false,
    },
    Sysctl {
        name: "net.core.netdev_budget",
        value: "600",
        accept: Accept::AtLeast,
        why: "packets that one round of the receive interrupt may take; time_squeeze in /proc/net/softnet_stat counts rounds cut short",
        by_memory: false,
    },
    Sysctl {
        name: "net.ipv4.udp_mem",
        value: "65536 131072 262144",
        accept: Accept::AtLeast,
        why: "pages that all UDP sockets together may hold; beyond the third number datagrams are dropped whatever a socket's own buffer",
        by_memory: true,
    },
    Sysctl {
        name: "net.ipv4.udp_rmem_min",
        value: "16384",
        accept: Accept::AtLeast,
        why: "what a socket may hold even when all UDP together is over its pages",
        by_memory: false,
    },
    Sysctl {
        name: "net.ipv4.ip_local_port_range",
        value: "32768 60999",
        accept: Accept::PortsOutside,
        why: "a port of ours inside the range may be lent to another program while we restart, and the bind fails",
        by_memory: false,
    },
    Sysctl {
        name: "kernel.io_uring_disabled",
        value: "0",
        accept: Accept::AtMost,
        why: "1 forbids the ring to most processes, 2 to all; callgate then runs on recvmmsg",
        by_memory: false,
    },
    Sysctl {
        name: "kernel.unprivileged_bpf_disabled",
        value: "2",
        accept: Accept::AtLeast,
        why: "steering loads its program with CAP_BPF; nobody needs the door that 0 leaves open to all users",
        by_memory: false,
    },
    Sysctl {
        name: "kernel.numa_balancing",
        value: "0",
        accept: Accept::AtMost,
        why: "the kernel unmaps pages to learn who uses them; each such fault stops a pinned shard that it can teach nothing",
        by_memory: false,
    },
];

impl Sysctl {
    pub(super) fn look(&self, host: &Host<'_>) -> Finding {
        let found = host.text(&format!("proc/sys/{}", self.name.replace('.', "/")));
        let shown = found
            .as_deref()
            .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        let verdict = match &shown {
            None => Verdict::Absent,
            Some(text) if self.accepts(text, &host.ports) => Verdict::Good,
            Some(_) => Verdict::Change,
        };
        let shown = shown.unwrap_or_default();
        Finding {
            knob: self.name.to_owned(),
            verdict,
            wanted: self.wanted(),
            why: self.why,
            set: format!(
                "sysctl -w {}=\"{}\"; to keep it: tuning/90-callgate.conf",
                self.name, self.value
            ),
            undo: format!("sysctl -w {}=\"{shown}\"", self.name),
            found: shown,
        }
    }

    fn wanted(&self) -> String {
        match self.accept {
            Accept::AtLeast => format!("at least {}", self.value),
            Accept::AtMost => self.value.to_owned(),
            Accept::PortsOutside => {
                format!("{}, or any range without the node's own ports", self.value)
            }
        }
    }

    fn accepts(&self, found: &str, ports: &[u16]) -> bool {
        let (found, wanted) = (numbers(found), numbers(self.value));
        if found.is_empty() || found.len() != wanted.len() {
            return false;
        }
        let mut pairs = found.iter().zip(&wanted);
        match self.accept {
            Accept::AtLeast => pairs.all(|(found, wanted)| found >= wanted),
            Accept::AtMost => pairs.all(|(found, wanted)| found <= wanted),
            Accept::PortsOutside => {
                let range = found[0]..=found[found.len() - 1];
                !ports.iter().any(|port| range.contains(&u64::from(*port)))
            }
        }
    }
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}
