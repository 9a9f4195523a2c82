"""Every Python example of the documentation runs, against a server of its own.

A block is imported as a module. Then its functions that a reader would call are called: `main`, and those that take
nothing but a client and maybe a router. A worker that waits for `zizq.on_signals()` is told to stop once no job is
left, and so never by the clock. See `pages` for what the pages may say to this test.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest
from opentelemetry import trace
from opentelemetry.util._once import Once

import zizq
from docs.living import LivingServer
from docs.pages import OURS, Block, blocks
from zizq.worker import running

pytestmark = pytest.mark.timeout(30)

DEFAULT_URL = "http://127.0.0.1:7890"
MOST_SECONDS = 20
STORY = "getting-started.md"
"""This page is one story, and has a test of its own."""

EXAMPLES = [block for page in OURS for block in blocks(page) if block.language == "python" and page.name != STORY]
HELPERS: tuple[type, ...] = (zizq.Client, zizq.SyncClient, zizq.Router)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, current and on the path; what was imported from it and done to the logs is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    logger = logging.getLogger("zizq")
    handlers, level = list(logger.handlers), logger.level
    yield tmp_path
    logger.handlers[:] = handlers
    logger.setLevel(level)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """What provides spans can be set once in a process; so each example has its own once."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())


def preludes(block: Block) -> str:
    """What the page says once for all its blocks."""
    others = [one for one in blocks(block.page) if "prelude" in one.notes and one.line != block.line]
    return "".join(one.text + "\n" for one in others)


def write_files(folder: Path, block: Block) -> None:
    """The files that the page has asked for up to here."""
    for one in blocks(block.page):
        if one.file and one.line < block.line:
            (folder / one.file).write_text(one.text, encoding="utf-8")


def calls(module: ModuleType) -> list[tuple[str, Callable[..., Any], list[type]]]:
    """The functions of a module that a reader would call, and what they take."""
    found = []
    for name, function in vars(module).items():
        if inspect.isfunction(function) and function.__module__ == module.__name__:
            hints = get_type_hints(function)
            takes = [hints.get(parameter, object) for parameter in inspect.signature(function).parameters]
            if name == "main" or (takes and set(takes) <= set(HELPERS) and set(takes) != {zizq.Router}):
                found.append((name, function, takes))
    return found


def quiet_router() -> zizq.Router:
    """For an example that leaves its handlers out."""
    router = zizq.Router()

    @router.fallback
    async def succeed(job: zizq.Job) -> None:
        return

    return router


async def call_async(function: Callable[..., Any], takes: list[type], url: str) -> Any:
    async with zizq.Client(url) as client, asyncio.timeout(MOST_SECONDS):
        return await function(*[client if one is zizq.Client else quiet_router() for one in takes])


def call(function: Callable[..., Any], takes: list[type], url: str) -> Any:
    if inspect.iscoroutinefunction(function):
        return asyncio.run(call_async(function, takes, url))
    with zizq.SyncClient(url) as client:
        return function(*[client for _ in takes])


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.name)
def test_an_example_runs(
    block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with LivingServer(block.notes.get("only")) as server, zizq.SyncClient(server.url) as client:
        monkeypatch.setenv("ZIZQ_URL", server.url)
        monkeypatch.setattr(zizq, "on_signals", server.until_idle)
        monkeypatch.setattr(running, "on_signals", server.until_idle)
        write_files(folder, block)
        source = (preludes(block) + block.text).replace(DEFAULT_URL, server.url)
        (folder / f"{block.name}.py").write_text(source, encoding="utf-8")
        module = importlib.import_module(block.name)
        names = vars(module)
        names["_client"] = client
        if "router: zizq.Router" in block.text:
            client.enqueue_raw("for the router that the example leaves out", None)
        exec(block.notes.get("before", ""), names)
        if "endless" in block.notes:
            server.end_streams_when_idle()
        names["returned"] = {name: call(function, takes, server.url) for name, function, takes in calls(module)}
        names["printed"] = capfd.readouterr().out
        exec(block.notes.get("after", ""), names)


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.name)
def test_an_example_that_works_jobs_has_jobs(block: Block) -> None:
    works = any(word in block.text for word in ("on_signals()", "run_worker(")) or "endless" in block.notes
    assert not works or "before" in block.notes or "router: zizq.Router" in block.text
