"""Calls of the library that do not wait, and the errors that it gives as objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._native import ffi, lib
from ._records import failure


def call(function: Callable[..., int], *values: Any) -> None:
    """A call of the library that does not wait and gives an error object."""
    error = ffi.new("flowmesh_error_t **")
    status = function(*values, error)
    if status:
        raise taken(error[0], status)


def taken(error: Any, status: int = 0) -> Exception:
    """What an error object says, which it frees."""
    if not error:
        return failure(status, "it is closed") if status else MemoryError()
    message = ffi.string(lib.flowmesh_error_message(error)).decode("utf-8", "replace")
    details = ffi.string(lib.flowmesh_error_detail(error)).decode("utf-8", "replace")
    outcome, retryable = lib.flowmesh_error_outcome(error), lib.flowmesh_error_retryable(error)
    status = lib.flowmesh_error_status(error)
    lib.flowmesh_error_free(error)
    return failure(status, message, details, outcome, retryable)


def made(kind: str, function: Callable[..., int], *values: Any) -> Any:
    """What such a call makes."""
    out = ffi.new(f"flowmesh_{kind}_t **")
    call(function, *values, out)
    return out[0]
