#!/usr/bin/env python3
"""Starts each peer on a throwaway directory, runs WORKLOADS.md against it, N
rounds interleaved, and prints medians as JSON lines and a table.

  ./run.py --install        packages, nats-server and Kafka (once a machine)
  ./run.py                  3 rounds of everything
  ./run.py --rounds 1 --peers nats,redis --groups S

BENCH_LOCK=FILE takes an flock on FILE around every measured stretch. Data go to
a directory under --dir (default: the temporary directory; not a tmpfs).
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
BENCH = BUILD / "bench"
GOBIN, KAFKA, ETCD = BUILD / "bin", BUILD / "kafka", BUILD / "etcd"
LIB = Path(
    os.environ.get("LIB", HERE.parents[1] / "target" / "release")
).resolve()  # libflowmesh and its server
PACKAGES = [
    "gcc",
    "make",
    "nats-server",
    "libnats-dev",
    "redis-server",
    "libhiredis-dev",
    "postgresql",
    "libpq-dev",
    "beanstalkd",
    "librdkafka-dev",
    "etcd-server",
    "libgrpc++-dev",
    "libprotobuf-dev",
    "pkg-config",
    "protobuf-compiler",
    "protobuf-compiler-grpc",
    "default-jre-headless",
    "maven",
]
KAFKA_VERSION = "4.1.0"


def install():
    """Installs what the peers need; what cannot be had is named, and fails only in CI."""
    # RUNLEVEL: start no service.
    env = dict(os.environ, RUNLEVEL="1", DEBIAN_FRONTEND="noninteractive", GOBIN=str(GOBIN))
    missing = []

    def attempt(name, *argv, **how):
        with contextlib.suppress(OSError):
            if not subprocess.run(argv, env=env, **how).returncode:
                return
        missing.append(name)

    apt = ["apt-get", "install", "-yq", "--no-install-recommends"]
    attempt("package lists", "apt-get", "update", "-q")
    if subprocess.run([*apt, *PACKAGES], env=env).returncode:
        for package in PACKAGES:
            attempt(package, *apt, package)
    attempt("nats-server", "go", "install", "github.com/nats-io/nats-server/v2@latest")
    # The module of etcd's server cannot be go-installed, so a main of our own.
    ETCD.mkdir(parents=True, exist_ok=True)
    (ETCD / "main.go").write_text(
        'package main\n\nimport (\n\t"os"\n\n\t"go.etcd.io/etcd/server/v3/etcdmain"\n)\n\n'
        "func main() { etcdmain.Main(os.Args) }\n"
    )
    module = "[ -f go.mod ] || go mod init etcd && go get go.etcd.io/etcd/server/v3@latest"
    attempt("etcd", "sh", "-c", f"({module}) && go build -o {GOBIN}/etcd .", cwd=ETCD)
    KAFKA.mkdir(parents=True, exist_ok=True)
    (KAFKA / "pom.xml").write_text(
        "<project><modelVersion>4.0.0</modelVersion><groupId>x</groupId>"
        "<artifactId>x</artifactId><version>1</version><dependencies><dependency>"
        "<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>"
        f"<version>{KAFKA_VERSION}</version></dependency></dependencies></project>"
    )
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=libs"]
    attempt("Kafka's jars", "mvn", "-q", "-B", *copy, cwd=KAFKA)
    for name in missing:
        print(f"skipped: {name} cannot be installed here", file=sys.stderr)
    if missing and os.environ.get("CI"):
        sys.exit(1)


# ---- servers: each returns (argv, Popen settings) ---------------------------


def newest(name):
    """Our Go build of a server, else the one on the PATH."""
    return str(GOBIN / name) if (GOBIN / name).exists() else name


def nats(d, port, relaxed):
    (d / "nats.conf").write_text(
        f'listen: "127.0.0.1:{port}"\n'
        f'jetstream {{ store_dir: "{d}/js", max_file_store: 64GB, max_memory_store: 1GB, '
        f"sync_interval: {'2m' if relaxed else 'always'} }}\n"
    )
    return [newest("nats-server"), "-c", str(d / "nats.conf")], {}


def redis(d, port, relaxed):
    return [
        "redis-server",
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--dir",
        str(d),
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        "no" if relaxed else "always",
        "--daemonize",
        "no",
    ], {}


def postgres(d, port, relaxed):
    data, bin_dir = (
        d / "pg",
        Path(subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True).stdout.strip()),
    )
    as_pg = dict(user="postgres", group="postgres", extra_groups=[])
    if not data.exists():
        shutil.chown(d, "postgres", "postgres")
        subprocess.run(
            [bin_dir / "initdb", "-D", data, "-A", "trust", "-U", "postgres"],
            check=True,
            cwd=d,
            stdout=subprocess.DEVNULL,
            **as_pg,
        )
    on = "off" if relaxed else "on"
    return [
        bin_dir / "postgres",
        "-D",
        data,
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-k",
        "",
        "-c",
        f"synchronous_commit={on}",
        "-c",
        "fsync=on",
        "-c",
        "shared_buffers=1GB",
        "-c",
        "max_wal_size=4GB",
    ], as_pg


def beanstalkd(d, port, relaxed):
    (d / "wal").mkdir(exist_ok=True)
    return [
        "beanstalkd",
        "-l",
        "127.0.0.1",
        "-p",
        str(port),
        "-b",
        str(d / "wal"),
        *(["-F"] if relaxed else ["-f", "0"]),
    ], {}


def kafka(d, port, relaxed):
    java = ["java", "-Xmx2G", "-Xms2G", "-XX:+UseG1GC", "-cp", f"{KAFKA}/libs/*"]
    conf = d / "server.properties"
    fresh = not conf.exists()
    controller = free_port()
    conf.write_text(
        "process.roles=broker,controller\nnode.id=1\n"
        f"controller.quorum.voters=1@127.0.0.1:{controller}\n"
        f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n"
        f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n"
        f"log.dirs={d}/kafka\noffsets.topic.replication.factor=1\n"
        f"transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n"
        "group.initial.rebalance.delay.ms=0\n" + ("" if relaxed else "log.flush.interval.messages=1\n")
    )
    if fresh:
        subprocess.run(
            [
                *java,
                "kafka.tools.StorageTool",
                "format",
                "-t",
                "AAAAAAAAQACAAAAAAAAAAA",
                "-c",
                conf,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return [*java, "kafka.Kafka", str(conf)], {}


def etcd(d, port, relaxed):
    peer = free_port()
    return [
        newest("etcd"),
        "--data-dir",
        str(d / "etcd"),
        "--listen-client-urls",
        f"http://127.0.0.1:{port}",
        "--advertise-client-urls",
        f"http://127.0.0.1:{port}",
        "--listen-peer-urls",
        f"http://127.0.0.1:{peer}",
        "--initial-advertise-peer-urls",
        f"http://127.0.0.1:{peer}",
        "--initial-cluster",
        f"default=http://127.0.0.1:{peer}",
        "--quota-backend-bytes",
        str(8 << 30),
        *(["--unsafe-no-fsync"] if relaxed else []),
    ], {}


def flowmesh(d, port, relaxed):
    return [
        LIB / "flowmesh-server",
        "--listen",
        f"127.0.0.1:{port}",
        "--data-dir",
        str(d / "flowmesh"),
        "--fsync",
        "none" if relaxed else "always",
    ], {}


def in_process(d):
    """The address of a peer without a server: a directory."""
    return f"embedded:{d / 'flowmesh'}"


S, Q, K = (
    ["S1", "S2", "S3", "S4", "S5"],
    ["Q1", "Q1x16", "Q2", "Q2x16", "Q3", "Q4"],
    ["K1", "K1x16", "K2", "K2x16"],
)
NOTIFY = {"PG_NOTIFY": "1"}
# peer: (how to start its server, what it runs); a workload may name another client of
# the same server, or settings, or both
PEERS = {
    "file": (None, {"S": S[:4]}),
    "flowmesh": (flowmesh, {"S": S, "Q": Q, "K": K}),
    "flowmesh_embedded": (in_process, {"S": S, "Q": Q, "K": K}),
    "nats": (nats, {"S": S + [("nats_async", "S3", {})], "Q": Q, "K": K}),
    "redis": (redis, {"S": S + [("redis_multi", "S3", {})], "Q": Q, "K": K}),
    "redis_list": (redis, {"Q": Q}),
    "postgres": (
        postgres,
        {
            "S": S[:4] + [("postgres", "S5", NOTIFY)],
            "Q": Q[:5] + [("postgres", "Q4", NOTIFY)],
            "K": K,
        },
    ),
    "beanstalkd": (beanstalkd, {"Q": Q}),
    "kafka": (kafka, {"S": S}),
    "etcd": (etcd, {"K": K}),
}

OURS = ("flowmesh_embedded", "flowmesh")
# Goals over TCP: at least this share of the best peer. Embedded is to be ahead in every row.
GOALS = {w: 1.0 for w in ("S2", "S3", "S4", "S5", "Q2x16", "Q4")} | {w: 0.4 for w in ("K2", "K2x16")}

WARM = {"kafka": ["S2", "S1", "S5"]}  # a JVM needs some 10 s of work before it is compiled


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, start, d, relaxed):
        self.port, self.stop_signal = (
            free_port(),
            signal.SIGINT if start is postgres else signal.SIGTERM,
        )  # SIGINT: "fast"
        argv, how = start(d, self.port, relaxed)
        self.log = open(d / "server.log", "ab")  # noqa: SIM115 (closed by stop)
        self.proc = subprocess.Popen(
            argv, stdout=self.log, stderr=self.log, cwd=d, start_new_session=True, **how
        )
        for _ in range(600):
            if self.proc.poll() is not None:
                break
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                time.sleep(0.5)  # listening is not yet recovered
                return
            time.sleep(0.1)
        self.stop()
        raise RuntimeError(
            f"{argv[0]} did not start:\n" + (d / "server.log").read_text(errors="replace")[-2000:]
        )

    def stop(self):
        if self.proc.poll() is None:
            self.proc.send_signal(self.stop_signal)
            try:
                self.proc.wait(60)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        self.log.close()


def bench(peer, addr, pid, work, env, timeout=170):
    r = subprocess.run(
        [BENCH, peer, addr, str(pid), work],
        env=dict(os.environ, **env),
        timeout=timeout,
        capture_output=True,
        text=True,
    )
    if r.returncode or r.stderr:
        print(
            f"!! {peer} {work}: exit {r.returncode}: {r.stderr.strip()[:500]}",
            file=sys.stderr,
            flush=True,
        )
    return [json.loads(x) for x in r.stdout.splitlines()] if not r.returncode else []


@contextlib.contextmanager
def lock():
    path = os.environ.get("BENCH_LOCK")
    if not path:
        yield
        return
    with open(path, "a") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def prepare(peer, client, addr, pid, group, env=None):
    for attempt in range(40):  # a server may listen before it answers
        r = subprocess.run(
            [BENCH, client, addr, str(pid), group],
            capture_output=True,
            text=True,
            timeout=400,
            env=dict(os.environ, **(env or {})),
        )
        if not r.returncode:
            return
        if attempt == 39 or "already exists" in r.stderr or "load" in r.stderr:
            raise RuntimeError(f"prepare {peer} {group}: {r.stderr[-500:]}")
        time.sleep(0.5)


def cell(peer, group, base, only, relaxed, keep):
    """One peer, one group: load with syncing off, restart durable, measure; keep each sample."""
    start, groups = PEERS[peer]
    works = [w if isinstance(w, tuple) else (peer, w, {}) for w in groups[group]]
    works = [w for w in works if not only or w[1] in only]
    if not works:
        return
    d = Path(tempfile.mkdtemp(prefix=f"{peer}-{group}-", dir=base))
    d.chmod(0o755)
    (d / "disk").mkdir()
    server = None
    try:
        addr, pid, settings = str(d / "disk"), 0, {}
        if start is in_process:  # its fsync policy is the client's to choose
            addr, settings = in_process(d), {"RELAXED": "1"} if relaxed else {}
            prepare(peer, peer, addr, pid, group, {"RELAXED": "1"})
        elif start:
            server = Server(start, d, relaxed=True)
            prepare(peer, peer, f"127.0.0.1:{server.port}", server.proc.pid, group)
            server.stop()
            server = Server(start, d, relaxed)
            addr, pid = f"127.0.0.1:{server.port}", server.proc.pid
        prepare("file", "file", str(d / "disk"), 0, "S")
        for work in WARM.get(peer, []):
            bench(peer, addr, pid, work, {"SECS": "5"})
        os.sync()
        with lock():
            disk = bench("file", str(d / "disk"), 0, "S1", {"SECS": "3" if peer == "file" else "1"})
            for client, work, env in works:
                for row in bench(client, addr, pid, work, dict(settings, **env)):
                    keep(dict(row, group=group, fdatasync_per_s=disk[0]["rate"] if disk else None))
    except Exception as e:
        print(f"!! {peer} {group}: {e}", file=sys.stderr, flush=True)
    finally:
        if server:
            server.stop()
        shutil.rmtree(d, ignore_errors=True)


def versions():
    def first(*argv):
        with contextlib.suppress(OSError):
            return subprocess.run(argv, capture_output=True, text=True).stdout.splitlines()[0]

    pk = subprocess.run(
        [
            "dpkg-query",
            "-W",
            "-f",
            "${Package} ${Version}, ",
            "libnats-dev",
            "libhiredis-dev",
            "redis-server",
            "postgresql-15",
            "libpq-dev",
            "beanstalkd",
            "librdkafka-dev",
            "etcd-server",
            "libgrpc++-dev",
        ],
        capture_output=True,
        text=True,
    ).stdout
    servers = [first(newest(name), "--version") for name in ("nats-server", "etcd")]
    servers += [f"Kafka {KAFKA_VERSION}", first("java", "--version") or "java"]
    return f"{pk}{', '.join(map(str, servers))}; {os.cpu_count()} CPUs, Linux {os.uname().release}"


def show(rows):
    keys = [
        "rate",
        "p50_us",
        "p99_us",
        "server_cpu_s_per_M",
        "client_cpu_s_per_M",
        "fdatasync_per_s",
    ]
    med = {}
    for r in rows:
        med.setdefault((r["work"], r["peer"]), []).append(r)
    for (work, peer), rs in med.items():
        med[work, peer] = m = {
            k: statistics.median(r[k] for r in rs) for k in keys if all(r.get(k) is not None for r in rs)
        }
        m["rate_min"], m["rate_max"] = min(r["rate"] for r in rs), max(r["rate"] for r in rs)
        print(json.dumps({"median": work, "peer": peer, "rounds": len(rs), **m}))
    peers = [
        p
        for p in [*OURS, "file", "nats", "nats_async", "redis", "redis_multi", *PEERS]
        if any(k[1] == p for k in med)
    ]
    peers = list(dict.fromkeys(peers))

    def table(title, fmt):
        print(f"\n{title}\n\n| | " + " | ".join(peers) + " |\n|" + "---|" * (len(peers) + 1))
        for w in S + Q + K:
            cells = [fmt(w, med[w, p]) if (w, p) in med else "" for p in peers]
            if any(cells):
                print(f"| {w} | " + " | ".join(cells) + " |")

    def headline(w, m):
        lat = f"{m['p50_us']:,.0f} / {m['p99_us']:,.0f}" if "p50_us" in m else ""
        return lat if w in ("S5", "Q4") else f"{m['rate']:,.0f}" + (f" ({lat})" if lat else "")

    table("operations/s (p50 / p99 us); S5 and Q4: p50 / p99 us only", headline)
    table("rate, min-max over the rounds", lambda _, m: f"{m['rate_min']:,.0f}-{m['rate_max']:,.0f}")
    table(
        "server + client CPU seconds per 1M operations",
        lambda _, m: f"{m['server_cpu_s_per_M']:.1f} + {m['client_cpu_s_per_M']:.1f}",
    )
    versus(med)
    disk = sorted(r["fdatasync_per_s"] for r in rows if r.get("fdatasync_per_s"))
    if disk:
        print("\nraw 256 B + fdatasync, one writer: ", end="")
        print(f"median {statistics.median(disk):,.0f}/s, ", end="")
        print(f"{disk[0]:,.0f}-{disk[-1]:,.0f} over the cells")


def versus(med):
    """Ours against the best peer of each row; the raw file is the floor, not a peer."""
    print("\nto the best peer (S5, Q4: its p50 over ours; else rates), goals in brackets\n")
    print("| | best peer | flowmesh_embedded | flowmesh over TCP |\n|---|---|---|---|")
    for w in S + Q + K:
        key = "p50_us" if w in ("S5", "Q4") else "rate"
        figures = {p: m[key] for (work, p), m in med.items() if work == w and key in m}
        others = {p: v for p, v in figures.items() if p != "file" and p not in OURS}
        if not others:
            continue
        best = (min if key == "p50_us" else max)(others, key=others.get)
        cells = []
        for p, goal in zip(OURS, (1.0, GOALS.get(w, 0.6)), strict=True):
            if p not in figures:
                cells.append("")
                continue
            r = others[best] / figures[p] if key == "p50_us" else figures[p] / others[best]
            cells.append(f"{r:.2f} (>= {goal}{'' if r >= goal else ', missed'})")
        print(f"| {w} | {best} {others[best]:,.0f} | " + " | ".join(cells) + " |")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--install", action="store_true")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--peers", default=",".join(PEERS))
    ap.add_argument("--groups", default="SQK")
    ap.add_argument("--only", default="", help="only these workloads, comma-separated")
    ap.add_argument("--relaxed", action="store_true", help="measure with syncing off, for scale")
    ap.add_argument("--dir", default=tempfile.gettempdir())
    ap.add_argument("--out", help="also append every sample to this file")
    ap.add_argument("--table", help="only print the medians and tables of a file written by --out")
    a = ap.parse_args()
    if a.install:
        return install()
    if a.table:
        return show([json.loads(x) for x in Path(a.table).read_text().splitlines()])
    subprocess.run(["make", "-s", "-C", HERE, f"LIB={LIB}"], check=True)
    fs = subprocess.run(["stat", "-f", "-c", "%T", a.dir], capture_output=True, text=True).stdout.strip()
    if fs == "tmpfs":
        sys.exit("the data directory is a tmpfs; give --dir")
    print(f"# {versions()}, {fs}", flush=True)
    base = tempfile.mkdtemp(prefix="peers-", dir=a.dir)
    os.chmod(base, 0o755)  # for the postgres user
    built = (BUILD / "peers").read_text().split()
    peers = [p for p in a.peers.split(",") if p.split("_")[0] + ".o" in built]
    for peer in sorted(set(a.peers.split(",")) - set(peers)):
        print(f"!! {peer}: left out, its client library is not installed", file=sys.stderr)
    rows, t0 = [], time.time()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped

    def keep(row):
        rows.append(row)
        line = json.dumps(row)
        print(line, flush=True)
        if a.out:
            with open(a.out, "a") as f:
                f.write(line + "\n")

    try:
        for i in range(a.rounds):
            for group in a.groups:
                for peer in peers[i % len(peers) :] + peers[: i % len(peers)]:
                    if group in PEERS[peer][1]:
                        cell(
                            peer,
                            group,
                            base,
                            a.only.split(",") if a.only else None,
                            a.relaxed,
                            keep,
                        )
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print()
    show(rows)
    print(f"\n{a.rounds} rounds, {time.time() - t0:.0f} s")


if __name__ == "__main__":
    main()
