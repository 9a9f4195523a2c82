"""The dashboard without a browser: headers, and what is refused to whom."""

from __future__ import annotations

import json
import logging
import sys

import msgspec
import pytest

from browser.fakes import FakeInsights, FakePauses
from wire.boards import OWN, Board, boarding
from wire.stores import running_server
from wire.talk import NOW, request
from zizq.engine.selection import EVERYTHING
from zizq.errors import ConfigError
from zizq.job import Failure, Status
from zizq.server.dashboard import live
from zizq.testing.clock import ManualClock

PAGES = ["/", "/queues", "/jobs", "/failures", "/workers", "/crons", "/budgets", "/storage"]
ANY_JOB = f"/jobs/{'0' * 25}"
ACTIONS = ["/queues/pause", "/crons/pause", "/jobs/all", f"{ANY_JOB}/retry", f"{ANY_JOB}/edit", f"{ANY_JOB}/delete"]
BAIT = "%3Cimg+src=x%3E"
PAUSE = {"queue": "mail", "paused": "1"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action"
    " 'self'; frame-ancestors 'none'; base-uri 'none'"
)


@pytest.mark.parametrize("target", [*PAGES, "/nothing", "/static/app.js", "/history?step=second", "/jobs?priority=x"])
async def test_every_answer_keeps_others_out(target: str) -> None:
    async with boarding() as board:
        reply = await board.get(target)
    assert reply.headers["content-security-policy"] == POLICY
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["cache-control"] == ("no-cache" if "static" in target else "no-store")


@pytest.mark.parametrize("target", PAGES)
async def test_pages_have_no_script_or_style_of_their_own(target: str) -> None:
    async with boarding() as board:
        text = await board.text(target)
    assert "style=" not in text
    assert "<style" not in text
    assert " on" not in "".join(part.partition(">")[0] for part in text.split("<")[1:] if "onclick" in part)
    assert "http://" not in text
    assert "https://" not in text
    assert all('src="/static/' in part.partition(">")[0] for part in text.split("<script")[1:])


async def test_static_files_come_with_a_tag_and_lead_nowhere_else() -> None:
    async with boarding() as board:
        reply = await board.get("/static/uplot.js")
        assert reply.status == 200
        assert (await board.get("/static/uplot.js", if_none_match=reply.headers["etag"])).status == 304
        assert (await board.get("/static/../app.py")).status == 404
        assert (await board.get("/static/%2e%2e/app.py")).status == 404


# ── acts of others ──


@pytest.mark.parametrize("target", ACTIONS)
@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
async def test_a_form_of_another_site_is_refused(target: str, headers: dict[str, str]) -> None:
    async with boarding() as board:
        reply = await board.post(target, PAUSE, **headers)
        assert reply.status == 403
        assert b"another site" in reply.body
        assert board.pauses.paused == set()


@pytest.mark.parametrize("token", ["", "0" * 64, "\N{SNOWMAN}"])
async def test_a_form_without_the_token_of_a_page_is_refused(token: str) -> None:
    async with boarding() as board:
        reply = await board.post("/queues/pause", PAUSE | {"form_token": token}, **OWN)
        assert reply.status == 403
        assert b"reload it" in reply.body
        assert board.pauses.paused == set()


async def test_a_form_of_a_page_is_done_and_leads_back() -> None:
    async with boarding() as board:
        reply = await board.act("/queues/pause", PAUSE)
        assert (reply.status, reply.headers["location"]) == (303, "/queues?done=paused&n=1")
        assert board.pauses.paused == {"mail"}


async def test_a_link_from_elsewhere_leads_here() -> None:
    async with boarding() as board:
        assert (await board.get("/queues", sec_fetch_site="cross-site", sec_fetch_mode="navigate")).status == 200


async def test_an_older_browser_is_known_by_its_origin() -> None:
    async with boarding() as board:
        own = f"http://localhost:{board.address[1]}"
        token = (await board.text("/queues")).partition('form_token" value="')[2].partition('"')[0]
        assert (await board.post("/queues/pause", PAUSE | {"form_token": token}, origin=own)).status == 303


