"""Three servers on one PostgreSQL, one of them in a network of its own, which is cut off from the database."""

from __future__ import annotations

from pathlib import Path

import pytest

from acceptance.fleet import cluster, fleet
from acceptance.network import Elsewhere, require_network
from acceptance.processes import wait
from zizq import Enqueue, NotFound
from zizq.testing.postgres import Cluster

pytestmark = pytest.mark.acceptance

HELD = "SELECT count(*) FROM zizq.flight WHERE fence = %s"


def test_jobs_of_a_server_that_is_cut_off_run_elsewhere_and_its_late_reports_are_refused(tmp_path: Path) -> None:
    require_network()
    with (
        Elsewhere() as there,
        cluster(
            prepare=lambda made: trust(made, there.far), settings={"listen_addresses": f"127.0.0.1,{there.near}"}
        ) as postgres,
        fleet(tmp_path, postgres.url().replace("127.0.0.1", there.near), postgres.url()) as servers,
    ):
        lonely = servers.serve("--host", there.far, program=there.program)
        [fence] = servers.fences()
        heir, third = servers.serve(), servers.serve()
        ids = {job.id for job in servers.client(third).enqueue_bulk([Enqueue("t", n, queue="q") for n in range(5)])}
        first = servers.work("first", lonely, "-c", "5", held=True, program=there.program)
        wait(lambda: servers.notes("start", "first").keys() == ids, "the first run of each job")
        second = servers.work("second", heir, "-c", "5", held=True)
        there.cut()
        # These reports wait for the database, and come when it can be reached again; or their server gives up.
        first.let_go()
        wait(lambda: servers.notes("start", "second").keys() == ids, "the second run of each job")
        there.heal()
        wait(lambda: "went to another worker" in first.log(), "the refusal of late reports")
        wait(lambda: len(servers.fences()) == 3 and fence not in servers.fences(), "a new lease")
        again = servers.client(lonely)
        assert set(again.report_success_bulk(sorted(ids))) == ids
        with pytest.raises(NotFound):
            again.report_failure(min(ids), "too late")
        # What the others hold is untouched by all of that.
        assert servers.ask("SELECT count(*) FROM zizq.flight") == [5]
        second.let_go()
        wait(servers.is_empty, "the end of each job")
        # And it takes jobs again.
        later = {job.id for job in again.enqueue_bulk([Enqueue("t", n, queue="q") for n in range(20)])}
        wait(lambda: later <= servers.notes("end").keys() and later & servers.notes("end", "first").keys())
        assert all(servers.runs()[job_id] == 2 for job_id in ids)


def trust(made: Cluster, address: str) -> None:
    with (made.folder / "data" / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {address}/24 trust\n")
