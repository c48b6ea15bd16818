"""Workers: jobs are handed to an async handler, some at a time, and settled by how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Optional

from . import _arguments as arguments
from . import _records as records
from ._library import call, made, taken
from ._loop import LoopConnection
from ._native import ffi, lib
from ._session import Session
from .exceptions import FlowMeshError, FlowMeshInvalidArgumentError
from .producer import drain
from .types import Job, WorkerEvent

Handler = Callable[[Job], Awaitable[object]]
# What is to become of a job, and when it is due again if it is given back.
Verdict = tuple[int, Optional[timedelta]]

_GIVEN_BACK: Verdict = (lib.FLOWMESH_VERDICT_NACK, None)

_POLL_MODES = {
    "auto": lib.FLOWMESH_POLL_AUTO,
    "long": lib.FLOWMESH_POLL_LONG,
    "safe": lib.FLOWMESH_POLL_SAFE,
}

_logger = logging.getLogger("flowmesh.worker")


class RetryLater(Exception):
    """Raised by a handler: the job is to be tried again, after `delay` or when the retry policy says."""

    def __init__(self, delay: timedelta | None = None) -> None:
        super().__init__("try again later" if delay is None else f"try again in {delay}")
        self.delay = delay


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker is opened with; None is the library's default."""

    concurrency: int = 1
    prefetch: int | None = None
    visibility_timeout: timedelta | None = None
    poll_mode: str = "auto"
    on_event: Callable[[WorkerEvent], object] | None = None

    def build(self) -> Any:
        options = made("worker_options", lib.flowmesh_worker_options_new)
        try:
            concurrency = arguments.size("concurrency", self.concurrency)
            call(lib.flowmesh_worker_options_set_concurrency, options, concurrency)
            if self.prefetch is not None:
                prefetch = arguments.size("prefetch", self.prefetch)
                call(lib.flowmesh_worker_options_set_prefetch, options, prefetch)
            mode = arguments.choice("poll_mode", self.poll_mode, _POLL_MODES)
            call(lib.flowmesh_worker_options_set_poll_mode, options, mode)
            lease = arguments.milliseconds("visibility_timeout", self.visibility_timeout)
            call(lib.flowmesh_worker_options_set_visibility_timeout_ms, options, lease)
        except BaseException:
            lib.flowmesh_worker_options_free(options)
            raise
        return options


