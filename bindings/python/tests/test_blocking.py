"""The client without asyncio."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from conftest import PATIENCE, Name

import flowmesh
from flowmesh import Event, FlowMeshClosedError, FlowMeshConnectionError, FlowMeshNotFoundError, blocking
from flowmesh.blocking import FlowMesh
from flowmesh.kv import KVClient
from flowmesh.queue import QueueClient
from flowmesh.stream import StreamClient


@pytest.fixture
def client(endpoint: str) -> Iterator[FlowMesh]:
    with FlowMesh(endpoint) as connected:
        yield connected


def test_it_has_the_methods_of_the_asynchronous_one() -> None:
    pairs: list[tuple[type, type]] = [
        (flowmesh.FlowMesh, blocking.FlowMesh),
        (StreamClient, blocking.StreamClient),
        (QueueClient, blocking.QueueClient),
        (KVClient, blocking.KVClient),
    ]
    for theirs, ours in pairs:
        names = {name for name in vars(theirs) if not name.startswith("_")}
        names -= {"producer", "worker"}  # threads have pools, and the calls of this client
        assert names == {name for name in vars(ours) if not name.startswith("_")}
        for name in names | {"__init__"}:
            # The connection of the nouns is of another class, subscriptions are other generators.
            parameters = [inspect.signature(getattr(kind, name)).parameters for kind in (theirs, ours)]
            assert [str(p).replace("LoopC", "ThreadC") for p in parameters[0].values()] == [
                str(p) for p in parameters[1].values()
            ]


def test_all_three_nouns(client: FlowMesh, name: Name) -> None:
    assert client.health_check() and client.readiness_check()
    assert client.stream.write(*name, [Event(b"a", {"k": "v"}), Event(b"b")]) == [0, 1]
    assert [m.payload for m in client.stream.read(*name)] == [b"a", b"b"]
    client.stream.commit_offset(*name, "g", 0, 0)
    messages = client.stream.subscribe(*name, "g")
    assert next(messages).payload == b"b"
    messages.close()
    id, seq = client.queue.enqueue(*name, b"job")
    job = client.queue.reserve(*name)
    assert job is not None and (job.id, job.seq) == (id, seq)
    assert client.queue.nack(*name, job.id) is False
    client.kv.set(*name, "key", b"v", ttl=timedelta(hours=1))
    assert client.kv.get(*name, "key") == b"v" and client.kv.list_keys(*name) == ["key"]
    with pytest.raises(FlowMeshNotFoundError):
        client.kv.get(*name, "other")


def test_where_nobody_answers(tmp_path: object) -> None:
    client = FlowMesh(f"unix:{tmp_path}/nobody", timeout=timedelta(seconds=20))
    with pytest.raises(FlowMeshConnectionError):
        client.connect()
    assert client.health_check() is False
    client.close()
    with pytest.raises(FlowMeshClosedError):
        client.health_check()


def test_many_threads_share_a_client(client: FlowMesh, name: Name) -> None:
    failures: list[BaseException] = []
    client.kv.set(*name, "key", b"v")

    def work(number: int) -> None:
        try:
            key = f"key-{number}"
            for i in range(100):
                client.kv.set(*name, key, b"%d" % i)
                assert client.kv.get(*name, key) == b"%d" % i
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE * 3)
    assert not failures and not any(each.is_alive() for each in threads)


def test_one_who_waits_for_long_does_not_hold_up_others(client: FlowMesh, name: Name) -> None:
    jobs = []

    def wait() -> None:
        jobs.append(client.queue.reserve(*name, long_poll_timeout=timedelta(hours=1)))

    waiting = [threading.Thread(target=wait) for _ in range(3)]
    for each in waiting:
        each.start()
    for i in range(300):
        client.kv.set(*name, "key", b"%d" % i)
        assert client.kv.get(*name, "key") == b"%d" % i
    for _ in waiting:
        client.queue.enqueue(*name, b"x")
    for each in waiting:
        each.join(PATIENCE)
    assert len(jobs) == 3 and all(job is not None for job in jobs)


def test_closing_ends_those_who_wait(endpoint: str, name: Name) -> None:
    client = FlowMesh(endpoint)
    client.stream.write(*name, [Event(b"x")])
    begun = threading.Barrier(5)
    closed = []

    def reserve() -> None:
        begun.wait()
        with pytest.raises(FlowMeshClosedError):
            client.queue.reserve(*name, long_poll_timeout=timedelta(hours=1))
        closed.append(1)

    def follow() -> None:
        messages = client.stream.subscribe(*name, "g")
        next(messages)
        begun.wait()
        with pytest.raises(FlowMeshClosedError):
            next(messages)
        closed.append(1)

    threads = [threading.Thread(target=reserve) for _ in range(3)] + [threading.Thread(target=follow)]
    for each in threads:
        each.start()
    begun.wait()
    client.close()
    for each in threads:
        each.join(PATIENCE)
    assert len(closed) == 4


PROGRAM = """
    import signal
    import sys
    from datetime import timedelta
    from flowmesh.blocking import FlowMesh

    queue = "t", "n", "ctrl-c"
    # A shell that started the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with FlowMesh(sys.argv[1]) as client:
        client.health_check()
        try:
            print("waiting", flush=True)
            client.queue.reserve(*queue, timedelta(seconds=1), timedelta(hours=1))
        except KeyboardInterrupt:
            # A server may still give it to the one who has just left; then it comes again.
            client.queue.enqueue(*queue, b"x")
            job = client.queue.reserve(*queue, None, timedelta(minutes=1))
            client.queue.ack(*queue, job.id)
            print("interrupted")
"""


def test_ctrl_c_ends_a_call_that_waits(endpoint: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            os.kill(process.pid, signal.SIGINT)
            assert process.communicate(timeout=PATIENCE)[0] == "interrupted\n"
        finally:
            process.kill()
    assert process.returncode == 0


SIGNALS = """
    import os
    import random
    import signal
    import sys
    import threading
    from datetime import timedelta
    from flowmesh.blocking import FlowMesh

    signal.signal(signal.SIGINT, signal.default_int_handler)
    queue = "t", "n", "signals"
    over = threading.Event()
    read = []

    def others():
        while not over.is_set():
            read.append(client.kv.get("t", "n", "signals", "key"))

    with FlowMesh(sys.argv[1]) as client:
        client.kv.set("t", "n", "signals", "key", b"v")
        threads = [threading.Thread(target=others) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(100):
            timer = threading.Timer(random.random() / 300, os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                client.queue.reserve(*queue, timedelta(seconds=1), timedelta(hours=1))
            except KeyboardInterrupt:
                timer.join()
            # A server may still give it to the one who has just left; then it comes again.
            client.queue.enqueue(*queue, b"x")
            job = client.queue.reserve(*queue, None, timedelta(minutes=1))
            client.queue.ack(*queue, job.id)
        over.set()
        for thread in threads:
            thread.join()
        assert set(read) == {b"v"}
        print(client.queue.get_stats(*queue).completed_jobs)
"""


def test_ctrl_c_at_any_moment_loses_nothing(endpoint: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SIGNALS), endpoint]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 2)
    assert (done.returncode, done.stdout) == (0, "100\n"), done.stderr
