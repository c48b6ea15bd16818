#!/usr/bin/env python3
"""One measurement of one client in a process of its own: prints a line of JSON. run.py starts it.

    client.py flowmesh|grpc ADDRESS load COUNT
    client.py flowmesh|grpc ADDRESS get SECONDS CONCURRENT
    client.py flowmesh|grpc ADDRESS subscribe COUNT

`flowmesh` is the package under test, `grpc` the asyncio stubs that grpcio generates of the same proto,
found by PYTHONPATH.
"""

import asyncio
import json
import resource
import statistics
import sys
import time

PATH = ("acme", "bench", "data")
KEY = "key"
VALUE = b"v" * 64
PAYLOAD = b"e" * 256


class Flowmesh:
    """Calls as an application of the package makes them."""

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        await self.client.close()

    def __init__(self, address):
        from flowmesh import Event, FlowMesh

        self.client = FlowMesh(address)
        self.event = Event(PAYLOAD)

    async def get(self):
        return await self.client.kv.get(*PATH, KEY)

    async def load(self, count):
        await self.client.kv.set(*PATH, KEY, VALUE)
        for start in range(0, count, 5000):
            await self.client.stream.write(*PATH, [self.event] * min(5000, count - start))

    def messages(self):
        return self.client.stream.subscribe(*PATH, "bench", start_offset=0)

    @staticmethod
    def payload(message):
        return message.payload


class Grpc:
    """Calls as an application of the generated stubs makes them."""

    def __init__(self, address):
        import grpc
        from flowmesh.v1 import flowmesh_pb2 as messages
        from flowmesh.v1 import flowmesh_pb2_grpc as stubs

        self.pb = messages
        self.channel = grpc.aio.insecure_channel(address)
        self.kv = stubs.KVServiceStub(self.channel)
        self.streams = stubs.StreamServiceStub(self.channel)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        await self.channel.close()

    def path(self, kind):
        tenant, namespace, name = PATH
        return self.pb.ResourcePath(tenant=tenant, namespace=namespace, resource_type=kind, name=name)

    async def get(self):
        return (await self.kv.Get(self.pb.GetRequest(resource_path=self.path("kv"), key=KEY))).value

    async def messages(self):
        request = self.pb.SubscribeRequest(
            resource_path=self.path("stream"), consumer_group="bench", start_offset=0
        )
        async for response in self.streams.Subscribe(request):
            yield response.message

    @staticmethod
    def payload(message):
        return message.payload


async def get(client, seconds, concurrent):
    """Calls per second, and the median time of one where there is one at a time."""
    assert await client.get() == VALUE
    end = time.perf_counter() + seconds
    times = []

    async def caller():
        calls = 0
        while (begun := time.perf_counter()) < end:
            await client.get()
            calls += 1
            if concurrent == 1:
                times.append(time.perf_counter() - begun)
        return calls

    begun = time.perf_counter()
    calls = sum(await asyncio.gather(*(caller() for _ in range(concurrent))))
    taken = time.perf_counter() - begun
    result = {"rate": calls / taken, "calls": calls}
    if times:
        result["p50_us"] = statistics.median(times) * 1e6
    return result


async def subscribe(client, count):
    size = seen = 0
    begun = time.perf_counter()
    messages = client.messages()
    async for message in messages:
        size += len(client.payload(message))
        seen += 1
        if seen == count:
            break
    taken = time.perf_counter() - begun
    await messages.aclose()
    assert size == count * len(PAYLOAD)
    return {"rate": count / taken, "calls": count}


async def main(kind, address, work, *arguments):
    numbers = [float(a) if "." in a else int(a) for a in arguments]
    async with {"flowmesh": Flowmesh, "grpc": Grpc}[kind](address) as client:
        if work == "load":
            return await client.load(*numbers)
        before = resource.getrusage(resource.RUSAGE_SELF)
        result = await {"get": get, "subscribe": subscribe}[work](client, *numbers)
        after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    result["cpu_us"] = cpu / result.pop("calls") * 1e6
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
