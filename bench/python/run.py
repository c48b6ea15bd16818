#!/usr/bin/env python3
"""The Python package against grpcio's asyncio stubs of the same proto, on the same server in the same
run. Prints a Markdown table of medians over interleaved rounds.

    ./run.py                                     5 rounds
    ./run.py --rounds 1 --seconds 0.2 --messages 20000

Stubs and virtual environment go to target/python. The server runs with --fsync none: the clients are
what is measured. Compare figures inside one table only.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PYTHON = ROOT / "target" / "python"
VENV = PYTHON / "bench-venv"
STUBS = PYTHON / "grpc"
GRPC = ["grpcio==1.85.1", "grpcio-tools==1.85.1"]
KINDS = ["flowmesh", "grpc"]
# What, its figures, and the ratio that is the goal.
WORK = [("get", "1"), ("get", "1000"), ("subscribe",)]
NAMES = {
    ("get", "1"): "kv get, 1 await",
    ("get", "1000"): "kv get, 1,000 awaits",
    ("subscribe",): "subscription, 256 B",
}
GOALS = {("get", "1"): 2, ("get", "1000"): 2, ("subscribe",): 5}

sys.path.insert(0, str(ROOT / "bench" / "client"))
from run import Server, head, judged, number, row, running  # noqa: E402  (the same server, the same tables)


def prepare(library):
    """The package and grpcio in an environment of their own, and the stubs."""
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, *GRPC], check=True)
    environment = {**os.environ, "FLOWMESH_LIBRARY_DIR": str(library)}
    subprocess.run([*install, ROOT / "bindings" / "python"], check=True, env=environment)
    shutil.rmtree(STUBS, ignore_errors=True)
    STUBS.mkdir(parents=True)
    proto = ROOT / "proto"
    command = [python, "-m", "grpc_tools.protoc", f"-I{proto}", f"--python_out={STUBS}"]
    subprocess.run(
        [*command, f"--grpc_python_out={STUBS}", proto / "flowmesh" / "v1" / "flowmesh.proto"], check=True
    )
    # A regular package, found first: the stubs' package has the name of ours.
    (STUBS / "flowmesh" / "__init__.py").touch()
    return python


def measure(python, kind, address, *work):
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    if kind == "grpc":
        environment["PYTHONPATH"] = str(STUBS)
    command = [python, HERE / "client.py", kind, address, *work]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return json.loads(done.stdout) if done.stdout else None


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each timed cell")
    parser.add_argument("--messages", type=int, default=200_000, help="stored for a subscription")
    parser.add_argument("--lib", default=ROOT / "target" / "release", type=Path)
    parser.add_argument("--server", type=Path, help="default: flowmesh-server beside the library")
    settings = parser.parse_args()
    library = settings.lib.resolve()
    server_binary = settings.server or library / "flowmesh-server"
    python = prepare(library)
    samples = {}
    for turn in range(settings.rounds):
        print(f"round {turn + 1} of {settings.rounds}", file=sys.stderr, flush=True)
        directory = Path(tempfile.mkdtemp(prefix="flowmesh-python-"))
        try:
            with running(Server, server_binary, directory) as server:
                measure(python, "flowmesh", server.tcp, "load", str(settings.messages))
                for work in WORK:
                    arguments = (
                        ("get", str(float(settings.seconds)), work[1])
                        if work[0] == "get"
                        else ("subscribe", str(settings.messages))
                    )
                    for kind in KINDS[:: 1 if turn % 2 == 0 else -1]:
                        sample = measure(python, kind, server.tcp, *arguments)
                        samples.setdefault((work, kind), []).append(sample)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    show(samples)


def show(samples):
    def median(work, kind, figure):
        values = [s[figure] for s in samples[work, kind] if figure in s]
        return statistics.median(values) if values else None

    columns = "flowmesh /s | grpcio /s | ratio (goal) | flowmesh p50 us | grpcio p50 us"
    columns += " | flowmesh CPU us each | grpcio CPU us each"
    head(columns, "Python, asyncio, over TCP", "work")
    for work in WORK:
        rates = [median(work, kind, "rate") for kind in KINDS]
        times = [number(median(work, kind, "p50_us")) for kind in KINDS]
        cpu = [number(median(work, kind, "cpu_us")) for kind in KINDS]
        ratio = judged(rates[0] / rates[1], ">=", GOALS[work])
        row(NAMES[work], *map(number, rates), ratio, *times, *cpu)


if __name__ == "__main__":
    main()
