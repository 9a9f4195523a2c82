"""Calls that gather before they are handed to the thread: how many come together, and who waits for them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from unit.store.writing import bench_at
from zizq.store.sqlite import writer
from zizq.store.sqlite.statements import Step
from zizq.testing.bench import Bench


class Inbox:
    """Notes how many calls each hand-over has."""

    def __init__(self, inbox: Any) -> None:
        self.inbox = inbox
        self.handed: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inbox, name)

    def put(self, calls: list[Any] | None) -> None:
        if calls:
            self.handed.append(len(calls))
        self.inbox.put(calls)


def watched(bench: Bench) -> tuple[Any, list[int]]:
    """The writer of a store, and the calls of each hand-over from now on."""
    thread: Any = bench.store._writer
    thread._inbox = inbox = Inbox(thread._inbox)
    return thread, inbox.handed


def called(bench: Bench, calls: int) -> list[asyncio.Future[Any]]:
    """So many calls, each with a job."""
    return [bench.store._writer.call(Step.ENQUEUE, [bench.job()], durable=True) for _ in range(calls)]


async def test_calls_gather_for_as_long_as_each_turn_of_the_event_loop_brings_more(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        _, handed = watched(bench)
        for before in ([], [6]):
            answers = []
            for calls in (3, 2, 1):
                answers += called(bench, calls)
                await asyncio.sleep(0)
                assert handed == before
            await asyncio.sleep(0)
            assert handed == [*before, 6]
            await asyncio.gather(*answers)
        assert len(await bench.take(99)) == 12


async def test_one_call_waits_for_no_other(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        _, handed = watched(bench)
        answers = called(bench, 1)
        await asyncio.sleep(0)
        assert handed == [1]
        # Nor does one that comes while that is with the thread.
        answers += called(bench, 1)
        await asyncio.sleep(0)
        assert handed == [1, 1]
        await asyncio.gather(*answers)


async def test_many_calls_wait_for_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "GATHERED", 5)
    async with bench_at(tmp_path) as bench:
        _, handed = watched(bench)
        answers = []
        for calls in (2, 2, 2, 7):
            answers += called(bench, calls)
            await asyncio.sleep(0)
        assert handed == [6, 7]
        await asyncio.gather(*answers)


async def test_what_has_gathered_when_the_writer_stops_is_committed_before(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        thread, handed = watched(bench)
        answers = called(bench, 3)
        await asyncio.sleep(0)
        answers += called(bench, 1)
        assert handed == []
        await thread.stop()
        assert [len(await answer) for answer in answers] == [1, 1, 1, 1]
