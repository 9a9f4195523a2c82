"""A peer that vanishes without a word, as a host does that loses power: found by the TCP user timeout.

The client lives in a network namespace of its own, and its end of the cable is pulled.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec
import pytest

from zizq.engine import admit
from zizq.testing.server import RunningServer, running_server

NAMESPACE, OURS, THEIRS = f"zizq-{os.getpid()}", f"zq{os.getpid()}a", f"zq{os.getpid()}b"
# Others may run this at the same time, on the same machine.
NET = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
HOST, PEER = f"{NET}.1", f"{NET}.2"
USER_TIMEOUT_MS, HEARTBEAT_MS = 1000, 200

HTTP1 = """
import socket, sys
server = socket.create_connection((sys.argv[1], int(sys.argv[2])))
server.sendall(b"GET /jobs/take HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
data = b""
while b"in_flight" not in data:
    data += server.recv(65536)
print("taken", flush=True)
sys.stdin.read()
"""
HTTP2 = """
import socket, sys
from h2.connection import H2Connection
server = socket.create_connection((sys.argv[1], int(sys.argv[2])))
h2 = H2Connection()
h2.initiate_connection()
h2.send_headers(1, [(":method", "GET"), (":path", "/jobs/take"), (":scheme", "http"), (":authority", "x")], True)
server.sendall(h2.data_to_send())
data = b""
while b"in_flight" not in data:
    for event in h2.receive_data(server.recv(65536)):
        data += getattr(event, "data", b"")
    server.sendall(h2.data_to_send())
print("taken", flush=True)
sys.stdin.read()
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def cable() -> Iterator[None]:
    """A namespace, joined to ours by a cable with an address at each end."""
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2, for a network namespace")
    try:
        ip("netns", "add", NAMESPACE)
        ip("link", "add", OURS, "type", "veth", "peer", "name", THEIRS, "netns", NAMESPACE)
        ip("addr", "add", f"{HOST}/30", "dev", OURS)
        ip("link", "set", OURS, "up")
        ip("-n", NAMESPACE, "addr", "add", f"{PEER}/30", "dev", THEIRS)
        ip("-n", NAMESPACE, "link", "set", THEIRS, "up")
    except subprocess.CalledProcessError as error:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=False, capture_output=True)
        pytest.skip(f"network namespaces are forbidden here: {error.stderr.decode().strip()}")
    yield
    # By itself the cable would go some time after the namespace, and the next test has one of the same name.
    ip("link", "del", OURS)
    ip("netns", "del", NAMESPACE)


async def enqueue(server: RunningServer) -> None:
    broker = server.app.broker
    job = admit.new_job(broker.next_id(), broker.now(), type="t", queue="q", payload=msgspec.Raw(b"\xc0"))
    await broker.enqueue([job])


async def take_one(server: RunningServer, program: str) -> asyncio.subprocess.Process:
    """A client at the other end of the cable that has taken a job."""
    port = server.url.rpartition(":")[2]
    client = await asyncio.create_subprocess_exec(
        "ip", "netns", "exec", NAMESPACE, sys.executable, "-c", program, HOST, port,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert client.stdout is not None
    assert await asyncio.wait_for(client.stdout.readline(), 10) == b"taken\n"
    return client


@pytest.mark.parametrize("program", [HTTP1, HTTP2], ids=["http1", "http2"])
@pytest.mark.usefixtures("cable")
async def test_the_jobs_of_a_peer_that_vanished_are_given_back_within_the_user_timeout(program: str) -> None:
    async with running_server(host=HOST, tcp_user_timeout=USER_TIMEOUT_MS, heartbeat_interval=HEARTBEAT_MS) as server:
        await enqueue(server)
        client = await take_one(server, program)
        given_back = asyncio.Event()
        server.app.broker.available = lambda queues: given_back.set()  # type: ignore[method-assign]
        ip("-n", NAMESPACE, "link", "set", THEIRS, "down")
        pulled_at = time.monotonic()
        await asyncio.wait_for(given_back.wait(), 10)
        # From the first heartbeat that nobody answers; the rest is what a busy machine takes.
        assert (time.monotonic() - pulled_at) * 1000 < USER_TIMEOUT_MS + HEARTBEAT_MS + 2000
        assert client.returncode is None
        client.kill()
        await client.wait()
