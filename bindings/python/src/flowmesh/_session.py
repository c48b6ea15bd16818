"""A session: one client of the library with its dispatcher, its handles, and the calls under way.

Who runs the dispatcher, and how an application waits, is decided in client.py (an event loop) and
blocking.py (the calling thread). A session is used by one thread at a time. Threads of the library
never enter Python, so there is nothing to prepare for the end of the interpreter.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from . import _arguments as arguments
from ._library import call, made
from ._native import ffi, lib
from ._records import RECORD, Buffer, failure, read_failure, read_messages, read_none
from ._settings import Settings, apply
from .types import Message

T = TypeVar("T")
Reader = Callable[[Buffer, int, int], T]
# A call that was started: its id, and what reads its result.
Call = tuple[int, Reader[T]]

# So many completions are read at a time, before other work has its turn.
MAX_COMPLETIONS = 1024
# So many handles of streams, queues and stores are kept.
MAX_HANDLES = 1024
_FREE = {
    "stream": lib.flowmesh_stream_free,
    "queue": lib.flowmesh_queue_free,
    "kv": lib.flowmesh_kv_free,
}


class Waiter(Protocol):
    """What the one who waits has given: an asyncio.Future, or the like."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: Any, /) -> None: ...


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _after_fork() -> None:
    """The child may use the library anew; what the parent made is of no use in it."""
    for session in _sessions:
        session.forked = True
    lib.flowmesh_after_fork_child(ffi.NULL)
    lib.fm_log_after_fork()


os.register_at_fork(after_in_child=_after_fork)


class Follower(Protocol):
    """What is told more than once: a subscription, a producer, a worker."""

    def hear(self, status: int, records: Buffer, at: int, end: int) -> None: ...
    def fail(self, error: Exception) -> None: ...


