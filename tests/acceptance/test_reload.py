"""SIGHUP: new certificates, and streams that do not notice."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from acceptance.processes import ServerProcess
from integration.certificates import Certificates, Files, serial
from zizq import TLS, SyncClient

pytestmark = pytest.mark.acceptance


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    (tmp_path / "tls").mkdir()
    return Certificates(tmp_path / "tls")


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notes"))
        bound.setblocking(False)
        yield bound


def flags(pair: Files, prefix: str = "") -> list[str]:
    return [f"--{prefix}tls-cert", str(pair.cert), f"--{prefix}tls-key", str(pair.key)]


def hang_up(server: ServerProcess, answers: int) -> Iterator[dict[str, Any]]:
    """Send SIGHUP; what the server then logs, which is so much."""
    process = server._process
    assert process is not None
    process.send_signal(signal.SIGHUP)
    told = (line for line in server.log() if "reload" in line["fields"]["message"])
    yield from islice(told, answers)


def shown(url: str, context: ssl.SSLContext) -> int:
    """The serial number of the certificate that a new connection is shown."""
    host, _, port = url.removeprefix("https://").rpartition(":")
    with socket.create_connection((host, int(port))) as raw, context.wrap_socket(raw, server_hostname=host) as wrapped:
        return int(wrapped.getpeercert()["serialNumber"], 16)  # type: ignore[index, arg-type]


def test_sighup_changes_the_certificates_of_both_ports_and_drops_no_stream(
    tmp_path, certificates, notes, monkeypatch, store
):
    monkeypatch.setenv("NOTIFY_SOCKET", notes.getsockname())
    pairs = [certificates.server(), certificates.server("admin")]
    options = [*flags(pairs[0]), *flags(pairs[1], "admin-"), "--tls-client-ca", str(certificates.ca)]
    client = certificates.client()
    tls = TLS(ca=certificates.ca, client_cert=client.cert, client_key=client.key)
    with (
        ServerProcess(tmp_path / "root", *options, *store, admin=True) as server,
        SyncClient(server.url, tls=tls) as own,
    ):
        first = own.enqueue_raw("t", 1)
        with own.take() as stream:
            jobs = iter(stream)
            assert next(jobs).id == first.id
            new = [serial(certificates.server().cert), serial(certificates.server("admin").cert)]
            assert [line["fields"]["message"] for line in hang_up(server, 2)] == ["certificates reloaded"] * 2
            assert shown(server.url, certificates.context(client)) == new[0]
            assert shown(server.admin_url, certificates.context()) == new[1]
            second = own.enqueue_raw("t", 2)
            own.report_success(first.id)
            assert next(jobs).id == second.id
            own.report_success(second.id)
        assert server.stop() == 0
    heard = []
    with suppress(BlockingIOError):
        while True:
            heard.append(notes.recv(1000).partition(b"\n")[0].partition(b"=")[0])
    # The HTTP servers that come and go under it are silent: systemd would take the end of one for that of all.
    assert heard == [b"STATUS", b"READY", b"RELOADING", b"READY", b"STOPPING"]


def test_a_wrong_certificate_is_refused_with_an_error_and_the_old_one_stays(tmp_path, certificates):
    pair = certificates.server()
    old = serial(pair.cert)
    with ServerProcess(tmp_path / "root", *flags(pair)) as server:
        certificates.server("another").key.replace(pair.key)
        [line] = hang_up(server, 1)
        assert (line["level"], line["fields"]["message"]) == ("ERROR", "certificates not reloaded")
        assert line["fields"]["api"] == "primary"
        assert "cannot serve the primary API" in line["fields"]["error"]
        assert shown(server.url, certificates.context()) == old
        new = serial(certificates.server().cert)
        assert [line["fields"]["message"] for line in hang_up(server, 1)] == ["certificates reloaded"]
        assert shown(server.url, certificates.context()) == new
        assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_whatever_is_still_open(tmp_path, certificates, number, store):
    with ServerProcess(tmp_path / "root", *flags(certificates.server()), *store) as server:
        host, _, port = server.url.removeprefix("https://").rpartition(":")
        raw = socket.create_connection((host, int(port)))
        with certificates.context().wrap_socket(raw, server_hostname=host) as half:
            half.sendall(
                b"POST /jobs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"
            )
            with SyncClient(server.url, tls=TLS(ca=certificates.ca)) as client:
                client.health()
            process = server._process
            process.send_signal(number)
            assert any("stopping" in line["fields"]["message"] for line in server.log())
            process.send_signal(number)
            assert process.wait(10) == -number


def test_sighup_does_no_harm_to_a_server_that_stops(tmp_path, store):
    with ServerProcess(tmp_path, *store) as server:
        process = server._process
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:
            process.send_signal(signal.SIGHUP)
        assert process.returncode == 0


def test_sighup_without_certificates_does_no_harm(tmp_path, store):
    with ServerProcess(tmp_path, *store) as server, SyncClient(server.url) as client:
        job = client.enqueue_raw("t", None)
        assert [line["fields"]["message"] for line in hang_up(server, 1)] == ["nothing to reload"]
        assert client.get_job(job.id).status == "ready"
        assert server.stop() == 0
