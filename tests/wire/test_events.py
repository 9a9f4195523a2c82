"""`GET /events` of the admin API, over a real WebSocket."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from wire.grants import Grants, bearer
from wire.stores import running_server
from zizq.engine import admit
from zizq.engine.changes import Patch
from zizq.job import Failure
from zizq.policy import Retention
from zizq.server.http.admin import events
from zizq.testing.clock import ManualClock
from zizq.wire.operations import Scope

PATIENCE_S = 10
NOTHING = msgspec.Raw(msgspec.msgpack.encode(None))


class Watching:
    """A client of the events."""

    def __init__(self, socket):
        self.socket = socket

    async def next(self, *names):
        """The next event that is one of these."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                event = json.loads(await self.socket.recv())
                if event["event"] in names:
                    return event

    async def changes(self, count):
        """The next changes: for each its status, the job, and whether the job came with it."""
        changes = [await self.next("job_changed") for _ in range(count)]
        return [(event["status"], event["id"], "job" in event) for event in changes]

    async def snapshot(self):
        return await self.next("job_snapshot")

    async def wish(self, **wish):
        await self.socket.send(json.dumps(wish))

    async def subscribe(self, of, limit, kind, **anchor):
        await self.wish(type="subscribe", list=of, limit=limit, anchor={"kind": kind, **anchor})
        return await self.snapshot()

    async def find(self, of, anchor, direction, limit=3, **query):
        await self.wish(type="find", list=of, anchor=anchor, direction=direction, limit=limit, query=query)
        found = await self.next("find_result")
        return found["matched_position"], found["window"]


class Served:
    """A server, by its broker."""

    def __init__(self, server):
        self.server, self.broker = server, server.app.broker

    async def enqueue(self, *queues, **fields):
        now = self.broker.now()
        jobs = [
            admit.new_job(self.broker.next_id(), now, type=fields.get("type", "t"), queue=queue, payload=NOTHING,
                          **{name: value for name, value in fields.items() if name != "type"})
            for queue in queues
        ]  # fmt: skip
        return [job.id for job in await self.broker.enqueue(jobs)]

    async def take(self, most):
        stream = self.broker.open_stream([], most)
        return stream, [job.id for job in await self.broker.take(stream, most)]

    @asynccontextmanager
    async def watching(self, **headers):
        async with connect(events_of(self.server), additional_headers=headers) as socket:
            watching = Watching(socket)
            watching.began = await watching.snapshot()
            yield watching


def events_of(server):
    return server.admin_url.replace("http", "ws", 1) + "/events"


@asynccontextmanager
async def served(**settings):
    async with running_server(no_admin=False, **settings) as server:
        yield Served(server)


def ids(window):
    return [item["id"] for item in window["items"]]


async def test_the_first_event_is_a_snapshot_of_three_lists(place):
    async with served(**place) as server:
        await server.enqueue("a", "b")
        _, [flying] = await server.take(1)
        [later] = await server.enqueue("c", ready_at=server.broker.now() + 100_000)
        async with server.watching() as watching:
            event = watching.began
    assert list(event) == ["event", "server", "ready", "in_flight", "scheduled"]
    about = event["server"]
    assert (about["tier"], about["total_ready"], about["total_in_flight"], about["total_scheduled"]) == ("pro", 1, 1, 1)
    assert "subscription_limit" not in about
    assert (event["ready"]["first_position"], event["ready"]["total"]) == (0, 1)
    assert (ids(event["in_flight"]), ids(event["scheduled"])) == ([flying], [later])
    [job] = event["in_flight"]["items"]
    assert list(job) == ["id", "queue", "job_type", "priority", "ready_at", "attempts", "dequeued_at"]


async def test_there_is_a_heartbeat():
    async with served() as server, server.watching() as watching:
        event = await watching.next("heartbeat")
        assert list(event) == ["event", "server"]


async def test_the_life_of_a_job_is_told_step_by_step(place):
    async with served(**place) as server, server.watching() as watching:
        [job_id] = await server.enqueue("q", retention=Retention(completed_ms=1000))
        assert await watching.changes(1) == [("ready", job_id, True)]
        stream, _ = await server.take(1)
        assert await watching.changes(2) == [("ready_removed", job_id, False), ("in_flight", job_id, True)]
        await server.broker.close_stream(stream)
        assert await watching.changes(2) == [("in_flight_removed", job_id, False), ("ready", job_id, True)]
        await server.take(1)
        await watching.changes(2)
        await server.broker.fail(job_id, Failure(message="m", retry_at=server.broker.now() + 100_000))
        assert await watching.changes(3) == [
            ("in_flight_removed", job_id, False), ("dead", job_id, False), ("scheduled", job_id, True),
        ]  # fmt: skip
        await watching.wish(type="delete_job", id=job_id)
        assert await watching.changes(1) == [("scheduled_removed", job_id, False)]
        [other] = await server.enqueue("q")
        await server.take(1)
        await server.broker.succeed([other])
        changes = await watching.changes(5)
        assert changes[-2:] == [("in_flight_removed", other, False), ("completed", other, False)]


