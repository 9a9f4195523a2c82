"""`zizq health`: what a container asks of the program in it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from integration.certificates import Certificates
from integration.shell import shell
from zizq.cli.main import cli
from zizq.testing.server import running_server
from zizq.worker.health import WorkerHealth
from zizq.worker.probes import Address, Subject, probed


async def test_a_server_is_ready_until_it_stops_and_lives_on() -> None:
    async with shell("health") as cli_:
        assert await cli_.out() == "ok\n"
        assert await cli_.out("--live") == "ok\n"


async def test_one_that_is_not_ready_says_why_with_status_1() -> None:
    async with running_server() as server:
        server.app.end_streams()
        result = await asyncio.to_thread(CliRunner().invoke, cli, ["health", "--url", f"{server.url}/"])
    assert result.exit_code == 1
    assert result.stderr == f"Error: {server.url}/ answers 503: the server is stopping\n"


async def test_a_worker_is_asked_in_the_same_way(caplog: pytest.LogCaptureFixture) -> None:
    health = WorkerHealth(connected=False, stopping=False, running=0, concurrency=1, processed=0, failed=0)
    with caplog.at_level(logging.INFO, "zizq"):
        async with probed(Address("127.0.0.1", 0), Subject(lambda: health)):
            url = f"http://{caplog.records[-1].fields['addr']}"  # type: ignore[attr-defined]
            result = await asyncio.to_thread(CliRunner(env={"ZIZQ_URL": url}).invoke, cli, ["health"])
            lives = await asyncio.to_thread(CliRunner(env={"ZIZQ_URL": url}).invoke, cli, ["health", "--live"])
    assert result.stderr == f"Error: {url} answers 503: the worker has no take stream: it is being opened\n"
    assert (result.exit_code, lives.exit_code, lives.stdout) == (1, 0, "ok\n")


async def test_certificates_are_shown_and_asked_for(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    pair, client = certificates.server(), certificates.client()
    tls = {"tls_cert": pair.cert, "tls_key": pair.key, "tls_client_ca": certificates.ca}
    own = ["--ca", str(certificates.ca), "--client-cert", str(client.cert), "--client-key", str(client.key)]
    async with running_server(**tls) as server:
        command = ["health", "--url", server.url]
        assert (await asyncio.to_thread(CliRunner().invoke, cli, [*command, *own])).exit_code == 0
        refused = await asyncio.to_thread(CliRunner().invoke, cli, command)
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"Error: {server.url} does not answer: ")


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """Something else on the port; it hangs where it has no answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if not answer:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>", "answers 502: Bad Gateway"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "answers 404: Not Found"),
        (b"+PONG\r\n", "does not answer: "),
        (b"", "does not answer: timed out"),
    ],
)
async def test_what_is_no_zizq_is_not_ready(answer: bytes, said: str) -> None:
    async with answering(answer) as url:
        command = ["health", "--url", url, "--timeout", "10s" if answer else "100ms"]
        result = await asyncio.to_thread(CliRunner().invoke, cli, command)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {url} {said}")
