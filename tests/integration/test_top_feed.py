"""What `zizq top` hears over the network, and how it comes back after breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import pytest

from integration.admin_fake import fake_admin
from integration.certificates import Certificates
from unit.tui.recorded import ID
from zizq import TLS
from zizq.client.settings import check_settings
from zizq.clock import SystemClock
from zizq.errors import ConfigError
from zizq.testing.clock import LoadedDice
from zizq.testing.server import running_server
from zizq.tui import feed as feed_module
from zizq.tui.feed import Feed, tls_context
from zizq.tui.model import Model, Tab
from zizq.wire.events import DeleteJob, ListName


@asynccontextmanager
async def feeding(url: str, token: str | None = None, tls: TLS | None = None) -> AsyncIterator[tuple[Model, Feed]]:
    """A model that is fed for as long as the block lasts."""
    clock = SystemClock()
    model = Model(url, "0.7.0", clock.mono_s())
    feed = Feed(model, check_settings(url, tls, 5, 5, 5, token), clock, LoadedDice(), poll_s=0.01)
    task = asyncio.create_task(feed.run())
    try:
        yield model, feed
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(is_so: Callable[[], object]) -> None:
    """Wait until something is so; the model tells nobody when it changes."""
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)


async def test_the_model_hears_what_the_server_says() -> None:
    async with fake_admin() as admin, feeding(admin.url, "secret") as (model, feed):
        model.choose_tab(Tab.QUEUES)
        feed.want(model.wanted())
        await until(lambda: model.link.is_up and model.server and model.overview and model.shelves["queues"].is_known)
        asked = [await admin.next_heard("subscribe") for _ in ListName]
        assert [one["list"] for one in asked] == list(ListName)
        assert asked[0]["anchor"] == {"kind": "head"}
        assert set(admin.headers) == {"Bearer secret"}


async def test_what_the_model_asks_is_sent() -> None:
    async with fake_admin() as admin, feeding(admin.url) as (model, feed):
        await until(lambda: model.server)
        feed.send([DeleteJob(ID.format(1))])
        assert await admin.next_heard("delete_job") == {"type": "delete_job", "id": ID.format(1)}


async def test_rubbish_does_no_harm() -> None:
    async with fake_admin() as admin, feeding(admin.url) as (model, feed):
        feed.want(model.wanted())
        await until(lambda: model.server)
        for text in ("", "[1]", b"\x00\xff", '{"event":"news"}'):
            await admin.say(text)
        admin.insights["overview"] = {"version": 5}
        await until(lambda: "overview" in model.refusals)
        assert model.link.is_up


async def test_a_server_that_restarts_is_found_again() -> None:
    async with fake_admin() as admin, feeding(admin.url) as (model, feed):
        await until(lambda: model.server)
        await admin.stop()
        await until(lambda: not model.link.is_up)
        assert model.lists[ListName.READY].jobs, "what was known stays"
        feed.send([DeleteJob(ID.format(1))])
        await admin.start()
        await until(lambda: model.link.is_up)
        while not admin.heard.empty():
            assert admin.heard.get_nowait()["type"] != "delete_job", "what was asked while there was none"
        feed.send([DeleteJob(ID.format(2))])
        assert (await admin.next_heard("delete_job"))["id"] == ID.format(2)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (HTTPStatus.UNAUTHORIZED, "the server asks who calls: give it a --token"),
        (HTTPStatus.FORBIDDEN, "you may not see this: it needs the scope admin"),
        (HTTPStatus.NOT_FOUND, "the server answered 404: is this its admin API?"),
    ],
)
async def test_a_refusal_says_what_to_do(status: HTTPStatus, reason: str) -> None:
    async with fake_admin() as admin:
        admin.refuses = status
        async with feeding(admin.url) as (model, _):
            await until(lambda: model.link.reason)
            assert model.link.reason == reason


async def test_where_nobody_listens_is_said() -> None:
    async with fake_admin() as admin:
        url = admin.url
    async with feeding(url) as (model, _):
        await until(lambda: model.link.reason)
        assert model.link.reason == "connection refused"


async def test_a_server_that_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "SILENCE_S", 0.05)
    async with fake_admin() as admin, feeding(admin.url) as (model, _):
        await until(lambda: model.link.reason)
        assert model.link.reason == "the server is silent"


async def test_insights_that_a_server_does_not_have_are_told_so() -> None:
    async with fake_admin() as admin, feeding(admin.url) as (model, feed):
        admin.insights.clear()
        model.choose_tab(Tab.CRON)
        feed.want(model.wanted())
        await until(lambda: "crons" in model.refusals)
        assert model.refusals["crons"] == "This server does not tell of this."


async def test_a_real_server_is_heard_over_mutual_tls(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    files, client = certificates.server(), certificates.client()
    async with running_server(
        no_admin=False,
        admin_tls_cert=str(files.cert),
        admin_tls_key=str(files.key),
        admin_tls_client_ca=str(certificates.ca),
    ) as server:
        assert server.admin_url is not None
        tls = TLS(str(certificates.ca), str(client.cert), str(client.key))
        async with feeding(server.admin_url, tls=tls) as (model, feed):
            feed.want(model.wanted())
            await until(lambda: model.server and model.overview)
        async with feeding(server.admin_url, tls=TLS(str(certificates.ca))) as (model, _):
            await until(lambda: model.link.reason)
            assert not model.server


def test_certificates_that_are_none_are_refused() -> None:
    pem = b"-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n"
    with pytest.raises(ConfigError, match="certificates cannot be used"):
        tls_context(check_settings("https://127.0.0.1:1", TLS(pem), 5, 5, 5))
    assert tls_context(check_settings("http://127.0.0.1:1", None, 5, 5, 5)) is None
