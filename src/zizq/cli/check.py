"""`zizq check`: prove that a store is whole."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from zizq import words
from zizq.cli.root import other_store_option
from zizq.cli.texts import count_of
from zizq.cli.waiting import waiting
from zizq.clock import SystemClock
from zizq.server.settings import Settings, variable_of
from zizq.store.opening import check_store
from zizq.store.url import StoreUrl
from zizq.words import printable


@click.command()
@click.option(
    "--root-dir",
    type=click.Path(path_type=Path),
    envvar=variable_of("root_dir"),
    show_envvar=True,
    default=Settings.root_dir,
    show_default=True,
    help="Folder of the store.",
)
@other_store_option
@click.pass_context
def check(ctx: click.Context, root_dir: Path, store: StoreUrl | None) -> None:
    """Read a whole store and prove that it is in order; nothing is changed.

    No server may be using a store in a folder; beside one in a database they may run on. Whatever is not in order is
    told in a line of its own, and the exit status is 1.
    """
    # A folder that is named here wins over a database that the environment names.
    is_named = ctx.get_parameter_source("root_dir") in (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)
    by_flag = ctx.get_parameter_source("store") is ParameterSource.COMMANDLINE
    place = root_dir if store is None or (is_named and not by_flag) else store
    doing = ["opening the store"]
    now = SystemClock().wall_ms()
    checked = waiting(lambda: check_store(place, now, lambda text: doing.__setitem__(0, text)), lambda: doing[0])
    for line in checked.violations:
        click.echo(printable(line))
    if checked.found:
        raise click.ClickException(f"the store in {place} is damaged: {count_of(checked.found, 'violation')}")
    by_status = ", ".join(f"{words.count(number)} {status}" for status, number in checked.jobs.items())
    total = count_of(sum(checked.jobs.values()))
    click.echo(f"The store in {place} is whole: {total} ({by_status}), {words.size(checked.size)}.")
    if checked.unfinished:
        click.echo(f"A change has still to reach {count_of(checked.unfinished)}: the server goes on with it.")
