"""`zizq budgets`: look at budgets, set them and delete them."""

from __future__ import annotations

import click

from zizq import words
from zizq.budget import MAX_TOKENS
from zizq.cli.asking import ask
from zizq.cli.options import seconds, with_client
from zizq.cli.table import Column, Table, terminal_width
from zizq.cli.texts import as_json, lines_of, plain
from zizq.cli.waiting import found, waiting
from zizq.client.budgets import Budget, TimeBased, WhileInFlight
from zizq.client.sync import SyncClient
from zizq.clock import SystemClock
from zizq.job import TERMINAL, Status
from zizq.words import away, printable

_COLUMNS = (
    Column("KEY", may_be_cut=True),
    Column("STRATEGY"),
    Column("ALLOCATION", is_number=True),
    Column("PER"),
    Column("CAPACITY", is_number=True),
    Column("CHANGED"),
)
_TOKENS = click.IntRange(1, MAX_TOKENS)
_UNFINISHED = [status for status in Status if status not in TERMINAL]


@click.group()
def budgets() -> None:
    """Look at budgets, set them and delete them."""


@budgets.command("list")
@with_client
@click.option("--json", "is_json", is_flag=True, help="A line of JSON for each budget.")
def list_budgets(client: SyncClient, is_json: bool) -> None:
    """List all budgets, by their keys."""
    all_ = waiting(client.budgets, "reading budgets")
    if is_json:
        click.echo("".join(f"{as_json(budget)}\n" for budget in all_), nl=False)
    elif all_:
        now = SystemClock().wall_ms()
        click.echo("\n".join(Table(_COLUMNS, terminal_width()).lines([_row(budget, now) for budget in all_])))
    else:
        click.echo("There are no budgets.", err=True)


@budgets.command()
@with_client
@click.argument("key")
@click.option("--json", "is_json", is_flag=True, help="One line of JSON, with the jobs that draw on it counted.")
def show(client: SyncClient, key: str, is_json: bool) -> None:
    """Show a budget.

    Of the jobs that draw on it, those that are not finished are counted.
    """
    budget, number = found(
        lambda: (client.budget(key), client.jobs(budgets=key, status=_UNFINISHED).count()),
        "reading the budget",
        f"budget {key}",
    )
    fields = {**plain(budget), "unfinished_jobs": number}
    click.echo(as_json(fields) if is_json else "\n".join(lines_of(fields, SystemClock().wall_ms())))


@budgets.command("set")
@with_client
@click.argument("key")
@click.option("--allocation", type=_TOKENS, required=True, help="How many tokens it has, or gets back in a period.")
@click.option("--per", type=seconds, metavar="DURATION", help="A limit on the rate: tokens come back in this period.")
@click.option("--burst", type=_TOKENS, help="With --per: how many tokens there are at most, instead of the allocation.")
@click.option("--while-in-flight", is_flag=True, help="A limit on how many run at once: tokens come back with the job.")
def set_budget(
    client: SyncClient, key: str, allocation: int, per: float | None, burst: int | None, while_in_flight: bool
) -> None:
    """Create a budget, or replace the one that is there.

    It holds at once, for jobs that wait too.
    """
    if (per is None) is not while_in_flight:
        raise click.UsageError("Say what kind of limit it is: --per with a period, or --while-in-flight.")
    if burst is not None and per is None:
        raise click.UsageError("--burst goes with --per.")
    policy = WhileInFlight(allocation) if per is None else TimeBased(allocation, per, burst)
    waiting(lambda: client.define_budget(key, policy, replace=True), "setting the budget")
    click.echo(f"Set budget {printable(key)}.")


@budgets.command()
@with_client
@click.argument("key")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def delete(client: SyncClient, key: str, yes: bool) -> None:
    """Delete a budget.

    That can be done once no unfinished job and no cron entry draws on it.
    """
    if not yes:
        ask(f"Delete budget {printable(key)}?", "delete a budget")
    found(lambda: client.delete_budget(key), "deleting the budget", f"budget {key}")
    click.echo(f"Deleted budget {printable(key)}.")


def _row(budget: Budget, now: int) -> list[str]:
    period = budget.strategy.duration_ms
    return [
        printable(budget.key),
        printable(budget.strategy.type),
        words.count(budget.allocation),
        "" if period is None else words.duration(period),
        words.count(budget.capacity),
        away(budget.updated_at_ms, now),
    ]
