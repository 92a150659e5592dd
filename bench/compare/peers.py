"""Starting and stopping what is compared, and the tools it takes."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import machine

HERE = Path(__file__).resolve().parent
PACKAGES = {"kamailio": "kamailio", "sipp": "sip-tester"}
CALLEE = ("127.0.0.2", 5080)
READY_S = 15
# Shared memory, and private memory of each process, in MiB: more than any run here uses.
KAMAILIO_MEMORY = ["-m", "2048", "-M", "64"]


def find(tool):
    return shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def install_missing(tools):
    """Installs what is missing from Debian's packages; Kamailio's own service is not started."""
    missing = [PACKAGES[tool] for tool in tools if not find(tool)]
    if not missing:
        return
    print(f"compare: installing {' '.join(missing)} with apt-get", flush=True)
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    subprocess.run([*as_root, "apt-get", "update", "-q"], check=True)
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing]
    subprocess.run([*as_root, *environment, *install], check=True)
    if "kamailio" in missing and Path("/run/systemd/system").exists():
        subprocess.run([*as_root, "systemctl", "disable", "--now", "kamailio.service"], check=False)


class Peer:
    """One proxy: a name, an address, and the command that runs it in the foreground."""

    def __init__(self, name, port, command, leftovers=None):
        self.leftovers = leftovers
        self.name = name
        self.port = port
        self.command = command
        self.process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self, log_dir):
        if not self.port_is_free():
            raise SystemExit(f"compare: {self.address} is in use: end what runs there")
        if self.leftovers:
            # Calls of a killed node would come back with the next one.
            shutil.rmtree(self.leftovers)
            self.leftovers.mkdir(mode=0o700)
            (self.leftovers.parent / "cdr.jsonl").unlink(missing_ok=True)
        log = open(Path(log_dir) / f"{self.name}.log", "a")
        self.process = subprocess.Popen(
            self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        end = time.monotonic() + READY_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                told = "".join(Path(log.name).read_text().splitlines(keepends=True)[-5:])
                raise SystemExit(f"compare: {self.name} did not start:\n{told}")
        return self

    def answers(self):
        """Whether OPTIONS to the proxy itself is answered."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            probe.settimeout(0.2)
            own = "%s:%d" % probe.getsockname()
            probe.sendto(OPTIONS.format(to=self.address, own=own).encode(), ("127.0.0.1", self.port))
            try:
                return probe.recv(2048).startswith(b"SIP/2.0 ")
            except OSError:
                return False

    def pids(self):
        return machine.tree(self.process.pid)

    def stop(self):
        """Ends it and what it started: at once, since its calls are over or lost."""
        if self.process is None:
            return
        for pid in reversed(self.pids()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        self.process = None
        # A ring's sockets are closed by the kernel a moment after its process is gone.
        end = time.monotonic() + READY_S
        while not self.port_is_free() and time.monotonic() < end:
            time.sleep(0.05)

    def port_is_free(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError:
                return False
            return True

    def restart(self, log_dir):
        self.stop()
        return self.start(log_dir)


OPTIONS = (
    "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKcompare;rport\r\n"
    "Max-Forwards: 1\r\nFrom: <sip:compare@{own}>;tag=1\r\nTo: <sip:{to}>\r\n"
    "Call-ID: compare@{own}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


def callgate(binary):
    Path("/tmp/callgate-compare/state").mkdir(mode=0o700, parents=True, exist_ok=True)
    return Peer(
        "callgate", 5060, [str(binary), "run", "--config", str(HERE / "callgate.toml")],
        leftovers=Path("/tmp/callgate-compare/state"),
    )  # fmt: skip


def callgate_profiled(binary):
    """The same node with the same configuration, but for its ports and folder."""
    folder = Path("/tmp/callgate-compare-profiled")
    (folder / "state").mkdir(mode=0o700, parents=True, exist_ok=True)
    config = (HERE / "callgate.toml").read_text()
    for own, other in (("/tmp/callgate-compare", str(folder)), (":5060", ":5065"), (":9069", ":9068")):
        config = config.replace(own, other)
    written = folder / "callgate.toml"
    written.write_text(config)
    command = [str(binary), "run", "--config", str(written)]
    return Peer("callgate-profiled", 5065, command, leftovers=folder / "state")


def kamailio(workers):
    port = 5070 + workers
    command = [
        find("kamailio"), "-f", str(HERE / "kamailio.cfg"), "-l", f"udp:127.0.0.1:{port}",
        "-x", "fm", "-X", "fm", "-n", str(workers), *KAMAILIO_MEMORY, "-DD", "-E",
    ]  # fmt: skip
    return Peer(f"kamailio-{workers}", port, command)
