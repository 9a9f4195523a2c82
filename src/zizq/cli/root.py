"""The folder of the store, or its URL, for commands that work on it without a server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click

from zizq.cli.options import Command
from zizq.server.settings import Settings, variable_of
from zizq.store.url import StoreUrl


def root_dir_option(command: Command) -> Command:
    """Give a command the folder of the store; a flag, before or after its name, wins over the variable."""
    variable = variable_of("root_dir")

    def find(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path:
        return Path(value or root_dir_before(ctx) or os.environ.get(variable) or Settings.root_dir)

    text = f"Folder of the store. [env var: {variable}; default: {Settings.root_dir}]"
    return click.option("--root-dir", type=click.Path(path_type=Path), callback=find, help=text)(command)


def root_dir_before(ctx: click.Context) -> str | None:
    """What `zizq --root-dir` was given, before the name of the command."""
    found: str | None = ctx.find_root().params.get("root_dir")
    return found


def store_option(command: Command) -> Command:
    """Give a command the URL of a store, which it needs."""
    return _store_option(required=True)(command)


def other_store_option(command: Command) -> Command:
    """Give a command the URL of a store, in the place of its folder."""
    return _store_option(required=False)(command)


def _store_option(*, required: bool) -> Callable[[Command], Command]:
    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> StoreUrl | None:
        try:
            return None if value is None else StoreUrl(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return click.option(
        "--store",
        required=required,
        metavar="URL",
        callback=read,
        envvar=variable_of("store"),
        show_envvar=True,
        help="Database of the store, as postgresql://user@host/database.",
    )
