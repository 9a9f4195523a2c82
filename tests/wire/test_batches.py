"""Batched jobs (protocol.md#6)."""

import asyncio

import msgspec
import pytest

from wire.talk import FIRST_ID, MSGPACK, NOW, pack, serving, unpack

SUM = {"key": "k", "when": "true", "fold": "$existing + $new"}
ONCE = "if $existing == $new then {} else {} end"
"""Says one thing in the dry run, and another when two payloads differ."""


def job(payload, batch=SUM, **fields):
    return {"type": "t", "queue": "q", "payload": payload, "batch": batch} | fields


async def came(server, payload, batch=SUM, **fields):
    """The status, identifier and flag of an enqueue; it is never a duplicate."""
    reply = await server.post("/jobs", job(payload, batch, **fields))
    assert reply.status in (200, 201), reply
    assert reply.value["duplicate"] is False
    return reply.status, reply.value["id"], reply.value["folded"]


async def new(server, payload, batch=SUM, **fields):
    """A job that was not folded."""
    status, job_id, folded = await came(server, payload, batch, **fields)
    assert (status, folded) == (201, False)
    return job_id


async def payloads(server):
    """All that is stored, the oldest first."""
    return [one["payload"] for one in (await server.ask("GET", "/jobs")).value["jobs"]]


# ── folding ──────────────────────────────────────────────────────────────────────────────────────────


async def test_the_first_is_201_and_those_that_go_into_it_are_200():
    async with serving() as server:
        for status, folded in ((201, b"false"), (200, b"true"), (200, b"true")):
            reply = await server.post("/jobs", job(1))
            assert (reply.status, reply.body) == (
                status,
                b'{"id":"%s","type":"t","queue":"q","priority":32768,"status":"ready","ready_at":1790000000000,'
                b'"attempts":0,"batch":{"key":"k","when":"true","fold":"$existing + $new"},'
                b'"duplicate":false,"folded":%s}' % (FIRST_ID.encode(), folded),
            )
        assert await payloads(server) == [3]


async def test_both_formats_fold_alike():
    async with serving() as server:
        await new(server, {"b": [1]}, SUM | {"fold": "$existing | .b += $new.b"})
        body = pack(job({"b": [2], "a": 9}))
        reply = await server.ask("POST", "/jobs", body, content_type=MSGPACK, accept=MSGPACK)
        assert reply.status == 200
        assert reply.body.endswith(b"\xa9duplicate\xc2\xa6folded\xc3")
        assert unpack(reply.body)["batch"]["fold"] == "$existing | .b += $new.b"
        assert await payloads(server) == [{"b": [1, 2]}]


async def test_a_worker_gets_one_job_with_all_of_it(place):
    async with serving(**place) as server:
        [first, *_] = [(await came(server, [n], SUM))[1] for n in range(4)]
        stream = await server.take("?prefetch=9")
        taken = await stream.job()
        assert (taken["id"], taken["payload"], taken["batch"]) == (first, [0, 1, 2, 3], SUM)
        assert not {"duplicate", "folded"} & set(taken)
        assert await stream.is_silent()


async def test_a_fold_changes_the_payload_and_nothing_else(place):
    async with serving(**place) as server:
        own = {"priority": 7, "retry_limit": 1, "retention": {"dead_ms": 1}}
        there = await new(server, 1, queue="a", type="b", **own)
        behind = await server.enqueue(priority=8)
        before = await server.get(there)
        server.clock.advance(1)
        other = {"priority": 9, "retry_limit": 9, "backoff": {"exponent": 1, "base_ms": 1, "jitter_ms": 1}}
        reply = await server.post("/jobs", job(2, queue="c", type="d", **other))
        after = await server.get(there)
        assert (before.pop("payload"), after.pop("payload"), before) == (1, 3, after)
        assert reply.value == after | {"duplicate": False, "folded": True}
        stream = await server.take("?prefetch=9")
        assert [one["id"] for one in await stream.jobs(2)] == [there, behind]


