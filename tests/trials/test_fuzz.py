"""Fuzzing in short: a second for each parser where atheris is installed, and the application under Hypothesis."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from trust import fuzz
from trust.application import Application, feed
from trust.parsers import PARSERS

MANY = settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
HEADS = st.binary(min_size=4, max_size=4)
BODIES = st.sampled_from([seed[1:] for parser in PARSERS.values() for seed in parser.seeds])


def test_no_request_is_answered_with_500_or_not_at_all() -> None:
    whole = Application()

    @MANY
    @given(HEADS, st.binary(max_size=80), st.one_of(BODIES, st.binary(max_size=200)))
    @example(b"\x05\1\1\0", b"", b"\x81\xa4jobs\xdd\xff\xff\xff\xff")
    @example(b"\x05\0\0\0", b"limit=9&limit=9", b"[" * 100_000)
    @example(b"\x04\0\0\0", b"%FF=%", b'{"type":"t","queue":"q","payload":' + b"9" * 5000 + b"}")
    @example(b"\x04\1\0\0", b"", b"\x83\xa4type\xa1t\xa5queue\xa1q\xa7payload\xc7\x08\xff12345678")
    def ask(head: bytes, query: bytes, body: bytes) -> None:
        feed(whole, head + query.replace(b"|", b"") + b"|" + body)

    try:
        ask()
    finally:
        whole.close()


@pytest.mark.parametrize("name", ["new_job", "http1", "frames", "cron", "application"])
def test_bytes_found_by_coverage_break_nothing(name: str) -> None:
    if not fuzz.is_possible():
        pytest.skip("atheris is not installed")
    assert fuzz.fuzz(name, 1, seed=1).startswith(f"{name}: ")
