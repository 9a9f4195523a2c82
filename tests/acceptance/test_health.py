"""Server and workers as processes, seen by those who look after them: health checks, and a service manager."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from acceptance.processes import ZIZQ, ServerProcess, whole_lines

pytestmark = pytest.mark.acceptance

APP = "import zizq\n\nrouter = zizq.Router()\n\n\n@router.fallback\nasync def run(job):\n    pass\n"
PATIENCE_S = 30


def get(address: str, path: str) -> tuple[int, dict[str, Any]]:
    """A status and a body of JSON."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def wait(condition: Callable[[], Any]) -> Any:
    """Wait until something is so; returns what it is."""
    until = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
    return found


class WorkerProcess:
    """A `zizq work` that answers health checks."""

    def __init__(self, folder: Path, url: str, *options: str) -> None:
        (folder / "app.py").write_text(APP)
        self._errors = (folder / "errors").open("w")
        command = [*ZIZQ, "work", "app:router", "--url", url, "--health-port", "0", *options]
        self.process = subprocess.Popen(command, cwd=folder, stderr=self._errors)
        path = folder / "errors"
        self.address = wait(lambda: re.search(r"health checks addr=(\S+)", "".join(whole_lines(path))))[1]

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE_S)
        self._errors.close()


class Manager:
    """What systemd is to a service: it is told things."""

    def __init__(self, bound: socket.socket) -> None:
        self._bound = bound

    def hear(self, but: str = "WATCHDOG") -> dict[str, str]:
        """The next message that is not of this kind."""
        while True:
            lines = self._bound.recv(1000).decode().split("\n")
            said = dict(line.split("=", 1) for line in lines)
            if but not in said:
                return said

    def until(self, what: str) -> dict[str, str]:
        """The next message of this kind."""
        while what not in (said := self.hear("")):
            pass
        return said


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "100000")
        yield Manager(bound)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_worker_is_ready_while_it_takes_jobs(tmp_path: Path, processes: int, store: tuple[str, ...]) -> None:
    options = ["--processes", str(processes), "--concurrency", "3"]
    with ServerProcess(tmp_path / "root", *store) as server:
        url = server.url
        with WorkerProcess(tmp_path, url, *options) as worker:
            wait(lambda: get(worker.address, "/readyz")[0] == 200)
            _, health = get(worker.address, "/readyz")
            assert (health["connected"], health["concurrency"], health["processes"]) == (True, 3 * processes, processes)
            server.stop()
            status, health = wait(
                lambda: (seen := get(worker.address, "/readyz"))[0] == 503 and seen[1]["last_error"] and seen
            )
            assert (status, health["connected"]) == (503, False)
            assert health["error"].startswith("the worker has no take stream: ")
            assert get(worker.address, "/livez") == (200, {"status": "ok"})
            server.start()
            wait(lambda: get(worker.address, "/readyz")[0] == 200)
            worker.process.send_signal(signal.SIGTERM)
            assert worker.process.wait(PATIENCE_S) == 0


def test_a_worker_process_that_is_gone_is_missed_and_back_soon(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "root") as server, WorkerProcess(tmp_path, server.url, "--processes", "2") as worker:
        wait(lambda: get(worker.address, "/readyz")[0] == 200)
        tasks = Path(f"/proc/{worker.process.pid}/task")
        children = " ".join(one.read_text() for one in tasks.glob("*/children")).split()
        named = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(int(named[0]), signal.SIGKILL)
        _, body = wait(lambda: (seen := get(worker.address, "/livez"))[0] == 503 and seen)
        assert re.fullmatch(r"worker process [01] does not run: it is started again soon", body["error"])
        wait(lambda: get(worker.address, "/readyz")[0] == 200)
        assert get(worker.address, "/livez") == (200, {"status": "ok"})


def test_a_health_port_that_is_taken_ends_the_worker(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for processes in ("1", "2"):
            command = [*ZIZQ, "work", "app:router", "--health-port", port, "--processes", processes]
            ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
            assert ended.returncode == 1
            assert f"127.0.0.1:{port}" in ended.stderr
            assert "Traceback" not in ended.stderr


def test_a_service_manager_hears_the_life_of_a_server(tmp_path: Path, manager: Manager, store: tuple[str, ...]) -> None:
    with ServerProcess(tmp_path / "root", *store, admin=True) as server:
        assert manager.hear() == {"STATUS": "opening the store"}
        ready = {"READY": "1", "STATUS": f"listening on {server.url} (primary), {server.admin_url} (admin)"}
        assert manager.hear() == ready
        for _ in range(3):
            assert manager.until("WATCHDOG") == {"WATCHDOG": "1"}
        os.kill(server.pid, signal.SIGHUP)
        before = time.monotonic() - PATIENCE_S
        reloading = manager.hear()
        assert reloading["RELOADING"] == "1"
        assert before * 1e6 < int(reloading["MONOTONIC_USEC"]) < time.monotonic() * 1e6
        assert manager.hear() == ready
        server.stop()
        assert manager.hear() == {
            "STOPPING": "1", "STATUS": "stopping: 0 take streams end, open requests may finish"
        }  # fmt: skip


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_service_manager_hears_the_life_of_a_worker(tmp_path: Path, manager: Manager, processes: str) -> None:
    with WorkerProcess(tmp_path, "http://127.0.0.1:1", "--processes", processes) as worker:
        status = "waiting for the server" if processes == "1" else "2 worker processes"
        assert manager.hear() == {"READY": "1", "STATUS": status}
        for _ in range(3):
            assert manager.until("WATCHDOG") == {"WATCHDOG": "1"}
        worker.process.send_signal(signal.SIGTERM)
        assert manager.hear() == {"STOPPING": "1", "STATUS": "stopping: running handlers may finish"}
        assert worker.process.wait(PATIENCE_S) == 0


def test_a_server_that_cannot_start_never_says_that_it_is_ready(tmp_path: Path, manager: Manager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [*ZIZQ, "serve", "--root-dir", str(tmp_path / "root"), "--port", "0", "--admin-port", port]
        assert subprocess.run(command, capture_output=True, timeout=PATIENCE_S).returncode == 1
    assert manager.hear() == {"STATUS": "opening the store"}
    manager._bound.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        assert manager.hear() is None