class Session:
    """Opens a client; does no I/O."""

    def __init__(self, settings: Settings) -> None:
        self.forked = False
        self.ended = False
        self._waiters: dict[int, tuple[Waiter, Reader[Any]]] = {}
        self._followers: dict[int, Follower] = {}
        self._handles: dict[tuple[str, str, str, str], Any] = {}
        dispatcher = made("dispatcher", lib.flowmesh_dispatcher_new, 0)
        self.native: Any = lib.fm_session_new(dispatcher)
        if not self.native:
            raise MemoryError
        self.client: Any = ffi.NULL
        try:
            fd = ffi.new("int *")
            call(lib.flowmesh_dispatcher_fd, dispatcher, fd)
            self.fd: int = fd[0]
            self.client = self._open(settings, dispatcher)
        except BaseException:
            self.end()
            raise
        _sessions.add(self)

    def _open(self, settings: Settings, dispatcher: Any) -> Any:
        endpoint = ffi.NULL  # which the library looks up
        if settings.endpoint is not None:
            endpoint = arguments.text("endpoint", settings.endpoint)
        options = made("client_options", lib.flowmesh_client_options_new)
        try:
            call(lib.flowmesh_client_options_set_dispatcher, options, dispatcher)
            apply(settings, options)
            return made("client", lib.flowmesh_client_open, endpoint, options)
        finally:
            lib.flowmesh_client_options_free(options)

    # ---- Handles ------------------------------------------------------------------------------

    def stream(self, tenant: str, namespace: str, name: str) -> Any:
        handle = self._handles.get(("stream", tenant, namespace, name))
        return handle or self._handle("stream", lib.flowmesh_stream_open, tenant, namespace, name)

    def queue(self, tenant: str, namespace: str, name: str) -> Any:
        handle = self._handles.get(("queue", tenant, namespace, name))
        return handle or self._handle("queue", lib.flowmesh_queue_open, tenant, namespace, name)

    def kv(self, tenant: str, namespace: str, name: str) -> Any:
        handle = self._handles.get(("kv", tenant, namespace, name))
        return handle or self._handle("kv", lib.flowmesh_kv_open, tenant, namespace, name)

    def _handle(self, kind: str, function: Callable[..., int], tenant: str, namespace: str, name: str) -> Any:
        names = (
            arguments.text("tenant", tenant),
            arguments.text("namespace", namespace),
            arguments.text({"kv": "store"}.get(kind, kind), name),
        )
        while len(self._handles) >= MAX_HANDLES:
            oldest = next(iter(self._handles))
            _FREE[oldest[0]](self._handles.pop(oldest))
        handle = made(kind, function, self.client, *names)
        self._handles[kind, tenant, namespace, name] = handle
        return handle

    # ---- Calls --------------------------------------------------------------------------------

    def wait(self, call: Call[T], waiter: Waiter) -> None:
        """Has `waiter` told how the call ends."""
        id, read = call
        if not id:
            raise MemoryError
        self._waiters[id] = waiter, read

    @property
    def usable(self) -> bool:
        return not self.ended and not self.forked

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything."""
        return not self._followers and all(waiter.done() for waiter, _ in self._waiters.values())

    def cancel(self, id: int, waiter: Waiter | None = None) -> bool:
        """Has the call end soon. True: it had not, and `waiter` is told when it has."""
        if not self.usable or id not in self._waiters:
            return False
        if waiter is not None:
            self._waiters[id] = waiter, self._waiters[id][1]
        lib.fm_session_cancel(self.native, id)
        return True

    def find_lost(self, result: Waiter, ended: Waiter) -> int:
        """The id of the call that was started last, which a signal may have kept from its caller; 0:
        none is. `ended` waits for it, unless `result` does already.
        """
        id: int = lib.fm_session_last(self.native) if self.usable else 0
        if id in self._waiters:
            return id if self._waiters[id][0] is result else 0
        if not id or id in self._followers or not lib.fm_session_cancel(self.native, id):
            return 0
        self._waiters[id] = ended, read_none
        return id

    def run(self, timeout_ms: int = 0) -> int:
        """Runs the dispatcher. The length of what there is to `tell`, or minus the status when it
        cannot be run any more. What was not told of a former run comes first.
        """
        if not self.usable:
            return 0
        length: int = lib.fm_session_run(self.native, MAX_COMPLETIONS, timeout_ms)
        return length

    def tell(self, length: int) -> None:
        """Tells the waiters what a run has brought. An exception out of a signal handler may end it
        anywhere: then all of it is told again, and those who know it already are not concerned.
        """
        if length <= 0 or not self.usable:
            return
        records = ffi.buffer(lib.fm_session_records(self.native), length)
        unpack, waiters = RECORD.unpack_from, self._waiters
        at = 0
        while at < length:
            id, status, size = unpack(records, at)
            at += 16
            end = at + size
            found = waiters.get(id)
            if found is not None:
                waiter, read = found
                if waiter.done():  # cancelled
                    pass
                elif status:
                    waiter.set_exception(read_failure(status, records, at, end))
                else:
                    try:
                        result = read(records, at, end)
                    except Exception as error:  # a result that is not text where it should be
                        waiter.set_exception(error)
                    else:
                        waiter.set_result(result)
                waiters.pop(id, None)
            elif id in self._followers:
                self._followers[id].hear(status, records, at, end)
            at = end
        lib.fm_session_clear(self.native)

    def follow(self, id: int, follower: Follower) -> None:
        """Has `follower` told what comes under this id."""
        if not id:
            raise MemoryError
        self._followers[id] = follower

    def forget(self, id: int, free: Callable[[Any, int], None]) -> None:
        if self._followers.pop(id, None) is not None and self.usable:
            free(self.native, id)

    # ---- The end ------------------------------------------------------------------------------

    def wake(self) -> None:
        """Has the one who is in `run`, or waits for the descriptor, look again."""
        lib.fm_session_wake(self.native)

    @property
    def log_id(self) -> int:
        id: int = lib.flowmesh_client_id(self.client) if self.usable else 0
        return id

    def advance_test_clock(self, by: timedelta) -> None:
        call(lib.flowmesh_test_clock_advance, self.client, arguments.milliseconds("by", by))

    def fail_waiters(self, error: Exception) -> None:
        """Tells those who still wait that nobody runs the dispatcher for them any more."""
        for waiter, _ in self.drop_waiters():
            if not waiter.done():
                waiter.set_exception(error)
        for follower in list(self._followers.values()):
            follower.fail(error)

    def drop_waiters(self) -> list[tuple[Waiter, Reader[Any]]]:
        """Cancels every call under way and gives those who wait, who will not be told."""
        for id in self._waiters:
            self.cancel(id)
        waiters, self._waiters = self._waiters, {}
        return list(waiters.values())

    def end(self) -> None:
        """Frees everything; nobody may be in `run`. In the child of a fork it leaves all to the parent."""
        if self.ended:
            return
        self.ended = True
        if self.forked:
            return
        for names, handle in self._handles.items():
            _FREE[names[0]](handle)
        self._handles.clear()
        lib.flowmesh_client_free(self.client)
        lib.fm_session_end(self.native)


class Connection:
    """What a client has behind it: opens a session when one is needed first."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.session: Session | None = None
        self.closed = False

    def open(self) -> Session:
        """The session, opened by the first who asks."""
        session = self.session
        if session is None:
            if self.closed:
                raise failure(lib.FLOWMESH_CLOSED, "the client is closed; connect() opens it again")
            session = self.session = Session(self.settings)
        if session.forked:
            raise failure(
                lib.FLOWMESH_FORKED, "the client is of the parent process: make a new one after a fork"
            )
        return session

    def leave(self) -> Session | None:
        """Closed from now on; the session that is to be closed, if there is one."""
        session, self.session, self.closed = self.session, None, True
        return session

    @property
    def connect_timeout_ms(self) -> int:
        return arguments.milliseconds("connect_timeout", self.settings.connect_timeout) or 10_000


class Subscription:
    """A stream that is being followed."""

    def __init__(self, session: Session, id: int) -> None:
        session.follow(id, self)
        self._session = session
        self._id = id
        self._length = ffi.new("size_t *")
        self.failure: Exception | None = None
        self.waiter: Waiter | None = None

    def hear(self, status: int, records: Buffer, at: int, end: int) -> None:
        """There are messages, or it has failed."""
        self._told(read_failure(status, records, at, end) if status else None)

    def fail(self, error: Exception) -> None:
        self._told(error)

    def _told(self, failure: Exception | None) -> None:
        self.failure = self.failure or failure
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def take(self) -> list[Message]:
        """The next messages that have arrived; raises the failure when there will be none."""
        session = self._session
        if session.usable:
            data = lib.fm_subscription_take(session.native, self._id, self._length)
            length = self._length[0]
            if length:
                return read_messages(ffi.buffer(data, length), 0, length)
        if self.failure is not None:
            raise self.failure
        return []

    def close(self) -> None:
        self._session.forget(self._id, lib.fm_subscription_close)
