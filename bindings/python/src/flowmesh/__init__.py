"""Event streams, job queues and key-value storage for asyncio; `flowmesh.blocking` has the same
without it.
"""

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
from .types import ConsumerGroupState, Event, Job, Message, QueueStats, RetryPolicy

__version__ = "1.0.0"

__all__ = [
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
    "QueueStats",
    "RetryPolicy",
]
