"""Waiting for answers: in a way that Ctrl-C ends at once, and that shows on a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from typing import TypeVar

import click

from zizq.cli.texts import count_of
from zizq.clock import SystemClock
from zizq.errors import NotFound
from zizq.words import printable

T = TypeVar("T")
_QUIET_S = 1.0
"""Seconds that pass before a wait is worth a word."""
_TICK_S = 0.2
_ERASE = "\r\x1b[K"


def waiting(call: Callable[[], T], text: str | Callable[[], str]) -> T:
    """The value of a call that may take long; on a terminal it says what goes on, and for how long.

    The call runs in a thread of its own, so that there is time for a word. Left behind by Ctrl-C, it goes on, and
    its answer is thrown away.

    Args:
        call: What to wait for.
        text: What goes on, such as `deleting 3 jobs`; where that changes meanwhile, what tells it.
    """
    outcome: Future[T] = Future()
    threading.Thread(target=_settle, args=(outcome, call), daemon=True).start()
    with _Line() as line:
        while not wait([outcome], _TICK_S if line.shows else None).done:
            line.say(text if isinstance(text, str) else text())
    return outcome.result()


def found(call: Callable[[], T], text: str, what: str) -> T:
    """The same, of a call about one thing that may not be there.

    Args:
        call: What to wait for.
        text: What goes on, such as `reading the job`.
        what: What it is about, such as `job 03fvmaj8q5po1huy5nd4xmi5f`.

    Raises:
        click.ClickException: When it is not there.
    """
    try:
        return waiting(call, text)
    except NotFound as exc:
        raise click.ClickException(f"there is no {printable(what)}") from exc


def paged(pages: Iterable[list[T]], done: str) -> Iterator[list[T]]:
    """Pages as they come; where they go to a file, the terminal counts the items.

    Args:
        pages: The pages, none of them empty.
        done: What has happened to the items, such as `listed`.
    """
    iterator, count = iter(pages), 0
    counts = sys.stderr.isatty() and not sys.stdout.isatty()
    while (page := waiting(lambda: next(iterator, None), "reading jobs")) is not None:
        yield page
        count += len(page)
        if counts:
            click.echo(f"{_ERASE}{count_of(count)} {done}", err=True, nl=False)
    if counts:
        click.echo(err=True)


def _settle(outcome: Future[T], call: Callable[[], T]) -> None:
    try:
        outcome.set_result(call())
    except BaseException as error:
        outcome.set_exception(error)


class _Line:
    """A line of the terminal that is written anew with the time, and is gone in the end."""

    def __init__(self) -> None:
        self.shows = sys.stderr.isatty()
        self._clock = SystemClock()
        self._began = self._clock.mono_s()
        self._written = False

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        if self._written:
            click.echo(_ERASE, err=True, nl=False)

    def say(self, text: str) -> None:
        """Show a text, once the wait has been long enough."""
        spent = self._clock.mono_s() - self._began
        if self.shows and spent >= _QUIET_S:
            click.echo(f"{_ERASE}{text}, {spent:.0f} s", err=True, nl=False)
            self._written = True
