"""Connections are let in for as long as there are descriptors, and no longer."""

from __future__ import annotations

import logging

import pytest

from zizq.server import descriptors
from zizq.server.descriptors import SPARE

resource = pytest.importorskip("resource")


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def set_limit(count: int) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (count, count))

    return set_limit


@pytest.mark.parametrize(
    ("open_files", "wanted", "let_in"),
    [(1000, 100, 100), (1000, 5000, 1000 - SPARE), (1000, 0, 1000 - SPARE), (10, 100, 1)],
)
def test_as_many_connections_are_let_in_as_there_are_descriptors_for(limit, open_files, wanted, let_in) -> None:  # type: ignore[no-untyped-def]
    limit(open_files)
    assert descriptors.connections(wanted) == let_in


def test_without_a_limit_of_the_system_the_option_counts(limit) -> None:  # type: ignore[no-untyped-def]
    limit(resource.RLIM_INFINITY)
    assert [descriptors.connections(wanted) for wanted in (0, 70_000)] == [0, 70_000]


def test_too_few_descriptors_are_told_of(limit, caplog: pytest.LogCaptureFixture) -> None:  # type: ignore[no-untyped-def]
    with caplog.at_level(logging.WARNING):
        limit(1000)
        descriptors.warn_if_short(500)
        assert caplog.records == []
        descriptors.warn_if_short(5000)
    [record] = caplog.records
    assert record.__dict__["fields"] == {"max_connections": 5000, "let_in": 1000 - SPARE, "limit": 1000}
