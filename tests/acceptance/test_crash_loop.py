"""A handler that ends its own worker: the loop ends, and nobody else is harmed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from acceptance.processes import ServerProcess
from zizq.client.enqueue import Enqueue
from zizq.client.sync import SyncClient

pytestmark = pytest.mark.acceptance

APP = """
import os, signal, zizq

router = zizq.Router()


@router.route("poison")
async def poison(job: zizq.Job):
    os.kill(os.getpid(), signal.SIGKILL)


@router.fallback
async def innocent(job: zizq.Job):
    if job.payload == "last":
        os.kill(os.getpid(), signal.SIGTERM)
"""


def work(folder: Path, url: str, *options: str) -> int:
    """Run a worker to its end; returns its exit status."""
    command = [sys.executable, "-m", "zizq", "work", "app:router", "--url", url, *options]
    return subprocess.run(command, cwd=folder, env=os.environ, timeout=30, check=False).returncode


def test_a_handler_that_kills_its_worker_dies_and_jobs_beside_it_are_unharmed(
    tmp_path: Path, store: tuple[str, ...]
) -> None:
    (tmp_path / "app.py").write_text(APP)
    with (
        ServerProcess(tmp_path / "root", "--max-worker-deaths", "2", *store) as server,
        SyncClient(server.url) as client,
    ):
        poison = client.enqueue_raw("poison", None)
        beside = client.enqueue_bulk([Enqueue("innocent", name) for name in ("first", "second", "last")])
        for deaths in (1, 2, 3):
            assert client.get_job(poison.id).status == "ready"
            # The others wait behind it, in the buffer of the same worker.
            assert work(tmp_path, server.url, "-c", "1", "-p", "4") == -signal.SIGKILL
            while client.jobs(status="in_flight").count():
                pass
            assert all(client.get_job(job.id).dequeued_at for job in beside), deaths
        dead = client.get_job(poison.id)
        assert (dead.status, dead.attempts) == ("dead", 1)
        [error] = client.job_errors(poison.id)
        assert error.error_type == "WorkerDied"
        assert [(job.status, job.attempts) for job in client.jobs(type="innocent")] == [("ready", 0)] * 3
        assert work(tmp_path, server.url, "-c", "1", "-p", "4") == 0
        assert [job.id for job in client.jobs()] == [poison.id]
