"""No parser of what comes from outside breaks down, whatever the bytes: it refuses what is wrong, in its own words."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trust.parsers import PARSERS

NAMES = list(PARSERS)


def mutated(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Examples with bytes put in, taken out, changed and doubled."""
    edit = st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=6))

    def apply(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
        for at, kind, new in edits:
            at %= len(data) + 1
            rest = (data[at:], data[at + len(new) :], data[at + len(new) :], data[at:] + data[at:])[kind]
            data = data[:at] + (b"" if kind == 1 else new) + rest
        return data

    return st.builds(apply, st.sampled_from(seeds), st.lists(edit, max_size=8))


@pytest.mark.parametrize("name", NAMES)
def test_a_parser_takes_or_refuses_whatever_comes(name: str) -> None:
    parser = PARSERS[name]

    @settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    @given(st.one_of(st.binary(max_size=300), mutated(parser.seeds), mutated(parser.seeds)))
    def feed(data: bytes) -> None:
        parser.feed(data)

    for seed in parser.seeds:
        parser.feed(seed)
    feed()
