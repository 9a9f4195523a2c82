"""Names that no index of PostgreSQL bears are refused, and hold nobody up."""

from __future__ import annotations

import asyncio
import random
import string

import pytest

import zizq
from zizq.store.url import StoreUrl
from zizq.testing.server import running_server

NAME = "".join(random.Random(1).choices(string.ascii_letters, k=5000))


async def test_a_name_that_is_too_long_is_refused_alone(postgres_url: str) -> None:
    async with running_server(store=StoreUrl(postgres_url)) as server, zizq.Client(server.url) as client:
        others = [client.enqueue_raw("t", number) for number in range(10)]
        bad, *good = await asyncio.gather(client.enqueue_raw("t", 1, queue=NAME), *others, return_exceptions=True)
        assert isinstance(bad, zizq.InvalidRequest)
        assert "queue and type have 5001 bytes, and may have 2000 in PostgreSQL" in str(bad)
        assert [type(one) for one in good] == [zizq.Job] * 10
        with pytest.raises(zizq.InvalidRequest, match="queue and budgets have 5007 bytes"):
            await client.enqueue_raw("t", 1, budgets=zizq.Draw(NAME, create_with=zizq.WhileInFlight(1)))
        for refused in (
            client.pause_queue(NAME),
            client.define_budget(NAME, zizq.WhileInFlight(1)),
            client.patch_job(good[0].id, queue=NAME),
        ):
            with pytest.raises(zizq.InvalidRequest, match="the database cannot hold it"):
                await refused
        assert server.app.broker.trouble() is None
