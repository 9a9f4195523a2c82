"""What the clients make of networks that fail: real sockets, no server of ours."""

import asyncio
import socket
import subprocess
import sys
import textwrap
from contextlib import asynccontextmanager, suppress

import pytest

from zizq import Client, ResponseError, StreamIdleTimeout, SyncClient, TransportError, ZizqError
from zizq.testing.server import running_server

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.zizq.msgpack-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BEAT = b"4\r\n\0\0\0\0\r\n"


@asynccontextmanager
async def listening(*parts, close=False, asked=None, answering=None):
    """A server that answers every request with the same bytes; yields its URL and an event: a client has left.

    It sets `asked` when a request is there, and waits for `answering` before it answers.
    """
    left = asyncio.Event()
    answers = []

    async def answer(reader, writer):
        answers.append(asyncio.current_task())
        try:
            await reader.readuntil(b"\r\n\r\n")
            if asked and answering:
                asked.set()
                await answering.wait()
            for part in parts:
                writer.write(part)
                await writer.drain()
            if not close:
                await reader.read()
                left.set()
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", left
    await asyncio.wait_for(asyncio.gather(*answers), 5)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def call(make, url, name, *args, **options):
    if make is Client:
        async with Client(url, **options) as client:
            return await getattr(client, name)(*args)
    with SyncClient(url, **options) as client:
        return await asyncio.to_thread(getattr(client, name), *args)


@pytest.mark.parametrize("make", [Client, SyncClient])
def test_a_refused_connection_names_the_address_and_the_cause(make):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectionError) as caught:
        asyncio.run(call(make, url, "health"))
    assert isinstance(caught.value, TransportError)
    assert caught.value.retryable
    assert str(caught.value) == f"cannot connect to {url}: Connection refused. Is the server running there?"


@pytest.mark.parametrize("make", [Client, SyncClient])
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "broke: it was closed before the answer came"),
        (b"hello\r\n\r\n", "broke: the answer is no HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", "broke: it was closed inside the answer"),
    ],
)
def test_a_broken_answer_is_a_transport_error(make, answer, message):
    async def main():
        async with listening(answer, close=True) as (url, _):
            await call(make, url, "health")

    with pytest.raises(TransportError, match=message):
        asyncio.run(main())


@pytest.mark.parametrize("make", [Client, SyncClient])
def test_a_silent_server_is_a_timeout(make):
    async def main():
        async with listening() as (url, _):
            await call(make, url, "health", read_timeout=0.05)

    with pytest.raises(TransportError, match=r"no answer .* within 0.05 s"):
        asyncio.run(main())


def test_a_silent_stream_is_an_idle_timeout():
    async def main():
        async with listening(HEAD, BEAT) as (url, left), Client(url, stream_idle_timeout=0.05) as client:
            with pytest.raises(StreamIdleTimeout, match=r"silent for 0.05 s"):
                async with client.take() as jobs:
                    await anext(jobs)
            await asyncio.wait_for(left.wait(), 5)

    asyncio.run(main())


def test_a_silent_stream_is_an_idle_timeout_in_a_thread():
    def take(url):
        with SyncClient(url, stream_idle_timeout=0.05).take() as jobs:
            next(jobs)

    async def main():
        async with listening(HEAD, BEAT) as (url, _):
            await asyncio.to_thread(take, url)

    with pytest.raises(StreamIdleTimeout):
        asyncio.run(main())


def test_a_stream_cut_off_is_a_transport_error():
    async def main():
        async with listening(HEAD, BEAT, close=True) as (url, _), Client(url) as client, client.take() as jobs:
            await anext(jobs)

    with pytest.raises(TransportError, match="broke"):
        asyncio.run(main())


@pytest.mark.parametrize("make", [Client, SyncClient])
def test_leaving_a_take_closes_its_connection_at_once(make):
    def leave(client):
        with client.take():
            pass

    async def main():
        async with listening(HEAD, BEAT) as (url, left):
            client = make(url)
            if make is Client:
                async with client.take():
                    pass
            else:
                await asyncio.to_thread(leave, client)
            await asyncio.wait_for(left.wait(), 1)

    asyncio.run(main())


