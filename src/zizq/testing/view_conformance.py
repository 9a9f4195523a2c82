"""What every store must show of what it holds, and tell of what moves; inherited by `StoreConformance`."""

from __future__ import annotations

from pathlib import Path

from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.engine.changes import Delete, Patch, Rebind, Retry
from zizq.engine.lists import JobList, ListQuery
from zizq.engine.transitions import Cause
from zizq.job import Status
from zizq.policy import Defaults, Retention
from zizq.testing.bench import DAY, NOW, Bench, Suite

_LIMITED = Strategy(StrategyType.WHILE_IN_FLIGHT)


async def _ids(bench: Bench, of: JobList, place: int | str = 0, limit: int = 100, now: int = NOW) -> list[str]:
    window = await bench.store.window(of, place, limit, now)
    return [] if window is None else [job.id for job in window.jobs]


class ViewConformance(Suite):
    """The part of the suite that is about what is shown."""

    # ── moves ──

    async def test_a_life_is_told_move_by_move(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(ready_at=NOW + 1))
            await bench.store.promote(NOW + 1, 10)
            await bench.take()
            await bench.store.release(1)
            await bench.take(now=NOW + 2)
            await bench.store.succeed([job_id], NOW + 3)
            told = [(cause, [(job.id, job.status) for job in jobs or ()]) for cause, jobs in bench.heard.moves]
            assert told == [
                (Cause.ENQUEUE, [(job_id, Status.SCHEDULED)]),
                (Cause.PROMOTE, [(job_id, Status.READY)]),
                (Cause.RELEASE, [(job_id, Status.READY)]),
                # It is gone, and told of as it was.
                (Cause.SUCCEED, [(job_id, Status.IN_FLIGHT)]),
            ]
            [last] = bench.heard.moves[-1][1] or ()
            assert (last.queue, last.type, last.priority, last.attempts, last.dequeued_at) == (
                "q", "t", 32768, 0, NOW + 2,
            )  # fmt: skip

    async def test_jobs_that_move_together_are_told_of_at_once(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            kept = Retention(completed_ms=DAY)
            ids = await bench.enqueue(*(bench.job(retention=kept) for _ in range(3)))
            await bench.take()
            await bench.store.succeed(ids, NOW)
            assert [cause for cause, _ in bench.heard.moves] == [Cause.ENQUEUE, Cause.SUCCEED]
            _, jobs = bench.heard.moves[-1]
            assert [(job.id, job.status) for job in jobs or ()] == [(one, Status.COMPLETED) for one in ids]

    async def test_failures_are_told_with_their_errors(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(bench.job(), bench.job(retry_limit=0), bench.job(timeout_ms=5))
            await bench.take()
            await bench.fail(ids[0], message="one", error_type="E")
            await bench.fail(ids[1], message="two")
            await bench.store.fail_overdue(NOW + 5, 10)
            moved = [(cause, [job.status for job in jobs or ()]) for cause, jobs in bench.heard.moves[1:]]
            assert moved == [
                (Cause.FAIL, [Status.SCHEDULED]),
                (Cause.FAIL, [Status.DEAD]),
                (Cause.FAIL, [Status.SCHEDULED]),
            ]
            assert [error.error_type for error in bench.heard.errors] == ["E", None, "Timeout"]
            assert [error.message for error in bench.heard.errors][:2] == ["one", "two"]

    async def test_a_job_that_one_worker_too_many_died_of_is_told_of_as_failed(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path, Defaults(max_worker_deaths=1)) as bench:
            ids = await bench.enqueue(bench.job(), bench.job())
            for _ in range(2):
                await bench.take(2)
                await bench.store.release(1, died_at=NOW, running=1)
            causes = [(cause, [job.id for job in jobs or ()]) for cause, jobs in bench.heard.moves[1:]]
            assert causes[0] == (Cause.RELEASE, ids)
            assert sorted(causes[1:]) == [(Cause.FAIL, ids[:1]), (Cause.RELEASE, ids[1:])]
            assert [error.error_type for error in bench.heard.errors] == ["WorkerDied"]

    async def test_changes_are_told(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(bench.job(), bench.job(), bench.job(retry_limit=0))
            await bench.store.save_budget("b", None, Budget("b", 5, _LIMITED, NOW, NOW), NOW)
            await bench.take(1, owner=2, queues=["q"])
            await bench.change(Patch(priority=1), ids=ids[:2])
            await bench.change(Rebind(all=(Draw("b", 1),)), ids=ids[1:2])
            await bench.take(1)
            await bench.take(1)
            await bench.fail(ids[2])
            await bench.change(Retry(), ids=ids[2:])
            await bench.change(Delete(), ids=ids)
            await bench.change(Delete(), ids=ids)
            told = [
                (cause, sorted((job.id, job.status) for job in jobs or ())) for cause, jobs in bench.heard.moves[1:]
            ]
            assert told == [
                (Cause.PATCH, [(ids[0], Status.IN_FLIGHT), (ids[1], Status.READY)]),
                (Cause.PATCH, [(ids[1], Status.READY)]),
                (Cause.FAIL, [(ids[2], Status.DEAD)]),
                (Cause.RETRY, [(ids[2], Status.READY)]),
                (Cause.DELETE, [(ids[0], Status.IN_FLIGHT), (ids[1], Status.IN_FLIGHT), (ids[2], Status.READY)]),
            ]

    async def test_a_job_that_another_stands_for_has_not_moved(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            first = bench.job(unique_key="k")
            await bench.enqueue(first)
            await bench.enqueue(bench.job(unique_key="k"))
            told = [(cause, [job.id for job in jobs or ()]) for cause, jobs in bench.heard.moves]
            assert told == [(Cause.ENQUEUE, [first.id])]

    async def test_what_the_reaper_takes_is_told_as_it_was(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(retention=Retention(completed_ms=5)))
            await bench.take()
            await bench.store.succeed([job_id], NOW)
            assert await bench.store.reap(NOW + 5, 10) == 1
            cause, jobs = bench.heard.moves[-1]
            assert (cause, [(job.id, job.queue, job.status) for job in jobs or ()]) == (
                Cause.REAP, [(job_id, "q", Status.COMPLETED)],
            )  # fmt: skip

    async def test_a_reset_is_told_without_names(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.enqueue(bench.job())
            await bench.store.reset()
            assert bench.heard.moves[-1] == (Cause.DELETE, None)

    # ── figures ──

    async def test_the_tally_knows_all_statuses(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.enqueue(
                bench.job("a", type="x"), bench.job("a", type="y"), bench.job("a", type="y"),
                bench.job("b", ready_at=NOW + 9), bench.job("b", retry_limit=0),
            )  # fmt: skip
            [dead] = await bench.take_ids(queues=["b"])
            await bench.fail(dead)
            await bench.take(2, queues=["a"])
            tally = await bench.store.tally(NOW)
            assert tally == {
                ("a", "x", Status.IN_FLIGHT): 1,
                ("a", "y", Status.IN_FLIGHT): 1,
                ("a", "y", Status.READY): 1,
                ("b", "t", Status.SCHEDULED): 1,
                ("b", "t", Status.DEAD): 1,
            }
            assert ("b", "t", Status.DEAD) not in await bench.store.tally(NOW + DAY)

    async def test_the_oldest_ready_job_is_none_that_is_in_flight(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.enqueue(
                bench.job("a", type="x", ready_at=NOW - 5), bench.job("a", type="y", ready_at=NOW - 3),
                bench.job("a", type="x"), bench.job("b"), bench.job("c", ready_at=NOW + 9),
            )  # fmt: skip
            await bench.take(1, queues=["a"])
            await bench.take(1, queues=["b"])
            assert await bench.store.oldest_ready(NOW) == {"a": NOW - 3}

    async def test_what_an_owner_holds_comes_in_its_order(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(*(bench.job() for _ in range(5)))
            await bench.take(4, owner=7)
            await bench.take(1, owner=8)
            await bench.store.succeed(ids[:1], NOW)
            held = await bench.store.held(7, 2)
            assert [job.id for job in held] == ids[1:3]
            assert all(job.payload is None for job in held)
            assert await bench.store.held(9, 2) == []

    async def test_tokens_that_are_taken_are_missing(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.store.save_budget("b", None, Budget("b", 5, _LIMITED, NOW, NOW), NOW)
            await bench.enqueue(bench.job(budgets=(Draw("b", 2),)))
            assert await bench.store.tokens(NOW) == {"b": 5}
            await bench.take()
            assert await bench.store.tokens(NOW) == {"b": 3}

    # ── lists ──

    async def test_each_list_has_its_order(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ready = [bench.job("a", priority=5), bench.job("b", priority=3), bench.job("a", priority=3)]
            later = [bench.job(ready_at=NOW + 9), bench.job(ready_at=NOW + 5)]
            await bench.enqueue(*ready, *later)
            assert await _ids(bench, JobList.READY) == [ready[1].id, ready[2].id, ready[0].id]
            assert await _ids(bench, JobList.SCHEDULED) == [later[1].id, later[0].id]
            await bench.take(2, queues=["a"], now=NOW + 2)
            await bench.take(1, now=NOW + 1)
            assert await _ids(bench, JobList.IN_FLIGHT) == [ready[1].id, ready[0].id, ready[2].id]
            for job in ready:
                await bench.fail(job.id, kill=True)
            assert await _ids(bench, JobList.DEAD) == [job.id for job in reversed(ready)]
            assert await _ids(bench, JobList.DEAD, now=NOW + DAY) == []

    async def test_a_window_is_the_same_wherever_it_begins(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            jobs = [bench.job("abc"[i % 3], priority=i * 7 % 5) for i in range(60)]
            await bench.enqueue(*jobs)
            # In flight are some from the head, and some from the middle.
            flying = {*await bench.take_ids(9), *await bench.take_ids(6, queues=["c"])}
            order = [job.id for job in sorted(jobs, key=lambda job: (job.priority, job.id)) if job.id not in flying]
            for limit in (1, 7, 50):
                for place in range(48):
                    window = await bench.store.window(JobList.READY, place, limit, NOW)
                    assert window is not None
                    first = max(0, min(place, len(order) - limit))
                    assert (window.first, window.total) == (first, len(order))
                    assert [job.id for job in window.jobs] == order[first : first + limit]
                    assert all(job.payload is None for job in window.jobs)

    async def test_a_window_can_be_had_around_a_job(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.enqueue(*(bench.job() for _ in range(3)))
            ids = await bench.enqueue(*(bench.job() for _ in range(20)))
            await bench.take(3)
            window = await bench.store.window(JobList.READY, ids[10], 5, NOW)
            assert window is not None
            assert (window.first, [job.id for job in window.jobs]) == (8, ids[8:13])
            assert await _ids(bench, JobList.READY, ids[0], 5) == ids[:5]
            assert await _ids(bench, JobList.READY, ids[19], 5) == ids[15:]
            await bench.take(1)
            assert await bench.store.window(JobList.READY, ids[0], 5, NOW) is None
            assert await bench.store.window(JobList.SCHEDULED, ids[1], 5, NOW) is None
            assert await bench.store.window(JobList.DEAD, "x", 5, NOW) is None

    async def test_a_list_of_nothing_is_empty(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            for of in JobList:
                assert await bench.store.window(of, 10**9, 5, NOW) == ([], 0, 0)
                assert await bench.store.find(of, ListQuery(), None, False, 5, NOW) is None

    async def test_a_search_goes_through_a_list_in_its_order_whatever_it_is_for(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            jobs = [bench.job("abc"[i % 3], type="stu"[i % 7 % 3], priority=i * 7 % 5) for i in range(60)]
            await bench.enqueue(*jobs)
            flying = set(await bench.take_ids(7))
            order = sorted((job for job in jobs if job.id not in flying), key=lambda job: (job.priority, job.id))
            for query in (ListQuery(types=("s",)), ListQuery(queues=("b",)), ListQuery(("a", "c"), ("t", "u"))):
                wanted = [job.id for job in order if query.lets_in(job.queue, job.type)]
                for backward in (False, True):
                    walked: list[str] = []
                    while found := await bench.store.find(
                        JobList.READY, query, walked[-1] if walked else None, backward, 1, NOW
                    ):
                        walked.append(found.window.jobs[0].id)
                        assert order[found.position].id == walked[-1]
                    assert walked == (wanted[::-1] if backward else wanted)

    async def test_a_search_finds_the_next_job_on_either_side(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            jobs = [bench.job(queue, type=type) for queue, type in
                    (("mail", "a"), ("web", "send"), ("mail", "resend"), ("web", "b"), ("e-mail", "send"))]  # fmt: skip
            ids = await bench.enqueue(*jobs)

            async def find(
                beside: str | None, backward: bool, of: JobList = JobList.READY, **query: tuple[str, ...]
            ) -> str | None:
                found = await bench.store.find(of, ListQuery(**query), beside, backward, 3, NOW)
                return None if found is None else found.window.jobs[found.position - found.window.first].id

            assert await find(None, False, queues=("mail",)) == ids[0]
            assert await find(ids[0], False, queues=("mail",)) == ids[2]
            assert await find(ids[2], False, queues=("mail",), types=("send",)) == ids[4]
            assert await find(ids[4], False) is None
            assert await find(None, True, types=("send",)) == ids[4]
            assert await find(ids[4], True, types=("nd", "x")) == ids[2]
            assert await find(None, False, queues=("nowhere",)) is None
            assert await find("x", False) is None
            await bench.take(1)
            for of in JobList:
                assert await find(None, True, of, queues=("nowhere",), types=("send",)) is None
            assert await find(None, False, queues=("mail",)) == ids[2]
            assert await find(None, False, JobList.IN_FLIGHT, queues=("mail",)) == ids[0]
            await bench.fail(ids[0], kill=True)
            assert await find(None, False, JobList.DEAD, queues=("mail",), types=("a",)) == ids[0]
            assert await find(ids[0], False, JobList.DEAD) is None
            await bench.change(Patch(ready_at=NOW + 9), ids=ids[1:4])
            assert await find(ids[1], False, JobList.SCHEDULED, queues=("web",)) == ids[3]
            assert await find(ids[3], True, JobList.SCHEDULED, queues=("web",)) == ids[1]
