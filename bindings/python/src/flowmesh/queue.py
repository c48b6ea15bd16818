"""Queues: jobs that are leased, acknowledged, retried and dead-lettered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from . import _operations as operations
from ._arguments import Bytes
from ._loop import LoopConnection
from ._records import read_enqueued
from ._session import Session
from .producer import ProducerOptions, QueueProducer
from .types import Job, QueueStats, RetryPolicy, WorkerEvent
from .worker import Handler, Worker, WorkerOptions


class QueueClient:
    """The queues of a client, as `client.queue`. Tenant, namespace and queue name a queue; the first
    enqueue, reserve or policy creates it. Times are rounded up to whole seconds by the server.
    """

    def __init__(self, connection: LoopConnection) -> None:
        self._connection = connection

    async def enqueue(
        self,
        tenant: str,
        namespace: str,
        queue: str,
        payload: Bytes,
        delay: timedelta | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[str, int]:
        """Adds a job, due now or after `delay`; its id and its number in the queue."""
        return await self._connection.call(
            operations.enqueue, tenant, namespace, queue, payload, delay, headers
        )

    def producer(
        self,
        tenant: str,
        namespace: str,
        queue: str,
        *,
        max_buffered_messages: int | None = None,
        max_buffered_bytes: int | None = None,
        max_in_flight: int | None = None,
        delivery_timeout: timedelta | None = None,
        retry_unknown: bool = False,
        stop_on_error: bool = False,
    ) -> QueueProducer:
        """A producer of jobs, for `async with`: accepts them at once and sends them in the background,
        up to `max_in_flight` at a time (64; with 1 they are stored in the order of the sends). The
        rest is as with a stream's producer.
        """
        options = ProducerOptions(
            max_buffered_messages=max_buffered_messages,
            max_buffered_bytes=max_buffered_bytes,
            max_in_flight=max_in_flight,
            delivery_timeout=delivery_timeout,
            retry_unknown=retry_unknown,
            stop_on_error=stop_on_error,
        )
        handle = self._handle_of(tenant, namespace, queue)
        return QueueProducer(self._connection, handle, options, read_enqueued)

    def worker(
        self,
        tenant: str,
        namespace: str,
        queue: str,
        handler: Handler,
        *,
        concurrency: int = 1,
        prefetch: int | None = None,
        visibility_timeout: timedelta | None = None,
        poll_mode: str = "auto",
        on_event: Callable[[WorkerEvent], object] | None = None,
    ) -> Worker:
        """A worker, for `async with`: hands the jobs of the queue to `handler`, an async function, up
        to `concurrency` (at most 4096) at a time, and acknowledges them or gives them back as it ends.

        `prefetch` jobs at most are leased ahead (16, at most 100), for 30 s or `visibility_timeout`,
        which should be longer than a handler ever takes. `poll_mode` is how it asks for jobs: "auto"
        (as the server can), "long", or "safe" (for the original engine, see flowmesh.h). `on_event` is
        told what happens besides.
        """
        options = WorkerOptions(concurrency, prefetch, visibility_timeout, poll_mode, on_event)
        return Worker(self._connection, self._handle_of(tenant, namespace, queue), handler, options)

    def _handle_of(self, tenant: str, namespace: str, queue: str) -> Callable[[Session], Any]:
        return lambda session: session.queue(tenant, namespace, queue)

    async def reserve(
        self,
        tenant: str,
        namespace: str,
        queue: str,
        visibility_timeout: timedelta | None = None,
        long_poll_timeout: timedelta | None = None,
    ) -> Job | None:
        """Leases the next job that is due, for 30 s or `visibility_timeout`, waiting up to
        `long_poll_timeout` for one; None when there was none.
        """
        return await self._connection.call(
            operations.reserve, tenant, namespace, queue, visibility_timeout, long_poll_timeout
        )

    async def receive(
        self,
        tenant: str,
        namespace: str,
        queue: str,
        max_jobs: int = 1,
        visibility_timeout: timedelta | None = None,
        long_poll_timeout: timedelta | None = None,
    ) -> list[Job]:
        """Leases up to `max_jobs` (1 to 100; 0 is 1) jobs, waiting for the first as `reserve` does."""
        return await self._connection.call(
            operations.receive, tenant, namespace, queue, max_jobs, visibility_timeout, long_poll_timeout
        )

    async def ack(self, tenant: str, namespace: str, queue: str, job_id: str) -> None:
        """The job is done and gone. An id that is not leased any more is no failure."""
        await self._connection.call(operations.ack, tenant, namespace, queue, job_id)

    async def nack(
        self, tenant: str, namespace: str, queue: str, job_id: str, delay: timedelta | None = None
    ) -> bool:
        """Gives the job back, to be tried again after `delay` or, where that is None or 0, the policy's
        backoff. True: it was at its attempt limit, and is a dead letter now.
        """
        return await self._connection.call(operations.nack, tenant, namespace, queue, job_id, delay)

    async def get_stats(self, tenant: str, namespace: str, queue: str) -> QueueStats:
        """The counters of the queue."""
        return await self._connection.call(operations.get_stats, tenant, namespace, queue)

    async def set_retry_policy(self, tenant: str, namespace: str, queue: str, policy: RetryPolicy) -> None:
        """Sets when failed jobs are tried again."""
        await self._connection.call(operations.set_retry_policy, tenant, namespace, queue, policy)

    async def get_retry_policy(self, tenant: str, namespace: str, queue: str) -> RetryPolicy:
        """The policy in force."""
        return await self._connection.call(operations.get_retry_policy, tenant, namespace, queue)

    async def list_dlq_jobs(self, tenant: str, namespace: str, queue: str, max_jobs: int = 100) -> list[Job]:
        """Dead letters of the queue, oldest first, not leased."""
        return await self._connection.call(operations.list_dlq_jobs, tenant, namespace, queue, max_jobs)

    async def replay_dlq_job(self, tenant: str, namespace: str, queue: str, job_id: str) -> tuple[str, int]:
        """Moves a dead letter back into the queue as a new job; its new id and number."""
        return await self._connection.call(operations.replay_dlq_job, tenant, namespace, queue, job_id)
