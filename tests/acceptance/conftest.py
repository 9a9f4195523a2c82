"""What a server promises, it promises on every store."""

from __future__ import annotations

import pytest

from postgres import databases_for


@pytest.fixture(params=["embedded", "postgres"])
def store(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The options of a server that say where its jobs are.

    Tests that do not ask for it are about files in the folder of a server, or have nothing to do with a store: options,
    addresses that are taken, workers without a server.
    """
    databases = databases_for(request)
    return () if databases is None else ("--store", databases.store())
