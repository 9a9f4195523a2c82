"""Both endpoints of the server under TLS: what is spoken, who is let in, who it is, and new certificates."""

from __future__ import annotations

import asyncio
import re
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from integration.certificates import Certificates, Files, serial
from wire.talk import Http1
from wire.talk2 import Http2
from zizq import TLS, Client, TransportError
from zizq.errors import ConfigError
from zizq.server.http.peer import peer_name
from zizq.server.net.endpoint import Endpoint
from zizq.server.settings import Address, Settings

both = pytest.mark.parametrize("api", ["primary", "admin"])


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


class Echo:
    """An application that says who asks, and streams what it is told until it is told to end."""

    def __init__(self) -> None:
        self.lines: dict[str, asyncio.Queue[bytes]] = {"1.1": asyncio.Queue(), "2": asyncio.Queue()}
        self.cancelled = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"x-peer", str(peer_name(scope)).encode())]}
        )
        line = b"open"
        try:
            while scope["path"] == "/stream" and line != b"end":
                await send({"type": "http.response.body", "body": line + b"\n", "more_body": True})
                line = await self.lines[scope["http_version"]].get()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        await send({"type": "http.response.body", "body": b"done"})


@asynccontextmanager
async def endpoint(
    certificates: Certificates,
    api: str = "primary",
    *,
    ca: Path | None = None,
    server: Files | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Endpoint, Echo]]:
    """An endpoint with certificates; with an authority it asks clients for theirs."""
    server = server or certificates.server()
    echo = Echo()
    one = Endpoint(
        Address(api, "127.0.0.1", 0, server.cert, server.key, ca), echo, Settings(**({"drain_timeout": 500} | settings))
    )
    await one.start()
    try:
        yield one, echo
    finally:
        one.stop_soon()
        await one.stopped()


async def connect(one: Endpoint, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = one.addr.rpartition(":")
    return await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")


async def http1(one: Endpoint, context: ssl.SSLContext) -> Http1:
    return Http1(*await connect(one, context))


@asynccontextmanager
async def http2(one: Endpoint, context: ssl.SSLContext) -> AsyncIterator[Http2]:
    reader, writer = await connect(one, context)
    connection = Http2(reader, writer)
    connection.start()
    yield connection
    writer.close()


def shown(connection: Http1) -> int:
    """The serial number of the server's certificate."""
    peer = connection.writer.get_extra_info("ssl_object").getpeercert()
    return int(peer["serialNumber"], 16)


# ── what is spoken ───────────────────────────────────────────────────────────────────────────────────


@both
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["h2"], "h2"), (["http/1.1"], "http/1.1"), (["http/1.1", "h2"], "h2"), ([], None)],
)
async def test_the_protocol_is_agreed_on_by_alpn(api, offered, chosen, certificates):
    async with endpoint(certificates, api) as (one, _):
        _, writer = await connect(one, certificates.context(None, *offered))
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
        writer.close()


@both
async def test_http_1_and_2_are_answered(api, certificates):
    async with endpoint(certificates, api) as (one, _):
        first = await http1(one, certificates.context())
        assert (await first.ask("GET", "/")).status == 200
        async with http2(one, certificates.context(None, "h2")) as second:
            assert (await second.ask("GET", "/")).status == 200
        first.hang_up()


@both
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_is_spoken_from_1_2_on(api, version, certificates):
    context = certificates.context()
    context.set_ciphers("ALL:@SECLEVEL=0")  # else it is our side that refuses 1.1
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = version
    async with endpoint(certificates, api) as (one, _):
        if version is ssl.TLSVersion.TLSv1_1:
            with pytest.raises(ssl.SSLError, match="alert"):
                await connect(one, context)
        else:
            _, writer = await connect(one, context)
            assert writer.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
            writer.close()


@both
async def test_plain_http_is_not_answered(api, certificates):
    async with endpoint(certificates, api) as (one, _):
        host, _, port = one.addr.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b"200" not in await asyncio.wait_for(reader.read(), 5)
        writer.close()


# ── who is let in ────────────────────────────────────────────────────────────────────────────────────


async def answer(one: Endpoint, context: ssl.SSLContext) -> str:
    """Who the server takes us for."""
    connection = await http1(one, context)
    reply = await connection.ask("GET", "/")
    connection.hang_up()
    return reply.headers["x-peer"]


@both
async def test_the_name_of_a_client_is_that_in_its_certificate(api, certificates):
    async with endpoint(certificates, api, ca=certificates.ca) as (one, _):
        client = certificates.client("build farm, é+1")
        assert (await answer(one, certificates.context(client))).encode("latin-1").decode() == "build farm, é+1"
        async with http2(one, certificates.context(certificates.client(), "h2")) as second:
            assert (await second.ask("GET", "/")).headers["x-peer"] == "worker"


async def test_a_client_whose_certificate_nobody_asks_for_has_no_name(certificates):
    async with endpoint(certificates) as (one, _):
        assert await answer(one, certificates.context(certificates.client())) == "None"


@both
@pytest.mark.parametrize(
    ("which", "alert"),
    [("none", "certificate required"), ("stranger's", "unknown ca|decrypt error"), ("expired", "certificate expired"),
     ("server's", "alert")],
)  # fmt: skip
async def test_who_has_no_valid_certificate_fails_the_handshake(api, which, alert, certificates, tmp_path):
    (tmp_path / "other").mkdir()
    client = {
        "none": lambda: None,
        "stranger's": Certificates(tmp_path / "other").client,
        "expired": lambda: certificates.client(days=1),
        "server's": lambda: certificates.server("another"),
    }[which]()
    async with endpoint(certificates, api, ca=certificates.ca) as (one, _):
        with pytest.raises(ssl.SSLError, match=rf"(?i){alert}"):
            await answer(one, certificates.context(client))


