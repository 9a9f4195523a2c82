"""Queues, their states and their pauses (protocol.md#9, protocol.md#14.6)."""

import asyncio

import pytest

from wire.talk import JSON, MSGPACK, NOW, pack, serving
from zizq.engine import pauses

NONE = {"scheduled": 0, "ready": 0, "in_flight": 0, "completed": 0, "dead": 0}


async def paused(server, queue):
    reply = await server.ask("PUT", f"/queues/{queue}/pause")
    assert reply.status == 200, reply
    return reply.value


async def resume(server, queue):
    reply = await server.ask("DELETE", f"/queues/{queue}/pause")
    assert (reply.status, reply.value["paused"]) == (200, False)


# ── what is answered ──


async def test_a_pause_is_answered_byte_for_byte():
    async with serving() as server:
        await server.enqueue(queue="q")
        reply = await server.ask("PUT", "/queues/q/pause")
        assert (reply.status, reply.headers["content-type"]) == (200, JSON)
        assert reply.body == (
            b'{"queue":"q","paused":true,"paused_at":1790000000000,'
            b'"counts":{"scheduled":0,"ready":1,"in_flight":0,"completed":0,"dead":0}}'
        )
        server.clock.advance(5)
        again = await server.ask("PUT", "/queues/q/pause", accept=MSGPACK)
        assert again.body == pack({"queue": "q", "paused": True, "paused_at": NOW, "counts": NONE | {"ready": 1}})
        resumed = await server.ask("DELETE", "/queues/q/pause")
        assert resumed.body == (
            b'{"queue":"q","paused":false,"counts":{"scheduled":0,"ready":1,"in_flight":0,"completed":0,"dead":0}}'
        )
        await resume(server, "q")
        await resume(server, "q")
        assert (await paused(server, "q"))["paused_at"] == NOW + 5


async def test_the_state_of_a_queue_is_answered_byte_for_byte():
    async with serving() as server:
        await server.enqueue(queue="q")
        await server.enqueue(queue="q", ready_at=NOW + 1)
        reply = await server.ask("GET", "/queues/q")
        counts = b'"counts":{"scheduled":1,"ready":1,"in_flight":0,"completed":0,"dead":0}}'
        assert reply.body == b'{"queue":"q","paused":false,' + counts
        await paused(server, "q")
        reply = await server.ask("GET", "/queues/q")
        assert reply.body == b'{"queue":"q","paused":true,"paused_at":1790000000000,' + counts


async def test_a_queue_without_jobs_has_a_state_too():
    async with serving() as server:
        assert (await server.ask("GET", "/queues/new")).value == {"queue": "new", "paused": False, "counts": NONE}


async def test_the_list_of_queues_is_that_of_jobs_whatever_is_paused():
    async with serving() as server:
        await server.enqueue(queue="b")
        await paused(server, "a")
        for query in ("", "?states=", "?states=false"):
            assert (await server.ask("GET", f"/queues{query}")).body == b'{"queues":["b"]}'
        reply = await server.ask("GET", "/queues?states=true")
        assert reply.body == (
            b'{"queues":["b"],"states":['
            b'{"queue":"a","paused":true,"paused_at":1790000000000,'
            b'"counts":{"scheduled":0,"ready":0,"in_flight":0,"completed":0,"dead":0}},'
            b'{"queue":"b","paused":false,'
            b'"counts":{"scheduled":0,"ready":1,"in_flight":0,"completed":0,"dead":0}}]}'
        )
        await server.ask("POST", "/reset")
        assert (await server.ask("GET", "/queues?states=true", accept=MSGPACK)).value == {"queues": [], "states": []}


# ── what is refused ──


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PUT", "/pause"), ("DELETE", "/pause")])
async def test_a_name_is_decoded_and_held_to_its_rule(method, path):
    async with serving() as server:
        assert (await server.ask(method, f"/queues/a%2Fb%20%C3%BC{path}")).status == 200
        reply = await server.ask(method, f"/queues/a%2Cb{path}")
        assert reply.error == (400, "queue must not contain ','")
        assert (await server.ask(method, f"/queues/a%2A{path}")).error == (
            400, "queue must not contain '*' (reserved)"
        )  # fmt: skip
        assert (await server.ask(method, f"/queues//{path}")).status == 404


async def test_a_query_that_is_none_is_refused():
    async with serving() as server:
        reply = await server.ask("GET", "/queues?states=yes")
        assert reply.error == (400, "invalid query parameters: states 'yes' is neither true nor false")
        reply = await server.ask("GET", "/queues?state=true")
        assert reply.error == (400, "invalid query parameters: unknown field `state`, expected `states`")


async def test_other_methods_are_refused_with_those_that_there_are():
    async with serving() as server:
        reply = await server.ask("POST", "/queues/q/pause", b"{}", content_type=JSON)
        assert (reply.status, reply.headers["allow"]) == (405, "DELETE, PUT")
        assert (await server.ask("DELETE", "/queues/q")).status == 405


async def test_one_pause_too_many_is_refused_with_a_remedy(monkeypatch):
    monkeypatch.setattr(pauses, "MAX_PAUSED", 1)
    async with serving() as server:
        await paused(server, "a")
        reply = await server.ask("PUT", "/queues/b/pause")
        assert reply.error == (
            422, "cannot pause queue 'b': the server already has its maximum of 1 paused queues."
            " Resume one that need not be paused."
        )  # fmt: skip
        await paused(server, "a")


# ── what it does to streams ──


async def test_streams_get_nothing_of_a_paused_queue_and_are_woken_by_its_resume():
    async with serving() as server:
        await paused(server, "p")
        named, all_ = await server.take("?queue=p,q&prefetch=9"), await server.take("?queue=p&prefetch=9")
        held = await server.enqueue(queue="p")
        other = await server.enqueue(queue="q")
        assert (await named.job())["id"] == other
        assert (await server.ask("GET", "/queues/p")).value["counts"]["ready"] == 1
        waiting = {asyncio.create_task(stream.job()) for stream in (named, all_)}
        await resume(server, "p")
        # Either gets it: a stream that looks for itself in between begins to wait anew.
        got, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result()["id"] for task in got] == [held]
        for task in waiting:
            task.cancel()


async def test_a_job_in_flight_is_reported_while_its_queue_is_paused():
    async with serving() as server:
        stream = await server.take("?prefetch=9")
        job_id, failing = await server.enqueue(queue="p"), await server.enqueue(queue="p")
        assert [job["id"] for job in await stream.jobs(2)] == [job_id, failing]
        await paused(server, "p")
        assert (await server.ask("POST", f"/jobs/{job_id}/success")).status == 204
        await server.fail(failing, retry_at=NOW)
        await server.enqueue(queue="q")
        assert (await stream.job())["queue"] == "q"
        await resume(server, "p")
        assert (await stream.job())["id"] == failing
