"""The library's log lines, for a logger. Threads of the library never enter Python: one of Python's
takes what they have left, as long as there is a logger.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading

from ._library import call
from ._native import ffi, lib
from ._records import LINE

_LEVELS = {
    lib.FLOWMESH_LOG_ERROR: logging.ERROR,
    lib.FLOWMESH_LOG_WARN: logging.WARNING,
    lib.FLOWMESH_LOG_INFO: logging.INFO,
    lib.FLOWMESH_LOG_DEBUG: logging.DEBUG,
}


class _Reader:
    """The thread that reads, and its logger."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None


_reader = _Reader()


def _after_fork() -> None:
    _reader.lock = threading.Lock()
    _reader.thread = None


os.register_at_fork(after_in_child=_after_fork)


def set_logger(logger: logging.Logger | None, level: int = logging.INFO) -> None:
    """Has the library tell `logger` what an operator should know, from `level` up, in place of the
    former logger; None is silence, the default. Lines are told by a thread of their own, as
    `logger.getChild(target)` does, where the target is what they are about; `client_id` of a record
    says which client (FlowMesh.log_id), 0 for none. Every line is told when this returns, or the
    interpreter ends. The child of a fork has no logger.
    """
    with _reader.lock:
        _stop()
        if logger is None:
            return
        call(lib.fm_log_start, _level(level))
        _reader.thread = threading.Thread(target=_read, args=(logger,), name="flowmesh-log", daemon=True)
        _reader.thread.start()


def _stop() -> None:
    thread, _reader.thread = _reader.thread, None
    if thread is not None:
        call(lib.fm_log_stop)
        thread.join()


@atexit.register
def _at_exit() -> None:
    with _reader.lock:
        _stop()


def _level(level: int) -> int:
    for known, of_python in _LEVELS.items():
        if level >= of_python:
            return int(known)
    return int(lib.FLOWMESH_LOG_DEBUG)


def _read(logger: logging.Logger) -> None:
    length, missing = ffi.new("size_t *"), ffi.new("uint64_t *")
    while True:
        data = lib.fm_log_take(length, missing)
        end = length[0]
        if not end and not missing[0]:
            return
        lines = ffi.buffer(data, end) if end else b""
        at = 0
        while at < end:
            level, target_length, text_length, client_id = LINE.unpack_from(lines, at)
            target = at + LINE.size
            text = target + target_length
            at = text + text_length
            child = logger.getChild(lines[target:text].decode("utf-8", "replace"))
            message = lines[text:at].decode("utf-8", "replace")
            child.log(_LEVELS.get(level, logging.DEBUG), "%s", message, extra={"client_id": client_id})
        if missing[0]:
            logger.warning("%d log lines were lost: the logger is too slow", missing[0])
