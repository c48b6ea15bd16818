"""Values under keys: set, get, list, let them expire, delete.

python kv_example.py [ENDPOINT]        default: a server on localhost:50051
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from flowmesh import FlowMesh, FlowMeshNotFoundError

STORE = ("acme", "shop", "sessions")


async def main(endpoint: str) -> None:
    async with FlowMesh(endpoint) as client:
        await client.kv.set(*STORE, "user:1", b"Ada", ttl=timedelta(hours=1))
        await client.kv.set(*STORE, "user:2", b"Grace")
        await client.kv.set(*STORE, "theme", b"dark")
        print("user:1 is", (await client.kv.get(*STORE, "user:1")).decode())
        print("users:", await client.kv.list_keys(*STORE, prefix="user:"))

        # Many at once cost little more than one.
        users = await client.kv.list_keys(*STORE, prefix="user:")
        values = await asyncio.gather(*(client.kv.get(*STORE, user) for user in users))
        print("values:", [value.decode() for value in values])

        await client.kv.delete(*STORE, "theme")
        print("theme exists:", await client.kv.exists(*STORE, "theme"))
        try:
            await client.kv.get(*STORE, "theme")
        except FlowMeshNotFoundError as error:
            print("not found:", error)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:] or ["localhost:50051"]))
