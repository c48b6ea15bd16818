"""Cancelling what waits: tasks, timeouts, generators."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from datetime import timedelta

import pytest
from conftest import Name, ending

from flowmesh import Event, FlowMesh
from flowmesh._session import Session

HOUR = timedelta(hours=1)


def session_of(client: FlowMesh) -> Session:
    session = client._connection.session
    assert session is not None
    return session


async def nothing_waits(client: FlowMesh) -> None:
    """Returns when every call of the library has completed."""
    while session_of(client)._waiters:
        await asyncio.sleep(0.001)


async def test_a_cancelled_task_cancels_the_call(client: FlowMesh, name: Name) -> None:
    waiting = asyncio.ensure_future(client.queue.reserve(*name, timedelta(seconds=1), HOUR))
    await client.health_check()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not session_of(client)._waiters  # it has ended, not only been told to
    # A server may still give a job to the one who has just left; then it comes again.
    await client.queue.enqueue(*name, b"x")
    assert await client.queue.reserve(*name, long_poll_timeout=timedelta(minutes=1)) is not None


async def test_a_timeout_cancels_the_call(client: FlowMesh, name: Name) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client.queue.receive(*name, long_poll_timeout=HOUR), 0.05)
    await nothing_waits(client)


async def test_calls_cancelled_at_any_moment_leave_nothing(client: FlowMesh, name: Name) -> None:
    await client.kv.set(*name, "key", b"v")
    for turn in range(300):
        call = asyncio.ensure_future(client.kv.get(*name, "key"))
        for _ in range(turn % 4):
            await asyncio.sleep(0)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await call == b"v"
    assert await client.kv.get(*name, "key") == b"v"
    await nothing_waits(client)


async def test_closing_the_generator_ends_the_subscription(client: FlowMesh, name: Name) -> None:
    await client.stream.write(*name, [Event(b"x")])
    messages = client.stream.subscribe(*name, "g")
    assert (await messages.__anext__()).payload == b"x"
    assert len(session_of(client)._followers) == 1
    await messages.aclose()
    assert not session_of(client)._followers
    with pytest.raises(StopAsyncIteration):
        await messages.__anext__()


async def test_cancelling_one_who_follows_ends_the_subscription(client: FlowMesh, name: Name) -> None:
    async def follow() -> None:
        async for _ in client.stream.subscribe(*name, "g"):
            raise AssertionError("nothing is written")

    following = asyncio.ensure_future(follow())
    await client.health_check()
    assert len(session_of(client)._followers) == 1
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    del following
    gc.collect()
    while session_of(client)._followers:
        await asyncio.sleep(0.001)


async def test_a_generator_that_was_left_is_closed_by_the_loop(client: FlowMesh, name: Name) -> None:
    await client.stream.write(*name, [Event(b"x")] * 3)
    async for _ in client.stream.subscribe(*name, "g"):
        break
    gc.collect()
    while session_of(client)._followers:
        await asyncio.sleep(0.001)


async def test_a_generator_that_was_never_begun_does_nothing(client: FlowMesh, name: Name) -> None:
    messages = client.stream.subscribe(*name, "g")
    assert not session_of(client)._followers
    await messages.aclose()


async def test_many_subscriptions_end_in_the_midst_of_delivery(client: FlowMesh, name: Name) -> None:
    for _ in range(4):
        await client.stream.write(*name, [Event(b"x" * 500)] * 2000)

    async def some(count: int) -> None:
        async with ending(client.stream.subscribe(*name, "g", start_offset=0)) as messages:
            async for message in messages:
                if message.offset == count:
                    return

    await asyncio.gather(*(some(count * 37) for count in range(100)))
    assert not session_of(client)._followers
