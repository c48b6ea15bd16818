"""Events: write them, read them, follow them as a consumer group.

python streams_example.py [ENDPOINT]        default: a server on localhost:50051
"""

from __future__ import annotations

import asyncio
import sys

from flowmesh import Event, FlowMesh

ORDERS = ("acme", "shop", "orders")


async def follow(client: FlowMesh, last: int) -> None:
    """Handles messages up to an offset, and commits what is done."""
    messages = client.stream.subscribe(*ORDERS, "billing", start_offset=-1)
    try:
        async for message in messages:
            print(f"billing got {message.payload.decode()!r} ({message.headers.get('kind', 'no kind')})")
            await client.stream.commit_offset(*ORDERS, "billing", 0, message.offset)
            if message.offset >= last:
                return
    finally:
        await messages.aclose()  # ends the subscription now, not when the generator is collected


async def main(endpoint: str) -> None:
    async with FlowMesh(endpoint) as client:
        events = [Event(b"a book", {"kind": "order"}), Event(b"a lamp", {"kind": "order"})]
        offsets = await client.stream.write(*ORDERS, events)
        print(f"wrote {len(offsets)} events")
        for message in await client.stream.read(*ORDERS, offset=offsets[0], max_messages=10):
            print(f"read {message.payload.decode()!r}, written at {message.created_at:%Y}")

        following = asyncio.ensure_future(follow(client, offsets[-1] + 1))
        await client.stream.write(*ORDERS, [Event(b"a chair")])
        await following
        state = await client.stream.get_consumer_group_state(*ORDERS, "billing")
        print(f"billing is {state.lag} behind")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:] or ["localhost:50051"]))