async def test_the_expressions_of_the_job_that_waits_count():
    async with serving() as server:
        there = await new(server, 1, SUM | {"when": "$existing < 100"})
        assert await came(server, 2, {"key": "k", "when": "false", "fold": "0"}) == (200, there, True)
        assert await payloads(server) == [3]


async def test_the_input_of_expressions_is_null():
    async with serving() as server:
        await new(server, 1, {"key": "k", "when": ". == null", "fold": "[., $existing, $new]"})
        await came(server, 2)
        assert await payloads(server) == [[None, 1, 2]]


@pytest.mark.parametrize("key", ["", "a,b", "*", "\0", "ü"])
async def test_a_key_may_be_any_text_and_holds_for_all_queues(place, key):
    async with serving(**place) as server:
        there = await new(server, 1, SUM | {"key": key}, queue="a")
        assert await came(server, 2, SUM | {"key": key}, queue="b", type="u") == (200, there, True)
        await new(server, 2, SUM | {"key": key + "x"})


async def test_every_reader_is_shown_the_batch():
    async with serving() as server:
        there = await new(server, 1)
        [listed] = (await server.ask("GET", "/jobs")).value["jobs"]
        patched = (await server.patch(f"/jobs/{there}", {"priority": 1})).value
        taken = await (await server.take()).job()
        for one in (await server.get(there), listed, patched, taken, await server.fail(there)):
            assert one["batch"] == SUM
            assert not {"duplicate", "folded"} & set(one)


async def test_a_batch_key_is_no_unique_key(place):
    async with serving(**place) as server:
        unique = await server.enqueue(unique_key="k", unique_while="exists")
        there = await new(server, 1)
        assert (await server.post("/jobs", job(1, None, unique_key="k"))).value["id"] == unique
        assert await came(server, 1) == (200, there, True)


# ── sealing ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("no", ["false", "null", "empty", 'error("x")', "1 - {}", "false, true"])
async def test_a_when_that_does_not_say_yes_seals_the_job_that_waits(place, no):
    async with serving(**place) as server:
        when = f"if $new == 9 then {no} else true end"
        sealed = await new(server, 1, SUM | {"when": when})
        assert (await came(server, 2, SUM))[2] is True
        last = await new(server, 9)
        # It would be let in now.
        assert await came(server, 2) == (200, last, True)
        assert await payloads(server) == [3, 11]
        stream = await server.take("?prefetch=9")
        assert [one["id"] for one in await stream.jobs(2)] == [sealed, last]


@pytest.mark.parametrize("yes", ["true", "0", '""', "[]", "true, false", 'true, error("late")'])
async def test_a_when_that_says_anything_else_lets_it_in(yes):
    async with serving() as server:
        there = await new(server, 1, SUM | {"when": yes})
        assert await came(server, 2) == (200, there, True)


async def test_a_when_that_says_no_in_the_dry_run_is_fine():
    async with serving() as server:
        assert await new(server, 1, SUM | {"when": "false"}) != await new(server, 1, SUM | {"when": "false"})


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────

NO_OUTPUT = "it has no output: write it so that it has one"
SEVERAL = "it has more than one output: write it so that it has one"
NO_NUMBER = "its result holds a number that JSON has not: leave out what is infinite or not a number"
REFUSED = [
    ("", "1", 'expression: when: Top-level program not given (try ".")'),
    ("$existing +", "1", "expression: when: syntax error, unexpected end of file at line 1, column 11"),
    ("nope", "1", "expression: when: nope/0 is not defined at line 1, column 1"),
    ("env", "1", "expression: when: env is not available here"),
    ("true", "$other", "expression: fold: $other is not defined at line 1, column 1"),
    ("true", "input", "expression: fold: input is not available here"),
    ('error("no")', "1", "dry-run: when: no"),
    ("$new.a.b", "1", 'dry-run: when: Cannot index number with string ("b")'),
    ("true", 'error("no")', "dry-run: fold: no"),
    ("false", "$new - {}", 'dry-run: fold: object ({"a":1}) and object ({}) cannot be subtracted'),
    ("true", "empty", f"dry-run: fold: {NO_OUTPUT}"),
    ("true", "1, 2", f"dry-run: fold: {SEVERAL}"),
    ("true", "nan", f"dry-run: fold: {NO_NUMBER}"),
    ("true", "{a: infinite}", f"dry-run: fold: {NO_NUMBER}"),
]


