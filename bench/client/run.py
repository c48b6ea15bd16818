#!/usr/bin/env python3
"""Client benchmarks: the C library against grpc++'s blocking stubs of the same proto, on the
same server in the same run. Prints Markdown tables of medians over interleaved rounds.

    ./run.py                            everything, 5 rounds
    ./run.py --rounds 1 --seconds 0.2 --messages 20000 get

The server runs with --fsync none: the client is what is measured here. Compare figures inside
one table only; on a small virtual machine the pinned tables are the steadier ones.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
GRPC = BUILD / "grpc_client"
OURS = BUILD / "flowmesh_client"
COUNTED = BUILD / "flowmesh_counted"
RAW = BUILD / "raw"
BATCHES = [1, 10, 100, 1000]
THREADS = [1, 4, 16]
NAMES = {"asleep": "get without spinning"}
# Spinning is meant to halve it where there is a processor for that.
GET_GOALS = {"free": 0.5, "pinned": 0.9}


class Server:
    """flowmesh-server on a loopback port and a unix socket, with an empty data directory."""

    def __init__(self, binary, directory, fsync="none", more=()):
        self.unix = f"unix:{directory}/socket"
        self.log = directory / "server.log"
        argv = [binary, "--listen", "127.0.0.1:0", "--listen", self.unix]
        argv += ["--data-dir", directory / "server", "--fsync", fsync, *more]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(argv, stderr=log, stdout=log)
        self.tcp = None
        while not self.tcp:
            text = self.log.read_text(errors="replace")
            if self.process.poll() is not None:
                raise RuntimeError(f"{binary} did not start:\n{text}")
            found = re.search(r"127\.0\.0\.1:(\d+)", text)
            self.tcp = found and found[0]
            time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class RawServer:
    """The raw echo on one address."""

    def __init__(self, address):
        self.process = subprocess.Popen([RAW, "serve", address], stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()

    def stop(self):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running(start, *arguments):
    server = start(*arguments)
    try:
        yield server
    finally:
        server.stop()


def pin(pid, cpus):
    """Moves every thread of a process."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), cpus)


def measure(program, address, *arguments, cpus=None, env=None):
    """One cell: runs a client to its end and returns what it printed."""
    argv = [program, address, *map(str, arguments)]
    if program == RAW:
        argv = [program, arguments[0], address, *map(str, arguments[1:])]
    result = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **(env or {})},
        preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None,
    )
    if result.returncode:
        sys.exit(f"{' '.join(map(str, argv))}: {result.stderr.strip()}")
    return json.loads(result.stdout) if result.stdout else None


