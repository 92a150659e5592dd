"""The record of a comparison: tables of medians with spread, ratios, JSON, plots."""

import json
from statistics import median

import plot

# A run beside which other processes took more than this of a CPU is left out.
FOREIGN_CORES_MAX = 0.1
# With fewer undisturbed runs than this, all are used, and the table says so.
UNDISTURBED_MIN = 3


def cpu_per_call(run):
    """Microseconds of the peer's CPU time per call that succeeded."""
    return 1e6 * run["peer_cpu_s"] / run["calls"] if run["calls"] else None


def usable(runs):
    """The runs to count, and whether they were undisturbed."""
    quiet = [run for run in runs if run["foreign_cores"] <= FOREIGN_CORES_MAX]
    return (quiet, True) if len(quiet) >= UNDISTURBED_MIN else (runs, False)


class Cell:
    """CPU per call of one peer at one rate under one driver."""

    def __init__(self, runs):
        runs, self.quiet = usable(runs)
        self.costs = [cost for run in runs if (cost := cpu_per_call(run)) is not None]
        self.failed = sum(run["failed"] for run in runs)

    def text(self):
        if not self.costs:
            return "-"
        marks = ("" if self.quiet else " ~") + (f" !{self.failed}" if self.failed else "")
        spread = f"{min(self.costs):.1f}-{max(self.costs):.1f}"
        return f"{median(self.costs):.1f} ({spread}){marks}"

    def median(self):
        return median(self.costs) if self.costs else None


def grouped(runs, *keys):
    groups = {}
    for run in runs:
        groups.setdefault(tuple(run[key] for key in keys), []).append(run)
    return groups


def table(head, rows):
    """Rows of text in columns."""
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip()
             for row in [head, ["-" * width for width in widths], *rows]]  # fmt: skip
    return "\n".join(lines)


def is_ours(name):
    return name.startswith("callgate")


def ratios(runs, name):
    """What ours takes as a share of what the best of the others takes, round by round."""
    found = []
    for _, group in sorted(grouped(usable(runs)[0], "round").items()):
        costs = {run["peer"]: cpu_per_call(run) for run in group}
        ours = costs.get(name)
        others = [cost for peer, cost in costs.items() if cost and not is_ours(peer)]
        if ours and others:
            found.append(ours / min(others))
    return found


def ratio_text(runs, name):
    found = ratios(runs, name)
    if not found:
        return "-"
    # 1/n reads as "n times less"; the spread goes from the best round to the worst.
    return f"1/{1 / median(found):.1f} (1/{1 / min(found):.1f}-1/{1 / max(found):.1f})"


def cpu_table(runs, names):
    rows = []
    for (driver, rate), group in sorted(grouped(runs, "driver", "rate").items()):
        cells = {name: Cell([run for run in group if run["peer"] == name]) for name in names}
        rows.append([driver, rate, *(cells[name].text() for name in names),
                     *(ratio_text([run for run in group if run["peer"] in names], name)
                       for name in names if is_ours(name))])  # fmt: skip
    heads = [f"{name} / best other" for name in names if is_ours(name)]
    return table(["driver", "calls/s", *names, *heads], rows)


def latency_table(runs, names):
    rows = []
    timed = [run for run in runs if "latency_us" in run]
    for (rate, peer), group in sorted(grouped(timed, "rate", "peer").items()):
        row = [rate, peer]
        for quantile in ("p50", "p99", "p99.9"):
            values = [run["latency_us"]["invite_180"][quantile] / 1000 for run in usable(group)[0]]
            row.append(f"{median(values):.3f} ({min(values):.3f}-{max(values):.3f})")
        rows.append(row)
    return table(["calls/s", "peer", "p50 ms", "p99 ms", "p99.9 ms"], rows)


def goodput_table(goodput):
    rows = []
    for name, found in goodput.items():
        for run in found["overload"]:
            share = run["goodput_per_s"] / found["rate_per_s"] if found["rate_per_s"] else 0
            rows.append([name, f"{found['rate_per_s'] or 0:.0f}", f"{run['times']}x",
                         f"{run['offered_per_s']:.0f}", f"{run['goodput_per_s']:.0f}",
                         f"{100 * share:.0f} %", run["failed"]])  # fmt: skip
    return table(["peer", "zero-failure rate", "offered", "calls/s", "goodput/s", "of rate", "failed"],
                 rows)  # fmt: skip


