"""The calls themselves, each once: checks its arguments, starts, and says what reads the result.

client.py awaits what they start, blocking.py waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import timedelta

from . import _records as records
from ._arguments import (
    Bytes,
    choice,
    count,
    data,
    integer,
    milliseconds,
    pack_events,
    pack_headers,
    refuse,
    text,
    utf8,
)
from ._library import call as refusing
from ._native import ffi, lib
from ._records import Buffer
from ._session import Call, Session, Subscription
from .types import ClientStats, ConsumerGroupState, Event, Job, Message, QueueStats, RetryPolicy

_STRATEGIES = {
    "fixed": lib.FLOWMESH_BACKOFF_FIXED,
    "linear": lib.FLOWMESH_BACKOFF_LINEAR,
    "exponential": lib.FLOWMESH_BACKOFF_EXPONENTIAL,
}

# ---- Client -----------------------------------------------------------------------------------


def connect(session: Session, timeout_ms: int) -> Call[None]:
    return lib.fm_client_connect(session.native, session.client, timeout_ms), records.read_none


def close(session: Session, timeout_ms: int) -> Call[None]:
    return lib.fm_client_close(session.native, session.client, timeout_ms), records.read_none


def health_check(session: Session) -> Call[None]:
    return lib.fm_client_health_check(session.native, session.client), records.read_none


def readiness_check(session: Session) -> Call[bool]:
    return lib.fm_client_readiness_check(session.native, session.client), records.read_flag


def get_client_stats(session: Session) -> ClientStats:
    stats = ffi.new("flowmesh_client_stats_t *", {"size": ffi.sizeof("flowmesh_client_stats_t")})
    refusing(lib.flowmesh_client_get_stats, session.client, stats)
    return ClientStats(**{field.name: getattr(stats, field.name) for field in fields(ClientStats)})


# ---- Streams ----------------------------------------------------------------------------------


def write(
    session: Session, tenant: str, namespace: str, stream: str, events: Iterable[Event]
) -> Call[list[int]]:
    handle = session.stream(tenant, namespace, stream)
    id = lib.fm_stream_write(session.native, handle, *pack_events(events))
    return id, records.read_offsets


def read(
    session: Session, tenant: str, namespace: str, stream: str, partition: int, offset: int, max_messages: int
) -> Call[list[Message]]:
    handle = session.stream(tenant, namespace, stream)
    offset = integer("offset", offset, 64)
    partition = count("partition", partition)
    max_messages = count("max_messages", max_messages)
    return lib.fm_stream_read(session.native, handle, offset, partition, max_messages), records.read_messages


def subscribe(
    session: Session,
    tenant: str,
    namespace: str,
    stream: str,
    consumer_group: str,
    partition: int,
    start_offset: int,
) -> Subscription:
    handle = session.stream(tenant, namespace, stream)
    group = text("consumer_group", consumer_group)
    partition = count("partition", partition)
    start_offset = integer("start_offset", start_offset, 64)
    id = lib.fm_subscribe(session.native, handle, group, partition, start_offset)
    return Subscription(session, id)


def commit_offset(
    session: Session,
    tenant: str,
    namespace: str,
    stream: str,
    consumer_group: str,
    partition: int,
    offset: int,
) -> Call[None]:
    handle = session.stream(tenant, namespace, stream)
    group = text("consumer_group", consumer_group)
    partition = count("partition", partition)
    offset = integer("offset", offset, 64)
    return lib.fm_stream_commit_offset(session.native, handle, group, partition, offset), records.read_none


def get_offset(
    session: Session, tenant: str, namespace: str, stream: str, consumer_group: str, partition: int
) -> Call[int]:
    handle = session.stream(tenant, namespace, stream)
    group = text("consumer_group", consumer_group)
    partition = count("partition", partition)
    return lib.fm_stream_get_offset(session.native, handle, group, partition), records.read_number


def get_latest_offset(
    session: Session, tenant: str, namespace: str, stream: str, partition: int
) -> Call[int]:
    handle = session.stream(tenant, namespace, stream)
    partition = count("partition", partition)
    return lib.fm_stream_latest_offset(session.native, handle, partition), records.read_number


def get_consumer_group_state(
    session: Session, tenant: str, namespace: str, stream: str, consumer_group: str, partition: int
) -> Call[ConsumerGroupState]:
    handle = session.stream(tenant, namespace, stream)
    group = text("consumer_group", consumer_group)
    partition = count("partition", partition)

    def read_state(data: Buffer, at: int, end: int) -> ConsumerGroupState:
        offsets = records.read_group_state(data, at, end)
        path = f"{tenant}/{namespace}/stream/{stream}"
        return ConsumerGroupState(path, consumer_group, partition, *offsets)

    return lib.fm_stream_group_state(session.native, handle, group, partition), read_state


# ---- Queues -----------------------------------------------------------------------------------


def enqueue(
    session: Session,
    tenant: str,
    namespace: str,
    queue: str,
    payload: Bytes,
    delay: timedelta | None,
    headers: Mapping[str, str] | None,
) -> Call[tuple[str, int]]:
    handle = session.queue(tenant, namespace, queue)
    payload = data("payload", payload)
    delay_ms = milliseconds("delay", delay)
    parts: list[bytes] = []
    number = pack_headers(headers, parts)
    packed = b"".join(parts)
    id = lib.fm_queue_enqueue(session.native, handle, payload, len(payload), delay_ms, packed, number)
    return id, records.read_enqueued


def reserve(
    session: Session,
    tenant: str,
    namespace: str,
    queue: str,
    visibility_timeout: timedelta | None,
    long_poll_timeout: timedelta | None,
) -> Call[Job | None]:
    handle = session.queue(tenant, namespace, queue)
    lease_ms = milliseconds("visibility_timeout", visibility_timeout)
    wait_ms = milliseconds("long_poll_timeout", long_poll_timeout)
    return lib.fm_queue_reserve(session.native, handle, lease_ms, wait_ms), records.read_job


def receive(
    session: Session,
    tenant: str,
    namespace: str,
    queue: str,
    max_jobs: int,
    visibility_timeout: timedelta | None,
    long_poll_timeout: timedelta | None,
) -> Call[list[Job]]:
    handle = session.queue(tenant, namespace, queue)
    max_jobs = count("max_jobs", max_jobs)
    lease_ms = milliseconds("visibility_timeout", visibility_timeout)
    wait_ms = milliseconds("long_poll_timeout", long_poll_timeout)
    return lib.fm_queue_receive(session.native, handle, max_jobs, lease_ms, wait_ms), records.read_jobs


def ack(session: Session, tenant: str, namespace: str, queue: str, job_id: str) -> Call[None]:
    handle = session.queue(tenant, namespace, queue)
    return lib.fm_queue_ack(session.native, handle, text("job_id", job_id)), records.read_none


def nack(
    session: Session, tenant: str, namespace: str, queue: str, job_id: str, delay: timedelta | None
) -> Call[bool]:
    handle = session.queue(tenant, namespace, queue)
    delay_ms = milliseconds("delay", delay)
    return lib.fm_queue_nack(session.native, handle, text("job_id", job_id), delay_ms), records.read_flag


def get_stats(session: Session, tenant: str, namespace: str, queue: str) -> Call[QueueStats]:
    handle = session.queue(tenant, namespace, queue)
    return lib.fm_queue_stats(session.native, handle), records.read_stats


def set_retry_policy(
    session: Session, tenant: str, namespace: str, queue: str, policy: RetryPolicy
) -> Call[None]:
    handle = session.queue(tenant, namespace, queue)
    if not isinstance(policy, RetryPolicy):
        raise TypeError(f"policy must be a RetryPolicy, not {type(policy).__name__}")
    strategy = choice("backoff_strategy", policy.backoff_strategy, _STRATEGIES)
    id = lib.fm_queue_set_retry_policy(
        session.native,
        handle,
        count("max_attempts", policy.max_attempts),
        strategy,
        integer("initial_backoff_seconds", policy.initial_backoff_seconds, 53) * 1000,
        integer("max_backoff_seconds", policy.max_backoff_seconds, 53) * 1000,
        policy.backoff_multiplier,
    )
    return id, records.read_none


def get_retry_policy(session: Session, tenant: str, namespace: str, queue: str) -> Call[RetryPolicy]:
    handle = session.queue(tenant, namespace, queue)
    return lib.fm_queue_get_retry_policy(session.native, handle), records.read_policy


def list_dlq_jobs(
    session: Session, tenant: str, namespace: str, queue: str, max_jobs: int
) -> Call[list[Job]]:
    handle = session.queue(tenant, namespace, queue)
    max_jobs = count("max_jobs", max_jobs)
    return lib.fm_queue_list_dlq_jobs(session.native, handle, max_jobs), records.read_jobs


def replay_dlq_job(
    session: Session, tenant: str, namespace: str, queue: str, job_id: str
) -> Call[tuple[str, int]]:
    handle = session.queue(tenant, namespace, queue)
    id = lib.fm_queue_replay_dlq_job(session.native, handle, text("job_id", job_id))
    return id, records.read_enqueued


# ---- Key-value stores -------------------------------------------------------------------------


def kv_set(
    session: Session,
    tenant: str,
    namespace: str,
    store: str,
    key: str,
    value: Bytes,
    ttl: timedelta | None,
) -> Call[None]:
    handle = session.kv(tenant, namespace, store)
    name, value = utf8("key", key), data("value", value)
    ttl_ms = milliseconds("ttl", ttl)
    if ttl is not None and not ttl:
        raise refuse("ttl must be above 0: a value without one is kept for ever")
    id = lib.fm_kv_set(session.native, handle, name, len(name), value, len(value), ttl_ms)
    return id, records.read_none


def kv_get(session: Session, tenant: str, namespace: str, store: str, key: str) -> Call[bytes]:
    handle = session.kv(tenant, namespace, store)
    name = utf8("key", key)
    return lib.fm_kv_get(session.native, handle, name, len(name)), records.read_value


def kv_delete(session: Session, tenant: str, namespace: str, store: str, key: str) -> Call[None]:
    handle = session.kv(tenant, namespace, store)
    name = utf8("key", key)
    return lib.fm_kv_delete(session.native, handle, name, len(name)), records.read_none


def kv_exists(session: Session, tenant: str, namespace: str, store: str, key: str) -> Call[bool]:
    handle = session.kv(tenant, namespace, store)
    name = utf8("key", key)
    return lib.fm_kv_exists(session.native, handle, name, len(name)), records.read_flag


def kv_list_keys(session: Session, tenant: str, namespace: str, store: str, prefix: str) -> Call[list[str]]:
    handle = session.kv(tenant, namespace, store)
    start = utf8("prefix", prefix)
    return lib.fm_kv_list_keys(session.native, handle, start, len(start)), records.read_keys