def test_cancelling_a_take_closes_its_connection_at_once():
    async def main():
        async with listening(HEAD) as (url, left), Client(url) as client:
            opened = asyncio.Event()

            async def consume():
                async with client.take() as jobs:
                    opened.set()
                    await anext(jobs)

            task = asyncio.create_task(consume())
            await opened.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(left.wait(), 1)

    asyncio.run(main())


def test_a_take_cancelled_before_its_answer_is_closed_at_once():
    async def main():
        asked, answering = asyncio.Event(), asyncio.Event()
        async with listening(HEAD, asked=asked, answering=answering) as (url, left), Client(url) as client:
            task = asyncio.create_task(client.take().__aenter__())
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            answering.set()
            await asyncio.wait_for(left.wait(), 1)

    asyncio.run(main())


@pytest.mark.parametrize("make", [Client, SyncClient])
@pytest.mark.parametrize("used", [True, False])
def test_a_closed_client_stays_closed(make, used):
    async def main():
        async with running_server() as server:
            client = make(server.url)
            for name in ["health", "close", "close", "health"] if used else ["close", "health"]:
                method = getattr(client, name)
                await (method() if make is Client else asyncio.to_thread(method))

    with pytest.raises(ZizqError, match="the client is closed") as caught:
        asyncio.run(main())
    assert not caught.value.retryable


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")

    async def main():
        async with running_server() as server, Client(server.url) as client:
            assert await client.health() == "ok"

    asyncio.run(main())


def run_script(script: str, url: str) -> list[str]:
    """The lines that a script printed, in a process of its own: a fork of this one would not be safe."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


FORK = """
    import asyncio, os, sys, zizq

    def in_child(run):
        pid = os.fork()
        if pid == 0:
            try:
                run()
            except BaseException as error:
                print(type(error).__name__, flush=True)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
