"""The dashboard of a server that asks who calls."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.routing import Route

from wire.boards import OWN, Board, boarding
from wire.grants import Grants, bearer
from zizq.server.dashboard import sessions

PAUSE = {"queue": "mail", "paused": "1"}


async def log_in(board: Board, token: str) -> None:
    reply = await board.post("/login?next=/queues", {"token": token}, **OWN)
    assert (reply.status, reply.headers["location"]) == (303, "/queues")
    board.cookie = reply.headers["set-cookie"].partition(";")[0]


async def test_who_is_not_known_is_led_to_the_login_and_sees_nothing(tmp_path: Path) -> None:
    async with boarding(auth="tokens", token_file=Grants(tmp_path).path) as board:
        for target in ("/", "/jobs?status=dead", "/live", "/history?step=minute"):
            reply = await board.get(target)
            assert reply.status == 303
            assert reply.headers["location"].startswith("/login?next=%2F")
        assert (await board.post("/queues/pause", PAUSE, **OWN)).status == 401
        assert (await board.get("/login")).status == 200


async def test_every_page_and_action_asks_who_calls_but_for_the_login(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    worker = grants.token("work")
    async with boarding(auth="tokens", token_file=grants.path) as board:
        assert board.app.dashboard is not None
        routes = [route for route in board.app.dashboard._routes() if isinstance(route, Route)]
        assert len(routes) > 20
        for route in routes:
            [method] = (route.methods or set()) - {"HEAD"} if route.path != "/login" else ["GET"]
            target = route.path.replace("{id}", "0" * 25)
            nobody = await board.ask(method, target, **OWN)
            stranger = await board.ask(method, target, **OWN, authorization=bearer(worker))
            seen = (nobody.status, stranger.status)
            assert seen == ({"/login": (200, 200)}.get(target) or (303 if method == "GET" else 401, 403)), target


async def test_a_token_becomes_a_cookie_that_no_script_and_no_other_site_gets(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    token = grants.token("read")
    async with boarding(auth="tokens", token_file=grants.path) as board:
        reply = await board.post("/login", {"token": token}, **OWN)
        cookie = reply.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        assert token.split("_")[2] not in cookie
        board.cookie = cookie.partition(";")[0]
        assert (await board.get("/queues")).status == 200


@pytest.mark.parametrize("token", ["", "nonsense", "zq_0123456789_" + "A" * 43, "\N{SNOWMAN}"])
async def test_a_wrong_token_is_refused_and_counted(tmp_path: Path, token: str) -> None:
    grants = Grants(tmp_path)
    grants.token("read")
    async with boarding(auth="tokens", token_file=grants.path) as board:
        reply = await board.post("/login", {"token": token}, **OWN)
        assert reply.status == 401
        assert "set-cookie" not in reply.headers
        assert sum(board.app.auth.refused.values()) == 1


@pytest.mark.parametrize("grant", [{"scopes": ["work"]}, {"scopes": ["read", "manage"], "queues": ("mail",)}])
async def test_a_token_that_may_not_read_everything_is_refused(tmp_path: Path, grant: dict) -> None:
    grants = Grants(tmp_path)
    token = grants.token(*grant["scopes"], queues=grant.get("queues", ()))
    async with boarding(auth="tokens", token_file=grants.path) as board:
        assert (await board.post("/login", {"token": token}, **OWN)).status == 403


async def test_a_login_from_another_site_is_refused(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    token = grants.token("read")
    async with boarding(auth="tokens", token_file=grants.path) as board:
        assert (await board.post("/login", {"token": token}, sec_fetch_site="cross-site")).status == 403


@pytest.mark.parametrize(
    "target", ["//evil.example", "/\\evil.example", "https://evil.example", "/%0d%0aset-cookie:x=1"]
)
async def test_a_login_leads_nowhere_else(tmp_path: Path, target: str) -> None:
    grants = Grants(tmp_path)
    token = grants.token("read")
    async with boarding(auth="tokens", token_file=grants.path) as board:
        reply = await board.post(f"/login?next={target}", {"token": token}, **OWN)
        assert (reply.status, reply.headers["location"]) == (303, "/")


async def test_read_looks_and_manage_acts(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    reader, manager = grants.token("read"), grants.token("read", "manage")
    async with boarding(auth="tokens", token_file=grants.path) as board:
        await log_in(board, reader)
        assert 'action="/queues/pause"' not in await board.text("/queues")
        assert (await board.act("/queues/pause", PAUSE)).status == 403
        await log_in(board, manager)
        assert (await board.act("/queues/pause", PAUSE)).status == 303
        assert board.pauses.paused == {"mail"}


async def test_the_token_of_a_form_is_good_for_its_session_alone(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    token = grants.token("read", "manage")
    async with boarding(auth="tokens", token_file=grants.path) as board:
        await log_in(board, token)
        form = (await board.text("/queues")).partition('form_token" value="')[2].partition('"')[0]
        await log_in(board, token)
        assert (await board.post("/queues/pause", PAUSE | {"form_token": form}, **OWN)).status == 403


async def test_a_session_ends_with_a_logout_with_its_token_and_with_the_day(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    token = grants.token("read", "manage")
    async with boarding(auth="tokens", token_file=grants.path) as board:
        await log_in(board, token)
        assert (await board.act("/logout", {})).headers["location"] == "/login"
        assert (await board.get("/queues")).status == 303
        await log_in(board, token)
        board.clock.advance(sessions.LASTS_S * 1000)
        assert (await board.get("/queues")).status == 303
        await log_in(board, token)
        assert (await board.get("/queues")).status == 200
        grants.revoke(token)
        board.clock.advance(1000)
        assert (await board.get("/queues")).status == 303


@pytest.mark.parametrize("end", ["logout", "revoked", "the day is over"])
async def test_live_figures_end_with_the_session(tmp_path: Path, end: str) -> None:
    grants = Grants(tmp_path)
    token = grants.token("read", "manage")
    async with boarding(auth="tokens", token_file=grants.path) as board:
        await log_in(board, token)
        stream = await board.watch()
        await stream.until(b"\n\n")
        if end == "logout":
            assert (await board.act("/logout", {})).status == 303
        elif end == "revoked":
            grants.revoke(token)
            board.clock.advance(1000)
        else:
            board.clock.advance(sessions.LASTS_S * 1000)
        await stream.rest()


async def test_what_is_refused_is_counted_but_for_who_comes_without_anything(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    worker = grants.token("work")
    async with boarding(auth="tokens", token_file=grants.path) as board:
        await board.get("/queues")
        assert board.app.auth.refused == {}
        for token, status, reason in (
            ("nonsense", 401, "malformed"), (worker + "x", 401, "unknown"), (worker, 403, "scope"),
        ):  # fmt: skip
            assert (await board.get("/queues", authorization=bearer(token))).status == status
            assert board.app.auth.refused.pop(reason) == 1
        assert (await board.post("/queues/pause", PAUSE, **OWN, authorization=bearer(worker))).status == 403
        assert board.app.auth.refused == {"scope": 1}


async def test_programs_may_show_their_token_instead(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    token = grants.token("read")
    async with boarding(auth="tokens", token_file=grants.path) as board:
        assert (await board.get("/history?step=minute", authorization=bearer(token))).status == 200


async def test_a_cookie_that_was_made_up_is_no_session(tmp_path: Path) -> None:
    async with boarding(auth="tokens", token_file=Grants(tmp_path).path) as board:
        for cookie in ("zizq_session=", "zizq_session=" + "0" * 64, "zizq_session=%ff"):
            assert (await board.get("/queues", cookie=cookie)).status == 303


async def test_the_admin_api_wants_the_scope_admin_as_before(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    token = grants.token("read", "manage")
    async with boarding(auth="tokens", token_file=grants.path) as board:
        await log_in(board, token)
        assert (await board.ask("POST", "/compact")).status == 401
        assert (await board.ask("POST", "/compact", authorization=bearer(token))).status == 403
