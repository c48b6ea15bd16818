#!/usr/bin/env python3
"""Many calls under way from one thread: the C library against grpc++'s completion queue and its
callback API, on the same server in the same run. Prints a Markdown table of medians.

    ./in_flight.py
    ./in_flight.py --rounds 1 --seconds 0.3
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from run import BUILD, HERE, OURS, Bench, Server, head, judged, measure, number, row, running

FLOWMESH = BUILD / "flowmesh_async"
GRPC = BUILD / "grpc_async"
CONTENDERS = [("flowmesh", "run"), ("flowmesh", "callback"), ("grpc++", "cq"), ("grpc++", "callback")]
# Work and depth, with the goals: calls/s by the better of ours to the better of theirs, and CPU.
WORK = [("get", 1000, 1.5, 0.5), ("get", 150, None, None), ("write", 8, 1.1, None)]


class InFlight(Bench):
    def round(self, index):
        directory = self.base / str(index)
        directory.mkdir()
        with running(Server, self.settings.server, directory) as server:
            measure(OURS, server.tcp, "load", 1000)
            cells = [
                (((work, depth), who, how), self.cell(who, server.tcp, how, work, depth))
                for work, depth, *_ in WORK
                for who, how in CONTENDERS
            ]
            self.turn(cells, index)
        shutil.rmtree(directory)

    def cell(self, who, address, *work):
        program = FLOWMESH if who == "flowmesh" else GRPC
        return lambda: measure(program, address, *work, self.settings.seconds)

    def show(self):
        columns = "calls/s | client CPU us | calls/s to the better of grpc++ | CPU to the same"
        head(columns, "Calls under way from one thread", "work, depth, API")
        for work, depth, rate_goal, cpu_goal in WORK:
            theirs = [((work, depth), *c) for c in CONTENDERS if c[0] == "grpc++"]
            best = max(theirs, key=lambda cell: self.median(cell, "rate") or 0)
            for who, how in CONTENDERS:
                cell = ((work, depth), who, how)
                against = ["", ""]
                if who == "flowmesh":
                    # The goal for writes is that of an application that runs the dispatcher.
                    goals = (rate_goal, cpu_goal) if how == "run" or work == "get" else (None, None)
                    against = [
                        judged(self.ratio(cell, best, "rate"), ">=", goals[0]),
                        judged(self.ratio(cell, best, "cpu_us"), "<=", goals[1]),
                    ]
                figures = [number(self.median(cell, f)) for f in ("rate", "cpu_us")]
                row(f"{work} x{depth}, {who} {how}", *figures, *against)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each cell")
    parser.add_argument("--lib", default=HERE.parents[1] / "target" / "release", type=Path)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="for data directories")
    settings = parser.parse_args()
    settings.lib = settings.lib.resolve()
    settings.server = settings.lib / "flowmesh-server"
    subprocess.run(["make", "-s", "-C", HERE, f"LIB={settings.lib}"], check=True)
    bench = InFlight(settings)
    try:
        for index in range(settings.rounds):
            bench.round(index)
    finally:
        shutil.rmtree(bench.base, ignore_errors=True)
    bench.show()


if __name__ == "__main__":
    main()
