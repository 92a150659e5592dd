"""One run of calls through a peer, by the load generator or by SIPp, and what it cost the peer."""

import csv
import json
import subprocess
import tempfile
import time
from pathlib import Path

import machine
import peers

# Time after the last call for answers that wait in a queue; both peers get the same.
SETTLE_S = 0.5
CALLEE = "%s:%d" % peers.CALLEE


class Driver:
    """How calls are made. `commands` collects each distinct command line for the record."""

    def __init__(self, load, log_dir):
        self.load = str(load)
        self.log_dir = Path(log_dir)
        self.commands = []

    def run(self, command):
        shown = " ".join(Path(word).name if word == self.load else word for word in command)
        shown = shown.replace(f"{peers.HERE.parents[1]}/", "")
        if shown not in self.commands:
            self.commands.append(shown)
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def result_of(self, arguments):
        """Runs the generator; gives its JSON."""
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            done = self.run([self.load, *arguments, "--quiet", "--json", file.name])
            text = Path(file.name).read_text()
        if not text:
            raise SystemExit(f"compare: load {' '.join(arguments)}: {done.stderr}")
        return json.loads(text)

    def by_load(self, peer, rate, seconds, extra=("--tick", "off")):
        """Calls by our generator, straight to its own callee when there is no peer."""
        where = ["--to", peer.address] if peer else []
        arguments = [*where, "--listen", CALLEE, "--rate", str(rate), "--time", f"{seconds}s"]
        watch = machine.Watch(peer.pids() if peer else [])
        result = self.result_of([*arguments, "--drain", "8s", *extra])
        time.sleep(SETTLE_S)
        counts = result["counts"]
        return {
            **watch.stop(),
            "calls": counts["succeeded"],
            "failed": counts["failed"] + counts["not_started"],
            "failures": result["failures"],
            "offered_per_s": result["offered_per_s"],
            "goodput_per_s": result["goodput_per_s"],
            "latency_us": result["latency_us"],
        }

    def by_sipp(self, peer, rate, seconds):
        """The same calls by SIPp on both sides."""
        callee_ip, callee_port = peers.CALLEE
        calls = str(rate * seconds)
        callee = subprocess.Popen(
            ["sipp", "-sf", str(peers.HERE / "uas.xml"), "-i", callee_ip, "-p", str(callee_port),
             "-nostdin", "-nd", "-m", "100000000"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(0.5)
        statistics = self.log_dir / "sipp.csv"
        statistics.unlink(missing_ok=True)
        caller = ["sipp", "-sf", str(peers.HERE / "uac.xml"), peer.address, "-i", "127.0.0.1",
                  "-p", "6070", "-r", str(rate), "-m", calls, "-l", "100000", "-nostdin",
                  "-trace_stat", "-stf", str(statistics), "-timeout", f"{seconds + 20}s"]  # fmt: skip
        watch = machine.Watch(peer.pids(), [callee.pid])
        try:
            self.run(caller)
            time.sleep(SETTLE_S)
            cost = watch.stop()
        finally:
            callee.kill()
            callee.wait()
        last = list(csv.DictReader(statistics.open(), delimiter=";"))[-1]
        done, failed = int(last["SuccessfulCall(C)"]), int(last["FailedCall(C)"])
        return {**cost, "calls": done, "failed": failed, "offered_per_s": rate}

    def held(self, peer, calls, hold_s, warmup, seconds):
        """CPU and memory with `calls` up all the time: measured once as many begin as end, and
        as long after that as the warm-up takes."""
        rate = calls / hold_s
        before = machine.memory_bytes(peer.pids())
        command = [self.load, "--to", peer.address, "--listen", CALLEE, "--rate", str(rate),
                   "--time", f"{hold_s + warmup + seconds + 1}s", "--hold", f"{hold_s}s", "--tick", "off",
                   "--quiet"]  # fmt: skip
        self.commands.append(" ".join(["load", *command[1:]]))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
            time.sleep(hold_s + warmup)
            watch = machine.Watch(peer.pids(), [load.pid])
            time.sleep(seconds)
            cost = watch.stop()
            memory = machine.memory_bytes(peer.pids())
            text, _ = load.communicate()
        # Each second `rate` calls begin and as many end: together they make `rate` whole calls.
        return {
            **cost,
            "calls": rate * cost["wall_s"],
            "failed": load.returncode,
            "bytes_grown": memory - before,
            "summary": text,
        }
