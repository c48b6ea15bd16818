#!/usr/bin/env python3
"""Producers against an application that batches by itself: blocking writes of 1000 events. Every
write is synced to disk before it is acknowledged. Prints a Markdown table of medians.

    ./producers.py
    ./producers.py --rounds 1 --seconds 0.5
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from run import BUILD, HERE, Bench, Server, head, judged, measure, number, row, running

PROGRAM = BUILD / "flowmesh_producer"
THREADS = [1, 8]
WHERE = ["tcp", "embedded"]
BATCH = 1000
GOAL = 0.9


class Producers(Bench):
    def round(self, index):
        directory = self.base / str(index)
        directory.mkdir()
        with running(Server, self.settings.server, directory, "always") as server:
            addresses = {"tcp": server.tcp, "embedded": f"embedded:{directory}/embedded"}
            cells = []
            for where in WHERE:
                for threads in THREADS:
                    for work, *more in (("produce",), ("write", BATCH), ("enqueue",)):
                        group = "jobs" if work == "enqueue" else (where, threads)
                        run = self.cell(addresses[where], work, threads, *more)
                        cells.append(((group, where, threads, work), run))
            self.turn(cells, index)
        shutil.rmtree(directory)

    def cell(self, address, work, threads, *more):
        return lambda: measure(PROGRAM, address, work, threads, self.settings.seconds, *more)

    def show(self):
        columns = "acknowledged/s | client CPU us each | allocations each | rate to writes of 1000 (goal)"
        head(columns, "Producers, durable, 256 B", "where, threads, work")
        for where in WHERE:
            for threads in THREADS:
                group = (where, threads)
                written = (group, where, threads, "write")
                for work in ("produce", "write", "enqueue"):
                    cell = ("jobs" if work == "enqueue" else group, where, threads, work)
                    figures = [number(self.median(cell, f)) for f in ("rate", "cpu_us", "allocations")]
                    against = ""
                    if work == "produce":
                        against = judged(self.ratio(cell, written, "rate"), ">=", GOAL)
                    name = f"write {BATCH}" if work == "write" else work
                    row(f"{where} x{threads}, {name}", *figures, against)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each cell")
    parser.add_argument("--lib", default=HERE.parents[1] / "target" / "release", type=Path)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="for data directories")
    settings = parser.parse_args()
    settings.lib = settings.lib.resolve()
    settings.server = settings.lib / "flowmesh-server"
    subprocess.run(["make", "-s", "-C", HERE, f"LIB={settings.lib}"], check=True)
    bench = Producers(settings)
    try:
        for index in range(settings.rounds):
            bench.round(index)
    finally:
        shutil.rmtree(bench.base, ignore_errors=True)
    bench.show()


if __name__ == "__main__":
    main()
