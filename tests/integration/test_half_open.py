"""A peer that vanishes without a word, as a host does that loses power: found by the TCP user timeout.

It has to hold on each way to a server: HTTP/1.1 and HTTP/2, each in cleartext and over TLS. The client lives in a
network namespace of its own, and its end of the cable is pulled.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from integration.certificates import Certificates
from zizq.engine import admit
from zizq.testing.server import RunningServer, running_server

NAMESPACE, OURS, THEIRS = f"zizq-{os.getpid()}", f"zq{os.getpid()}a", f"zq{os.getpid()}b"
# Others may run this at the same time, on the same machine.
NET = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
HOST, PEER = f"{NET}.1", f"{NET}.2"
USER_TIMEOUT_MS, HEARTBEAT_MS = 1000, 200

OPENED = """
import socket, ssl, sys
server = socket.create_connection((sys.argv[1], int(sys.argv[2])))
if sys.argv[3]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([sys.argv[3]])
    server = context.wrap_socket(server)
"""
HTTP1 = """
server.sendall(b"GET /jobs/take HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
data = b""
while b"in_flight" not in data:
    data += server.recv(65536)
print("taken", flush=True)
sys.stdin.read()
"""
HTTP2 = """
from h2.connection import H2Connection
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
WAYS = {
    "http1": (HTTP1, ""),
    "http2": (HTTP2, ""),
    "http1-tls": (HTTP1, "http/1.1"),
    "http2-tls": (HTTP2, "h2"),
}
"""What a client does, and what it speaks over TLS, if it does."""
ways = pytest.mark.parametrize("way", list(WAYS))


@pytest.fixture
def keys(way: str, tmp_path: Path) -> dict[str, Any]:
    """The settings of a server that speaks TLS where clients do."""
    if not WAYS[way][1]:
        return {}
    files = Certificates(tmp_path).server()
    return {"tls_cert": files.cert, "tls_key": files.key}


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


async def take_one(server: RunningServer, way: str, *inside: str) -> asyncio.subprocess.Process:
    """A client that has taken a job, where a command may put it elsewhere."""
    program, protocol = WAYS[way]
    host, _, port = server.url.partition("//")[2].partition(":")
    client = await asyncio.create_subprocess_exec(
        *inside, sys.executable, "-c", OPENED + program, host, port, protocol,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert client.stdout is not None
    assert await asyncio.wait_for(client.stdout.readline(), 10) == b"taken\n"
    return client


@ways
@pytest.mark.usefixtures("cable")
async def test_the_jobs_of_a_peer_that_vanished_are_given_back_within_the_user_timeout(
    way: str, keys: dict[str, Any]
) -> None:
    limits = {"tcp_user_timeout": USER_TIMEOUT_MS, "heartbeat_interval": HEARTBEAT_MS}
    async with running_server(host=HOST, **limits, **keys) as server:
        await enqueue(server)
        client = await take_one(server, way, "ip", "netns", "exec", NAMESPACE)
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


# ── where no cable can be pulled ──


@ways
async def test_each_connection_that_is_let_in_has_the_user_timeout(way: str, keys: dict[str, Any]) -> None:
    async with running_server(tcp_user_timeout=12_345, **keys) as server:
        await enqueue(server)
        client = await take_one(server, way)
        assert user_timeouts(int(server.url.rpartition(":")[2])) == [12_345]
        client.kill()
        await client.wait()


@pytest.mark.parametrize("way", ["http1", "http1-tls"])
async def test_those_to_the_admin_port_have_it_too(way: str, keys: dict[str, Any]) -> None:
    secrets = {f"admin_{name}": path for name, path in keys.items()}
    async with running_server(tcp_user_timeout=12_345, no_admin=False, dashboard="off", **secrets) as server:
        port = int((server.admin_url or "").rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            while not (found := user_timeouts(port)):  # noqa: ASYNC110 - it is let in by a thread of h2corn's
                await asyncio.sleep(0.01)
        assert found == [12_345]
        writer.close()


def user_timeouts(port: int) -> list[int]:
    """What the sockets of this process have that clients of a port are connected to."""
    found = []
    for fd in [int(link.name) for link in Path("/proc/self/fd").iterdir()]:
        try:
            one = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        with one, suppress(OSError, IndexError):
            one.getpeername()
            if one.getsockname()[1] == port:
                found.append(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
    return found
