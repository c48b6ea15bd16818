"""Arguments of calls, in the form that the library takes; what does not fit is refused by its name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from struct import Struct
from typing import Any, Union

from ._native import ffi, lib
from .exceptions import FlowMeshInvalidArgumentError
from .types import Event

_PAIR = Struct("=II")
_MILLISECOND = timedelta(milliseconds=1)

# What the library is given as bytes.
Bytes = Union[bytes, bytearray, memoryview]
# What names a file.
Path = Union[str, "os.PathLike[str]"]

_FSYNC = {
    "always": lib.FLOWMESH_FSYNC_ALWAYS,
    "interval": lib.FLOWMESH_FSYNC_INTERVAL,
    "none": lib.FLOWMESH_FSYNC_NONE,
}


def refuse(message: str) -> FlowMeshInvalidArgumentError:
    error = FlowMeshInvalidArgumentError(message, 3)
    error.outcome = "not applied"
    return error


def utf8(name: str, value: str) -> bytes:
    """A text with its length."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise refuse(f"{name} must be UTF-8 text: it holds a lone surrogate") from None


def text(name: str, value: str) -> bytes:
    """A text that ends in NUL on the other side."""
    encoded = utf8(name, value)
    if b"\0" in encoded:
        raise refuse(f"{name} must not hold control characters")
    return encoded


def data(name: str, value: Bytes) -> bytes:
    if type(value) is bytes:
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"{name} must be bytes, not {type(value).__name__}")


def path(name: str, value: Path) -> bytes:
    return text(name, os.fspath(value))


def view(name: str, value: Bytes) -> Any:
    """The fields of a flowmesh_view_t, which keep the bytes as long as they are kept."""
    held = ffi.from_buffer("uint8_t[]", data(name, value))
    return held, len(held)


def flag(name: str, value: bool) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
    return value


def size(name: str, value: int) -> int:
    if integer(name, value, 64) < 0:
        raise refuse(f"{name} must not be negative, got {value}")
    return value


def choice(name: str, value: str, known: Mapping[str, int]) -> int:
    """The library's number for one of a few texts."""
    number = known.get(value)
    if number is None:
        raise refuse(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return int(number)


def fsync(name: str, value: str) -> int:
    return choice(name, value, _FSYNC)


def integer(name: str, value: int, bits: int) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise refuse(f"{name} must fit into {bits} bits, got {value}")
    return value


def count(name: str, value: int) -> int:
    """Of what there may be none of; a number of a partition, too."""
    if integer(name, value, 32) < 0:
        raise refuse(f"{name} must not be negative, got {value}")
    return value


def milliseconds(name: str, value: timedelta | None) -> int:
    """Rounded up; None is 0. The library reads some negative times as "for ever"."""
    if value is None:
        return 0
    if not isinstance(value, timedelta):
        raise TypeError(f"{name} must be a timedelta, not {type(value).__name__}")
    if value < timedelta(0):
        raise refuse(f"{name} must not be negative, got {value}")
    return -(-value // _MILLISECOND)


def pack_headers(headers: Mapping[str, str] | None, parts: list[bytes]) -> int:
    """Appends the headers in the glue's layout; their number."""
    if not headers:
        return 0
    for key, value in headers.items():
        encoded_key, encoded_value = utf8("a header's name", key), utf8(f"the header {key!r}", value)
        parts += _PAIR.pack(len(encoded_key), len(encoded_value)), encoded_key, encoded_value
    return len(headers)


def pack_events(events: Iterable[Event]) -> tuple[bytes, int, int]:
    """The events in the glue's layout, their number and that of their headers."""
    parts: list[bytes] = []
    count = total = 0
    for event in events:
        if not isinstance(event, Event):
            raise TypeError(f"events must hold Event objects, not {type(event).__name__}")
        payload = data("payload", event.payload)
        at = len(parts)
        parts.append(b"")
        parts.append(payload)
        headers = pack_headers(event.headers, parts)
        parts[at] = _PAIR.pack(len(payload), headers)
        total += headers
        count += 1
    return b"".join(parts), count, total
