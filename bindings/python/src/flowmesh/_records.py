"""Reads what the glue has laid out (glue.h says how): results and errors.

Every reader takes the bytes and the span of one body. What it returns owns what it holds: the bytes
are reused afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Any

from . import exceptions
from ._native import lib
from .exceptions import FlowMeshError
from .types import Job, Message, QueueStats, RetryPolicy, WorkerEvent
from .utils import nanos_to_datetime

RECORD = Struct("=QiI")
_ERROR = Struct("=iII")
_HEADER = Struct("=II")
_HEAD = Struct("=II")
_MESSAGE = Struct("=qqiiIII")
_JOB = Struct("=qqqqiIII")
_NUMBER = Struct("=q")
_LENGTH = Struct("=I")
_STATS = Struct("=6q")
_POLICY = Struct("=iiqqd")
_GROUP_STATE = Struct("=3q")
_EVENT = Struct("=qiIi")
LINE = Struct("=iIIQ")

# ffi.buffer, or anything whose slices are bytes.
Buffer = Any

_CLASSES = {
    lib.FLOWMESH_CANCELLED: exceptions.FlowMeshCancelledError,
    lib.FLOWMESH_UNKNOWN: exceptions.FlowMeshUnknownError,
    lib.FLOWMESH_INVALID_ARGUMENT: exceptions.FlowMeshInvalidArgumentError,
    lib.FLOWMESH_DEADLINE_EXCEEDED: exceptions.FlowMeshTimeoutError,
    lib.FLOWMESH_NOT_FOUND: exceptions.FlowMeshNotFoundError,
    lib.FLOWMESH_ALREADY_EXISTS: exceptions.FlowMeshAlreadyExistsError,
    lib.FLOWMESH_PERMISSION_DENIED: exceptions.FlowMeshPermissionDeniedError,
    lib.FLOWMESH_RESOURCE_EXHAUSTED: exceptions.FlowMeshResourceExhaustedError,
    lib.FLOWMESH_FAILED_PRECONDITION: exceptions.FlowMeshFailedPreconditionError,
    lib.FLOWMESH_ABORTED: exceptions.FlowMeshAbortedError,
    lib.FLOWMESH_OUT_OF_RANGE: exceptions.FlowMeshOutOfRangeError,
    lib.FLOWMESH_UNIMPLEMENTED: exceptions.FlowMeshUnimplementedError,
    lib.FLOWMESH_INTERNAL: exceptions.FlowMeshInternalError,
    lib.FLOWMESH_UNAVAILABLE: exceptions.FlowMeshConnectionError,
    lib.FLOWMESH_DATA_LOSS: exceptions.FlowMeshDataLossError,
    lib.FLOWMESH_UNAUTHENTICATED: exceptions.FlowMeshAuthError,
    lib.FLOWMESH_CLOSED: exceptions.FlowMeshClosedError,
    lib.FLOWMESH_FORKED: exceptions.FlowMeshForkedError,
}
_OUTCOMES = {
    lib.FLOWMESH_OUTCOME_UNKNOWN: "unknown",
    lib.FLOWMESH_OUTCOME_NOT_APPLIED: "not applied",
    lib.FLOWMESH_OUTCOME_APPLIED: "applied",
}
_EVENTS = {
    lib.FLOWMESH_WORKER_FETCH_FAILED: "fetch failed",
    lib.FLOWMESH_WORKER_FETCH_RESUMED: "fetch resumed",
    lib.FLOWMESH_WORKER_LEASE_LOST: "lease lost",
    lib.FLOWMESH_WORKER_DEAD_LETTERED: "dead-lettered",
    lib.FLOWMESH_WORKER_NOT_SETTLED: "not settled",
    lib.FLOWMESH_WORKER_ENDED: "ended",
}
_STRATEGIES = {
    lib.FLOWMESH_BACKOFF_FIXED: "fixed",
    lib.FLOWMESH_BACKOFF_LINEAR: "linear",
    lib.FLOWMESH_BACKOFF_EXPONENTIAL: "exponential",
}


def failure(
    status: int,
    message: str,
    details: str | None = None,
    outcome: int = lib.FLOWMESH_OUTCOME_NOT_APPLIED,
    retryable: bool = False,
) -> FlowMeshError:
    """The error of a status."""
    error = _CLASSES.get(status, FlowMeshError)(message, status, details or None)
    error.outcome = _OUTCOMES.get(outcome, "unknown")
    error.retryable = retryable
    return error


def read_failure(status: int, data: Buffer, at: int, end: int) -> FlowMeshError:
    if at == end:
        return failure(status, "no memory for the result", outcome=lib.FLOWMESH_OUTCOME_UNKNOWN)
    outcome, retryable, length = _ERROR.unpack_from(data, at)
    at += _ERROR.size
    message = data[at : at + length].decode("utf-8", "replace")
    details = data[at + length : end].decode("utf-8", "replace")
    return failure(status, message, details, outcome, bool(retryable))


def read_none(data: Buffer, at: int, end: int) -> None:
    return None


def read_flag(data: Buffer, at: int, end: int) -> bool:
    return bool(_NUMBER.unpack_from(data, at)[0])


def read_number(data: Buffer, at: int, end: int) -> int:
    number: int = _NUMBER.unpack_from(data, at)[0]
    return number


def read_value(data: Buffer, at: int, end: int) -> bytes:
    value: bytes = data[at:end]
    return value


def read_offsets(data: Buffer, at: int, end: int) -> list[int]:
    return list(memoryview(data[at:end]).cast("q"))


def read_keys(data: Buffer, at: int, end: int) -> list[str]:
    keys = []
    while at < end:
        start = at + 4
        at = start + _LENGTH.unpack_from(data, at)[0]
        keys.append(data[start:at].decode())
    return keys


def read_enqueued(data: Buffer, at: int, end: int) -> tuple[str, int]:
    return data[at + 8 : end].decode(), _NUMBER.unpack_from(data, at)[0]


def read_stats(data: Buffer, at: int, end: int) -> QueueStats:
    total, pending, in_flight, completed, failed, oldest_ms = _STATS.unpack_from(data, at)
    return QueueStats(total, pending, in_flight, completed, failed, oldest_ms // 1000)


def read_policy(data: Buffer, at: int, end: int) -> RetryPolicy:
    attempts, strategy, initial_ms, max_ms, multiplier = _POLICY.unpack_from(data, at)
    name = _STRATEGIES.get(strategy, str(strategy))
    return RetryPolicy(attempts, initial_ms // 1000, max_ms // 1000, multiplier, name)


def read_group_state(data: Buffer, at: int, end: int) -> Sequence[int]:
    """Committed offset, latest offset, lag."""
    return _GROUP_STATE.unpack_from(data, at)


def _read_headers(data: Buffer, at: int, end: int) -> dict[str, str]:
    headers = {}
    while at < end:
        key_length, value_length = _HEADER.unpack_from(data, at)
        key = at + 8
        value = key + key_length
        at = value + value_length
        headers[data[key:value].decode()] = data[value:at].decode()
    return headers


def read_messages(data: Buffer, at: int, end: int) -> list[Message]:
    # The hot loop of subscriptions: instances are filled without __init__, and their datetime is
    # made when it is asked for.
    count, length = _HEAD.unpack_from(data, at)
    at += 8
    path = data[at : at + length].decode()
    at += length
    body = at + count * _MESSAGE.size
    messages = []
    new = Message.__new__
    heads = _MESSAGE.iter_unpack(data[at:body])
    for offset, created_at_ns, partition, version, id_length, headers_length, payload_length in heads:
        headers_at = body + id_length
        payload_at = headers_at + headers_length
        end = payload_at + payload_length
        message = new(Message)
        message.__dict__ = {
            "id": data[body:headers_at].decode(),
            "resource_path": path,
            "partition": partition,
            "offset": offset,
            "payload": data[payload_at:end],
            "headers": _read_headers(data, headers_at, payload_at) if headers_length else {},
            "schema_version": version,
            "_created_at_ns": created_at_ns,
        }
        messages.append(message)
        body = end
    return messages


def read_jobs(data: Buffer, at: int, end: int) -> list[Job]:
    count, length = _HEAD.unpack_from(data, at)
    at += 8
    path = data[at : at + length].decode()
    at += length
    body = at + count * _JOB.size
    jobs = []
    for (
        seq,
        created_at_ns,
        visible_at_ns,
        reserve_until_ns,
        attempts,
        id_length,
        headers_length,
        payload_length,
    ) in _JOB.iter_unpack(data[at:body]):
        headers_at = body + id_length
        payload_at = headers_at + headers_length
        end = payload_at + payload_length
        job = Job(
            data[body:headers_at].decode(),
            path,
            seq,
            data[payload_at:end],
            _read_headers(data, headers_at, payload_at),
            nanos_to_datetime(created_at_ns),
            nanos_to_datetime(visible_at_ns),
            nanos_to_datetime(reserve_until_ns) if reserve_until_ns else None,
            attempts,
        )
        job.__dict__.update(
            _created_at_ns=created_at_ns, _visible_at_ns=visible_at_ns, _reserve_until_ns=reserve_until_ns
        )
        jobs.append(job)
        body = end
    return jobs


def read_event(kind: int, data: Buffer, at: int, end: int) -> WorkerEvent:
    seq, attempts, length, status = _EVENT.unpack_from(data, at)
    at += _EVENT.size
    job_id = data[at : at + length].decode()
    reason = read_failure(status, data, at + length, end) if status else None
    return WorkerEvent(_EVENTS.get(kind, str(kind)), job_id, seq, attempts, reason)


def pieces(data: Buffer, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """What a producer or worker has told: number, what it is, and the span of its body."""
    while at < end:
        number, what, size = RECORD.unpack_from(data, at)
        at += RECORD.size
        yield number, what, at, at + size
        at += size


def read_job(data: Buffer, at: int, end: int) -> Job | None:
    jobs = read_jobs(data, at, end)
    return jobs[0] if jobs else None
