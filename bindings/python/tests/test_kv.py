"""Rules of key-value stores, in memory and on a server."""

from __future__ import annotations

from datetime import timedelta

import pytest
from conftest import Name

from flowmesh import FlowMesh, FlowMeshInvalidArgumentError, FlowMeshNotFoundError


async def test_set_replaces_and_get_returns_bytes(client: FlowMesh, name: Name) -> None:
    await client.kv.set(*name, "key", b"one")
    await client.kv.set(*name, "key", bytearray(b"\0\xff"))
    assert await client.kv.get(*name, "key") == b"\0\xff"
    large = bytes(range(256)) * 8000
    await client.kv.set(*name, "large", memoryview(large))
    assert await client.kv.get(*name, "large") == large


async def test_an_absent_key(client: FlowMesh, name: Name) -> None:
    assert await client.kv.exists(*name, "key") is False
    await client.kv.delete(*name, "key")
    assert await client.kv.list_keys(*name) == []
    with pytest.raises(FlowMeshNotFoundError) as caught:
        await client.kv.get(*name, "key")
    assert caught.value.code == 5 and '"key"' in str(caught.value)
    await client.kv.set(*name, "key", b"v")
    assert await client.kv.exists(*name, "key") is True
    await client.kv.delete(*name, "key")
    assert await client.kv.exists(*name, "key") is False


async def test_list_keys_takes_a_prefix_and_is_in_byte_order(client: FlowMesh, name: Name) -> None:
    for key in ["b", "a", "aé", "ab", "a\0c"]:
        await client.kv.set(*name, key, b"v")
    assert await client.kv.list_keys(*name) == ["a", "a\0c", "ab", "aé", "b"]
    assert await client.kv.list_keys(*name, "a") == ["a", "a\0c", "ab", "aé"]
    assert await client.kv.list_keys(*name, prefix="aé") == ["aé"]


async def test_a_value_is_gone_when_its_time_is_over(clocked: FlowMesh, name: Name) -> None:
    await clocked.kv.set(*name, "key", b"v", ttl=timedelta(seconds=5))
    await clocked.kv.set(*name, "other", b"v")
    clocked.advance_test_clock(timedelta(seconds=4))
    assert await clocked.kv.get(*name, "key") == b"v"
    clocked.advance_test_clock(timedelta(seconds=1))
    assert await clocked.kv.exists(*name, "key") is False
    assert await clocked.kv.list_keys(*name) == ["other"]


async def test_bad_arguments_are_named(client: FlowMesh, name: Name) -> None:
    refused = FlowMeshInvalidArgumentError
    with pytest.raises(refused, match="key"):
        await client.kv.set(*name, "", b"v")
    with pytest.raises(refused, match="key"):
        await client.kv.set(*name, "k" * 1025, b"v")
    with pytest.raises(refused, match="value"):
        await client.kv.set(*name, "key", b"")
    with pytest.raises(refused, match="ttl must not be negative"):
        await client.kv.set(*name, "key", b"v", ttl=timedelta(seconds=-1))
    with pytest.raises(refused, match="ttl must be above 0: .* for ever"):
        await client.kv.set(*name, "key", b"v", ttl=timedelta(0))
    assert await client.kv.exists(*name, "key") is False
    with pytest.raises(refused, match="key must be UTF-8"):
        await client.kv.get(*name, "\ud800")
    with pytest.raises(TypeError, match="value must be bytes, not str"):
        await client.kv.set(*name, "key", "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="key must be a str, not bytes"):
        await client.kv.get(*name, b"key")  # type: ignore[arg-type]
    for tenant, namespace, store in [("", "n", "s"), ("t", "a/b", "s"), ("t", "n", "a\0b")]:
        with pytest.raises(refused):
            await client.kv.get(tenant, namespace, store, "key")
    with pytest.raises(TypeError, match="store must be a str"):
        await client.kv.get("t", "n", None, "key")  # type: ignore[arg-type]
