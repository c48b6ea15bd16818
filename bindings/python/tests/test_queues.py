"""Rules of queues, in memory and on a server; those about time, with a clock moved by hand."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest
from conftest import Name

from flowmesh import (
    FlowMesh,
    FlowMeshInvalidArgumentError,
    FlowMeshNotFoundError,
    QueueStats,
    RetryPolicy,
)


async def test_a_job_has_every_field(client: FlowMesh, name: Name) -> None:
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    id, seq = await client.queue.enqueue(*name, b"work", headers={"k": "v"})
    assert seq == 0 and len(id) == 32
    job = await client.queue.reserve(*name, visibility_timeout=timedelta(seconds=90))
    assert job is not None
    assert (job.id, job.seq, job.payload, job.headers, job.attempts) == (id, 0, b"work", {"k": "v"}, 1)
    assert job.resource_path == "/".join([name[0], name[1], "queue", name[2]])
    assert job.created_at.tzinfo is timezone.utc
    assert before < job.created_at <= job.visible_at
    assert job.reserve_until is not None
    assert timedelta(seconds=89) < job.reserve_until - job.created_at < timedelta(seconds=150)
    assert job.reserve_until_ns // 1000 == (job.reserve_until - datetime(1970, 1, 1, tzinfo=timezone.utc)) / (
        timedelta(microseconds=1)
    )


async def test_nothing_due_is_none_or_empty(client: FlowMesh, name: Name) -> None:
    assert await client.queue.reserve(*name) is None
    assert await client.queue.receive(*name, max_jobs=5) == []


async def test_receive_leases_several_and_ack_removes_them(client: FlowMesh, name: Name) -> None:
    for i in range(5):
        await client.queue.enqueue(*name, b"%d" % i)
    jobs = await client.queue.receive(*name, max_jobs=3)
    assert [job.payload for job in jobs] == [b"0", b"1", b"2"]
    for job in jobs:
        await client.queue.ack(*name, job.id)
        await client.queue.ack(*name, job.id)  # not leased any more: no failure
    assert await client.queue.get_stats(*name) == QueueStats(5, 2, 0, 3, 0, 0)


async def test_a_long_poll_answers_as_soon_as_there_is_a_job(client: FlowMesh, name: Name) -> None:
    waiting = asyncio.ensure_future(client.queue.reserve(*name, long_poll_timeout=timedelta(minutes=5)))
    await asyncio.sleep(0)
    id, _ = await client.queue.enqueue(*name, b"x")
    job = await waiting
    assert job is not None and job.id == id


async def test_nack_gives_back_and_says_when_the_job_is_a_dead_letter(client: FlowMesh, name: Name) -> None:
    policy = RetryPolicy(2, 1, 10, 1.5, "linear")
    await client.queue.set_retry_policy(*name, policy)
    assert await client.queue.get_retry_policy(*name) == policy
    await client.queue.enqueue(*name, b"x", headers={"k": "v"})
    first = await client.queue.reserve(*name)
    assert first is not None
    assert await client.queue.nack(*name, first.id, delay=timedelta(milliseconds=1)) is False
    second = await client.queue.reserve(*name, long_poll_timeout=timedelta(minutes=1))
    assert second is not None and second.id == first.id and second.attempts == 2
    assert await client.queue.nack(*name, second.id) is True

    [dead] = await client.queue.list_dlq_jobs(*name)
    assert dead.payload == b"x" and dead.headers["x-flowmesh-original-job-id"] == first.id
    assert dead.reserve_until is None and dead.reserve_until_ns == 0
    assert (await client.queue.get_stats(*name)).failed_jobs == 1
    id, seq = await client.queue.replay_dlq_job(*name, dead.id)
    assert seq == 1
    again = await client.queue.reserve(*name)
    assert again is not None and (again.id, again.headers, again.attempts) == (id, {"k": "v"}, 1)


async def test_what_is_not_there_is_not_found(client: FlowMesh, name: Name) -> None:
    await client.queue.enqueue(*name, b"x")
    with pytest.raises(FlowMeshNotFoundError):
        await client.queue.nack(*name, "0" * 32)
    with pytest.raises(FlowMeshNotFoundError):
        await client.queue.replay_dlq_job(*name, "0" * 32)
    with pytest.raises(FlowMeshNotFoundError):
        await client.queue.get_stats(*name[:2], name[2] + "-not")


async def test_the_default_policy_is_the_dataclass(client: FlowMesh, name: Name) -> None:
    await client.queue.enqueue(*name, b"x")
    assert await client.queue.get_retry_policy(*name) == RetryPolicy()


async def test_bad_arguments_are_named(client: FlowMesh, name: Name) -> None:
    refused = FlowMeshInvalidArgumentError
    with pytest.raises(refused, match="payload"):
        await client.queue.enqueue(*name, b"")
    with pytest.raises(refused, match="delay must not be negative"):
        await client.queue.enqueue(*name, b"x", delay=timedelta(seconds=-1))
    with pytest.raises(refused, match="delay"):
        await client.queue.enqueue(*name, b"x", delay=timedelta(days=400))
    with pytest.raises(TypeError, match="delay must be a timedelta, not int"):
        await client.queue.enqueue(*name, b"x", delay=5)  # type: ignore[arg-type]
    with pytest.raises(refused, match="long_poll_timeout"):
        await client.queue.reserve(*name, long_poll_timeout=timedelta(milliseconds=-1))
    with pytest.raises(refused, match="visibility_timeout"):
        await client.queue.reserve(*name, visibility_timeout=timedelta(days=1))
    with pytest.raises(refused, match="max_jobs must not be negative, got -5"):
        await client.queue.receive(*name, max_jobs=-5)
    with pytest.raises(refused, match="max_jobs must not be negative, got -1"):
        await client.queue.list_dlq_jobs(*name, max_jobs=-1)
    with pytest.raises(refused, match="max_attempts must not be negative, got -1"):
        await client.queue.set_retry_policy(*name, RetryPolicy(max_attempts=-1))
    with pytest.raises(refused, match="max_jobs must fit into 32 bits"):
        await client.queue.receive(*name, max_jobs=1 << 40)
    with pytest.raises(refused, match="backoff_strategy must be one of fixed, linear, exponential"):
        await client.queue.set_retry_policy(*name, RetryPolicy(backoff_strategy="none"))
    with pytest.raises(refused, match="multiplier"):
        await client.queue.set_retry_policy(*name, RetryPolicy(backoff_multiplier=-1.0))
    with pytest.raises(refused):
        await client.queue.ack(*name, "a\0b")


async def test_a_delay_is_over_exactly_when_it_is(clocked: FlowMesh, name: Name) -> None:
    await clocked.queue.enqueue(*name, b"x", delay=timedelta(milliseconds=4001))  # rounded up to 5 s
    clocked.advance_test_clock(timedelta(milliseconds=4999))
    assert await clocked.queue.reserve(*name) is None
    clocked.advance_test_clock(timedelta(milliseconds=1))
    assert await clocked.queue.reserve(*name) is not None


async def test_a_lease_that_ends_hands_the_job_out_again(clocked: FlowMesh, name: Name) -> None:
    await clocked.queue.enqueue(*name, b"x")
    first = await clocked.queue.reserve(*name, visibility_timeout=timedelta(seconds=10))
    clocked.advance_test_clock(timedelta(seconds=11))  # and the backoff of 1 s
    second = await clocked.queue.reserve(*name)
    assert first is not None and second is not None
    assert (second.id, second.attempts) == (first.id, 2)
