"""The model of what servers, workers and databases reach together."""

from __future__ import annotations

import pytest
from bench.scale_model import Cost, Database, Work, checked, end_to_end, enqueuing, plan, planned, rate

ENQUEUE = Cost(client=20, server=30, database=50, wal=600, commits=0.01)
REST = Cost(client=40, server=60, database=100, wal=400, commits=0.02)


def test_what_runs_out_first_bounds_the_rate() -> None:
    assert rate(Work(ENQUEUE, {"a thread": 20}), cores=2) == (20_000, "all cores")
    assert rate(Work(ENQUEUE, {"a thread": 80}), cores=2) == (12_500, "a thread")
    # Ten times the cores do not help what does one step at a time.
    assert rate(Work(ENQUEUE, {"a thread": 80}), cores=20) == (12_500, "a thread")


def test_a_second_server_shares_what_each_does_alone() -> None:
    # A commit of a hundred jobs waits for a disk that takes 20 ms: 200 us a job, and 50 of work.
    assert rate(enqueuing(ENQUEUE, 0.02, 1), cores=16) == (4_000, "the commits of each server")
    assert rate(enqueuing(ENQUEUE, 0.02, 2), cores=16) == (8_000, "the commits of each server")
    one, two = (rate(end_to_end(ENQUEUE, REST, 0, servers), cores=16) for servers in (1, 2))
    assert one == (pytest.approx(1e6 / 90), "each server")
    assert two == (pytest.approx(1e6 / 60), "each server")


def test_a_plan_has_as_many_databases_as_the_scarcer_of_cores_and_log_needs() -> None:
    cost = ENQUEUE + REST
    # 150 s of the database's time a second, and 1 GB of log.
    by_cores = plan(cost, 1_000_000, Database(cores=10, wal_bytes_s=1e9), busy=1.0)
    assert (by_cores.databases, by_cores.by, by_cores.servers, by_cores.client_cores) == (15, "its cores", 90, 60)
    by_log = plan(cost, 1_000_000, Database(cores=100, wal_bytes_s=1e8), busy=1.0)
    assert (by_log.databases, by_log.by, by_log.wal_bytes_s) == (10, "its log", 1e9)


def test_what_is_measured_stands_beside_what_is_predicted() -> None:
    points = {
        name: [{"rate": measured, "cores": 2.0, **vars(cost)}]
        for name, measured, cost in (
            ("bulk, 1 server", 10_000.0, ENQUEUE),
            ("bulk, 2 servers", 20_000.0, ENQUEUE),
            ("drain, 1 server", 10_000.0, REST),
            ("end to end, 1 server", 5_000.0, ENQUEUE + REST),
            ("end to end, 2 servers", 8_000.0, ENQUEUE + REST),
        )
    }
    rows = checked(points, sync_s=0)
    assert rows[0] == ["bulk, 1 server", "2.0", "10,000", "20,000", "+100%", "all cores"]
    assert rows[3] == ["end to end, 1 server", "2.0", "5,000", "6,667", "+33%", "all cores"]
    assert [row[1] for row in planned(points)] == ["14", "7", "4"]
