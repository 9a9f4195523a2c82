"""Workers and servers as processes of their own: signals, kill -9 and restarts."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acceptance.processes import whole_lines
from zizq.client.enqueue import Enqueue
from zizq.client.sync import SyncClient

pytestmark = pytest.mark.acceptance
about_the_worker = pytest.mark.embedded_only("about the worker alone, whatever its server is")

ZIZQ = [sys.executable, "-c", "from zizq.cli.main import main; main()"]
APP = """
import asyncio, os, time
import zizq

router = zizq.Router()


def note(what, job):
    line = f"{what} {job.id} {os.getpid()} {time.time()}\\n"
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(line)


@router.fallback
async def run(job: zizq.Job):
    note("start", job)
    await asyncio.sleep(float(os.environ.get("TAKES", "0")))
    while "GATE" in os.environ and not os.path.exists(os.environ["GATE"]):
        await asyncio.sleep(0.02)
    note("end", job)


@router.route("in a process", executor="process")
def process(job):
    note("start", job)
    time.sleep(600)
"""


class Field:
    """A folder with an application, a server and some workers."""

    def __init__(self, folder: Path, store: tuple[str, ...], processes: contextlib.ExitStack):
        self.folder = folder
        self._store = store
        self._processes = processes
        self.notes_path = folder / "notes"
        self.notes_path.touch()
        (folder / "app.py").write_text(APP)
        self.address = "127.0.0.1:0"
        self.server = self.serve()

    @property
    def client(self):
        return self._processes.enter_context(SyncClient(f"http://{self.address}"))

    def serve(self):
        port = self.address.rpartition(":")[2]
        options = ["serve", "--root-dir", str(self.folder / "root"), "--port", port, "--no-admin"]
        options += ["--log-format", "json", *self._store]
        server = self._start(options, {}, stdout=subprocess.PIPE)
        for line in server.stdout:
            fields = json.loads(line)["fields"]
            if fields.get("api") == "primary":
                self.address = fields["addr"]
                return server
        raise AssertionError("the server did not start")

    def work(self, *options, **environment):
        """Start a worker, and wait until it takes jobs."""
        options = ["work", "app:router", "--url", f"http://{self.address}", *options]
        errors = self.folder / f"errors-{time.monotonic_ns()}"
        with errors.open("w") as stderr:
            worker = self._start(options, environment, stderr=stderr)
        worker.errors = errors
        wait(lambda: "takes jobs" in errors.read_text())
        return worker

    def notes(self, what, pid=None):
        """The ids and times of what handlers noted."""
        lines = [line.split() for line in whole_lines(self.notes_path)]
        return [(one[1], float(one[3])) for one in lines if one[0] == what and pid in (None, int(one[2]))]

    def _start(self, options, environment, **streams):
        environment = {**os.environ, "NOTES": str(self.notes_path), **environment}
        process = subprocess.Popen(
            [*ZIZQ, *options], cwd=self.folder, env=environment, text=True, start_new_session=True, **streams
        )
        self._processes.callback(_end, process)
        return process


def _end(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def wait(condition, seconds=20):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture
def field(tmp_path, store):
    with contextlib.ExitStack() as processes:
        yield Field(tmp_path, store, processes)


def enqueue(client, count):
    return [job.id for job in client.enqueue_bulk([Enqueue("any", number) for number in range(count)])]


def ids(notes):
    return sorted(job_id for job_id, _ in notes)


def test_sigterm_in_the_middle_of_jobs_loses_and_repeats_nothing(field):
    all_ids = enqueue(field.client, 200)
    first = field.work("-c", "10", "-p", "30", TAKES="0.05")
    wait(lambda: len(field.notes("end")) >= 30)
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 0
    done = len(field.notes("end"))
    assert done == len(field.notes("start")) < 200
    assert f"{done} processed, 0 failed" in first.errors.read_text()
    field.work("-c", "50", TAKES="0")
    wait(lambda: len(field.notes("end")) >= 200)
    assert ids(field.notes("start")) == ids(field.notes("end")) == sorted(all_ids)


def test_jobs_of_a_killed_worker_reach_another_within_250_ms_and_finished_ones_do_not(field):
    quick = enqueue(field.client, 20)
    early = field.work("-c", "5")
    wait(lambda: len(field.notes("end")) == 20)
    early.send_signal(signal.SIGTERM)
    assert early.wait(10) == 0
    held = enqueue(field.client, 5)
    doomed = field.work("-c", "5", TAKES="600")
    wait(lambda: len(field.notes("start", doomed.pid)) == 5)
    heir = field.work("-c", "5")
    killed_at = time.time()
    doomed.kill()
    wait(lambda: len(field.notes("end", heir.pid)) == 5)
    assert ids(field.notes("start", heir.pid)) == sorted(held)
    assert max(at for _, at in field.notes("start", heir.pid)) - killed_at < 0.25
    assert not set(ids(field.notes("start", heir.pid))) & set(quick)


@about_the_worker
def test_a_killed_worker_takes_its_handler_processes_with_it(field):
    field.client.enqueue_raw("in a process", None)
    doomed = field.work()
    wait(lambda: field.notes("start"))
    pid = int(whole_lines(field.notes_path)[0].split()[2])
    assert pid != doomed.pid
    doomed.kill()
    doomed.wait()
    wait(lambda: not _runs(pid))


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_worker_never_reruns_what_it_acknowledged(field):
    all_ids = enqueue(field.client, 2000)
    doomed = field.work("-c", "10", TAKES="0.001")
    wait(lambda: len(field.notes("end")) > 100)
    doomed.kill()
    doomed.wait()
    again = field.work("-c", "20")
    wait(lambda: set(ids(field.notes("end"))) == set(all_ids))
    # Those that ran twice are at most those that were here unreported: prefetch, and so concurrency.
    twice = set(ids(field.notes("end", doomed.pid))) & set(ids(field.notes("start", again.pid)))
    assert len(twice) <= 10


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_of_the_server_is_survived_and_a_running_job_not_run_again(field, how):
    [running] = enqueue(field.client, 1)
    gate = field.folder / "gate"
    worker = field.work("-c", "2", GATE=str(gate))
    wait(lambda: field.notes("start"))
    taken_at = field.client.get_job(running).dequeued_at
    field.server.send_signal(how)
    field.server.wait(20)
    field.server = field.serve()
    client = field.client
    # On a database only when the lease of a killed server is over.
    wait(lambda: client.get_job(running).dequeued_at not in (None, taken_at))
    later = enqueue(client, 1)
    wait(lambda: len(field.notes("start")) == 2)
    gate.touch()
    wait(lambda: len(field.notes("end")) == 2)
    assert later[0] in ids(field.notes("end"))
    worker.send_signal(signal.SIGINT)
    assert worker.wait(10) == 0
    assert len(field.notes("start")) == 2
    assert "1 redelivered" in worker.errors.read_text()


@about_the_worker
def test_a_second_signal_ends_at_once_with_status_1(field):
    enqueue(field.client, 1)
    worker = field.work(TAKES="600")
    wait(lambda: field.notes("start"))
    worker.send_signal(signal.SIGTERM)
    wait(lambda: "shutting down" in worker.errors.read_text())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(5) == 1


@about_the_worker
def test_run_worker_is_a_program_of_its_own(field):
    program = "import os, zizq, app; print(zizq.run_worker(app.router, os.environ['ZIZQ_URL'], concurrency=2))"
    enqueue(field.client, 5)
    environment = {**os.environ, "NOTES": str(field.notes_path), "ZIZQ_URL": f"http://{field.address}"}
    worker = subprocess.Popen(
        [sys.executable, "-c", program], cwd=field.folder, env=environment, text=True, stdout=subprocess.PIPE
    )
    wait(lambda: len(field.notes("end")) == 5)
    worker.send_signal(signal.SIGINT)
    assert worker.communicate(timeout=20)[0] == "5 processed, 0 failed\n"


STUCK = """
import os, time, zizq

