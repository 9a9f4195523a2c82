"""Three servers on a PostgreSQL with a synchronous standby, which takes its place when it dies."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from acceptance.fleet import Enqueuer, cluster, fleet
from acceptance.processes import wait
from zizq.errors import ServerError

pytestmark = pytest.mark.acceptance


def test_a_standby_takes_over_and_nothing_answered_is_lost(tmp_path: Path) -> None:
    with cluster() as primary, cluster(copy_of=primary) as standby:
        primary.psql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.psql("SELECT pg_reload_conf()")
        wait(lambda: primary.psql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1")
        url = f"postgresql://zizq@127.0.0.1:{standby.port},127.0.0.1:{primary.port}/postgres"
        with fleet(tmp_path, url, standby.url()) as servers:
            three = [servers.serve() for _ in range(3)]
            clients = [servers.client(server) for server in three]
            for number, server in enumerate(three):
                servers.work(f"worker {number}", server, "-c", "10")
            with Enqueuer(clients, "q") as enqueuer:
                enqueuer.goes_on()
                primary.stop(signal.SIGKILL)
                # There is a database, but it cannot write.
                with pytest.raises(ServerError) as refusal:
                    clients[0].enqueue_raw("t", 1, queue="q")
                assert refusal.value.status == 503
                standby.promote()
                enqueuer.goes_on()
            wait(lambda: set(enqueuer.answered) <= servers.notes("end").keys(), "the run of every job")
            wait(servers.is_empty, "the end of every job")
            wait(lambda: len(servers.fences()) == 3, "the return of every server")
