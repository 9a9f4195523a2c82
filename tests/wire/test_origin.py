"""What a page of another site can have a browser send to a server on the same machine, and that nothing comes of it."""

from __future__ import annotations

import pytest

from wire.talk import Talk, serving
from wire.test_admin import admin
from wire.test_tokens import target_of
from zizq.wire import operations as op
from zizq.wire.operations import OPERATIONS, Operation, Scope

pytestmark = pytest.mark.embedded_only("it is asked before the store is")
FOREIGN = (403, "the request comes from a page of another site")
NEW = b'{"type":"t","queue":"q","payload":1}'
ALL = {operation.name: operation for operation in OPERATIONS}
OTHERS = pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        # A page on another port of this machine, one without an origin, and one that lies.
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
        {"origin": "https://evil.example", "sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
    ],
    ids=lambda headers: "-".join(headers.values()),
)


async def statuses(server: Talk) -> dict[str, int]:
    """How many jobs there are of each status."""
    jobs = (await server.ask("GET", "/jobs")).value["jobs"]
    return {status: sum(job["status"] == status for job in jobs) for status in {job["status"] for job in jobs}}


@OTHERS
@pytest.mark.parametrize("name", [name for name, operation in ALL.items() if operation.scope is not None])
async def test_no_call_is_carried_out_for_a_page_of_another_site(name: str, headers: dict[str, str]) -> None:
    async with serving() as server:
        await server.enqueue()
        # What a form or a script may send without asking: no content type, or one that only seems to be text.
        operation = ALL[name]
        body = None if operation.method == "GET" else NEW
        for form in ({}, {"content_type": "text/plain;application/json"}):
            reply = await server.ask(operation.method, target_of(operation), body, **form, **headers)
            assert reply.status == 403, reply
            assert reply.error == FOREIGN
        assert await statuses(server) == {"ready": 1}


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.scope is None], ids=lambda one: one.name)
async def test_what_everybody_may_know_is_answered(operation: Operation) -> None:
    async with serving() as server:
        reply = await server.ask(operation.method, operation.path, sec_fetch_site="cross-site")
        assert (reply.status, "access-control-allow-origin" in reply.headers) == (200, False)


async def test_a_stream_of_another_site_holds_no_job() -> None:
    async with serving() as server:
        await server.enqueue()
        refused = await server.take(sec_fetch_site="cross-site", sec_fetch_mode="navigate")
        assert refused.head.status == 403
        assert await statuses(server) == {"ready": 1}


@pytest.mark.parametrize("target", ["/jobs", "/reset", "/jobs/take"])
async def test_a_browser_that_asks_first_is_told_no(target: str) -> None:
    async with serving() as server:
        reply = await server.ask(
            "OPTIONS", target, origin="https://evil.example", access_control_request_method="DELETE"
        )
        assert reply.status == 405
        assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        # Node's fetch; what a user has typed; and a page that a proxy serves beside the API, by names of its own.
        {"sec_fetch_mode": "cors"},
        {"sec_fetch_site": "none"},
        {"origin": "https://jobs.example", "sec_fetch_site": "same-origin"},
        {"origin": "http://LOCALHOST"},
    ],
    ids=lambda headers: "-".join(headers.values()),
)
async def test_all_others_are_answered(headers: dict[str, str]) -> None:
    async with serving() as server:
        assert (await server.ask("POST", "/jobs", NEW, **headers)).status == 201
        stream = await server.take(**headers)
        assert (await stream.job())["status"] == "in_flight"


async def test_a_refusal_is_counted() -> None:
    async with serving() as server:
        await server.ask("POST", "/reset", sec_fetch_site="cross-site")
        assert server.app.auth.refused == {"origin": 1}


@OTHERS
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/compact"), ("POST", "/backup"), ("GET", "/insight/overview"), ("GET", "/metrics")]
)
async def test_the_admin_api_does_nothing_for_a_page_of_another_site(
    method: str, path: str, headers: dict[str, str]
) -> None:
    async with admin() as (_, connect):
        reply = await (await connect()).ask(method, path, **headers)
        assert (reply.status, reply.body.decode()) == FOREIGN


async def test_the_admin_api_answers_who_has_typed_its_address() -> None:
    async with admin() as (_, connect):
        assert (await (await connect()).ask("GET", "/insight/overview", sec_fetch_site="none")).status == 200


def test_every_call_that_tells_of_jobs_or_changes_them_has_a_scope() -> None:
    assert {one.name for one in OPERATIONS if one.scope is None} == {
        one.name for one in (op.HEALTH, op.LIVE, op.READY, op.VERSION, op.OPENAPI)
    }
    assert op.TAKE.scope is Scope.WORK
