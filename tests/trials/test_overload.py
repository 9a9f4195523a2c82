"""Overload in short: judged by what is answered and by memory, never by time."""

from __future__ import annotations

from trust.overload import Scale, overload

SHORT = Scale(
    streams=250, enqueuers=40, sloths=6, blocked=2, halves=8, floods=4, phase_s=0.4, cut_off_s=1.0, pause_s=0.2
)


def test_a_crowd_with_broken_and_greedy_clients_leaves_the_others_served() -> None:
    lines = list(overload(SHORT, timed=False))
    assert "take: answered {200: 250}" in lines
    outcomes = {line.split(", ")[1].split(": ")[0]: line.split(": ")[1] for line in lines if line.startswith("HTTP/2")}
    assert outcomes["rapid_reset"] == outcomes["endless_head"] == "closed"
    assert outcomes["packed_head"] == outcomes["too_many_streams"] == "refused"
