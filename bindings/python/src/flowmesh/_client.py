"""What both clients have in common: how they are made, and what does not wait."""

from __future__ import annotations

from datetime import timedelta
from typing import Generic, TypeVar

from . import _operations as operations
from ._arguments import Path
from ._session import Connection
from ._settings import Settings
from .types import ClientStats

C = TypeVar("C", bound=Connection)


class Client(Generic[C]):
    """Makes the connection of a client, and keeps what it was made with."""

    _connection: C

    def __init__(
        self,
        endpoint: str | None = "localhost:50051",
        auth_token: str | None = None,
        *,
        auth_token_file: Path | None = None,
        allow_plaintext_token: bool | None = None,
        tls_ca_file: Path | None = None,
        tls_ca_pem: bytes | None = None,
        tls_certificate_file: Path | None = None,
        tls_key_file: Path | None = None,
        tls_certificate_pem: bytes | None = None,
        tls_key_pem: bytes | None = None,
        tls_server_name: str | None = None,
        timeout: timedelta | None = None,
        connect_timeout: timedelta | None = None,
        max_message_bytes: int | None = None,
        fsync: str | None = None,
        create: bool | None = None,
        test_clock: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.auth_token = auth_token
        self._begin(
            Settings(
                endpoint=endpoint,
                auth_token=auth_token,
                auth_token_file=auth_token_file,
                allow_plaintext_token=allow_plaintext_token,
                tls_ca_file=tls_ca_file,
                tls_ca_pem=tls_ca_pem,
                tls_certificate_file=tls_certificate_file,
                tls_key_file=tls_key_file,
                tls_certificate_pem=tls_certificate_pem,
                tls_key_pem=tls_key_pem,
                tls_server_name=tls_server_name,
                timeout=timeout,
                connect_timeout=connect_timeout,
                max_message_bytes=max_message_bytes,
                fsync=fsync,
                create=create,
                test_clock=test_clock,
            )
        )

    def _begin(self, settings: Settings) -> None:
        """Makes the connection, which does nothing yet."""
        raise NotImplementedError

    @property
    def log_id(self) -> int:
        """The number by which the log names the client; 0 before its first call."""
        session = self._connection.session
        return 0 if session is None else session.log_id

    def get_client_stats(self) -> ClientStats:
        """What the client has counted since it connected first, and what it holds now."""
        return operations.get_client_stats(self._connection.open())

    def advance_test_clock(self, by: timedelta) -> None:
        """Moves the clock of a client made with `test_clock`: what became due is due."""
        self._connection.open().advance_test_clock(by)
