"""The client without asyncio: the same calls, which return when they are done.

    from flowmesh.blocking import FlowMesh

Any number of threads may share a client. Ctrl-C ends a call that waits.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from datetime import timedelta
from types import TracebackType

from . import _operations as operations
from ._arguments import Bytes
from ._client import Client
from ._settings import Settings
from ._threads import ThreadConnection
from .exceptions import FlowMeshConnectionError, FlowMeshTimeoutError
from .types import ConsumerGroupState, Event, Job, Message, QueueStats, RetryPolicy


class FlowMesh(Client[ThreadConnection]):
    """As flowmesh.FlowMesh, for any number of threads: it is made with the same arguments."""

    def _begin(self, settings: Settings) -> None:
        self._connection = connection = ThreadConnection(settings)
        self.stream = StreamClient(connection)
        self.queue = QueueClient(connection)
        self.kv = KVClient(connection)

    def __enter__(self) -> FlowMesh:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Waits until the endpoint answers, which it does whatever the token. Opens a closed client
        again.
        """
        self._connection.connect()

    def close(self) -> None:
        """Ends every call and subscription, in any thread, and the connection."""
        self._connection.close()

    def health_check(self) -> bool:
        """Whether the server gives a sign of life."""
        try:
            self._connection.call(operations.health_check)
        except (FlowMeshConnectionError, FlowMeshTimeoutError):
            return False
        return True

    def readiness_check(self) -> bool:
        """Whether the server can take work."""
        try:
            return self._connection.call(operations.readiness_check)
        except (FlowMeshConnectionError, FlowMeshTimeoutError):
            return False


class StreamClient:
    """The streams of a client, as `client.stream`. Tenant, namespace and stream name a stream; the
    first write or subscription creates it.
    """

    def __init__(self, connection: ThreadConnection) -> None:
        self._connection = connection

    def write(self, tenant: str, namespace: str, stream: str, events: Iterable[Event]) -> list[int]:
        """Appends the events as one batch, whole or not at all; the offset of each."""
        return self._connection.call(operations.write, tenant, namespace, stream, events)

    def read(
        self,
        tenant: str,
        namespace: str,
        stream: str,
        partition: int = 0,
        offset: int = 0,
        max_messages: int = 10,
    ) -> list[Message]:
        """Messages from `offset` on, up to `max_messages` (at most 1000); none past the end."""
        return self._connection.call(
            operations.read, tenant, namespace, stream, partition, offset, max_messages
        )

    def subscribe(
        self,
        tenant: str,
        namespace: str,
        stream: str,
        consumer_group: str,
        partition: int = 0,
        start_offset: int = -1,
    ) -> Generator[Message, None, None]:
        """Follows the stream, without gap or repeat over lost connections: a generator.

        `start_offset`: an offset; -1 behind what the group has committed; -2 only what is new. The
        position is fixed when the iteration begins. Nothing is committed by itself: see
        `commit_offset`. Leaving the loop ends the subscription when the generator is closed
        (`close()`) or collected.
        """
        return self._connection.follow(tenant, namespace, stream, consumer_group, partition, start_offset)

    def commit_offset(
        self, tenant: str, namespace: str, stream: str, consumer_group: str, partition: int, offset: int
    ) -> None:
        """Records `offset` as the last one that the group has processed; -1 forgets."""
        self._connection.call(
            operations.commit_offset, tenant, namespace, stream, consumer_group, partition, offset
        )

    def get_offset(
        self, tenant: str, namespace: str, stream: str, consumer_group: str, partition: int = 0
    ) -> int:
        """The last offset that the group has committed, -1 when none."""
        return self._connection.call(
            operations.get_offset, tenant, namespace, stream, consumer_group, partition
        )

    def get_latest_offset(self, tenant: str, namespace: str, stream: str, partition: int = 0) -> int:
        """The last offset written, -1 when the stream is empty."""
        return self._connection.call(operations.get_latest_offset, tenant, namespace, stream, partition)

    def get_consumer_group_state(
        self, tenant: str, namespace: str, stream: str, consumer_group: str, partition: int = 0
    ) -> ConsumerGroupState:
        """Where the group stands, and how far it is behind."""
        return self._connection.call(
            operations.get_consumer_group_state, tenant, namespace, stream, consumer_group, partition
        )