class Bench:
    """The samples of a run, by cell."""

    def __init__(self, settings):
        self.settings = settings
        self.samples = {}
        self.base = Path(tempfile.mkdtemp(prefix="flowmesh-client-", dir=settings.dir))

    def keep(self, cell, sample):
        self.samples.setdefault(cell, []).append(sample)

    def median(self, cell, figure):
        """None where the cell was not measured."""
        values = [s[figure] for s in self.samples.get(cell, []) if figure in s]
        return statistics.median(values) if values else None

    def ratio(self, cell, other, figure):
        mine, theirs = self.median(cell, figure), self.median(other, figure)
        return mine / theirs if mine and theirs else None

    def round(self, number):
        directory = self.base / str(number)
        directory.mkdir()
        embedded = f"embedded:{directory}/embedded"
        with (
            running(Server, self.settings.server, directory) as server,
            running(RawServer, "tcp") as raw_tcp,
            running(RawServer, f"unix:{directory}/raw") as raw_unix,
        ):
            for address in (server.tcp, embedded):
                measure(OURS, address, "load", self.settings.messages)
            cells = []
            if "get" in self.settings.what:
                cells += self.get_cells(server, raw_tcp, raw_unix, embedded)
            if "threads" in self.settings.what:
                cells += self.sized_cells(server, "threads", THREADS)
            if "subscribe" in self.settings.what:
                cells += self.subscribe_cells(server, embedded)
            if "write" in self.settings.what:
                cells += self.sized_cells(server, "write", BATCHES)
            self.turn(cells, number)
        shutil.rmtree(directory)

    def turn(self, cells, number):
        """Runs the groups in order; inside one, whoever was first is last in the next round."""
        for group in dict.fromkeys(name[0] for name, _ in cells):
            mine = [cell for cell in cells if cell[0][0] == group]
            first = number % len(mine)
            for name, run in mine[first:] + mine[:first]:
                self.keep(name, run())

    def get_cells(self, server, raw_tcp, raw_unix, embedded):
        seconds = self.settings.seconds
        contenders = [
            (("raw", "tcp", "get"), RAW, raw_tcp.address, raw_tcp),
            (("raw", "unix", "get"), RAW, raw_unix.address, raw_unix),
        ]
        for who, program in self.clients():
            for where, address in (("tcp", server.tcp), ("unix", server.unix)):
                contenders.append(((who, where, "get"), program, address, server))
        for who, program in self.clients():
            contenders.append(((who, "tcp", "health"), program, server.tcp, server))
        # The same calls without looking for the reply.
        for where, address in (("tcp", server.tcp), ("unix", server.unix)):
            contenders.append((("flowmesh", where, "asleep"), OURS, address, server))
        for work in ("get", "health"):
            contenders.append((("flowmesh", "embedded", work), OURS, embedded, None))

        def cell(program, address, work, other, cpus):
            def run():
                if other:
                    pin(other.process.pid, cpus or range(os.cpu_count()))
                return measure(program, address, work, seconds, cpus=cpus)

            return run

        cells = []
        for group, cpus in (("free", None), ("pinned", {0})):
            for (who, where, work), program, address, other in contenders:
                name = (group, who, where, work)
                cells.append((name, cell(program, address, work, other, cpus)))
        return cells

    def sized_cells(self, server, work, sizes):
        """Work of which each call, or each thread of callers, comes in several sizes."""

        def cell(program, size):
            return lambda: measure(program, server.tcp, work, size, self.settings.seconds)

        return [
            ((f"{work} {size}", who), cell(program, size))
            for size in sizes
            for who, program in self.clients()
        ]

    def subscribe_cells(self, server, embedded):
        cells = [(who, "tcp", program, server.tcp) for who, program in self.clients()]
        cells.append(("flowmesh", "embedded", OURS, embedded))
        cells += [("counted", "tcp", COUNTED, server.tcp), ("counted", "embedded", COUNTED, embedded)]

        def cell(program, address):
            return lambda: measure(program, address, "subscribe", self.settings.messages)

        return [(("subscribe", who, where), cell(program, address)) for who, where, program, address in cells]

    def clients(self):
        yield "flowmesh", OURS
        if GRPC.exists():
            yield "grpc++", GRPC

    # ---- tables -------------------------------------------------------------------------

    def show(self):
        if not GRPC.exists():
            print("\ngrpc++ is not installed: its rows and every ratio to it are missing.")
        if "get" in self.settings.what:
            self.show_get("free", "Blocking calls, one thread, free")
            self.show_get("pinned", "Blocking calls, one thread, client and server on one CPU")
        if "threads" in self.settings.what:
            self.show_threads()
        if "subscribe" in self.settings.what:
            self.show_subscribe()
        if "write" in self.settings.what:
            self.show_write()

    def show_get(self, group, title):
        head("p50 us | p99 us | client CPU us | p50 to grpc++ (goal)", title)
        for who, where, work in [
            ("raw", "tcp", "get"),
            ("flowmesh", "tcp", "get"),
            ("flowmesh", "tcp", "asleep"),
            ("grpc++", "tcp", "get"),
            ("raw", "unix", "get"),
            ("flowmesh", "unix", "get"),
            ("flowmesh", "unix", "asleep"),
            ("grpc++", "unix", "get"),
            ("flowmesh", "tcp", "health"),
            ("grpc++", "tcp", "health"),
            ("flowmesh", "embedded", "get"),
            ("flowmesh", "embedded", "health"),
        ]:
            cell = (group, who, where, work)
            figures = [number(self.median(cell, f)) for f in ("p50_us", "p99_us", "cpu_us")]
            against = ""
            if where == "embedded":
                times = self.ratio((group, "grpc++", "tcp", work), cell, "p50_us")
                against = judged(times, ">=", {"get": 10, "health": 40}[work], "x faster than tcp")
            elif who == "flowmesh":
                same = "health" if work == "health" else "get"
                share = self.ratio(cell, (group, "grpc++", where, same), "p50_us")
                against = judged(share, "<=", GET_GOALS[group] if work == "get" else None)
            name = "64 B ping-pong" if who == "raw" else NAMES.get(work, work)
            row(f"{who} {where}, {name}", *figures, against)

    def show_threads(self):
        title = "Blocking gets on threads that share a client: calls/s (client CPU us per call)"
        head("flowmesh | grpc++ | calls/s ratio (goal) | CPU ratio", title, "threads")
        for threads in THREADS:
            self.show_pair(f"threads {threads}", str(threads), 1.4 if threads == 16 else None)

    def show_pair(self, group, name, goal):
        """Ours beside theirs, by rate and CPU."""
        mine, theirs = (group, "flowmesh"), (group, "grpc++")
        cells = [
            f"{number(self.median(c, 'rate'))} ({number(self.median(c, 'cpu_us'))})" for c in (mine, theirs)
        ]
        against = judged(self.ratio(mine, theirs, "rate"), ">=", goal)
        row(name, *cells, against, judged(self.ratio(mine, theirs, "cpu_us"), "<=", None))

    def show_subscribe(self):
        title = f"Subscription, {self.settings.messages:,} stored messages of 256 B"
        columns = "messages/s | client CPU us each | allocations each (goal) |"
        columns += " messages/s to grpc++ (goal) | CPU to grpc++ (goal)"
        head(columns, title)
        theirs = ("subscribe", "grpc++", "tcp")
        for who, where in (("flowmesh", "tcp"), ("grpc++", "tcp"), ("flowmesh", "embedded")):
            cell = ("subscribe", who, where)
            figures = [number(self.median(cell, f)) for f in ("rate", "cpu_us")]
            against = ["", "", ""]
            if who == "flowmesh":
                # Those of a chunk of messages count, but do not amount to one in a hundred.
                allocations = self.median(("subscribe", "counted", where), "allocations")
                goals = (3, 0.2) if where == "tcp" else (None, None)
                against = [
                    judged(allocations, "<=", 0.01),
                    judged(self.ratio(cell, theirs, "rate"), ">=", goals[0]),
                    judged(self.ratio(cell, theirs, "cpu_us"), "<=", goals[1]),
                ]
            row(f"{who} {where}", *figures, *against)

    def show_write(self):
        title = "Writes, one call at a time, 256 B events: events/s (client CPU us per event)"
        head("flowmesh | grpc++ | events/s ratio (goal) | CPU ratio", title, "events per call")
        for batch in BATCHES:
            self.show_pair(f"write {batch}", str(batch), 1.3 if batch >= 100 else None)


