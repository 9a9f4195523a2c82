"""The SQL function `zizq.enqueue`: what it makes, and what it refuses at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from postgres import Databases
from zizq import ids
from zizq.clock import SystemClock
from zizq.errors import Refusal
from zizq.server.http import bodies
from zizq.store.opening import migrate_store
from zizq.store.url import StoreUrl
from zizq.wire.codec import Body, Format
from zizq.wire.messages import Enqueue


def migrate(url: str) -> None:
    asyncio.run(migrate_store(StoreUrl(url), dry_run=False))


@pytest.fixture(scope="module")
def url(all_databases: Databases) -> str:
    return all_databases.fresh(migrate)


@pytest.fixture
def db(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A transaction that is undone after the test."""
    with psycopg.connect(url) as connection:
        yield connection
        connection.rollback()


def enqueue(
    db: psycopg.Connection[Any], options: dict[str, Any] | None = None, type: str = "t", queue: str = "q"
) -> str:
    row = db.execute(
        "SELECT zizq.enqueue(%s, %s, '{\"n\": 1}', %s)", [type, queue, json.dumps({} if options is None else options)]
    ).fetchone()
    assert row is not None
    return str(row[0])


def inbox(db: psycopg.Connection[Any]) -> list[tuple[str, dict[str, Any]]]:
    return db.execute("SELECT id, job FROM zizq.inbox ORDER BY id").fetchall()


GOOD: list[dict[str, Any]] = [
    {},
    {"priority": 0, "retry_limit": 0, "timeout_ms": 1, "ready_at": 2**63 - 1},
    {"priority": 65535, "unique_key": "k", "unique_while": "exists", "timeout_ms": None},
    {"backoff": {"exponent": 1.5, "base_ms": 0, "jitter_ms": 4294967295}},
    {"retention": {"dead_ms": 0, "completed_ms": None}},
    {"batch": {"key": "k", "when": "true", "fold": "."}, "metadata": {"é" * 64: "x"}},
    {"budgets": [{"key": "a"}, {"key": "b", "cost": 2}]},
    {"budgets": [{"key": "a", "create_with": {"allocation": 3, "strategy": {"type": "while_in_flight"}}}]},
]  # fmt: skip
BAD: list[tuple[Any, str]] = [
    ([], "options must be of JSON's type object"),
    ({"prority": 1}, "options has no prority: choose from priority, ready_at"),
    ({"priority": -1}, "priority must be a whole number from 0 to 65535, not -1"),
    ({"priority": 1.5}, "not 1.5"),
    ({"priority": "1"}, 'not "1"'),
    ({"retry_limit": 2**32}, "retry_limit"),
    ({"timeout_ms": 0}, "timeout_ms"),
    ({"ready_at": -1}, "ready_at"),
    ({"ready_at": "tomorrow at noon or so"}, "invalid input syntax"),
    ({"unique_key": 1}, "unique_key"),
    ({"unique_while": "queued"}, "unique_while requires unique_key"),
    ({"unique_key": "k", "unique_while": "always"}, 'not "always"'),
    ({"unique_key": "k", "batch": {"key": "k", "when": "true", "fold": "."}}, "cannot be combined"),
    ({"batch": {"key": "k", "when": "true"}}, "batch.fold must be of JSON's type string, not missing"),
    ({"backoff": {"exponent": 1, "base_ms": 1}}, "backoff.jitter_ms"),
    ({"backoff": 1}, "backoff"),
    ({"retention": {"dead_ms": -1}}, "retention.dead_ms"),
    ({"retention": {"death": 1}}, "retention has no death"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"metadata": {"": "x"}}, "from 1 to 64 characters"),
    ({"metadata": {"a": "x" * 4097}}, "4096"),
    ({"metadata": {str(n): "" for n in range(33)}}, "33 entries"),
    ({"budgets": {"key": "a"}}, "budgets"),
    ({"budgets": [{"key": "a"}, {"key": "a"}]}, "named more than once"),
    ({"budgets": [{"key": "a*"}]}, "budget key must not contain '*'"),
    ({"budgets": [{"key": "a", "cost": 0}]}, "budgets.cost"),
    ({"budgets": [{"cost": 1}]}, "budgets.key"),
    ({"budgets": [{"key": "a", "bucket": 1}]}, "budgets has no bucket"),
    ({"budgets": [{"key": "a", "create_with": {"allocation": 0, "strategy": {}}}]}, "create_with.allocation"),
]