@pytest.mark.parametrize(("when", "fold", "text"), REFUSED)
async def test_an_expression_that_cannot_work_is_422(when, fold, text):
    bad = job({"a": 1}, {"key": "k", "when": when, "fold": fold})
    async with serving() as server:
        assert (await server.post("/jobs", bad)).error == (422, f"batch {text}")
        # Whether or not it would fold: one for later is held to the same.
        assert (await server.post("/jobs", bad | {"ready_at": NOW + 1})).error == (422, f"batch {text}")
        reply = await server.post("/jobs/bulk", {"jobs": [job(1), bad, job(1)]})
        assert reply.error == (422, f"jobs[1]: batch {text}")
        assert await payloads(server) == []


@pytest.mark.parametrize(
    "batch", [{}, {"key": "k"}, {"key": "k", "when": "true"}, SUM | {"fold": None}, SUM | {"key": 1}, "k", [], True]
)
async def test_a_batch_of_another_shape_is_400(batch):
    async with serving() as server:
        status, text = (await server.post("/jobs", job(1, batch))).error
        assert (status, text[:14]) == (400, "invalid JSON: ")


@pytest.mark.parametrize("fields", [{"unique_key": "k"}, {"unique_key": "k", "unique_while": "active"}])
async def test_a_batch_and_a_unique_key_are_400(fields):
    async with serving() as server:
        # Before any expression is looked at.
        error = (await server.post("/jobs", job(1, SUM | {"when": "("}, **fields))).error
        assert error == (400, "unique_key and batch cannot be combined")
        assert await payloads(server) == []


async def test_a_batch_that_is_null_is_none():
    async with serving() as server:
        for _ in range(2):
            reply = await server.post("/jobs", job(1, None))
            assert (reply.status, reply.value["folded"]) == (201, False)
            assert "batch" not in reply.value


# ── a fold that fails on what is there ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fold", "text"),
    [
        (ONCE.format("1", 'error("no")'), "no"),
        (ONCE.format("1", "empty"), NO_OUTPUT),
        (ONCE.format("1", "1, 2"), SEVERAL),
        (ONCE.format("1", "[nan]"), NO_NUMBER),
        (ONCE.format("1", "-infinite"), NO_NUMBER),
    ],
)
async def test_a_fold_that_fails_is_422_and_the_job_that_waits_stays_as_it_is(place, fold, text):
    async with serving(**place) as server:
        there = await new(server, 1, SUM | {"fold": fold})
        assert (await server.post("/jobs", job(2))).error == (422, f"batch fold: {text}")
        reply = await server.post("/jobs/bulk", {"jobs": [job(3, None), job(2)]})
        assert reply.error == (422, f"jobs[1]: batch fold: {text}")
        assert await payloads(server) == [1]
        # It is not sealed.
        assert await came(server, 1) == (200, there, True)


async def test_a_fold_that_fails_is_422_for_its_request_alone(place):
    async with serving(**place) as server:
        await new(
            server, 0, SUM | {"fold": 'if $new < 0 and $existing != $new then error("low") else $existing + $new end'}
        )
        connections = [await server.connect() for _ in range(12)]
        numbers = [1, 2, -1, 4, 8, -2, 16, -4, 32, 64, 128, -8]
        replies = await asyncio.gather(
            *(
                one.ask("POST", "/jobs", msgspec.json.encode(job(number)))
                for one, number in zip(connections, numbers, strict=True)
            )
        )
        for reply, number in zip(replies, numbers, strict=True):
            assert (reply.status, reply.value.get("error")) == ((422, "batch fold: low") if number < 0 else (200, None))
        assert await payloads(server) == [255]


