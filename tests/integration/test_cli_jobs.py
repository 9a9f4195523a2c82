"""`zizq jobs` against a whole server: what it prints, what it does, and what it refuses."""

import asyncio
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from zizq import Client, Enqueue, NotFound
from zizq.cli.main import cli
from zizq.testing.server import running_server

ZIZQ = str(Path(sys.executable).with_name("zizq"))


class Shell:
    """Runs `zizq jobs` against a server, each time in a thread."""

    def __init__(self, client):
        self.client = client

    async def run(self, *args, ok=True):
        arguments = ["jobs", *args, "--url", self.client.url]
        result = await asyncio.to_thread(CliRunner(env={"COLUMNS": "200"}).invoke, cli, arguments)
        assert (result.exit_code == 0) is ok, result.output
        return result

    async def out(self, *args):
        return (await self.run(*args)).stdout

    async def lines(self, *args):
        return [json.loads(line) for line in (await self.out(*args, "--json")).splitlines()]


@asynccontextmanager
async def shell(**settings):
    async with running_server(**settings) as server, Client(server.url) as client:
        yield Shell(client)


async def enqueue(client, *queues, **options):
    return await client.enqueue_bulk([Enqueue("t", {"n": n}, queue=queue, **options) for n, queue in enumerate(queues)])


async def kill(client, queue, error="boom"):
    """Let a job of a queue die."""
    async with client.take(queue) as jobs:
        return await client.report_failure((await anext(jobs)).id, error, kill=True)


async def status_at_rest(client, job_id):
    """The status of a job that a stream which has just ended may get once more: the server hears of the end later."""
    for _ in range(2000):
        status = (await client.get_job(job_id)).status
        if status != "in_flight":
            return status
        await asyncio.sleep(0.01)
    raise TimeoutError


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_list_is_a_table_the_oldest_first():
    async with shell() as sh:
        first, second = await enqueue(sh.client, "emails", "reports")
        head, *rows = (await sh.out("list")).splitlines()
        assert head.split() == ["ID", "STATUS", "QUEUE", "TYPE", "PRIORITY", "ATTEMPTS", "WHEN"]
        assert [row.split()[:6] for row in rows] == [
            [first.id, "ready", "emails", "t", "32768", "0"],
            [second.id, "ready", "reports", "t", "32768", "0"],
        ]
        [_, row] = (await sh.out("list", "--order", "desc", "--limit", "1")).splitlines()
        assert row.split()[0] == second.id


async def test_a_list_for_people_stops_after_a_screenful_and_says_so():
    async with shell() as sh:
        await enqueue(sh.client, *["q"] * 51)
        result = await sh.run("list")
        assert (len(result.stdout.splitlines()), result.stderr) == (51, "There are more than these 50: say --limit.\n")
        result = await sh.run("list", "--limit", "51")
        assert (len(result.stdout.splitlines()), result.stderr) == (52, "")
        result = await sh.run("list", "--limit", "50")
        assert (len(result.stdout.splitlines()), result.stderr) == (51, "")
        assert len(await sh.lines("list")) == 51


async def test_a_list_of_nothing_says_so_beside_the_output():
    async with shell() as sh:
        result = await sh.run("list", "--queue", "none")
        assert (result.stdout, result.stderr) == ("", "There are no such jobs.\n")
        assert await sh.out("list", "--json") == ""


async def test_a_list_for_programs_has_the_jobs_as_the_server_sends_them():
    async with shell() as sh:
        [job] = await enqueue(sh.client, "q", retry_limit=3)
        assert await sh.lines("list") == [
            {
                "id": job.id, "type": "t", "queue": "q", "priority": 32_768, "status": "ready", "payload": {"n": 0},
                "ready_at": job.ready_at_ms, "attempts": 0, "retry_limit": 3,
            }
        ]  # fmt: skip
        assert await sh.lines("list", "--format", "json") == await sh.lines("list")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--queue", "a"], [0]),
        (["-q", "a,b", "-q", "c"], [0, 1, 2]),
        (["--type", "t", "--status", "scheduled"], [3]),
        (["-s", "ready,dead", "-t", "t"], [0, 1, 2]),
        (["--priority", "5"], [3]),
        (["--priority", "6.."], [0, 1, 2]),
        (["--ready-at", "+1h.."], [3]),
        (["--ready-at", "..+1h"], [0, 1, 2]),
        (["--attempts", "1.."], []),
        (["--filter", ".n == 1 or .n == 2"], [1, 2]),
        (["--filter", ".n > 0", "-q", "c"], [2]),
    ],
)
async def test_filters_choose_jobs(options, expected):
    async with shell() as sh:
        jobs = [Enqueue("t", {"n": n}, queue=queue) for n, queue in enumerate("abc")]
        await sh.client.enqueue_bulk([*jobs, Enqueue("t", {}, queue="d", priority=5, delay=timedelta(hours=2))])
        order = {queue: number for number, queue in enumerate("abcd")}
        assert [order[job["queue"]] for job in await sh.lines("list", *options)] == expected


