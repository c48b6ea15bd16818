"""Producers: messages are accepted at once and sent in the background, many at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Generic, TypeVar

from . import _arguments as arguments
from . import _records as records
from ._library import call, made, taken
from ._loop import LoopConnection
from ._native import ffi, lib
from ._session import Reader, Session
from .exceptions import FlowMeshClosedError, FlowMeshError, FlowMeshTimeoutError
from .types import Event

T = TypeVar("T")

# After so many messages, others have their turn in the loop.
TURN = 256


@dataclass(frozen=True)
class ProducerOptions:
    """What a producer is opened with; None is the library's default."""

    max_buffered_messages: int | None = None
    max_buffered_bytes: int | None = None
    max_batch_messages: int | None = None
    max_batch_bytes: int | None = None
    max_in_flight: int | None = None
    delivery_timeout: timedelta | None = None
    retry_unknown: bool = False
    stop_on_error: bool = False

    def build(self) -> Any:
        options = made("producer_options", lib.flowmesh_producer_options_new)
        sizes = {
            "max_buffered_messages": lib.flowmesh_producer_options_set_max_buffered_messages,
            "max_buffered_bytes": lib.flowmesh_producer_options_set_max_buffered_bytes,
            "max_batch_messages": lib.flowmesh_producer_options_set_max_batch_messages,
            "max_batch_bytes": lib.flowmesh_producer_options_set_max_batch_bytes,
            "max_in_flight": lib.flowmesh_producer_options_set_max_in_flight,
        }
        try:
            for name, setter in sizes.items():
                value = getattr(self, name)
                if value is not None:
                    call(setter, options, arguments.size(name, value))
            if self.delivery_timeout is not None:
                limit = arguments.milliseconds("delivery_timeout", self.delivery_timeout)
                call(lib.flowmesh_producer_options_set_delivery_timeout_ms, options, limit)
            retry_unknown = arguments.flag("retry_unknown", self.retry_unknown)
            call(lib.flowmesh_producer_options_set_retry_unknown, options, retry_unknown)
            stop_on_error = arguments.flag("stop_on_error", self.stop_on_error)
            call(lib.flowmesh_producer_options_set_stop_on_error, options, stop_on_error)
        except BaseException:
            lib.flowmesh_producer_options_free(options)
            raise
        return options


