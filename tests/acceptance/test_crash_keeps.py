"""What was set beside jobs survives a crash: unique keys, batches, budgets, crons, pauses."""

from __future__ import annotations

from pathlib import Path

import pytest

from acceptance.processes import ServerProcess, wait
from zizq import Enqueue, RawBatch, SyncClient, TimeBased, WhileInFlight

pytestmark = pytest.mark.acceptance

SUM = RawBatch(key="k", when="true", fold="$existing + $new")


def test_keys_batches_budgets_and_crons_survive_kill_9(tmp_path: Path, store: tuple[str, ...]) -> None:
    with ServerProcess(tmp_path, *store) as server:
        with SyncClient(server.url) as client:
            first = client.enqueue_raw("t", 1, queue="u", unique_key="one", unique_while="active")
            held = client.enqueue_raw("t", 1, queue="v", unique_key="two")
            waiting = client.enqueue_raw("t", [1], queue="b", batch=SUM)
            taken = client.enqueue_raw("t", [1], queue="c", batch=RawBatch(key="l", when="true", fold="$new"))
            client.define_budget("slots", WhileInFlight(1))
            client.define_budget("rate", TimeBased(2, per=3600))
            client.enqueue_bulk([Enqueue("t", n, queue="s", budgets="slots") for n in range(3)])
            client.enqueue_bulk([Enqueue("t", n, queue="r", budgets="rate") for n in range(5)])
            with client.define_cron("nightly", timezone="Europe/London", paused=True) as cron:
                cron.entry("report", "0 3 * * *", Enqueue("report", {"id": 1}))
            nightly = client.cron("nightly").get()
            with client.take(["v", "c", "s", "r"], prefetch=50) as jobs:
                got = [next(jobs) for _ in range(5)]
                # What is in flight and who waits is all in memory; the last of it is written with this.
                assert client.report_success(got[-1].id) is None
                server.kill()
        server.start()
        with SyncClient(server.url) as client:
            # Ready again, what the dead one held: at once where it was alone, else when its lease is over.
            wait(lambda: not client.jobs(status="in_flight").count())
            assert client.enqueue_raw("t", 2, queue="u", unique_key="one").id == first.id
            assert client.enqueue_raw("t", 2, queue="v", unique_key="two").id == held.id
            folded = client.enqueue_raw("t", [2], queue="b", batch=SUM)
            assert (folded.id, folded.folded) == (waiting.id, True)
            assert client.get_job(waiting.id).payload == [1, 2]
            new = client.enqueue_raw("t", [2], queue="c", batch=RawBatch(key="l", when="true", fold="$new"))
            assert (new.folded, new.id == taken.id) == (False, False)
            assert [budget.key for budget in client.budgets()] == ["rate", "slots"]
            assert client.cron("nightly").get() == nightly
            with client.take("s", prefetch=50) as jobs:
                next(jobs)
                assert client.jobs(queue="s", status="in_flight").count() == 1
            # Two of five went out in this hour, and a restart does not hand out two more.
            with client.take(["r", "end"], prefetch=50) as jobs:
                end = client.enqueue_raw("t", None, queue="end")
                assert next(jobs).id == end.id


def test_pauses_survive_kill_9(tmp_path: Path, store: tuple[str, ...]) -> None:
    with ServerProcess(tmp_path, *store) as server:
        with SyncClient(server.url) as client:
            client.enqueue_bulk([Enqueue("t", n, queue=queue) for queue in ("p", "r") for n in range(3)])
            paused_at = client.pause_queue("p").paused_at
            client.pause_queue("r")
            client.pause_queue("none")
            client.resume_queue("r")
            with client.take(prefetch=50) as jobs:
                assert [next(jobs).queue for _ in range(3)] == ["r"] * 3
                server.kill()
        server.start()
        with SyncClient(server.url) as client:
            assert {state.queue: state.paused for state in client.queue_states()} == {
                "none": True, "p": True, "r": False,
            }  # fmt: skip
            assert client.queue("p").paused_at == paused_at
            with client.take(prefetch=50) as jobs:
                # Those of the paused queue are older.
                assert [next(jobs).queue for _ in range(3)] == ["r"] * 3
                assert client.queue("p").counts.ready == 3
                client.resume_queue("p")
                assert [next(jobs).queue for _ in range(3)] == ["p"] * 3