async def test_jobs_are_chosen_by_identifier():
    async with shell() as sh:
        jobs = await enqueue(sh.client, "a", "b", "c")
        ids = [jobs[2].id, jobs[0].id]
        assert [job["queue"] for job in await sh.lines("list", "--id", ",".join(ids))] == ["a", "c"]


async def test_jobs_are_counted():
    async with shell() as sh:
        await enqueue(sh.client, "a", "a", "b")
        await kill(sh.client, "b")
        assert (await sh.out("count"), await sh.out("count", "-q", "a"), await sh.out("count", "-q", "x")) == (
            "3\n", "2\n", "0\n",
        )  # fmt: skip
        assert await sh.lines("count") == [{"count": 3}]
        [counts] = await sh.lines("count", "--by", "status")
        assert counts == {"scheduled": 0, "ready": 2, "in_flight": 0, "completed": 0, "dead": 1}
        assert await sh.lines("count", "--by", "status", "-s", "dead,ready") == [{"ready": 2, "dead": 1}]
        assert await sh.out("count", "--by", "queue") == "QUEUE  JOBS\na         2\nb         1\n"
        assert await sh.lines("count", "--by", "queue", "-q", "b,c", "-s", "dead") == [{"b": 1}]


async def test_a_job_is_shown_with_its_payload_and_errors():
    async with shell() as sh:
        await enqueue(sh.client, "q")
        job = await kill(sh.client, "q", ValueError("boom"))
        shown = (await sh.out("show", job.id)).splitlines()
        assert shown[0].split() == ["id", job.id]
        assert '    "n": 0' in shown
        assert shown[-2].endswith(": ValueError: boom")
        assert shown[-1] == "  ValueError: boom"
        [fields] = await sh.lines("show", job.id)
        assert (fields["status"], fields["payload"], fields["errors"][0]["message"]) == ("dead", {"n": 0}, "boom")


@pytest.mark.parametrize("args", [["show", "zzz"], ["delete", "zzz", "-y"], ["retry", "zzz"]])
async def test_a_job_that_is_not_there_is_one_line_and_status_1(args):
    async with shell() as sh:
        result = await sh.run(*args, ok=False)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "Error: there is no job zzz\n"


# ── changing ─────────────────────────────────────────────────────────────────────────────────────────


async def test_jobs_are_deleted_by_identifier_by_filter_and_all():
    async with shell() as sh:
        jobs = await enqueue(sh.client, *"aabbc")
        assert await sh.out("delete", jobs[0].id, "--yes") == "Deleted 1 job.\n"
        with pytest.raises(NotFound):
            await sh.client.get_job(jobs[0].id)
        assert await sh.out("delete", jobs[1].id, jobs[2].id, "-y") == "Deleted 2 jobs.\n"
        assert await sh.out("delete", "-q", "b", "-y") == "Deleted 1 job.\n"
        assert await sh.out("delete", "--all", "-y") == "Deleted 1 job.\n"
        assert await sh.out("delete", "--all", "-y") == "Deleted 0 jobs.\n"


async def test_a_limit_deletes_the_first_alone():
    async with shell() as sh:
        jobs = await enqueue(sh.client, *"aaa")
        assert await sh.out("delete", "-q", "a", "--limit", "2", "--order", "desc", "-y") == "Deleted 2 jobs.\n"
        assert [job.id async for job in sh.client.jobs()] == [jobs[0].id]


async def test_identifiers_and_filters_must_both_fit():
    async with shell() as sh:
        jobs = await enqueue(sh.client, *"ab")
        assert await sh.out("delete", jobs[0].id, jobs[1].id, "-q", "b", "-y") == "Deleted 1 job.\n"
        assert await sh.client.jobs(queue="a").count() == 1


