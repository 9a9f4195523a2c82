"""Durations and sizes as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zizq.words import count, duration, parse_duration, parse_size, size


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1500", 1500), ("0", 0), ("3s", 3000), ("500ms", 500), ("1h 30m", 5_400_000), ("1h30m", 5_400_000),
        ("7d", 604_800_000), ("2w", 1_209_600_000), ("1.5s", 1500), ("1M", 2_630_160_000), ("1y", 31_557_600_000),
        ("2 days", 172_800_000), ("1000us", 1), ("5000000ns", 5),
    ],
)  # fmt: skip
def test_durations_are_read(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize("text", ["", "s", "-1", "3x", "3s x", "1..5s", "abc", "3 s s"])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@given(st.integers(0, 10**12))
def test_a_duration_that_was_written_is_read_back(ms: int) -> None:
    assert parse_duration(duration(ms)) == ms


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4096", 4096), ("64k", 64_000), ("256MB", 256_000_000), ("256MiB", 2**28), ("1.5kb", 1500), ("1 GiB", 2**30)],
)
def test_sizes_are_read(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "x", "-1", "1XB", "1 2"])
def test_other_texts_are_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("value", "text"), [(12, "12B"), (1500, "1.5kB"), (2**24, "16MiB"), (100_000_000, "100MB"), (2**31, "2GiB")]
)
def test_sizes_are_written_short(value: int, text: str) -> None:
    assert size(value) == text


def test_counts_are_written_with_thousands_apart() -> None:
    assert count(1_234_567) == "1,234,567"


@pytest.mark.parametrize("read", [parse_duration, parse_size])
@pytest.mark.parametrize("text", ["9" * 99, "9" * 400, "9" * 5000, "9" * 400 + "y", "9" * 80 + "GiB"])
def test_numbers_beyond_all_use_are_refused_in_plain_words(read, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"is too large|characters: write it in 100 at most|not a duration|not a size"):
        read(text)
