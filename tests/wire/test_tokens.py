"""Tokens: what is refused with 401 and 403, what is not there for whom, and that both are counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wire.grants import Grants, bearer
from wire.stores import running_server
from wire.talk import Reply, Stream, Talk, request, serving
from zizq.testing.clock import LoadedDice, ManualClock
from zizq.wire import operations as op
from zizq.wire.operations import OPERATIONS, Operation, Scope

JOB = {"type": "t", "queue": "mail", "payload": 1}
BUDGET = {"allocation": 1, "strategy": {"type": "while_in_flight"}}
ANY_ID = "0" * 25


@dataclass
class Site:
    """A server that asks who calls, and the file of its tokens."""

    talk: Talk
    grants: Grants

    def read_again(self) -> None:
        """Let the server look at the file at its next request."""
        self.talk.clock.advance(1000)

    def as_(self, token: str) -> User:
        """Calls with a token."""
        return User(self.talk, token)


@dataclass
class User:
    """Makes calls with a token."""

    talk: Talk
    token: str

    async def ask(self, method: str, target: str, value: Any = None) -> Reply:
        """One request, with a value as JSON."""
        body = None if value is None else msgspec.json.encode(value)
        return await self.talk.ask(method, target, body, authorization=bearer(self.token))

    async def take(self, query: str = "") -> Stream:
        """A take stream."""
        return await self.talk.take(query, authorization=bearer(self.token))

    async def enqueue(self, **fields: Any) -> str:
        """Enqueue a job; returns its id."""
        reply = await self.ask("POST", "/jobs", JOB | fields)
        assert reply.status == 201, reply
        job_id: str = reply.value["id"]
        return job_id


@asynccontextmanager
async def site(folder: Path, **settings: Any) -> AsyncIterator[Site]:
    """A server that asks who calls; its tokens are read when it starts and then each second."""
    grants = Grants(folder)
    async with serving(auth="tokens", token_file=grants.path, **settings) as talk:
        yield Site(talk, grants)


async def all_users(server: Site, *scopes: Scope, **fields: Any) -> list[User]:
    tokens = [server.grants.token(scope, **fields) for scope in scopes]
    server.read_again()
    return [server.as_(token) for token in tokens]


def target_of(operation: Operation) -> str:
    return operation.at(*[ANY_ID, 1][: operation.path.count("{")])


async def status_of(user: User, operation: Operation) -> int:
    # A stream has no end; its head is answered by the same rules.
    method = "HEAD" if operation is op.TAKE else operation.method
    return (await user.ask(method, target_of(operation))).status


# ── scopes ──


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
async def test_a_call_needs_its_scope(tmp_path: Path, operation: Operation) -> None:
    async with site(tmp_path) as server:
        for scope, user in zip(Scope, await all_users(server, *Scope), strict=True):
            allowed = operation.scope in (None, scope) or scope is Scope.ADMIN
            status = await status_of(user, operation)
            assert (status not in (401, 403)) is allowed, (scope, status)
            assert allowed or status == 403
        unknown = await status_of(server.as_("zq_0_" + "A" * 43), operation)
        assert (unknown != 401) is (operation.scope is None)
        missing = await server.talk.ask(operation.method, target_of(operation))
        assert (missing.status != 401) is (operation.scope is None)


async def test_a_refusal_says_what_is_missing(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        missing = await server.talk.ask("GET", "/jobs")
        assert (missing.headers["www-authenticate"], missing.headers["content-type"]) == ("Bearer", "application/json")
        assert missing.error == (
            401, "this server wants to know who calls: send a token, as in `authorization: Bearer zq_...`",
        )  # fmt: skip
        [user] = await all_users(server, Scope.WORK, name="billing")
        reply = await user.ask("DELETE", "/jobs")
        assert reply.error == (
            403, "the token 'billing' (0000000001) has not the scope `manage` that this needs, only `work`",
        )  # fmt: skip
        assert "www-authenticate" not in reply.headers
        packed = await server.talk.ask("GET", "/jobs", accept="application/msgpack")
        assert (packed.status, packed.value) == (401, missing.value)


async def test_who_calls_is_asked_before_the_body_is_read(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        connection = await server.talk.connect()
        head = request("POST", "/jobs", content_type="application/json", content_length="1000000", authorization="x")
        await connection.send(head)
        assert (await connection.reply()).status == 401


async def test_a_form_that_is_not_spoken_comes_first_and_an_unknown_path_is_no_secret(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        assert (await server.talk.ask("GET", "/jobs", accept="text/html")).status == 406
        assert (await server.talk.ask("GET", "/nothing")).status == 404
        assert (await server.talk.ask("PUT", "/jobs")).status == 405


async def test_refusals_are_counted_by_their_reason(tmp_path: Path) -> None:
    async with site(tmp_path, reset="disabled") as server:
        work, admin = await all_users(server, Scope.WORK, Scope.ADMIN, expires_at=server.talk.clock.wall_ms() + 9000)
        [limited] = await all_users(server, Scope.READ, queues=("mail",))
        await server.talk.ask("GET", "/jobs")
        await server.talk.ask("GET", "/jobs", authorization="Basic YTpi")
        await server.as_(work.token + "x").ask("GET", "/jobs")
        await work.ask("GET", "/jobs")
        await limited.ask("GET", "/jobs")
        await admin.ask("POST", "/reset")
        server.talk.clock.advance(9000)
        await work.ask("HEAD", "/jobs/take")
        counts = dict.fromkeys(("missing", "malformed", "unknown", "scope", "queue", "reset", "expired"), 1)
        assert server.talk.app.auth.refused == counts


async def test_without_auth_nobody_is_asked(tmp_path: Path) -> None:
    async with serving() as server:
        reply = await server.ask("GET", "/jobs", authorization="Bearer whatever")
        assert reply.status == 200


async def test_no_log_line_has_a_token_wherever_its_owner_puts_it(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level("DEBUG", "zizq")
    grants = Grants(tmp_path)
    token = grants.token(Scope.ADMIN)
    async with running_server(auth="tokens", token_file=grants.path, no_admin=False) as server:
        for url in (server.url, server.admin_url or ""):
            talk = Talk(url, server.app, ManualClock(), LoadedDice())
            long = "x" * 180
            for target in (f"/nothing?token={token}", f"/{token}", f"/{long}?{token}"):
                for headers in ({}, {"authorization": bearer(token)}, {"authorization": bearer(token) + "x"}):
                    await talk.ask("POST", target, b"{}", **headers)
            talk.hang_up()
    shown = [str(record.__dict__) for record in caplog.records]
    assert sum("zq_0000000001_..." in line for line in shown) >= 4
    assert not [line for line in shown if token.split("_")[2][:20] in line]


# ── reset ──


async def test_reset_can_be_disabled(tmp_path: Path) -> None:
    async with serving(reset="disabled") as server:
        job_id = await server.enqueue()
        reply = await server.ask("POST", "/reset")
        assert reply.error == (403, "POST /reset is disabled here: it takes a server with --reset enabled")
        assert await server.get(job_id) is not None
        assert server.app.auth.refused == {"reset": 1}


# ── queues ──


async def test_who_has_patterns_enqueues_to_their_queues_alone(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        [user] = await all_users(server, Scope.ENQUEUE, queues=("mail*",))
        await user.enqueue(queue="mail-out")
        message = "the token 'app' (0000000001) is for some queues only; `sms` is none of them: it is for `mail*`"
        assert (await user.ask("POST", "/jobs", JOB | {"queue": "sms"})).error == (403, message)
        bulk = {"jobs": [JOB, JOB | {"queue": "sms"}]}
        assert (await user.ask("POST", "/jobs/bulk", bulk)).error == (403, message)
        assert await server.talk.app.catalog.queues() == ["mail-out"]
        assert (await user.ask("POST", "/jobs/bulk", {"jobs": [JOB, JOB]})).status == 201


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch": {"key": "k", "when": "true", "fold": "$new"}}, "a batch key is about all queues"),
        ({"budgets": [{"key": "b", "create_with": BUDGET}]}, "a budget (`create_with`) is about all queues"),
    ],
)
async def test_who_has_patterns_sets_nothing_that_counts_for_all_queues(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    async with site(tmp_path) as server:
        [user] = await all_users(server, Scope.ENQUEUE, queues=("mail",))
        for reply in (
            await user.ask("POST", "/jobs", JOB | fields),
            await user.ask("POST", "/jobs/bulk", {"jobs": [JOB, JOB | fields]}),
        ):
            assert reply.status == 403
            assert message in reply.value["error"]
        [everywhere] = await all_users(server, Scope.ENQUEUE)
        await everywhere.enqueue(**fields)


async def test_a_duplicate_of_a_job_elsewhere_shows_nothing_of_it(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        [admin] = await all_users(server, Scope.ADMIN)
        [user] = await all_users(server, Scope.ENQUEUE, queues=("mail",))
        other = await admin.enqueue(queue="sms", priority=7, unique_key="k")
        reply = await user.ask("POST", "/jobs", JOB | {"unique_key": "k"})
        assert (reply.status, reply.value["duplicate"]) == (200, True)
        assert (reply.value["queue"], reply.value["priority"]) == ("mail", 32768)
        assert (await admin.ask("GET", f"/jobs/{reply.value['id']}")).status == 404
        bulk = await user.ask("POST", "/jobs/bulk", {"jobs": [JOB | {"unique_key": "k"}, JOB]})
        assert [(job["queue"], job["duplicate"]) for job in bulk.value["jobs"]] == [("mail", True), ("mail", False)]
        assert other not in bulk.body.decode()


BY_QUERY = [one for one in OPERATIONS if any(parameter.name == "queue" for parameter in one.query)]


@pytest.mark.parametrize("operation", BY_QUERY, ids=lambda one: one.name)
async def test_who_has_patterns_names_queues_of_their_own(tmp_path: Path, operation: Operation) -> None:
    async with site(tmp_path) as server:
        [user] = await all_users(server, operation.scope or Scope.READ, queues=("mail", "post*"))
        method = "HEAD" if operation is op.TAKE else operation.method
        path = operation.at(*["k"] * operation.path.count("{"))

        async def status(query: str) -> int:
            return (await user.ask(method, path + query)).status

        for query in ("", "?queue=", "?queue=,", "?queue=sms", "?queue=mail,sms", "?queue=mail%2Csms", "?queue=*"):
            assert await status(query) == 403, query
        for query in ("?queue=mail", "?queue=mail,post-office"):
            assert await status(query) not in (401, 403, 404), query


async def test_the_remedy_is_in_the_refusal_of_a_stream(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        [user] = await all_users(server, Scope.WORK, queues=("mail", "post*"))
        reply = await user.ask("GET", "/jobs/take")
        assert reply.error == (
            403, "the token 'app' (0000000001) is for some queues only; name some of them in the parameter `queue`: it"
            " is for `mail`, `post*`",
        )  # fmt: skip


BY_ID = [one for one in OPERATIONS if "{id}" in one.path and one.scope is not Scope.WORK]
BODIES: dict[Operation, Any] = {
    op.PATCH_JOB: {"priority": 1}, op.REPLACE_BINDINGS: {"budgets": []}, op.ADD_BINDING: {}, op.PUT_BINDING: {},
    op.PATCH_BINDING: {"cost": 1},
}  # fmt: skip


@pytest.mark.parametrize("operation", BY_ID, ids=lambda one: one.name)
async def test_jobs_of_other_queues_are_not_there(tmp_path: Path, operation: Operation) -> None:
    async with site(tmp_path) as server:
        [admin] = await all_users(server, Scope.ADMIN)
        [user] = await all_users(server, operation.scope or Scope.READ, queues=("mail",))
        await admin.ask("PUT", "/budgets/k", BUDGET)
        job_id = await admin.enqueue(queue="sms")
        target = operation.at(*[job_id, "1" if operation is op.GET_ERROR else "k"][: operation.path.count("{")])
        reply = await user.ask(operation.method, target, BODIES.get(operation))
        absent = await user.ask(operation.method, target.replace(job_id, ANY_ID), BODIES.get(operation))
        assert reply.error == absent.error == (404, "job not found")
        assert (await admin.ask("GET", f"/jobs/{job_id}")).value["queue"] == "sms"


async def test_only_jobs_of_their_queues_are_settled(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        [admin] = await all_users(server, Scope.ADMIN)
        [user] = await all_users(server, Scope.WORK, queues=("mail",))
        ids = [await admin.enqueue(queue=queue) for queue in ("sms", "mail", "mail", "mail")]
        stream = await admin.take("?prefetch=0")
        await stream.jobs(4)
        other, first, second, third = ids
        gone = (404, "job not found in in-flight set")
        assert (await user.ask("POST", f"/jobs/{other}/success")).error == gone
        assert (await user.ask("POST", f"/jobs/{other}/failure", {"message": "m"})).error == gone
        assert (await user.ask("POST", f"/jobs/{ANY_ID}/success")).error == gone
        assert (await user.ask("POST", f"/jobs/{first}/success")).status == 204
        bulk = await user.ask("POST", "/jobs/success", {"ids": [other, second, "nonsense", other]})
        assert (bulk.status, bulk.value) == (422, {"not_found": [other, "nonsense"]})
        release = await user.ask("POST", "/jobs/release", {"ids": [other, third]})
        assert (release.status, release.value) == (422, {"not_found": [other]})
        assert (await admin.ask("GET", f"/jobs/{other}")).value["status"] == "in_flight"


async def test_a_report_that_was_begun_before_its_job_was_taken_settles_nothing_of_others(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        [admin] = await all_users(server, Scope.ADMIN)
        [user] = await all_users(server, Scope.WORK, queues=("mail",))
        job_id, body = await admin.enqueue(queue="sms"), b'{"message":"m"}'
        connection = await server.talk.connect()
        head = request("POST", f"/jobs/{job_id}/failure", content_type="application/json",
                       content_length=str(len(body)), authorization=bearer(user.token))  # fmt: skip
        await connection.send(head + body[:1])
        await (await admin.take()).job()
        await connection.send(body[1:])
        assert (await connection.reply()).error == (404, "job not found in in-flight set")
        assert (await admin.ask("GET", f"/jobs/{job_id}")).value["status"] == "in_flight"


async def test_a_stream_is_ended_by_its_name_by_its_own_caller_alone(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        [mine, other, admin] = await all_users(server, Scope.WORK, Scope.WORK, Scope.ADMIN)
        stream = await mine.take("?stream=worker-1")
        for user in (other, admin):
            await user.ask("POST", "/jobs/release", {"ids": [], "stream": "worker-1"})
        job_id = await admin.enqueue()
        assert (await stream.job())["id"] == job_id
        assert (await mine.ask("POST", "/jobs/release", {"ids": [job_id], "stream": "worker-1"})).status == 204
        await stream.rest()


async def test_a_job_moves_only_between_queues_of_theirs(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        [admin] = await all_users(server, Scope.ADMIN)
        [user] = await all_users(server, Scope.MANAGE, queues=("mail*",))
        job_id = await admin.enqueue(queue="mail")
        for target in (f"/jobs/{job_id}", "/jobs?queue=mail"):
            assert (await user.ask("PATCH", target, {"queue": "sms"})).status == 403
        assert (await user.ask("PATCH", f"/jobs/{job_id}", {"queue": "mail-out"})).value["queue"] == "mail-out"


async def test_a_binding_brings_no_budget_along(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        [admin] = await all_users(server, Scope.ADMIN)
        [user] = await all_users(server, Scope.MANAGE, queues=("mail",))
        job_id = await admin.enqueue(queue="mail")
        for target in (f"/jobs/{job_id}/budgets/b", "/jobs/budgets/b?queue=mail"):
            for method in ("POST", "PUT"):
                assert (await user.ask(method, target, {"create_with": BUDGET})).status == 403
        all_ = {"budgets": [{"key": "b", "create_with": BUDGET}]}
        assert (await user.ask("PUT", f"/jobs/{job_id}/budgets", all_)).status == 403
        assert (await admin.ask("GET", "/budgets/b")).status == 404


async def test_who_has_patterns_pauses_queues_of_theirs_and_sees_no_others(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        [admin] = await all_users(server, Scope.ADMIN)
        manager, reader = await all_users(server, Scope.MANAGE, Scope.READ, queues=("mail*",))
        for queue in ("mail-out", "sms"):
            assert (await admin.ask("PUT", f"/queues/{queue}/pause")).status == 200
        assert (await manager.ask("DELETE", "/queues/mail-out/pause")).status == 200
        assert (await manager.ask("PUT", "/queues/mail-in/pause")).status == 200
        message = "the token 'app' (0000000003) is for some queues only; `sms` is none of them: it is for `mail*`"
        for method in ("PUT", "DELETE"):
            assert (await manager.ask(method, "/queues/sms/pause")).error == (403, message)
        assert (await reader.ask("GET", "/queues/sms")).status == 403
        assert (await reader.ask("GET", "/queues/mail-in")).value["paused"]
        states = (await reader.ask("GET", "/queues?states=true")).value["states"]
        assert [state["queue"] for state in states] == ["mail-in"]
        states = (await admin.ask("GET", "/queues?states=true")).value["states"]
        assert [state["queue"] for state in states] == ["mail-in", "sms"]


async def test_who_has_patterns_sees_their_queues_and_nothing_of_the_whole_server(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        [admin] = await all_users(server, Scope.ADMIN)
        [user] = await all_users(server, Scope.READ, queues=("mail*",))
        for queue in ("mail", "mail-out", "sms"):
            await admin.enqueue(queue=queue)
        assert (await user.ask("GET", "/queues")).value == {"queues": ["mail", "mail-out"]}
        for path in ("/crons", "/crons/g", "/budgets", "/budgets/k"):
            reply = await user.ask("GET", path)
            assert reply.status == 403
            assert "is about all queues: use a token without patterns of queues" in reply.value["error"]


# ── what changes meanwhile ──


async def test_a_token_that_is_revoked_ends_its_streams_and_no_others(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        [mine, other] = await all_users(server, Scope.WORK, Scope.WORK)
        [admin] = await all_users(server, Scope.ADMIN)
        lost, kept = await mine.take("?prefetch=1&queue=a"), await other.take("?queue=b")
        job_id = await admin.enqueue(queue="a")
        assert (await lost.job())["id"] == job_id
        server.grants.revoke(mine.token)
        server.read_again()
        await lost.rest()
        assert (await mine.ask("POST", f"/jobs/{job_id}/success")).status == 401
        assert (await admin.ask("GET", f"/jobs/{job_id}")).value["status"] == "ready"
        second = await admin.enqueue(queue="b")
        assert (await kept.job())["id"] == second


async def test_a_stream_ends_when_its_token_expires(tmp_path: Path) -> None:
    async with site(tmp_path) as server:
        [user] = await all_users(server, Scope.WORK, expires_at=server.talk.clock.wall_ms() + 5000)
        stream = await user.take()
        assert await stream.is_silent()
        server.talk.clock.advance(5000)
        await stream.rest()


# ── the admin API ──

INSIGHTS = ("overview", "queues", "workers", "failures", "storage", "crons", "budgets", "history", "job")
ADMIN_CALLS = {
    ("POST", "/backup"): Scope.ADMIN,
    ("POST", "/compact"): Scope.ADMIN,
    ("GET", "/metrics"): Scope.READ,
    **{("GET", f"/insight/{name}"): Scope.READ for name in INSIGHTS},
}


async def test_each_call_of_the_admin_api_needs_its_scope(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    users = {scope: grants.token(scope) for scope in Scope}
    limited = grants.token(Scope.READ, queues=("mail",))
    async with running_server(auth="tokens", token_file=grants.path, no_admin=False) as server:
        admin = Talk(server.admin_url or "", server.app, ManualClock(), LoadedDice())
        assert server.app.admin._routes.keys() == ADMIN_CALLS.keys()
        for (method, path), needed in ADMIN_CALLS.items():
            for scope, token in users.items():
                status = (await admin.ask(method, path, authorization=bearer(token))).status
                assert (status == 403) is (scope not in (needed, Scope.ADMIN)), (path, scope, status)
            assert (await admin.ask(method, path)).status == 401
            assert (await admin.ask(method, path, authorization=bearer(limited))).status == 403
        admin.hang_up()


async def test_the_admin_api_is_for_those_with_the_scope_admin(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    tokens = {scope: grants.token(scope) for scope in Scope}
    async with running_server(auth="tokens", token_file=grants.path, no_admin=False) as server:
        admin = Talk(server.admin_url or "", server.app, ManualClock(), LoadedDice())
        for scope, token in tokens.items():
            reply = await admin.ask("POST", "/compact", authorization=bearer(token))
            assert reply.status == (204 if scope is Scope.ADMIN else 403)
        missing = await admin.ask("POST", "/backup")
        assert (missing.status, missing.headers["www-authenticate"]) == (401, "Bearer")
        assert missing.body.startswith(b"this server wants to know who calls")
        assert server.app.auth.refused == {"scope": 4, "missing": 1}
        admin.hang_up()


async def test_who_floods_the_admin_api_with_refusals_does_not_flood_its_log(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level("INFO", "zizq")
    grants = Grants(tmp_path)
    grants.token(Scope.WORK)
    async with running_server(auth="tokens", token_file=grants.path, no_admin=False) as server:
        admin = Talk(server.admin_url or "", server.app, ManualClock(), LoadedDice())
        caplog.clear()
        for _ in range(5):
            assert (await admin.ask("POST", "/backup")).status == 401
        admin.hang_up()
        assert [record.message for record in caplog.records] == ["request refused"]


async def test_the_admin_api_asks_nobody_without_auth() -> None:
    async with running_server(no_admin=False) as server:
        admin = Talk(server.admin_url or "", server.app, ManualClock(), LoadedDice())
        assert (await admin.ask("POST", "/compact")).status == 204
        admin.hang_up()
