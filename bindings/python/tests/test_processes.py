"""Event loops, threads, forks and the end of the interpreter."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from datetime import timedelta

import pytest
from conftest import PATIENCE, Name

from flowmesh import FlowMesh, FlowMeshFailedPreconditionError, FlowMeshForkedError
from flowmesh.blocking import FlowMesh as BlockingFlowMesh


def test_a_loop_in_each_of_many_threads(endpoint: str, name: Name) -> None:
    failures: list[BaseException] = []

    async def work(number: int) -> None:
        store = (*name[:2], f"{name[2]}-{number}")
        async with FlowMesh(endpoint) as client:
            await client.kv.set(*store, "key", b"%d" % number)
            values = await asyncio.gather(*(client.kv.get(*store, "key") for _ in range(200)))
            assert values == [b"%d" % number] * 200

    def thread(number: int) -> None:
        try:
            asyncio.run(work(number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE * 3)
    assert not failures and not any(each.is_alive() for each in threads)


async def test_a_client_belongs_to_its_loop(client: FlowMesh) -> None:
    def elsewhere() -> None:
        with pytest.raises(FlowMeshFailedPreconditionError, match="another event loop"):
            asyncio.run(client.health_check())
        with pytest.raises(FlowMeshFailedPreconditionError, match="another event loop"):
            asyncio.run(client.close())

    await client.health_check()
    thread = threading.Thread(target=elsewhere)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.001)


def test_a_client_moves_on_when_its_loop_is_closed(endpoint: str, name: Name) -> None:
    client = FlowMesh(endpoint)

    async def begin() -> None:
        await client.kv.set(*name, "key", b"v")
        asyncio.ensure_future(client.queue.reserve(*name, long_poll_timeout=timedelta(hours=1)))
        await client.health_check()  # and the loop ends, with the other one under way

    async def go_on() -> None:
        assert await client.kv.get(*name, "key") == b"v"
        await client.close()

    asyncio.run(begin())
    asyncio.run(go_on())


def test_a_loop_that_is_closed_without_ceremony_leaves_nothing_that_crashes(
    endpoint: str, name: Name
) -> None:
    loop = asyncio.new_event_loop()
    client = FlowMesh(endpoint)

    loop.run_until_complete(client.kv.set(*name, "key", b"v"))
    waiting = loop.create_task(client.queue.reserve(*name, long_poll_timeout=timedelta(hours=1)))
    following = loop.create_task(client.stream.subscribe(*name, "g").__anext__())
    loop.run_until_complete(asyncio.sleep(0))
    # What asyncio says of tasks that are thrown away is not what is tested here.
    waiting._log_destroy_pending = following._log_destroy_pending = False  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop.close()
        del waiting, following, client
        gc.collect()


def in_child(work: Callable[[], None]) -> None:
    """Runs it in the child of a fork, which has to succeed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, since 3.12
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_the_child_of_a_fork_is_told_and_can_begin_anew(endpoint: str, name: Name) -> None:
    loop = asyncio.new_event_loop()
    client = FlowMesh(endpoint)
    loop.run_until_complete(client.kv.set(*name, "key", b"v"))
    waiting = loop.create_task(client.queue.reserve(*name, long_poll_timeout=timedelta(hours=1)))
    loop.run_until_complete(client.health_check())

    async def in_vain() -> None:
        for call in [client.kv.get(*name, "key"), client.connect(), client.health_check()]:
            with pytest.raises(FlowMeshForkedError) as caught:
                await call
            assert caught.value.code == 101
        await client.close()
        async with FlowMesh(endpoint) as anew:
            await anew.kv.set(*name, "other", b"child")
            assert await anew.kv.get(*name, "other") == b"child"

    def child() -> None:
        # Not asyncio.run: a fork inside a loop's thread keeps "a loop is running" from it.
        own = asyncio.new_event_loop()
        own.run_until_complete(in_vain())
        own.close()

    in_child(child)
    assert loop.run_until_complete(client.kv.get(*name, "key")) == b"v"  # the parent is undisturbed
    waiting.cancel()
    loop.run_until_complete(client.close())
    loop.run_until_complete(asyncio.gather(waiting, return_exceptions=True))
    loop.close()


def test_a_blocking_client_in_the_child_of_a_fork(endpoint: str, name: Name) -> None:
    with BlockingFlowMesh(endpoint) as client:
        client.kv.set(*name, "key", b"v")

        def child() -> None:
            with pytest.raises(FlowMeshForkedError):
                client.kv.get(*name, "key")
            client.close()
            with BlockingFlowMesh(endpoint) as anew:
                anew.kv.set(*name, "other", b"v")

        in_child(child)
        assert client.kv.get(*name, "key") == b"v"


PROGRAMS = {
    "asyncio": """
        import asyncio, sys
        from datetime import timedelta
        from flowmesh import Event, FlowMesh

        async def main():
            client = FlowMesh(sys.argv[1])
            await client.stream.write("t", "n", "s", [Event(b"x" * 1000)] * 1000)
            messages = client.stream.subscribe("t", "n", "s", "g")
            await messages.__anext__()
            hour = timedelta(hours=1)
            calls = [client.queue.reserve("t", "n", "q", None, hour) for _ in range(50)]
            calls += [client.kv.set("t", "n", "k", "key", b"v") for _ in range(50)]
            tasks = [asyncio.ensure_future(call) for call in calls]
            producer = client.stream.producer("t", "n", "s")
            for _ in range(1000):
                await producer.send(Event(b"x"))
            client.queue.worker("t", "n", "w", print, concurrency=10).open()
            await client.health_check()
            print("done", flush=True)
            EXIT

        asyncio.run(main())
    """,
    "blocking": """
        import sys, threading
        from datetime import timedelta
        from flowmesh.blocking import FlowMesh

        client = FlowMesh(sys.argv[1])
        client.kv.set("t", "n", "k", "key", b"v")
        hour = timedelta(hours=1)
        arguments = "t", "n", "q", None, hour
        for _ in range(4):
            threading.Thread(target=client.queue.reserve, args=arguments, daemon=True).start()
        client.health_check()
        print("done", flush=True)
        EXIT
    """,
}


@pytest.mark.parametrize("end", ["pass", "sys.exit(0)", "import os; os._exit(0)"])
@pytest.mark.parametrize("kind", PROGRAMS)
def test_the_interpreter_ends_with_work_in_flight(endpoint: str, kind: str, end: str) -> None:
    program = textwrap.dedent(PROGRAMS[kind]).replace("EXIT", end)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, endpoint],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    assert "Fatal" not in done.stderr
