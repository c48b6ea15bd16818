"""Jobs: enqueue them, work on them, give one back until it is a dead letter, replay it.

python queues_example.py [ENDPOINT]        default: a server on localhost:50051
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from flowmesh import FlowMesh, Job, RetryPolicy

MAILS = ("acme", "shop", "mails")


def deliver(job: Job) -> None:
    if b"nobody" in job.payload:
        raise ValueError("no such address")
    print(f"delivered {job.payload.decode()!r}, attempt {job.attempts}")


async def worker(client: FlowMesh) -> None:
    """Works until there is nothing to do for two seconds."""
    while True:
        job = await client.queue.reserve(
            *MAILS, visibility_timeout=timedelta(seconds=30), long_poll_timeout=timedelta(seconds=2)
        )
        if job is None:
            return
        try:
            deliver(job)
        except ValueError as error:
            if await client.queue.nack(*MAILS, job.id, delay=timedelta(seconds=1)):
                print(f"gave up {job.payload.decode()!r}: {error}")
        else:
            await client.queue.ack(*MAILS, job.id)


async def main(endpoint: str) -> None:
    async with FlowMesh(endpoint) as client:
        await client.queue.set_retry_policy(*MAILS, RetryPolicy(max_attempts=2))
        for address in ["ada", "nobody", "grace"]:
            await client.queue.enqueue(*MAILS, f"to: {address}".encode(), headers={"kind": "mail"})
        await client.queue.enqueue(*MAILS, b"to: later", delay=timedelta(seconds=1))
        await asyncio.gather(worker(client), worker(client))

        for dead in await client.queue.list_dlq_jobs(*MAILS):
            _, number = await client.queue.replay_dlq_job(*MAILS, dead.id)
            print(f"replayed {dead.payload.decode()!r} as job {number}")
        stats = await client.queue.get_stats(*MAILS)
        print(f"{stats.completed_jobs} done, {stats.failed_jobs} failed, {stats.pending_jobs} waiting")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:] or ["localhost:50051"]))
