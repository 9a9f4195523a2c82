"""Budgets, crons and pauses where several servers share one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from conformance.test_postgres_servers import Deaf, Led, Listening
from postgres import Databases
from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.engine.cron import rules
from zizq.errors import Conflicting, Unprocessable
from zizq.policy import Defaults
from zizq.store.memory import MemoryStore
from zizq.store.postgres import lanes
from zizq.store.postgres.store import PostgresStore
from zizq.testing.bench import NOW, Bench
from zizq.testing.clock import LoadedDice
from zizq.testing.cron_conformance import drawing, entry, group

FLIGHT = Strategy(StrategyType.WHILE_IN_FLIGHT)


either = pytest.mark.parametrize("kind", [PostgresStore, Deaf], ids=["hears", "looks"])


class Server(Bench):
    """A server, and where its database is."""

    store: PostgresStore
    heard: Listening
    url: str

    async def hears_of(self, queue: str) -> None:
        """Wait until ready jobs of a queue are told of."""
        await self.heard.until(lambda heard: queue in heard.queues)

    async def renew(self) -> None:
        """Renew its lease, and see to what others have left behind."""
        await self.store._renew()


@asynccontextmanager
async def servers(
    databases: Databases, count: int = 2, max_budgets: int = 100, kind: type[PostgresStore] = PostgresStore
) -> AsyncIterator[list[Server]]:
    """Some servers on one empty database; their jobs come after one another whoever makes them."""
    url = databases.store()
    async with AsyncExitStack() as stack:
        benches: list[Server] = []
        for _ in range(count):
            dice, heard = LoadedDice(), Listening()
            store = kind(url, Defaults(retry_limit=2), dice, max_budgets=max_budgets)
            await store.open(heard)
            stack.push_async_callback(store.close)
            benches.append(Server(store, heard, dice))  # type: ignore[arg-type]
            benches[-1].url = url
            benches[-1].next_id = benches[0].next_id
        yield benches


def budget(key: str = "a", allocation: int = 1, strategy: Strategy = FLIGHT) -> Budget:
    return Budget(key, allocation, strategy, NOW, NOW)


# ── what is changed at the same time ──


async def test_of_two_who_change_a_budget_one_does(databases: Databases) -> None:
    async with servers(databases) as both:
        before: Budget | None = None
        for size in range(2, 12, 2):
            after = [budget("a", size + at) for at in range(2)]
            calls = [bench.store.save_budget("a", before, after[at], NOW) for at, bench in enumerate(both)]
            done = await asyncio.gather(*calls)
            assert sorted(done) == [False, True]
            before = after[done.index(True)]
            assert [await bench.store.budgets() for bench in both] == [[before], [before]]


async def test_budgets_are_counted_over_all_servers(databases: Databases) -> None:
    async with servers(databases, 3, max_budgets=5) as three:
        calls = [three[at % 3].store.save_budget(f"b{at}", None, budget(f"b{at}"), NOW) for at in range(12)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(str(type(one).__name__) for one in done) == ["Unprocessable"] * 7 + ["bool"] * 5
        assert len(await three[0].store.budgets()) == 5


async def test_of_two_who_save_a_group_one_does(databases: Databases) -> None:
    async with servers(databases) as both:
        before = None
        for at in range(1, 11, 2):
            after = [group(entry(last_enqueue_at=at)), group(entry(last_enqueue_at=at + 1))]
            calls = [bench.store.save_cron("g", before, after[at], NOW) for at, bench in enumerate(both)]
            done = await asyncio.gather(*calls)
            assert sorted(done) == [False, True]
            before = after[done.index(True)]
            assert [await bench.store.cron("g") for bench in both] == [before, before]


async def test_a_budget_does_not_go_while_a_cron_comes_that_draws_on_it(databases: Databases) -> None:
    async with servers(databases) as (one, other):
        for at in range(10):
            there = budget(f"b{at}", 5)
            assert await one.store.save_budget(there.key, None, there, NOW)
            wanted = group(drawing(Draw(there.key, 5)), name=f"g{at}")
            saved, gone = await asyncio.gather(
                one.store.save_cron(wanted.name, None, wanted, NOW),
                other.store.save_budget(there.key, there, None, NOW),
                return_exceptions=True,
            )
            if saved is True:
                assert isinstance(gone, Conflicting)
            else:
                assert isinstance(saved, Unprocessable)
                assert gone is True


# ── tokens ──


async def held(url: str) -> dict[str, tuple[int, int]]:
    """By budget: what its row says is held, and what the jobs in flight have paid."""
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch(
            """SELECT key, held, (SELECT coalesce(sum((draws ->> key)::bigint), 0) FROM zizq.flight)
               FROM zizq.budgets ORDER BY key"""
        )
        return {row[0]: (row[1], row[2]) for row in found}
    finally:
        await connection.close()


async def expire(server: Server) -> None:
    """Let the lease of a server run out."""
    assert isinstance(server.store, PostgresStore)
    connection = await asyncpg.connect(server.url)
    try:
        text = "UPDATE zizq.servers SET lease_until = clock_timestamp() - interval '1 s' WHERE fence = $1"
        await connection.execute(text, server.store._fence)
    finally:
        await connection.close()


async def test_servers_together_never_pay_more_than_there_is(databases: Databases) -> None:
    async with servers(databases, 3) as three:
        first = three[0]
        await first.store.save_budget("a", None, budget("a", 3), NOW)
        await first.store.save_budget("b", None, budget("b", 5), NOW)
        jobs = [
            first.job("q" if at % 2 else "r", budgets=(Draw("a", 1), Draw("b", 2))[at % 3 > 1 :]) for at in range(120)
        ]
        await first.enqueue(*jobs)
        used = {"a": 0, "b": 0}
        runs: list[str] = []

        async def work(bench: Bench, owner: int) -> None:
            while len(runs) < len(jobs):
                taken = await bench.take(2, owner=owner)
                for draw in (draw for job in taken for draw in job.budgets or ()):
                    used[draw.key] += draw.cost
                assert used["a"] <= 3
                assert used["b"] <= 5
                runs.extend(job.id for job in taken)
                await asyncio.sleep(0)
                for draw in (draw for job in taken for draw in job.budgets or ()):
                    used[draw.key] -= draw.cost
                assert await bench.store.succeed([job.id for job in taken], NOW) == [True] * len(taken)

        await asyncio.gather(*[work(bench, owner) for bench in three for owner in range(3)])
        assert sorted(runs) == [job.id for job in jobs]
        assert await held(first.url) == {"a": (0, 0), "b": (0, 0)}


async def test_servers_together_hand_out_the_first_in_line(databases: Databases) -> None:
    async with servers(databases, 3) as three:
        await three[0].store.save_budget("a", None, budget("a", 7), NOW)
        ids = await three[0].enqueue(*[three[at % 3].job(f"q{at % 2}", budgets=(Draw("a", 1),)) for at in range(60)])
        while ids:
            some = await asyncio.gather(*[bench.take_ids(1, owner=owner) for bench in three for owner in range(4)])
            taken = [job_id for one in some for job_id in one]
            assert sorted(taken) == ids[: len(taken)]
            assert len(taken) <= 7
            await three[1].store.succeed(taken, NOW)
            del ids[: len(taken)]


async def test_of_many_lanes_those_go_first_whose_jobs_stand_first(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "SPARE", 1)
    async with servers(databases) as (one, other):
        keys = [f"k{at}" for at in range(20)]
        create = {key: budget(key, 2) for key in keys}
        # Every third waits behind one that cannot pay.
        jobs = [
            one.job(f"q{at % 3}", budgets=(Draw(keys[at * 7 % 20], 2 if at % 3 else 1),), priority=at % 4)
            for at in range(120)
        ]
        await other.store.enqueue(jobs, NOW, create=create)
        oracle = MemoryStore(Defaults(), LoadedDice())
        await oracle.enqueue(jobs, NOW, create=create)
        await one.take_ids(1)
        await one.store.release(1)
        flying: list[str] = []
        left = len(jobs)
        while left:
            expected = [job.id for job in await oracle.take(1, (), 3, NOW)]
            taken: list[str] = []
            while len(taken) < len(expected):
                taken += await one.take_ids(3 - len(taken))
            assert taken == expected
            flying += taken
            if len(taken) < 3:
                assert await one.take_ids() == []
                await oracle.succeed(flying, NOW)
                await one.store.succeed(flying, NOW)
                left -= len(flying)
                flying.clear()


async def test_servers_together_keep_a_rate(databases: Databases) -> None:
    async with servers(databases, 3) as three:
        await three[0].store.save_budget("a", None, budget("a", 10, Strategy(StrategyType.TIME_BASED, 1000)), NOW)
        await three[0].enqueue(*[three[0].job(budgets=(Draw("a", 1),)) for _ in range(40)])
        for now, most in ((NOW, 10), (NOW + 99, 0), (NOW + 300, 3), (NOW + 60_000, 10)):
            takes = [bench.take(1, owner=owner, now=now) for owner in range(6) for bench in three]
            taken = [job.id for some in await asyncio.gather(*takes) for job in some]
            assert len(taken) == most
            await three[2].store.succeed(taken, now)


@either
async def test_what_one_server_gives_back_another_takes(databases: Databases, kind: type[PostgresStore]) -> None:
    async with servers(databases, kind=kind) as (one, other):
        await one.store.save_budget("a", None, budget("a", 1), NOW)
        ids = await one.enqueue(*[one.job(budgets=(Draw("a", 1),)) for _ in range(4)])
        assert await one.take_ids() == ids[:1]
        assert await other.take_ids() == []
        await other.hears_of("q")
        assert await other.take_ids() == []
        other.heard.queues.clear()
        assert await one.store.succeed(ids[:1], NOW) == [True]
        await other.hears_of("q")
        assert await other.take_ids() == ids[1:2]
        # Whoever holds it: any server may be told that it is done.
        assert await one.store.succeed(ids[1:2], NOW) == [True]
        assert await one.take_ids() == ids[2:3]


@either
async def test_whoever_stands_behind_a_job_that_another_server_deletes_goes(
    databases: Databases, kind: type[PostgresStore]
) -> None:
    async with servers(databases, kind=kind) as (one, other):
        await one.store.save_budget("a", None, budget("a", 3), NOW)
        small, large, behind = await one.enqueue(*[one.job(budgets=(Draw("a", cost),)) for cost in (1, 3, 1)])
        assert await one.take_ids() == [small]
        assert await one.take_ids() == []
        one.heard.queues.clear()
        assert await other.delete(large) == 1
        await one.hears_of("q")
        assert await one.take_ids() == [behind]


async def test_what_a_dead_server_held_of_a_budget_comes_back(databases: Databases) -> None:
    async with servers(databases, kind=Led) as (one, other):
        await one.store.save_budget("a", None, budget("a", 2), NOW)
        ids = await one.enqueue(*[one.job(budgets=(Draw("a", 1),)) for _ in range(3)])
        assert await one.take_ids() == ids[:2]
        assert await other.take_ids() == []
        await expire(one)
        other.heard.queues.clear()
        await other.renew()
        assert "q" in other.heard.queues
        assert await other.take_ids() == ids[:2]
        # It lives on and does not know: what it says of these jobs changes nothing.
        assert await one.store.succeed(ids[:2], NOW) == [False, False]
        assert await held(one.url) == {"a": (2, 2)}


async def test_one_of_many_creates_a_budget(databases: Databases) -> None:
    async with servers(databases, 3) as three:
        sizes = [budget("a", size) for size in range(2, 8)]
        jobs = [three[at % 3].job(budgets=(Draw("a", 1),)) for at in range(6)]
        calls = [three[at % 3].store.enqueue([jobs[at]], NOW, create={"a": sizes[at]}) for at in range(6)]
        await asyncio.gather(*calls)
        [there] = await three[0].store.budgets()
        assert there in sizes
        assert len(await three[1].take()) == min(6, there.allocation)


async def test_a_budget_does_not_go_while_a_job_comes_that_draws_on_it(databases: Databases) -> None:
    async with servers(databases) as (one, other):
        for at in range(10):
            there = budget(f"b{at}", 5)
            await one.store.save_budget(there.key, None, there, NOW)
            stored, gone = await asyncio.gather(
                one.enqueue(one.job(budgets=(Draw(there.key, 5),))),
                other.store.save_budget(there.key, there, None, NOW),
                return_exceptions=True,
            )
            assert isinstance(gone, Conflicting) != isinstance(stored, Unprocessable)


# ── crons ──


async def test_of_servers_that_fire_a_tick_one_does(databases: Databases) -> None:
    async with servers(databases, 3) as three:
        await three[0].store.save_cron("g", None, group(entry()), NOW)
        for at in range(6):
            now = NOW + at
            dues = [(await bench.store.due_crons(now, 9))[0] for bench in three]
            assert dues[0] == dues[1] == dues[2]
            after = dues[0].entry.with_(next_enqueue_at=now + 1, last_enqueue_at=now)
            jobs = [[rules.job_of(dues[0].entry.job, bench.next_id(), now)] for bench in three]
            calls = [bench.store.fire(dues[0], after, job, now) for bench, job in zip(three, jobs, strict=True)]
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert sorted(type(one).__name__ for one in done) == ["Conflicting", "Conflicting", "list"]
        assert len(await three[1].take()) == 6


# ── pauses ──


async def test_a_pause_is_seen_by_all_servers(databases: Databases) -> None:
    async with servers(databases) as (one, other):
        assert await one.store.pause_queue("q", NOW) == NOW
        assert await other.store.pause_queue("q", NOW + 1) == NOW
        assert await other.store.paused_queues() == {"q": NOW}
        assert await other.store.resume_queue("q")
        assert not await one.store.resume_queue("q")


async def test_a_pause_on_one_server_holds_on_all(databases: Databases) -> None:
    async with servers(databases, 3) as three:
        one = three[0]
        ids = await one.enqueue(*[one.job() for _ in range(60)])
        for at in range(10):
            by, others = three[at % 3], [three[(at + 1) % 3], three[(at + 2) % 3]]
            before = [asyncio.ensure_future(bench.take(1)) for bench in three]
            await asyncio.sleep(0)
            await by.store.pause_queue("q", NOW)
            assert [await bench.take() for bench in three] == [[], [], []]
            taken = [job.id for some in await asyncio.gather(*before) for job in some]
            assert await others[0].store.resume_queue("q")
            await others[1].store.succeed(taken, NOW)
        left = await others[0].take_ids()
        assert left == ids[-len(left) :]
        assert left


@either
async def test_a_queue_that_another_server_resumes_is_told_of(databases: Databases, kind: type[PostgresStore]) -> None:
    async with servers(databases, kind=kind) as (one, other):
        await one.store.save_budget("a", None, budget("a", 3), NOW)
        ids = await one.enqueue(one.job(), one.job(budgets=(Draw("a", 1),)))
        await one.store.pause_queue("q", NOW)
        assert await one.take() == await other.take() == []
        one.heard.queues.clear()
        await other.store.resume_queue("q")
        await one.hears_of("q")
        assert await one.take_ids() == ids


@either
async def test_nobody_waits_behind_a_job_of_a_queue_that_another_server_pauses(
    databases: Databases, kind: type[PostgresStore]
) -> None:
    async with servers(databases, kind=kind) as (one, other):
        await one.store.save_budget("a", None, budget("a", 2), NOW)
        small, _, behind = await one.enqueue(
            *[one.job(queue, budgets=(Draw("a", cost),)) for queue, cost in (("q", 1), ("p", 2), ("q", 1))]
        )
        assert await one.take_ids() == [small]
        assert await one.take_ids() == []
        one.heard.queues.clear()
        await other.store.pause_queue("p", NOW)
        await one.hears_of("q")
        assert await one.take_ids() == [behind]


async def test_pauses_are_counted_over_all_servers(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zizq.engine.pauses.MAX_PAUSED", 3)
    async with servers(databases) as both:
        calls = [both[at % 2].store.pause_queue(f"q{at}", NOW) for at in range(8)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(one == NOW for one in done) == 3
        assert len(await both[0].store.paused_queues()) == 3
