"""What is read from the machine: CPU time of processes, what else runs, and what machine it is."""

import os
import platform
import re
import time
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def tree(root):
    """The process `root` and all below it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [root]
    for pid in found:
        found += parents.get(pid, [])
    return found


def cpu_seconds(pids):
    """User and system time of all threads of these processes, to the nanosecond where it is kept.

    Threads that have ended are missing: neither peer ends threads while it is measured.
    """
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*"):
            try:
                total += int((task / "schedstat").read_text().split()[0]) / 1e9
            except (OSError, IndexError, ValueError):
                total += stat_seconds(task)
    return total


def stat_seconds(task):
    try:
        fields = (task / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) * TICK_S


def memory_bytes(pids):
    """Resident memory that belongs to these processes, shared pages counted once."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += 1024 * int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])
    return total


def busy_seconds():
    """Time that all CPUs together were not idle."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    # user nice system idle iowait irq softirq steal; guest time is in user already.
    return (sum(fields[:3]) + sum(fields[5:8])) * TICK_S


class Watch:
    """CPU time of a peer, of the generator and of everything else, from its making to `stop`."""

    def __init__(self, peer_pids, own_pids=()):
        self.peer_pids = peer_pids
        self.own_pids = own_pids
        self.start = self.read()

    def read(self):
        own = os.times()
        generator = own.children_user + own.children_system + own.user + own.system
        generator += cpu_seconds(self.own_pids)
        return time.monotonic(), cpu_seconds(self.peer_pids), generator, busy_seconds()

    def stop(self):
        wall, peer, generator, busy = (b - a for a, b in zip(self.start, self.read()))
        return {
            "wall_s": wall,
            "peer_cpu_s": peer,
            "foreign_cores": max(0.0, busy - peer - generator) / wall,
        }


def describe():
    """What a record says about the machine."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)", cpuinfo, re.M)
    memory = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.M)
    return {
        "cpu": model[1].strip() if model else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": int(memory[1]) // 1024,
        "kernel": platform.release(),
        "load_average": list(os.getloadavg()),
    }


def slug(machine):
    """A directory name for the machine: its CPU and how many of them."""
    words = re.sub(r"[^a-z0-9]+", "-", machine["cpu"].lower().replace("(r)", "")).strip("-")
    return f"{words[:40].strip('-')}-{machine['cpus']}cpu"
