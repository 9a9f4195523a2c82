"""Metadata of jobs (protocol.md#14.5)."""

import pytest

from wire.talk import FIRST_ID, MSGPACK, NOW, STREAM, pack, serving, unpack

JOB = {"type": "t", "queue": "q", "payload": 1}
METADATA = {"traceparent": "00-1", "b": ""}
SHOWN = b'"metadata":{"traceparent":"00-1","b":""}'
PACKED = b"\xa8metadata\x82\xabtraceparent\xa400-1\xa1b\xa0"
DAY = 86_400_000


async def came(server, **fields):
    reply = await server.post("/jobs", JOB | fields)
    assert reply.status in (200, 201), reply
    return reply.value


async def test_metadata_is_the_last_field_of_the_job_wherever_it_is_shown():
    async with serving() as server:
        reply = await server.post("/jobs", JOB | {"metadata": METADATA, "timeout_ms": 5})
        assert reply.body == (
            b'{"id":"%s","type":"t","queue":"q","priority":32768,"status":"ready","ready_at":1790000000000,"attempts":0,'
            b'"timeout_ms":5,%s,"duplicate":false,"folded":false}' % (FIRST_ID.encode(), SHOWN)
        )
        read = await server.ask("GET", f"/jobs/{FIRST_ID}")
        assert read.body.endswith(b'"timeout_ms":5,' + SHOWN + b"}")
        assert (await server.ask("GET", "/jobs")).value["jobs"] == [read.value]
        stream = await server.take()
        while (line := await stream.until(b"\n")) == b"\n":
            pass
        assert line.endswith(b'"timeout_ms":5,' + SHOWN + b"}\n")


async def test_both_formats_say_the_same():
    async with serving() as server:
        body = pack(JOB | {"metadata": METADATA})
        reply = await server.ask("POST", "/jobs", body, content_type=MSGPACK, accept=MSGPACK)
        assert reply.body.endswith(PACKED + b"\xa9duplicate\xc2\xa6folded\xc2")
        assert (await server.ask("GET", f"/jobs/{FIRST_ID}", accept=MSGPACK)).body.endswith(PACKED)
        stream = await server.take(accept=STREAM)
        assert PACKED in await stream.until(b"\xa1b\xa0")


@pytest.mark.parametrize("metadata", [{}, None])
async def test_a_job_without_metadata_shows_none(place, metadata):
    async with serving(**place) as server:
        assert "metadata" not in await came(server, metadata=metadata)
        assert "metadata" not in await server.get(FIRST_ID)
        assert "metadata" not in await (await server.take()).job()


async def test_metadata_is_kept_over_failures_retries_and_changes(place):
    async with serving(**place) as server:
        job_id, stream = await server.taken(metadata=METADATA)
        assert (await server.fail(job_id))["metadata"] == METADATA
        await server.patch(f"/jobs/{job_id}", {"ready_at": NOW, "priority": 1, "timeout_ms": 9})
        assert (await server.get(job_id))["metadata"] == METADATA
        assert (await stream.job())["metadata"] == METADATA
        await server.fail(job_id, kill=True)
        assert (await server.ask("POST", f"/jobs/{job_id}/retry")).value["metadata"] == METADATA


async def test_a_bulk_has_the_metadata_of_each_job(place):
    async with serving(**place) as server:
        jobs = [JOB | {"metadata": {"n": "0"}}, JOB, JOB | {"metadata": {"n": "2"}}]
        reply = await server.post("/jobs/bulk", {"jobs": jobs})
        assert [job.get("metadata") for job in reply.value["jobs"]] == [{"n": "0"}, None, {"n": "2"}]


async def test_a_duplicate_shows_the_metadata_of_the_job_that_is_there(place):
    async with serving(**place) as server:
        await came(server, unique_key="k", metadata=METADATA)
        assert (await came(server, unique_key="k", metadata={"other": "1"}))["metadata"] == METADATA


async def test_a_fold_keeps_the_metadata_of_the_job_that_waits(place):
    batch = {"key": "k", "when": "true", "fold": "$existing + $new"}
    async with serving(**place) as server:
        await came(server, batch=batch, metadata=METADATA)
        assert (await came(server, batch=batch, metadata={"other": "1"}))["metadata"] == METADATA
        job = await (await server.take()).job()
        assert (job["payload"], job["metadata"]) == (2, METADATA)


async def test_jobs_of_a_cron_have_its_metadata(place):
    async with serving(**place) as server:
        entry = {"name": "e", "expression": "* * * * *", "job": JOB | {"metadata": METADATA}}
        group = (await server.put("/crons/g", {"entries": [entry]})).value
        assert group["entries"][0]["job"]["metadata"] == METADATA
        server.clock.set_wall(NOW + DAY)
        await server.app.crontab.fire(100)
        [job] = (await server.ask("GET", "/jobs")).value["jobs"]
        assert job["metadata"] == METADATA


# ── limits ──


LARGE = "invalid JSON: Expected `object` of length <= 32 - at `$.metadata`"
BYTES = "metadata has 4097 bytes of names and values, and may have 4096: put what is large into the payload"


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ({str(n): "" for n in range(33)}, LARGE),
        ({"n" * 65: ""}, "invalid JSON: Expected `str` of length <= 64 - at `key` in `$.metadata`"),
        ({"": "v"}, "invalid JSON: Expected `str` of length >= 1 - at `key` in `$.metadata`"),
        ({"n": 1}, "invalid JSON: Expected `str`, got `int` - at `$.metadata[...]`"),
        (["n"], "invalid JSON: Expected `object | null`, got `array` - at `$.metadata`"),
        ({"n": "v" * 4096}, BYTES),
        ({"n": "é" * 2047, "m": "vv"}, "metadata has 4098"),
    ],
)
async def test_metadata_beyond_its_limits_is_400(metadata, error):
    async with serving() as server:
        reply = await server.post("/jobs", JOB | {"metadata": metadata})
        assert reply.status == 400
        assert reply.value["error"].startswith(error)
        bulk = await server.post("/jobs/bulk", {"jobs": [JOB, JOB | {"metadata": metadata}]})
        assert bulk.status == 400
        assert "jobs[1]" in bulk.value["error"]
        entry = {"name": "e", "expression": "* * * * *", "job": JOB | {"metadata": metadata}}
        assert (await server.put("/crons/g", {"entries": [entry]})).status == 400


@pytest.mark.parametrize(
    "metadata", [{str(n): "" for n in range(32)}, {"n" * 64: ""}, {"é": "v" * 4094}, {"\0": "\U0001f600"}]
)
async def test_metadata_up_to_its_limits_is_kept(place, metadata):
    async with serving(**place) as server:
        reply = await server.ask("POST", "/jobs", pack(JOB | {"metadata": metadata}), content_type=MSGPACK)
        assert reply.status == 201
        assert unpack((await server.ask("GET", f"/jobs/{FIRST_ID}", accept=MSGPACK)).body)["metadata"] == metadata