class Worker:
    """Works on a queue from `async with`, or `open()`, to its end, or `close()`. Each job has a task.

    A handler that returns is done with its job. One that raises gives it back, to be tried again when
    the retry policy says, or as RetryLater says; other exceptions are logged, by the logger
    "flowmesh.worker". A handler whose lease is lost is cancelled, and its verdict is not sent.
    """

    def __init__(
        self,
        connection: LoopConnection,
        handle: Callable[[Session], Any],
        handler: Handler,
        options: WorkerOptions,
    ) -> None:
        if not callable(handler):
            raise TypeError(f"handler must be a function, not {type(handler).__name__}")
        self._connection = connection
        self._handle = handle
        self._handler = handler
        self._options = options
        self._session: Session | None = None
        self._id = 0
        self._closed = False
        self._stopped = False
        self._tasks: dict[int, tuple[str, asyncio.Task[Verdict]]] = {}
        self._ended: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Worker:
        self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def open(self) -> None:
        """Begins to work. It connects in the background: what fails there is an event."""
        if self._closed:
            raise records.failure(lib.FLOWMESH_CLOSED, "the worker is closed")
        if self._session is not None:
            return
        session = self._connection.ready()
        options = self._options.build()
        error = ffi.new("flowmesh_error_t **")
        try:
            id = lib.fm_worker_open(session.native, self._handle(session), options, error)
        finally:
            lib.flowmesh_worker_options_free(options)
        if not id:
            raise taken(error[0])
        session.follow(id, self)
        self._session, self._id = session, id
        self._ended = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        """Waits until the worker is closed, or has ended by itself, as when the server refuses it: then
        it raises why.
        """
        if not self._closed:
            self.open()
        if self._session is None:
            return
        assert self._ended is not None
        await asyncio.shield(self._ended)

    def hear(self, status: int, data: records.Buffer, at: int, end: int) -> None:
        for number, what, start, stop in records.pieces(data, at, end):
            if number == 0:
                self._happened(records.read_event(what, data, start, stop))
            elif number not in self._tasks:  # or it was told already
                job = records.read_job(data, start, stop)
                assert job is not None
                self._begin(number, job)

    def fail(self, error: Exception) -> None:
        self._end(error)
        self.stop()

    def _happened(self, event: WorkerEvent) -> None:
        if event.kind == "lease lost":
            for job_id, task in self._tasks.values():
                if job_id == event.job_id:
                    task.cancel()
        if self._options.on_event is not None:
            asyncio.get_running_loop().call_soon(self._options.on_event, event)
        if event.kind == "ended":
            self._end(event.reason)

    def _end(self, reason: Exception | None) -> None:
        ended = self._ended
        if ended is None or ended.done():
            return
        if reason is None:
            ended.set_result(None)
        else:
            ended.set_exception(reason)
            ended.exception()  # told to those who wait, if any do

    async def _verdict(self, job: Job) -> Verdict:
        try:
            await self._handler(job)
        except RetryLater as later:
            return lib.FLOWMESH_VERDICT_NACK, later.delay
        except Exception:
            _logger.warning("the handler of job %s failed (delivery %d)", job.id, job.attempts, exc_info=True)
            return _GIVEN_BACK
        return lib.FLOWMESH_VERDICT_ACK, None

    def _begin(self, number: int, job: Job) -> None:
        def done(task: asyncio.Task[Verdict]) -> None:
            # Cancelled: the lease is lost, or nobody waits for the verdict any more.
            failed = task.cancelled() or task.exception() is not None
            del self._tasks[number]
            self._settle(number, job, *(_GIVEN_BACK if failed else task.result()))

        task = asyncio.get_running_loop().create_task(self._verdict(job))
        self._tasks[number] = job.id, task
        task.add_done_callback(done)

    def _settle(self, number: int, job: Job, verdict: int, delay: timedelta | None) -> None:
        session = self._session
        if session is None or not session.usable:
            return
        try:
            delay_ms = arguments.milliseconds("delay", delay)
        except (TypeError, FlowMeshInvalidArgumentError) as error:
            delay_ms = 0
            self._not_settled(job, error)
        try:
            call(lib.fm_worker_settle, session.native, self._id, number, verdict, delay_ms)
        except FlowMeshInvalidArgumentError as error:
            self._not_settled(job, error)
        except FlowMeshError:
            pass  # the worker has ended, or the lease, which was told

    def _not_settled(self, job: Job, error: Exception) -> None:
        """A delay that cannot be: the job does not wait for the end of its lease for that."""
        self._happened(WorkerEvent("not settled", job.id, job.seq, job.attempts, error))

    async def close(self, timeout: timedelta | None = None) -> None:
        """Fetches nothing more, and waits until the handlers have finished and their verdicts are
        stored; after `timeout`, or when it is cancelled itself, it cancels the handlers that still
        run, and their jobs come again. A second close is fine.
        """
        if timeout is not None:
            arguments.milliseconds("timeout", timeout)
        session, self._closed = self._session, True
        if session is None or self._stopped:
            return
        self._stopped = True
        try:
            if session.usable:
                await drain(self._connection, session, self._id, timeout, self.stop)
        finally:
            self.stop()
            session.forget(self._id, lib.fm_background_free)
            self._end(None)
        tasks = [task for _, task in self._tasks.values()]
        if tasks:
            await asyncio.wait(tasks)

    def stop(self) -> None:
        """Stops at once: fetches, hands out and settles nothing more, and cancels the handlers. Close it
        all the same.
        """
        session = self._session
        if session is not None and session.usable:
            lib.fm_worker_stop(session.native, self._id, ffi.NULL)
        for _, task in list(self._tasks.values()):
            task.cancel()