async def test_nothing_is_changed_by_a_get() -> None:
    async with boarding() as board:
        assert (await board.get("/queues/pause?queue=mail&paused=1")).status == 405
        job_id = await board.enqueue()
        assert (await board.get(f"/jobs/{job_id}/delete")).status == 405
        assert (await board.app.catalog.get(job_id)).id == job_id


async def test_a_body_that_is_no_form_or_too_long_is_refused() -> None:
    async with boarding() as board:
        assert (await board.ask("POST", "/jobs/all", b"{}", content_type="application/json", **OWN)).status == 415
        assert (await board.post("/jobs/all", {"filter": "x" * 70_000}, **OWN)).status == 413
        assert (await board.post("/jobs/all", {f"f{n}": "" for n in range(101)}, **OWN)).status == 400


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "10.0.0.1"])
async def test_a_name_that_is_not_this_machines_is_refused(host: str) -> None:
    async with boarding() as board:
        connection = await board.connect()
        await connection.send(request("GET", "/").replace(b"host: localhost", b"host: " + host.encode(), 1))
        assert (await connection.reply()).status in (400, 421)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.8.8.8:80", "[::1]:8901", "app.localhost"]
)
async def test_the_names_of_this_machine_are_answered(host: str) -> None:
    async with boarding() as board:
        connection = await board.connect()
        await connection.send(request("GET", "/storage").replace(b"host: localhost", b"host: " + host.encode(), 1))
        assert (await connection.reply()).status == 200


# ── read-only, off, not there ──


@pytest.mark.parametrize("target", ACTIONS)
async def test_read_only_refuses_all_actions(target: str) -> None:
    async with boarding(dashboard="read-only") as board:
        reply = await board.post(target, PAUSE, **OWN)
        assert reply.status == 403
        assert b"this dashboard is read-only" in reply.body
        assert board.pauses.paused == set()


async def test_without_a_dashboard_the_admin_port_is_as_it_was() -> None:
    async with boarding(dashboard="off") as board:
        reply = await board.get("/")
        assert (reply.status, reply.body) == (404, b"")


async def test_without_the_extra_there_is_none_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.delitem(sys.modules, "zizq.server.dashboard.app", raising=False)
    monkeypatch.delitem(sys.modules, "zizq.server.dashboard.guard", raising=False)
    for name in [name for name in sys.modules if name.startswith("starlette.")]:
        monkeypatch.delitem(sys.modules, name)
    async with boarding() as board:
        assert (await board.get("/")).body == b""
    with pytest.raises(ConfigError, match=r"pip install 'zizq\[dashboard\]'"):
        async with boarding(dashboard="on"):
            pass


async def test_the_admin_api_is_where_it_was() -> None:
    async with boarding() as board:
        assert (await board.ask("POST", "/compact")).status == 204


# ── what is shown ──


async def test_what_comes_from_outside_is_text() -> None:
    evil = "<img src=x onerror=alert(1)>\"'"
    async with boarding() as board:
        job_id = await board.enqueue(type=evil, queue=evil, payload=msgspec.msgpack.encode({evil: evil}))
        await board.app.broker.take(board.app.broker.open_stream([], 1), 1)
        await board.app.broker.fail(job_id, Failure(message=evil, error_type=evil, backtrace=evil, kill=True))
        board.insights.names = (evil,)
        board.insights.trouble = evil
        tries = [f"/jobs/{job_id}", "/jobs/all?action=delete", f"/jobs?queue={BAIT}", f"/queues?q={BAIT}", f"/{BAIT}"]
        for target in [*PAGES, *tries]:
            assert "<img src=x" not in await board.text(target), target


async def test_a_payload_that_is_long_is_cut_and_one_that_is_huge_is_not_read() -> None:
    async with boarding() as board:
        long = await board.enqueue(payload=msgspec.msgpack.encode("x" * 100_000))
        huge = await board.enqueue(payload=msgspec.msgpack.encode("x" * 300_000))
        assert len(await board.text(f"/jobs/{long}")) < 80_000
        assert f"zizq jobs get {huge}" in await board.text(f"/jobs/{huge}")


