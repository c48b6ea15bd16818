"""Making, connecting and closing clients, and what tokens may do."""

from __future__ import annotations

import asyncio
import gc
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import SERVER, Name, Server

import flowmesh
from flowmesh import (
    FlowMesh,
    FlowMeshAuthError,
    FlowMeshClosedError,
    FlowMeshConnectionError,
    FlowMeshError,
    FlowMeshFailedPreconditionError,
    FlowMeshInvalidArgumentError,
    FlowMeshPermissionDeniedError,
)


def test_making_a_client_does_and_checks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWMESH_ENDPOINT", "elsewhere:1")
    monkeypatch.setenv("FLOWMESH_AUTH_TOKEN", "token")
    client = FlowMesh()
    assert (client.endpoint, client.auth_token) == ("localhost:50051", None)
    client = FlowMesh("no endpoint at all", "t")
    assert (client.endpoint, client.auth_token) == ("no endpoint at all", "t")


async def test_a_bad_endpoint_fails_in_connect() -> None:
    with pytest.raises(FlowMeshInvalidArgumentError, match="endpoint"):
        await FlowMesh("no endpoint at all").connect()
    with pytest.raises(FlowMeshInvalidArgumentError, match="token"):
        await FlowMesh("embedded:", auth_token="t").connect()
    with pytest.raises(TypeError, match="endpoint must be a str"):
        await FlowMesh(5).connect()  # type: ignore[arg-type]


async def test_the_environment_names_the_endpoint_when_asked(
    own_server: Server, name: Name, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLOWMESH_ENDPOINT", f"unix:{tmp_path}/nobody")
    client = FlowMesh(None)
    assert client.endpoint is None
    monkeypatch.setenv("FLOWMESH_ENDPOINT", own_server.endpoint)  # it is read when the client connects
    async with client:
        await client.kv.set(*name, "key", b"v")
    async with FlowMesh(own_server.endpoint) as other:
        assert await other.kv.get(*name, "key") == b"v"


async def test_connecting_does_not_check_the_token(tmp_path: Path, name: Name) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(new_token("kv.read")[1])
    server = Server("--tokens", str(tokens))
    try:
        async with FlowMesh(server.endpoint, auth_token="wrong") as client:
            assert await client.health_check() is True
            with pytest.raises(FlowMeshAuthError):
                await client.kv.get(*name, "key")
    finally:
        server.stop()


async def test_where_nobody_answers(tmp_path: Path) -> None:
    client = FlowMesh(f"unix:{tmp_path}/nobody", timeout=timedelta(seconds=20))
    with pytest.raises(FlowMeshConnectionError) as caught:
        await client.connect()
    assert caught.value.code == 14 and caught.value.retryable
    assert await client.health_check() is False
    assert await client.readiness_check() is False
    with pytest.raises(FlowMeshConnectionError):
        await client.kv.get("t", "n", "s", "key")
    await client.close()


async def test_connecting_in_vain_does_not_end_the_calls_of_others(tmp_path: Path, name: Name) -> None:
    client = FlowMesh(f"unix:{tmp_path}/nobody")
    connecting = asyncio.ensure_future(client.connect())
    waiting = asyncio.ensure_future(client.kv.get(*name, "key"))
    await asyncio.sleep(0)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    with pytest.raises(FlowMeshConnectionError):
        await waiting
    await client.close()


async def test_checks_answer_true(client: FlowMesh) -> None:
    assert await client.health_check() is True
    assert await client.readiness_check() is True


async def test_the_first_call_connects(endpoint: str, name: Name) -> None:
    client = FlowMesh(endpoint)
    await client.kv.set(*name, "key", b"v")
    assert await client.kv.get(*name, "key") == b"v"
    await client.close()


async def test_a_closed_client_refuses_until_it_connects_again(endpoint: str, name: Name) -> None:
    client = FlowMesh(endpoint)
    await client.connect()
    await client.close()
    await client.close()
    with pytest.raises(FlowMeshClosedError):
        await client.kv.exists(*name, "key")
    with pytest.raises(FlowMeshClosedError):
        await client.health_check()
    await client.connect()
    assert await client.kv.exists(*name, "key") is False
    await client.close()
    never_used = FlowMesh(endpoint)
    await never_used.close()


async def test_closing_ends_calls_that_wait(endpoint: str, name: Name) -> None:
    client = FlowMesh(endpoint)
    waiting = [
        asyncio.ensure_future(client.queue.reserve(*name, long_poll_timeout=timedelta(hours=1)))
        for _ in range(10)
    ]
    await client.health_check()
    await client.close()
    for call in waiting:
        with pytest.raises(FlowMeshClosedError):
            await call


async def test_a_directory_is_kept_and_owned_by_one(tmp_path: Path, name: Name) -> None:
    endpoint = f"embedded:{tmp_path}/data"
    async with FlowMesh(endpoint) as client:
        await client.kv.set(*name, "key", b"v")
    async with FlowMesh(endpoint) as client:
        assert await client.kv.get(*name, "key") == b"v"
    with pytest.raises(FlowMeshFailedPreconditionError):
        await FlowMesh(f"embedded:{tmp_path}/missing/data").connect()


async def test_a_test_clock_is_asked_for() -> None:
    async with FlowMesh("embedded:") as client:
        with pytest.raises(FlowMeshFailedPreconditionError):
            client.advance_test_clock(timedelta(seconds=1))


async def test_a_client_that_was_not_closed_is_warned_of() -> None:
    client = FlowMesh("embedded:")
    await client.health_check()
    with pytest.warns(ResourceWarning, match="unclosed FlowMesh"):
        del client
        gc.collect()
    await asyncio.sleep(0)  # where the loop stops watching it


async def test_many_names_do_not_keep_many_handles(client: FlowMesh) -> None:
    for i in range(3000):
        assert await client.kv.exists("t", "n", f"store-{i}", "key") is False
    assert await client.kv.exists("t", "n", "store-0", "key") is False


def new_token(*permissions: str) -> tuple[str, str]:
    """A token, and its entry for the file."""
    command = [str(SERVER), "token", "new", "--tenant", "acme", "--namespace", "shop", "--permission"]
    said = subprocess.run([*command, *permissions], capture_output=True, text=True, check=True).stdout
    [token] = [line[2:] for line in said.splitlines() if line.startswith("# fm_")]
    return token, said


async def test_tokens_decide_who_may_do_what(tmp_path: Path, name: Name) -> None:
    token, entry = new_token("kv.read", "kv.write")
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(entry)
    server = Server("--tokens", str(tokens))
    try:
        async with FlowMesh(server.endpoint, auth_token=token) as client:
            await client.kv.set(*name, "key", b"v")
            assert await client.kv.get(*name, "key") == b"v"
            with pytest.raises(FlowMeshPermissionDeniedError) as denied:
                await client.queue.enqueue(*name, b"x")
            assert denied.value.code == 7
        async with FlowMesh(server.endpoint, auth_token="wrong") as client:
            with pytest.raises(FlowMeshAuthError) as unknown:
                await client.kv.get(*name, "key")
            assert unknown.value.code == 16
    finally:
        server.stop()


def test_every_error_is_a_flowmesh_error() -> None:
    errors = [getattr(flowmesh, n) for n in flowmesh.__all__ if n.endswith("Error")]
    assert len(errors) == 19
    for kind in errors:
        assert issubclass(kind, FlowMeshError)
        error = kind("what", code=5, details="why")
        assert (str(error), error.message, error.code, error.details) == ("what", "what", 5, "why")
    assert FlowMeshError("what").code is None and FlowMeshError("what").details is None
