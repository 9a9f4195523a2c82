"""Routes: which handler gets a job, and what it is given."""

import asyncio
import contextvars
import functools
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from unit.worker.fakes import FakeClient, job, settle
from zizq.client.job import Job
from zizq.client.kinds import job_kind
from zizq.errors import Cancel, ConfigError, NoRouteError, PayloadDecodeError, RetryLater
from zizq.testing.clock import LoadedDice, ManualClock
from zizq.worker.failures import describe
from zizq.worker.hooks import Hooks, Outcome
from zizq.worker.route import Context, current_job
from zizq.worker.router import Router
from zizq.worker.worker import Worker


@job_kind("greet")
@dataclass
class Greet:
    name: str


async def finished(client, *jobs):
    (await client.opened()).push(*jobs)
    await client.until(lambda: len(client.acked) + len(client.failed) == len(jobs))


async def test_a_route_gets_its_kind_from_the_annotation():
    router, seen = Router(), []

    @router.route
    async def greet(job: Greet):
        seen.append(job)

    await router.handle(job("greet", {"name": "Ada"}))
    assert seen == [Greet("Ada")]


async def test_a_second_parameter_gets_the_context():
    router, seen = Router(state={"smtp": "here"}), []

    @router.route
    async def greet(job: Greet, ctx: Context):
        seen.append((ctx.job.type, ctx.attempt, ctx.state["smtp"]))

    await router.handle(job("greet", {"name": "Ada"}, attempts=2))
    assert seen == [("greet", 3, "here")]


async def test_a_route_by_name_gets_the_raw_job():
    router, seen = Router(), []

    @router.route("old.type")
    async def old(job):
        seen.append(job.payload)

    await router.handle(job("old.type", [1, 2]))
    assert seen == [[1, 2]]


async def test_a_route_with_a_kind_needs_no_annotation():
    router, seen = Router(), []

    @router.route(Greet, timeout=5)
    async def greet(job):
        seen.append(job.name)

    await router.handle(job("greet", {"name": "Ada"}))
    assert seen == ["Ada"]


async def test_a_type_without_a_route_is_an_error_unless_there_is_a_fallback():
    router, seen = Router(), []
    with pytest.raises(NoRouteError, match="'greet'"):
        await router.handle(job("greet"))

    @router.fallback
    async def other(job):
        seen.append(job.type)

    await router.handle(job("greet"))
    assert seen == ["greet"]


async def test_a_payload_that_does_not_fit_is_an_error():
    router = Router()

    @router.route
    async def greet(job: Greet):
        pass

    with pytest.raises(PayloadDecodeError, match="greet"):
        await router.handle(job("greet", {"nom": "Ada"}))


def test_a_second_route_for_a_type_is_an_error_unless_it_replaces():
    router = Router()
    router.route("a")(print)
    with pytest.raises(ConfigError, match="replace=True"):
        router.route("a")(print)
    router.route("a", replace=True)(print)
    router.fallback(print)
    with pytest.raises(ConfigError, match="fallback already"):
        router.fallback(print)


def _takes_job(job: Job): ...


def _takes_anything(job): ...


async def _waits(job): ...


def test_handlers_that_do_not_fit_are_refused_when_they_are_registered():
    router = Router()
    with pytest.raises(ConfigError, match="name its type"):
        router.route(_takes_job)
    with pytest.raises(ConfigError, match="annotate"):
        router.route(_takes_anything)
    with pytest.raises(ConfigError, match="executor='fibre'"):
        router.route("a", executor="fibre")(_takes_anything)
    with pytest.raises(ConfigError, match="async"):
        router.route("a", executor="thread")(_waits)
    with pytest.raises(ConfigError, match="top of a module"):
        router.route("a", executor="process")(lambda job: None)
    with pytest.raises(ConfigError, match="timeout=0"):
        router.route("a", timeout=0)(_waits)
    with pytest.raises(ConfigError, match="no handler"):
        Worker(FakeClient(), 3)


async def test_a_plain_function_runs_in_a_thread_and_an_async_one_on_the_loop():
    seen = {}
    router = Router()

    @router.route("plain")
    def plain(job):
        seen["plain"] = (threading.current_thread().name, current_job().type)

    @router.route("loop", executor="loop")
    def on_loop(job):
        seen["loop"] = (threading.current_thread().name, current_job().type)

    client = FakeClient()
    async with Worker(client, router):
        await finished(client, job("plain"), job("loop"))
    assert seen["plain"][0].startswith("zizq-handler")
    assert seen["plain"][1] == "plain"
    assert seen["loop"] == ("MainThread", "loop")


async def test_a_partial_of_an_async_function_and_a_lambda_that_returns_one_both_run():
    seen = []

    async def handle(mark, job):
        seen.append(mark)

    for handler in (functools.partial(handle, "partial"), lambda job: handle("lambda", job)):
        client = FakeClient()
        async with Worker(client, handler):
            await finished(client, job())
    assert seen == ["partial", "lambda"]


async def test_an_async_handler_over_its_timeout_is_cancelled_and_failed():
    router, ended = Router(), []

    @router.route("slow", timeout=0.001)
    async def slow(job):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(job.id)

    client = FakeClient()
    async with Worker(client, router):
        await finished(client, job("slow"))
    assert client.failed[0].error_type == "zizq.errors.HandlerTimeout"
    assert ended


async def test_a_timeout_of_the_handlers_own_is_its_own():
    router = Router()

    @router.route("slow", timeout=5)
    async def slow(job):
        raise TimeoutError("mine")

    client = FakeClient()
    async with Worker(client, router):
        await finished(client, job("slow"))
    assert (client.failed[0].error_type, client.failed[0].message) == ("TimeoutError", "mine")