def held_table(held):
    rows = [[name, run["held"], f"{cpu_per_call(run):.1f}", f"{run['bytes_grown'] / 2**20:.1f}",
             f"{run['foreign_cores']:.2f}", run["failed"]] for name, run in held.items()]  # fmt: skip
    return table(["peer", "calls up", "CPU us/call", "MiB grown, transactions included", "foreign cores", "exit"], rows)


def tables(record):
    names = record["peers"]
    parts = []
    if record["runs"]:
        note = "median (lowest-highest); ~ = other processes disturbed it; !n = n calls failed"
        parts.append(f"CPU us per call, {note}\n\n" + cpu_table(record["runs"], names))
        parts.append("INVITE to 180\n\n" + latency_table(record["runs"], names))
    if record["goodput"]:
        parts.append("Goodput\n\n" + goodput_table(record["goodput"]))
    if record["held"]:
        parts.append("With calls up on one limited peer\n\n" + held_table(record["held"]))
    return "\n\n".join(parts) + "\n"


def cost_series(record):
    series = {}
    for (peer, driver, rate), group in sorted(grouped(record["runs"], "peer", "driver", "rate").items()):
        costs = Cell(group).costs
        if costs:
            point = (rate, median(costs), min(costs), max(costs))
            series.setdefault(f"{peer}, {driver}", []).append(point)
    return series


def goodput_series(record):
    series = {
        name: [(run["offered_per_s"], max(run["goodput_per_s"], 1)) for run in found["overload"]]
        for name, found in record["goodput"].items()
    }
    return {name: points for name, points in series.items() if points}


def latency_series(record, rate):
    """Percentile over latency would need the whole histogram; five points of it tell the shape."""
    shares = {"p50": 2, "p90": 10, "p99": 100, "p99.9": 1000}
    series = {}
    timed = [run for run in record["runs"] if "latency_us" in run and run["rate"] == rate]
    for (peer,), group in sorted(grouped(timed, "peer").items()):
        for quantile, one_in in shares.items():
            values = [run["latency_us"]["invite_180"][quantile] / 1000 for run in usable(group)[0]]
            point = (one_in, median(values), min(values), max(values))
            series.setdefault(peer, []).append(point)
    return series


def plots(record):
    """File names and SVG texts."""
    rates = sorted({run["rate"] for run in record["runs"]})
    wanted = {
        "cpu.svg": plot.chart("CPU per call", "calls per second", "us", cost_series(record), log_x=True),
        "goodput.svg": plot.chart("Goodput against offered load", "offered calls per second",
                                  "calls per second", goodput_series(record), log_x=True),
    }  # fmt: skip
    for rate in rates:
        wanted[f"latency-{rate}.svg"] = plot.chart(
            f"INVITE to 180 at {rate} calls per second", "one call in ... is slower", "ms",
            latency_series(record, rate), log_x=True, log_y=True)  # fmt: skip
    return {name: svg for name, svg in wanted.items() if svg}


def head(record):
    machine = record["machine"]
    return (
        f"# Comparison of {record['date']}\n\n"
        f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['memory_mib']} MiB, kernel {machine['kernel']}; "
        f"load average at the start {machine['load_average'][0]:.1f}; "
        f"commit {record['commit']}; {record['kamailio']}; {record['sipp']}\n\n"
        f"Command: `{record['command']}`\n\n"
        "A call is INVITE 100 180 200 ACK BYE 200 through one proxy on loopback; CPU is user and system\n"
        "time of all its processes. Peers take turns in each round, all of them running.\n"
    )


def write(record, directory):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "compare.json").write_text(json.dumps(record, indent=1) + "\n")
    images = plots(record)
    commands = "\n".join(record["commands"])
    shown = "\n".join(f"![{name}]({name})" for name in images)
    page = f"{head(record)}\n```\n{tables(record)}```\n\n{shown}\n\nCommands:\n\n```\n{commands}\n```\n"
    (directory / "compare.md").write_text(page)
    for name, svg in images.items():
        (directory / name).write_text(svg)
