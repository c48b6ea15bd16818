"""Types, conversions, and what is made of the header."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import pickle
import typing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from conftest import ROOT, Name

from flowmesh import ConsumerGroupState, Event, FlowMesh, FlowMeshNotFoundError, Job, Message, QueueStats
from flowmesh._native import ffi, lib
from flowmesh.types import RetryPolicy
from flowmesh.utils import build_resource_path, nanos_to_timestamp, timestamp_to_nanos

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)


def test_types_are_dataclasses_with_the_fields_of_the_contract() -> None:
    fields = {
        Event: "payload headers",
        Message: "id resource_path partition offset payload headers created_at schema_version",
        Job: "id resource_path seq payload headers created_at visible_at reserve_until attempts",
        QueueStats: "total_jobs pending_jobs in_flight_jobs completed_jobs failed_jobs "
        "oldest_job_age_seconds",
        RetryPolicy: "max_attempts initial_backoff_seconds max_backoff_seconds backoff_multiplier "
        "backoff_strategy",
        ConsumerGroupState: "stream group partition committed_offset latest_offset lag",
    }
    for kind, names in fields.items():
        assert [field.name for field in dataclasses.fields(kind)] == names.split()
        assert typing.get_type_hints(kind)
    assert Event(b"x") == Event(b"x", {})


async def test_received_messages_are_like_made_ones(client: FlowMesh, name: Name) -> None:
    await client.stream.write(*name, [Event(b"x", {"k": "v"})])
    [message] = await client.stream.read(*name)
    made = Message(**dataclasses.asdict(message))
    assert made == message and repr(made) == repr(message)
    [fresh] = await client.stream.read(*name)
    for other in [copy.copy(fresh), copy.deepcopy(fresh), pickle.loads(pickle.dumps(fresh))]:
        assert other == message and other.created_at_ns == message.created_at_ns
    assert dataclasses.replace(fresh, payload=b"y").created_at == message.created_at
    assert "created_at" in repr(fresh)
    with pytest.raises(AttributeError, match="'Message' object has no attribute 'nothing'"):
        fresh.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_errors_can_be_pickled() -> None:
    error = FlowMeshNotFoundError("what", 5, "why")
    error.outcome = "not applied"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is FlowMeshNotFoundError
    assert (again.message, again.code, again.details, again.outcome) == ("what", 5, "why", "not applied")


def test_nanoseconds_are_exact() -> None:
    assert timestamp_to_nanos(datetime(1970, 1, 1, tzinfo=timezone.utc)) == 0
    nanos = timestamp_to_nanos(NOW)
    assert nanos == 1767323045678901000
    assert timestamp_to_nanos(NOW.astimezone(timezone(timedelta(hours=5)))) == nanos
    local = nanos_to_timestamp(nanos + 999)
    assert local.tzinfo is None and local == NOW.astimezone().replace(tzinfo=None)
    assert timestamp_to_nanos(local) == nanos
    assert Message("id", "path", 0, 1, b"x", {}, NOW).created_at_ns == nanos
    assert Job("id", "path", 0, b"x", {}, NOW, NOW, NOW).reserve_until_ns == nanos


def test_resource_paths() -> None:
    assert build_resource_path("t", "n", "stream", "a/b") == {
        "tenant": "t",
        "namespace": "n",
        "resource_type": "stream",
        "name": "a/b",
    }


def test_every_declaration_of_the_header_is_there() -> None:
    path = Path(__file__).resolve().parents[1] / "native" / "declarations.py"
    spec = importlib.util.spec_from_file_location("declarations", path)
    assert spec is not None and spec.loader is not None
    declarations = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(declarations)
    header = (ROOT / "include" / "flowmesh.h").read_text()
    text: str = declarations.of_header(header)
    names = {
        word.rstrip("(").lstrip("*")
        for line in text.splitlines()
        if not line.startswith("typedef")
        for word in line.replace("(", "( ").split()
        if word.lstrip("*").startswith("flowmesh_") and word.endswith("(")
    }
    assert len(names) > 150
    for name in names:
        assert hasattr(lib, name), name
    assert lib.FLOWMESH_NOT_FOUND == 5 and lib.FLOWMESH_START_NEW == -2
    assert ffi.string(lib.flowmesh_version()) == ffi.string(lib.FLOWMESH_VERSION_STRING)
