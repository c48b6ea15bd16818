"""Conversions that applications need beside the client."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from ._native import ffi, lib

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def library_version() -> str:
    """The version of the libflowmesh in use, "major.minor.patch"."""
    version: bytes = ffi.string(lib.flowmesh_version())
    return version.decode()


def build_resource_path(tenant: str, namespace: str, resource_type: str, name: str) -> dict[str, str]:
    """The fields of a resource path; `resource_type` is "stream", "queue" or "kv"."""
    return {"tenant": tenant, "namespace": namespace, "resource_type": resource_type, "name": name}


def timestamp_to_nanos(timestamp: datetime) -> int:
    """Unix nanoseconds of a datetime; a naive one is local time."""
    return datetime_to_nanos(timestamp)


def nanos_to_timestamp(nanos: int) -> datetime:
    """The naive local datetime of unix nanoseconds, cut to microseconds."""
    return nanos_to_datetime(nanos).astimezone().replace(tzinfo=None)


def datetime_to_nanos(instant: datetime) -> int:
    """Unix nanoseconds of a datetime; a naive one is local time. Exact."""
    return (instant.astimezone(timezone.utc) - _EPOCH) // _MICROSECOND * 1000


def nanos_to_datetime(nanos: int) -> datetime:
    """The aware UTC datetime of unix nanoseconds, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=nanos // 1000)
