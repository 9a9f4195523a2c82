"""What the server tells of itself, as JSON on the admin port."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from wire.grants import Grants, bearer
from wire.stores import on_postgres, running_server
from wire.talk import Http1
from zizq.testing.clock import LoadedDice, ManualClock
from zizq.wire import insight
from zizq.wire.operations import Scope

NOW = 1_790_000_000_000


class Seen:
    """A server, and connections to both of its APIs."""

    def __init__(self, app, clock, api, admin, url):
        self.app, self.clock, self.api, self.admin, self.url = app, clock, api, admin, url

    async def post(self, target, body):
        reply = await self.api.ask("POST", target, msgspec.json.encode(body), content_type="application/json")
        assert reply.status < 300, reply.body
        return reply

    async def enqueue(self, queue="q", **fields):
        return (await self.post("/jobs", {"queue": queue, "type": "t", "payload": None} | fields)).value["id"]

    async def look(self, name, kind, **headers):
        """An answer, after a look at the store."""
        await self.app.insights.sample()
        reply = await self.admin.ask("GET", f"/insight/{name}", **headers)
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        return msgspec.json.decode(reply.body, type=kind)


async def connect(url):
    host, _, port = url.partition("//")[2].partition(":")
    return Http1(*await asyncio.open_connection(host, int(port)))


@asynccontextmanager
async def seen(now=NOW, **settings):
    clock = ManualClock(now)
    async with running_server(no_admin=False, clock=clock, dice=LoadedDice(), **settings) as server:
        await server.app.insights.begun.wait()
        api, admin = await connect(server.url), await connect(server.admin_url)
        try:
            yield Seen(server.app, clock, api, admin, server.url)
        finally:
            api.hang_up()
            admin.hang_up()


async def test_an_overview_of_nothing():
    async with seen() as server:
        overview = await server.look("overview", insight.Overview)
        assert overview.counts == insight.Counts()
        assert overview.flow == insight.Flow()
        assert (overview.queues, overview.streams, overview.oldest_ready_ms, overview.trouble) == (0, 0, None, None)


async def test_what_goes_through_is_counted(place):
    async with seen(**place) as server:
        await server.app.insights.sample()
        ids = [await server.enqueue(queue, retry_limit=0) for queue in "aab"]
        server.clock.advance(1000)
        stream_jobs = await server.app.broker.take(server.app.broker.open_stream(["a"], 5), 5)
        assert [job.id for job in stream_jobs] == ids[:2]
        server.clock.advance(100)
        await server.post(f"/jobs/{ids[0]}/success", {})
        await server.post(f"/jobs/{ids[1]}/failure", {"message": "boom 17"})
        overview = await server.look("overview", insight.Overview)
        assert overview.counts == insight.Counts(ready=1, dead=1)
        assert (overview.queues, overview.streams, overview.oldest_ready_ms) == (2, 1, 1100)
        flow = overview.flow
        assert (flow.enqueued_per_s, flow.completed_per_s, flow.failed_per_s) == (
            pytest.approx(3 / 1.1, abs=0.01), pytest.approx(1 / 1.1, abs=0.01), pytest.approx(1 / 1.1, abs=0.01),
        )  # fmt: skip
        assert 512 <= flow.wait_p50_ms <= 1024
        assert 64 <= flow.run_p95_ms <= 128
        a, b = await server.look("queues", list[insight.QueueInsight])
        assert (a.queue, a.counts, a.oldest_ready_ms) == ("a", insight.Counts(dead=1), None)
        assert (b.queue, b.counts, b.oldest_ready_ms) == ("b", insight.Counts(ready=1), 1100)
        assert a.flow.completed_per_s == flow.completed_per_s
        assert b.flow.completed_per_s == 0


async def test_queues_are_told_of_with_their_pauses(place):
    async with seen(**place) as server:
        await server.enqueue(queue="b")
        for queue in ("a", "b", "c"):
            await server.api.ask("PUT", f"/queues/{queue}/pause")
        await server.api.ask("DELETE", "/queues/c/pause")
        found = await server.look("queues", list[insight.QueueInsight])
        assert [(one.queue, one.paused, one.counts.ready) for one in found] == [("a", True, 0), ("b", True, 1)]


async def test_a_glance_is_one_look_at_the_store(place, monkeypatch):
    async with seen(**place) as server:
        insights, looks = server.app.insights, []
        tally = insights._store.tally

        async def counted(now):
            looks.append(now)
            # Something else moves meanwhile, so that a second question would look again.
            insights.recorder.news += 1
            return await tally(now)

        # Not the look of each second, which would be counted as well.
        monkeypatch.setattr(insights, "_look_again_s", float("inf"))
        monkeypatch.setattr(insights._store, "tally", counted)
        await server.enqueue()
        overview, [queue] = await insights.glance()
        assert (overview.counts, queue.counts, len(looks)) == (insight.Counts(ready=1), insight.Counts(ready=1), 1)


async def test_streams_are_told_of_with_what_they_hold(place):
    async with seen(**place) as server:
        ids = [await server.enqueue() for _ in range(2)]
        api = await connect(server.url)
        stream = await api.stream("/jobs/take?queue=q,r&prefetch=3&concurrency=2", worker_id="host-1")
        await stream.until(ids[1].encode())
        [worker] = await server.look("workers", list[insight.WorkerInsight])
        assert (worker.worker_id, worker.peer, worker.queues) == ("host-1", "127.0.0.1", ["q", "r"])
        assert (worker.prefetch, worker.concurrency, worker.opened_at, worker.held) == (3, 2, NOW, 2)
        assert worker.jobs == [insight.RunningJob(id=one, type="t", queue="q", dequeued_at=NOW) for one in ids]
        api.hang_up()


async def test_a_job_is_told_of_in_full(place):
    async with seen(**place) as server:
        job_id = await server.enqueue(payload={"to": ["ada", 1.5, None]}, retry_limit=0)
        await server.app.broker.take(server.app.broker.open_stream([], 5), 5)
        await server.post(f"/jobs/{job_id}/failure", {"message": "boom", "backtrace": "x" * 10_000})
        job = await server.look(f"job?id={job_id}", insight.JobInsight)
        assert msgspec.json.decode(job.payload) == {"to": ["ada", 1.5, None]}
        [error] = job.errors
        assert (job.id, error.attempt, error.message, len(error.backtrace)) == (job_id, 1, "boom", 8192)


async def test_a_payload_that_is_too_large_is_told_of_by_its_size():
    async with seen() as server:
        job_id = await server.enqueue(payload="x" * 65_536)
        job = await server.look(f"job?id={job_id}", insight.JobInsight)
        assert (job.payload, job.payload_size, job.errors) == (msgspec.UNSET, 65_541, [])


@pytest.mark.parametrize("query", ["", "?id=", "?id=03fvmaj8q5po1huy5nd4xmi5f", "?id=%00", "?other=1"])
async def test_a_job_that_is_not_there_is_not_told_of(query):
    async with seen() as server:
        assert (await server.admin.ask("GET", f"/insight/job{query}")).status == 404


async def test_failures_that_look_alike_are_together(place):
    async with seen(**place) as server:
        ids = [await server.enqueue(retry_limit=limit) for limit in (5, 0, 0)]
        await server.app.broker.take(server.app.broker.open_stream([], 5), 5)
        for n, job_id in enumerate(ids[:2]):
            body = {"message": f"no route to 10.0.0.{n}\nmore", "error_type": "OSError"}
            await server.post(f"/jobs/{job_id}/failure", body)
        await server.post(f"/jobs/{ids[2]}/failure", {"message": "other"})
        other, route = await server.look("failures", list[insight.FailureInsight])
        assert (route.type, route.error_type, route.message, route.count, route.dead) == (
            "t", "OSError", "no route to 10.0.0.1", 2, 1,
        )  # fmt: skip
        assert route.ids == [ids[1], ids[0]]
        assert (other.message, other.count, other.first_at, other.last_at) == ("other", 1, NOW, NOW)


async def test_the_failures_of_dead_jobs_are_known_after_a_restart(tmp_path):
    async with seen(root_dir=tmp_path) as server:
        job_id = await server.enqueue(retry_limit=0)
        await server.app.broker.take(server.app.broker.open_stream([], 5), 5)
        await server.post(f"/jobs/{job_id}/failure", {"message": "boom"})
    clock = ManualClock(NOW + 1000)
    async with running_server(no_admin=False, clock=clock, root_dir=tmp_path) as server:
        await server.app.insights.begun.wait()
        groups = await server.app.insights.failures()
        assert [(group.message, group.dead, group.ids) for group in groups] == [("boom", 1, [job_id])]


@pytest.mark.embedded_only("the history is a file of the server, and one on a database has none")
async def test_the_history_outlasts_a_restart(tmp_path):
    async with seen(root_dir=tmp_path) as server:
        await server.enqueue()
        await server.look("overview", insight.Overview)
        [point] = await server.look("history", list[insight.Point])
        assert (point.at, point.enqueued, point.counts) == (NOW // 60_000 * 60_000, 1, insight.Counts(ready=1))
        seconds = await server.look("history?step=second", list[insight.Point])
        assert [point.at for point in seconds] == [NOW]
    async with seen(NOW + 1000, root_dir=tmp_path) as server:
        await server.enqueue()
        [point] = await server.look("history?step=minute", list[insight.Point])
        assert (point.enqueued, point.counts) == (2, insight.Counts(ready=2))


async def test_an_unknown_step_of_the_history_is_refused():
    async with seen() as server:
        reply = await server.admin.ask("GET", "/insight/history?step=hour")
        assert (reply.status, reply.body) == (400, b"step is either second or minute")


async def test_the_storage_is_measured(tmp_path):
    async with seen(root_dir=tmp_path) as server:
        await server.enqueue()
        storage = await server.look("storage", insight.StorageInsight)
        assert storage.size > 0
        assert storage.log_size > 0 or on_postgres()
        assert storage.commits >= 1
        assert storage.commit_p50_ms is not None
        assert storage.commit_p99_ms >= storage.commit_p50_ms > 0
        assert storage.fsync_p99_ms is not None


async def test_crons_and_budgets_are_told_of(place):
    async with seen(**place) as server:
        entry = {"name": "e", "expression": "0 0 * * *", "job": {"type": "t", "queue": "q", "payload": None}}
        body = msgspec.json.encode({"timezone": "UTC", "entries": [entry]})
        reply = await server.api.ask("PUT", "/crons/g", body, content_type="application/json")
        assert reply.status == 200, reply.body
        budget = {"allocation": 5, "strategy": {"type": "time_based", "duration_ms": 1000}}
        await server.api.ask("PUT", "/budgets/b", msgspec.json.encode(budget), content_type="application/json")
        [cron] = await server.look("crons", list[insight.CronInsight])
        assert (cron.group, cron.entry, cron.expression, cron.timezone, cron.queue, cron.paused) == (
            "g", "e", "0 0 * * *", "UTC", "q", False,
        )  # fmt: skip
        assert cron.next_at > NOW
        assert await server.look("budgets", list[insight.BudgetInsight]) == [
            insight.BudgetInsight(key="b", strategy="time_based", allocation=5, period_ms=1000, capacity=5, available=5)
        ]


async def test_whoever_may_read_may_look_and_do_no_more(tmp_path):
    grants = Grants(tmp_path)
    reader, worker, limited = (
        grants.token(Scope.READ), grants.token(Scope.WORK), grants.token(Scope.READ, queues=("q",)),
    )  # fmt: skip
    async with seen(root_dir=tmp_path / "root", auth="tokens", token_file=grants.path) as server:
        await server.look("overview", insight.Overview, authorization=bearer(reader))
        for token, method, target in (
            (worker, "GET", "/insight/overview"), (limited, "GET", "/insight/overview"), (reader, "POST", "/compact"),
        ):  # fmt: skip
            assert (await server.admin.ask(method, target, authorization=bearer(token))).status == 403
        assert (await server.admin.ask("GET", "/insight/overview")).status == 401


# ── metrics ──


async def metrics_of(server):
    """The samples that Prometheus sees."""
    await server.app.insights.sample()
    reply = await server.admin.ask("GET", "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


async def test_metrics_tell_of_jobs(place):
    async with seen(**place) as server:
        ids = [await server.enqueue("a", retry_limit=limit) for limit in (0, 1, 1, 0)]
        server.clock.advance(3000)
        await server.app.broker.take(server.app.broker.open_stream(["a"], 3), 3)
        server.clock.advance(100)
        await server.post(f"/jobs/{ids[0]}/failure", {"message": "m"})
        await server.post(f"/jobs/{ids[1]}/failure", {"message": "m"})
        await server.post(f"/jobs/{ids[2]}/success", {})
        found = await metrics_of(server)
        queue = ("queue", "a")
        assert found["zizq_jobs_enqueued_total", queue] == 4
        for outcome in ("completed", "retried", "dead"):
            assert found["zizq_jobs_finished_total", ("outcome", outcome), queue] == 1
        for status, count in (("ready", 1), ("scheduled", 1), ("dead", 1), ("in_flight", 0), ("completed", 0)):
            assert found["zizq_jobs", queue, ("status", status)] == count
        assert found["zizq_oldest_ready_age_seconds", queue] == 3.1
        assert found["zizq_job_wait_seconds_bucket", ("le", "2.048"), queue] == 0
        assert found["zizq_job_wait_seconds_bucket", ("le", "4.096"), queue] == 3
        assert found["zizq_job_wait_seconds_bucket", ("le", "+Inf"), queue] == 3
        assert (found["zizq_job_wait_seconds_count", queue], found["zizq_job_wait_seconds_sum", queue]) == (3, 9)
        assert found["zizq_job_run_seconds_count", queue] == 3
        assert found["zizq_job_run_seconds_sum", queue] == pytest.approx(0.3)
        assert found["zizq_take_streams",] == 1


async def test_metrics_tell_of_the_server_and_its_store(tmp_path):
    async with seen(root_dir=tmp_path) as server:
        await server.enqueue()
        await server.api.ask("GET", "/nothing")
        await server.api.ask("PROPFIND", "/jobs")
        server.clock.advance(1500)
        found = await metrics_of(server)
        assert found["zizq_commits_total",] >= 1
        assert found["zizq_commit_calls_total",] >= 1
        assert found["zizq_commit_seconds_count",] == found["zizq_commits_total",]
        assert found["zizq_commit_seconds_bucket", ("le", "+Inf")] == found["zizq_commits_total",]
        assert found["zizq_fsync_seconds_count",] >= 1
        assert found["zizq_store_bytes", ("file", "database")] > 0
        assert found["zizq_store_bytes", ("file", "log")] > 0 or on_postgres()
        assert found["zizq_store_bytes", ("file", "free")] >= 0
        assert found["zizq_writes_refused",] == 0
        assert found["zizq_uptime_seconds",] == 1.5
        assert found["zizq_build_info", ("version", server.app.insights.version)] == 1
        assert found["zizq_requests_total", ("method", "POST"), ("status", "2xx")] == 1
        assert found["zizq_requests_total", ("method", "GET"), ("status", "4xx")] == 1
        assert found["zizq_requests_total", ("method", "OTHER"), ("status", "4xx")] == 1
        assert found["process_resident_memory_bytes",] > 0
        # A store in a folder has no inbox.
        assert (("zizq_inbox_posts",) in found) == on_postgres()


async def test_metrics_count_who_was_refused(tmp_path):
    grants = Grants(tmp_path)
    reader = grants.token(Scope.READ)
    async with seen(root_dir=tmp_path / "root", auth="tokens", token_file=grants.path) as server:
        assert (await server.admin.ask("GET", "/metrics")).status == 401
        reply = await server.admin.ask("GET", "/metrics", authorization=bearer(reader))
        assert b'zizq_refused_total{reason="missing"} 1.0' in reply.body


async def test_metrics_have_so_many_queues_and_no_more():
    async with seen() as server:
        for number in range(205):
            await server.enqueue(f"q{number}")
        found = await metrics_of(server)
        assert len([name for name, *_ in found if name == "zizq_jobs_enqueued_total"]) == 201
        assert found["zizq_jobs_enqueued_total", ("queue", "(other)")] == 5
        assert found["zizq_jobs", ("queue", "(other)"), ("status", "ready")] == 5
