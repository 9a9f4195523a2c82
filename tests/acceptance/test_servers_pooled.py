"""Three servers whose PostgreSQL is behind PgBouncer in transaction mode: no session, and no notifications."""

from __future__ import annotations

from pathlib import Path

import pytest

from acceptance.fleet import cluster, fleet
from acceptance.processes import wait
from pooler import pooled
from zizq import Enqueue, NotFound, WhileInFlight

pytestmark = pytest.mark.acceptance


def test_everything_works_behind_a_pooler_in_transaction_mode(tmp_path: Path) -> None:
    with cluster() as postgres, pooled(postgres) as url, fleet(tmp_path, url, postgres.url()) as servers:
        three = [servers.serve() for _ in range(3)]
        a, b, c = map(servers.client, three)
        assert len(servers.fences()) == 3
        # A worker that waits hears nothing of it, and gets it all the same.
        with a.take("q", prefetch=1) as jobs:
            for number in range(10):
                sent = b.enqueue_raw("t", number, queue="q", priority=number)
                assert next(jobs).id == sent.id
                c.report_success(sent.id)
                with pytest.raises(NotFound):
                    a.report_success(sent.id)
        b.define_budget("slots", WhileInFlight(2))
        ids = [job.id for job in c.enqueue_bulk([Enqueue("t", n, queue="s", budgets="slots") for n in range(6)])]
        with a.take("s", prefetch=50) as some, b.take("s", prefetch=50) as others:
            # Two slots for all servers: what one gives back, whoever asks next gets.
            assert servers.ask("SELECT count(*) FROM zizq.flight") <= [2]
            for _ in ids:
                wait(lambda: servers.ask("SELECT id FROM zizq.flight"))
                held = servers.ask("SELECT id FROM zizq.flight")
                assert len(held) <= 2
                c.report_success(held[0])
            assert servers.is_empty()
            del some, others
        with a.define_cron("ticks") as cron:
            cron.entry("each second", "* * * * * *", Enqueue("tick", None, queue="ticks"))
        with b.take("ticks", prefetch=5) as ticks:
            fired = [next(ticks) for _ in range(2)]
        c.cron("ticks").delete()
        assert len({job.ready_at for job in fired}) == 2
        for number, server in enumerate(three):
            servers.work(f"worker {number}", server, "-c", "10")
        ids += [job.id for client in (a, b, c) for job in client.enqueue_bulk([Enqueue("t", n) for n in range(100)])]
        wait(servers.is_empty)
        assert set(ids[6:]) <= servers.notes("end").keys()
