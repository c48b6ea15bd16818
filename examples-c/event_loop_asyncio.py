"""A dispatcher in Python's asyncio loop over ctypes, in 40 lines: event_loop_asyncio.py [ENDPOINT]"""

import asyncio
import os
import sys
from ctypes import CDLL, CFUNCTYPE, Structure, byref, c_char_p, c_int, c_int64, c_size_t, c_void_p, string_at

lib = CDLL(os.environ.get("FLOWMESH_LIBRARY", "libflowmesh.so.1"))


def struct(kind):  # flowmesh_view_t, with text to give or an address to read
    return type("View", (Structure,), {"_fields_": [("data", kind), ("len", c_size_t)]})


View, Data = struct(c_char_p), struct(c_void_p)
lib.flowmesh_error_message.restype, lib.flowmesh_value_data.restype = c_char_p, Data
DONE, VALUE = (CFUNCTYPE(None, *[c_void_p] * count) for count in (2, 3))  # flowmesh_..._callback_t


def check(error):
    if error:
        raise RuntimeError(lib.flowmesh_error_message(error).decode())


def call(function, *arguments):
    function(*arguments, byref(error := c_void_p()))
    check(error)


async def awaited(function, *arguments, type=DONE):  # the result of an _async call
    future = asyncio.get_running_loop().create_future()
    callback = type(lambda *result: future.set_result([c_void_p(part) for part in result]))
    call(function, *arguments, callback, None, None, None)
    error, result, *_ = await future
    check(error)
    return result


async def main(endpoint):
    call(lib.flowmesh_dispatcher_new, c_size_t(0), byref(dispatcher := c_void_p()))
    call(lib.flowmesh_dispatcher_fd, dispatcher, byref(fd := c_int()))
    run = (lib.flowmesh_dispatcher_run, dispatcher, c_size_t(0), c_int64(0), None)
    asyncio.get_running_loop().add_reader(fd.value, call, *run)
    call(lib.flowmesh_client_options_new, byref(options := c_void_p()))
    call(lib.flowmesh_client_options_set_dispatcher, options, dispatcher)
    call(lib.flowmesh_client_open, endpoint, options, byref(client := c_void_p()))
    call(lib.flowmesh_kv_open, client, b"acme", b"shop", b"settings", byref(kv := c_void_p()))
    await awaited(lib.flowmesh_kv_set_async, kv, View(b"colour", 6), View(b"red", 3), None)
    value = await awaited(lib.flowmesh_kv_get_async, kv, View(b"colour", 6), None, type=VALUE)
    data = lib.flowmesh_value_data(value)
    print("colour =", string_at(data.data, data.len).decode())
    lib.flowmesh_value_free(value)
    await awaited(lib.flowmesh_client_close_async, client, c_int64(-1))
    print("closed")


asyncio.run(main((sys.argv[1:] or ["embedded:"])[0].encode()))
