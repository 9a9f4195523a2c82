"""Changes of many jobs: what a crash, a full disk and a worker in the middle of one leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from unit.store.writing import bench_at, opened
from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.engine import decide
from zizq.engine.changes import Change, Delete, Patch, Rebind
from zizq.engine.selection import EVERYTHING, Range, Selection
from zizq.errors import Conflicting, Outdated, Unavailable, Unprocessable
from zizq.job import Batch, Failure, Status
from zizq.policy import Defaults
from zizq.store import rows
from zizq.store.sqlite import changes, pages
from zizq.store.sqlite.change_statements import ApplyCall, ChangeCall
from zizq.store.sqlite.schema import open_database
from zizq.store.sqlite.statements import Statements
from zizq.store.sqlite.store import LISTERS, SqliteStore
from zizq.store.sqlite.upkeep import ROOM_PAGES
from zizq.testing.bench import DAY, NOW, Bench, Recorder
from zizq.testing.clock import LoadedDice

CHUNK = 10
PATCH = Patch(queue="other", priority=5)
BUDGET = Budget("b", 5, Strategy(StrategyType.WHILE_IN_FLIGHT), created_at=NOW, updated_at=NOW)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "FEW", CHUNK)
    monkeypatch.setattr(changes, "RETRY_S", 0)


def hook(bench: Bench, on_statement: Callable[[str], None]) -> None:
    """Call something at each statement of the writer, in its thread."""

    def note(cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        on_statement(sql.strip())
        return True

    bench.store._writer._db.exec_trace = note  # type: ignore[attr-defined]


def killed_at(place: Path, statement: str, count: int) -> Callable[[str], None]:
    """Copies the files as they are when a statement begins for the `count`th time: what a killed server leaves."""
    seen = 0

    def copy(sql: str) -> None:
        nonlocal seen
        if sql.startswith(statement):
            seen += 1
            if seen == count:
                (place / "data").mkdir(parents=True)
                for name in ("jobs.db", "jobs.db-wal"):
                    (place / "data" / name).write_bytes((place.parent / "live/data" / name).read_bytes())

    return copy


async def crash_in(place: Path, change: Change, statement: str, count: int) -> list[str]:
    """Change 45 jobs of which 5 are in flight, and keep what is on disk in the middle of it; returns the jobs."""
    async with bench_at(place / "live") as bench:
        ids = await bench.enqueue(*[bench.job(retry_limit=0) for _ in range(45)])
        await bench.take(5)
        hook(bench, killed_at(place / "dead", statement, count))
        assert (await bench.change(change)).jobs == 45
        await bench.count()
    return ids


@pytest.mark.parametrize("change", [Delete(), PATCH])
async def test_a_crash_before_the_change_is_certain_forgets_it(tmp_path: Path, change: Change) -> None:
    ids = await crash_in(tmp_path, change, "INSERT INTO pending", 3)
    async with bench_at(tmp_path / "dead") as bench:
        assert await bench.count(queues=["q"], statuses=["ready"]) == 45
        assert await bench.take_ids() == ids
        assert (await bench.change(change)).jobs == 45


@pytest.mark.parametrize("count", [1, 3, 5])
async def test_a_crash_after_a_delete_is_certain_carries_it_on(tmp_path: Path, count: int) -> None:
    ids = await crash_in(tmp_path, Delete(), "SELECT id FROM pending", count)
    async with bench_at(tmp_path / "dead") as bench:
        assert await bench.count() == 0
        assert await bench.page_ids() == []
        assert await bench.store.queues(NOW) == []
        assert await bench.take() == []
        assert await bench.status(ids[-1]) is None
        new = await bench.enqueue(bench.job())
        assert await bench.take_ids() == new


@pytest.mark.parametrize("count", [1, 3, 5])
async def test_a_crash_after_a_patch_is_certain_carries_it_on(tmp_path: Path, count: int) -> None:
    ids = await crash_in(tmp_path, PATCH, "SELECT id FROM pending", count)
    async with bench_at(tmp_path / "dead") as bench:
        # Another change waits for its turn, as it would have without the crash.
        assert (await bench.change(Patch(retry_limit=3), ids=[ids[-1]])).jobs == 1
        assert await bench.status(ids[-1]) is Status.READY
        job = await bench.store.get(ids[-1], NOW)
        assert job is not None
        assert (job.queue, job.priority) == ("other", 5)
        assert await bench.count(queues=["other"]) == 45
        taken: list[str] = []
        while some := await bench.take_ids(queues=["other"]):
            taken += some
        assert taken == ids


def refuse(statement: str, times: int) -> Callable[[str], None]:
    """Let a statement fail as if the disk were full, as often as is said."""
    left = times

    def fail(sql: str) -> None:
        nonlocal left
        if left and sql.startswith(statement):
            left -= 1
            raise apsw.FullError("the disk is full")

    return fail


@pytest.mark.parametrize("statement", ["INSERT INTO pending", "INSERT INTO bulk"])
@pytest.mark.parametrize("change", [Delete(), PATCH])
async def test_a_full_disk_leaves_all_as_it_was(tmp_path: Path, statement: str, change: Change) -> None:
    async with bench_at(tmp_path) as bench:
        ids = await bench.enqueue(*[bench.job() for _ in range(45)])
        await bench.take(5)
        for job_id in ids[:2]:
            await bench.fail(job_id)
        hook(bench, refuse(statement, 1))
        with pytest.raises(Unavailable, match="disk is full"):
            await bench.change(change)
        await bench.store.release(1)
        assert (await bench.change(change, statuses=["dead"])).jobs == 0
        assert await bench.count(queues=["q"]) == 45
        taken: list[str] = []
        while some := await bench.take_ids():
            taken += some
        assert taken == ids[2:]
        assert await bench.store.promote(NOW + DAY, 9) == 2


@pytest.mark.parametrize("change", [Delete(), PATCH])
async def test_what_is_certain_is_carried_out_when_the_disk_has_room_again(tmp_path: Path, change: Change) -> None:
    async with bench_at(tmp_path) as bench:
        await bench.enqueue(*[bench.job() for _ in range(45)], *[bench.job("r") for _ in range(25)])
        hook(bench, refuse("DELETE FROM pending", 3))
        assert (await bench.change(change, queues=["q"])).jobs == 45
        assert await bench.count(queues=["q"]) == 0
        # The next change of many is refused while the disk holds up the one before, and then waits for it.
        assert await delete_all(bench) == (25 if isinstance(change, Delete) else 70)
        assert await bench.count() == 0


async def delete_all(bench: Bench) -> int:
    """Delete all jobs, when the disk lets it; returns how many."""
    while True:
        with suppress(Unavailable):
            return (await bench.change(Delete())).jobs


async def test_a_caller_that_goes_away_does_not_leave_half_a_change(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        ids = await bench.enqueue(*[bench.job() for _ in range(45)])
        call = asyncio.ensure_future(bench.change(PATCH, ids=ids))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        # The change after it waits for its turn.
        assert (await bench.change(Patch(), ids=["none"])).jobs == 0
        assert await bench.count(queues=["other"]) == 45


async def test_a_store_that_is_closed_in_the_middle_finishes_when_it_opens(tmp_path: Path) -> None:
    bench = await opened(tmp_path)
    await bench.enqueue(*[bench.job() for _ in range(500)])
    assert (await bench.change(Delete())).jobs == 500
    await bench.store.close()
    async with bench_at(tmp_path) as bench:
        assert await bench.count() == 0
        assert (await bench.change(Delete())).jobs == 0


async def test_a_list_that_had_to_wait_for_a_connection_does_not_see_half_a_change(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench, AsyncExitStack() as leases:
        ids = await bench.enqueue(*[bench.job() for _ in range(45)])
        await bench.take(5)
        store: Any = bench.store
        for _ in range(LISTERS):
            await leases.enter_async_context(store._listers.lease())
        count = asyncio.create_task(bench.count(priority=Range(5, 5)))
        await asyncio.sleep(0)
        change = asyncio.create_task(bench.change(PATCH, ids=ids))
        while store._changes.armed is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await leases.aclose()
        assert await count == 45
        assert (await change).jobs == 45


async def test_a_count_that_comes_just_as_a_second_change_becomes_certain_waits_for_that_one(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        await bench.enqueue(*[bench.job() for _ in range(25)])
        assert (await bench.change(PATCH)).jobs == 25
        counts: list[asyncio.Task[int]] = []

        def moved(*_: object) -> None:
            # The change is certain from here on, and who carries it out has not begun.
            if bench.store._changes.is_half_done:  # type: ignore[attr-defined]
                counts.append(asyncio.create_task(bench.count(queues=["third"])))

        bench.store._changes._tell = moved  # type: ignore[attr-defined]
        assert (await bench.change(Patch(queue="third"))).jobs == 25
        assert await counts[0] == 25


async def test_a_reset_in_the_middle_ends_it(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        await bench.enqueue(*[bench.job() for _ in range(500)])
        await bench.take(20)
        call = asyncio.ensure_future(bench.change(PATCH))
        await bench.store.reset()
        await call
        new = await bench.enqueue(bench.job())
        assert await bench.page_ids() == new
        assert await bench.take_ids() == new


async def test_a_job_that_a_take_meets_in_mid_change_is_set_aside_and_comes_back(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        ids = await bench.enqueue(*[bench.job() for _ in range(4)])
        # The take runs while the change is with the writer: two are changed, one does not meet the condition.
        change = bench.store.change(
            Selection(ids=frozenset(ids[:3]), priority=EVERYTHING.priority, queues=frozenset("q")),
            Patch(queue="z"),
            NOW,
        )
        miss = bench.store.change(Selection(ids=frozenset(ids[3:]), queues=frozenset("none")), Patch(queue="z"), NOW)
        changed, _, missed = await asyncio.gather(change, bench.take(queues=["none"]), miss)
        assert (changed.jobs, missed.jobs) == (3, 0)
        ice = bench.store._ice  # type: ignore[attr-defined]
        ice.freeze(ids[3:])
        ice.freeze(ids[3:])
        assert await bench.take_ids(queues=["q"]) == []
        ice.thaw(ids[3:])
        assert await bench.take_ids(queues=["q"]) == []
        ice.thaw(ids[3:])
        assert await bench.take_ids(queues=["q"]) == ids[3:]


async def test_deleted_jobs_give_their_room_back_to_the_disk(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        payload = b"\xc6\x00\x01\x00\x00" + b"x" * 65_536
        await bench.enqueue(*[bench.job(payload=payload) for _ in range(400)])
        db = bench.store._writer._db  # type: ignore[attr-defined]
        before = db.execute("PRAGMA page_count").get
        assert before > ROOM_PAGES
        await bench.change(Delete())
        await asyncio.wait([bench.store._changes._finishing])  # type: ignore[attr-defined]
        await bench.store.reap(NOW, 9)
        assert db.execute("PRAGMA freelist_count").get <= ROOM_PAGES
        assert db.execute("PRAGMA page_count").get < before


# ── between the instant at which a change happens and its end ──


async def before_its_end(bench: Bench, change: Change) -> asyncio.Event:
    """Let a change of all jobs happen, and its end wait until the event is set."""
    happened, go_on = asyncio.Event(), asyncio.Event()
    finish = bench.store._changes._finish  # type: ignore[attr-defined]

    async def finish_later(armed: Any) -> None:
        happened.set()
        await go_on.wait()
        await finish(armed)

    bench.store._changes._finish = finish_later  # type: ignore[attr-defined]
    turn = asyncio.create_task(bench.change(change))
    await happened.wait()
    # The loop knows tasks only weakly.
    go_on.turn = turn  # type: ignore[attr-defined]
    return go_on


async def test_a_job_that_is_deleted_with_many_lets_go_of_its_unique_key_at_once(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        await bench.enqueue(*[bench.job(unique_key=f"k{n}", unique_while="exists") for n in range(45)])
        go_on = await before_its_end(bench, Delete())
        new = bench.job(unique_key="k44", unique_while="exists")
        assert await bench.store.enqueue([new], NOW) == [new]
        go_on.set()
        await asyncio.wait([bench.store._changes._finishing])  # type: ignore[attr-defined]
        assert await bench.page_ids() == [new.id]


async def test_nothing_is_folded_into_a_job_that_is_deleted_with_many(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        waiting = bench.job(batch=Batch("k", "true", "$new"))
        await bench.enqueue(*[bench.job() for _ in range(45)], waiting)
        go_on = await before_its_end(bench, Delete())
        assert await bench.store.pending(["k"]) == {}
        with pytest.raises(Outdated):
            await bench.store.enqueue([], NOW, [waiting], {"k": waiting.id})
        go_on.set()


async def test_jobs_that_are_deleted_with_many_do_not_hold_their_budget_back(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        await bench.store.save_budget("b", None, BUDGET, NOW)
        await bench.enqueue(*[bench.job(budgets=(Draw("b", 1),)) for _ in range(45)])
        go_on = await before_its_end(bench, Delete())
        assert await bench.store.save_budget("b", BUDGET, None, NOW)
        go_on.set()


async def test_jobs_that_are_bound_with_many_hold_their_budget_back_at_once(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        await bench.store.save_budget("b", None, BUDGET, NOW)
        await bench.enqueue(*[bench.job() for _ in range(45)])
        go_on = await before_its_end(bench, Rebind(put=Draw("b", 2)))
        with pytest.raises(Conflicting, match="referenced by 45 unfinished jobs"):
            await bench.store.save_budget("b", BUDGET, None, NOW)
        smaller = msgspec.structs.replace(BUDGET, allocation=1)
        with pytest.raises(Unprocessable, match="45 unfinished jobs draw up to 2 from it"):
            await bench.store.save_budget("b", BUDGET, smaller, NOW)
        go_on.set()


@pytest.mark.parametrize("change", [PATCH, Rebind(all=())])
def test_a_job_that_dies_between_its_noting_and_the_change_stays_as_it_died(tmp_path: Path, change: Change) -> None:
    db = open_database(tmp_path / "jobs.db", 2**20)
    statements = Statements(db)
    bench = Bench(SqliteStore(tmp_path, Defaults(), LoadedDice()), Recorder(), LoadedDice())
    dying, other = bench.job(), bench.job()
    statements.enqueue([[dying, other]])
    statements.changes.collect([ChangeCall([dying.id, other.id], EVERYTHING, change, NOW, {})])
    flying = dying.with_(status=Status.IN_FLIGHT, dequeued_at=NOW)
    statements.settle([[decide.on_failure(flying, Failure(message="x", kill=True), NOW, Defaults(), 0.0)]])
    statements.changes.arm([(change, NOW)])
    assert getattr(pages.one(db, dying.id), "status", None) is Status.DEAD
    [moved] = statements.changes.apply([ApplyCall(change, NOW, {}, CHUNK)])
    assert moved is not None
    assert [one.before.id for one in moved] == [other.id]
    assert statements.changes.apply([ApplyCall(change, NOW, {}, CHUNK)]) == [None]
    assert db.execute("SELECT status FROM jobs WHERE id = ?", (dying.id,)).get == rows.STATUS[Status.DEAD]
    db.close()
