"""What is sent and received. Fields have the names of the wire contract; instants are aware UTC
datetimes, with the server's nanoseconds in properties that end in `_ns`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Optional

from .utils import datetime_to_nanos, nanos_to_datetime


@dataclass
class Event:
    """An event to write: at least one byte, with headers as metadata."""

    payload: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Message:
    """An event as it is stored in a stream."""

    id: str
    resource_path: str
    partition: int
    offset: int
    payload: bytes
    headers: dict[str, str]
    created_at: datetime
    schema_version: int = 0

    if not TYPE_CHECKING:  # for a type checker, there is nothing but the fields

        def __getattr__(self, name: str) -> datetime:
            # What was received has nanoseconds only, until somebody asks for the datetime.
            if name == "created_at" and "_created_at_ns" in self.__dict__:
                self.created_at = nanos_to_datetime(self.__dict__["_created_at_ns"])
                return self.created_at
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def created_at_ns(self) -> int:
        """When it was written, in unix nanoseconds."""
        return _nanos(self, "created_at")


@dataclass
class Job:
    """A job, leased or listed. `reserve_until` is the end of its lease, None when it is not leased."""

    id: str
    resource_path: str
    seq: int
    payload: bytes
    headers: dict[str, str]
    created_at: datetime
    visible_at: datetime
    reserve_until: Optional[datetime] = None
    attempts: int = 0

    @property
    def created_at_ns(self) -> int:
        """When it was enqueued, in unix nanoseconds."""
        return _nanos(self, "created_at")

    @property
    def visible_at_ns(self) -> int:
        """When it last became due, in unix nanoseconds."""
        return _nanos(self, "visible_at")

    @property
    def reserve_until_ns(self) -> int:
        """When its lease ends, in unix nanoseconds; 0 when it is not leased."""
        return 0 if self.reserve_until is None else _nanos(self, "reserve_until")


def _nanos(instance: object, name: str) -> int:
    """What the server said, unless the field was given by the application."""
    exact = instance.__dict__.get(f"_{name}_ns")
    return exact if isinstance(exact, int) else datetime_to_nanos(getattr(instance, name))


@dataclass
class QueueStats:
    """Counters of a queue; they survive restarts."""

    total_jobs: int = 0
    pending_jobs: int = 0
    in_flight_jobs: int = 0
    completed_jobs: int = 0
    failed_jobs: int = 0
    oldest_job_age_seconds: int = 0


@dataclass
class ClientStats:
    """What a client has counted, and what it holds now. Latencies are those of calls that succeeded,
    without those that wait for a job.
    """

    calls_started: int = 0
    calls_succeeded: int = 0
    calls_failed: int = 0
    calls_cancelled: int = 0
    calls_retried: int = 0
    calls_under_way: int = 0
    latency_p50_ns: int = 0
    latency_p90_ns: int = 0
    latency_p99_ns: int = 0
    latency_p999_ns: int = 0
    latency_max_ns: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    connections_made: int = 0
    connections_lost: int = 0
    messages_delivered: int = 0
    subscriptions: int = 0
    prefetched_bytes: int = 0
    producer_bytes: int = 0
    producer_messages: int = 0
    worker_jobs: int = 0


@dataclass
class WorkerEvent:
    """Something that happened to a worker. `kind` is "fetch failed" (it goes on trying), "fetch
    resumed", "lease lost", "dead-lettered", "not settled" (a verdict could not be stored) or "ended"
    (by itself, for the reason). `job_id` is "", and `seq` -1, where it is not about a job.
    """

    kind: str
    job_id: str
    seq: int
    attempts: int
    reason: Optional[Exception] = None


@dataclass
class RetryPolicy:
    """When a job that failed is tried again. The default is a queue's own: 3 deliveries, then the
    dead letters. `backoff_strategy` is "fixed", "linear" or "exponential".
    """

    max_attempts: int = 3
    initial_backoff_seconds: int = 1
    max_backoff_seconds: int = 60
    backoff_multiplier: float = 2.0
    backoff_strategy: str = "exponential"


@dataclass
class ConsumerGroupState:
    """Where a consumer group stands; -1 is none."""

    stream: str
    group: str
    partition: int
    committed_offset: int
    latest_offset: int
    lag: int