class QueueClient:
    """The queues of a client, as `client.queue`. Tenant, namespace and queue name a queue; the first
    enqueue, reserve or policy creates it. Times are rounded up to whole seconds by the server.
    """

    def __init__(self, connection: ThreadConnection) -> None:
        self._connection = connection

    def enqueue(
        self,
        tenant: str,
        namespace: str,
        queue: str,
        payload: Bytes,
        delay: timedelta | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[str, int]:
        """Adds a job, due now or after `delay`; its id and its number in the queue."""
        return self._connection.call(operations.enqueue, tenant, namespace, queue, payload, delay, headers)

    def reserve(
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
        return self._connection.call(
            operations.reserve, tenant, namespace, queue, visibility_timeout, long_poll_timeout
        )

    def receive(
        self,
        tenant: str,
        namespace: str,
        queue: str,
        max_jobs: int = 1,
        visibility_timeout: timedelta | None = None,
        long_poll_timeout: timedelta | None = None,
    ) -> list[Job]:
        """Leases up to `max_jobs` (1 to 100; 0 is 1) jobs, waiting for the first as `reserve` does."""
        return self._connection.call(
            operations.receive, tenant, namespace, queue, max_jobs, visibility_timeout, long_poll_timeout
        )

    def ack(self, tenant: str, namespace: str, queue: str, job_id: str) -> None:
        """The job is done and gone. An id that is not leased any more is no failure."""
        self._connection.call(operations.ack, tenant, namespace, queue, job_id)

    def nack(
        self, tenant: str, namespace: str, queue: str, job_id: str, delay: timedelta | None = None
    ) -> bool:
        """Gives the job back, to be tried again after `delay` or, where that is None or 0, the policy's
        backoff. True: it was at its attempt limit, and is a dead letter now.
        """
        return self._connection.call(operations.nack, tenant, namespace, queue, job_id, delay)

    def get_stats(self, tenant: str, namespace: str, queue: str) -> QueueStats:
        """The counters of the queue."""
        return self._connection.call(operations.get_stats, tenant, namespace, queue)

    def set_retry_policy(self, tenant: str, namespace: str, queue: str, policy: RetryPolicy) -> None:
        """Sets when failed jobs are tried again."""
        self._connection.call(operations.set_retry_policy, tenant, namespace, queue, policy)

    def get_retry_policy(self, tenant: str, namespace: str, queue: str) -> RetryPolicy:
        """The policy in force."""
        return self._connection.call(operations.get_retry_policy, tenant, namespace, queue)

    def list_dlq_jobs(self, tenant: str, namespace: str, queue: str, max_jobs: int = 100) -> list[Job]:
        """Dead letters of the queue, oldest first, not leased."""
        return self._connection.call(operations.list_dlq_jobs, tenant, namespace, queue, max_jobs)

    def replay_dlq_job(self, tenant: str, namespace: str, queue: str, job_id: str) -> tuple[str, int]:
        """Moves a dead letter back into the queue as a new job; its new id and number."""
        return self._connection.call(operations.replay_dlq_job, tenant, namespace, queue, job_id)


class KVClient:
    """The stores of a client, as `client.kv`. Tenant, namespace and store name a store; the first set
    creates it.
    """

    def __init__(self, connection: ThreadConnection) -> None:
        self._connection = connection

    def set(
        self,
        tenant: str,
        namespace: str,
        store: str,
        key: str,
        value: Bytes,
        ttl: timedelta | None = None,
    ) -> None:
        """Stores a value of at least 1 byte, for `ttl` (above 0, rounded up to whole seconds) or, without
        one, for ever.
        """
        self._connection.call(operations.kv_set, tenant, namespace, store, key, value, ttl)

    def get(self, tenant: str, namespace: str, store: str, key: str) -> bytes:
        """The value of the key; FlowMeshNotFoundError when there is none."""
        return self._connection.call(operations.kv_get, tenant, namespace, store, key)

    def delete(self, tenant: str, namespace: str, store: str, key: str) -> None:
        """Removes the key; one that is not there is no failure."""
        self._connection.call(operations.kv_delete, tenant, namespace, store, key)

    def exists(self, tenant: str, namespace: str, store: str, key: str) -> bool:
        """Whether the key is there."""
        return self._connection.call(operations.kv_exists, tenant, namespace, store, key)

    def list_keys(self, tenant: str, namespace: str, store: str, prefix: str = "") -> list[str]:
        """Every key that starts with `prefix`, in byte order."""
        return self._connection.call(operations.kv_list_keys, tenant, namespace, store, prefix)
