"""Runs one of the groups of commands of `zizq` against a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from click.testing import CliRunner, Result

from zizq import Client
from zizq.cli.main import cli
from zizq.testing.server import running_server


class Shell:
    """Runs the commands of a group, each in a thread.

    Args:
        group: The group, such as `cron`.
        client: A client of the server that they are run against.
    """

    def __init__(self, group: str, client: Client) -> None:
        self._group = group
        self.client = client

    async def run(self, *args: str, ok: bool = True, given: str | None = None) -> Result:
        """What a command did that was given some input; whether it succeeded must be as expected."""
        arguments = [self._group, *args, "--url", self.client.url]
        result = await asyncio.to_thread(CliRunner(env={"COLUMNS": "200"}).invoke, cli, arguments, given)
        assert (result.exit_code == 0) is ok, result.output
        return result

    async def out(self, *args: str) -> str:
        """What a command prints."""
        return (await self.run(*args)).stdout

    async def lines(self, *args: str) -> list[Any]:
        """What a command prints for programs."""
        return [json.loads(line) for line in (await self.out(*args, "--json")).splitlines()]


@asynccontextmanager
async def shell(group: str) -> AsyncIterator[Shell]:
    """A shell with a server of its own."""
    async with running_server() as server, Client(server.url) as client:
        yield Shell(group, client)
