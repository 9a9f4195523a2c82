"""Every wire test runs on an embedded store, and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from postgres import databases_for
from wire.stores import Places


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for its `place` runs on each embedded store, any other on the one that it chooses.

    One that asks for `servers` has one on each store already.
    """
    embedded = ["memory", "sqlite"] if "place" in metafunc.fixturenames else ["embedded"]
    others = [] if "servers" in metafunc.fixturenames else ["postgres"]
    metafunc.parametrize("_store", [*embedded, *others], indirect=True)


@pytest.fixture(autouse=True)
def _store(request: pytest.FixtureRequest) -> Iterator[str]:
    """Servers keep their jobs where the parameter says."""
    Places.databases = databases_for(request)
    yield request.param
    Places.databases = None


@pytest.fixture
def place(_store: str, tmp_path: Path) -> dict[str, Any]:
    """The settings of servers that have one store between them."""
    return {} if _store == "memory" else {"root_dir": tmp_path / "root"}
