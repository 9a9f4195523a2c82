"""Asking the person at the terminal before something is done that has no way back."""

from __future__ import annotations

import sys

import click


def check_terminal(action: str) -> None:
    """See to it that there is somebody to ask.

    Args:
        action: What is to be done, such as `delete jobs`.

    Raises:
        click.ClickException: When there is nobody.
    """
    if not sys.stdin.isatty():
        raise click.ClickException(f"there is no terminal to ask at: say --yes to {action} without asking")


def ask(question: str, action: str) -> None:
    """Go on only if the person says yes.

    Args:
        question: What to ask, such as `Delete 3 jobs?`.
        action: What is to be done, such as `delete jobs`.

    Raises:
        click.ClickException: When there is nobody to ask.
        click.Abort: When the answer is no.
    """
    check_terminal(action)
    click.confirm(question, abort=True, err=True)
