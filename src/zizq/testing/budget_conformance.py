"""What every store must do where jobs draw on budgets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.engine.changes import Patch, Rebind, Retry
from zizq.errors import Conflicting, Unprocessable
from zizq.job import JobRecord, Status
from zizq.policy import Retention
from zizq.testing.bench import DAY, NOW, Bench, Suite

FLIGHT = Strategy(StrategyType.WHILE_IN_FLIGHT)


def per_second(burst: int | None = None) -> Strategy:
    """As many tokens a second as are allocated."""
    return Strategy(StrategyType.TIME_BASED, 1000, burst)


class BudgetConformance(Suite):
    """The suite of budgets."""

    async def put(self, bench: Bench, key: str, allocation: int, strategy: Strategy = FLIGHT) -> Budget:
        """A budget that is there from now on."""
        budget = Budget(key, allocation, strategy, NOW, NOW)
        assert await bench.store.save_budget(key, None, budget, NOW)
        return budget

    def drawing(
        self, bench: Bench, *draws: str | tuple[str, int], queue: str = "q", priority: int = 9, **more: Any
    ) -> JobRecord:
        """A job that draws on budgets, one token each unless it says more."""
        pairs = [(draw, 1) if isinstance(draw, str) else draw for draw in draws]
        return bench.job(queue, budgets=tuple(Draw(key, cost) for key, cost in pairs), priority=priority, **more)

    async def test_a_budget_is_kept_as_it_is_saved(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            second = await self.put(bench, "b", 5, per_second(burst=9))
            first = await self.put(bench, "a", 1)
            assert await bench.store.budgets() == [first, second]
            changed = Budget("a", 3, FLIGHT, NOW, NOW + 1)
            assert not await bench.store.save_budget("a", None, changed, NOW)
            assert not await bench.store.save_budget("a", second, changed, NOW)
            assert await bench.store.save_budget("a", first, changed, NOW)
            assert not await bench.store.save_budget("a", first, None, NOW)
            assert await bench.store.save_budget("b", second, None, NOW)
            assert await bench.store.budgets() == [changed]
            await bench.store.reset()
            assert await bench.store.budgets() == []

    async def test_a_job_is_read_back_with_what_it_draws(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 5)
            await self.put(bench, "b", 5)
            [job_id] = await bench.enqueue(self.drawing(bench, ("b", 2), "a"))
            read = await bench.store.get(job_id, NOW)
            assert read is not None
            assert read.budgets == (Draw("b", 2), Draw("a", 1))
            [taken] = await bench.take()
            assert taken.budgets == read.budgets
            assert await bench.page_ids(budgets=["a", "none"]) == [job_id]
            assert await bench.count(budgets=["none"]) == 0

    async def test_no_more_jobs_are_in_flight_than_a_budget_lets(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 2)
            ids = await bench.enqueue(*[self.drawing(bench, "a") for _ in range(7)])
            assert await bench.take_ids() == ids[:2]
            assert await bench.take_ids(owner=2) == []
            assert await bench.count(statuses=["ready"]) == 5
            bench.heard.queues.clear()
            await bench.store.succeed(ids[:1], NOW)
            assert bench.heard.queues == ["q"]
            assert await bench.take_ids(owner=2) == [ids[2]]
            await bench.fail(ids[1], kill=True)
            assert await bench.take_ids(owner=2) == [ids[3]]
            await bench.delete(ids[2])
            assert await bench.take_ids(owner=3) == [ids[4]]
            assert await bench.store.release(2) == 1
            assert await bench.take_ids(owner=3) == [ids[3]]
            assert await bench.take_ids(owner=3) == []

    async def test_jobs_that_draw_on_nothing_go_past(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 1)
            held = await bench.enqueue(*[self.drawing(bench, "a", priority=0) for _ in range(3)])
            free = await bench.enqueue(bench.job(), bench.job("other"))
            assert await bench.take_ids() == [held[0], *free]

    async def test_what_stands_first_in_a_budget_goes_first(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 3)
            small, large, later, elsewhere = await bench.enqueue(
                self.drawing(bench, "a"),
                self.drawing(bench, ("a", 3)),
                self.drawing(bench, "a"),
                self.drawing(bench, "a", queue="other"),
            )
            assert await bench.take_ids() == [small]
            # Two tokens are left, and those behind must not overtake the one that needs three.
            assert await bench.take_ids() == []
            [urgent] = await bench.enqueue(self.drawing(bench, "a", priority=0))
            assert await bench.take_ids() == [urgent]
            await bench.store.succeed([small, urgent], NOW)
            assert await bench.take_ids() == [large]
            await bench.store.succeed([large], NOW)
            assert await bench.take_ids() == [later, elsewhere]

    async def test_a_job_that_comes_late_opens_no_way_past_one_that_waits(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 9)
            await self.put(bench, "b", 1)
            late, holds, waits = await bench.enqueue(
                self.drawing(bench, "a", ready_at=NOW + 1), self.drawing(bench, "b"), self.drawing(bench, "a", "b")
            )
            assert await bench.take_ids() == [holds]
            await bench.store.promote(NOW + 1, 10)
            [behind] = await bench.enqueue(self.drawing(bench, "a"))
            # What was promoted stands before the one that waits, and what has just come stands behind it.
            assert await bench.take_ids() == [late]
            assert await bench.take_ids() == []
            await bench.store.succeed([holds], NOW)
            assert await bench.take_ids() + await bench.take_ids() == [waits, behind]

    async def test_a_job_is_paid_by_all_its_budgets_or_by_none(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 1)
            await self.put(bench, "b", 1)
            first, both, behind = await bench.enqueue(
                self.drawing(bench, "a"), self.drawing(bench, "a", "b"), self.drawing(bench, "b")
            )
            assert await bench.take_ids() == [first]
            assert await bench.take_ids() == []
            await bench.store.succeed([first], NOW)
            assert await bench.take_ids() == [both]
            await bench.store.succeed([both], NOW)
            assert await bench.take_ids() == [behind]

    async def test_only_what_a_worker_can_see_stands_before_its_jobs(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 2)
            large, small = await bench.enqueue(
                self.drawing(bench, ("a", 2), queue="x"), self.drawing(bench, "a", queue="y")
            )
            assert await bench.take_ids(queues=["y"]) == [small]
            assert await bench.take_ids(queues=["x"]) == []
            await bench.store.succeed([small], NOW)
            assert await bench.take_ids() == [large]

    async def test_tokens_come_back_with_time(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 2, per_second())
            ids = await bench.enqueue(*[self.drawing(bench, "a") for _ in range(6)])
            assert await bench.take_ids() == ids[:2]
            await bench.store.succeed(ids[:2], NOW)
            assert await bench.take() == []
            assert await bench.store.next_due() == NOW + 500
            assert NOW + 500 in bench.heard.due
            assert await bench.take(now=NOW + 499) == []
            bench.heard.queues.clear()
            await bench.store.promote(NOW + 500, 9)
            assert bench.heard.queues == ["q"]
            assert [job.id for job in await bench.take(now=NOW + 500)] == [ids[2]]
            await bench.store.promote(NOW + 9000, 9)
            assert [job.id for job in await bench.take(now=NOW + 9000)] == ids[3:5]

    async def test_a_take_sees_that_a_time_has_come_before_anybody_tells(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 1, per_second())
            first, second = await bench.enqueue(self.drawing(bench, "a"), self.drawing(bench, "a"))
            assert await bench.take_ids() == [first]
            assert await bench.take(now=NOW + 999) == []
            assert [job.id for job in await bench.take(now=NOW + 1000)] == [second]

    async def test_a_time_that_has_come_is_told_of_once(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 1, per_second())
            await self.put(bench, "b", 1)
            ids = await bench.enqueue(*[self.drawing(bench, "b", "a") for _ in range(2)])
            assert await bench.take_ids() == ids[:1]
            await bench.store.succeed(ids[:1], NOW)
            assert await bench.take_ids() == []
            assert await bench.store.next_due() == NOW + 1000
            await bench.store.promote(NOW + 1000, 9)
            # Nobody has come for it: whoever waits for this time must not be told of it for ever.
            assert await bench.store.next_due() is None
            assert [job.id for job in await bench.take(now=NOW + 1000)] == ids[1:]

    async def test_a_burst_is_what_a_budget_holds(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 1, per_second(burst=4))
            ids = await bench.enqueue(*[self.drawing(bench, "a") for _ in range(9)])
            assert await bench.take_ids() == ids[:4]

    async def test_a_job_brings_its_budget_along(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            budget, other = Budget("a", 1, FLIGHT, NOW, NOW), Budget("a", 9, FLIGHT, NOW, NOW)
            first, second = self.drawing(bench, "a"), self.drawing(bench, "a")
            await bench.store.enqueue([first], NOW, create={"a": budget})
            await bench.store.enqueue([second], NOW, create={"a": other})
            assert await bench.store.budgets() == [budget]
            assert await bench.take_ids() == [first.id]

    async def test_what_cannot_be_paid_ever_is_refused_whole(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 2)
            for jobs, text in (
                ([bench.job(), self.drawing(bench, "none")], "budget 'none' does not exist"),
                ([self.drawing(bench, "a"), self.drawing(bench, ("a", 3))], "cost 3 exceeds budget 'a'"),
            ):
                with pytest.raises(Unprocessable, match=text) as refused:
                    await bench.store.enqueue(jobs, NOW, create={"b": Budget("b", 1, FLIGHT, NOW, NOW)})
                assert refused.value.index == 1
            assert await bench.count() == 0
            assert [budget.key for budget in await bench.store.budgets()] == ["a"]

    async def test_a_refused_enqueue_does_not_touch_the_others(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 2)
            good = [self.drawing(bench, "a") for _ in range(5)]
            calls = [bench.store.enqueue([job], NOW) for job in good]
            bad = [bench.store.enqueue([self.drawing(bench, "none")], NOW) for _ in range(5)]
            results = await asyncio.gather(*calls, *bad, return_exceptions=True)
            assert [isinstance(one, Unprocessable) for one in results] == [False] * 5 + [True] * 5
            assert await bench.page_ids() == [job.id for job in good]

    async def test_a_duplicate_makes_no_budget(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [there] = await bench.enqueue(bench.job(unique_key="k"))
            twin = bench.job(unique_key="k", budgets=(Draw("a", 1),))
            [stands] = await bench.store.enqueue([twin], NOW, create={"a": Budget("a", 1, FLIGHT, NOW, NOW)})
            assert stands.id == there
            assert await bench.store.budgets() == []

    async def test_a_budget_that_is_drawn_on_is_neither_deleted_nor_shrunk_below(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            budget = await self.put(bench, "a", 5)
            small = Budget("a", 2, FLIGHT, NOW, NOW)
            three, one = await bench.enqueue(
                bench.job(budgets=(Draw("a", 3),), retry_limit=0), self.drawing(bench, "a")
            )
            with pytest.raises(Conflicting, match="2 unfinished jobs"):
                await bench.store.save_budget("a", budget, None, NOW)
            with pytest.raises(Unprocessable, match=r"1 unfinished job draw up to 3"):
                await bench.store.save_budget("a", budget, small, NOW)
            await bench.take()
            await bench.fail(three)
            assert await bench.store.save_budget("a", budget, small, NOW)
            with pytest.raises(Conflicting, match="1 unfinished job"):
                await bench.store.save_budget("a", small, None, NOW)
            await bench.store.succeed([one], NOW)
            assert await bench.store.save_budget("a", small, None, NOW)
            assert await bench.page_ids(budgets=["a"]) == [three]

    async def test_a_dead_job_that_comes_back_to_a_smaller_budget_has_all_of_it(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            budget = await self.put(bench, "a", 5)
            small = Budget("a", 2, FLIGHT, NOW, NOW)
            [three] = await bench.enqueue(bench.job(budgets=(Draw("a", 3),), retry_limit=0))
            await bench.take()
            await bench.fail(three)
            assert await bench.store.save_budget("a", budget, small, NOW)
            behind = await bench.enqueue(*[bench.job(budgets=(Draw("a", 1),)) for _ in range(2)])
            assert (await bench.change(Retry(), ids=[three])).jobs == 1
            assert await bench.take_ids() == [three]
            await bench.store.succeed([three], NOW)
            assert await bench.take_ids() == behind

    async def test_a_wider_budget_lets_go_at_once(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            budget = await self.put(bench, "a", 1)
            ids = await bench.enqueue(*[self.drawing(bench, "a") for _ in range(4)])
            assert await bench.take_ids() == ids[:1]
            assert await bench.take_ids() == []
            bench.heard.queues.clear()
            await bench.store.save_budget("a", budget, Budget("a", 3, FLIGHT, NOW, NOW), NOW)
            assert bench.heard.queues == ["q"]
            assert await bench.take_ids() == ids[1:3]

    async def test_a_narrower_budget_waits_for_what_is_in_flight(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            budget = await self.put(bench, "a", 3)
            ids = await bench.enqueue(*[self.drawing(bench, "a") for _ in range(5)])
            assert await bench.take_ids() == ids[:3]
            await bench.store.save_budget("a", budget, Budget("a", 1, FLIGHT, NOW, NOW), NOW)
            for done in ids[:2]:
                await bench.store.succeed([done], NOW)
                assert await bench.take_ids() == []
            await bench.store.succeed(ids[2:3], NOW)
            assert await bench.take_ids() == ids[3:4]

    async def test_a_patched_or_deleted_job_lets_those_behind_it_go(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 3)
            small, large, behind, last = await bench.enqueue(
                self.drawing(bench, "a"),
                self.drawing(bench, ("a", 3)),
                self.drawing(bench, "a"),
                self.drawing(bench, "a", queue="z"),
            )
            assert await bench.take_ids() == [small]
            assert await bench.take_ids() == []
            bench.heard.queues.clear()
            await bench.change(Patch(priority=60_000), ids=[large])
            assert {"q", "z"} <= set(bench.heard.queues)
            assert await bench.take_ids() == [behind, last]
            await bench.store.succeed([small, behind, last], NOW)
            assert await bench.take_ids() == [large]

    async def test_what_waiting_jobs_draw_can_be_changed(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 1)
            await self.put(bench, "b", 9)
            ids = await bench.enqueue(*[self.drawing(bench, "a") for _ in range(3)], bench.job())
            assert await bench.take_ids() == [ids[0], ids[3]]
            assert (await bench.change(Rebind(put=Draw("b", 2)))).jobs == 2
            changed = await bench.change(Rebind(drop="a"), ids=[ids[2]])
            assert changed.job is not None
            assert changed.job.budgets == (Draw("b", 2),)
            assert await bench.page_ids(budgets=["a"]) == ids[:2]
            assert await bench.page_ids(budgets=["b"]) == ids[1:3]
            # The one that waits for `a` stands before it in `b`.
            assert await bench.take_ids() == []
            await bench.change(Rebind(put=Draw("b", 7), only="new"), statuses=["ready"])
            await bench.change(Rebind(put=Draw("b", 3), only="old"), ids=[ids[1]])
            read = await bench.store.get(ids[1], NOW)
            assert read is not None
            assert read.budgets == (Draw("a", 1), Draw("b", 3))
            await bench.change(Rebind(all=()), ids=[ids[1]])
            assert await bench.take_ids() == [ids[1], ids[2]]

    async def test_jobs_cannot_be_bound_to_what_can_never_pay(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 1)
            [job_id] = await bench.enqueue(bench.job())
            for draws in ((Draw("none", 1),), (Draw("a", 2),)):
                with pytest.raises(Unprocessable):
                    await bench.change(Rebind(all=draws), ids=[job_id])
            assert await bench.take_ids() == [job_id]

    async def test_many_jobs_are_bound_at_once(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 3)
            await bench.enqueue(*[bench.job() for _ in range(2500)])
            with pytest.raises(Unprocessable):
                await bench.change(Rebind(put=Draw("none", 1)))
            assert (await bench.change(Rebind(put=Draw("a", 1)))).jobs == 2500
            assert await bench.count(budgets=["a"]) == 2500
            assert len(await bench.take(50)) == 3

    async def test_a_job_that_is_deleted_while_it_waits_lets_those_behind_it_go(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 3)
            small, large, behind = await bench.enqueue(
                self.drawing(bench, "a"), self.drawing(bench, ("a", 3)), self.drawing(bench, "a", queue="z")
            )
            assert await bench.take_ids() == [small]
            bench.heard.queues.clear()
            await bench.delete(large)
            assert "z" in bench.heard.queues
            assert await bench.take_ids() == [behind]

    async def test_a_backlog_of_waiting_jobs_costs_no_order(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 7)
            await self.put(bench, "b", 100_000)
            ids: list[str] = []
            for _ in range(30):
                ids += await bench.enqueue(*[self.drawing(bench, "a", "b") for _ in range(100)])
            taken: list[str] = []
            while some := await bench.take_ids(50):
                assert len(some) == 7 or len(taken) + len(some) == 3000
                taken += some
                await bench.store.succeed(some, NOW)
            assert taken == ids

    async def test_finished_jobs_can_be_found_by_their_budgets(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.put(bench, "a", 1)
            await self.put(bench, "b", 1)
            kept = bench.job(priority=0, budgets=(Draw("a", 1), Draw("b", 1)), retention=Retention(completed_ms=DAY))
            [done, waiting] = await bench.enqueue(kept, self.drawing(bench, "b"))
            await bench.take()
            await bench.store.succeed([done], NOW)
            assert await bench.page_ids(budgets=["a", "b"]) == [done, waiting]
            assert await bench.page_ids(budgets=["a", "b"], order="desc", limit=1) == [waiting]
            assert await bench.count(budgets=["b"], statuses=[Status.COMPLETED]) == 1
