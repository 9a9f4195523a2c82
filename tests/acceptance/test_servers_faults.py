"""Three servers on one PostgreSQL, with workers: what a death costs, of a server or of the database."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from acceptance.fleet import Enqueuer, cluster, fleet
from acceptance.processes import wait
from zizq import Enqueue, NotFound

pytestmark = pytest.mark.acceptance

PROMISE_MS = 5000
"""What a dead server held runs elsewhere so soon, at default settings."""


def test_any_server_does_for_any_call(tmp_path: Path) -> None:
    with cluster() as postgres, fleet(tmp_path, postgres.url()) as servers:
        a, b, c = (servers.serve() for _ in range(3))
        taker, enqueuer, settler = map(servers.client, (a, b, c))
        with taker.take("q", prefetch=1) as jobs:
            for _ in range(20):
                sent = enqueuer.enqueue_raw("t", 1, queue="q")
                assert next(jobs).id == sent.id
                # With room for one, the stream waits until it hears that another server has settled it.
                settler.report_success(sent.id)
                with pytest.raises(NotFound):
                    taker.report_success(sent.id)
        assert servers.is_empty()


def test_jobs_of_a_killed_server_run_elsewhere_within_5_s(tmp_path: Path) -> None:
    with cluster() as postgres, fleet(tmp_path, postgres.url()) as servers:
        a, b, c = (servers.serve() for _ in range(3))
        doomed = servers.work("doomed", a, "-c", "20", held=True)
        servers.client(b).enqueue_bulk([Enqueue("t", number, queue="held") for number in range(20)])
        wait(lambda: len(servers.notes("start")) == 20)
        held = servers.notes("start")
        for name, server in (("first", b), ("second", c)):
            servers.work(name, server, "-c", "10")
        with Enqueuer([servers.client(server) for server in (a, b, c)], "q") as enqueuer:
            enqueuer.goes_on()
            # By this clock all servers say when a job is taken.
            killed_at = servers.now_ms()
            a.kill()
            wait(lambda: held.keys() <= servers.notes("end").keys())
            wait(lambda: enqueuer.refused > 0)
        elsewhere = servers.notes("end")
        assert max(elsewhere[job_id] for job_id in held) - killed_at < PROMISE_MS
        assert not servers.notes("end", "doomed")
        wait(servers.is_empty)
        assert set(enqueuer.answered) <= servers.notes("end").keys()
        # What the worker of the dead server still holds is refused when the server is there again.
        a.start()
        wait(lambda: doomed.log().count("takes jobs") > 1)
        doomed.let_go()
        wait(lambda: "went to another worker" in doomed.log())
        assert all(servers.runs()[job_id] == 2 for job_id in held)


def test_a_restart_of_the_database_is_waited_for_and_loses_nothing(tmp_path: Path) -> None:
    with cluster() as postgres, fleet(tmp_path, postgres.url()) as servers:
        three = [servers.serve() for _ in range(3)]
        clients = [servers.client(server) for server in three]
        for number, server in enumerate(three):
            servers.work(f"worker {number}", server, "-c", "10")
        answered: set[str] = set()
        for how in (signal.SIGINT, signal.SIGKILL):
            with Enqueuer(clients, "q") as enqueuer:
                enqueuer.goes_on()
                postgres.stop(how)
                status, headers, _ = ask(f"{three[0].url}/jobs", b'{"type": "t", "queue": "q", "payload": 1}')
                assert (status, headers.get("retry-after")) == (503, "1"), three[0].said[-3:]
                for server in three:
                    wait(partial(has_status, f"{server.url}/readyz", 503), "a server that is not ready")
                    assert json.loads(ask(f"{server.url}/health")[2])["writes_refused"]
                postgres.start()
                enqueuer.goes_on()
            answered.update(enqueuer.answered)
        wait(lambda: answered <= servers.notes("end").keys(), "the run of every job")
        wait(servers.is_empty, "the end of every job")
        for server in three:
            wait(partial(has_status, f"{server.url}/readyz", 200), "a server that is ready")


def has_status(url: str, status: int) -> bool:
    return ask(url)[0] == status


def ask(url: str, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=40) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): text for name, text in error.headers.items()}, error.read()
