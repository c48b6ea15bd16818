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
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
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
    server = None
    address = f"embedded:{directory}/data"
    if not embedded:
        log = directory / "log"
        with open(log, "wb") as out:
            argv = [RELEASE / "flowmesh-server", "--listen", "127.0.0.1:0", "--data-dir", directory / "data"]
            server = subprocess.Popen(argv, stderr=out)
        while not (found := re.search(r"127\.0\.0\.1:\d+", log.read_text())):
            time.sleep(0.05)
        address = found[0]
    peer = ["flowmesh_embedded" if embedded else "flowmesh", address, str(server.pid if server else 0)]
    subprocess.run([bench, *peer, work[0]], check=True, env=env)
    data = directory / "perf"
    record = ["perf", "record", "-q", "-F", "4000", "-o", data]
    pid = ["-p", str(server.pid)] if server else []
    caller = [bench, *peer, work]
    if server:
        recorder = subprocess.Popen([*record, *pid], stderr=subprocess.DEVNULL)
        own = ["perf", "record", "-q", "-F", "4000", "-o", directory / "perf-caller", *caller]
        subprocess.run(own, check=True, env=env, stdout=subprocess.DEVNULL)
        recorder.terminate()
        recorder.wait()
        server.terminate()
        server.wait()
        return {"server": shares(data), "caller": shares(directory / "perf-caller")}
    subprocess.run([*record, *caller], check=True, env=env, stdout=subprocess.DEVNULL)
    return {"caller": shares(data)}


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
