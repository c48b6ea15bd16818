"""Errors. Every failure of a call is a FlowMeshError; the class says what kind, `code` which status.

`code` is the gRPC number (1 to 16), or one of the library's own: 100 closed, 101 forked. Wrong types
of arguments are TypeErrors.
"""

from __future__ import annotations


class FlowMeshError(Exception):
    """A call failed.

    `details` are the server's own words, if it said any. `retryable`: the same call may succeed later.
    `outcome`: whether the change was applied ("applied", "not applied", "unknown"); look at it before
    repeating a write or an enqueue.
    """

    retryable: bool = False
    outcome: str = "unknown"

    def __init__(self, message: str, code: int | None = None, details: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.details = details

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.code, self.details), self.__dict__


class FlowMeshCancelledError(FlowMeshError):
    """The call was cancelled (1)."""


class FlowMeshUnknownError(FlowMeshError):
    """The other side failed without saying how (2)."""


class FlowMeshInvalidArgumentError(FlowMeshError):
    """An argument breaks a rule; the message names both (3)."""


class FlowMeshTimeoutError(FlowMeshError):
    """The call's time was up (4)."""


class FlowMeshNotFoundError(FlowMeshError):
    """The resource, job or key does not exist (5)."""


class FlowMeshAlreadyExistsError(FlowMeshError):
    """It exists already (6)."""


class FlowMeshPermissionDeniedError(FlowMeshError):
    """The token, or the system, does not permit it (7)."""


class FlowMeshResourceExhaustedError(FlowMeshError):
    """The storage is full, or a message is larger than allowed (8)."""


class FlowMeshFailedPreconditionError(FlowMeshError):
    """The present state does not permit the call (9)."""


class FlowMeshAbortedError(FlowMeshError):
    """A conflict ended the call (10)."""


class FlowMeshOutOfRangeError(FlowMeshError):
    """A value lies outside its range (11)."""


class FlowMeshUnimplementedError(FlowMeshError):
    """The server does not know the call (12)."""


class FlowMeshInternalError(FlowMeshError):
    """Storage failed or is damaged, or a defect of the library or server (13)."""


class FlowMeshConnectionError(FlowMeshError):
    """The server cannot be reached or is stopping; try again later (14)."""


class FlowMeshDataLossError(FlowMeshError):
    """Data were lost (15)."""


class FlowMeshAuthError(FlowMeshError):
    """The token is missing, unknown or expired (16)."""


class FlowMeshClosedError(FlowMeshError):
    """The client is closed (100)."""


class FlowMeshForkedError(FlowMeshError):
    """The client is of the parent process: make a new one in the child of a fork (101)."""
