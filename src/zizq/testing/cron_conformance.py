"""What every store must do with crons."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.cron import CronEntry, CronGroup, CronJob
from zizq.engine.cron import rules
from zizq.errors import Conflicting, Outdated, Unprocessable
from zizq.job import Batch
from zizq.policy import Backoff, Retention
from zizq.store.base import Due
from zizq.testing.bench import NOW, PAYLOAD, Bench, Suite

HOUR = 3_600_000


def entry(name: str = "e", next_at: int | None = NOW, **more: Any) -> CronEntry:
    """An entry that is due."""
    job = CronJob(type="t", queue="q", payload=msgspec.Raw(PAYLOAD), priority=9)
    plain = CronEntry(name=name, expression="0 * * * *", paused=False, job=job, next_enqueue_at=next_at)
    return plain.with_(**more)


def group(*entries: CronEntry, name: str = "g", **more: Any) -> CronGroup:
    """A group of entries."""
    return CronGroup(name=name, paused=False, entries=entries).with_(**more)


def drawing(*draws: Draw, name: str = "e") -> CronEntry:
    """An entry whose job draws on budgets."""
    return entry(name, job=msgspec.structs.replace(entry().job, budgets=draws))


class CronConformance(Suite):
    """The suite of crons."""

    async def saved(self, bench: Bench, *groups: CronGroup) -> None:
        """Groups that are new."""
        for one in groups:
            assert await bench.store.save_cron(one.name, None, one, NOW)

    async def due(self, bench: Bench) -> Due:
        """The entry that is due first."""
        return (await bench.store.due_crons(NOW, 1))[0]

    async def fire(self, bench: Bench, due: Due, **more: Any) -> Any:
        """Fire an entry, with its next time in an hour."""
        after = due.entry.with_(next_enqueue_at=NOW + HOUR, last_enqueue_at=NOW)
        job = rules.job_of(due.entry.job, bench.next_id(), NOW)
        return await bench.store.fire(due, after, more.pop("jobs", [job]), NOW, **more)

    async def left(self, bench: Bench) -> Collection[CronEntry]:
        """The entries of the group that most tests have."""
        found = await bench.store.cron("g")
        assert found is not None
        return found.entries

    # ── groups ──

    async def test_a_group_is_read_back_whole(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            job = CronJob(
                type="t", queue="q", payload=msgspec.Raw(PAYLOAD), priority=1, retry_limit=2,
                backoff=Backoff(exponent=4.1, base_ms=1, jitter_ms=2), retention=Retention(dead_ms=3),
                unique_key="k", unique_while="active",
            )  # fmt: skip
            full = entry("a", timezone="Europe/London", paused=True, paused_at=4, resumed_at=5, job=job)
            batched = msgspec.structs.replace(full.job, unique_key=None, unique_while=None, batch=Batch("k", "w", "f"))
            other = entry("b", None, last_enqueue_at=6, job=batched)
            there = group(full, other, paused=True, timezone="UTC", paused_at=7, resumed_at=8)
            await self.saved(bench, there)
            assert await bench.store.cron("g") == there
            assert await bench.store.cron("another") is None

    async def test_groups_and_entries_come_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            names = ["\U0001f600", "z", "é", "a b", "\uffff", "Z", "a,b\0"]
            await self.saved(bench, *[group(name=name) for name in names])
            await self.saved(bench, group(*map(entry, names)))
            assert await bench.store.crons() == sorted([*names, "g"], key=str.encode)
            assert [one.name for one in await self.left(bench)] == sorted(names, key=str.encode)

    async def test_a_group_is_saved_only_over_the_one_it_was_made_of(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            first, second = group(entry("b"), entry("a")), group(entry("a"), entry("c"), timezone="UTC")
            assert not await bench.store.save_cron("g", first, second, NOW)
            assert await bench.store.crons() == []
            await self.saved(bench, first)
            for before in (None, second, first.with_(paused=True), group(entry("a")), group(entry("a"), entry("b", 1))):
                assert not await bench.store.save_cron("g", before, second, NOW)
                assert await bench.store.cron("g") == first.in_order()
            assert await bench.store.save_cron("g", first, second, NOW)
            assert await bench.store.cron("g") == second

    async def test_of_changes_to_a_group_at_the_same_time_one_is_done(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            there = group(entry())
            await self.saved(bench, there)
            changed = [group(entry(last_enqueue_at=at)) for at in range(1, 9)]
            done = await asyncio.gather(*[bench.store.save_cron("g", there, after, NOW) for after in changed])
            assert sum(done) == 1
            assert await bench.store.cron("g") == changed[done.index(True)]

    async def test_a_group_of_many_entries_is_replaced_at_once(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            first = group(*[entry(f"{n:04}") for n in range(1000)])
            second = group(*[entry(f"{n:04}", n + 1 if n % 3 else NOW) for n in range(500, 1500)])
            await self.saved(bench, first, group(entry("0001"), name="other"))
            assert await bench.store.save_cron("g", first, second, NOW)
            assert await bench.store.cron("g") == second
            assert await bench.store.cron("other") == group(entry("0001"), name="other")
            assert await bench.store.next_cron() == 501

    async def test_a_group_is_deleted_with_its_entries(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            there, other = group(entry()), group(entry(), name="h")
            await self.saved(bench, there, other)
            assert await bench.store.save_cron("g", there, None, NOW)
            assert await bench.store.crons() == ["h"]
            assert [due.group.name for due in await bench.store.due_crons(NOW, 9)] == ["h"]
            await self.saved(bench, group())
            assert await bench.store.cron("g") == group()

    async def test_all_groups_are_deleted_and_counted(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.saved(bench, group(entry("a"), entry("b")), group(name="h"))
            assert await bench.store.delete_crons() == 2
            assert await bench.store.delete_crons() == 0
            assert await bench.store.crons() == []
            assert await bench.store.next_cron() is None

    async def test_a_reset_deletes_crons(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.saved(bench, group(entry()))
            await bench.store.reset()
            assert await bench.store.crons() == []
            assert await bench.store.due_crons(NOW, 9) == []

    # ── what is due ──

    async def test_due_entries_come_earliest_first_with_their_groups(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            assert await bench.store.next_cron() is None
            paused = group(entry("a", NOW - 1), entry("b", NOW + 1), paused=True, timezone="UTC")
            other = group(entry("c", NOW, paused=True), entry("d", None), entry("e", NOW - 2), name="h")
            await self.saved(bench, paused, other)
            found = await bench.store.due_crons(NOW, 9)
            assert [(due.group, due.entry.name) for due in found] == [
                (other.with_(entries=()), "e"), (paused.with_(entries=()), "a"), (other.with_(entries=()), "c"),
            ]  # fmt: skip
            assert found[1].entry == paused.entries[0]
            assert await bench.store.due_crons(NOW, 2) == found[:2]
            assert await bench.store.due_crons(NOW - 3, 9) == []
            assert await bench.store.next_cron() == NOW - 2

    # ── firing ──

    async def test_a_firing_enqueues_and_advances_together(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.saved(bench, group(entry("a"), entry("b", NOW + 1)))
            [job] = await self.fire(bench, await self.due(bench))
            [taken] = await bench.take()
            assert (taken.id, taken.priority, bytes(taken.payload or b"")) == (job.id, 9, PAYLOAD)
            assert bench.heard.queues == ["q"]
            assert await self.left(bench) == (entry("a", NOW + HOUR, last_enqueue_at=NOW), entry("b", NOW + 1))
            assert await bench.store.due_crons(NOW, 9) == []
            assert await bench.store.next_cron() == NOW + 1

    async def test_an_entry_can_be_advanced_without_a_job(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.saved(bench, group(entry()))
            due = await self.due(bench)
            assert await bench.store.fire(due, due.entry.with_(next_enqueue_at=None), [], NOW) == []
            assert await self.left(bench) == (entry("e", None),)
            assert await bench.take() == []

    async def test_of_many_who_fire_an_entry_one_does(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.saved(bench, group(entry()))
            due = await self.due(bench)
            fired = await asyncio.gather(*[self.fire(bench, due) for _ in range(9)], return_exceptions=True)
            assert sorted(type(one).__name__ for one in fired) == ["Conflicting"] * 8 + ["list"]
            assert len(await bench.take()) == 1
            with pytest.raises(Conflicting):
                await self.fire(bench, due)
            assert await bench.take() == []

    @pytest.mark.parametrize(
        "now_there",
        [None, group(), group(entry(paused=True)), group(entry(), paused=True), group(entry(), timezone="UTC")],
        ids=["no group", "no entry", "entry paused", "group paused", "another zone"],
    )
    async def test_an_entry_that_has_changed_meanwhile_is_not_fired(
        self, tmp_path: Path, now_there: CronGroup | None
    ) -> None:
        async with self.bench(tmp_path) as bench:
            await self.saved(bench, group(entry()))
            due = await self.due(bench)
            assert await bench.store.save_cron("g", group(entry()), now_there, NOW)
            with pytest.raises(Conflicting):
                await self.fire(bench, due)
            assert await bench.store.cron("g") == now_there
            assert await bench.take() == []

    async def test_a_firing_leaves_the_rest_of_the_group_to_others(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.saved(bench, group(entry("a"), entry("b")))
            due = await self.due(bench)
            assert await bench.store.save_cron("g", group(entry("a"), entry("b")), group(entry("a"), entry("c")), NOW)
            await self.fire(bench, due)
            assert [one.name for one in await self.left(bench)] == ["a", "c"]
            # Whoever changes the whole group has to know of it.
            assert not await bench.store.save_cron("g", group(entry("a"), entry("c")), None, NOW)

    async def test_a_firing_that_makes_a_duplicate_advances(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            unique = msgspec.structs.replace(entry().job, unique_key="k", unique_while="queued")
            await self.saved(bench, group(entry("a", job=unique), entry("b", job=unique)))
            first, second = await bench.store.due_crons(NOW, 9)
            [[job], [stands]] = await asyncio.gather(self.fire(bench, first), self.fire(bench, second))
            assert stands.id == job.id
            assert [one.last_enqueue_at for one in await self.left(bench)] == [NOW, NOW]
            assert len(await bench.take()) == 1

    async def test_a_firing_that_is_folded_changes_the_job_that_waits(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            waiting = bench.job(batch=Batch("k", "true", "$new"))
            await bench.store.enqueue([waiting], NOW, (), {"k": None})
            await self.saved(bench, group(entry()))
            due = await self.due(bench)
            folded = waiting.with_(payload=msgspec.Raw(b"\x07"))
            with pytest.raises(Outdated):
                await self.fire(bench, due, jobs=[], folds=[folded], pending={"k": None})
            assert await self.left(bench) == (due.entry,)
            assert await self.fire(bench, due, jobs=[], folds=[folded], pending={"k": waiting.id}) == []
            assert [one.last_enqueue_at for one in await self.left(bench)] == [NOW]
            [taken] = await bench.take()
            assert (taken.id, bytes(taken.payload or b"")) == (waiting.id, b"\x07")

    async def test_a_firing_that_cannot_be_enqueued_changes_nothing(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.saved(bench, group(entry()))
            due = await self.due(bench)
            with pytest.raises(Unprocessable):
                await self.fire(bench, due, jobs=[bench.job(budgets=(Draw("none", 1),))])
            assert await self.left(bench) == (due.entry,)
            assert await bench.take() == []

    # ── budgets ──

    async def test_an_entry_draws_on_budgets_that_are_there_or_come_with_it(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            there, new = [Budget(key, 5, Strategy(StrategyType.WHILE_IN_FLIGHT), NOW, NOW) for key in ("there", "new")]
            await bench.store.save_budget("there", None, there, NOW)
            wanted = group(drawing(Draw("there", 5), Draw("new", 5)))
            with pytest.raises(Unprocessable, match="budget 'new' does not exist"):
                await bench.store.save_cron("g", None, wanted, NOW)
            assert await bench.store.crons() == []
            create = {"new": new, "there": new, "unused": new}
            assert await bench.store.save_cron("g", None, wanted, NOW, create)
            assert await bench.store.cron("g") == wanted
            assert await bench.store.budgets() == [new, there]
            [job] = await self.fire(bench, await self.due(bench))
            assert job.budgets == (Draw("there", 5), Draw("new", 5))
            [taken] = await bench.take()
            assert taken.id == job.id
            await bench.enqueue(bench.job(budgets=(Draw("new", 1),)))
            assert await bench.take() == []

    async def test_a_job_that_costs_too_much_is_refused_with_all_that_came_with_it(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            budget = Budget("b", 5, Strategy(StrategyType.WHILE_IN_FLIGHT), NOW, NOW)
            good, bad = drawing(Draw("b", 5), name="a"), drawing(Draw("b", 6), name="z")
            with pytest.raises(Unprocessable, match="cost 6 exceeds budget 'b'"):
                await bench.store.save_cron("g", None, group(good, bad), NOW, {"b": budget})
            assert await bench.store.budgets() == []
            assert await bench.store.crons() == []

    async def test_a_budget_that_an_entry_draws_on_stays_and_stays_large_enough(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            budget = Budget("b", 5, Strategy(StrategyType.WHILE_IN_FLIGHT), NOW, NOW)
            small = msgspec.structs.replace(budget, allocation=2)
            entries = [drawing(Draw("b", cost), name=name) for name, cost in (("x", 3), ("y", 2), ("w", 4))]
            there = group(*entries)
            assert await bench.store.save_cron("g", None, there, NOW, {"b": budget})
            with pytest.raises(Unprocessable, match="2 cron entries draw up to 4 from it, including 'g/w'"):
                await bench.store.save_budget("b", budget, small, NOW)
            with pytest.raises(Conflicting, match="referenced by 3 cron entries, including 'g/w'"):
                await bench.store.save_budget("b", budget, None, NOW)
            assert await bench.store.budgets() == [budget]
            less = group(entries[1])
            assert await bench.store.save_cron("g", there, less, NOW)
            assert await bench.store.save_budget("b", budget, small, NOW)
            with pytest.raises(Conflicting, match="referenced by 1 cron entry, including 'g/y'"):
                await bench.store.save_budget("b", small, None, NOW)
            assert await bench.store.delete_crons() == 1
            assert await bench.store.save_budget("b", small, None, NOW)


class DurableCronConformance(CronConformance):
    """What a store that outlasts its process must do with crons besides."""

    async def test_crons_are_there_after_a_restart(self, tmp_path: Path) -> None:
        there = group(entry("a", NOW + 1, last_enqueue_at=NOW), entry("b", None), timezone="Asia/Tokyo")
        async with self.bench(tmp_path) as bench:
            await self.saved(bench, there)
        async with self.bench(tmp_path) as bench:
            assert await bench.store.cron("g") == there
            assert await bench.store.next_cron() == NOW + 1
