"""Large payloads are read by a process of their own, and come out as small ones do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from unit.server.processes import children_of, contents, needs_proc
from zizq.engine import admit
from zizq.errors import BadRequest, Unavailable
from zizq.job import JobRecord
from zizq.server import payloads as module
from zizq.server.payload_process import MOST_VALUES
from zizq.server.payloads import PROCESSES, SMALL, Payloads
from zizq.wire import codec
from zizq.wire.codec import MAX_DEPTH, Format

FORMS = list(Format)
LARGE = "x" * SMALL


def encoded(value: Any, form: Format) -> msgspec.Raw:
    return msgspec.Raw(codec.encode(value, form))


@asynccontextmanager
async def reading() -> AsyncIterator[Payloads]:
    payloads = Payloads()
    try:
        yield payloads
    finally:
        await payloads.stop()


def readers() -> list[int]:
    return [pid for pid in children_of(os.getpid()) if "payload_process" in contents(pid, "cmdline")]


@pytest.mark.parametrize("form", FORMS)
async def test_a_large_payload_is_stored_as_a_small_one_is(form: Format) -> None:
    raw = encoded({"b": [1.5, None, {"z": 2**63, "a": "ü"}], "a": LARGE}, form)
    async with reading() as payloads:
        assert await payloads.stored(raw, form) == codec.payload_to_store(raw, form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", ["too deep", "cut off"])
async def test_what_is_wrong_with_a_large_payload_is_told_in_the_same_words(form: Format, what: str) -> None:
    nested: Any = LARGE
    for _ in range(MAX_DEPTH + 1):
        nested = [nested]
    raw = encoded(nested, form) if what == "too deep" else msgspec.Raw(bytes(encoded(LARGE, form))[:-2])
    with pytest.raises(BadRequest) as here:
        codec.payload_to_store(raw, form)
    async with reading() as payloads:
        with pytest.raises(BadRequest) as there:
            await payloads.stored(raw, form)
    assert str(there.value) == str(here.value)


@pytest.mark.parametrize("form", FORMS)
async def test_a_payload_of_too_many_values_is_refused(form: Format) -> None:
    async with reading() as payloads:
        assert await payloads.stored(encoded([1] * (MOST_VALUES - 1), form), form)
        with pytest.raises(BadRequest, match=f"it has {MOST_VALUES + 1} values: send at most {MOST_VALUES}"):
            await payloads.stored(encoded([1] * MOST_VALUES, form), form)


@needs_proc
async def test_small_payloads_need_no_process_and_none_is_left() -> None:
    # Those of a server that other tests share.
    others = readers()
    async with reading() as payloads:
        await payloads.stored(encoded("x" * (SMALL - 10), Format.JSON), Format.JSON)
        assert readers() == others
        await payloads.stored(encoded(LARGE, Format.JSON), Format.JSON)
        assert len(readers()) == len(others) + 1
    assert readers() == others


async def test_a_server_that_stops_reads_no_large_payload() -> None:
    async with reading() as payloads:
        pass
    with pytest.raises(Unavailable, match="no large payload can be read: the server is stopping"):
        await payloads.stored(encoded(LARGE, Format.JSON), Format.JSON)


# ── on their way out ──


def job_with(value: Any) -> JobRecord:
    stored = codec.payload_to_store(encoded(value, Format.MSGPACK), Format.MSGPACK)
    return admit.new_job("0" * 25, 1, type="t", queue="q", payload=stored)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [{"b": [1.5, None, {"z": 2**63, "a": "ü"}], "a": LARGE}, {"b": 1, "a": 2}])
async def test_a_large_payload_is_sent_as_a_small_one_is(form: Format, value: Any) -> None:
    job = job_with(value)
    async with reading() as payloads:
        assert await payloads.sent(job, form) == codec.job_to_send(job, form)


async def test_a_large_payload_holds_nobody_up_on_its_way_out() -> None:
    # The oracle is the loop itself: what it does meanwhile would take all of the time, were it done here.
    job = job_with({f"key {number}": number for number in range(200_000)})
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with reading() as payloads:
        counting = asyncio.ensure_future(count())
        await payloads.sent(job, Format.JSON)
        counting.cancel()
    assert turns > 100


async def test_a_large_payload_comes_out_also_where_no_process_is_there() -> None:
    job = job_with(LARGE)
    async with reading() as payloads:
        pass
    assert await payloads.sent(job, Format.JSON) == codec.job_to_send(job, Format.JSON)


async def test_a_large_payload_does_not_wait_for_long_behind_those_that_come_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.001)
    job = job_with(LARGE)
    async with reading() as payloads:
        for _ in range(PROCESSES):
            await payloads._room.acquire()
        async with asyncio.timeout(10):
            assert await payloads.sent(job, Format.JSON) == codec.job_to_send(job, Format.JSON)
        for _ in range(PROCESSES):
            payloads._room.release()
