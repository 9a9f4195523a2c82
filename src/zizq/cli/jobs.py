"""`zizq jobs`: look at jobs, and change them, by their identifiers or by filters."""

from __future__ import annotations

import click

from zizq.cli.changes import delete, patch, retry
from zizq.cli.filters import Chosen, choosing
from zizq.cli.options import with_client
from zizq.cli.table import Column, Table, terminal_width
from zizq.cli.texts import JOB_COLUMNS, as_json, description, error_record, job_row, record
from zizq.cli.waiting import found, paged, waiting
from zizq.client.sync import SyncClient
from zizq.clock import SystemClock
from zizq.job import Status
from zizq.words import printable

SCREENFUL = 50
"""Jobs that are listed to people who do not say how many."""


@click.group()
def jobs() -> None:
    """Look at jobs, and change them, by their identifiers or by filters."""


jobs.add_command(patch)
jobs.add_command(retry)
jobs.add_command(delete)


@jobs.command("list")
@with_client
@choosing(ordered=True)
@click.option("--json", "is_json", is_flag=True, help="A line of JSON for each job, with its payload.")
def list_jobs(client: SyncClient, chosen: Chosen, is_json: bool) -> None:
    """List jobs, the oldest first.

    Without --limit it lists the first 50, and with --json all.
    """
    if is_json:
        for page in paged(chosen.query(client).pages(), "listed"):
            click.echo("\n".join(as_json(record(job)) for job in page))
        return
    _list_to_people(client, chosen)


def _list_to_people(client: SyncClient, chosen: Chosen) -> None:
    most = chosen.limit or SCREENFUL
    table = Table(JOB_COLUMNS, terminal_width())
    now, left = SystemClock().wall_ms(), most
    # Where nobody said how many, one more than is shown says whether there are more.
    query = chosen.query(client).limit(most if chosen.limit else most + 1)
    for page in paged(query.pages(), "listed"):
        if shown := page[:left]:
            click.echo("\n".join(table.lines([job_row(job, now) for job in shown])))
        if len(page) > left:
            click.echo(f"There are more than these {most}: say --limit.", err=True)
        left -= len(shown)
    if left == most:
        click.echo("There are no such jobs.", err=True)


@jobs.command()
@with_client
@click.argument("job_id", metavar="ID")
@click.option("--json", "is_json", is_flag=True, help="One line of JSON, with the errors as `errors`.")
def show(client: SyncClient, job_id: str, is_json: bool) -> None:
    """Show everything there is to know of a job.

    That is its fields, its payload, and its errors with their backtraces.
    """
    job, errors = found(
        lambda: (client.get_job(job_id), list(client.job_errors(job_id))), "reading the job", f"job {job_id}"
    )
    if is_json:
        click.echo(as_json(record(job) | {"errors": [error_record(error) for error in errors]}))
    else:
        click.echo("\n".join(description(job, errors, SystemClock().wall_ms())))


@jobs.command()
@with_client
@choosing(ordered=False)
@click.option("--by", type=click.Choice(["status", "queue"]), help="A count for each status or queue.")
@click.option("--json", "is_json", is_flag=True, help="One line of JSON.")
def count(client: SyncClient, chosen: Chosen, by: str | None, is_json: bool) -> None:
    """Count jobs."""
    if by is None:
        number = waiting(chosen.query(client).count, "counting jobs")
        click.echo(as_json({"count": number}) if is_json else number)
        return
    counts = waiting(lambda: _counts(client, chosen, by), "counting jobs")
    if is_json:
        click.echo(as_json(counts))
    else:
        rows = [[printable(name), str(number)] for name, number in counts.items()]
        click.echo("\n".join(Table((Column(by.upper()), Column("JOBS", is_number=True)), terminal_width()).lines(rows)))


def _counts(client: SyncClient, chosen: Chosen, by: str) -> dict[str, int]:
    """How many jobs each status or queue has, one request for each; queues that have none are left out."""
    everything = [status.value for status in Status] if by == "status" else client.queues()
    wanted = chosen.where.get(by, everything)
    counts = {name: chosen.query(client).where(**{by: name}).count() for name in everything if name in wanted}  # type: ignore[arg-type]
    return {name: number for name, number in counts.items() if number or by == "status"}
