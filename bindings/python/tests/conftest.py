"""Servers, clients and names for the tests.

FLOWMESH_SERVER names the server binary; default: target/release/flowmesh-server of this clone.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path

import pytest

from flowmesh import FlowMesh, Message

ROOT = Path(__file__).resolve().parents[3]
SERVER = Path(os.environ.get("FLOWMESH_SERVER", ROOT / "target" / "release" / "flowmesh-server"))
# For what must happen, on the busiest machine.
PATIENCE = 60.0

Name = tuple[str, str, str]


@contextlib.asynccontextmanager
async def ending(
    messages: AsyncGenerator[Message, None],
) -> AsyncIterator[AsyncGenerator[Message, None]]:
    """contextlib.aclosing, which Python 3.9 lacks."""
    try:
        yield messages
    finally:
        await messages.aclose()


class Server:
    """flowmesh-server with an empty data directory, on a unix socket if nothing else is said."""

    def __init__(self, *arguments: str, listen: str | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="flowmesh-"))
        self.endpoint = listen or f"unix:{self.directory}/socket"
        self._arguments = arguments
        self.start()

    def start(self) -> None:
        command = [str(SERVER), "--listen", self.endpoint, "--data-dir", str(self.directory / "data")]
        self.process = subprocess.Popen([*command, *self._arguments], stderr=subprocess.PIPE, text=True)
        lines: queue.Queue[str] = queue.Queue()

        def read() -> None:
            assert self.process.stderr is not None
            for line in self.process.stderr:
                lines.put(line)
            lines.put("")

        self._reader = threading.Thread(target=read)
        self._reader.start()
        said = ""
        while "listening on" not in said:
            line = lines.get(timeout=PATIENCE)
            said += line
            if not line:
                raise RuntimeError(f"the server did not start: {said}")
        self.endpoint = said.partition("listening on ")[2].split()[0]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.directory)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    running = Server("--fsync", "none")
    yield running
    running.stop()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """One that the test may kill and start again."""
    running = Server("--fsync", "none")
    yield running
    running.stop()


@pytest.fixture(params=["embedded", "server"])
def endpoint(request: pytest.FixtureRequest) -> str:
    if request.param == "embedded":
        return "embedded:"
    running: Server = request.getfixturevalue("server")
    return running.endpoint


@pytest.fixture
async def client(endpoint: str) -> AsyncIterator[FlowMesh]:
    async with FlowMesh(endpoint) as connected:
        yield connected


@pytest.fixture
async def clocked() -> AsyncIterator[FlowMesh]:
    """A client whose time passes by hand."""
    async with FlowMesh("embedded:", test_clock=True) as connected:
        yield connected


@pytest.fixture
def name() -> Name:
    """Of a stream, queue and store that no other test uses."""
    return ("acme", "shop", uuid.uuid4().hex)