async def test_a_patch_brings_a_snapshot(place):
    async with served(**place) as server, server.watching() as watching:
        [job_id] = await server.enqueue("q")
        await server.server.app.catalog.patch(job_id, Patch(priority=7))
        while (event := await watching.snapshot())["ready"]["items"][0]["priority"] != 7:
            pass
        assert ids(event["ready"]) == [job_id]


async def test_each_anchor_gives_its_window(place):
    async with served(**place) as server, server.watching() as watching:
        jobs = await server.enqueue(*"qqqqqqqqqq")
        window = (await watching.subscribe("ready", 3, "head"))["ready"]
        assert (ids(window), window["first_position"], window["total"]) == (jobs[:3], 0, 10)
        window = (await watching.subscribe("ready", 3, "tail"))["ready"]
        assert (ids(window), window["first_position"]) == (jobs[7:], 7)
        window = (await watching.subscribe("ready", 3, "offset", offset=9))["ready"]
        assert (ids(window), window["first_position"]) == (jobs[7:], 7)
        window = (await watching.subscribe("ready", 3, "around", id=jobs[5]))["ready"]
        assert (ids(window), window["first_position"]) == (jobs[4:7], 4)
        assert window["resolved_anchor"] == {"kind": "around", "id": jobs[5], "fallback": "nowhere"}
        window = (await watching.subscribe("ready", 3, "around", id="x"))["ready"]
        assert (ids(window), window["total"], "resolved_anchor" in window) == ([], 10, False)
        window = (await watching.subscribe("ready", 3, "around", id="x", fallback="tail"))["ready"]
        assert (ids(window), window["resolved_anchor"]) == (jobs[7:], {"kind": "tail"})


async def test_a_window_fills_up_again_as_its_jobs_go(place):
    async with served(**place) as server, server.watching() as watching:
        jobs = await server.enqueue(*"q" * 20)
        await watching.subscribe("in_flight", 0, "head")
        await watching.subscribe("ready", 4, "head")
        await watching.next("heartbeat")
        await server.take(3)
        assert await watching.changes(3) == [("ready_removed", one, False) for one in jobs[:3]]
        assert await watching.changes(3) == [("ready", one, True) for one in jobs[4:7]]


async def test_details_come_when_they_are_asked_for():
    async with served() as server:
        await server.enqueue("q", retry_limit=3, unique_key="k", unique_while="queued")
        async with server.watching() as watching:
            assert "retry_limit" not in watching.began["ready"]["items"][0]
            await watching.wish(type="set_detail_level", detail=True)
            [job] = (await watching.snapshot())["ready"]["items"]
            assert (job["retry_limit"], job["unique_key"], job["unique_while"]) == (3, "k", "queued")


async def test_a_search_goes_both_ways(place):
    async with served(**place) as server, server.watching() as watching:
        jobs = await server.enqueue("mail", "web", "e-mail", "web")
        start, end = {"kind": "start"}, {"kind": "end"}
        position, window = await watching.find("ready", start, "forward", queues=["mail"])
        assert (position, ids(window)) == (0, jobs[:3])
        anchor = {"kind": "job_id", "id": jobs[0]}
        position, window = await watching.find("ready", anchor, "forward", queues=["mail"])
        assert (position, ids(window), window["first_position"]) == (2, jobs[1:], 1)
        assert (await watching.find("ready", end, "backward", types=["t"]))[0] == 3
        assert (await watching.find("ready", anchor, "locate"))[0] == 0
        assert (await watching.find("ready", start, "backward"))[0] is None
        assert (await watching.find("ready", end, "forward"))[0] is None
        assert (await watching.find("ready", start, "forward", types=["x"]))[0] is None


async def test_dead_jobs_are_shown_to_those_who_ask_and_can_be_brought_back(place):
    async with served(**place) as server, server.watching() as watching:
        first, second, third = await server.enqueue("q", "q", "q", retry_limit=0)
        await server.take(3)
        await server.broker.fail(first, Failure(message="m"))
        await server.broker.fail(second, Failure(message="m"))
        event = await watching.subscribe("dead", 10, "head")
        assert ids(event["dead"]) == [second, first]
        await server.broker.fail(third, Failure(message="m"))
        while (change := (await watching.changes(1))[0])[0] != "dead" or change[1] != third:
            pass
        assert change == ("dead", third, True)
        await watching.wish(type="retry_job", id=first)
        assert await watching.changes(2) == [("dead_removed", first, False), ("ready", first, True)]


