"""Streams: ordered logs of events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from datetime import timedelta

from . import _operations as operations
from ._loop import LoopConnection
from ._records import read_number
from .producer import ProducerOptions, StreamProducer
from .types import ConsumerGroupState, Event, Message


class StreamClient:
    """The streams of a client, as `client.stream`. Tenant, namespace and stream name a stream; the
    first write or subscription creates it.
    """

    def __init__(self, connection: LoopConnection) -> None:
        self._connection = connection

    async def write(self, tenant: str, namespace: str, stream: str, events: Iterable[Event]) -> list[int]:
        """Appends the events as one batch, whole or not at all; the offset of each."""
        return await self._connection.call(operations.write, tenant, namespace, stream, events)

    async def read(
        self,
        tenant: str,
        namespace: str,
        stream: str,
        partition: int = 0,
        offset: int = 0,
        max_messages: int = 10,
    ) -> list[Message]:
        """Messages from `offset` on, up to `max_messages` (at most 1000); none past the end."""
        return await self._connection.call(
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
    ) -> AsyncGenerator[Message, None]:
        """Follows the stream, without gap or repeat over lost connections: an async generator.

        `start_offset`: an offset; -1 behind what the group has committed; -2 only what is new. The
        position is fixed when the iteration begins. Nothing is committed by itself: see
        `commit_offset`. Leaving the loop ends the subscription when the generator is closed
        (`aclose()`, `contextlib.aclosing`) or collected.
        """
        return self._connection.follow(tenant, namespace, stream, consumer_group, partition, start_offset)

    def producer(
        self,
        tenant: str,
        namespace: str,
        stream: str,
        *,
        max_buffered_messages: int | None = None,
        max_buffered_bytes: int | None = None,
        max_batch_messages: int | None = None,
        max_batch_bytes: int | None = None,
        delivery_timeout: timedelta | None = None,
        retry_unknown: bool = False,
        stop_on_error: bool = False,
    ) -> StreamProducer:
        """A producer of events, for `async with`: accepts them at once and sends them in the background.

        So many messages and bytes wait for their outcome at most (100000, 64 MiB), and are in one
        request (10000, 1 MiB). A message fails that could not be delivered within `delivery_timeout`
        (2 minutes). `retry_unknown`: what may have been stored is sent again, and can so be stored
        twice. `stop_on_error`: the first that fails ends the producer, so that no gap comes about.
        """
        options = ProducerOptions(
            max_buffered_messages=max_buffered_messages,
            max_buffered_bytes=max_buffered_bytes,
            max_batch_messages=max_batch_messages,
            max_batch_bytes=max_batch_bytes,
            delivery_timeout=delivery_timeout,
            retry_unknown=retry_unknown,
            stop_on_error=stop_on_error,
        )
        return StreamProducer(
            self._connection,
            lambda session: session.stream(tenant, namespace, stream),
            options,
            read_number,
        )

    async def commit_offset(
        self, tenant: str, namespace: str, stream: str, consumer_group: str, partition: int, offset: int
    ) -> None:
        """Records `offset` as the last one that the group has processed; -1 forgets."""
        await self._connection.call(
            operations.commit_offset, tenant, namespace, stream, consumer_group, partition, offset
        )

    async def get_offset(
        self, tenant: str, namespace: str, stream: str, consumer_group: str, partition: int = 0
    ) -> int:
        """The last offset that the group has committed, -1 when none."""
        return await self._connection.call(
            operations.get_offset, tenant, namespace, stream, consumer_group, partition
        )

    async def get_latest_offset(self, tenant: str, namespace: str, stream: str, partition: int = 0) -> int:
        """The last offset written, -1 when the stream is empty."""
        return await self._connection.call(operations.get_latest_offset, tenant, namespace, stream, partition)

    async def get_consumer_group_state(
        self, tenant: str, namespace: str, stream: str, consumer_group: str, partition: int = 0
    ) -> ConsumerGroupState:
        """Where the group stands, and how far it is behind."""
        return await self._connection.call(
            operations.get_consumer_group_state, tenant, namespace, stream, consumer_group, partition
        )
