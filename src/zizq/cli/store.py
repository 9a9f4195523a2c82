"""`zizq store`: copy a whole store to another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from zizq import words
from zizq.cli.table import Column, Table, terminal_width
from zizq.cli.texts import as_json, count_of
from zizq.cli.waiting import waiting
from zizq.store.contents import Sum
from zizq.store.opening import copy_store
from zizq.store.url import StoreUrl, is_url
from zizq.words import printable

_COLUMNS = (
    Column("QUEUE", may_be_cut=True),
    Column("TYPE", may_be_cut=True),
    Column("STATUS"),
    Column("JOBS", is_number=True),
)


class _Place(click.ParamType[Path | StoreUrl]):
    """A folder, or the URL of a database."""

    name = "place"

    def convert(
        self, value: str | Path | StoreUrl, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | StoreUrl:
        """The place of a text."""
        if not isinstance(value, str):
            return value
        try:
            return StoreUrl(value) if is_url(value) else Path(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group()
def store() -> None:
    """Copy a whole store to another."""


@store.command()
@click.argument("source", metavar="FROM", type=_Place())
@click.argument("target", metavar="TO", type=_Place())
@click.option("--json", "is_json", is_flag=True, help="One line of JSON.")
def copy(source: Path | StoreUrl, target: Path | StoreUrl, is_json: bool) -> None:
    """Copy the store FROM to the store TO.

    TO must be empty. Each is the folder of a server, or the URL of a database as postgresql://user@host/database. No
    server may be using them. Jobs in every status go along with their payloads and errors, budgets with their tokens,
    crons and pauses; jobs that were in flight are ready. In the end both stores are read and compared.

    An interrupted copy leaves TO empty.
    """
    if source == target:
        raise click.UsageError("FROM and TO are the same")
    doing = ["opening the stores"]

    def tell(what: str, done: Sum) -> None:
        doing[0] = f"{what}, {count_of(done.jobs.total())}"

    copied = waiting(lambda: asyncio.run(copy_store(source, target, tell)), lambda: doing[0])
    if is_json:
        click.echo(as_json(_fields(copied)))
        return
    rows = [(*map(printable, key), words.count(number)) for key, number in sorted(copied.jobs.items())]
    if rows:
        click.echo("\n".join(Table(_COLUMNS, terminal_width()).lines(rows)))
    others = [
        count_of(copied.others[name], noun)
        for name, noun in (("BudgetPiece", "budget"), ("CronPiece", "cron group"), ("PausePiece", "paused queue"))
    ]
    click.echo(f"Copied {source} to {target}: {', '.join([count_of(copied.jobs.total()), *others])}.", err=True)
    click.echo(f"Both hold the same: {copied.digest} is the digest of all rows.", err=True)


def _fields(copied: Sum) -> dict[str, object]:
    jobs = [
        {"queue": queue, "type": type_, "status": status, "jobs": number}
        for (queue, type_, status), number in sorted(copied.jobs.items())
    ]
    budgets, crons, pauses = (copied.others[name] for name in ("BudgetPiece", "CronPiece", "PausePiece"))
    return {"jobs": jobs, "budgets": budgets, "crons": crons, "paused_queues": pauses, "digest": copied.digest}
