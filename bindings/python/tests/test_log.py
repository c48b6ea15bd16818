"""The library's log in Python's, and what else can be seen."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from conftest import PATIENCE, Name, Server

import flowmesh
from flowmesh import FlowMesh, utils


class Lines(logging.Handler):
    """Keeps what it is told, and waits for more."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self.changed:
            self.records.append(record)
            self.changed.notify_all()

    def wait_for(self, text: str) -> logging.LogRecord:
        with self.changed:
            found: list[logging.LogRecord] = []

            def there() -> bool:
                found[:] = [record for record in self.records if text in record.getMessage()]
                return bool(found)

            assert self.changed.wait_for(there, PATIENCE), [r.getMessage() for r in self.records]
            return found[0]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    logger = logging.getLogger("test.flowmesh")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    flowmesh.set_logger(logger, logging.DEBUG)
    yield handler
    flowmesh.set_logger(None)
    logger.removeHandler(handler)


async def test_lines_say_which_client(own_server: Server, name: Name, lines: Lines) -> None:
    client = FlowMesh(own_server.endpoint)
    assert client.log_id == 0
    await client.kv.set(*name, "key", b"v")
    record = lines.wait_for("connected")
    assert record.name.startswith("test.flowmesh.") and record.levelno == logging.INFO
    assert record.__dict__["client_id"] == client.log_id > 0
    await client.close()
    assert client.log_id == 0


async def test_silence_is_complete(own_server: Server, name: Name, lines: Lines) -> None:
    async with FlowMesh(own_server.endpoint) as client:
        await client.kv.set(*name, "key", b"v")
    flowmesh.set_logger(None)
    flowmesh.set_logger(None)
    told = len(lines.records)
    assert not [thread for thread in threading.enumerate() if thread.name == "flowmesh-log"]
    async with FlowMesh(own_server.endpoint) as client:
        await client.kv.set(*name, "key", b"v")
    assert told > 0 and len(lines.records) == told


async def test_levels_leave_lines_out(own_server: Server, name: Name, lines: Lines) -> None:
    flowmesh.set_logger(logging.getLogger("test.flowmesh"), logging.ERROR)
    async with FlowMesh(own_server.endpoint) as client:
        await client.kv.set(*name, "key", b"v")
    flowmesh.set_logger(None)
    assert not lines.records


PROGRAM = """
import logging, os, sys
import flowmesh
from flowmesh.blocking import FlowMesh

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(levelname)s")
flowmesh.set_logger(logging.getLogger("mesh"))
client = FlowMesh(sys.argv[1])
client.connect()
child = os.fork()
if child == 0:
    # The child has no logger until it sets one.
    flowmesh.set_logger(logging.getLogger("child"))
    with FlowMesh(sys.argv[1]):
        pass
    flowmesh.set_logger(None)
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
client.close()
"""


def test_forks_and_the_end_of_the_interpreter(own_server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, own_server.endpoint],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ},
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    names = {line.split()[0].split(".")[0] for line in done.stdout.splitlines()}
    assert names == {"mesh", "child"}, done.stdout


async def test_statistics(client: FlowMesh, name: Name) -> None:
    before = client.get_client_stats()
    await client.kv.set(*name, "key", b"v")
    after = client.get_client_stats()
    assert after.calls_succeeded == before.calls_succeeded + 1
    assert after.calls_under_way == 0 and after.latency_max_ns > 0


def test_the_version_of_the_library() -> None:
    assert utils.library_version() == flowmesh.__version__
