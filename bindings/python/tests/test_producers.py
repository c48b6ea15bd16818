"""Producers, in memory and on a server."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import Name

from flowmesh import (
    Event,
    FlowMesh,
    FlowMeshAbortedError,
    FlowMeshClosedError,
    FlowMeshError,
    FlowMeshInvalidArgumentError,
)


async def test_events_are_stored_in_the_order_of_the_sends(client: FlowMesh, name: Name) -> None:
    async with client.stream.producer(*name) as producer:
        deliveries = [await producer.send(Event(b"%d" % i, {"n": str(i)})) for i in range(5000)]
        assert await asyncio.gather(*deliveries) == list(range(5000))
    messages = await client.stream.read(*name, offset=4990)
    last = [(b"%d" % i, {"n": str(i)}) for i in range(4990, 5000)]
    assert [(m.payload, m.headers) for m in messages] == last


async def test_closing_delivers_what_nobody_waited_for(client: FlowMesh, name: Name) -> None:
    producer = client.stream.producer(*name)
    for _ in range(100):
        await producer.send(Event(b"x"))
    await producer.flush()
    assert await client.stream.get_latest_offset(*name) == 99
    delivery = await producer.send(Event(b"y"))
    await producer.close()
    assert delivery.done() and delivery.result() == 100
    await producer.close()
    with pytest.raises(FlowMeshClosedError):
        await producer.send(Event(b"z"))
    with pytest.raises(FlowMeshClosedError):
        await producer.flush()


async def test_jobs(clocked: FlowMesh, name: Name) -> None:
    async with clocked.queue.producer(*name, max_in_flight=1) as producer:
        now = await producer.send(b"now", headers={"k": "v"})
        later = await producer.send(b"later", timedelta(minutes=1))
        id, number = await now
        assert number == 0 and (await later)[1] == 1
    job = await clocked.queue.reserve(*name)
    assert job is not None and (job.id, job.payload, job.headers) == (id, b"now", {"k": "v"})
    await clocked.queue.ack(*name, id)
    assert await clocked.queue.reserve(*name) is None
    clocked.advance_test_clock(timedelta(minutes=1))
    job = await clocked.queue.reserve(*name)
    assert job is not None and job.id == later.result()[0]


async def test_jobs_on_either(client: FlowMesh, name: Name) -> None:
    async with client.queue.producer(*name) as producer:
        sent = await asyncio.gather(*[await producer.send(b"%d" % i) for i in range(500)])
    assert sorted(number for _, number in sent) == list(range(500))
    assert len({id for id, _ in sent}) == 500


async def test_a_full_buffer_makes_the_sender_wait(client: FlowMesh, name: Name) -> None:
    async with client.stream.producer(*name, max_buffered_messages=3) as producer:

        async def send_many() -> None:
            for _ in range(100):
                await producer.send(Event(b"x"))

        await asyncio.gather(*(send_many() for _ in range(4)))
    assert await client.stream.get_latest_offset(*name) == 399


async def test_a_sender_lets_others_have_their_turn(client: FlowMesh, name: Name) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    async with client.stream.producer(*name) as producer:
        for _ in range(1000):
            await producer.send(Event(b"x"))
        assert turns >= 3
    task.cancel()


async def test_what_cannot_be_sent_is_refused_at_once(client: FlowMesh, name: Name) -> None:
    async with client.stream.producer(*name) as producer:
        with pytest.raises(FlowMeshInvalidArgumentError, match="payload"):
            await producer.send(Event(b""))
        with pytest.raises(TypeError, match="event must be an Event"):
            await producer.send(b"x")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="payload must be bytes"):
            await producer.send(Event("x"))  # type: ignore[arg-type]
    with pytest.raises(FlowMeshInvalidArgumentError):
        await client.stream.producer(*name, max_batch_bytes=1 << 40).send(Event(b"x"))
    with pytest.raises(FlowMeshInvalidArgumentError, match="max_buffered_messages"):
        await client.stream.producer(*name, max_buffered_messages=-1).send(Event(b"x"))
    with pytest.raises(FlowMeshInvalidArgumentError, match="tenant"):
        await client.stream.producer("", "n", "s").send(Event(b"x"))


@pytest.fixture
def nobody(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/nobody"


async def test_what_was_not_delivered_is_told_by_the_flush(nobody: str, name: Name) -> None:
    client = FlowMesh(nobody)
    producer = client.stream.producer(*name, delivery_timeout=timedelta(milliseconds=50))
    first, second = await producer.send(Event(b"x")), await producer.send(Event(b"y"))
    with pytest.raises(FlowMeshAbortedError, match="2 of the messages") as aborted:
        await producer.flush()
    assert aborted.value.__cause__ is first.exception()
    with pytest.raises(FlowMeshError) as expired:
        await second
    assert expired.value.outcome == "not applied"
    await producer.flush()
    await producer.close()
    await client.close()


async def test_closing_in_time_gives_up_the_rest(nobody: str, name: Name) -> None:
    client = FlowMesh(nobody)
    producer = client.stream.producer(*name)
    deliveries = [await producer.send(Event(b"x")) for _ in range(3)]
    with pytest.raises(FlowMeshAbortedError, match="3 of the messages"):
        await producer.close(timeout=timedelta(milliseconds=10))
    for delivery in deliveries:
        assert isinstance(delivery.exception(), FlowMeshClosedError)
    await client.close()


async def test_what_the_body_raises_counts(nobody: str, name: Name) -> None:
    client = FlowMesh(nobody)
    with pytest.raises(KeyError, match="mine"):
        async with client.stream.producer(*name, delivery_timeout=timedelta(milliseconds=10)) as producer:
            await producer.send(Event(b"x"))
            raise KeyError("mine")
    await client.close()


async def test_closing_the_client_ends_its_producers(nobody: str, name: Name) -> None:
    client = FlowMesh(nobody)
    producer = client.stream.producer(*name, max_buffered_messages=1)
    delivery = await producer.send(Event(b"x"))
    waiting = asyncio.ensure_future(producer.send(Event(b"y")))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(FlowMeshClosedError):
        await delivery
    with pytest.raises(FlowMeshClosedError):
        await waiting
    with pytest.raises(FlowMeshAbortedError):
        await producer.close()


async def test_a_sender_that_is_cancelled_sends_nothing(nobody: str, name: Name) -> None:
    client = FlowMesh(nobody)
    producer = client.stream.producer(*name, max_buffered_messages=1)
    delivery = await producer.send(Event(b"x"))
    others = [asyncio.ensure_future(producer.send(Event(b"y"))) for _ in range(2)]
    await asyncio.sleep(0)
    others[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await others[0]
    assert not others[1].done() and client.get_client_stats().producer_messages == 1
    others[1].cancel()
    with pytest.raises(FlowMeshAbortedError, match="1 of the messages"):
        await producer.close(timeout=timedelta(0))
    assert delivery.done()
    await client.close()
