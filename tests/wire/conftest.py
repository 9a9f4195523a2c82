"""Lets wire tests run on another store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wire.stores import ON_POSTGRES, Places


@pytest.fixture(autouse=True)
def _store(request: pytest.FixtureRequest) -> Iterator[None]:
    """Servers keep their jobs in PostgreSQL where that is asked for."""
    Places.databases = request.getfixturevalue("databases") if ON_POSTGRES else None
    yield
    Places.databases = None