def head(columns, title, first="client"):
    print(f"\n### {title}\n\n| {first} | {columns} |\n|{'---|' * (columns.count('|') + 2)}")


def row(*cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def judged(ratio, relation, goal, unit=""):
    """A ratio with its goal, marked when it is missed."""
    if ratio is None:
        return "no grpc++"
    text = f"{ratio:.2f}{unit}"
    if goal is None:
        return text
    met = ratio >= goal if relation == ">=" else ratio <= goal
    return f"{text} ({relation} {goal}{'' if met else ', missed'})"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", help="get, threads, subscribe, write (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each timed cell")
    parser.add_argument("--messages", type=int, default=500_000, help="stored for a subscription")
    parser.add_argument("--lib", default=HERE.parents[1] / "target" / "release", type=Path)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="for data directories")
    settings = parser.parse_args()
    every = ["get", "threads", "subscribe", "write"]
    unknown = set(settings.what) - set(every)
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    settings.what = settings.what or every
    settings.lib = settings.lib.resolve()
    settings.server = settings.lib / "flowmesh-server"
    subprocess.run(["make", "-s", "-C", HERE, f"LIB={settings.lib}"], check=True)
    bench = Bench(settings)
    try:
        for i in range(settings.rounds):
            print(f"round {i + 1} of {settings.rounds}", file=sys.stderr, flush=True)
            bench.round(i)
    finally:
        shutil.rmtree(bench.base, ignore_errors=True)
    bench.show()


if __name__ == "__main__":
    main()
