"""How threads wait: one of them runs the dispatcher for all. There is no thread behind a client, and no
event loop.
"""

from __future__ import annotations

import select
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from . import _operations as operations
from ._native import lib
from ._records import failure
from ._session import Call, Connection, Session
from ._settings import Settings
from .types import Message

T = TypeVar("T")

# A thread that waits drives the connections itself for so long, which saves a change of threads, then
# leaves that to the library and sleeps on the descriptor, where signals reach it.
DRIVE_MS = 20
CLOSE_TIMEOUT_MS = 30_000


class _Result:
    """What a thread waits for."""

    def __init__(self) -> None:
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self.turn = threading.Event()

    def done(self) -> bool:
        return self._done

    def set_result(self, value: Any, /) -> None:
        self._value, self._done = value, True
        self.turn.set()

    def set_exception(self, error: Any, /) -> None:
        self._error = error
        self.set_result(None)

    def get(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


class ThreadConnection(Connection):
    """Of the threads that wait, one runs the dispatcher, for all; having its own result, it passes
    that on. An exception out of a signal handler may come anywhere.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # Guards the session, but for Session.run, which only the runner calls.
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._runner: _Result | None = None
        self._others: deque[_Result] = deque()

    def call(self, operation: Callable[..., Call[T]], *values: Any) -> T:
        with self._lock:
            session = self.open()
        return self._call(session, operation, *values)

    def _call(self, session: Session, operation: Callable[..., Call[T]], *values: Any) -> T:
        result, ended = _Result(), _Result()
        id = 0
        try:
            with self._lock:
                if session.ended:
                    raise failure(lib.FLOWMESH_CLOSED, "the client is closed")
                try:
                    call = operation(session, *values)
                    session.wait(call, result)
                    id = call[0]
                except KeyboardInterrupt:
                    id = session.find_lost(result, ended)
                    raise
            self._wait(session, result)
        except KeyboardInterrupt:
            # It has ended when that is told: what is called next does not meet it any more.
            with self._lock:
                cancelled = session.cancel(id, ended)
            if cancelled:
                self._wait(session, ended)
            raise
        value: T = result.get()
        return value

    def _wait(self, session: Session, result: _Result) -> None:
        try:
            while not result.done():
                with self._lock:
                    result.turn.clear()
                    if self._runner is None:
                        self._runner = result
                    else:
                        self._others.append(result)
                if self._runner is result:
                    self._run(session, result)
                elif not result.done():
                    result.turn.wait()
        finally:
            with self._lock:
                if self._runner is result:
                    session.tell(session.run())  # what a signal has kept from being told
                    self._runner = None
                    self._idle.notify_all()
                while self._runner is None and self._others:
                    other = self._others.popleft()
                    if not other.done() and other is not result:
                        other.turn.set()
                        break

    def _run(self, session: Session, result: _Result) -> None:
        poll = select.poll()
        poll.register(session.fd, select.POLLIN)
        while not result.done():
            length = session.run(DRIVE_MS)
            with self._lock:
                session.tell(length)
                if length < 0:
                    session.fail_waiters(failure(-length, "the library was shut down"))
            if length == 0 and not result.done():
                poll.poll()

    def connect(self) -> None:
        with self._lock:
            self.closed = False
        try:
            self.call(operations.connect, self.connect_timeout_ms)
        except BaseException:
            # Nothing is left that would have to be closed; a later call tries again.
            with self._lock:
                idle = self.session is not None and self.session.usable and self.session.idle
                session = self.leave() if idle else None
                self.closed = False
            self._end(session)
            raise

    def close(self) -> None:
        with self._lock:
            session = self.leave()
        if session is None:
            return
        try:
            if session.usable:
                self._call(session, operations.close, CLOSE_TIMEOUT_MS)
        finally:
            self._end(session)

    def _end(self, session: Session | None) -> None:
        if session is None:
            return
        error = failure(lib.FLOWMESH_CLOSED, "the client is closed")
        with self._lock:
            if session.usable:
                session.fail_waiters(error)
                session.wake()
                while self._runner is not None:
                    self._idle.wait()
                session.fail_waiters(error)
            session.end()

    def __del__(self) -> None:
        session = getattr(self, "session", None)
        if session is not None and session.usable:
            session.end()
            warnings.warn(f"unclosed FlowMesh({self.settings.endpoint!r})", ResourceWarning, stacklevel=1)

    def follow(self, *values: Any) -> Generator[Message, None, None]:
        with self._lock:
            session = self.open()
            subscription = operations.subscribe(session, *values)
        try:
            while True:
                result = _Result()
                with self._lock:
                    messages = subscription.take()
                    if not messages:
                        subscription.waiter = result
                if not messages:
                    self._wait(session, result)
                yield from messages
        finally:
            with self._lock:
                subscription.close()
