"""Servers for wire tests, which run on every store there is: a test knows nothing of it.

A server that a test gives no folder gets an empty store; those with the same folder share one.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from postgres import Databases
from zizq.store.url import StoreUrl
from zizq.testing import server
from zizq.testing.server import RunningServer


class Places:
    """Where the databases are, for as long as a test on PostgreSQL lasts."""

    databases: Databases | None = None


def on_postgres() -> bool:
    """Whether the test that runs has its jobs in PostgreSQL."""
    return Places.databases is not None


def running_server(**settings: Any) -> AbstractAsyncContextManager[RunningServer]:
    """As `zizq.testing.server.running_server`, with its jobs in the store that is being tested."""
    if Places.databases is not None and "store" not in settings:
        settings["store"] = StoreUrl(Places.databases.store(settings.get("root_dir")))
    return server.running_server(**settings)
