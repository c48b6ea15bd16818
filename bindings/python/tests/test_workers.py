"""Workers, in memory and on a server; what is about time, with a clock moved by hand."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import PATIENCE, Name, Server
from test_client import new_token

from flowmesh import (
    FlowMesh,
    FlowMeshClosedError,
    FlowMeshInvalidArgumentError,
    FlowMeshPermissionDeniedError,
    Job,
    RetryLater,
    RetryPolicy,
    WorkerEvent,
)


async def enqueue(client: FlowMesh, name: Name, *payloads: bytes) -> None:
    for payload in payloads:
        await client.queue.enqueue(*name, payload)


async def test_each_job_is_handled_and_acknowledged(client: FlowMesh, name: Name) -> None:
    count, at_once = 200, 8
    await enqueue(client, name, *(b"%d" % i for i in range(count)))
    running = most = 0
    seen: set[bytes] = set()
    done = asyncio.Event()

    async def handle(job: Job) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        seen.add(job.payload)
        if len(seen) == count:
            done.set()

    async with client.queue.worker(*name, handle, concurrency=at_once):
        await asyncio.wait_for(done.wait(), PATIENCE)
    assert 1 < most <= at_once
    stats = await client.queue.get_stats(*name)
    assert (stats.completed_jobs, stats.in_flight_jobs, stats.pending_jobs) == (count, 0, 0)
    assert client.get_client_stats().worker_jobs == 0


async def test_a_handler_that_raises_gives_the_job_back(
    client: FlowMesh, name: Name, caplog: pytest.LogCaptureFixture
) -> None:
    await client.queue.set_retry_policy(*name, RetryPolicy(max_attempts=1))
    await enqueue(client, name, b"bad")
    events: asyncio.Queue[WorkerEvent] = asyncio.Queue()

    async def handle(job: Job) -> None:
        raise ValueError("cannot do that")

    with caplog.at_level(logging.WARNING):
        async with client.queue.worker(*name, handle, on_event=events.put_nowait):
            event = await asyncio.wait_for(events.get(), PATIENCE)
    assert (event.kind, event.seq, event.attempts, len(event.job_id)) == ("dead-lettered", 0, 1, 32)
    [record] = caplog.records
    assert record.name == "flowmesh.worker" and event.job_id in record.getMessage()
    assert record.exc_info is not None and isinstance(record.exc_info[1], ValueError)


async def test_later_is_when_the_handler_says(clocked: FlowMesh, name: Name) -> None:
    await enqueue(clocked, name, b"x")
    attempts: asyncio.Queue[int] = asyncio.Queue()
    events: asyncio.Queue[WorkerEvent] = asyncio.Queue()

    async def handle(job: Job) -> None:
        attempts.put_nowait(job.attempts)
        if job.attempts == 1:
            raise RetryLater(timedelta(hours=1))
        if job.attempts == 2:
            raise RetryLater(timedelta(days=1000))

    async with clocked.queue.worker(*name, handle, on_event=events.put_nowait):
        assert await asyncio.wait_for(attempts.get(), PATIENCE) == 1
        while (await clocked.queue.get_stats(*name)).in_flight_jobs:
            await asyncio.sleep(0.001)
        assert attempts.empty()
        clocked.advance_test_clock(timedelta(hours=1))
        assert await asyncio.wait_for(attempts.get(), PATIENCE) == 2
        # A delay that cannot be: the policy's backoff in its place, and it is told.
        event = await asyncio.wait_for(events.get(), PATIENCE)
        assert event.kind == "not settled" and isinstance(event.reason, FlowMeshInvalidArgumentError)
        while (await clocked.queue.get_stats(*name)).in_flight_jobs:
            await asyncio.sleep(0.001)
        clocked.advance_test_clock(timedelta(minutes=1))
        assert await asyncio.wait_for(attempts.get(), PATIENCE) == 3


async def test_a_lost_lease_cancels_the_handler(clocked: FlowMesh, name: Name) -> None:
    await enqueue(clocked, name, b"x")
    began: asyncio.Queue[int] = asyncio.Queue()
    lost = asyncio.Event()

    async def handle(job: Job) -> None:
        began.put_nowait(job.attempts)
        if job.attempts == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost.set()
                raise

    lease = timedelta(seconds=10)
    async with clocked.queue.worker(*name, handle, visibility_timeout=lease, prefetch=0):
        assert await asyncio.wait_for(began.get(), PATIENCE) == 1
        clocked.advance_test_clock(lease + timedelta(milliseconds=500))
        await asyncio.wait_for(lost.wait(), PATIENCE)
        clocked.advance_test_clock(timedelta(seconds=2))
        assert await asyncio.wait_for(began.get(), PATIENCE) == 2


async def test_closing_waits_for_handlers_or_cancels_them(client: FlowMesh, name: Name) -> None:
    await enqueue(client, name, b"x")
    began, go_on = asyncio.Event(), asyncio.Event()

    async def handle(job: Job) -> None:
        began.set()
        await go_on.wait()

    worker = client.queue.worker(*name, handle)
    worker.open()
    await asyncio.wait_for(began.wait(), PATIENCE)
    closing = asyncio.ensure_future(worker.close())
    await client.health_check()
    assert not closing.done()
    go_on.set()
    await closing
    await worker.close()
    await worker.wait()
    assert (await client.queue.get_stats(*name)).completed_jobs == 1
    with pytest.raises(FlowMeshClosedError):
        worker.open()

    await enqueue(client, name, b"y")
    began.clear()
    go_on.clear()
    worker = client.queue.worker(*name, handle)
    worker.open()
    await asyncio.wait_for(began.wait(), PATIENCE)
    await worker.close(timeout=timedelta(milliseconds=10))
    stats = await client.queue.get_stats(*name)
    assert (stats.completed_jobs, stats.in_flight_jobs) == (1, 1)  # it comes again


async def test_a_close_that_is_cancelled_cancels_handlers(client: FlowMesh, name: Name) -> None:
    await enqueue(client, name, b"x")
    began = asyncio.Event()
    cancelled = asyncio.Event()

    async def handle(job: Job) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    worker = client.queue.worker(*name, handle)
    worker.open()
    await asyncio.wait_for(began.wait(), PATIENCE)
    closing = asyncio.ensure_future(worker.close())
    await client.health_check()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await asyncio.wait_for(cancelled.wait(), PATIENCE)


async def test_closing_the_client_ends_its_workers(endpoint: str, name: Name) -> None:
    client = FlowMesh(endpoint)
    began = asyncio.Event()
    cancelled = asyncio.Event()

    async def handle(job: Job) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await enqueue(client, name, b"x")
    worker = client.queue.worker(*name, handle)
    waiting = asyncio.ensure_future(worker.wait())
    await asyncio.wait_for(began.wait(), PATIENCE)
    await client.close()
    with pytest.raises(FlowMeshClosedError):
        await waiting
    await worker.close()
    await asyncio.wait_for(cancelled.wait(), PATIENCE)


async def test_who_is_refused_is_told_why(tmp_path: Path) -> None:
    token, entry = new_token("kv.read")
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(entry)
    server = Server("--tokens", str(tokens))
    try:
        async with FlowMesh(server.endpoint, auth_token=token) as client:

            async def handle(job: Job) -> None:
                pass

            async with client.queue.worker("acme", "shop", "mails", handle) as worker:
                with pytest.raises(FlowMeshPermissionDeniedError):
                    await asyncio.wait_for(worker.wait(), PATIENCE)
    finally:
        server.stop()


async def test_bad_arguments(client: FlowMesh, name: Name) -> None:
    async def handle(job: Job) -> None:
        pass

    with pytest.raises(TypeError, match="handler"):
        client.queue.worker(*name, None)  # type: ignore[arg-type]
    for options, match in [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": -1}, "concurrency"),
        ({"prefetch": 101}, "prefetch"),
        ({"visibility_timeout": timedelta(days=1)}, "visibility_timeout"),
        ({"poll_mode": "never"}, "poll_mode must be one of auto, long, safe"),
    ]:
        with pytest.raises(FlowMeshInvalidArgumentError, match=match):
            client.queue.worker(*name, handle, **options).open()  # type: ignore[arg-type]
