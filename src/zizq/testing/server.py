"""A whole server in this process, on a port of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from zizq.clock import Clock, Dice, SystemDice
from zizq.server.app import App
from zizq.server.serve import listening
from zizq.server.settings import Settings
from zizq.store.base import Store
from zizq.store.opening import make_store
from zizq.store.url import StoreUrl


@dataclass(frozen=True)
class RunningServer:
    """A server that runs: where it is, where its admin API is, and its parts."""

    url: str
    admin_url: str | None
    app: App


@asynccontextmanager
async def running_server(
    *,
    store: Store | StoreUrl | None = None,
    clock: Clock | None = None,
    dice: Dice | None = None,
    **settings: Any,
) -> AsyncIterator[RunningServer]:
    """Run a server on 127.0.0.1 for as long as the block lasts.

    Args:
        store: Where jobs rest, or the URL of the database where they do. None keeps them in memory, or on disk where
            `root_dir` is given.
        clock: The time for everything; None for the system's.
        dice: The randomness for everything; None for the system's.
        settings: Options of `zizq serve` by their names, such as `heartbeat_interval=50`; there is no admin API
            without `no_admin=False`.
    """
    options = replace(Settings(port=0, admin_port=0, no_admin=True), **settings)
    dice = dice or SystemDice()
    if isinstance(store, StoreUrl):
        options, store = replace(options, store=store), None
    elif store is None and "root_dir" not in settings:
        store = make_store(None, options.store_options, dice)
    app = App(options, store=store, clock=clock, dice=dice)
    await app.start()
    try:
        async with listening(options, app) as endpoints:
            admin = endpoints.get("admin")
            yield RunningServer(endpoints["primary"].url, None if admin is None else admin.url, app)
    finally:
        await app.stop()
