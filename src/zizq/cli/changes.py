"""`zizq jobs patch`, `retry` and `delete`: what changes jobs, and asks before it changes many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import click

from zizq.cli.asking import ask, check_terminal
from zizq.cli.filters import Chosen, choosing
from zizq.cli.options import Command, instant, seconds, with_client
from zizq.cli.texts import count_of
from zizq.cli.waiting import waiting
from zizq.client.changes import Changes
from zizq.client.options import Backoff, Retention
from zizq.client.query import SyncQuery
from zizq.client.sync import SyncClient
from zizq.errors import ConfigError, NotFound
from zizq.job import MAX_PRIORITY, TERMINAL, Status
from zizq.words import printable


class Change(NamedTuple):
    """Something to be done to jobs.

    Args:
        verb: What is done.
        doing: The same word for while it is done.
        done: The same word for when it has been done.
        statuses: The statuses of jobs to which it can be done.
        one: Does it to one job.
        many: Does it to the jobs of a query, and says to how many; the flag says whether every job is meant.
    """

    verb: str
    doing: str
    done: str
    statuses: list[Status]
    one: Callable[[str], object]
    many: Callable[[SyncQuery, bool], int]


def change_options(command: Command) -> Command:
    """Give a command the options that say which jobs to change, and that nobody need be asked."""
    for option in (
        click.option("--yes", "-y", is_flag=True, help="Do not ask."),
        click.option("--all", "every", is_flag=True, help="Every job, where no other option chooses."),
        choosing(ordered=True),
        click.argument("ids", metavar="[ID]...", nargs=-1),
        with_client,
    ):
        command = option(command)
    return command


@click.command()
@change_options
def delete(client: SyncClient, **which: Any) -> None:
    """Delete jobs, whatever their status.

    There is no way back. A worker that has one of them cannot report it any more.
    """
    change = Change(
        "delete", "deleting", "Deleted", list(Status), client.delete_job, lambda query, all: query.delete(all=all)
    )
    _carry_out(client, change, **which)


@click.command()
@change_options
def retry(client: SyncClient, **which: Any) -> None:
    """Bring dead jobs back to ready.

    Their attempts and errors are forgotten. Other jobs are left alone.
    """
    change = Change(
        "retry", "retrying", "Retried", [Status.DEAD], client.retry_job, lambda query, all: query.retry(all=all)
    )
    _carry_out(client, change, **which)


# ── patch ────────────────────────────────────────────────────────────────────────────────────────────


def _ready_at(text: str) -> tuple[datetime | None]:
    # A tuple, for None alone would be an option that is not there. The server's own now is what None means.
    return (None if text == "now" else instant(text),)


def _backoff(text: str) -> Backoff:
    try:
        base, exponent, jitter = text.split(",")
        return Backoff(seconds(base.strip()), float(exponent), seconds(jitter.strip()))
    except (ValueError, ConfigError) as exc:
        raise click.BadParameter(f"{text!r} is no backoff: write BASE,EXPONENT,JITTER as in 10s,2,5s") from exc


_CLEARABLE = ("retry-limit", "backoff", "retention", "timeout")
_PATCH_OPTIONS = (
    click.option("--set-queue", metavar="QUEUE", help="Move them to this queue."),
    click.option("--set-priority", type=click.IntRange(0, MAX_PRIORITY), help="Give them this priority."),
    click.option(
        "--set-ready-at",
        type=_ready_at,
        metavar="WHEN",
        help="Run them then: now, +2h, 2030-01-31, 2030-01-31T12:00+01:00. Now makes scheduled jobs ready.",
    ),
    click.option("--set-retry-limit", type=click.IntRange(0, 2**32 - 1), help="Retry them so often."),
    click.option("--set-backoff", type=_backoff, metavar="BASE,EXPONENT,JITTER", help="Their backoff, as in 10s,2,5s."),
    click.option(
        "--set-completed-retention", type=seconds, metavar="DURATION", help="Keep them so long after success."
    ),
    click.option("--set-dead-retention", type=seconds, metavar="DURATION", help="Keep them so long once dead."),
    click.option("--set-timeout", type=seconds, metavar="DURATION", help="Let a worker hold each for so long only."),
    click.option(
        "--unset",
        type=click.Choice(_CLEARABLE),
        multiple=True,
        help="Take this back, so that they go by the server's or the worker's; may be repeated.",
    ),
)


def _with_patch_options(command: Command) -> Command:
    for option in reversed(_PATCH_OPTIONS):
        command = option(command)
    return command


@click.command()
@_with_patch_options
@change_options
def patch(
    client: SyncClient,
    set_queue: str | None,
    set_priority: int | None,
    set_ready_at: tuple[datetime | None] | None,
    set_retry_limit: int | None,
    set_backoff: Backoff | None,
    set_completed_retention: float | None,
    set_dead_retention: float | None,
    set_timeout: float | None,
    unset: tuple[str, ...],
    **which: Any,
) -> None:
    """Change jobs that are not finished.

    Completed and dead ones are left alone.
    """
    retention = Retention(set_completed_retention, set_dead_retention)
    given: dict[str, Any] = {
        "queue": set_queue, "priority": set_priority, "retry_limit": set_retry_limit, "backoff": set_backoff,
        "retention": None if retention == Retention() else retention, "timeout": set_timeout,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    cleared = {name.replace("-", "_") for name in unset}
    if both := given.keys() & cleared:
        raise click.UsageError(f"--unset {min(both).replace('_', '-')} goes with no option that sets it.")
    given.update(dict.fromkeys(cleared))
    if set_ready_at is not None:
        [given["ready_at"]] = set_ready_at
    if not given:
        raise click.UsageError("Say what to change: --set-queue, --set-priority, --set-ready-at, ... or --unset.")
    _carry_out(client, _patching(client, given), **which)


def _patching(client: SyncClient, given: dict[str, Any]) -> Change:
    changes: Changes = given  # type: ignore[assignment]
    return Change(
        "patch", "patching", "Patched", [status for status in Status if status not in TERMINAL],
        lambda job_id: client.patch_job(job_id, **changes), lambda query, all: query.update(all=all, **changes),
    )  # fmt: skip


# ── carrying out ─────────────────────────────────────────────────────────────────────────────────────


def _carry_out(client: SyncClient, change: Change, ids: Sequence[str], chosen: Chosen, every: bool, yes: bool) -> None:
    """Do it, if those are the jobs that are meant."""
    if not (ids or chosen.where or every):
        raise click.UsageError(f"Say which jobs to {change.verb}: by ID, by a filter, or --all.")
    if every and (ids or chosen.where):
        raise click.UsageError("--all means every job: leave it out, or the IDs and filters.")
    if len(ids) == 1 and not chosen.where:
        _change_one(client, change, ids[0], yes=yes or change.verb != "delete")
        return
    chosen = chosen.among(ids)
    if not yes and not _agreed(change, chosen.query(client, status=change.statuses)):
        return
    number = unless_interrupted(change.doing, lambda: change.many(chosen.query(client), every))
    click.echo(f"{change.done} {count_of(number)}.")


def _change_one(client: SyncClient, change: Change, job_id: str, yes: bool) -> None:
    if not yes and not _agreed(change, client.jobs(id=job_id)):
        raise click.ClickException(f"there is no job {printable(job_id)}")
    try:
        unless_interrupted(change.doing, lambda: change.one(job_id))
    except NotFound as exc:
        raise click.ClickException(f"there is no job {printable(job_id)}") from exc
    click.echo(f"{change.done} 1 job.")


def _agreed(change: Change, query: SyncQuery) -> bool:
    """Whether there is anything to do; whoever is at the terminal has then said yes to it.

    Raises:
        click.ClickException: When there is nobody to ask.
        click.Abort: When the answer is no.
    """
    action = f"{change.verb} jobs"
    check_terminal(action)
    number = waiting(query.count, "counting jobs")
    if not number:
        click.echo(f"There are no jobs to {change.verb}.", err=True)
        return False
    ask(f"{change.verb.capitalize()} {count_of(number)}?", action)
    return True


def unless_interrupted(doing: str, call: Callable[[], Any]) -> Any:
    """The value of a call that changes jobs.

    Args:
        doing: What it does, such as `deleting`.
        call: The call.

    Raises:
        click.ClickException: When nobody waits for it any more.
    """
    try:
        return waiting(call, f"{doing} jobs")
    except KeyboardInterrupt:
        raise click.ClickException(f"interrupted while {doing}: the server may do it all the same") from None
