"""What every store must do where queues are paused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.engine import pauses
from zizq.engine.changes import Patch
from zizq.errors import Unprocessable
from zizq.job import Batch, Status
from zizq.testing.bench import NOW, Bench, Suite

BACKLOG = 9_000
"""Jobs of one queue: more than a store keeps at hand."""


class PauseConformance(Suite):
    """The suite of pauses."""

    async def budget(self, bench: Bench, key: str, allocation: int, period_ms: int | None = None) -> None:
        """A budget that is there from now on."""
        kind = StrategyType.WHILE_IN_FLIGHT if period_ms is None else StrategyType.TIME_BASED
        budget = Budget(key, allocation, Strategy(kind, period_ms), NOW, NOW)
        assert await bench.store.save_budget(key, None, budget, NOW)

    async def test_a_paused_queue_hands_out_nothing(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            first, other, last = await bench.enqueue(bench.job("p"), bench.job("q"), bench.job("p"))
            await bench.store.pause_queue("p", NOW)
            later = await bench.enqueue(bench.job("p", priority=0))
            assert await bench.take_ids(queues=["p"]) == []
            assert await bench.take_ids(queues=["p", "q"]) == [other]
            assert await bench.take_ids() == []
            assert await bench.count(queues=["p"], statuses=["ready"]) == 3
            await bench.store.resume_queue("p")
            assert await bench.take_ids() == [*later, first, last]

    async def test_pauses_are_listed_with_the_time_of_the_first(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            assert await bench.store.paused_queues() == {}
            assert await bench.store.pause_queue("new", NOW + 1) == NOW + 1
            assert await bench.store.pause_queue("new", NOW + 2) == NOW + 1
            assert await bench.store.pause_queue("é", NOW + 3) == NOW + 3
            assert await bench.store.paused_queues() == {"new": NOW + 1, "é": NOW + 3}
            assert await bench.store.resume_queue("new")
            assert not await bench.store.resume_queue("new")
            assert await bench.store.pause_queue("new", NOW + 4) == NOW + 4
            assert await bench.store.queues(NOW) == []

    async def test_so_many_queues_may_be_paused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pauses, "MAX_PAUSED", 2)
        async with self.bench(tmp_path) as bench:
            calls = [bench.store.pause_queue(name, NOW) for name in ("a", "b", "c")]
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert done[:2] == [NOW, NOW]
            assert isinstance(done[2], Unprocessable)
            assert await bench.store.paused_queues() == {"a": NOW, "b": NOW}
            assert await bench.store.pause_queue("b", NOW + 1) == NOW
            [job_id] = await bench.enqueue(bench.job("c"))
            assert await bench.take_ids() == [job_id]

    async def test_a_resume_tells_of_the_queue_and_a_pause_keeps_quiet(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.store.pause_queue("p", NOW)
            await bench.enqueue(bench.job("p"), bench.job("p", ready_at=NOW + 1))
            assert await bench.store.promote(NOW + 1, 9) == 1
            assert (bench.heard.queues, bench.heard.due) == ([], [NOW + 1])
            await bench.enqueue(bench.job("p"), bench.job("q"))
            await bench.store.resume_queue("p")
            await bench.store.resume_queue("p")
            assert bench.heard.queues == ["q", "p"]

    async def test_what_is_in_flight_goes_on(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            done, failed, released = await bench.enqueue(*[bench.job() for _ in range(3)])
            await bench.take()
            await bench.store.pause_queue("q", NOW)
            assert await bench.store.succeed([done], NOW) == [True]
            assert await bench.fail(failed, retry_at=NOW + 1) is not None
            assert await bench.store.release(1) == 1
            assert await bench.store.promote(NOW + 1, 9) == 1
            assert [await bench.status(one) for one in (failed, released)] == [Status.READY] * 2
            assert await bench.take() == []
            await bench.store.resume_queue("q")
            assert await bench.take_ids() == [failed, released]

    async def test_a_take_that_begins_after_a_pause_gets_nothing(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.enqueue(*[bench.job() for _ in range(40)])
            for _ in range(20):
                before = asyncio.ensure_future(bench.take(1))
                await asyncio.sleep(0)
                await bench.store.pause_queue("q", NOW)
                assert await bench.take() == []
                assert len(await before) == 1
                await bench.store.resume_queue("q")
                assert len(await bench.take(1)) == 1

    async def test_a_backlog_far_beyond_memory_may_rest(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(*[bench.job("p") for _ in range(BACKLOG)])
            taken = await bench.take_ids(BACKLOG // 2)
            await bench.store.pause_queue("p", NOW)
            ids += await bench.enqueue(*[bench.job("p") for _ in range(BACKLOG)])
            others = await bench.enqueue(*[bench.job() for _ in range(10)])
            assert await bench.take_ids(5) == others[:5]
            assert await bench.take_ids(9) == others[5:]
            await bench.store.resume_queue("p")
            while some := await bench.take_ids(1000):
                taken += some
            assert taken == ids

    # ── budgets ──

    async def test_nobody_waits_behind_a_paused_job_for_a_budget(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.budget(bench, "b", 2)
            small, large, behind, free = await bench.enqueue(
                bench.job("x", budgets=(Draw("b", 1),)),
                bench.job("p", budgets=(Draw("b", 2),)),
                bench.job("y", budgets=(Draw("b", 1),)),
                bench.job("p", priority=60_000),
            )
            assert await bench.take_ids() == [small, free]
            # One token is left, and `behind` stands behind the one that needs two.
            assert await bench.take_ids() == []
            bench.heard.queues.clear()
            await bench.store.pause_queue("p", NOW)
            assert "y" in bench.heard.queues
            assert await bench.take_ids() == [behind]
            await bench.store.succeed([small, behind], NOW)
            assert await bench.take_ids() == []
            await bench.store.resume_queue("p")
            assert await bench.take_ids() == [large]

    async def test_a_paused_job_takes_no_tokens(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.budget(bench, "b", 1)
            await self.budget(bench, "rate", 1, 1000)
            draws = (Draw("b", 1), Draw("rate", 1))
            await bench.store.pause_queue("p", NOW)
            first, second = await bench.enqueue(bench.job("p", budgets=draws), bench.job("q", budgets=draws))
            assert await bench.take_ids() == [second]
            await bench.store.succeed([second], NOW)
            assert await bench.take_ids() == []
            # Time alone lets nobody go: the one that waits is paused.
            assert await bench.store.next_due() is None
            await bench.store.resume_queue("p")
            assert await bench.take_ids() == []
            assert await bench.store.next_due() == NOW + 1000
            await bench.store.promote(NOW + 1000, 9)
            assert [job.id for job in await bench.take(now=NOW + 1000)] == [first]

    async def test_a_resumed_queue_stands_where_it_stood(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.budget(bench, "b", 1)
            first, second, third = await bench.enqueue(
                *[bench.job(queue, budgets=(Draw("b", 1),)) for queue in ("q", "p", "q")]
            )
            assert await bench.take_ids() == [first]
            assert await bench.take_ids() == []
            await bench.store.pause_queue("p", NOW)
            await bench.store.resume_queue("p")
            await bench.store.succeed([first], NOW)
            assert await bench.take_ids() == [second]
            await bench.store.pause_queue("p", NOW)
            await bench.store.succeed([second], NOW)
            assert await bench.take_ids() == [third]

    # ── changes and folds ──

    async def test_jobs_are_moved_out_of_a_paused_queue_and_into_one(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.store.pause_queue("p", NOW)
            inside, outside = await bench.enqueue(bench.job("p"), bench.job("q"))
            bench.heard.queues.clear()
            await bench.change(Patch(queue="p"), ids=[outside])
            assert await bench.take() == []
            await bench.change(Patch(queue="q"), ids=[inside])
            assert bench.heard.queues == ["q"]
            assert await bench.take_ids() == [inside]
            await bench.store.resume_queue("p")
            assert await bench.take_ids() == [outside]

    async def test_many_jobs_are_moved_out_of_a_paused_queue_and_into_one(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.store.pause_queue("p", NOW)
            there = await bench.enqueue(*[bench.job("q") for _ in range(2500)])
            assert (await bench.change(Patch(queue="p"), queues=["q"])).jobs == 2500
            assert await bench.take() == []
            assert (await bench.change(Patch(queue="r"), queues=["p"])).jobs == 2500
            taken: list[str] = []
            while some := await bench.take_ids(500):
                taken += some
            assert taken == there

    async def test_a_pause_while_many_are_moved_holds_for_all_of_them(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            there = await bench.enqueue(*[bench.job("q") for _ in range(2500)])
            call = asyncio.ensure_future(bench.change(Patch(queue="p"), queues=["q"]))
            await bench.store.pause_queue("p", NOW)
            while not call.done():
                assert await bench.take(queues=["p"]) == []
                await asyncio.sleep(0)
            await call
            assert await bench.take() == []
            await bench.store.resume_queue("p")
            assert await bench.take_ids(2500) == there

    async def test_a_job_that_waits_in_a_paused_queue_is_folded_into(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            job = bench.job("p", batch=Batch("k", "true", "$new"))
            await bench.store.pause_queue("p", NOW)
            await bench.store.enqueue([job], NOW, (), {"k": None})
            assert (await bench.store.pending(["k"]))["k"].id == job.id
            payload = msgspec.Raw(msgspec.msgpack.encode(2))
            await bench.store.enqueue([], NOW, [job.with_(payload=payload)], {"k": job.id})
            assert await bench.take() == []
            await bench.store.resume_queue("p")
            [taken] = await bench.take()
            assert bytes(taken.payload or b"") == bytes(payload)

    async def test_a_reset_forgets_pauses(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.store.pause_queue("p", NOW)
            await bench.store.reset()
            assert await bench.store.paused_queues() == {}
            [job_id] = await bench.enqueue(bench.job("p"))
            assert bench.heard.queues == ["p"]
            assert await bench.take_ids() == [job_id]


class DurablePauseConformance(PauseConformance):
    """What a store must do besides when it outlasts its process."""

    async def test_a_pause_is_there_after_a_restart(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(bench.job("p"), bench.job("p", budgets=None), bench.job("q"))
            assert await bench.take_ids(1) == ids[:1]
            await bench.store.pause_queue("p", NOW)
            await bench.store.pause_queue("r", NOW)
            await bench.store.resume_queue("r")
        async with self.bench(tmp_path) as bench:
            assert await bench.store.paused_queues() == {"p": NOW}
            assert await bench.take_ids() == ids[2:]
            assert await bench.take_ids(queues=["p"]) == []
            await bench.store.resume_queue("p")
            assert await bench.take_ids() == ids[:2]
        async with self.bench(tmp_path) as bench:
            assert await bench.store.paused_queues() == {}
