#!/usr/bin/env python3
"""What trust costs: calls with a token against calls without, a subscription over TLS against one
in clear text, and new TLS connections against grpc++'s, each pair on servers of the same run.

    ./trust.py                          5 rounds
    ./trust.py --rounds 1 --seconds 0.2 --messages 20000

Needs the `openssl` command, which makes the certificates.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from run import GRPC, HERE, OURS, Server, head, judged, measure, number, row, running

NEW_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"


def openssl(directory, arguments):
    subprocess.run(["openssl", *arguments.split()], cwd=directory, check=True, stderr=subprocess.DEVNULL)


def certificates(directory):
    """An authority, and what it has issued for a server on this machine."""
    openssl(directory, f"req -x509 -subj /CN=authority -keyout ca.key -out ca.pem {NEW_KEY}")
    issue = "req -x509 -CA ca.pem -CAkey ca.key -subj /CN=server -keyout key.pem -out cert.pem"
    names = "-addext subjectAltName=IP:127.0.0.1,DNS:localhost -addext basicConstraints=critical,CA:FALSE"
    openssl(directory, f"{issue} {names} {NEW_KEY}")


def token(server, directory):
    """A token, and the file that lists it among a thousand others."""
    argv = [server, "token", "new", "--tenant", "bench", "--permission", "kv.read", "kv.write"]
    argv += ["stream.read", "stream.write"]
    made = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    entry = made[made.index("[[token]]") :]
    digest = re.search(r'sha256 = "([0-9a-f]{64})"', entry)[1]
    others = [entry.replace(digest, f"{number:064x}") for number in range(1000)]
    (directory / "tokens.toml").write_text("\n".join([*others, entry]))
    return re.search(r"fm_[0-9a-f]+", made)[0]


class Trust:
    def __init__(self, settings):
        self.settings = settings
        self.samples = {}

    def round(self, turn, directory):
        certificates(directory)
        secret = token(self.settings.server, directory)
        trusting = {"FLOWMESH_TLS_CA_FILE": str(directory / "ca.pem")}
        for name in ("open", "known", "secure"):
            (directory / name).mkdir()
        known = ["--tokens", directory / "tokens.toml"]
        secure = ["--tls-cert", directory / "cert.pem", "--tls-key", directory / "key.pem"]
        binary = self.settings.server
        with (
            running(Server, binary, directory / "open") as plain,
            running(Server, binary, directory / "known", "none", known) as asking,
            running(Server, binary, directory / "secure", "none", secure) as encrypted,
        ):
            https = f"https://{encrypted.tcp}"
            with_token = {"FLOWMESH_AUTH_TOKEN": secret}
            measure(OURS, plain.tcp, "load", self.settings.messages)
            measure(OURS, asking.tcp, "load", 1000, env=with_token)
            measure(OURS, https, "load", self.settings.messages, env=trusting)
            seconds, messages = self.settings.seconds, self.settings.messages
            groups = [
                [
                    ("get, no token", OURS, plain.tcp, ("get", seconds), None),
                    ("get, token", OURS, asking.tcp, ("get", seconds), with_token),
                    ("get, TLS", OURS, https, ("get", seconds), trusting),
                ],
                [
                    ("subscribe, clear text", OURS, plain.tcp, ("subscribe", messages), None),
                    ("subscribe, TLS", OURS, https, ("subscribe", messages), trusting),
                ],
                [("connect, TLS", OURS, https, ("connect", seconds), trusting)],
            ]
            if GRPC.exists():
                grpc = ("connect, TLS, grpc++", GRPC, encrypted.tcp, ("connect", seconds), trusting)
                groups[2].append(grpc)
                grpc = ("subscribe, TLS, grpc++", GRPC, encrypted.tcp, ("subscribe", messages), trusting)
                groups[1].append(grpc)
            for cells in groups:
                first = turn % len(cells)
                for name, program, address, work, env in cells[first:] + cells[:first]:
                    sample = measure(program, address, *work, env=env)
                    self.samples.setdefault(name, []).append(sample["rate"])

    def show(self):
        head("per second | ratio (goal)", "Trust: calls, messages and connections")
        for name, other, goal in (
            ("get, no token", None, None),
            ("get, token", "get, no token", 0.95),
            ("get, TLS", "get, no token", None),
            ("subscribe, clear text", None, None),
            ("subscribe, TLS", "subscribe, clear text", 0.7),
            ("subscribe, TLS, grpc++", "subscribe, clear text", None),
            ("connect, TLS", "connect, TLS, grpc++", None),
            ("connect, TLS, grpc++", None, None),
        ):
            if name in self.samples:
                against = ""
                if other:
                    against = judged(self.ratio(name, other), ">=", goal)
                row(name, number(statistics.median(self.samples[name])), against)

    def ratio(self, name, other):
        """The median of the rounds' own ratios: what slows a round slows both."""
        if other not in self.samples:
            return None
        pairs = zip(self.samples[name], self.samples[other], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each timed cell")
    parser.add_argument("--messages", type=int, default=500_000, help="stored for a subscription")
    parser.add_argument("--lib", default=HERE.parents[1] / "target" / "release", type=Path)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="for data directories")
    settings = parser.parse_args()
    settings.lib = settings.lib.resolve()
    settings.server = settings.lib / "flowmesh-server"
    # What the shell has set must not decide what is measured.
    for name in list(os.environ):
        if name.startswith("FLOWMESH_"):
            del os.environ[name]
    subprocess.run(["make", "-s", "-C", HERE, f"LIB={settings.lib}"], check=True)
    trust = Trust(settings)
    for turn in range(settings.rounds):
        print(f"round {turn + 1} of {settings.rounds}", file=sys.stderr, flush=True)
        directory = Path(tempfile.mkdtemp(prefix="flowmesh-trust-", dir=settings.dir))
        try:
            trust.round(turn, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    trust.show()


if __name__ == "__main__":
    main()
