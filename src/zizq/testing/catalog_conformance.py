"""What every store must do when jobs are listed, counted, deleted, patched and retried."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from zizq.engine.changes import Delete, Patch, RetentionPatch, Retry
from zizq.engine.selection import EVERYTHING, Range
from zizq.job import JobRecord, Status
from zizq.policy import Backoff, Retention
from zizq.store.base import PAGE_BYTES
from zizq.testing.bench import DAY, NOW, PAYLOAD, Bench, Suite

MANY = 2_500
"""Jobs that no store changes in a single short commit."""


class CatalogConformance(Suite):
    """The suite of lists, counts and changes."""

    @asynccontextmanager
    async def five(self, place: Path) -> AsyncIterator[tuple[Bench, dict[Status, str]]]:
        """A store with a job of each status; `a` is the queue of all but the dead one, which is in `b`."""
        async with self.bench(place) as bench:
            jobs = [
                bench.job("a", ready_at=NOW + 1000),
                bench.job("a", type="u"),
                bench.job("a", priority=1),
                bench.job("a", priority=0, retention=Retention(completed_ms=DAY)),
                bench.job("b", priority=0, retry_limit=0),
            ]
            ids = await bench.enqueue(*jobs)
            await bench.take(3)
            await bench.store.succeed([ids[3]], NOW)
            await bench.fail(ids[4])
            yield bench, dict(zip(Status, ids, strict=True))

    # ── lists ──

    async def test_a_page_has_whole_jobs_by_identifier(self, tmp_path: Path) -> None:
        async with self.five(tmp_path) as (bench, ids):
            page = await bench.store.page(EVERYTHING, None, "asc", 50, NOW)
            assert [job.id for job in page.jobs] == list(ids.values())
            assert [job.status for job in page.jobs] == list(Status)
            assert {bytes(job.payload or b"") for job in page.jobs} == {PAYLOAD}
            assert not page.more
            for job in page.jobs:
                read = await bench.store.get(job.id, NOW)
                assert read is not None
                assert read.with_(payload=None) == job.with_(payload=None)

    async def test_a_page_begins_beyond_any_text_and_ends_at_its_limit(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(*[bench.job("ab"[n % 2]) for n in range(7)])
            for conditions in ({}, {"queues": {"a", "b"}}, {"ids": ids}):
                assert await bench.page_ids(limit=3, **conditions) == ids[:3]
                assert await bench.page_ids(limit=3, after=ids[2], **conditions) == ids[3:6]
                assert await bench.page_ids(limit=9, after=ids[2], order="desc", **conditions) == [ids[1], ids[0]]
                assert await bench.page_ids(order="desc", **conditions) == ids[::-1]
                assert await bench.page_ids(after=ids[3][:-1] + "~", **conditions) == ids[4:]
                assert await bench.page_ids(after="", **conditions) == ids
                assert await bench.page_ids(after="~", **conditions) == []
            first = await bench.store.page(EVERYTHING, None, "asc", 7, NOW)
            second = await bench.store.page(EVERYTHING, None, "asc", 6, NOW)
            assert (first.more, second.more) == (False, True)

    async def test_lists_and_counts_meet_every_condition(self, tmp_path: Path) -> None:
        async with self.five(tmp_path) as (bench, ids):
            scheduled, ready, flying, completed, dead = ids.values()
            expected: list[tuple[dict[str, Any], list[str]]] = [
                ({}, list(ids.values())),
                *(({"statuses": [status]}, [job_id]) for status, job_id in ids.items()),
                ({"statuses": ["in_flight", "dead"]}, [flying, dead]),
                ({"statuses": ["ready", "in_flight"]}, [ready, flying]),
                ({"statuses": ["ready", "completed"]}, [ready, completed]),
                ({"queues": ["a"]}, [scheduled, ready, flying, completed]),
                ({"queues": ["a"], "types": ["t"]}, [scheduled, flying, completed]),
                ({"types": ["u", "none"]}, [ready]),
                ({"queues": ["none"]}, []),
                ({"priority": Range(0, 1)}, [flying, completed, dead]),
                ({"priority": Range(1, 1), "statuses": ["in_flight"]}, [flying]),
                ({"priority": Range(0, 2**16), "statuses": ["ready"]}, [ready]),
                ({"ready_at": Range(NOW + 1, 2**64)}, [scheduled]),
                ({"attempts": Range(1, 2**32)}, [dead]),
                ({"ids": [dead, ready, "nonsense"]}, [ready, dead]),
                ({"ids": [dead, flying], "statuses": ["ready", "dead"]}, [dead]),
                ({"ids": []}, []),
                ({"statuses": []}, []),
                ({"queues": [], "priority": Range(0, 9)}, []),
            ]
            for conditions, found in expected:
                assert await bench.page_ids(**conditions) == found, conditions
                assert await bench.count(**conditions) == len(found), conditions

    async def test_what_no_job_can_have_is_not_found(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job("a"))
            for text in ("a\0", "\0", "", "Ω" * 300):
                for name in ("queues", "types", "ids", "budgets"):
                    conditions: dict[str, Any] = {name: [text]}
                    assert await bench.page_ids(**conditions) == []
                    assert await bench.count(**conditions) == 0
                    assert (await bench.change(Delete(), **conditions)).jobs == 0
                assert await bench.store.get(text, NOW) is None
                assert await bench.store.errors(text, None, "asc", 9) == []
            assert await bench.page_ids(after=f"{job_id[:-1]}\0") == [job_id]
            assert await bench.page_ids(after=f"{job_id}\0") == []
            assert await bench.page_ids(after=f"{job_id}\0", order="desc") == [job_id]
            assert await bench.store.errors(job_id, 2**62, "desc", 9) == []
            assert await bench.store.error(job_id, 2**62) is None
            assert await bench.count(priority=Range(2**70, 2**80), attempts=Range(0, 2**70)) == 0

    async def test_expired_jobs_are_neither_listed_nor_counted(self, tmp_path: Path) -> None:
        async with self.five(tmp_path) as (bench, ids):
            left = list(ids.values())[:3]
            assert await bench.page_ids(now=NOW + DAY) == left
            for conditions in (
                {},
                {"statuses": ["ready", "completed", "in_flight", "scheduled"]},
                {"ids": ids.values()},
            ):
                assert await bench.count(now=NOW + DAY, **conditions) == 3
            assert await bench.count(now=NOW + DAY, queues=["b"]) == 0

    async def test_a_page_of_heavy_payloads_ends_early(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            heavy = msgspec.msgpack.encode("x" * (PAGE_BYTES // 2))
            ids = await bench.enqueue(*[bench.job(payload=heavy) for _ in range(3)])
            page = await bench.store.page(EVERYTHING, None, "asc", 3, NOW)
            assert ([job.id for job in page.jobs], page.more) == (ids[:1], True)

    # ── delete ──

    async def test_a_delete_removes_what_is_selected(self, tmp_path: Path) -> None:
        async with self.five(tmp_path) as (bench, ids):
            scheduled, _, flying, completed, dead = ids.values()
            assert (await bench.change(Delete(), queues=["a"], statuses=["ready", "in_flight"])).jobs == 2
            assert await bench.page_ids() == [scheduled, completed, dead]
            assert bench.heard.freed_by == {1: 3}
            assert await bench.take() == []
            assert await bench.store.succeed([flying], NOW) == [False]
            assert (await bench.change(Delete())).jobs == 3
            assert await bench.store.queues(NOW) == []
            assert await bench.store.errors(dead, None, "asc", 9) == []

    async def test_a_delete_tells_ready_from_in_flight(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            flying, _ = await bench.enqueue(bench.job(), bench.job())
            await bench.take(1)
            assert (await bench.change(Delete(), ids=[flying], statuses=["ready"])).jobs == 0
            assert (await bench.change(Delete(), statuses=["ready"])).jobs == 1
            assert await bench.page_ids() == [flying]
            assert (await bench.change(Delete(), statuses=["in_flight"])).jobs == 1
            assert await bench.count() == 0

    async def test_an_empty_condition_changes_nothing(self, tmp_path: Path) -> None:
        async with self.five(tmp_path) as (bench, _):
            for name in ("ids", "statuses", "queues", "types"):
                nothing: dict[str, Any] = {name: []}
                assert (await bench.change(Delete(), **nothing)).jobs == 0
            assert await bench.count() == 5

    async def test_many_jobs_are_deleted_at_once(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(*[bench.job("ab"[n % 2], type="tu"[n % 3 == 0]) for n in range(MANY)])
            keep = await bench.enqueue(bench.job("c"))
            await bench.take(10)
            call = asyncio.ensure_future(bench.change(Delete(), queues=["a", "b"]))
            counts = set()
            while not call.done():
                await asyncio.sleep(0)
                # Whoever looks in the meantime sees all of them or none.
                counts.add(await bench.count())
                assert await bench.count(types=["u"]) in (0, len(ids) // 3 + 1)
                assert await bench.page_ids(limit=2) in (ids[:2], keep)
            assert (await call).jobs == MANY
            assert counts <= {MANY + 1, 1}
            assert await bench.count() == 1
            assert await bench.store.queues(NOW) == ["c"]
            assert await bench.status(ids[-1]) is None
            assert bench.heard.freed_by == {1: 10}
            assert await bench.take_ids() == keep
            assert (await bench.change(Delete())).jobs == 1
            assert await bench.enqueue(*[bench.job() for _ in range(3)]) == await bench.take_ids()

    async def test_jobs_that_end_while_many_are_deleted_stay_ended(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(*[bench.job() for _ in range(MANY)])
            taken = [job.id for job in await bench.take(40)]
            call = asyncio.ensure_future(bench.change(Delete()))
            for job_id in taken[:20:2]:
                await bench.store.succeed([job_id], NOW)
            for job_id in taken[1:20:2]:
                await bench.fail(job_id)
            await bench.store.release(1)
            deleted = (await call).jobs
            assert MANY - 20 <= deleted <= MANY
            assert await bench.count() == len(await bench.page_ids())
            left = [job_id for job_id in ids if await bench.status(job_id) is not None]
            assert left == []
            assert await bench.take() == []
            assert await bench.store.next_due() is None

    # ── patch ──

    async def test_a_patch_changes_what_it_names(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(retry_limit=1, retention=Retention(completed_ms=1, dead_ms=2)))
            patch = Patch(
                queue="other",
                priority=3,
                retry_limit=None,
                backoff=Backoff(2.0, 3, 4),
                retention=RetentionPatch(dead_ms=9),
            )
            changed = await bench.change(patch, ids=[job_id])
            read = await bench.store.get(job_id, NOW)
            assert read is not None
            assert changed == (1, read.with_(payload=None))
            assert (read.queue, read.priority, read.retry_limit) == ("other", 3, None)
            assert (read.backoff, read.retention) == (Backoff(2.0, 3, 4), Retention(completed_ms=1, dead_ms=9))
            assert await bench.store.queues(NOW) == ["other"]
            assert await bench.take_ids(queues=["q"]) == []
            [taken] = await bench.take(queues=["other"])
            assert (taken.id, taken.priority, bytes(taken.payload or b"")) == (job_id, 3, PAYLOAD)

    async def test_a_patched_job_stands_at_its_new_place(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(*[bench.job() for _ in range(5)])
            await bench.change(Patch(priority=0), ids=[ids[3]])
            await bench.change(Patch(priority=50_000), ids=[ids[0], ids[1]])
            await bench.change(Patch(retry_limit=7), ids=[ids[2]])
            await bench.change(Patch(priority=1), ids=[ids[4]])
            await bench.change(Patch(priority=40_000), ids=[ids[4]])
            taken = await bench.take()
            assert [job.id for job in taken] == [ids[3], ids[2], ids[4], ids[0], ids[1]]
            assert taken[1].retry_limit == 7

    async def test_a_patch_tells_of_jobs_that_became_available(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ready, waiting = await bench.enqueue(bench.job(), bench.job("late", ready_at=NOW + 9))
            bench.heard.queues.clear()
            await bench.change(Patch(queue="other"), ids=[ready])
            await bench.change(Patch(ready_at=None), ids=[waiting])
            assert bench.heard.queues == ["other", "late"]

    async def test_a_patch_moves_jobs_in_time(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(
                bench.job(ready_at=NOW - 5), bench.job(ready_at=NOW + 50), bench.job(ready_at=NOW - 3, priority=0)
            )
            [flying] = [job.id for job in await bench.take(1)]
            seen = []
            for ready_at in (None, NOW - 1, NOW + 10, NOW + 20, NOW, NOW + 30):
                changed = await bench.change(Patch(ready_at=ready_at))
                assert changed.jobs == 3
                jobs = (await bench.store.page(EVERYTHING, None, "asc", 9, NOW)).jobs
                seen.append([(job.status.value, job.ready_at - NOW) for job in jobs])
                assert await bench.store.next_due() == (ready_at if ready_at and ready_at > NOW else None)
            assert flying == ids[2]
            assert seen == [
                [("ready", -5), ("ready", 0), ("in_flight", -3)],
                [("ready", -1), ("ready", -1), ("in_flight", -1)],
                [("scheduled", 10), ("scheduled", 10), ("in_flight", 10)],
                [("scheduled", 20), ("scheduled", 20), ("in_flight", 20)],
                [("ready", 0), ("ready", 0), ("in_flight", 0)],
                [("scheduled", 30), ("scheduled", 30), ("in_flight", 30)],
            ]
            assert await bench.take() == []
            assert await bench.store.promote(NOW + 30, 9) == 2
            assert await bench.take_ids() == ids[:2]

    async def test_a_patched_job_in_flight_keeps_its_worker_and_its_changes(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job())
            await bench.take()
            await bench.change(Patch(queue="other", priority=9, retry_limit=0), ids=[job_id])
            assert bench.heard.freed_by == {}
            assert await bench.count(queues=["other"], statuses=["in_flight"]) == 1
            await bench.store.release(1)
            assert await bench.take_ids(queues=["q"]) == []
            assert await bench.take_ids(queues=["other"]) == [job_id]
            failed = await bench.fail(job_id)
            assert failed is not None
            assert (failed.status, failed.queue) == (Status.DEAD, "other")

    async def test_finished_jobs_are_not_patched(self, tmp_path: Path) -> None:
        async with self.five(tmp_path) as (bench, ids):
            assert (await bench.change(Patch(priority=3))).jobs == 3
            assert await bench.page_ids(priority=Range(3, 3)) == list(ids.values())[:3]
            assert (await bench.change(Patch(priority=3), ids=[ids[Status.DEAD]])) == (0, None)
            assert (await bench.change(Patch(), ids=[ids[Status.READY]])).jobs == 1

    async def test_many_jobs_are_patched_at_once(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(*[bench.job() for _ in range(MANY)])
            flying = [job.id for job in await bench.take(30)]
            call = asyncio.ensure_future(bench.change(Patch(queue="other", priority=5)))
            seen = set()
            while not call.done():
                await asyncio.sleep(0)
                seen.add((await bench.count(queues=["q"]), await bench.count(priority=Range(5, 5))))
                job = await bench.store.get(ids[-1], NOW)
                assert job is not None
                assert (job.queue, job.priority) in (("q", 32768), ("other", 5))
            assert (await call).jobs == MANY
            # The two counts are two instants; what was patched in between shows in the second alone.
            assert seen <= {(MANY, 0), (MANY, MANY), (0, MANY)}
            assert await bench.count(queues=["other"], priority=Range(5, 5)) == MANY
            assert await bench.store.queues(NOW) == ["other"]
            await bench.store.release(1)
            taken: list[str] = []
            while some := await bench.take_ids(500, owner=2, queues=["other"]):
                taken += some
            assert taken == ids
            assert set(flying) < set(taken)
            assert await bench.store.succeed(ids, NOW) == [True] * MANY

    async def test_jobs_that_end_while_many_are_patched_end_as_they_did(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.enqueue(*[bench.job() for _ in range(MANY)])
            taken = [job.id for job in await bench.take(40)]
            call = asyncio.ensure_future(bench.change(Patch(queue="other", retry_limit=9)))
            for turn, job_id in enumerate(taken):
                if turn % 2:
                    await bench.store.succeed([job_id], NOW)
                else:
                    await bench.fail(job_id, retry_at=NOW + 500)
            await call
            assert await bench.count(queues=["other"]) == MANY - 20
            assert await bench.count(queues=["other"], statuses=["scheduled"]) == 20
            assert await bench.count(attempts=Range(1, 1), ready_at=Range(NOW + 500, NOW + 500)) == 20
            assert len(await bench.page_ids(queues=["other"])) == 2000

    # ── retry ──

    async def test_a_retry_gives_a_dead_job_another_life(self, tmp_path: Path) -> None:
        async with self.five(tmp_path) as (bench, ids):
            bench.heard.queues.clear()
            assert (await bench.change(Retry(), statuses=["ready", "completed"])).jobs == 0
            changed = await bench.change(Retry(), now=NOW + 7, ids=[ids[Status.DEAD]])
            assert changed.jobs == 1
            job = changed.job
            assert job is not None
            assert (job.id, job.status, job.attempts, job.ready_at) == (ids[Status.DEAD], Status.READY, 0, NOW + 7)
            assert (job.purge_at, job.failed_at) == (None, NOW)
            assert bench.heard.queues == ["b"]
            assert await bench.store.errors(job.id, None, "asc", 9) == []
            assert await bench.take_ids(queues=["b"]) == [job.id]
            failed = await bench.fail(job.id)
            assert failed is not None
            assert (failed.status, failed.attempts) == (Status.DEAD, 1)
            assert len(await bench.store.errors(job.id, None, "asc", 9)) == 1

    async def test_expired_jobs_are_not_changed(self, tmp_path: Path) -> None:
        async with self.five(tmp_path) as (bench, _):
            assert (await bench.change(Retry(), now=NOW + DAY)).jobs == 0
            assert (await bench.change(Delete(), now=NOW + DAY)).jobs == 3

    # ── many at the same time ──

    async def test_takes_and_changes_at_the_same_time_agree(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.enqueue(*[bench.job() for _ in range(300)])

            async def take_all(owner: int) -> list[JobRecord]:
                jobs: list[JobRecord] = []
                while some := await bench.take(3, owner=owner):
                    jobs += some
                return jobs

            *taken, later, moved = await asyncio.gather(
                take_all(1),
                take_all(2),
                bench.change(Patch(ready_at=NOW + 99), statuses=["ready"]),
                bench.change(Patch(queue="other"), statuses=["ready"]),
            )
            ids = [job.id for jobs in taken for job in jobs]
            assert len(ids) == len(set(ids)) == 300 - later.jobs
            assert await bench.count(statuses=["in_flight"]) == len(ids)
            assert await bench.count(statuses=["scheduled"], ready_at=Range(NOW + 99, NOW + 99)) == later.jobs
            assert await bench.count(queues=["other"]) >= moved.jobs
