"""`zizq queues`: look at queues, pause, resume and purge them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from zizq import words
from zizq.cli.asking import ask, check_terminal
from zizq.cli.changes import unless_interrupted
from zizq.cli.options import with_client
from zizq.cli.table import Column, Table, terminal_width
from zizq.cli.texts import as_json, count_of, lines_of, plain
from zizq.cli.waiting import waiting
from zizq.client.queue_calls import QueueState
from zizq.client.sync import SyncClient
from zizq.clock import SystemClock
from zizq.job import Status
from zizq.words import away, printable

_COLUMNS = (
    Column("QUEUE", may_be_cut=True),
    *(Column(status.value.upper(), is_number=True) for status in Status),
    Column("PAUSED"),
)


@click.group()
def queues() -> None:
    """Look at queues, pause, resume and purge them."""


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────


@queues.command("list")
@with_client
@click.option("--json", "is_json", is_flag=True, help="A line of JSON for each queue.")
def list_queues(client: SyncClient, is_json: bool) -> None:
    """List queues, with their jobs counted by status.

    These are the queues that hold jobs or are paused, by their names.
    """
    states = waiting(client.queue_states, "reading queues")
    if is_json:
        click.echo("".join(f"{as_json(_fields(state))}\n" for state in states), nl=False)
    elif states:
        now = SystemClock().wall_ms()
        click.echo("\n".join(Table(_COLUMNS, terminal_width()).lines([_row(state, now) for state in states])))
    else:
        click.echo("There are no queues: none holds a job, and none is paused.", err=True)


@queues.command()
@with_client
@click.argument("queue")
@click.option("--json", "is_json", is_flag=True, help="One line of JSON.")
def show(client: SyncClient, queue: str, is_json: bool) -> None:
    """Show a queue: whether it is paused, and its jobs.

    They are counted by status. A queue that nobody has used is shown with none.
    """
    fields = _fields(waiting(lambda: client.queue(queue), "reading the queue"))
    if is_json:
        click.echo(as_json(fields))
    else:
        counts = fields.pop("counts")
        click.echo("\n".join(lines_of(fields | counts, SystemClock().wall_ms())))


def _fields(state: QueueState) -> dict[str, Any]:
    return {name: value for name, value in plain(state).items() if value is not None}


def _row(state: QueueState, now: int) -> list[str]:
    counts = [words.count(getattr(state.counts, status.value)) for status in Status]
    return [printable(state.queue), *counts, "" if state.paused_at_ms is None else away(state.paused_at_ms, now)]


# ── pausing ──────────────────────────────────────────────────────────────────────────────────────────


@queues.command()
@with_client
@click.argument("queue", nargs=-1, required=True)
def pause(client: SyncClient, queue: tuple[str, ...]) -> None:
    """Let queues rest: no worker is handed a job of them.

    Jobs that workers have already go on, and so do enqueues. It lasts until the queue is resumed, over restarts too.
    """
    for state in _each(queue, client.pause_queue, "pausing"):
        click.echo(f"Paused queue {printable(state.queue)}: {_waiting_in(state)}.")


@queues.command()
@with_client
@click.argument("queue", nargs=-1, required=True)
def resume(client: SyncClient, queue: tuple[str, ...]) -> None:
    """Let workers have the jobs of queues again."""
    for state in _each(queue, client.resume_queue, "resuming"):
        click.echo(f"Resumed queue {printable(state.queue)}: {_waiting_in(state)}.")


def _each(names: tuple[str, ...], call: Callable[[str], QueueState], doing: str) -> Iterable[QueueState]:
    for name in dict.fromkeys(names):
        yield waiting(lambda name=name: call(name), f"{doing} queue {printable(name)}")  # type: ignore[misc]


def _waiting_in(state: QueueState) -> str:
    """What is in a queue; whoever has mistyped its name sees it by that."""
    if not state.counts.total:
        return "it has no jobs"
    return f"it has {count_of(state.counts.ready, 'ready job')}, and {words.count(state.counts.in_flight)} in flight"


# ── purging ──────────────────────────────────────────────────────────────────────────────────────────


@queues.command()
@with_client
@click.argument("queue")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def purge(client: SyncClient, queue: str, yes: bool) -> None:
    """Delete all jobs of a queue, whatever their status.

    There is no way back. A worker that has one of them cannot report it any more. Whether the queue is paused does not
    change. To delete some of its jobs: zizq jobs delete --queue.
    """
    if not yes:
        check_terminal("purge a queue")
        counts = waiting(lambda: client.queue(queue), "counting jobs").counts
        if not counts.total:
            click.echo(f"There are no jobs in queue {printable(queue)}.", err=True)
            return
        flying = f" ({words.count(counts.in_flight)} in flight)" if counts.in_flight else ""
        ask(f"Delete {count_of(counts.total)} of queue {printable(queue)}{flying}?", "purge a queue")
    number = unless_interrupted("deleting", client.jobs(queue=queue).delete)
    click.echo(f"Deleted {count_of(number)} of queue {printable(queue)}.")