async def test_of_many_enqueues_at_once_none_is_lost(place):
    async with serving(**place) as server:
        body = msgspec.json.encode(job([1], SUM | {"when": "($existing | length) < 10"}))
        connections = [await server.connect() for _ in range(16)]

        async def caller(connection):
            return [(await connection.ask("POST", "/jobs", body)).status for _ in range(5)]

        statuses = [status for some in await asyncio.gather(*map(caller, connections)) for status in some]
        assert (statuses.count(201), statuses.count(200)) == (8, 72)
        assert [len(payload) for payload in await payloads(server)] == [10] * 8


async def test_a_fold_without_an_end_holds_up_no_other_key():
    endless = {"key": "slow", "when": "true", "fold": ONCE.format("1", "(def f: f; f)")}
    async with serving(filter_timeout=60_000) as server:
        await new(server, 1, endless)
        slow = asyncio.create_task((await server.connect()).ask("POST", "/jobs", msgspec.json.encode(job(2, endless))))
        for _ in range(10):
            assert (await came(server, 1))[0] in (200, 201)
        assert await payloads(server) == [1, 10]
        assert not slow.done()
        await server.app._jq.stop()
        assert (await slow).status == 503


# ── what is not folded into ──────────────────────────────────────────────────────────────────────────


async def test_a_job_for_later_neither_folds_nor_is_folded_into(place):
    async with serving(**place) as server:
        there = await new(server, 1)
        later = await new(server, 2, ready_at=NOW + 1)
        assert (await server.get(later))["batch"] == SUM
        server.clock.advance(1)
        await server.app.broker.promote(10)
        assert (await server.get(later))["status"] == "ready"
        assert await came(server, 4) == (200, there, True)
        await server.ask("DELETE", f"/jobs/{there}")
        await new(server, 8)
        assert await payloads(server) == [2, 8]


async def test_a_time_that_has_come_folds(place):
    async with serving(**place) as server:
        there = await new(server, 1, ready_at=NOW - 5)
        assert await came(server, 2, ready_at=NOW) == (200, there, True)


async def test_a_job_that_was_taken_is_not_folded_into_even_when_it_comes_back(place):
    async with serving(**place) as server:
        there = await new(server, 1, queue="a")
        stream = await server.take("?queue=a")
        await stream.job()
        other = await new(server, 2)
        stream.connection.hang_up()
        while (await server.get(there))["status"] != "ready":
            pass
        assert await came(server, 4) == (200, other, True)
        await server.ask("DELETE", f"/jobs/{other}")
        await new(server, 8)
        assert await payloads(server) == [1, 8]


@pytest.mark.parametrize("failure", [{"retry_at": NOW}, {"kill": True}])
async def test_a_job_that_failed_is_not_folded_into_even_when_it_is_ready(place, failure):
    async with serving(**place) as server:
        there = await new(server, 1, queue="a")
        stream = await server.take("?queue=a")
        await stream.job()
        await server.fail(there, **failure)
        stream.connection.hang_up()
        if "kill" in failure:
            await server.ask("POST", f"/jobs/{there}/retry")
        while (await server.get(there))["status"] != "ready":
            pass
        await new(server, 2)
        assert await payloads(server) == [1, 2]


@pytest.mark.parametrize("path", ["/jobs/{}", "/jobs?id={}"])
async def test_a_job_that_was_deleted_is_not_folded_into(place, path):
    async with serving(**place) as server:
        there = await new(server, 1)
        await server.ask("DELETE", path.format(there))
        await new(server, 2)
        assert await payloads(server) == [2]


async def test_a_job_that_was_put_off_is_not_folded_into(place):
    async with serving(**place) as server:
        there = await new(server, 1)
        await server.patch(f"/jobs/{there}", {"ready_at": NOW + 5})
        other = await new(server, 2)
        await server.patch(f"/jobs/{there}", {"ready_at": None})
        assert await came(server, 4) == (200, other, True)
        assert await payloads(server) == [1, 6]


