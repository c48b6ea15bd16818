"""A dispatcher in Python's asyncio loop, over ctypes.

FLOWMESH_LIBRARY=target/release/libflowmesh.so python3 event_loop_asyncio.py [ENDPOINT]
"""

import asyncio
import ctypes
import os
import sys
from ctypes import CFUNCTYPE, byref, c_char_p, c_int, c_int64, c_size_t, c_void_p

lib = ctypes.CDLL(os.environ.get("FLOWMESH_LIBRARY", "libflowmesh.so.1"))
DONE = CFUNCTYPE(None, c_void_p, c_void_p)  # flowmesh_done_callback_t
VALUE = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p)  # flowmesh_value_callback_t


class View(ctypes.Structure):
    _fields_ = [("data", c_char_p), ("len", c_size_t)]


lib.flowmesh_error_message.restype, lib.flowmesh_value_data.restype = c_char_p, View


def view(text):
    return View(text, len(text))


def check(error):
    if error:
        raise RuntimeError(lib.flowmesh_error_message(error).decode())


def call(function, *arguments):
    function(*arguments, byref(error := c_void_p()))
    check(error)


def made(function, *arguments):
    call(function, *arguments, byref(handle := c_void_p()))
    return handle


async def awaited(function, *arguments, type=DONE):
    """The result of an _async call."""
    future = asyncio.get_running_loop().create_future()
    callback = type(lambda *result: future.set_result([c_void_p(part) for part in result]))
    call(function, *arguments, callback, None, None, None)
    error, result, *_ = await future
    check(error)
    return result


async def main(endpoint):
    dispatcher = made(lib.flowmesh_dispatcher_new, c_size_t(0))
    call(lib.flowmesh_dispatcher_fd, dispatcher, byref(fd := c_int()))
    run = (lib.flowmesh_dispatcher_run, dispatcher, c_size_t(0), c_int64(0), None)
    asyncio.get_running_loop().add_reader(fd.value, call, *run)
    options = made(lib.flowmesh_client_options_new)
    call(lib.flowmesh_client_options_set_dispatcher, options, dispatcher)

    client = made(lib.flowmesh_client_open, endpoint, options)
    kv = made(lib.flowmesh_kv_open, client, b"acme", b"shop", b"settings")
    await awaited(lib.flowmesh_kv_set_async, kv, view(b"colour"), view(b"red"), None)
    value = await awaited(lib.flowmesh_kv_get_async, kv, view(b"colour"), None, type=VALUE)
    bytes_read = lib.flowmesh_value_data(value)
    print("colour =", ctypes.string_at(bytes_read.data, bytes_read.len).decode())
    lib.flowmesh_value_free(value)
    await awaited(lib.flowmesh_client_close_async, client, c_int64(-1))
    print("closed")


asyncio.run(main((sys.argv[1:] or ["embedded:"])[0].encode()))