def stuck(job):
    print("started", flush=True)
    time.sleep(600)

print(zizq.run_worker(stuck, os.environ["ZIZQ_URL"], shutdown_timeout=0.1), flush=True)
"""


@about_the_worker
def test_a_thread_over_the_shutdown_timeout_does_not_keep_the_program_alive(field):
    enqueue(field.client, 1)
    environment = {**os.environ, "ZIZQ_URL": f"http://{field.address}"}
    worker = subprocess.Popen([sys.executable, "-c", STUCK], env=environment, text=True, stdout=subprocess.PIPE)
    assert worker.stdout.readline() == "started\n"
    worker.send_signal(signal.SIGINT)
    assert worker.communicate(timeout=10)[0] == "0 processed, 0 failed, 1 abandoned\n"
    assert worker.returncode == 0


@about_the_worker
def test_processes_that_the_server_refuses_end_their_parent_with_the_error(field):
    url = f"http://{field.address}/nowhere"
    parent = subprocess.run(
        [*ZIZQ, "work", "app:router", "--url", url, "--processes", "2"],
        cwd=field.folder, capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert parent.returncode == 1
    assert parent.stderr.count("Error: 406") == 1, parent.stderr
    assert "Traceback" not in parent.stderr


def test_processes_share_the_work_are_replaced_and_end_together(field):
    parent = field.work("--processes", "2", "-c", "2", TAKES="0.02")
    wait(lambda: parent.errors.read_text().count("takes jobs") == 2)
    enqueue(field.client, 100)
    wait(lambda: len(field.notes("end")) == 100)
    pids = {int(line.split()[2]) for line in whole_lines(field.notes_path)}
    assert len(pids) == 2
    os.kill(pids.pop(), signal.SIGKILL)
    wait(lambda: parent.errors.read_text().count("takes jobs") == 3)
    enqueue(field.client, 20)
    wait(lambda: len(field.notes("start")) > 110)
    # As a terminal does: the whole group gets it.
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(10) == 0
    assert len(field.notes("start")) == len(field.notes("end"))


@about_the_worker
def test_reload_starts_again_when_a_source_file_changes(field):
    worker = field.work("--reload")
    (field.folder / "app.py").write_text(APP + "\n# changed\n")
    wait(lambda: worker.errors.read_text().count("takes jobs") == 2)
    enqueue(field.client, 1)
    wait(lambda: field.notes("end"))
    os.killpg(worker.pid, signal.SIGINT)
    worker.wait(60)


@pytest.mark.parametrize(
    ("target", "message"),
    [("app", "MODULE:HANDLER"), ("nowhere:router", "no module 'nowhere'"), ("app:nothing", "nothing")],
)
def test_a_wrong_target_is_a_plain_message(tmp_path, target, message):
    (tmp_path / "app.py").write_text(APP)
    result = subprocess.run([*ZIZQ, "work", target], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert message in result.stderr
