"""Ten thousand calls at once, and what is left when they are done."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
import tracemalloc
from datetime import timedelta

from conftest import PATIENCE, Name, ending

from flowmesh import Event, FlowMesh, FlowMeshNotFoundError, Job


def threads_of_process() -> int:
    return len(os.listdir("/proc/self/task"))


def descriptors_of_process() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_ten_thousand_awaits_at_once(client: FlowMesh, name: Name) -> None:
    await client.kv.set(*name, "key", b"v" * 100)
    threads, python_threads = threads_of_process(), threading.active_count()
    values = await asyncio.gather(*(client.kv.get(*name, "key") for _ in range(10_000)))
    assert values == [b"v" * 100] * 10_000
    assert threads_of_process() <= threads
    assert threading.active_count() == python_threads


async def test_ten_thousand_waits_for_jobs_are_cancelled(client: FlowMesh, name: Name) -> None:
    hour = timedelta(hours=1)
    waiting = [
        asyncio.ensure_future(client.queue.reserve(*name, long_poll_timeout=hour)) for _ in range(10_000)
    ]
    await asyncio.sleep(0)
    for call in waiting:
        call.cancel()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended)
    assert await client.health_check()


async def everything(client: FlowMesh, name: Name) -> None:
    await client.stream.write(*name, [Event(b"x" * 100, {"k": "v"})] * 50)
    await client.stream.read(*name, max_messages=50)
    async with ending(client.stream.subscribe(*name, "g", start_offset=0)) as messages:
        async for message in messages:
            if message.offset == 49:
                break
    await client.stream.commit_offset(*name, "g", 0, 49)
    await client.stream.get_consumer_group_state(*name, "g")
    await client.queue.enqueue(*name, b"x" * 100, headers={"k": "v"})
    for job in await client.queue.receive(*name, max_jobs=10):
        await client.queue.ack(*name, job.id)
    await in_the_background(client, name)
    await client.kv.set(*name, "key", b"x" * 1000)
    await client.kv.get(*name, "key")
    await client.kv.list_keys(*name)
    with contextlib.suppress(FlowMeshNotFoundError):
        await client.kv.get(*name, "not there")
    waiting = asyncio.ensure_future(client.queue.reserve(*name, long_poll_timeout=timedelta(hours=1)))
    await client.health_check()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def in_the_background(client: FlowMesh, name: Name) -> None:
    async with client.stream.producer(*name) as producer:
        deliveries = [await producer.send(Event(b"x" * 100, {"k": "v"})) for _ in range(50)]
    assert all(delivery.done() for delivery in deliveries)
    handled = asyncio.Event()

    async def handle(job: Job) -> None:
        handled.set()

    async with client.queue.producer(*name) as jobs, client.queue.worker(*name, handle):
        await jobs.send(b"x" * 100, headers={"k": "v"})
        await handled.wait()


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_calls_leave_no_memory(client: FlowMesh, name: Name) -> None:
    for _ in range(20):
        await everything(client, name)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(100):
            await everything(client, name)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A hundred turns, each of which handled some 20 KB in 60 objects.
    assert after - before < 50_000


async def test_the_glue_leaves_no_memory(client: FlowMesh, name: Name) -> None:
    value = b"x" * 100_000
    await client.kv.set(*name, "key", value)

    async def turn() -> None:
        for _ in range(20):
            values = await asyncio.gather(*(client.kv.get(*name, "key") for _ in range(50)))
            assert values[0] == value

    await turn()
    gc.collect()
    before = resident()
    for _ in range(5):
        await turn()
    gc.collect()
    # 500 MB were read; what the allocator keeps is far less.
    assert resident() - before < 100_000_000


async def test_clients_leave_no_descriptors_and_no_memory(endpoint: str, name: Name) -> None:
    async def turn() -> None:
        async with FlowMesh(endpoint) as client:
            await everything(client, name)

    for _ in range(3):
        await turn()
    gc.collect()
    descriptors, threads = descriptors_of_process(), threads_of_process()
    for _ in range(20):
        await turn()
    gc.collect()
    assert descriptors_of_process() <= descriptors
    # The system lists a thread for a moment after it was joined.
    until = time.monotonic() + PATIENCE
    while threads_of_process() > threads and time.monotonic() < until:
        await asyncio.sleep(0.001)
    assert threads_of_process() <= threads
