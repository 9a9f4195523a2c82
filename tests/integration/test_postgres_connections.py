"""Enqueueing inside transactions of psycopg, asyncpg, SQLAlchemy and Django: a commit makes a job, a rollback none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import django
import psycopg
import pytest
import sqlalchemy
from django.conf import settings as django_settings
from django.db import connections, transaction
from psycopg.rows import class_row, dict_row, scalar_row
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sa_asyncio

import zizq.postgres
from postgres import Databases
from zizq import Enqueue, Unique, job_kind
from zizq.errors import ConfigError, EncodeError
from zizq.postgres import aio
from zizq.store.opening import migrate_store
from zizq.store.url import StoreUrl


@job_kind("send_receipt", queue="mail", priority=9, unique=Unique("order"))
@dataclass
class SendReceipt:
    order: int


class Undo(Exception):
    """What undoes a transaction."""


def migrate(url: str) -> None:
    asyncio.run(migrate_store(StoreUrl(url), dry_run=False))


@pytest.fixture(scope="module")
def url(all_databases: Databases) -> str:
    return all_databases.fresh(migrate)


@pytest.fixture(autouse=True)
def _empty(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM zizq.inbox")


def inbox(url: str) -> list[tuple[str, dict[str, Any]]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT id, job FROM zizq.inbox ORDER BY id").fetchall()


# ── what has transactions ────────────────────────────────────────────────────────────────────────────


@contextmanager
def of_psycopg(url: str, **options: Any) -> Iterator[Any]:
    with psycopg.connect(url, **options) as connection:
        yield connection


@contextmanager
def of_psycopg_cursor(url: str) -> Iterator[Any]:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT generate_series(1, 3)")
        yield cursor
        assert len(cursor.fetchall()) == 3


@contextmanager
def engine_of(url: str) -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def of_sqlalchemy(url: str) -> Iterator[Any]:
    with engine_of(url) as engine, engine.begin() as connection:
        yield connection


@contextmanager
def of_sqlalchemy_session(url: str) -> Iterator[Any]:
    with engine_of(url) as engine, orm.Session(engine) as session, session.begin():
        yield session


@contextmanager
def in_django(url: str) -> Iterator[Any]:
    parts = psycopg.conninfo.conninfo_to_dict(url)
    if not django_settings.configured:
        django_settings.configure(DATABASES={})
        django.setup()
    connections.databases["default"] = {
        "ENGINE": "django.db.backends.postgresql", "NAME": parts["dbname"], "USER": parts["user"],
        "HOST": parts["host"], "PORT": parts["port"],
    }  # fmt: skip
    connections.configure_settings(connections.databases)
    try:
        with transaction.atomic():
            yield connections["default"]
    finally:
        connections["default"].close()


@contextmanager
def in_django_cursor(url: str) -> Iterator[Any]:
    with in_django(url) as connection, connection.cursor() as cursor:
        yield cursor


SYNC: dict[str, Callable[[str], Any]] = {
    "psycopg": of_psycopg,
    "psycopg with dicts": lambda url: of_psycopg(url, row_factory=dict_row),
    "psycopg with scalars": lambda url: of_psycopg(url, row_factory=scalar_row),
    "psycopg with classes": lambda url: of_psycopg(url, row_factory=class_row(dict)),
    "psycopg cursor": of_psycopg_cursor,
    "SQLAlchemy": of_sqlalchemy,
    "SQLAlchemy session": of_sqlalchemy_session,
    "Django": in_django,
    "Django cursor": in_django_cursor,
}


@asynccontextmanager
async def awaited_of_psycopg(url: str, **options: Any) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url, **options) as connection:
        yield connection


@asynccontextmanager
async def awaited_of_psycopg_cursor(url: str) -> AsyncIterator[Any]:
    async with awaited_of_psycopg(url) as connection, connection.cursor() as cursor:
        yield cursor


@asynccontextmanager
async def of_asyncpg(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def awaited_of_sqlalchemy(url: str, driver: str) -> AsyncIterator[Any]:
    engine = sa_asyncio.create_async_engine(url.replace("postgresql:", f"postgresql+{driver}:"))
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


@asynccontextmanager
async def awaited_of_session(url: str, driver: str) -> AsyncIterator[Any]:
    engine = sa_asyncio.create_async_engine(url.replace("postgresql:", f"postgresql+{driver}:"))
    try:
        async with sa_asyncio.AsyncSession(engine) as session, session.begin():
            yield session
    finally:
        await engine.dispose()


ASYNC: dict[str, Callable[[str], Any]] = {
    "psycopg": awaited_of_psycopg,
    "psycopg with dicts": lambda url: awaited_of_psycopg(url, row_factory=dict_row),
    "psycopg cursor": awaited_of_psycopg_cursor,
    "asyncpg": of_asyncpg,
    "SQLAlchemy on psycopg": lambda url: awaited_of_sqlalchemy(url, "psycopg"),
    "SQLAlchemy on asyncpg": lambda url: awaited_of_sqlalchemy(url, "asyncpg"),
    "SQLAlchemy session on psycopg": lambda url: awaited_of_session(url, "psycopg"),
    "SQLAlchemy session on asyncpg": lambda url: awaited_of_session(url, "asyncpg"),
}


# ── sync ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", SYNC)
def test_a_commit_makes_the_job_that_was_named(url: str, kind: str) -> None:
    with SYNC[kind](url) as connection:
        job_id = zizq.postgres.enqueue(connection, SendReceipt(7), metadata={"a": "100 %"})
        assert inbox(url) == []
    [(found, job)] = inbox(url)
    assert found == job_id
    assert job == {
        "type": "send_receipt", "queue": "mail", "priority": 9, "payload": {"order": 7}, "metadata": {"a": "100 %"},
        "unique_key": job["unique_key"], "unique_while": "queued",
    }  # fmt: skip


@pytest.mark.parametrize("kind", SYNC)
def test_a_rollback_makes_none(url: str, kind: str) -> None:
    with suppress(Undo), SYNC[kind](url) as connection:
        zizq.postgres.enqueue_raw(connection, "t", None)
        raise Undo
    assert inbox(url) == []


@pytest.mark.parametrize("kind", SYNC)
def test_many_are_enqueued_in_order(url: str, kind: str) -> None:
    with SYNC[kind](url) as connection:
        ids = zizq.postgres.enqueue_bulk(connection, [SendReceipt(1), Enqueue("t", {"n": 2}), SendReceipt(3)])
        assert zizq.postgres.enqueue_bulk(connection, []) == []
    assert ids == [found for found, _ in inbox(url)]
    assert [job["type"] for _, job in inbox(url)] == ["send_receipt", "t", "send_receipt"]


# ── async ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ASYNC)
async def test_an_awaited_commit_makes_the_job_that_was_named(url: str, kind: str) -> None:
    async with ASYNC[kind](url) as connection:
        job_id = await aio.enqueue(connection, SendReceipt(7), delay=timedelta(hours=1))
        assert inbox(url) == []
    [(found, job)] = inbox(url)
    assert (found, job["type"]) == (job_id, "send_receipt")
    assert job["ready_at"] > 1_700_000_000_000


@pytest.mark.parametrize("kind", ASYNC)
async def test_an_awaited_rollback_makes_none(url: str, kind: str) -> None:
    with suppress(Undo):
        async with ASYNC[kind](url) as connection:
            await aio.enqueue_raw(connection, "t", None)
            raise Undo
    assert inbox(url) == []


@pytest.mark.parametrize("kind", ASYNC)
async def test_many_are_enqueued_in_order_by_an_awaited_call(url: str, kind: str) -> None:
    async with ASYNC[kind](url) as connection:
        ids = await aio.enqueue_bulk(connection, [SendReceipt(1), SendReceipt(2)])
    assert ids == [found for found, _ in inbox(url)]


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────


def test_what_the_database_refuses_ends_the_transaction_with_its_own_error(url: str) -> None:
    with pytest.raises(psycopg.DataError, match="queue must not contain ','"), of_psycopg(url) as connection:
        zizq.postgres.enqueue_raw(connection, "t", 1, queue="a,b")


def test_what_the_client_refuses_is_not_sent(url: str) -> None:
    with of_psycopg(url) as connection:
        with pytest.raises(ConfigError, match="unknown option 'prority'"):
            zizq.postgres.enqueue_raw(connection, "t", 1, prority=1)
        with pytest.raises(EncodeError, match="payload"):
            zizq.postgres.enqueue_raw(connection, "t", object())
        zizq.postgres.enqueue_raw(connection, "t", 1)
    assert len(inbox(url)) == 1


async def test_the_wrong_one_of_both_says_so(url: str) -> None:
    for kind in ("psycopg", "SQLAlchemy on asyncpg", "SQLAlchemy session on asyncpg"):
        async with ASYNC[kind](url) as connection:
            with pytest.raises(ConfigError, match=r"use zizq\.postgres\.aio"):
                zizq.postgres.enqueue(connection, SendReceipt(7))
    for kind in ("psycopg", "SQLAlchemy", "SQLAlchemy session"):
        with SYNC[kind](url) as connection, pytest.raises(ConfigError, match="without await"):
            await aio.enqueue(connection, SendReceipt(7))
    for call in (zizq.postgres.enqueue, lambda *given: asyncio.run(aio.enqueue(*given))):
        with pytest.raises(ConfigError, match="give one of psycopg"):
            await asyncio.to_thread(call, "a connection", SendReceipt(7))


def test_a_driver_of_another_database_is_refused() -> None:
    with (
        engine_of("sqlite://") as engine,
        engine.begin() as connection,
        pytest.raises(ConfigError, match="qmark"),
    ):
        zizq.postgres.enqueue(connection, SendReceipt(7))