@pytest.mark.parametrize("options", GOOD)
def test_what_it_accepts_a_server_can_read(db: psycopg.Connection[Any], options: dict[str, Any]) -> None:
    job_id = enqueue(db, options)
    [(found, job)] = inbox(db)
    assert found == job_id
    body = Body(Enqueue).read(json.dumps(job).encode(), Format.JSON)
    made = bodies.new_job(job_id, 0, body, Format.JSON)
    assert (made.type, made.queue, made.id) == ("t", "q", job_id)
    for name, value in options.items():
        assert job.get(name) == value


@pytest.mark.parametrize(("options", "says"), BAD)
def test_what_it_cannot_accept_fails_at_once(db: psycopg.Connection[Any], options: Any, says: str) -> None:
    with pytest.raises(psycopg.DataError) as caught:
        enqueue(db, options)
    assert says in str(caught.value)
    db.rollback()
    assert inbox(db) == []


@pytest.mark.parametrize("name", ["", "a,b", "a*", "a?", "[", "]", "{", "}", "a\\b"])
def test_names_are_held_to_the_rule_of_the_server(db: psycopg.Connection[Any], name: str) -> None:
    for names in ({"type": name}, {"queue": name}):
        [field] = names
        with pytest.raises(psycopg.DataError) as caught:
            enqueue(db, None, **names)
        db.rollback()
        with pytest.raises(Refusal) as refused:
            bodies.new_job("x", 0, Enqueue(**{"type": "t", "queue": "q", "payload": b"1"} | names), Format.JSON)  # type: ignore[arg-type]
        assert f"zizq.enqueue: {refused.value}" == str(caught.value).splitlines()[0]
        assert field in str(caught.value)


def test_names_are_not_longer_than_an_index_bears(db: psycopg.Connection[Any]) -> None:
    enqueue(db, None, "t" * 1000, "q" * 1000)
    with pytest.raises(psycopg.DataError, match="type and queue have 2001 bytes, and may have 2000"):
        enqueue(db, None, "t" * 1001, "q" * 1000)


def test_a_payload_is_needed_and_not_too_large(db: psycopg.Connection[Any]) -> None:
    for payload, says in ((None, "'null'::jsonb is a payload"), (json.dumps("x" * 2**24), "16 MiB")):
        with pytest.raises(psycopg.DataError, match=says):
            db.execute("SELECT zizq.enqueue('t', 'q', %s)", [payload])
        db.rollback()


def test_an_id_is_one_of_ours_and_later_ones_are_greater(db: psycopg.Connection[Any]) -> None:
    before = SystemClock().wall_ms()
    rows = db.execute("SELECT zizq.enqueue('t', 'q', to_jsonb(n)) FROM generate_series(1, 500) n").fetchall()
    after = SystemClock().wall_ms()
    found = [row[0] for row in rows]
    assert found == sorted(set(found))
    assert all(before - 1 <= ids.created_at(one) <= after + 1 for one in found)


def test_a_time_may_be_one_of_sql(db: psycopg.Connection[Any]) -> None:
    db.execute("SELECT zizq.enqueue('t', 'q', '1', jsonb_build_object('ready_at', '2030-01-01T00:00Z'::timestamptz))")
    db.execute(
        "SELECT zizq.enqueue(queue => 'q', type => 't', payload => '1', options => '{\"ready_at\": 1893456000000}')"
    )
    assert [job["ready_at"] for _, job in inbox(db)] == [1893456000000] * 2


def test_a_role_needs_the_right_to_call_and_no_other(db: psycopg.Connection[Any]) -> None:
    role = f"app_{db.info.dbname}"
    db.execute(f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA zizq TO {role}; SET ROLE {role}")
    try:
        enqueue(db)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            inbox(db)
    finally:
        db.rollback()