async def test_a_job_that_was_moved_is_still_folded_into(place):
    async with serving(**place) as server:
        there = await new(server, 1)
        await server.patch(f"/jobs/{there}", {"queue": "r", "priority": 1})
        assert await came(server, 2) == (200, there, True)
        taken = await (await server.take("?queue=r")).job()
        assert (taken["id"], taken["payload"], taken["priority"]) == (there, 3, 1)


# ── bulk ─────────────────────────────────────────────────────────────────────────────────────────────


async def bulk(server, *jobs):
    """The status of a bulk, and identifiers and flags in their order."""
    reply = await server.post("/jobs/bulk", {"jobs": jobs})
    assert not any(one["duplicate"] for one in reply.value["jobs"])
    return reply.status, [(one["id"], one["folded"]) for one in reply.value["jobs"]]


async def test_in_a_bulk_later_jobs_go_into_earlier_ones(place):
    async with serving(**place) as server:
        there = await new(server, 1)
        other, limited = SUM | {"key": "l"}, SUM | {"key": "m", "when": "$existing + $new <= 3"}
        status, made = await bulk(
            server,
            *(job(2), job(1, other), job(0, None), job(1, other), job(4), job(1, ready_at=NOW + 1)),
            *(job(2, limited), job(1, limited), job(1, limited)),
        )
        assert status == 201
        ids = [job_id for job_id, _ in made]
        assert [folded for _, folded in made] == [True, False, False, True, True, False, False, True, False]
        assert (ids[0], ids[4], ids[3], ids[7]) == (there, there, ids[1], ids[6])
        assert sorted(set(ids)) == [there, ids[1], ids[2], ids[5], ids[6], ids[8]]
        assert await payloads(server) == [7, 2, 0, 1, 3, 1]


async def test_a_bulk_is_200_when_nothing_in_it_is_new(place):
    async with serving(**place) as server:
        there = await new(server, 1)
        unique = await server.enqueue(unique_key="u")
        assert await bulk(server, job(1), job(1)) == (200, [(there, True), (there, True)])
        reply = await server.post("/jobs/bulk", {"jobs": [job(1), job(0, None, unique_key="u")]})
        flags = [(one["id"], one["duplicate"], one["folded"]) for one in reply.value["jobs"]]
        assert (reply.status, flags) == (200, [(there, False, True), (unique, True, False)])


async def test_a_bulk_that_fails_folds_nothing(place):
    async with serving(**place) as server:
        low = SUM | {"key": "low", "fold": 'if $new < $existing then error("low") else $new end'}
        await new(server, 1)
        await new(server, 5, low)
        reply = await server.post("/jobs/bulk", {"jobs": [job(2), job(0, None), job(6, low), job(4, low), job(9)]})
        assert reply.error == (422, "jobs[3]: batch fold: low")
        assert await payloads(server) == [1, 5]


# ── restart ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_job_that_waits_is_folded_into_after_a_restart(tmp_path):
    async with serving(root_dir=tmp_path) as server:
        sealed = await new(server, 1, SUM | {"when": "false"})
        there = await new(server, 2, SUM | {"when": "$existing < 9"})
        taken = await new(server, 1, SUM | {"key": "l"}, queue="a")
        assert (await (await server.take("?queue=a")).job())["id"] == taken
    async with serving(root_dir=tmp_path) as server:
        server.clock.advance(1)  # else identifiers would begin anew
        assert await came(server, 3, SUM | {"when": "false"}) == (200, there, True)
        assert await came(server, 4) == (200, there, True)
        assert (await server.get(taken))["status"] == "ready"
        await new(server, 1, SUM | {"key": "l"})
        await new(server, 1)
        assert await payloads(server) == [1, 9, 1, 1, 1]
        assert (await server.get(sealed))["payload"] == 1