async def test_dead_jobs_are_retried():
    async with shell() as sh:
        await enqueue(sh.client, *"aab")
        dead = [await kill(sh.client, queue) for queue in "aab"]
        assert await sh.out("retry", dead[0].id) == "Retried 1 job.\n"
        assert await status_at_rest(sh.client, dead[0].id) == "ready"
        assert await sh.out("retry", "-q", "a", "-y") == "Retried 1 job.\n"
        assert await sh.out("retry", "--all", "-y") == "Retried 1 job.\n"
        refused = await sh.run("retry", dead[0].id, ok=False)
        assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
        assert "cannot retry job" in refused.stderr


async def test_a_patch_changes_what_is_named():
    async with shell() as sh:
        [job, other] = await enqueue(sh.client, *"ab")
        set_options = (
            "--set-queue",
            "new",
            "--set-priority",
            "7",
            "--set-retry-limit",
            "3",
            "--set-backoff",
            "10s,2,5",
        )
        kept = ("--set-completed-retention", "1h", "--set-dead-retention", "60", "--set-ready-at", "2100-01-01T00:00Z",
                "--set-timeout", "5m")  # fmt: skip
        assert await sh.out("patch", job.id, *set_options, *kept) == "Patched 1 job.\n"
        job = await sh.client.get_job(job.id)
        assert (job.queue, job.priority, job.retry_limit, job.status) == ("new", 7, 3, "scheduled")
        assert job.ready_at == datetime(2100, 1, 1, tzinfo=UTC)
        assert (job.backoff.base, job.backoff.exponent, job.backoff.jitter) == (
            timedelta(seconds=10), 2.0, timedelta(seconds=5),
        )  # fmt: skip
        assert (job.retention.completed, job.retention.dead) == (timedelta(hours=1), timedelta(minutes=1))
        assert job.timeout == timedelta(minutes=5)
        await sh.out("patch", job.id, "--unset", "timeout")
        assert (await sh.client.get_job(job.id)).timeout is None
        assert (await sh.client.get_job(other.id)).queue == "b"


async def test_a_patch_takes_back_and_makes_ready():
    async with shell() as sh:
        [job] = await enqueue(sh.client, "a", retry_limit=3, delay=3600)
        taken_back = ("--unset", "retry-limit", "--unset", "backoff", "--set-ready-at", "now")
        assert await sh.out("patch", "-s", "scheduled", *taken_back, "-y") == "Patched 1 job.\n"
        job = await sh.client.get_job(job.id)
        assert (job.status, job.retry_limit) == ("ready", None)


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", [["delete"], ["retry"], ["patch", "--set-priority", "1"]])
async def test_nothing_is_changed_that_was_not_chosen_or_agreed_to(verb):
    async with shell() as sh:
        jobs = await enqueue(sh.client, *"aa")
        for args, status, text in (
            ([], 2, "by ID, by a filter, or --all"),
            (["--yes"], 2, "by ID, by a filter, or --all"),
            (["--limit", "5", "--yes"], 2, "by ID, by a filter, or --all"),
            (["-q", "", "--yes"], 2, "names nothing"),
            (["--id", ",", "--yes"], 2, "names nothing"),
            (["--all", "-q", "a", "--yes"], 2, "--all means every job"),
            (["-q", "a"], 1, "say --yes"),
            (["--all"], 1, "say --yes"),
            ([job.id for job in jobs], 1, "say --yes"),
        ):
            result = await sh.run(*verb, *args, ok=False)
            assert (result.exit_code, result.stdout) == (status, "")
            assert text in result.stderr
        assert await sh.client.jobs(queue="a", status="ready", priority=32_768).count() == 2


async def test_one_job_is_not_deleted_without_a_word_either():
    async with shell() as sh:
        [job] = await enqueue(sh.client, "a")
        assert (await sh.run("delete", job.id, ok=False)).exit_code == 1
        assert (await sh.client.get_job(job.id)).id == job.id


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["list", "--status", "broken"], "'broken' is no status: choose from scheduled, ready"),
        (["list", "--priority", "9..0"], "upside down"),
        (["list", "--priority", "70000"], "from 0 to 65535"),
        (["list", "--attempts", "many"], "no whole number"),
        (["list", "--ready-at", "soon.."], "no instant"),
        (["list", "--filter", ""], "no jq expression"),
        (["list", "--limit", "0"], "x>=1"),
        (["patch", "zzz"], "Say what to change"),
        (["patch", "zzz", "--set-retry-limit", "1", "--unset", "retry-limit"], "--unset retry-limit"),
        (["patch", "zzz", "--set-backoff", "5s"], "BASE,EXPONENT,JITTER"),
        (["patch", "zzz", "--set-priority", "70000"], "65535"),
    ],
)
def test_a_wrong_option_is_a_usage_error(args, text):
    result = CliRunner().invoke(cli, ["jobs", *args])
    assert (result.exit_code, result.stdout) == (2, "")
    assert text in " ".join(result.stderr.split())