async def test_a_queue_is_paused_and_goes_on(place):
    async with served(**place) as server, server.watching() as watching:
        for kind, paused in (("pause_queue", {"q"}), ("resume_queue", set())):
            await watching.wish(type=kind, queue="q")
            # What is no name of a queue is not paused, and ends nothing.
            await watching.wish(type=kind, queue="q,r")
            await watching.subscribe("ready", 5, "head")
            assert set(await server.broker._store.paused_queues()) == paused


async def test_what_cannot_be_understood_is_passed_over():
    async with served() as server, server.watching() as watching:
        for text in ("", "{", "[]", '{"type": "nothing"}', '{"type": "subscribe"}', '{"type": "find", "list": "x"}'):
            await watching.socket.send(text)
        await watching.socket.send(b"\xff")
        await watching.subscribe("ready", 10**9, "head")


async def test_too_much_at_once_is_told_as_a_whole(place):
    async with served(**place) as server, server.watching() as watching:
        await server.enqueue(*"q" * 3000)
        event = await watching.snapshot()
        while event["ready"]["total"] < 3000:
            event = await watching.snapshot()
        assert len(event["ready"]["items"]) == 200


async def test_a_large_window_arrives_whole(place):
    async with served(**place) as server, server.watching() as watching:
        jobs = await server.enqueue(*"q" * 2500)
        event = await watching.subscribe("ready", 10**6, "head")
        while len(event["ready"]["items"]) != 2000:
            event = await watching.snapshot()
        assert ids(event["ready"]) == jobs[:2000]


async def test_the_server_lets_its_clients_go_when_it_stops():
    async with served() as server:
        socket = await connect(events_of(server.server))
        await Watching(socket).snapshot()
    async with asyncio.timeout(PATIENCE_S):
        await socket.wait_closed()
    assert socket.close_code == 1001


async def test_a_page_of_another_site_is_sent_away():
    async with served() as server:
        with pytest.raises(InvalidStatus) as refusal:
            async with server.watching(Origin="http://evil.example"):
                pass
        assert refusal.value.response.status_code == 403
        own = server.server.admin_url
        async with server.watching(Origin=own):
            pass


async def test_a_page_whose_name_leads_here_is_sent_away():
    async with served() as server:
        _, _, port = server.server.admin_url.rpartition(":")
        name = f"evil.example:{port}"
        with pytest.raises(InvalidStatus) as refusal:
            async with connect(f"ws://{name}/events", host="127.0.0.1", port=int(port), origin=f"http://{name}"):
                pass
        assert refusal.value.response.status_code == 421


async def test_whoever_may_read_sees_and_changes_nothing(tmp_path):
    grants = Grants(tmp_path)
    reader, manager, worker = (
        grants.token(Scope.READ), grants.token(Scope.READ, Scope.MANAGE), grants.token(Scope.WORK),
    )  # fmt: skip
    async with served(root_dir=tmp_path / "root", auth="tokens", token_file=grants.path) as server:
        [job_id] = await server.enqueue("q")
        for headers, status in (({}, 401), ({"Authorization": bearer(worker)}, 403)):
            with pytest.raises(InvalidStatus) as refusal:
                async with server.watching(**headers):
                    pass
            assert refusal.value.response.status_code == status
        async with server.watching(Authorization=bearer(reader)) as watching:
            await watching.wish(type="delete_job", id=job_id)
            await watching.wish(type="pause_queue", queue="q")
            while not server.server.app.auth.refused["scope"] > 2:
                await watching.next("heartbeat")
            assert await server.broker._store.paused_queues() == {}
            assert ids((await watching.subscribe("ready", 5, "head"))["ready"]) == [job_id]
        async with server.watching(Authorization=bearer(manager)) as watching:
            await watching.wish(type="delete_job", id=job_id)
            assert await watching.changes(1) == [("ready_removed", job_id, False)]


async def test_whose_token_is_revoked_sees_no_more_and_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "LOOK_S", 0.01)
    grants, clock = Grants(tmp_path), ManualClock()
    mine, other = grants.token(Scope.READ), grants.token(Scope.READ)
    settings = {"root_dir": tmp_path / "root", "auth": "tokens", "token_file": grants.path, "clock": clock}
    async with (
        served(**settings) as server,
        server.watching(Authorization=bearer(mine)) as watching,
        server.watching(Authorization=bearer(other)) as stays,
    ):
        grants.revoke(mine)
        clock.advance(1000)
        with pytest.raises(ConnectionClosed):
            await watching.next("no such event")
        assert watching.socket.close_code == 1008
        assert ids((await stays.subscribe("ready", 5, "head"))["ready"]) == []
