#!/usr/bin/env python3
"""Workers against threads that reserve and ack by themselves: jobs through reserve, handle, ack. Every
ack is synced to disk before it counts. Prints a Markdown table of medians.

    ./workers.py
    ./workers.py --rounds 1 --jobs 500
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from run import BUILD, HERE, Bench, Server, head, measure, number, row, running

PROGRAM = BUILD / "flowmesh_worker"
CONCURRENCY = [1, 16, 256]
WHERE = ["tcp", "embedded"]


class Workers(Bench):
    def round(self, index):
        directory = self.base / str(index)
        directory.mkdir()
        with running(Server, self.settings.server, directory, "always") as server:
            addresses = {"tcp": server.tcp, "embedded": f"embedded:{directory}/embedded"}
            cells = []
            for where in WHERE:
                for concurrency in CONCURRENCY:
                    for how in ("worker", "loop"):
                        run = self.cell(addresses[where], how, concurrency)
                        cells.append((((where, concurrency), how), run))
            self.turn(cells, index)
        shutil.rmtree(directory)

    def cell(self, address, how, concurrency):
        # A lone loop waits for every sync: fewer jobs say as much.
        jobs = max(self.settings.jobs // 10, 100) if (how, concurrency) == ("loop", 1) else self.settings.jobs
        return lambda: measure(PROGRAM, address, how, concurrency, jobs)

    def show(self):
        columns = "jobs/s | client CPU us each | rate to the loop's"
        head(columns, "Workers, durable, 256 B", "where, concurrency")
        for where in WHERE:
            for concurrency in CONCURRENCY:
                group = (where, concurrency)
                for how in ("worker", "loop"):
                    figures = [number(self.median((group, how), f)) for f in ("rate", "cpu_us")]
                    ratio = self.ratio((group, "worker"), (group, "loop"), "rate")
                    against = f"{ratio:.2f}" if how == "worker" and ratio else ""
                    row(f"{where} x{concurrency}, {how}", *figures, against)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=20000, help="of each cell")
    parser.add_argument("--lib", default=HERE.parents[1] / "target" / "release", type=Path)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="for data directories")
    settings = parser.parse_args()
    settings.lib = settings.lib.resolve()
    settings.server = settings.lib / "flowmesh-server"
    subprocess.run(["make", "-s", "-C", HERE, f"LIB={settings.lib}"], check=True)
    bench = Workers(settings)
    try:
        for index in range(settings.rounds):
            bench.round(index)
    finally:
        shutil.rmtree(bench.base, ignore_errors=True)
    bench.show()


if __name__ == "__main__":
    main()
