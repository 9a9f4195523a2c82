"""The options that say which jobs a command is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

from zizq.cli.options import Command, instant, names, span, whole_number
from zizq.client.query import SyncQuery
from zizq.client.sync import SyncClient
from zizq.errors import ConfigError
from zizq.job import Status


def _several(text: str) -> list[str]:
    """Names that must be there: an option with an empty variable of the shell must not mean every job."""
    found = names(text)
    if not found:
        raise click.BadParameter(f"{text!r} names nothing: leave the option out where any will do")
    return found


def _statuses(text: str) -> list[str]:
    found = _several(text)
    for name in found:
        if name not in list(Status):
            raise click.BadParameter(f"{name!r} is no status: choose from {', '.join(Status)}")
    return found


def _numbers(text: str) -> Any:
    return span(text, whole_number)


def _instants(text: str) -> Any:
    return span(text, instant)


def _listed(flags: str, convert: Callable[[str], list[str]], metavar: str, text: str) -> Callable[..., Any]:
    return click.option(
        *flags.split(), type=convert, metavar=metavar, multiple=True, help=f"{text}, repeated or with commas."
    )


_FILTERS = (
    _listed("--id", _several, "IDS", "Only these jobs"),
    _listed("--status -s", _statuses, "STATUSES", f"Only in these statuses ({', '.join(Status)})"),
    _listed("--queue -q", _several, "QUEUES", "Only from these queues"),
    _listed("--type -t", _several, "TYPES", "Only of these types"),
    click.option(
        "--priority", type=_numbers, metavar="A..B", help="Only of this priority, or these: 5, 0..9, 9.., ..9."
    ),
    click.option(
        "--ready-at",
        type=_instants,
        metavar="A..B",
        help="Only those that may run then: ..now, -1h.., 2030-01-31..2030-02-01.",
    ),
    click.option("--attempts", type=_numbers, metavar="A..B", help="Only those that failed so often: 0, 1.., ..3."),
    _listed("--budget budgets", _several, "KEYS", "Only those that draw on these budgets"),
    click.option("--filter", metavar="JQ", help="Only those whose payload meets a jq expression."),
)
_ORDER = (
    click.option(
        "--order",
        type=click.Choice(["asc", "desc"]),
        default="asc",
        show_default=True,
        help="Oldest or youngest first.",
    ),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="So many jobs at most."),
)
_LISTS = ("id", "status", "queue", "type", "budgets")
_WHERE = (*_LISTS, "priority", "ready_at", "attempts", "filter")


class Chosen:
    """The jobs that options name.

    Args:
        where: What the options say, by keyword of `Where`.
        order: By time of creation.
        limit: How many at most; None for all.
    """

    def __init__(self, where: dict[str, Any], order: str = "asc", limit: int | None = None) -> None:
        self.where = where
        self.limit = limit
        self._order: Any = order

    def among(self, ids: Sequence[str]) -> Chosen:
        """The same, for the jobs with these identifiers as well; none adds nothing."""
        where = {**self.where, "id": [*self.where.get("id", ()), *ids]} if ids else self.where
        return Chosen(where, self._order, self.limit)

    def query(self, client: SyncClient, **defaults: Any) -> SyncQuery:
        """The query for them.

        Args:
            client: Asks the server.
            **defaults: Conditions where the options say nothing.

        Raises:
            click.UsageError: When an option is out of bounds.
        """
        try:
            query = client.jobs(**{**defaults, **self.where}).order(self._order)
        except ConfigError as exc:
            raise click.UsageError(str(exc)) from exc
        return query if self.limit is None else query.limit(self.limit)


def choosing(*, ordered: bool) -> Callable[[Command], Command]:
    """Give a command the options that choose jobs, and what they say as `chosen`.

    Args:
        ordered: Whether there is an order and a limit.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(*args: Any, **options: Any) -> None:
            given = {name: options.pop(name) for name in _WHERE}
            order, limit = options.pop("order", "asc"), options.pop("limit", None)
            command(*args, chosen=Chosen(_where(given), order, limit), **options)

        for option in reversed((*_FILTERS, *(_ORDER if ordered else ()))):
            run = option(run)
        return run

    return decorate


def _where(given: dict[str, Any]) -> dict[str, Any]:
    """What was given, without the options that were not; an option that was repeated is one list."""
    lists = {name: [one for some in given[name] for one in some] for name in _LISTS}
    return {name: value for name, value in {**given, **lists}.items() if value is not None and value != []}
