"""Enqueues of callers that wait at the same time go out together, and each caller has its own answer."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import msgspec
import pytest

import zizq
from unit.client.fakes import JOB, FakeStream, answer
from zizq.client import joining
from zizq.client.call import Request, Response
from zizq.client.joining import MOST, MOST_BYTES, UNDER_WAY, Joining, joined, split
from zizq.wire.codec import Format, encode


class Held:
    """A network that answers when the test says so, and only then."""

    def __init__(self) -> None:
        self.sent: list[Request] = []
        self.streamed: list[Request] = []
        self.is_closed = False
        self._open: list[asyncio.Future[Response]] = []

    async def send(self, request: Request) -> Response:
        self.sent.append(request)
        self._open.append(asyncio.get_running_loop().create_future())
        return await self._open[-1]

    async def open_stream(self, request: Request) -> FakeStream:
        self.streamed.append(request)
        return FakeStream([])

    async def close(self) -> None:
        self.is_closed = True

    @property
    def under_way(self) -> int:
        """How many requests are not answered."""
        return sum(not one.done() for one in self._open)

    async def reply(self, number: int, outcome: Response | BaseException | None = None) -> None:
        """Answer a request, by default with the jobs that it enqueues."""
        done = jobs_of(self.sent[number]) if outcome is None else outcome
        if isinstance(done, BaseException):
            self._open[number].set_exception(done)
        else:
            self._open[number].set_result(done)
        await settle()


class Callers:
    """Callers of one client; each enqueues a job with a number in it."""

    def __init__(self, form: Format) -> None:
        self.network = Held()
        self.form = form
        self.client = zizq.Client(format=form.name.lower(), transport=Joining(self.network))  # type: ignore[arg-type]
        self.tasks: list[asyncio.Task[zizq.Job]] = []

    async def enqueue(self, *payloads: object, **options: Any) -> None:
        """Have callers of their own enqueue payloads."""
        for payload in payloads:
            self.tasks.append(asyncio.create_task(self.client.enqueue_raw("t", payload, **options)))
        await settle()

    async def wait(self, count: int) -> None:
        """Have callers wait, behind as many requests as there may be."""
        await self.enqueue(*range(UNDER_WAY), *range(100, 100 + count))

    def outcome(self, number: int) -> object:
        """What a caller was told: the type of its job, or the text of its error."""
        task = self.tasks[number]
        if not task.done():
            return None
        error = task.exception()
        return str(error) if error else task.result().type


async def settle() -> None:
    """Let all that can happen now happen."""
    for _ in range(20):
        await asyncio.sleep(0)


def payloads_of(request: Request) -> list[Any]:
    """What a request enqueues."""
    assert request.body is not None
    decode = msgspec.msgpack.decode if "msgpack" in request.headers["content-type"] else msgspec.json.decode
    body = decode(request.body)
    return [job["payload"] for job in body["jobs"]] if request.path == "/jobs/bulk" else [body["payload"]]


def jobs_of(request: Request) -> Response:
    """The answer to a request: the type of each job says what was in it."""
    form = Format(request.headers["content-type"])
    jobs = [JOB | {"type": f"job {payload}"} for payload in payloads_of(request)]
    return answer({"jobs": jobs} if request.path == "/jobs/bulk" else jobs[0], 201, form)


@pytest.fixture(params=Format, ids=lambda form: form.name)
def callers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callers:
    monkeypatch.setattr(joining, "PATIENCE_S", 3600)
    return Callers(request.param)


# ── who waits, and who goes together ──


async def test_who_is_alone_is_sent_at_once_and_as_ever(callers: Callers) -> None:
    for number in range(3):
        await callers.enqueue(number)
        await callers.network.reply(number)
    assert [request.path for request in callers.network.sent] == ["/jobs"] * 3
    assert [callers.outcome(number) for number in range(3)] == ["job 0", "job 1", "job 2"]


async def test_those_who_wait_go_together_once_one_is_answered(callers: Callers) -> None:
    await callers.wait(5)
    assert [payloads_of(request) for request in callers.network.sent] == [[0], [1]]
    await callers.network.reply(1)
    together = callers.network.sent[2]
    assert (together.method, together.path, payloads_of(together)) == ("POST", "/jobs/bulk", [100, 101, 102])
    await callers.network.reply(2)
    assert [callers.outcome(number) for number in range(5)] == [None, "job 1", "job 100", "job 101", "job 102"]
    await callers.network.reply(0)
    await callers.network.reply(3)
    assert [callers.outcome(number) for number in (0, 5, 6)] == ["job 0", "job 103", "job 104"]
    assert callers.network.under_way == 0


async def test_each_request_has_its_share_of_the_callers(callers: Callers) -> None:
    await callers.wait(62)
    await callers.network.reply(0)
    await callers.network.reply(1)
    assert [len(payloads_of(request)) for request in callers.network.sent[2:]] == [32, 30]
    # Those who are answered enqueue again, and wait for the others.
    await callers.network.reply(2)
    await callers.enqueue(*range(32))
    await callers.network.reply(3)
    assert [len(payloads_of(request)) for request in callers.network.sent[4:]] == [1, 16]


async def test_one_that_waits_alone_is_sent_as_ever(callers: Callers) -> None:
    await callers.wait(1)
    await callers.network.reply(0)
    assert [request.path for request in callers.network.sent] == ["/jobs"] * 3
    await callers.network.reply(2)
    assert callers.outcome(2) == "job 100"


async def test_there_is_always_as_much_under_way_as_may_be(callers: Callers) -> None:
    await callers.wait(1)
    await callers.network.reply(0)
    await callers.enqueue(7, 8)
    await callers.network.reply(2)
    assert (callers.network.under_way, payloads_of(callers.network.sent[3])) == (2, [7, 8])
    await callers.network.reply(1)
    await callers.network.reply(3)
    await callers.enqueue(9, 10, 11)
    assert (callers.network.under_way, len(callers.network.sent)) == (2, 6)


async def test_no_more_go_together_than_may_and_none_waits_for_ever_behind_a_slow_one(callers: Callers) -> None:
    await callers.wait(2 * MOST + 1)
    assert [len(payloads_of(request)) for request in callers.network.sent] == [1, 1, MOST, MOST]
    await callers.network.reply(3)
    assert [payloads_of(request) for request in callers.network.sent[4:]] == [[100 + 2 * MOST]]


async def test_a_request_has_no_more_bytes_than_it_may(callers: Callers) -> None:
    half = "x" * (MOST_BYTES // 2 - 100)
    await callers.enqueue(0, 1, half, half, half)
    await callers.network.reply(0)
    assert [len(payloads_of(request)) for request in callers.network.sent] == [1, 1, 2]
    await callers.network.reply(1)
    assert payloads_of(callers.network.sent[3]) == [half]


async def test_a_large_job_waits_for_nobody_and_nobody_for_it(callers: Callers) -> None:
    large = "x" * (MOST_BYTES + 1)
    await callers.enqueue(large, large, large, 3)
    assert [payloads_of(request) for request in callers.network.sent] == [[large], [large], [large], [3]]


@pytest.mark.parametrize(
    "options", [{"batch": zizq.RawBatch(when="true", fold="$existing", key="k")}, {"budgets": "b"}]
)
async def test_what_would_be_another_matter_among_others_goes_by_itself(callers: Callers, options: Any) -> None:
    await callers.wait(0)
    await callers.enqueue(2, 3, **options)
    assert [payloads_of(request) for request in callers.network.sent] == [[0], [1], [2], [3]]


async def test_who_has_waited_for_long_goes_beside_those_under_way(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await callers.wait(0)
    monkeypatch.setattr(joining, "PATIENCE_S", 0)
    await callers.enqueue(2, 3)
    assert [payloads_of(request) for request in callers.network.sent] == [[0], [1], [2, 3]]
    await callers.network.reply(2)
    assert [callers.outcome(number) for number in range(4)] == [None, None, "job 2", "job 3"]
    await callers.network.reply(0)
    await callers.network.reply(1)
    await callers.enqueue(4, 5, 6)
    assert [payloads_of(request) for request in callers.network.sent[3:]] == [[4], [5], [6]]


async def test_those_that_do_not_fit_a_request_have_not_to_wait_for_its_answer(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = "x" * (MOST_BYTES // 2 - 100)
    await callers.enqueue(0, 1, half, half, half)
    monkeypatch.setattr(joining, "PATIENCE_S", 0)
    await callers.network.reply(0)
    assert [len(payloads_of(request)) for request in callers.network.sent] == [1, 1, 2, 1]


async def test_a_client_that_is_closed_sends_what_waits(callers: Callers) -> None:
    half = "x" * (MOST_BYTES // 2 - 100)
    await callers.enqueue(0, 1, half, half, half)
    await callers.client.close()
    assert [len(payloads_of(request)) for request in callers.network.sent] == [1, 1, 2, 1]
    assert callers.network.is_closed
    await callers.network.reply(2)
    assert callers.outcome(3) == f"job {half}"


async def test_options_travel_with_their_job(callers: Callers) -> None:
    await callers.wait(0)
    await callers.enqueue(2, queue="emails", unique_key="k", priority=5)
    await callers.enqueue(3, metadata={"a": "b"})
    await callers.network.reply(0)
    body = callers.network.sent[2].body
    assert body is not None
    one, other = (msgspec.json if callers.form is Format.JSON else msgspec.msgpack).decode(body)["jobs"]
    assert (one["queue"], one["unique_key"], one["priority"]) == ("emails", "k", 5)
    assert (other["queue"], other["metadata"]) == ("default", {"a": "b"})


async def test_other_calls_do_not_wait(callers: Callers) -> None:
    await callers.wait(1)
    asked = asyncio.create_task(callers.client.enqueue_bulk([zizq.Enqueue("t", 1)]))
    await settle()
    assert callers.network.sent[-1].path == "/jobs/bulk"
    asked.cancel()
    stream = await Joining(callers.network).open_stream(Request("GET", "/jobs/take", {}))
    assert isinstance(stream, FakeStream)
    await callers.client.close()
    assert callers.network.is_closed


# ── what goes wrong ──


@pytest.mark.parametrize("status", sorted(joining._ABOUT_ONE))
async def test_where_all_are_refused_for_the_sake_of_one_each_hears_its_own(callers: Callers, status: int) -> None:
    await callers.wait(5)
    await callers.network.reply(0)
    await callers.network.reply(2, answer({"error": "jobs[1]: no"}, status, callers.form))
    for number, outcome in ((3, None), (4, answer({"error": "no"}, status, callers.form)), (5, None)):
        assert payloads_of(callers.network.sent[number]) == [97 + number]
        await callers.network.reply(number, outcome)
    assert [callers.outcome(number) for number in (2, 3, 4)] == ["job 100", f"{status}: no", "job 102"]


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_a_refusal_that_is_about_all_is_told_to_all(callers: Callers, status: int) -> None:
    await callers.wait(2)
    await callers.network.reply(0)
    refused = Response(status, callers.form.value, encode({"error": "busy"}, callers.form), 2.0)
    await callers.network.reply(2, refused)
    assert len(callers.network.sent) == 3
    assert [callers.outcome(number) for number in (2, 3)] == [f"{status}: busy"] * 2
    error = callers.tasks[2].exception()
    assert isinstance(error, zizq.ResponseError)
    assert error.retry_after == 2.0


async def test_where_no_answer_comes_all_are_told_and_others_go_on(callers: Callers) -> None:
    await callers.wait(2)
    await callers.network.reply(0)
    await callers.enqueue(7)
    await callers.network.reply(2, zizq.TransportError("gone"))
    assert [callers.outcome(number) for number in (2, 3)] == ["gone"] * 2
    # With a traceback of its own.
    assert callers.tasks[2].exception() is not callers.tasks[3].exception()
    await callers.network.reply(3)
    assert callers.outcome(4) == "job 7"


@pytest.mark.parametrize(
    ("body", "text"),
    [({"jobs": [JOB]}, "1 jobs for 2 that were"), ({"no": 1}, "cannot be read")],
)
async def test_an_answer_that_says_too_little_is_an_error_of_all(callers: Callers, body: object, text: str) -> None:
    await callers.wait(2)
    await callers.network.reply(0)
    await callers.network.reply(2, answer(body, 201, callers.form))
    assert all(text in str(callers.outcome(number)) for number in (2, 3))


async def test_who_gives_up_is_not_sent_or_not_told(callers: Callers) -> None:
    await callers.wait(3)
    callers.tasks[3].cancel()
    await settle()
    await callers.network.reply(0)
    assert payloads_of(callers.network.sent[2]) == [100, 102]
    callers.tasks[2].cancel()
    await settle()
    await callers.network.reply(2)
    assert callers.outcome(4) == "job 102"


async def test_those_who_gave_up_do_not_fill_a_request(callers: Callers) -> None:
    await callers.wait(0)
    await callers.enqueue(*["x" * (MOST_BYTES // 2)] * 4)
    await callers.enqueue(7)
    for task in callers.tasks[2:6]:
        task.cancel()
    await settle()
    await callers.network.reply(0)
    assert payloads_of(callers.network.sent[2]) == [7]


async def test_who_gives_up_after_a_refusal_of_all_is_not_sent_again(callers: Callers) -> None:
    await callers.wait(5)
    await callers.network.reply(0)
    await callers.network.reply(2, answer({"error": "jobs[1]: no"}, 400, callers.form))
    callers.tasks[3].cancel()
    await settle()
    await callers.network.reply(3)
    assert payloads_of(callers.network.sent[4]) == [102]


async def test_who_gave_up_does_not_keep_the_error_from_others(callers: Callers) -> None:
    await callers.wait(5)
    await callers.network.reply(0)
    callers.tasks[2].cancel()
    await settle()
    await callers.network.reply(2, zizq.TransportError("gone"))
    assert [callers.outcome(number) for number in (3, 4)] == ["gone"] * 2
    await callers.network.reply(3)
    await callers.network.reply(1)
    assert callers.network.under_way == 0


async def test_who_gives_up_on_a_request_of_its_own_makes_room(callers: Callers) -> None:
    await callers.wait(2)
    callers.tasks[0].cancel()
    await settle()
    assert payloads_of(callers.network.sent[2]) == [100, 101]


async def test_at_the_end_of_the_program_nobody_is_left_waiting(callers: Callers) -> None:
    await callers.wait(2)
    await callers.network.reply(0)
    [task] = [one for one in asyncio.all_tasks() if "_serve" in repr(one)]
    task.cancel()
    await settle()
    assert [callers.tasks[number].cancelled() for number in (2, 3)] == [True, True]


def test_an_event_loop_that_is_closed_under_its_callers_sends_no_more() -> None:
    loop, callers = asyncio.new_event_loop(), Callers(Format.MSGPACK)
    # Of tasks that are collected while they wait it would tell.
    loop.set_exception_handler(lambda loop, context: None)
    loop.run_until_complete(callers.wait(2))
    loop.close()
    callers.tasks.clear()
    gc.collect()
    assert len(callers.network.sent) == UNDER_WAY


def test_each_event_loop_has_its_own() -> None:
    transport = Joining(Once())
    client = zizq.Client(transport=transport)

    async def one() -> zizq.Job:
        return await client.enqueue_raw("t", 1)

    assert [asyncio.run(one()).type for _ in range(3)] == ["job 1"] * 3
    assert len(transport._lines) == 1


class Once:
    """A network that answers at once."""

    async def send(self, request: Request) -> Response:
        return jobs_of(request)

    async def open_stream(self, request: Request) -> FakeStream:
        raise AssertionError("no stream is opened here")

    async def close(self) -> None:
        pass


# ── the bytes ──


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 255, 256, 1000])
def test_what_is_joined_is_what_a_bulk_request_says(form: Format, count: int) -> None:
    jobs = [{"type": "t", "payload": {"n": number}} for number in range(count)]
    headers = {"accept": form.value, "content-type": form.value}
    request = joined([Request("POST", "/jobs", headers, encode(job, form)) for job in jobs])
    assert (request.method, request.path, request.headers) == ("POST", "/jobs/bulk", headers)
    assert request.body == encode({"jobs": jobs}, form)


@pytest.mark.parametrize("form", Format)
def test_an_answer_is_split_into_those_of_each(form: Format) -> None:
    parts = split(answer({"jobs": [JOB, JOB | {"id": "1"}], "more": 1}, 200, form), 2)
    assert parts == [answer(JOB, 200, form), answer(JOB | {"id": "1"}, 200, form)]