def test_a_server_that_is_not_there_is_one_line():
    result = CliRunner().invoke(cli, ["jobs", "count", "--url", "http://127.0.0.1:1"])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("Error: cannot connect to http://127.0.0.1:1: ")


async def test_what_the_server_says_against_a_filter_is_one_line():
    async with shell() as sh:
        result = await sh.run("count", "--filter", ".n > (", ok=False)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert "invalid filter" in result.stderr


# ── real processes ───────────────────────────────────────────────────────────────────────────────────


@contextmanager
def on_a_terminal(*args, stdout=None):
    """A process on a terminal of its own, its output but for errors maybe elsewhere, and the person's end of that."""
    person, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80"}
    process = subprocess.Popen(
        [ZIZQ, "jobs", *args], stdin=terminal, stdout=stdout or terminal, stderr=terminal, env=environment
    )
    os.close(terminal)
    try:
        yield process, person
    finally:
        process.kill()
        process.wait()
        os.close(person)


def read_until(person, mark):
    """What a terminal shows, up to a mark or the end."""
    shown = b""
    while mark not in shown:
        try:
            shown += os.read(person, 4096)
        except OSError:  # the other end is closed
            break
    return shown.decode()


@pytest.mark.parametrize(("answer", "left", "status"), [("n", 2, 1), ("", 2, 1), ("y", 0, 0)])
async def test_on_a_terminal_it_asks_first(answer, left, status):
    def talk():
        with on_a_terminal("delete", "-q", "a", "--url", sh.client.url) as (process, person):
            assert read_until(person, b"[y/N]: ") == "Delete 2 jobs? [y/N]: "
            os.write(person, f"{answer}\n".encode())
            return process.wait(20), read_until(person, b"\0")

    async with shell() as sh:
        await enqueue(sh.client, *"aa")
        code, shown = await asyncio.to_thread(talk)
        assert code == status
        assert ("Deleted 2 jobs." in shown) is (left == 0)
        assert await sh.client.jobs().count() == left


async def test_a_table_fits_the_terminal():
    def look():
        with on_a_terminal("list", "--url", sh.client.url) as (process, person):
            shown = read_until(person, b"\0")
            assert process.wait(20) == 0
            return shown

    async with shell() as sh:
        await enqueue(sh.client, "q" * 200)
        lines = (await asyncio.to_thread(look)).splitlines()
        assert [len(line) <= 80 for line in lines] == [True, True]
        assert "qqq… " in lines[1]


async def test_a_list_that_goes_to_a_file_is_counted_on_the_terminal(tmp_path):
    def look():
        args = ("list", "--json", "--url", sh.client.url)
        with (tmp_path / "jobs").open("w") as file, on_a_terminal(*args, stdout=file) as (process, person):
            shown = read_until(person, b"\0")
            assert process.wait(20) == 0
            return shown

    async with shell() as sh:
        await enqueue(sh.client, *["q"] * 501)
        shown = await asyncio.to_thread(look)
        assert [part.strip() for part in shown.split("\r\x1b[K")] == ["", "500 jobs listed", "501 jobs listed"]
        assert len((tmp_path / "jobs").read_text().splitlines()) == 501


async def test_a_reader_that_leaves_ends_it_quietly():
    def pipe():
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [ZIZQ, "jobs", "list", "--json", "--url", sh.client.url],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writing)
        return done

    async with shell() as sh:
        await enqueue(sh.client, "q")
        done = await asyncio.to_thread(pipe)
        assert (done.returncode, done.stderr) == (1, b"")


def test_a_long_wait_shows_and_ctrl_c_ends_it():
    asked = threading.Event()

    def accept():
        connection, _ = listener.accept()
        with connection:
            connection.recv(1)
            asked.set()
            assert done.wait(20)

    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=accept)
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with on_a_terminal("delete", "-q", "a", "--yes", "--url", url) as (process, person):
            assert asked.wait(20)
            assert "deleting jobs, 1 s" in read_until(person, b" s")
            # By hand: the terminal does not control this process, and so sends it no signal.
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 1
            assert "interrupted while deleting" in read_until(person, b"\0")
        done.set()
        server.join()