"""


def test_a_signal_during_a_call_of_a_thread_is_seen_at_once():
    async def main():
        async with listening() as (url, _):
            return await asyncio.to_thread(
                run_script,
                """
                import signal, sys, zizq
                signal.signal(signal.SIGALRM, signal.default_int_handler)
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                try:
                    zizq.SyncClient(sys.argv[1], read_timeout=3600).health()
                except KeyboardInterrupt:
                    print("interrupted")
                """,
                url,
            )

    assert asyncio.run(main()) == ["interrupted"]


def forked(script: str) -> list[str]:
    async def main():
        async with running_server() as server:
            return await asyncio.to_thread(run_script, FORK + script, server.url)

    return asyncio.run(main())


def test_a_client_connects_anew_after_a_fork_and_the_parent_is_not_disturbed():
    assert forked("""
    client = zizq.SyncClient(sys.argv[1])
    def child():
        with client:
            print("child", client.health(), flush=True)
    print("parent", client.health(), flush=True)
    in_child(child)
    in_child(child)
    print("parent", client.health(), flush=True)
    """) == ["parent", "ok", "child", "ok", "child", "ok", "parent", "ok"]


def test_an_asynchronous_client_connects_anew_after_a_fork():
    assert forked("""
    client = zizq.Client(sys.argv[1])
    async def ask(name):
        print(name, await client.health(), flush=True)
    asyncio.run(ask("parent"))
    in_child(lambda: asyncio.run(ask("child")))
    asyncio.run(ask("parent"))
    """) == ["parent", "ok", "child", "ok", "parent", "ok"]


def test_a_child_that_drops_the_inherited_client_does_not_disturb_the_parent():
    assert forked("""
    import gc
    client = zizq.SyncClient(sys.argv[1])
    take = client.take()
    take.__enter__()
    job = client.enqueue_raw("t", 1)
    def child():
        global client, take
        del client, take
        gc.collect()
        print("dropped", flush=True)
    in_child(child)
    print("taken" if next(take).id == job.id else "lost", client.health(), flush=True)
    """) == ["dropped", "taken", "ok"]


def test_a_client_that_was_not_used_before_the_forks_works_at_any_depth():
    assert forked("""
    client = zizq.SyncClient(sys.argv[1])
    in_child(lambda: in_child(lambda: print("grandchild", client.health(), flush=True)))
    """) == ["grandchild", "ok"]


def test_a_fork_of_a_fork_connects_anew_as_well():
    assert forked("""
    client = zizq.SyncClient(sys.argv[1])
    client.health()
    def child():
        print("child", client.health(), flush=True)
        in_child(lambda: print("grandchild", client.health(), flush=True))
    in_child(child)
    """) == ["child", "ok", "grandchild", "ok"]


@pytest.mark.parametrize(
    ("status", "said", "seconds"),
    [(503, b"7", 7.0), (429, b"1", 1.0), (503, b"Wed, 21 Oct 2026 07:28:00 GMT", None), (400, b"7", None)],
)
@pytest.mark.parametrize("make", [Client, SyncClient])
def test_a_refusal_says_when_to_come_again(make, status, said, seconds):
    head = b"HTTP/1.1 %d x\r\ncontent-type: application/json\r\nretry-after: %s\r\ncontent-length: 13\r\n\r\n"

    async def main():
        async with listening(head % (status, said) + b'{"error":"x"}', close=True) as (url, _):
            with pytest.raises(ResponseError) as caught:
                await call(make, url, "health")
        assert caught.value.retry_after == seconds
        assert caught.value.retryable is (status != 400)

    asyncio.run(main())


def test_a_refused_stream_says_when_to_come_again():
    head = b"HTTP/1.1 503 x\r\ncontent-type: application/json\r\nretry-after: 3\r\ncontent-length: 13\r\n\r\n"

    async def main():
        async with listening(head + b'{"error":"x"}', close=True) as (url, _), Client(url) as client:
            with pytest.raises(ResponseError) as caught:
                await client.take().__aenter__()
        assert caught.value.retry_after == 3

    asyncio.run(main())


@pytest.mark.parametrize("make", [Client, SyncClient])
def test_a_connection_that_the_server_has_closed_meanwhile_is_not_used_again(make):
    answer = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{"status":"ok"}'

    async def main():
        async with listening(answer, close=True) as (url, _):
            client = make(url)
            for _ in range(3):
                health = client.health() if make is Client else asyncio.to_thread(client.health)
                assert await health == "ok"
                await asyncio.sleep(0.05)  # the end of the connection has arrived by then
            await client.close() if make is Client else client.close()

    asyncio.run(main())


def test_calls_that_follow_one_another_use_one_connection():
    seen = []

    async def main():
        async def answer(reader, writer):
            seen.append(writer)
            with suppress(asyncio.IncompleteReadError):
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n")
                    writer.write(b'{"status":"ok"}')
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Client(url) as client:
                for _ in range(3):
                    await client.health()
            with SyncClient(url) as blocking:
                for _ in range(3):
                    await asyncio.to_thread(blocking.health)
            await asyncio.sleep(0)

    asyncio.run(main())
    assert len(seen) == 2


def test_a_stream_that_nobody_reads_does_not_fill_the_memory():
    sent = 0

    async def main():
        nonlocal sent
        leaving = asyncio.Event()

        async def answer(reader, writer):
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD + BEAT)
            piece = b"10000\r\n" + bytes(65536) + b"\r\n"  # heartbeats without end
            with suppress(TimeoutError, ConnectionError):
                while sent < 2**30:
                    writer.write(piece)
                    await asyncio.wait_for(writer.drain(), 0.3)
                    sent += 65536
            leaving.set()
            writer.transport.abort()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Client(url) as client, client.take():
                await asyncio.wait_for(leaving.wait(), 20)

    asyncio.run(main())
    assert sent < 64 * 2**20


async def test_a_call_that_is_made_on_the_way_out_of_a_cancelled_task_is_answered():
    async def work(client):
        try:
            await asyncio.Event().wait()
        finally:
            await client.health()
            healthy.set()

    healthy = asyncio.Event()
    async with running_server() as server, Client(server.url) as client:
        working = asyncio.create_task(work(client))
        await asyncio.sleep(0)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert healthy.is_set()