@both
async def test_a_client_trusts_no_stranger_and_no_expired_server(api, certificates, tmp_path):
    (tmp_path / "other").mkdir()
    stranger = Certificates(tmp_path / "other")
    async with endpoint(certificates, api) as (one, _):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get local issuer"):
            await answer(one, stranger.context())
        async with Client(one.url, tls=TLS(ca=stranger.ca)) as client:
            with pytest.raises(TransportError, match="certificate"):
                await client.health()
    async with endpoint(certificates, api, server=certificates.server(days=1)) as (one, _):
        with pytest.raises(ssl.SSLCertVerificationError, match="has expired"):
            await answer(one, certificates.context())
        async with Client(one.url, tls=TLS(ca=certificates.ca)) as client:
            with pytest.raises(TransportError, match=r"(?i)expired"):
                await client.health()


# ── new certificates ─────────────────────────────────────────────────────────────────────────────────


@both
async def test_new_certificates_are_shown_to_new_connections_and_streams_go_on(api, certificates):
    server = certificates.server()
    old = serial(server.cert)
    # So short a timeout is over before the streams end: it is for a server that stops, and not for this.
    async with (
        endpoint(certificates, api, server=server, drain_timeout=1) as (one, echo),
        http2(one, certificates.context(None, "h2")) as second,
    ):
        first = await http1(one, certificates.context())
        stream = await first.stream("/stream")
        number = second.open("GET", "/stream")
        await second.head(number)
        new = serial(certificates.server().cert)
        assert await one.reload() is True
        echo.lines["1.1"].put_nowait(b"one")
        echo.lines["2"].put_nowait(b"two")
        assert await stream.until(b"\n") == b"open\n"
        assert await stream.until(b"\n") == b"one\n"
        await second.body(number, b"two\n")
        for _ in range(10):
            another = await http1(one, certificates.context())
            assert shown(another) == new != old == shown(first)
            another.hang_up()
        for lines in echo.lines.values():
            lines.put_nowait(b"end")
        assert await stream.rest() == b"done"
        assert (await second.end(number)).body == b"open\ntwo\ndone"
        first.hang_up()


@pytest.mark.parametrize("wrong", ["no file", "no PEM", "another's key", "no authority"])
async def test_a_wrong_certificate_is_refused_and_the_old_one_stays(wrong, certificates):
    server = certificates.server()
    async with endpoint(certificates, ca=certificates.ca, server=server) as (one, _):
        old = serial(server.cert)
        context = certificates.context(certificates.client())
        if wrong == "no file":
            server.cert.unlink()
        elif wrong == "no PEM":
            server.cert.write_bytes(b"-----BEGIN CERTIFICATE-----\n")
        elif wrong == "another's key":
            certificates.server("another").key.replace(server.key)
        else:
            trusted = certificates.ca.read_bytes()
            certificates.ca.write_bytes(b"")
        named = f"cannot serve the primary API on {one.addr} with {server.cert}, {server.key}, {certificates.ca}: "
        with pytest.raises(ConfigError, match=re.escape(named)):
            await one.reload()
        connection = await http1(one, context)
        assert (await connection.ask("GET", "/")).status == 200
        assert shown(connection) == old
        connection.hang_up()
        if wrong == "no authority":
            certificates.ca.write_bytes(trusted)
        new = serial(certificates.server().cert)
        assert await one.reload() is True
        connection = await http1(one, context)
        assert shown(connection) == new
        connection.hang_up()


async def test_a_new_authority_for_clients_counts_from_the_next_connection_on(certificates, tmp_path):
    (tmp_path / "other").mkdir()
    other = Certificates(tmp_path / "other")
    async with endpoint(certificates, ca=certificates.ca) as (one, _):
        own = certificates.context(certificates.client())
        assert await answer(one, own) == "worker"
        certificates.ca.write_bytes(other.ca.read_bytes())
        assert await one.reload() is True
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            await answer(one, own)
        theirs = other.client("theirs")
        own.load_cert_chain(theirs.cert, theirs.key)
        assert await answer(one, own) == "theirs"


async def test_idle_connections_are_closed_so_that_clients_come_again(certificates):
    async with endpoint(certificates) as (one, _):
        idle = await http1(one, certificates.context())
        await idle.ask("GET", "/")
        assert await one.reload() is True
        assert await asyncio.wait_for(idle.reader.read(), 5) == b""
        idle.hang_up()


async def test_an_endpoint_without_tls_has_nothing_to_reload():
    one = Endpoint(Address("primary", "127.0.0.1", 0), Echo(), Settings())
    await one.start()
    assert await one.reload() is False
    one.stop_soon()
    await one.stopped()


async def test_open_requests_of_all_generations_are_cut_off_at_the_drain_timeout(certificates):
    async with endpoint(certificates, drain_timeout=50) as (one, echo):
        connections = []
        for _ in range(3):
            connection = await http1(one, certificates.context())
            await connection.stream("/stream")
            connections.append(connection)
            assert await one.reload() is True
        one.stop_soon()
        await asyncio.wait_for(one.stopped(), 5)
        assert echo.cancelled == 3
        for connection in connections:
            connection.hang_up()


async def test_an_endpoint_that_is_stopped_while_it_reloads_ends(certificates: Certificates) -> None:
    async with asyncio.timeout(20), endpoint(certificates) as (one, _):
        reloading = asyncio.create_task(one.reload())
        while len(one._server._serving) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        reloading.cancel()
