"""`zizq serve --store` as processes: two of them on one database, and a password that nobody sees."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from acceptance.processes import ZIZQ, ServerProcess
from zizq import SyncClient

pytestmark = pytest.mark.acceptance

SECRET = "s3cr3t"


def with_password(url: str) -> str:
    """The cluster of tests lets in whoever comes, whatever they say."""
    return url.replace("zizq@", f"zizq:{SECRET}@")


def test_two_servers_share_their_jobs(postgres_url: str, tmp_path: Path) -> None:
    servers = [ServerProcess(tmp_path / name, "--store", postgres_url) for name in "ab"]
    for server in servers:
        server.start()
    with SyncClient(servers[0].url) as first, SyncClient(servers[1].url) as second:
        job = first.enqueue_raw("t", 1)
        assert second.get_job(job.id).payload == 1
        with second.take() as stream:
            assert next(iter(stream)).id == job.id
            # Whoever hears of it.
            first.report_success(job.id)
    assert [server.stop() for server in servers] == [0, 0]
    # What must last is in the database.
    assert not list(tmp_path.rglob("*.db"))


def test_a_password_is_in_no_log_and_no_error(postgres_url: str, tmp_path: Path) -> None:
    url = with_password(postgres_url)
    server = subprocess.Popen(
        [*ZIZQ, "serve", "--store", url, "--port", "0", "--no-admin", "--log-level", "debug", "--root-dir", tmp_path],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    said = ""
    for line in server.stdout:
        said += line
        if "listening" in line:
            break
    server.terminate()
    said += server.stdout.read()
    server.stdout.close()
    assert server.wait(30) == 0
    assert "store=postgresql://zizq:***@127.0.0.1" in said
    assert SECRET not in said


@pytest.mark.parametrize("url", [f"postgresql://u:{SECRET}@127.0.0.1:1/d", f"postgresql://u:{SECRET}@@h/d"])
def test_a_server_that_cannot_have_its_database_ends_with_a_line(url: str, tmp_path: Path) -> None:
    command = [*ZIZQ, "serve", "--port", "0", "--no-admin", "--root-dir", tmp_path, "--store", url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in (1, 2)
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