async def test_a_thread_over_its_timeout_fails_at_once_and_keeps_its_slot():
    router, go = Router(), threading.Event()
    ran = []

    @router.route("slow", timeout=0.001)
    def slow(job):
        go.wait()

    @router.route("next")
    async def after(job):
        ran.append(job.id)

    client = FakeClient()
    async with Worker(client, router, concurrency=1, prefetch=2):
        (await client.opened()).push(job("slow"), job("next"))
        await client.until(lambda: client.failed)
        await settle()
        assert ran == []
        go.set()
        await client.until(lambda: client.acked)
    assert client.failed[0].error_type == "zizq.errors.HandlerTimeout"


async def test_a_thread_over_its_timeout_keeps_its_slot_though_middleware_makes_light_of_it():
    router, go = Router(), threading.Event()
    timeouts, both = [], asyncio.Event()

    @router.route("slow", timeout=0.001)
    def slow(job):
        go.wait()

    async def twice_and_never_mind(job, call_next):
        for _ in range(2):
            try:
                await call_next(job)
            except TimeoutError as exc:
                timeouts.append(exc)
        both.set()

    client = FakeClient()
    async with Worker(client, router, concurrency=1, prefetch=2, middleware=[twice_and_never_mind]):
        (await client.opened()).push(job("slow"))
        await both.wait()
        await settle()
        assert client.acked == []
        go.set()
        await client.until(lambda: client.acked)


async def test_what_a_handler_leaves_in_its_context_is_gone_for_the_next_job():
    mark, seen = contextvars.ContextVar("mark", default=None), []

    async def handler(job):
        seen.append(mark.get())
        mark.set(job.id)

    client = FakeClient()
    async with Worker(client, handler):
        await finished(client, job(), job(), job())
    assert seen == [None, None, None]


async def test_cancel_kills_and_retry_later_names_its_time():
    async def handler(job):
        if job.type == "no":
            raise Cancel("not worth it")
        raise RetryLater("busy", after=2.5)

    client = FakeClient()
    async with Worker(client, handler, clock=ManualClock(1_000_000), dice=LoadedDice()):
        await finished(client, job("no"), job("later"))
    no, later = client.failed
    assert (no.kill, no.message, no.retry_at) == (True, "not worth it", None)
    assert (later.kill, later.retry_at) == (False, datetime.fromtimestamp(1002.5, UTC))


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("mute")


def test_a_failure_always_has_a_message():
    clock = ManualClock()
    assert describe(ValueError(), clock).message == "ValueError"
    assert describe(Mute(), clock).message.endswith("Mute")
    assert len(describe(ValueError("x" * 200_000), clock).message) == 65_536


def test_a_retry_at_the_end_of_time_stays_a_date():
    at = describe(RetryLater(after=1e15), ManualClock()).retry_at
    assert datetime.fromtimestamp(at / 1000, UTC).year == 9999
    assert describe(RetryLater(at=datetime(1960, 1, 1, tzinfo=UTC)), ManualClock()).retry_at == 0


async def test_middleware_wraps_each_job_the_first_one_outermost():
    log = []

    def layer(name):
        async def around(job, call_next):
            log.append(f"{name} in")
            await call_next(job)
            log.append(f"{name} out")

        return around

    async def handler(job):
        log.append("job")

    client = FakeClient()
    async with Worker(client, handler, middleware=[layer("a"), layer("b")]):
        await finished(client, job())
    assert log == ["a in", "b in", "job", "b out", "a out"]


async def test_hooks_are_told_of_connections_jobs_and_acknowledgements():
    log = []

    async def handler(job):
        if job.type == "bad":
            raise ValueError("bad")

    hooks = Hooks(
        on_connect=lambda event: log.append(("connect", event.worker)),
        on_disconnect=lambda event: log.append(("disconnect", event.error)),
        on_job_start=lambda event: log.append(("start", event.job.type)),
        on_job_stop=lambda event: log.append((event.outcome, type(event.error).__name__)),
        on_ack=lambda event: log.append(("ack", len(event.ids))),
    )
    client = FakeClient()
    async with Worker(client, handler, hooks=hooks, worker_id="w"):
        await finished(client, job(), job("bad"))
    assert log[0] == ("connect", "w")
    assert log[-1] == ("disconnect", None)
    assert {("start", "greet"), (Outcome.SUCCESS, "NoneType"), (Outcome.FAILURE, "ValueError"), ("ack", 1)} <= set(log)


async def test_a_hook_that_is_not_set_costs_nothing(monkeypatch):
    for event in ("JobStarted", "JobStopped"):
        monkeypatch.setattr(f"zizq.worker.slots.{event}", None)
    monkeypatch.setattr("zizq.worker.sender.Acked", None)
    connected = []
    client = FakeClient()
    async with Worker(client, _waits, hooks=Hooks(on_connect=connected.append)):
        await finished(client, job())
    assert client.acked
    assert len(connected) == 1


async def test_a_hook_that_raises_changes_nothing(caplog):
    client = FakeClient()
    async with Worker(client, _waits, hooks=Hooks(on_job_start=lambda event: 1 / 0)):
        await finished(client, job())
    assert client.acked
    assert "a worker hook raised" in caplog.text


def test_current_job_has_no_answer_outside_a_handler():
    with pytest.raises(LookupError, match="inside the handler"):
        current_job()


@pytest.mark.parametrize(("given", "seconds"), [(2, 2.0), (timedelta(milliseconds=1500), 1.5), (None, None)])
def test_a_timeout_is_a_timedelta_or_seconds(given: timedelta | float | None, seconds: float | None) -> None:
    router = Router()

    @router.route("t", timeout=given)
    async def handler(job: object) -> None: ...

    assert router.find("t").timeout == seconds
