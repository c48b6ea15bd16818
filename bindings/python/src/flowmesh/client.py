"""The client for asyncio."""

from __future__ import annotations

from types import TracebackType

from . import _operations as operations
from ._client import Client
from ._loop import LoopConnection
from ._settings import Settings
from .exceptions import FlowMeshConnectionError, FlowMeshTimeoutError
from .kv import KVClient
from .queue import QueueClient
from .stream import StreamClient


class FlowMesh(Client[LoopConnection]):
    """A client of a server ("host:port", "https://host:port", "unix:/path") or of an engine in this
    process ("embedded:/dir", or "embedded:" in memory).

    Making one does nothing yet. `connect()`, or `async with`, waits for an answer of the endpoint;
    without it the first call connects. A lost connection is made anew. A client belongs to the event
    loop that uses it first, and to its process: make a new one after a fork.

    What is None is what the environment says when the client connects, or else the default, as named
    here. Two have a literal default: the endpoint is "localhost:50051" unless it is given, so the
    environment is asked for it by None alone, and there is no test clock.

    endpoint               where to connect (None: FLOWMESH_ENDPOINT, or else "localhost:50051").
    auth_token             sent with every call (FLOWMESH_AUTH_TOKEN).
    auth_token_file        a file that holds it, read again when the server refuses what it held
                           (FLOWMESH_AUTH_TOKEN_FILE).
    allow_plaintext_token  whether it may go unencrypted to another machine
                           (FLOWMESH_ALLOW_PLAINTEXT_TOKEN is 1); no.
    tls_ca_file            "https://": the authorities that may vouch for the server, PEM
                           (FLOWMESH_TLS_CA_FILE); those that the system trusts. Or `tls_ca_pem`, from
                           memory.
    tls_certificate_file,  the client's own certificate and key, PEM, for servers that ask for them
    tls_key_file           (FLOWMESH_TLS_CERT_FILE, FLOWMESH_TLS_KEY_FILE); none. Or
                           `tls_certificate_pem` and `tls_key_pem`.
    tls_server_name        the name that the server's certificate must have
                           (FLOWMESH_TLS_SERVER_NAME); the endpoint's host.
    timeout                how long a call may take, beyond its long poll; 30 s.
    connect_timeout        how long connecting may take; 10 s.
    max_message_bytes      the largest reply that is accepted; 256 MiB.
    fsync                  "embedded:/dir": when writes reach the disk: "always" (before they are
                           acknowledged), "interval" (within a second) or "none"; "always".
    create                 "embedded:": whether what a call needs is created; yes.
    test_clock             "embedded:" only: time passes by `advance_test_clock` and not by itself.
    """

    def _begin(self, settings: Settings) -> None:
        self._connection = connection = LoopConnection(settings)
        self.stream = StreamClient(connection)
        self.queue = QueueClient(connection)
        self.kv = KVClient(connection)

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
        """Waits until the endpoint answers; a bad endpoint, file or certificate, or a missing server,
        fails here. A server looks at the token with the calls that need one, and this one does not.
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
