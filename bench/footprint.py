#!/usr/bin/env python3
"""What the library and the server cost when they do nothing: bytes, threads, wake-ups.

    ./footprint.py             the library in target/release, idle clients, an idle server
    ./footprint.py --build     also with and without the feature `embedded`, from nothing (slow)

Prints Markdown tables. Wake-ups are the voluntary context switches of all threads of a process.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench" / "client"))
from run import GRPC, HERE, OURS, Server, head, row, running  # noqa: E402


class Activity:
    """CPU and sleeps of a process so far, over its living threads."""

    def __init__(self, pid):
        self.at = time.monotonic()
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        self.threads = len(tasks)
        self.cpu_us = sum(int((t / "schedstat").read_text().split()[0]) for t in tasks) / 1000
        self.sleeps = sum(self.switches(t / "status") for t in tasks)

    @staticmethod
    def switches(status):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                return int(line.split()[1])
        return 0


def watch(pid, seconds):
    """Threads, CPU us/s and wake-ups/s of a process, after a second in which it may settle."""
    time.sleep(1)
    before = Activity(pid)
    time.sleep(seconds)
    after = Activity(pid)
    elapsed = after.at - before.at
    cpu, sleeps = after.cpu_us - before.cpu_us, after.sleeps - before.sleeps
    return [str(after.threads), f"{cpu / elapsed:.0f}", f"{sleeps / elapsed:.1f}"]


def resident(pid):
    """The memory of a process, in bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024


class Idler:
    """A client that has connected and now does nothing."""

    def __init__(self, program, address, subscriptions):
        self.process = subprocess.Popen(
            [program, address, "idle", str(subscriptions)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{program} {address} idle failed")

    def stop(self):
        self.process.communicate("")


def idle(settings):
    base = Path(tempfile.mkdtemp(prefix="flowmesh-idle-", dir=settings.dir))
    embedded = f"embedded:{base}/embedded"
    columns = "threads | CPU us/s | wake-ups/s"
    try:
        with running(Server, settings.lib / "flowmesh-server", base) as server:
            head(columns, "Idle client, connected", "client")
            cells = [("flowmesh tcp", OURS, server.tcp, 0)]
            cells.append(("flowmesh tcp, a subscription", OURS, server.tcp, 1))
            cells.append(("flowmesh embedded", OURS, embedded, 0))
            if GRPC.exists():
                cells.append(("grpc++ tcp", GRPC, server.tcp, 0))
            for name, program, address, subscriptions in cells:
                with running(Idler, program, address, subscriptions) as client:
                    row(name, *watch(client.process.pid, settings.seconds))
            columns += " | bytes a subscription"
            title = "Caught-up subscriptions of one client, nothing written"
            head(columns, title, "process")
            alone, many = {}, settings.subscribers
            for count in (1, many):
                with running(Idler, OURS, server.tcp, count) as client:
                    for who, pid in (("client", client.process.pid), ("server", server.process.pid)):
                        figures, memory = watch(pid, settings.seconds), resident(pid)
                        each = f"{(memory - alone[who]) / (many - 1):.0f}" if who in alone else ""
                        alone.setdefault(who, memory)
                        row(f"{who}, {count:,} subscriptions", *figures, each)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def stripped(library, into):
    copy = Path(into) / library.name
    subprocess.run(["strip", "-o", copy, library], check=True)
    return f"{copy.stat().st_size / 1e6:.2f}"


def sizes(settings):
    title = "Shared library"
    columns = "stripped, MB | clean build, s"
    with tempfile.TemporaryDirectory() as into:
        if not settings.build:
            head(columns, title, "features")
            row("default", stripped(settings.lib / "libflowmesh.so", into), "-")
            return
        rows = []
        for name, features in (("default", []), ("without embedded", ["--no-default-features"])):
            target = Path(into) / "target"
            argv = ["cargo", "rustc", "-q", "--release", "--lib", "--target-dir", target]
            argv += [*features, "--crate-type", "cdylib,staticlib"]
            started = time.monotonic()
            subprocess.run(argv, check=True, cwd=ROOT)
            took = time.monotonic() - started
            rows.append((name, stripped(target / "release/libflowmesh.so", into), f"{took:.0f}"))
            shutil.rmtree(target)
        head(columns, title, "features")
        for cells in rows:
            row(*cells)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", action="store_true")
    parser.add_argument("--seconds", type=float, default=5.0, help="to watch each process")
    parser.add_argument("--subscribers", type=int, default=10_000)
    parser.add_argument("--lib", default=ROOT / "target" / "release", type=Path)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="for data directories")
    settings = parser.parse_args()
    settings.lib = settings.lib.resolve()
    subprocess.run(["make", "-s", "-C", HERE, f"LIB={settings.lib}"], check=True)
    sizes(settings)
    idle(settings)


if __name__ == "__main__":
    main()
