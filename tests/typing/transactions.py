"""Enqueueing in transactions as typed code sees it; never run, only checked by `make check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

import zizq
import zizq.postgres
from zizq.postgres import aio


@zizq.job_kind("send_email", queue="emails")
@dataclass
class SendEmail:
    to: str


def use(connection: Any) -> None:
    assert_type(zizq.postgres.enqueue(connection, SendEmail("a@b.c"), priority=10), str)
    assert_type(zizq.postgres.enqueue_raw(connection, "t", {"a": 1}, unique_key="k"), str)
    assert_type(zizq.postgres.enqueue_bulk(connection, [SendEmail("a@b.c"), zizq.Enqueue("t", 1)]), list[str])
    zizq.postgres.enqueue(connection, SendEmail("a@b.c"), prority=10)  # type: ignore[call-arg]


async def use_awaited(connection: Any) -> None:
    assert_type(await aio.enqueue(connection, SendEmail("a@b.c"), delay=5), str)
    assert_type(await aio.enqueue_raw(connection, "t", None), str)
    assert_type(await aio.enqueue_bulk(connection, []), list[str])
