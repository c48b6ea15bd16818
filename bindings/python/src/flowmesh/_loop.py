"""How an event loop waits: the loop watches the dispatcher's descriptor, and runs it when something
has completed. Everything happens in the loop's own thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

from . import _operations as operations
from ._native import lib
from ._records import failure
from ._session import Call, Connection, Session
from ._settings import Settings
from .exceptions import FlowMeshError
from .types import Message

T = TypeVar("T")

# How long close() waits for calls that are under way to end: they are told at once that they do.
CLOSE_TIMEOUT_MS = 30_000


class LoopConnection(Connection):
    """A connection that belongs to the event loop that used it first."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._loop: asyncio.AbstractEventLoop | None = None

    def ready(self) -> Session:
        """The session, in the running loop."""
        session = self.open()
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._attach(session, loop)
        return session

    def _attach(self, session: Session, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None:
            if not self._loop.is_closed():
                raise failure(
                    lib.FLOWMESH_FAILED_PRECONDITION,
                    "the client belongs to another event loop: use one client per loop",
                )
            session.drop_waiters()  # nobody of the closed loop can be told
        loop.add_reader(session.fd, _run, session, loop)
        self._loop = loop

    async def call(self, operation: Callable[..., Call[T]], *values: Any) -> T:
        """Starts the operation and awaits its result; cancelled, awaits that it has ended."""
        return await self.wait(self.ready(), operation, *values)

    async def wait(self, session: Session, operation: Callable[..., Call[T]], *values: Any) -> T:
        call = operation(session, *values)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        session.wait(call, future)
        try:
            return await future
        except asyncio.CancelledError:
            # It has ended when that is told: what is called next does not meet it any more.
            ended: asyncio.Future[T] = loop.create_future()
            if session.cancel(call[0], ended):
                with contextlib.suppress(FlowMeshError):
                    await ended
            raise

    async def connect(self) -> None:
        self.closed = False
        try:
            await self.call(operations.connect, self.connect_timeout_ms)
        except BaseException:
            # Nothing is left that would have to be closed; a later call tries again.
            if self.session is not None and self.session.usable and self.session.idle:
                self._end(self.leave())
                self.closed = False
            raise

    async def close(self) -> None:
        if self.session is not None and self.session.usable:
            self.ready()  # or it belongs to another loop
        session = self.leave()
        if session is None:
            return
        try:
            if session.usable:
                await self.wait(session, operations.close, CLOSE_TIMEOUT_MS)
        finally:
            self._end(session)

    def _end(self, session: Session | None) -> None:
        loop, self._loop = self._loop, None
        if session is None:
            return
        if loop is not None and not loop.is_closed() and not session.forked:
            loop.remove_reader(session.fd)
            session.fail_waiters(failure(lib.FLOWMESH_CLOSED, "the client is closed"))
        session.end()

    def __del__(self) -> None:
        session = getattr(self, "session", None)
        if session is None or not session.usable:
            return
        loop = self._loop
        if loop is None or loop.is_closed():
            session.end()
        else:  # perhaps in another thread: the loop has to stop watching first
            loop.call_soon_threadsafe(_abandon, session, loop)
        warnings.warn(f"unclosed FlowMesh({self.settings.endpoint!r})", ResourceWarning, stacklevel=1)

    async def follow(self, *values: Any) -> AsyncGenerator[Message, None]:
        """Messages of a stream; the end of the generator ends the subscription."""
        session = self.ready()
        subscription = operations.subscribe(session, *values)
        try:
            while True:
                messages = subscription.take()
                for message in messages:
                    yield message
                if not messages:
                    future = asyncio.get_running_loop().create_future()
                    subscription.waiter = future
                    await future
        finally:
            subscription.close()


def _run(session: Session, loop: asyncio.AbstractEventLoop) -> None:
    length = session.run()
    session.tell(length)
    if length < 0:
        loop.remove_reader(session.fd)
        session.fail_waiters(failure(-length, "the library was shut down"))


def _abandon(session: Session, loop: asyncio.AbstractEventLoop) -> None:
    loop.remove_reader(session.fd)
    session.end()