class _Producer(Generic[T]):
    """What producers of events and of jobs have in common. It opens with `async with`, or with the
    first message, and belongs to the event loop that does that.
    """

    def __init__(
        self,
        connection: LoopConnection,
        handle: Callable[[Session], Any],
        options: ProducerOptions,
        read: Reader[T],
    ) -> None:
        self._connection = connection
        self._handle = handle
        self._options = options
        self._read = read
        self._session: Session | None = None
        self._id = 0
        self._closed = False
        self._last = 0
        self._pending: dict[int, asyncio.Future[T]] = {}
        self._room: asyncio.Future[None] | None = None
        self._failed = 0
        self._first_failure: Exception | None = None

    async def __aenter__(self: P) -> P:
        self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self.close()
        else:  # what the body has raised counts
            with contextlib.suppress(FlowMeshError):
                await self.close()

    def _open(self) -> Session:
        if self._closed:
            raise records.failure(lib.FLOWMESH_CLOSED, "the producer is closed")
        if self._session is None:
            session = self._connection.ready()
            options = self._options.build()
            try:
                id = self._start(session, self._handle(session), options)
            finally:
                lib.flowmesh_producer_options_free(options)
            session.follow(id, self)
            self._session, self._id = session, id
        if not self._session.usable:
            raise records.failure(lib.FLOWMESH_CLOSED, "the client is closed")
        return self._session

    def _start(self, session: Session, handle: Any, options: Any) -> int:
        """Opens it and gives its id."""
        raise NotImplementedError

    async def _send(
        self, payload: arguments.Bytes, headers: Mapping[str, str] | None, delay: timedelta | None
    ) -> asyncio.Future[T]:
        payload = arguments.data("payload", payload)
        parts: list[bytes] = []
        count = arguments.pack_headers(headers, parts)
        packed = b"".join(parts)
        delay_ms = arguments.milliseconds("delay", delay)
        if self._last % TURN == TURN - 1:
            await asyncio.sleep(0)
        while True:
            session = self._open()
            number = self._last + 1
            try:
                call(
                    lib.fm_producer_send,
                    session.native,
                    self._id,
                    payload,
                    len(payload),
                    packed,
                    count,
                    delay_ms,
                    number,
                )
            except FlowMeshError as error:
                if error.code != lib.FLOWMESH_QUEUE_FULL:
                    raise
            else:
                break
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)
        self._last = number
        delivery: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending[number] = delivery
        return delivery

    def hear(self, status: int, data: records.Buffer, at: int, end: int) -> None:
        for number, status, start, stop in records.pieces(data, at, end):
            if number == 0:
                self._room_again()
                continue
            delivery = self._pending.pop(number, None)
            if delivery is None:  # it was told already
                continue
            if status:
                self._fail(delivery, records.read_failure(status, data, start, stop))
            elif not delivery.done():
                delivery.set_result(self._read(data, start, stop))

    def fail(self, error: Exception) -> None:
        pending, self._pending = self._pending, {}
        for delivery in pending.values():
            self._fail(delivery, error)
        self._room_again()

    def _fail(self, delivery: asyncio.Future[T], error: Exception) -> None:
        self._failed += 1
        self._first_failure = self._first_failure or error
        if not delivery.done():
            delivery.set_exception(error)
            delivery.exception()  # flush() and close() tell, so asyncio need not

    def _room_again(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def _check(self) -> None:
        failed, first = self._failed, self._first_failure
        self._failed, self._first_failure = 0, None
        if failed:
            message = f"{failed} of the messages sent since the last flush failed, the first one: {first}"
            raise records.failure(
                lib.FLOWMESH_ABORTED, message, outcome=lib.FLOWMESH_OUTCOME_UNKNOWN
            ) from first

    async def flush(self) -> None:
        """Waits until every message accepted before has its outcome. FlowMeshAbortedError: some have
        failed since the last flush.
        """
        session = self._open()
        id = self._id
        await self._connection.wait(session, lambda _: _flush(session, id))
        self._check()

    async def close(self, timeout: timedelta | None = None) -> None:
        """Accepts no more, and waits until what was accepted has its outcome; after `timeout` it gives
        up the rest, which fails with FlowMeshClosedError. Raises as `flush`. A second close is fine.
        """
        if timeout is not None:
            arguments.milliseconds("timeout", timeout)
        session, self._session, self._closed = self._session, None, True
        if session is None:
            return
        try:
            if session.usable:
                await drain(self._connection, session, self._id, timeout, lambda: None)
        finally:
            session.forget(self._id, lib.fm_background_free)
            self.fail(records.failure(lib.FLOWMESH_CLOSED, "the producer is closed"))
        self._check()


P = TypeVar("P", bound=_Producer[Any])


def _flush(session: Session, id: int) -> tuple[int, Reader[None]]:
    return lib.fm_producer_flush(session.native, id), records.read_none


async def drain(
    connection: LoopConnection,
    session: Session,
    id: int,
    timeout: timedelta | None,
    give_up: Callable[[], None],
) -> None:
    """Waits for the end of a producer or worker; gives up after the timeout, and waits for what that
    brings.
    """
    limit = -1 if timeout is None else arguments.milliseconds("timeout", timeout)
    with contextlib.suppress(FlowMeshClosedError):  # the client was closed: it has ended
        try:
            await connection.wait(session, lambda _: _close(session, id, limit))
        except FlowMeshTimeoutError:
            give_up()
            await connection.wait(session, lambda _: _close(session, id, -1))


def _close(session: Session, id: int, timeout_ms: int) -> tuple[int, Reader[int]]:
    return lib.fm_background_close(session.native, id, timeout_ms), records.read_number


class StreamProducer(_Producer[int]):
    """Sends events to a stream, in the order of the sends."""

    def _start(self, session: Session, handle: Any, options: Any) -> int:
        return _opened(session, handle, ffi.NULL, options)

    async def send(self, event: Event) -> asyncio.Future[int]:
        """Accepts the event and returns at once; while the buffer is full, waits for room. What it
        returns gives the offset of the event when it is stored, or raises why it is not; nobody has
        to await it.
        """
        if not isinstance(event, Event):
            raise TypeError(f"event must be an Event, not {type(event).__name__}")
        return await self._send(event.payload, event.headers, None)


class QueueProducer(_Producer[tuple[str, int]]):
    """Sends jobs to a queue, up to `max_in_flight` at a time."""

    def _start(self, session: Session, handle: Any, options: Any) -> int:
        return _opened(session, ffi.NULL, handle, options)

    async def send(
        self,
        payload: arguments.Bytes,
        delay: timedelta | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> asyncio.Future[tuple[str, int]]:
        """Accepts the job and returns at once; while the buffer is full, waits for room. What it
        returns gives the id and the number of the job when it is stored, or raises why it is not;
        nobody has to await it.
        """
        return await self._send(payload, headers, delay)


def _opened(session: Session, stream: Any, queue: Any, options: Any) -> int:
    error = ffi.new("flowmesh_error_t **")
    id: int = lib.fm_producer_open(session.native, stream, queue, options, error)
    if not id:
        raise taken(error[0])
    return id
