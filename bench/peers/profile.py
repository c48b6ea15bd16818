#!/usr/bin/env python3
"""Where the time of one workload goes, by part: perf over the server and the caller.

    ./profile.py S2 Q2x16            over TCP
    ./profile.py --embedded Q2x16    the engine in the caller's process

Wants `make bench-peers` to have built build/bench, and perf. A part is told by the names in the
innermost frame; what has no name of ours is put down to the library or kernel it is in.
"""

import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "client"))
from run import Server, running  # noqa: E402

RELEASE = HERE.parents[1] / "target" / "release"
PARTS = [
    ("waiting and waking", r"futex|sched|epoll|eventfd|pthread_|idle|_raw_spin|finish_task|wake"),
    ("files and syncs", r"ext4|jbd2|vfs_|blk_|bio_|submit_|fsync|fdatasync|pwrite|pread|fcntl|virtio|page_"),
    ("sockets", r"tcp_|sock_|skb_|inet_|ip_|sendmsg|recvmsg|net_rx|__netif|nf_|loopback"),
    ("SQLite", r"^sqlite3|btree|^vdbe|Vdbe|pager|wal[A-Z]|pcache|rusqlite|^unix[A-Z]|^moveTo|allocateSpace"),
    ("allocator", r"malloc|^free$|cfree|_int_free|realloc|calloc|unlink_chunk|sysmalloc|consolidate"),
    ("HTTP/2", r"h2::|hpack|http::|http_body|bytes::|hash_elem"),
    ("gRPC and protobuf", r"tonic|prost|flowmesh_proto|tower"),
    ("runtime", r"tokio|mio::|futures"),
    ("copies", r"mem(move|cpy|set|cmp)"),
    ("our server", r"flowmesh_server"),
    ("our client", r"flowmesh::|flowmesh_"),
]


def part(symbol, library):
    for name, pattern in PARTS:
        if re.search(pattern, symbol):
            return name
    return "kernel, other" if library.startswith("[") else f"other, {library}"


def profile(directory, work, embedded):
    bench = HERE / "build" / "bench"
    env = {**os.environ, "Q3_JOBS": "20000"}

    def prepare(*peer):
        subprocess.run([bench, *peer, work[0]], check=True, env=env)

    def call(*peer):
        argv = [*record(directory / "caller.perf"), bench, *peer, work]
        subprocess.run(argv, check=True, env=env, stdout=subprocess.DEVNULL)
        return shares(directory / "caller.perf")

    if embedded:
        peer = ["flowmesh_embedded", f"embedded:{directory}/data", "0"]
        prepare(*peer)
        return {"caller": call(*peer)}
    with running(Server, RELEASE / "flowmesh-server", directory, "always") as server:
        pid = str(server.process.pid)
        peer = ["flowmesh", server.tcp, pid]
        prepare(*peer)
        argv = [*record(directory / "server.perf"), "-p", pid]
        recorder = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        caller = call(*peer)
        recorder.terminate()
        recorder.wait()
    return {"server": shares(directory / "server.perf"), "caller": caller}


def record(data):
    return ["perf", "record", "-q", "-F", "4000", "-o", data]


def shares(data):
    """Percent of the samples by part, and the dearest functions."""
    report = ["perf", "report", "-i", data, "--stdio", "-g", "none", "-F", "overhead,dso,sym", "-t", "\t"]
    text = subprocess.run(report, capture_output=True, text=True, check=True).stdout
    parts, functions = collections.Counter(), []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != 3 or not fields[0].endswith("%"):
            continue
        percent, library = float(fields[0][:-1]), fields[1]
        symbol = re.sub(r"^\[.\] ", "", fields[2])
        parts[part(symbol, library)] += percent
        functions.append((percent, symbol))
    return parts, functions[:8]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("works", nargs="+", metavar="WORKLOAD")
    parser.add_argument("--embedded", action="store_true")
    settings = parser.parse_args()
    for work in settings.works:
        with tempfile.TemporaryDirectory(prefix="flowmesh-profile-") as directory:
            for who, (parts, functions) in profile(Path(directory), work, settings.embedded).items():
                print(f"\n{work}, {who}: share of its CPU time, percent")
                for name, percent in parts.most_common():
                    if percent >= 0.5:
                        print(f"  {percent:5.1f}  {name}")
                dearest = "; ".join(f"{symbol[:60]} {percent:.1f}" for percent, symbol in functions)
                print(f"  dearest: {dearest}")


if __name__ == "__main__":
    main()
