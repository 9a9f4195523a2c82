"""A server with a million jobs and a real browser in front of it, both on one event loop of a thread of their own.

They are made once for all tests: the jobs take some ten seconds.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from playwright.async_api import Browser, Page, async_playwright, expect

from browser.fakes import FakeInsights, FakePauses, install
from wire.grants import Grants
from zizq.clock import SystemClock
from zizq.cron import CronJob
from zizq.engine import admit
from zizq.engine.cron.rules import NewEntry, NewGroup
from zizq.job import Failure
from zizq.policy import Retention
from zizq.server.app import App
from zizq.testing.server import running_server
from zizq.wire.insight import FailureInsight, RunningJob

JOBS = int(os.environ.get("ZIZQ_TEST_JOBS", "1000000"))
CHUNK = 10_000
PATIENCE_MS = 20_000
"""How long a test waits for what it expects of a page, on a machine that others use as well."""
CLOSING_S = 30
"""How long a browser may take to close; a third of a second where it does."""
QUEUES = ("default", "images", "mail", "reports")
TYPES = ("send_mail", "resize_image", "make_report", "sync_account", "clean_up")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
BAIT = "<script>document.title = 'owned'</script> "
"""What must never run; pictures for the documentation go without it."""
TRACEBACK = """Traceback (most recent call last):
  File "/srv/app/mailer.py", line 118, in send_mail
    await smtp.send(message, to=payload["to"])
  File "/srv/app/smtp.py", line 57, in send
    raise SMTPError(reply.code, reply.text)
