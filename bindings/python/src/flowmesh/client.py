"""The client for asyncio."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType

from . import _operations as operations
from ._loop import LoopConnection
from ._session import Settings
from .exceptions import FlowMeshConnectionError, FlowMeshTimeoutError
from .kv import KVClient
from .queue import QueueClient
from .stream import StreamClient


class FlowMesh:
    """A client of a server ("host:port", "http://host:port", "unix:/path") or of an engine in this
    process ("embedded:/dir", or "embedded:" in memory).

    Making one does nothing yet. `connect()`, or `async with`, waits for an answer of the endpoint;
    without it the first call connects. A lost connection is made anew. A client belongs to the event
    loop that uses it first, and to its process: make a new one after a fork.

    auth_token       sent with every call; None: what FLOWMESH_AUTH_TOKEN says when it connects.
    timeout          how long a call may take, beyond its long poll; None: 30 s.
    connect_timeout  how long connecting may take; None: 10 s.
    test_clock       "embedded:" only: time passes by `advance_test_clock` and not by itself.
    """

    def __init__(
        self,
        endpoint: str = "localhost:50051",
        auth_token: str | None = None,
        *,
        timeout: timedelta | None = None,
        connect_timeout: timedelta | None = None,
        test_clock: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.auth_token = auth_token
        self._connection = LoopConnection(
            Settings(endpoint, auth_token, timeout, connect_timeout, test_clock)
        )
        self.stream = StreamClient(self._connection)
        self.queue = QueueClient(self._connection)
        self.kv = KVClient(self._connection)

    async def __aenter__(self) -> FlowMesh:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Waits until the endpoint answers; a bad endpoint or token, or a missing server, fails here.
        Opens a closed client again.
        """
        await self._connection.connect()

    async def close(self) -> None:
        """Ends every call and subscription with FlowMeshClosedError, and the connection. A second
        close is fine.
        """
        await self._connection.close()

    async def health_check(self) -> bool:
        """Whether the server gives a sign of life."""
        try:
            await self._connection.call(operations.health_check)
        except (FlowMeshConnectionError, FlowMeshTimeoutError):
            return False
        return True

    async def readiness_check(self) -> bool:
        """Whether the server can take work."""
        try:
            return await self._connection.call(operations.readiness_check)
        except (FlowMeshConnectionError, FlowMeshTimeoutError):
            return False

    def advance_test_clock(self, by: timedelta) -> None:
        """Moves the clock of a client made with `test_clock`: what became due is due."""
        self._connection.open().advance_test_clock(by)
