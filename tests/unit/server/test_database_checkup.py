"""What `zizq doctor` thinks of a database."""

from __future__ import annotations

import pytest

from zizq.server.checkup import Finding, Verdict
from zizq.server.database_checkup import MANY_DEAD, on_database
from zizq.store.facts import DatabaseFacts, Holdup

OK, NOTE, PROBLEM = Verdict.OK, Verdict.NOTE, Verdict.PROBLEM
WELL = DatabaseFacts(
    version=150004,
    size=10**8,
    format=2,
    known_format=2,
    settings={"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "autovacuum": "on"},
    dead={"jobs": (1000, 10), "flight": (0, 0)},
    connections=(20, 97),
    hears=True,
    servers=2,
)


def findings(facts: DatabaseFacts) -> dict[str, Finding]:
    found = list(on_database("postgresql://u:***@h/d", facts))
    for one in found:
        assert (one.advice is None) is (one.verdict is OK)
    return {one.check: one for one in found}


def test_one_that_is_well_has_nothing_but_good_findings() -> None:
    found = findings(WELL)
    assert {one.verdict for one in found.values()} == {OK}
    assert "PostgreSQL 15.4 at postgresql://u:***@h/d" in found["database"].says
    assert "servers that run on it: 2" in found["store"].says


def test_one_that_does_not_answer_is_a_problem_and_no_more_is_said() -> None:
    found = findings(DatabaseFacts("cannot reach the database"))
    assert [(one.check, one.verdict) for one in found.values()] == [("database", PROBLEM)]


@pytest.mark.parametrize(
    ("changes", "check", "verdict", "says"),
    [
        ({"version": 130012}, "database", PROBLEM, "13.12"),
        ({"version": 140000}, "database", OK, "14.0"),
        ({"is_standby": True}, "database", PROBLEM, "standby"),
        ({"format": 0}, "store", OK, "no tables yet"),
        ({"format": 1}, "store", PROBLEM, "format 1, and this zizq needs 2"),
        ({"format": 3}, "store", PROBLEM, "knows 2"),
        ({"servers": 0}, "store", OK, "no server runs"),
        ({"settings": {"fsync": "off"}}, "fsync", PROBLEM, "off"),
        ({"settings": {"synchronous_commit": "off"}}, "synchronous_commit", PROBLEM, "off"),
        ({"settings": {"full_page_writes": "off"}}, "full_page_writes", NOTE, "off"),
        ({"settings": {"synchronous_standby_names": "s1"}}, "fsync", OK, "waits for s1"),
        ({"settings": {"autovacuum": "off"}}, "autovacuum", PROBLEM, "autovacuum is off"),
        ({"settings": {"track_counts": "off"}}, "autovacuum", PROBLEM, "track_counts is off"),
        ({"holdups": [Holdup("process 7", 59)]}, "horizon", OK, "nothing old"),
        ({"holdups": [Holdup("process 7", 61)]}, "horizon", NOTE, "process 7, open for 1m 1s"),
        ({"holdups": [Holdup("process 7", 3601)]}, "horizon", PROBLEM, "1h 1s"),
        ({"holdups": [Holdup("slot s, which nobody reads")]}, "horizon", PROBLEM, "slot s"),
        ({"sees_all": False}, "horizon", NOTE, "cannot be seen"),
        ({"dead": {"flight": (0, MANY_DEAD + 1)}}, "dead rows", NOTE, "20,001 in flight"),
        ({"dead": {"jobs": (10**6, 200_000)}}, "dead rows", OK, "200,000"),
        ({"dead": {"jobs": (10**6, 200_001)}}, "dead rows", NOTE, "200,001 in jobs"),
        ({"connections": (87, 97)}, "connections", NOTE, "87 of 97"),
        ({"connections": (86, 97)}, "connections", OK, "86 of 97"),
        ({"ahead_ms": 61_000, "apart_ms": 5}, "clocks", NOTE, "61.0 s ahead of"),
        ({"ahead_ms": -61_000}, "clocks", NOTE, "61.0 s behind"),
        ({"ahead_ms": 1004, "apart_ms": 5}, "clocks", OK, "within 5 ms"),
        ({"hears": False}, "notifications", NOTE, "PgBouncer"),
        ({"posts": (3, 9.0)}, "inbox", OK, "3 posted jobs wait"),
        ({"posts": (3, 11.0)}, "inbox", PROBLEM, "the first for 11s"),
    ],
)
def test_what_may_be_wrong_is_found(changes: dict[str, object], check: str, verdict: Verdict, says: str) -> None:
    found = findings(WELL._replace(**changes))[check]  # type: ignore[arg-type]
    assert (found.verdict, says in found.says) == (verdict, True), found.says