smtp.SMTPError: 421 {}too many connections
"""


@dataclass
class Stage:
    """What tests play on."""

    url: str
    quiet_url: str
    locked_url: str
    token: str
    app: App
    insights: FakeInsights
    pauses: FakePauses
    browser: Browser
    dead: list[str] = field(default_factory=list)
    scheduled: str = ""
    running: str = ""

    async def enqueue(self, number: int, *, queue: str) -> list[str]:
        """Enqueue some jobs more; returns their identifiers."""
        now = self.app.broker.now()
        jobs = [
            admit.new_job(self.app.broker.next_id(), now, type="extra", queue=queue, payload=payload(one))
            for one in range(number)
        ]
        await self.app.broker._store.enqueue(jobs, now)
        return [job.id for job in jobs]

    async def hold(self, queue: str, number: int) -> list[str]:
        """Have a worker that never reports hold some jobs of a queue."""
        consumer = self.app.broker.open_stream([queue], number)
        return [job.id for job in await self.app.broker.take(consumer, number)]

    @asynccontextmanager
    async def page(
        self, path: str = "/", *, url: str = "", complain: bool = True, **context: Any
    ) -> AsyncIterator[Page]:
        """A page of a browser of its own; what that complains of fails the test, unless complaints are expected."""
        opened = await self.browser.new_context(base_url=url or self.url, **context)
        page = await opened.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        try:
            await page.goto(path)
            yield page
        finally:
            await opened.close()
        assert not complain or complaints == []


def payload(number: int) -> msgspec.Raw:
    """The payload of a job."""
    value = {"to": f"user{number % 5000}@example.com", "user_id": number % 5000, "note": "<b>hello</b>"}
    return msgspec.Raw(msgspec.msgpack.encode(value))


async def fill(app: App, count: int) -> None:
    """Enqueue jobs, past all that a client would do."""
    store, now = app.broker._store, app.broker.now()
    for first in range(0, count, CHUNK):
        jobs = [
            admit.new_job(
                app.broker.next_id(),
                now,
                type=TYPES[number % 5],
                queue=QUEUES[number % 4],
                payload=payload(number),
                ready_at=now + 86_400_000 + number if number % 20 == 0 else None,
            )
            for number in range(first, min(first + CHUNK, count))
        ]
        await store.enqueue(jobs, now)


async def enliven(stage: Stage, bait: str) -> None:
    """Let some jobs die, some be in flight, and some crons be there."""
    broker = stage.app.broker
    consumer = broker.open_stream(["mail"], 40)
    jobs = await broker.take(consumer, 40)
    for attempt, job in enumerate(jobs[:24]):
        await broker.fail(job.id, Failure(
            message=f"421 {bait}too many connections ({attempt})",
            error_type="smtp.SMTPError", backtrace=TRACEBACK.format(bait), kill=True,
        ))  # fmt: skip
    stage.dead = [job.id for job in jobs[:24]]
    stage.running = jobs[24].id
    stage.insights.running = [
        RunningJob(id=job.id, type=job.type, queue=job.queue, dequeued_at=stage.insights.now) for job in jobs[24:]
    ]
    stage.insights.found = [
        FailureInsight(
            type="send_mail", error_type="smtp.SMTPError", message=f"421 {bait}too many connections",
            count=24, dead=24, first_at=stage.insights.now - 500_000, last_at=stage.insights.now, ids=stage.dead[::-1],
        ),
        FailureInsight(
            type="resize_image", error_type="OSError", message="[Errno 28] No space left on device: 'img-83112'",
            count=3, first_at=stage.insights.now - 90_000, last_at=stage.insights.now - 4000,
        ),
    ]  # fmt: skip
    scheduled = await stage.app.broker._store.page(_scheduled(), None, "asc", 1, stage.app.broker.now())
    stage.scheduled = scheduled.jobs[0].id


def _scheduled() -> Any:
    from zizq.engine.selection import Selection
    from zizq.job import Status

    return Selection(statuses=frozenset({Status.SCHEDULED}))


async def set_crons(app: App) -> None:
    """Two groups of crons."""
    job = CronJob(
        type="make_report", queue="reports", payload=payload(0), priority=100, retention=Retention(dead_ms=1000)
    )
    nightly = [NewEntry(name=name, expression=when, job=job) for name, when in (
        ("daily-report", "0 6 * * *"), ("weekly-clean-up", "30 3 * * 0"), ("health", "*/5 * * * *"))]  # fmt: skip
    await app.crontab.replace("nightly", NewGroup(entries=tuple(nightly), timezone="Europe/Berlin"))
    await app.crontab.replace(
        "billing", NewGroup(entries=(NewEntry(name="invoices", expression="0 0 1 * *", job=job),))
    )


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """A browser with its driver. It is no part of what is tested: one that does not close ends with our process."""
    driver = async_playwright()
    playwright = await driver.start()
    try:
        yield await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                await driver.__aexit__()


@asynccontextmanager
async def staged(folder: Path, bait: str = BAIT) -> AsyncIterator[Stage]:
    """A server on disk with its jobs, beside it a read-only one and one that wants tokens, and a browser."""
    pauses = FakePauses()
    insights = FakeInsights(SystemClock().wall_ms(), pauses=pauses)
    modes = {"default_commit_mode": "buffered", "enqueue_commit_mode": "buffered"}
    async with AsyncExitStack() as stack:
        grants = Grants(folder)
        token = grants.token("read", "manage")
        servers = []
        for options in (
            {"root_dir": folder, **modes}, {"dashboard": "read-only"}, {"auth": "tokens", "token_file": grants.path}
        ):  # fmt: skip
            server = await stack.enter_async_context(running_server(no_admin=False, **options))
            install(server, insights, pauses, SystemClock(), **options)
            servers.append(server)
        app = servers[0].app
        await fill(app, JOBS)
        await set_crons(app)
        expect.set_options(timeout=PATIENCE_MS)
        browser = await stack.enter_async_context(running_browser())
        urls = [one.admin_url or "" for one in servers]
        stage = Stage(*urls, token, app, insights, pauses, browser)
        await enliven(stage, bait)
        yield stage


class Theatre:
    """Runs the stage, and coroutines on its event loop, in a thread: the loops of other tests come and go."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="theatre", daemon=True)
        self._thread.start()
        self._folder = tempfile.TemporaryDirectory(prefix="zizq-stage-")
        self._open = staged(Path(self._folder.name))
        self.stage: Stage = self.run(self._open.__aenter__())

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout_s: float = 290) -> Any:
        """The result of a coroutine that is run on the stage's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def close(self) -> None:
        """End everything."""
        try:
            self.run(self._open.__aexit__(None, None, None))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._folder.cleanup()
