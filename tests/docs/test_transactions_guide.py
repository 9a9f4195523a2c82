"""The guide on transactions does what it says, in a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sa_asyncio

from docs.pages import DOCS, blocks
from postgres import Databases
from zizq.store.opening import migrate_store
from zizq.store.url import StoreUrl

GUIDE = DOCS / "guides" / "transactional-enqueue.md"


class Base(orm.DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    item: orm.Mapped[str]


def prepare(url: str) -> None:
    asyncio.run(migrate_store(StoreUrl(url), dry_run=False))
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")


@pytest.fixture
def url(databases: Databases) -> str:
    return databases.fresh(prepare)


@pytest.fixture(scope="module")
def said() -> dict[str, Callable[..., Any]]:
    """The functions of the guide."""
    names: dict[str, Any] = {}
    found = [one for one in blocks(GUIDE) if one.language == "python"]
    for one in sorted(found, key=lambda block: "prelude" not in block.notes):
        exec(compile(one.text.replace("from django.db import connection, transaction", ""), one.name, "exec"), names)
    return names


def posted(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT job ->> 'type', job -> 'payload' -> 'order', job -> 'priority' FROM zizq.inbox ORDER BY id"
        ).fetchall()


def test_psycopg(url: str, said: dict[str, Callable[..., Any]]) -> None:
    said["place_order"](url, "tea")
    assert posted(url) == [("send_receipt", 1, None)]


def test_sqlalchemy(url: str, said: dict[str, Callable[..., Any]]) -> None:
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with orm.Session(engine) as session:
        said["place_order_by_session"](session, Order(item="tea"))
    engine.dispose()
    assert posted(url) == [("send_receipt", 1, None)]


async def test_sqlalchemy_awaited(url: str, said: dict[str, Callable[..., Any]]) -> None:
    engine = sa_asyncio.create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    async with sa_asyncio.AsyncSession(engine) as session:
        await said["place_order_awaited"](session, Order(item="tea"))
    await engine.dispose()
    assert posted(url) == [("send_receipt", 1, 10)]


def test_sql(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS app; CREATE ROLE app")
        for block in blocks(GUIDE):
            if block.language == "sql" and "RETURNS" not in block.text:
                connection.execute(block.text)
        connection.execute("SET ROLE app; SELECT zizq.enqueue('t', 'q', '1'); RESET ROLE")
        connection.execute("DROP OWNED BY app; DROP ROLE app")
    assert [job[0] for job in posted(url)] == ["send_receipt", "remind", "t"]
