"""Three servers on one PostgreSQL, of which one is a minute late and another a minute early."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from acceptance.fleet import Fleet, cluster, fleet
from acceptance.processes import ServerProcess, wait
from zizq import Enqueue, Retention, SyncClient

pytestmark = pytest.mark.acceptance

SKEWED = Path(__file__).with_name("skewed.py")
MINUTE_MS = 60_000


def test_clocks_that_are_a_minute_apart_do_not_matter(tmp_path: Path) -> None:
    with cluster() as postgres, fleet(tmp_path, postgres.url()) as servers:
        late, right, early = (
            servers.serve("--reaper-check-interval", "100ms", program=[sys.executable, str(SKEWED), str(skew)])
            for skew in (-60, 0, 60)
        )
        three = [servers.client(server) for server in (late, right, early)]
        fences = servers.fences()
        assert ["is not that of the database" in str(server.said) for server in (late, right, early)] == [
            True, False, True,
        ]  # fmt: skip
        check_schedules(servers, three, late)
        check_retention(servers, three)
        check_ticks(servers, three)
        # No lease was lost: they go by the clock of the database as well.
        assert servers.fences() == fences


def check_schedules(servers: Fleet, three: list[SyncClient], server: ServerProcess) -> None:
    """What any of them is told to do later is done then, and not a minute off."""
    worker = servers.work("worker", server, "-c", "10", "-q", "later")
    ready_at = servers.now_ms() + 1500
    at = datetime.fromtimestamp(ready_at / 1000, UTC)
    ids = {client.enqueue_raw("t", 1, queue="later", ready_at=at).id for client in three}
    ids |= {client.enqueue_raw("t", 1, queue="later", delay=1.5).id for client in three}
    wait(lambda: ids <= servers.notes("end", worker.name).keys())
    taken = servers.notes("end", worker.name)
    assert all(ready_at <= taken[job_id] < ready_at + MINUTE_MS / 2 for job_id in ids)


def check_retention(servers: Fleet, three: list[SyncClient]) -> None:
    """What is kept for a while is there meanwhile, whoever completes it, and then goes."""
    keep = Retention(completed=2)
    ids = [client.enqueue_raw("t", 1, queue="kept", retention=keep).id for client in three]
    with three[0].take("kept", prefetch=3) as jobs:
        for job, client in zip(jobs, three, strict=False):
            client.report_success(job.id)
            if job.id == ids[-1]:
                break
    rows = servers.ask("SELECT purge_at - completed_at, completed_at FROM zizq.jobs WHERE queue = 'kept'")
    assert [row[0] for row in rows] == [2000] * 3
    assert all(abs(row[1] - servers.now_ms()) < MINUTE_MS / 2 for row in rows)
    wait(lambda: not servers.ask("SELECT id FROM zizq.jobs WHERE queue = 'kept'"), "the end of retention")


def check_ticks(servers: Fleet, three: list[SyncClient]) -> None:
    """Each tick of a cron fires once, by the time of the database."""
    began = servers.now_ms()
    with three[0].define_cron("ticks") as cron:
        for number in range(5):
            cron.entry(f"entry {number}", "* * * * * *", Enqueue(f"tick {number}", None, queue="ticks"))
    wait(lambda: servers.ask("SELECT count(*) FROM zizq.jobs WHERE queue = 'ticks'") >= [15], "three ticks")
    three[1].cron("ticks").delete()
    ticks = servers.ask("SELECT type, ready_at FROM zizq.jobs WHERE queue = 'ticks'")
    assert all(began <= at <= servers.now_ms() for _, at in ticks)
    assert max(Counter((kind, at // 1000) for kind, at in ticks).values()) == 1
