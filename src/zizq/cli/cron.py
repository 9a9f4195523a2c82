"""`zizq cron`: look at cron groups, pause, resume and delete them, and see when an expression is due."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, tzinfo

import click

from zizq import zones
from zizq.cli.asking import ask
from zizq.cli.options import instant, with_client
from zizq.cli.table import Column, Table, terminal_width
from zizq.cli.texts import as_json, indented, lines_of, plain, pretty
from zizq.cli.waiting import found, waiting
from zizq.client.cron import CronEntry, CronGroup
from zizq.client.cron_handles import SyncCronEntryHandle, SyncCronHandle
from zizq.client.options import instant_ms
from zizq.client.sync import SyncClient
from zizq.clock import SystemClock
from zizq.engine.cron.grammar import parse
from zizq.engine.cron.schedule import Schedule
from zizq.errors import BadRequest, NotFound
from zizq.words import away, printable

_GROUP_COLUMNS = (
    Column("GROUP", may_be_cut=True),
    Column("ENTRIES", is_number=True),
    Column("TIMEZONE"),
    Column("NEXT"),
)
_ENTRY_COLUMNS = (
    Column("ENTRY", may_be_cut=True),
    Column("EXPRESSION"),
    Column("TIMEZONE"),
    Column("QUEUE", may_be_cut=True),
    Column("TYPE", may_be_cut=True),
    Column("LAST"),
    Column("NEXT"),
)
_MOST_TIMES = 10_000


@click.group()
def cron() -> None:
    """Look at cron groups, pause, resume and delete them."""


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────


@cron.command("list")
@with_client
@click.option("--json", "is_json", is_flag=True, help="A line of JSON for each group, with its entries.")
def list_groups(client: SyncClient, is_json: bool) -> None:
    """List the cron groups, by their names."""
    groups = waiting(lambda: list(_groups(client)), "reading cron groups")
    if is_json:
        click.echo("".join(f"{as_json(group)}\n" for group in groups), nl=False)
    elif groups:
        now = SystemClock().wall_ms()
        rows = [_group_row(group, now) for group in groups]
        click.echo("\n".join(Table(_GROUP_COLUMNS, terminal_width()).lines(rows)))
    else:
        click.echo("There are no cron groups.", err=True)


def _groups(client: SyncClient) -> Iterator[CronGroup]:
    """All groups; one that is deleted while they are read is left out."""
    for name in client.crons():
        try:
            yield client.cron(name).get()
        except NotFound:
            continue


@cron.command()
@with_client
@click.argument("group")
@click.argument("entry", required=False)
@click.option("--json", "is_json", is_flag=True, help="One line of JSON.")
def show(client: SyncClient, group: str, entry: str | None, is_json: bool) -> None:
    """Show a cron group, or one of its entries.

    A group comes with its entries, and an entry with the job that it enqueues.
    """
    handle = client.cron(group)
    named = _named(group, entry)
    shown = found(lambda: handle.get() if entry is None else handle.entry(entry).get(), "reading the cron", named)
    if is_json:
        click.echo(as_json(shown))
    else:
        click.echo("\n".join(_description(shown, SystemClock().wall_ms())))


def _description(shown: CronGroup | CronEntry, now: int) -> Iterator[str]:
    fields = plain(shown)
    if isinstance(shown, CronEntry):
        job = fields.pop("job")
        yield from lines_of(fields, now)
        yield "job"
        yield from indented(pretty(job))
        return
    yield from lines_of({name: value for name, value in fields.items() if name != "entries"}, now)
    yield ""
    rows = [_entry_row(shown, entry, now) for entry in shown.entries]
    yield from Table(_ENTRY_COLUMNS, terminal_width()).lines(rows)


def _group_row(group: CronGroup, now: int) -> list[str]:
    due = [entry.next_enqueue_at_ms for entry in group.entries if not entry.paused and entry.next_enqueue_at_ms]
    texts = (
        group.name,
        str(len(group.entries)),
        group.timezone or "",
        _next(group.paused, min(due, default=None), now),
    )
    return [printable(text) for text in texts]


def _entry_row(group: CronGroup, entry: CronEntry, now: int) -> list[str]:
    job, last = entry.template, entry.last_enqueue_at_ms
    texts = (
        entry.name,
        entry.expression,
        entry.timezone or "",
        job.queue,
        job.type,
        "never" if last is None else away(last, now),
        _next(group.paused or entry.paused, entry.next_enqueue_at_ms, now),
    )
    return [printable(text) for text in texts]


def _next(paused: bool, at: int | None, now: int) -> str:
    if paused:
        return "paused"
    return "never" if at is None else away(at, now)


# ── changing ─────────────────────────────────────────────────────────────────────────────────────────


@cron.command()
@with_client
@click.argument("group")
@click.argument("entry", required=False)
def pause(client: SyncClient, group: str, entry: str | None) -> None:
    """Let a cron group rest, or one of its entries.

    Times go by, and nothing is made up for when it is resumed.
    """
    found(_handle(client, group, entry).pause, "pausing the cron", _named(group, entry))
    click.echo(f"Paused {printable(_named(group, entry))}.")


@cron.command()
@with_client
@click.argument("group")
@click.argument("entry", required=False)
def resume(client: SyncClient, group: str, entry: str | None) -> None:
    """Let a cron group go on, or one of its entries.

    An entry rests for as long as it is paused itself, or its group is.
    """
    found(_handle(client, group, entry).resume, "resuming the cron", _named(group, entry))
    click.echo(f"Resumed {printable(_named(group, entry))}.")


@cron.command()
@with_client
@click.argument("group")
@click.argument("entry", required=False)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def delete(client: SyncClient, group: str, entry: str | None, yes: bool) -> None:
    """Delete a cron group with its entries, or one of its entries.

    Jobs that are enqueued already stay.
    """
    named = _named(group, entry)
    if not yes:
        ask(f"Delete {printable(named)}?", "delete a cron")
    found(_handle(client, group, entry).delete, "deleting the cron", named)
    click.echo(f"Deleted {printable(named)}.")


def _handle(client: SyncClient, group: str, entry: str | None) -> SyncCronHandle | SyncCronEntryHandle:
    handle = client.cron(group)
    return handle if entry is None else handle.entry(entry)


def _named(group: str, entry: str | None) -> str:
    return f"cron group {group}" if entry is None else f"entry {entry} of cron group {group}"


# ── times ────────────────────────────────────────────────────────────────────────────────────────────


def _schedule(text: str) -> Schedule:
    try:
        return parse(text)
    except BadRequest as exc:
        raise click.BadParameter(str(exc)) from exc


def _zone(name: str) -> tzinfo:
    try:
        return zones.zone(name)
    except BadRequest as exc:
        raise click.BadParameter(f"{exc}; write an IANA name such as Europe/London") from exc


@cron.command("next")
@click.argument("schedule", metavar="EXPRESSION", type=_schedule)
@click.option("--tz", "zone", type=_zone, metavar="ZONE", help="Whose clocks are meant. [default: this machine's]")
@click.option(
    "-n", "number", type=click.IntRange(1, _MOST_TIMES), default=10, show_default=True, help="How many times."
)
@click.option("--after", type=instant, default="now", show_default=True, metavar="INSTANT", help="From when on.")
@click.option("--json", "is_json", is_flag=True, help="A line of JSON for each time.")
def next_times(schedule: Schedule, zone: tzinfo | None, number: int, after: datetime, is_json: bool) -> None:
    """Show when an expression is due, without asking a server.

    Write the expression in quotes: '0 3 * * MON-FRI'.
    """
    zone = zone or zones.zone(None)
    now, is_due = SystemClock().wall_ms(), False
    for at in _times(schedule, zone, instant_ms("after", after), number):
        local, is_due = datetime.fromtimestamp(at / 1000, zone), True
        if is_json:
            click.echo(as_json({"at": at, "local": local.isoformat()}))
        else:
            click.echo(f"{local:%a %Y-%m-%d %H:%M:%S %z}  {away(at, now)}")
    if not is_due:
        click.echo("It is never due.", err=True)


def _times(schedule: Schedule, zone: tzinfo, at: int, number: int) -> Iterator[int]:
    for _ in range(number):
        due = schedule.next_after(at, zone)
        if due is None:
            return
        yield due
        at = due
