"""Servers for wire tests. Where ZIZQ_TEST_STORE is `postgres`, all of them keep their jobs in PostgreSQL.

A server that a test gives no folder gets an empty database; those with the same folder share one.
"""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager
from typing import Any

import psycopg
import pytest

from postgres import Databases
from zizq.store.postgres.schema import steps
from zizq.store.url import StoreUrl
from zizq.testing import server
from zizq.testing.server import RunningServer

ON_POSTGRES = os.environ.get("ZIZQ_TEST_STORE") == "postgres"


def in_a_folder_only(why: str) -> pytest.MarkDecorator:
    """Leave out a test of what there is only where a server keeps its jobs in a folder."""
    return pytest.mark.skipif(ON_POSTGRES, reason=why)


class Places:
    """Where the databases are, for as long as a test lasts."""

    databases: Databases | None = None


def running_server(**settings: Any) -> AbstractAsyncContextManager[RunningServer]:
    """As `zizq.testing.server.running_server`, with its jobs in the store that is being tested."""
    if Places.databases is not None and "store" not in settings:
        folder = settings.get("root_dir")
        found = Places.databases.fresh(_prepare) if folder is None else Places.databases.at(folder, _prepare)
        settings["store"] = StoreUrl(found)
    return server.running_server(**settings)


def _prepare(url: str) -> None:
    with psycopg.connect(url) as db:
        for script in steps(0):
            db.execute(script)
