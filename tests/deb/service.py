#!/usr/bin/env python3
"""Runs a service as its unit says, with a command while it is up: systemd in small, for machines
without it.

    service.py ROOT UNIT [NAME=VALUE...] -- COMMAND...

The unit's files are looked up below ROOT. If that is /, the service runs as the unit's user, with
its runtime directory; else as whoever calls. NAME=VALUE comes over the environment. The
command must succeed, and the service stop in order on SIGTERM.
"""

import os
import pwd
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

PATIENCE_S = 120


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, is_setting, value = line.partition("=")
        if is_setting and not name.startswith("#"):
            found.setdefault(name.strip(), []).append(value.strip())
    return found


def environment(root: Path, unit: dict[str, list[str]]) -> dict[str, str]:
    assignments = list(unit.get("Environment", []))
    for file in unit.get("EnvironmentFile", []):
        lines = (root / file.removeprefix("-").lstrip("/")).read_text().splitlines()
        assignments += [line for line in lines if line and not line.startswith("#")]
    return dict(assignment.split("=", 1) for assignment in assignments)


def wait_for(notifications: socket.socket, wanted: bytes) -> None:
    while wanted not in notifications.recv(4096).splitlines():
        pass


def main() -> None:
    split = sys.argv.index("--")
    root, unit = Path(sys.argv[1]), settings(Path(sys.argv[2]))
    command = sys.argv[split + 1 :]
    env = environment(root, unit) | dict(a.split("=", 1) for a in sys.argv[3:split])
    program, *arguments = shlex.split(unit["ExecStart"][0])

    options: dict = {"umask": int(unit["UMask"][0], 8)}
    if root == Path("/"):
        user = pwd.getpwnam(unit["User"][0])
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        runtime = Path("/run") / unit["RuntimeDirectory"][0]
        runtime.mkdir(mode=0o755, exist_ok=True)
        os.chown(runtime, user.pw_uid, user.pw_gid)

    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        os.chmod(directory, 0o711)
        told.bind(f"{directory}/notify")
        os.chmod(f"{directory}/notify", 0o777)
        told.settimeout(PATIENCE_S)
        env["NOTIFY_SOCKET"] = f"{directory}/notify"
        started = [str(root / program.lstrip("/")), *arguments]
        service = subprocess.Popen(started, env=env, cwd="/", **options)
        try:
            wait_for(told, b"READY=1")
            subprocess.run(command, check=True, timeout=PATIENCE_S)
            service.send_signal(signal.SIGTERM)
            wait_for(told, b"STOPPING=1")
            code = service.wait(PATIENCE_S)
            if code != 0:
                sys.exit(f"service.py: {program} ended with {code}")
        finally:
            if service.poll() is None:
                service.kill()
                service.wait()


if __name__ == "__main__":
    main()
