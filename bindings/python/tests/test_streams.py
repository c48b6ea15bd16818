"""Rules of streams, in memory and on a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import Name, Server, ending

from flowmesh import (
    ConsumerGroupState,
    Event,
    FlowMesh,
    FlowMeshClosedError,
    FlowMeshInvalidArgumentError,
    FlowMeshNotFoundError,
    Message,
)


async def test_offsets_start_at_0_and_a_batch_gets_consecutive_ones(client: FlowMesh, name: Name) -> None:
    assert await client.stream.write(*name, [Event(b"a"), Event(b"b")]) == [0, 1]
    assert await client.stream.write(*name, (Event(data) for data in [b"c"])) == [2]


async def test_a_message_carries_what_was_written(client: FlowMesh, name: Name) -> None:
    before = datetime.now(timezone.utc)
    headers = {"kind": "order", "empty": "", "größe": "5 µm"}
    await client.stream.write(*name, [Event(b"\x00\xff" * 5, headers), Event(b"2")])
    first, second = await client.stream.read(*name)
    assert (first.payload, first.headers, first.offset, first.partition) == (b"\x00\xff" * 5, headers, 0, 0)
    assert (second.payload, second.headers, second.offset) == (b"2", {}, 1)
    assert first.resource_path == "/".join([name[0], name[1], "stream", name[2]])
    assert first.id != second.id and len(first.id) == 32
    assert first.schema_version == 0
    assert first.created_at.tzinfo is timezone.utc
    assert before - timedelta(seconds=1) <= first.created_at <= datetime.now(timezone.utc)
    assert first.created_at_ns // 1000 * 1000 == Message(**vars_of(first)).created_at_ns


def vars_of(message: Message) -> dict[str, Any]:
    """The fields alone, as an application would fill them."""
    return {field: getattr(message, field) for field in Message.__dataclass_fields__}


async def test_read_takes_offset_and_page_size(client: FlowMesh, name: Name) -> None:
    await client.stream.write(*name, [Event(b"%d" % i) for i in range(20)])
    assert len(await client.stream.read(*name)) == 10
    page = await client.stream.read(*name, offset=5, max_messages=3)
    assert [(m.offset, m.payload) for m in page] == [(5, b"5"), (6, b"6"), (7, b"7")]
    assert await client.stream.read(*name, offset=20) == []
    assert await client.stream.read(*name, partition=1) == []


async def test_numbers_below_0_are_refused_by_their_name(client: FlowMesh, name: Name) -> None:
    await client.stream.write(*name, [Event(b"x")])
    stream = client.stream
    for argument, call in [
        ("max_messages", stream.read(*name, max_messages=-1)),
        ("partition", stream.read(*name, partition=-1)),
        ("partition", stream.commit_offset(*name, "g", -1, 0)),
        ("partition", stream.get_offset(*name, "g", partition=-1)),
        ("partition", stream.get_latest_offset(*name, partition=-1)),
        ("partition", stream.get_consumer_group_state(*name, "g", partition=-1)),
        ("partition", anext_of(stream.subscribe(*name, "g", partition=-1))),
    ]:
        with pytest.raises(FlowMeshInvalidArgumentError, match=f"{argument} must not be negative, got -1"):
            await call


async def anext_of(messages: AsyncGenerator[Message, None]) -> Message:
    return await messages.__anext__()


async def test_bad_events_are_refused_by_the_rule(client: FlowMesh, name: Name) -> None:
    for events in [[], [Event(b"")]]:
        with pytest.raises(FlowMeshInvalidArgumentError) as caught:
            await client.stream.write(*name, events)
        assert caught.value.code == 3 and caught.value.outcome == "not applied"
    with pytest.raises(TypeError, match="payload must be bytes, not str"):
        await client.stream.write(*name, [Event("text")])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Event objects, not bytes"):
        await client.stream.write(*name, [b"bytes"])  # type: ignore[list-item]


async def test_a_missing_stream_is_not_found(client: FlowMesh, name: Name) -> None:
    with pytest.raises(FlowMeshNotFoundError) as caught:
        await client.stream.read(*name)
    assert caught.value.code == 5


async def test_commits_are_kept_by_group_and_move_freely(client: FlowMesh, name: Name) -> None:
    await client.stream.write(*name, [Event(b"x")] * 4)
    assert await client.stream.get_offset(*name, "g") == -1
    await client.stream.commit_offset(*name, "g", 0, 2)
    assert await client.stream.get_offset(*name, "g") == 2
    assert await client.stream.get_offset(*name, "other") == -1
    assert await client.stream.get_latest_offset(*name) == 3
    path = "/".join([name[0], name[1], "stream", name[2]])
    state = await client.stream.get_consumer_group_state(*name, "g")
    assert state == ConsumerGroupState(path, "g", 0, 2, 3, 1)
    await client.stream.commit_offset(*name, "g", 0, -1)
    assert await client.stream.get_offset(*name, "g", partition=0) == -1


async def test_a_subscription_delivers_what_is_stored_then_what_is_written(
    client: FlowMesh, name: Name
) -> None:
    await client.stream.write(*name, [Event(b"%d" % i) for i in range(5000)])
    seen = []
    async with ending(client.stream.subscribe(*name, "g", start_offset=0)) as messages:
        async for message in messages:
            assert message.payload == b"%d" % message.offset
            seen.append(message.offset)
            if len(seen) == 5000:
                await client.stream.write(*name, [Event(b"5000")])
            if len(seen) == 5001:
                break
    assert seen == list(range(5001))


async def test_a_subscription_starts_behind_the_commit(client: FlowMesh, name: Name) -> None:
    await client.stream.write(*name, [Event(b"x")] * 3)
    await client.stream.commit_offset(*name, "g", 0, 1)
    async with ending(client.stream.subscribe(*name, "g")) as messages:
        assert (await messages.__anext__()).offset == 2


async def test_a_slow_consumer_gets_everything_in_order(client: FlowMesh, name: Name) -> None:
    payload = b"x" * 1000
    for _ in range(20):
        await client.stream.write(*name, [Event(payload)] * 500)
    expected = 0
    async with ending(client.stream.subscribe(*name, "g", start_offset=0)) as messages:
        async for message in messages:
            assert message.offset == expected
            expected += 1
            if expected % 100 == 0:
                await asyncio.sleep(0)
            if expected == 10_000:
                break


async def test_bad_subscriptions_fail_when_they_begin(client: FlowMesh, name: Name) -> None:
    for group, start in [("", -1), ("g", -3), ("a\0b", 0), ("g", 1 << 63)]:
        with pytest.raises(FlowMeshInvalidArgumentError):
            await client.stream.subscribe(*name, group, start_offset=start).__anext__()


async def test_closing_the_client_ends_its_subscriptions(endpoint: str, name: Name) -> None:
    client = FlowMesh(endpoint)
    await client.stream.write(*name, [Event(b"x")])
    messages = client.stream.subscribe(*name, "g")
    await messages.__anext__()
    following = asyncio.ensure_future(messages.__anext__())
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(FlowMeshClosedError):
        await following


async def test_a_subscription_goes_on_when_the_server_comes_back(own_server: Server, name: Name) -> None:
    async with FlowMesh(own_server.endpoint) as client:
        await client.stream.write(*name, [Event(b"0")])
        async with ending(client.stream.subscribe(*name, "g")) as messages:
            assert (await messages.__anext__()).offset == 0
            own_server.kill()
            own_server.start()
            assert await client.stream.write(*name, [Event(b"1")]) == [1]
            assert (await messages.__anext__()).offset == 1
