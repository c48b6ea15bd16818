"""Event streams, job queues and key-value storage for asyncio; `flowmesh.blocking` has the same
without it.
"""

from ._log import set_logger
from .client import FlowMesh
from .exceptions import (
    FlowMeshAbortedError,
    FlowMeshAlreadyExistsError,
    FlowMeshAuthError,
    FlowMeshCancelledError,
    FlowMeshClosedError,
    FlowMeshConnectionError,
    FlowMeshDataLossError,
    FlowMeshError,
    FlowMeshFailedPreconditionError,
    FlowMeshForkedError,
    FlowMeshInternalError,
    FlowMeshInvalidArgumentError,
    FlowMeshNotFoundError,
    FlowMeshOutOfRangeError,
    FlowMeshPermissionDeniedError,
    FlowMeshResourceExhaustedError,
    FlowMeshTimeoutError,
    FlowMeshUnimplementedError,
    FlowMeshUnknownError,
)
from .producer import QueueProducer, StreamProducer
from .types import (
    ClientStats,
    ConsumerGroupState,
    Event,
    Job,
    Message,
    QueueStats,
    RetryPolicy,
    WorkerEvent,
)
from .worker import RetryLater, Worker

__version__ = "1.0.0"

__all__ = [
    "ClientStats",
    "ConsumerGroupState",
    "Event",
    "FlowMesh",
    "FlowMeshAbortedError",
    "FlowMeshAlreadyExistsError",
    "FlowMeshAuthError",
    "FlowMeshCancelledError",
    "FlowMeshClosedError",
    "FlowMeshConnectionError",
    "FlowMeshDataLossError",
    "FlowMeshError",
    "FlowMeshFailedPreconditionError",
    "FlowMeshForkedError",
    "FlowMeshInternalError",
    "FlowMeshInvalidArgumentError",
    "FlowMeshNotFoundError",
    "FlowMeshOutOfRangeError",
    "FlowMeshPermissionDeniedError",
    "FlowMeshResourceExhaustedError",
    "FlowMeshTimeoutError",
    "FlowMeshUnimplementedError",
    "FlowMeshUnknownError",
    "Job",
    "Message",
    "QueueProducer",
    "QueueStats",
    "RetryLater",
    "RetryPolicy",
    "StreamProducer",
    "Worker",
    "WorkerEvent",
    "set_logger",
]