async def test_what_was_done_is_said_in_our_words_alone() -> None:
    async with boarding() as board:
        assert "3 jobs were deleted." in await board.text("/jobs?done=delete&n=3")
        assert 'class="notice"' not in await board.text("/jobs?done=Call+0800-EVIL&n=3")
        assert 'class="notice"' not in await board.text("/jobs?done=delete&n=%3Cb%3E")


# ── all that match ──


async def test_an_empty_list_never_means_everything() -> None:
    async with boarding() as board:
        job_id = await board.enqueue()
        assert (await board.get("/jobs/all?action=delete&queue=")).status == 400
        reply = await board.act("/jobs/all", {"action": "delete", "queue": ""})
        assert reply.status == 400
        assert (await board.app.catalog.get(job_id)).id == job_id


async def test_a_status_that_does_not_suit_is_refused_as_in_the_api() -> None:
    async with boarding() as board:
        assert (await board.get("/jobs/all?action=retry&status=ready")).status == 422
        reply = await board.act("/jobs/all", {"action": "retry", "status": "ready"})
        assert reply.status == 422


async def test_a_preview_counts_what_would_be_done_and_does_nothing() -> None:
    async with boarding() as board:
        for _ in range(12):
            await board.enqueue()
        text = await board.text("/jobs/all?action=delete&queue=mail")
        assert "Delete 12 jobs?" in text
        assert text.count('scope="row"') == 10
        assert await board.app.catalog.count(EVERYTHING, None) == 12


async def test_a_job_that_is_not_there_is_not_found() -> None:
    async with boarding() as board:
        for target in (f"/jobs/{'0' * 25}", "/jobs/UPPER", "/jobs/%00"):
            assert (await board.get(target)).status == 404, target
        assert (await board.act(f"/jobs/{'0' * 25}/retry", {})).status == 404


async def test_a_patch_that_is_wrong_says_what_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with boarding() as board:
        job_id = await board.enqueue()
        for fields in ({}, {"to_priority": "70000"}, {"to_queue": "a,b"}, {"to_ready_at": "soon"}):
            assert (await board.act(f"/jobs/{job_id}/edit", fields)).status == 400, fields
        assert (await board.act(f"/jobs/{job_id}/edit", {"to_ready_at": "in 1h"})).status == 303
        assert (await board.app.catalog.get(job_id)).status is Status.SCHEDULED
    assert caplog.records == []


# ── the live feed ──


async def test_viewers_share_samples_and_nobody_samples_without_them() -> None:
    async with boarding() as board:
        assert board.insights.asked == 0
        first, second = await board.watch(), await board.watch()
        assert first.head.headers["content-type"] == "text/event-stream; charset=utf-8"
        for stream in (first, second):
            value = json.loads((await stream.until(b"\n\n")).removeprefix(b"data: "))
            assert value["overview"]["counts"]["ready"] == 949_000
            assert value["queues"][0]["queue"] == "default"
            assert value["point"]["at"] <= board.clock.wall_ms()
        assert board.insights.asked <= 3


async def test_one_viewer_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST", 1)
    async with boarding() as board:
        stream = await board.watch()
        await stream.until(b"\n\n")
        assert (await board.get("/live")).status == 503


async def test_the_feed_ends_properly_when_the_server_stops() -> None:
    async with boarding() as board:
        stream = await board.watch()
        await stream.until(b"\n\n")
        board.app.end_streams()
        await stream.rest()
        assert (await board.get("/live")).status == 503


async def test_a_server_shows_its_own_figures_and_pauses_its_own_queues() -> None:
    async with running_server(no_admin=False) as server:
        host, _, port = (server.admin_url or "").partition("//")[2].rpartition(":")
        board = Board((host, int(port)), server.app, ManualClock(NOW), FakeInsights(NOW), FakePauses())
        job_id = await board.enqueue()
        for target in (*PAGES, "/history?step=minute", "/names"):
            assert (await board.get(target)).status == 200, target
        assert (await board.act("/queues/pause", PAUSE, page=f"/jobs/{job_id}")).status == 303
        assert list(await server.app.broker._store.paused_queues()) == ["mail"]
        assert (await board.act("/queues/pause", PAUSE | {"paused": "0"}, page=f"/jobs/{job_id}")).status == 303
        assert await server.app.broker._store.paused_queues() == {}
        for connection in board.open:
            connection.hang_up()
