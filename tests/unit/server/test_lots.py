"""Enqueues that come together are answered together, and each is answered as it would be alone."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from typing import Any

import msgspec
import pytest
from trust.line import Client

from unit.server.line import App as Echo
from unit.server.line import post
from unit.server.lot_server import JSON, MSGPACK, NOW, PLAIN, enqueue, familiar, job, serving, statuses
from wire.grants import Grants, bearer
from zizq.errors import Unavailable
from zizq.server.http import lots
from zizq.wire.operations import Scope


async def test_what_comes_in_one_turn_is_stored_by_one_call() -> None:
    async with familiar(5) as server:
        answers = await server.send([enqueue(job())] * 5)
        assert server.store.calls == [5]
        assert all(answer.startswith(b"HTTP/1.1 201 Created\r\n") for answer in answers)
        assert len({msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])["id"] for answer in answers}) == 5
        assert await server.jobs() == 6
        assert server.app.asgi.requests == {("POST", 2): 5}
        assert not any(client.running for client in server.clients)


async def test_what_comes_in_the_next_turn_is_another_lot() -> None:
    async with familiar(5) as server:
        server.store.goes_on.clear()
        for number, client in enumerate(server.clients):
            client.connection.data_received(enqueue(job()))
            if number == 1:
                await asyncio.sleep(0)
        server.store.goes_on.set()
        assert [statuses(await client.answer())[-1] for client in server.clients] == [201] * 5
        assert server.store.calls == [2, 3]


async def test_one_that_comes_alone_is_answered_in_the_next_step_of_the_event_loop() -> None:
    async with familiar(1) as server:
        [client] = server.clients
        before = len(client.transport.written)
        client.connection.data_received(enqueue(job()))
        assert len(client.transport.written) == before
        await asyncio.sleep(0)
        assert statuses(client.transport.written[before:]) == [201]


async def test_a_lot_has_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lots, "MOST", 3)
    async with familiar(7) as server:
        answers = await server.send([enqueue(job())] * 7)
        assert server.store.calls == [3, 3, 1]
        assert all(b" 201 " in answer for answer in answers)


async def test_what_is_in_other_formats_is_another_lot() -> None:
    packed = msgspec.msgpack.encode(PLAIN)
    requests = [
        enqueue(*one)
        for one in ((job(), JSON, JSON), (job(), JSON, MSGPACK), (packed, MSGPACK, JSON), (packed, MSGPACK, MSGPACK))
    ]
    async with familiar(8, *requests) as server:
        answers = await server.send(requests * 2)
        assert server.store.calls == [2, 2, 2, 2]
        for number, answer in enumerate(answers):
            head, _, body = answer.partition(b"\r\n\r\n")
            kind = MSGPACK if number % 2 else JSON
            assert b"content-type: " + kind in head
            decode = msgspec.msgpack.decode if number % 2 else msgspec.json.decode
            assert decode(body)["type"] == "t"


BODIES = [
    job(),
    job(payload=None),
    job(priority=7),
    job(payload={"text": "x" * 300}),
    job(payload="x" * lots.LARGEST),
    job(payload=[[["deep"]] * 10] * 10),
    job(ready_at=NOW + 1000),
    job(retry_limit=3, backoff={"exponent": 2.0, "base_ms": 1, "jitter_ms": 1}),
    job(unique_key="k"),
    job(unique_key="k"),
    job(unique_while="queued"),
    job(budgets=[{"key": "none"}]),
    job(budgets=[{"key": "b", "create_with": {"allocation": 5, "strategy": {"type": "static"}}}]),
    job(metadata={"a": "b"}),
    job(timeout_ms=1000),
    job(priority=70_000),
    job(unknown=1),
    b'{"type":"t","queue":"q"}',
    b'{"type":"t","queue":"q","payload":123456789012345678901234567890}',
    b'{"type":"t","queue":"q","payload":"\\ud800"}',
    b"not JSON",
    b"[]",
    b"",
]

BROKEN = [
    job(queue="no, comma"),
    job(type=""),
    b'{"type":"t","queue":"q","payload":' + b"[" * 140 + b"]" * 140 + b"}",
    b'{"type":"t","queue":"q","payload":1e999}',
]
"""What breaks a rule that is only looked at when jobs are made."""


SHORTEST = len(job(queue="other", payload=""))


@pytest.mark.parametrize("broken", [[], *([one.ljust(80)] for one in BROKEN)])
@pytest.mark.parametrize("seed", range(3))
async def test_each_hears_what_it_hears_alone(seed: int, broken: list[bytes]) -> None:
    some = random.Random(seed).sample(BODIES * 2 + broken, 2 * len(BODIES) + len(broken))
    requests = [enqueue(body) for body in some]
    # Of each length one that is answered with 201: only then its head is one that goes together.
    known = {
        len(body): enqueue(job(queue="other", payload="").ljust(len(body))) for body in some if len(body) >= SHORTEST
    }
    async with familiar(len(some), *known.values()) as together, serving(1) as alone:
        heard = await together.send(requests)
        expected = await alone.send_each(requests)
        assert (max(together.store.calls) > 5) == (not broken)
        assert max(alone.store.calls) == 1
        assert list(map(_without_id, heard)) == list(map(_without_id, expected))
        assert await together.jobs() - len(known) == await alone.jobs()


def _without_id(answer: bytes) -> bytes:
    return re.sub(rb'"id":"[0-9a-z]{25}"', b'"id":""', answer)


async def test_what_is_large_goes_alone() -> None:
    large = enqueue(job(payload="x" * lots.LARGEST))
    async with familiar(2, large) as server:
        assert all(b" 201 " in answer for answer in await server.send([large] * 2))
        assert server.store.calls == [1, 1]


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(post(job(), b"content-type: text/plain\r\n"), id="a format that is not spoken"),
        pytest.param(post(job(), b"accept: text/plain\r\n"), id="an answer that is not spoken"),
        pytest.param(post(b"{}"), id="no job"),
        pytest.param(post(job()).replace(b"/jobs", b"/nowhere"), id="no path"),
        pytest.param(post(b'{"jobs":[]}').replace(b"/jobs", b"/jobs/bulk"), id="another call"),
        pytest.param(post(job()).replace(b"host: x", b"host: x\r\nsec-fetch-mode: cors\r\norigin: y"), id="a page"),
    ],
)
async def test_heads_that_may_be_refused_go_alone(request_: bytes) -> None:
    async with serving(1) as server:
        for _ in range(2):
            await server.send([request_])
        known = server.clients[0].heads.find(request_)
        # No header that only browsers send is in a head that is kept.
        assert (known is None) == (b"origin" in request_)
        assert known is None or known[1].together is None


def shown(token: str, body: bytes) -> bytes:
    """A request of an enqueue by somebody who shows a token."""
    return enqueue(body).replace(b"\r\n", b"\r\nauthorization: %b\r\n" % bearer(token).encode(), 1)


async def test_enqueues_of_many_callers_are_stored_by_one_call(tmp_path: Any) -> None:
    grants = Grants(tmp_path)
    ours, theirs = grants.token(Scope.ENQUEUE), grants.token(Scope.ENQUEUE, queues=("q", "mail-*"))
    async with familiar(4, shown(ours, job()), auth="tokens", root_dir=tmp_path) as server:
        answers = await server.send([shown(token, job()) for token in (ours, theirs, ours, theirs)])
        assert all(b" 201 " in answer for answer in answers)
        assert server.store.calls == [4]


async def test_who_may_not_is_refused_as_alone_and_the_others_not(tmp_path: Any) -> None:
    grants = Grants(tmp_path)
    good = grants.token(Scope.ENQUEUE)
    gone = grants.token(Scope.ENQUEUE)
    requests = [
        enqueue(job()),
        *(
            shown(token, job())
            for token in (
                good,
                grants.token(Scope.ENQUEUE, queues=("q",)),
                grants.token(Scope.ENQUEUE, queues=("r", "mail-*")),
                grants.token(Scope.WORK, Scope.READ),
                grants.token(Scope.ENQUEUE, expires_at=NOW),
                gone,
                f"{good[:-1]}{'A' if good[-1] != 'A' else 'B'}",
                good.upper(),
                "zq_",
            )
        ),
    ]
    grants.revoke(gone)
    server_of = {"auth": "tokens", "root_dir": tmp_path}
    async with familiar(len(requests), shown(good, job()), **server_of) as together, serving(1, **server_of) as alone:
        heard = await together.send(requests)
        expected = await alone.send_each(requests)
        assert together.store.calls == [2]
        assert [status for answer in heard for status in statuses(answer)] == [401, 201, 201, 403, 403, *[401] * 5]
        assert list(map(_without_id, heard)) == list(map(_without_id, expected))
        assert together.app.auth.refused == alone.app.auth.refused
        assert together.app.auth.refused.total() == 8


async def test_a_token_that_is_revoked_is_one_no_more(tmp_path: Any) -> None:
    grants = Grants(tmp_path)
    token, other = grants.token(Scope.ENQUEUE), grants.token(Scope.ENQUEUE)
    async with familiar(3, shown(token, job()), auth="tokens", root_dir=tmp_path) as server:
        grants.revoke(token)
        server.clock.advance(1000)
        answers = await server.send([shown(one, job()) for one in (token, other, token)])
        assert [statuses(answer) for answer in answers] == [[401], [201], [401]]
        assert server.store.calls == [1]


async def test_a_defect_where_it_is_asked_who_calls_is_met_by_each_alone(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    request = shown(Grants(tmp_path).token(Scope.ENQUEUE), job())
    async with familiar(3, request, auth="tokens", root_dir=tmp_path) as server:
        with monkeypatch.context() as defect:
            defect.setattr(server.app.auth, "recognise", dict)
            assert [statuses(answer) for answer in await server.send([request] * 3)] == [[500]] * 3
        assert [record.message for record in caplog.records] == ["request failed"] * 3
        assert [statuses(answer) for answer in await server.send([request] * 3)] == [[201]] * 3
        assert server.store.calls == [3]


async def test_where_each_request_is_logged_all_go_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "zizq.api.primary")
    async with familiar(3) as server:
        caplog.clear()
        await server.send([enqueue(job())] * 3)
        assert [record.message for record in caplog.records] == ["request"] * 3
        assert server.store.calls == [1, 1, 1]


async def test_those_over_the_limit_are_turned_away_and_the_others_not() -> None:
    async with familiar(5, max_requests=6) as server:
        for _ in range(2):
            server.store.goes_on.clear()
            answers = await server.send([enqueue(job())] * 5)
            assert [statuses(answer) for answer in answers] == [[], [], [], [429], [429]]
            assert b"retry-after: 1\r\n" in answers[4]
            server.store.goes_on.set()
            assert [statuses(await client.answer())[-1] for client in server.clients[:3]] == [201] * 3
        assert server.store.calls == [3, 3]


async def test_what_the_store_refuses_is_refused_to_each(caplog: pytest.LogCaptureFixture) -> None:
    async with familiar(3) as server:
        server.store.failure = Unavailable("the disk is full")
        answers = await server.send([enqueue(job())] * 3)
        assert server.store.calls == [3]
        expected = await server.clients[0].send(
            post(job(), b"accept: application/json\r\ncontent-type: */*,application/json\r\n")
        )
        assert answers == [expected] * 3
        assert server.app.asgi.requests == {("POST", 5): 4}
        server.store.failure = None
        assert all(b" 201 " in answer for answer in await server.send([enqueue(job())] * 3))
        assert not caplog.records


@pytest.mark.parametrize(
    ("attribute", "error"),
    [("failure", ZeroDivisionError()), ("failure", asyncio.CancelledError()), ("defect", ZeroDivisionError())],
)
async def test_a_defect_is_told_of_once_and_owned_to_to_each(
    attribute: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async with familiar(3, max_requests=6) as server:
        setattr(server.store, attribute, error)
        for _ in range(2):
            for answer in await server.send([enqueue(job())] * 3):
                assert answer.startswith(b"HTTP/1.1 500 ")
                assert answer.endswith(b'{"error":"internal server error"}')
        assert [record.message for record in caplog.records] == ["request failed"] * 2


async def test_what_is_refused_for_one_is_not_refused_to_the_others() -> None:
    async with familiar(4, enqueue(job(queue="one")), max_requests=8) as server:
        server.store.refused = "bad"
        for _ in range(2):
            heard = await server.send([enqueue(job(queue=queue)) for queue in ("one", "bad", "two", "six")])
            assert [statuses(answer) for answer in heard] == [[201], [422], [201], [201]]
        assert server.store.calls == [4, 1, 1, 1, 1] * 2


async def test_an_answer_that_cannot_be_sent_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    def write(data: bytes) -> None:
        raise RuntimeError("closed")

    async with familiar(3) as server:
        server.clients[1].transport.write = write  # type: ignore[method-assign]
        heard = await server.send([enqueue(job())] * 3)
        assert [statuses(answer) for answer in heard] == [[201], [], [201]]
        assert server.clients[1].transport.is_aborted
        assert [record.message for record in caplog.records] == ["an answer was not sent"]


async def test_who_goes_meanwhile_keeps_nobody_from_an_answer() -> None:
    async with familiar(3) as server:
        server.store.goes_on.clear()
        await server.send([enqueue(job())] * 3)
        gone = server.clients[1]
        before = gone.transport.written
        gone.connection.connection_lost(None)
        assert gone.running
        server.store.goes_on.set()
        answers = [(await client.answer()).count(b" 201 ") for client in server.clients]
        assert answers == [2, 0, 1]
        assert gone.transport.written == before
        assert await server.jobs() == 4
        assert not any(client.running for client in server.clients)


async def test_who_sends_no_more_hears_that_it_was_the_last() -> None:
    async with familiar(2) as server:
        server.store.goes_on.clear()
        await server.send([enqueue(job())] * 2)
        assert server.clients[1].connection.eof_received()
        server.store.goes_on.set()
        assert b"\r\nconnection: close\r\n\r\n" in await server.clients[1].answer()
        assert server.clients[1].transport.is_closed
        assert not server.clients[0].transport.is_closed


HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("pieces", [[HEALTH], [enqueue(job())], [HEALTH[:1], HEALTH[1:]], [HEALTH + HEALTH[:9]]])
async def test_what_is_sent_ahead_is_answered_behind_it(pieces: list[bytes], is_stored: bool) -> None:
    async with familiar(3) as server:
        if is_stored:
            server.store.goes_on.clear()
            await server.send([enqueue(job())] * 3)
        else:
            # Nobody is at them yet.
            for client in server.clients:
                client.connection.data_received(enqueue(job()))
        early = server.clients[1]
        before = len(early.transport.written)
        early.connection.data_received(pieces[0])
        server.store.goes_on.set()
        heard = [await client.answer() for client in server.clients]
        for piece in pieces[1:]:
            early.connection.data_received(piece)
        behind = 200 if pieces[0][:1] == b"G" else 201
        assert statuses((await early.answer())[before:]) == [201, behind]
        assert [statuses(heard[number])[-1] for number in (0, 2)] == [201, 201]
        assert server.store.calls == [3] + [1] * (behind == 201)
        assert not any(client.running for client in server.clients)


async def test_who_does_not_read_has_no_more_answers_made_for_him() -> None:
    async with familiar(2) as server:
        server.clients[1].connection.pause_writing()
        assert b" 201 " in (await server.send([enqueue(job())] * 2))[1]
        assert await server.clients[1].send(enqueue(job())) == b""
        assert server.store.calls == [1, 1]
        server.clients[1].connection.resume_writing()
        assert b" 201 " in await server.clients[1].answer()


async def test_a_server_that_stops_waits_for_them() -> None:
    async with familiar(2) as server:
        server.store.goes_on.clear()
        await server.send([enqueue(job())] * 2)
        client = server.clients[1]
        client.connection.stop_soon()
        assert not client.transport.is_closed
        assert len(client.running) == 1
        server.store.goes_on.set()
        assert b" 201 " in await client.answer()
        assert client.transport.is_closed


async def test_a_server_that_waits_no_longer_lets_them_go() -> None:
    async with familiar(1) as server:
        server.store.goes_on.clear()
        await server.send([enqueue(job())])
        [exchange] = server.clients[0].running
        exchange.cancel()
        assert not server.clients[0].running
        server.store.goes_on.set()
        assert statuses(await server.clients[0].answer()) == [201, 201]
        assert not server.clients[0].running
        assert server.store.calls == [1]


@pytest.mark.parametrize("happens", ["lost", "eof", "stop", "cancel", "garbage"])
@pytest.mark.parametrize("goes", ["together", "alone"])
async def test_whatever_happens_before_anybody_is_at_it_it_comes_to_an_end(happens: str, goes: str) -> None:
    asked = enqueue(job() if goes == "together" else job(retry_limit=1).ljust(60))
    async with familiar(2, enqueue(job().ljust(len(job()) if goes == "together" else 60))) as server:
        one, other = server.clients
        before = len(one.transport.written)
        for client in (one, other):
            client.connection.data_received(asked)
        if happens == "lost":
            one.connection.connection_lost(None)
        elif happens == "eof":
            one.connection.eof_received()
        elif happens == "stop":
            one.connection.stop_soon()
        elif happens == "garbage":
            one.connection.data_received(b"no HTTP\r\n\r\n")
        else:
            [exchange] = one.running
            exchange.cancel()
            one.connection.connection_lost(None)
        heard = statuses((await one.answer())[before:])
        assert heard == {"lost": [], "cancel": [], "garbage": [201, 400]}.get(happens, [201])
        assert statuses(await other.answer())[-1] == 201
        assert not one.running
        assert not other.running
        # Whoever has gone is served all the same, unless the server has stopped to wait for it.
        assert sum(server.store.calls) == (1 if (happens, goes) == ("cancel", "alone") else 2)


async def test_an_application_hears_of_one_that_is_begun_after_all_whose_it_is() -> None:
    app = Echo()
    client = Client(app)
    await client.send(post(b"1"))
    known = client.heads.find(post(b"1"))
    assert known is not None
    known[1].together = lambda request: request.begin()
    assert (await client.send(post(b"2"))).endswith(b"\r\n\r\n2")
    assert app.scopes[0] == app.scopes[1]
