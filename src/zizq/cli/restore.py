"""`zizq restore`: put a backup into the folder of a server that does not run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import click

from zizq.cli.progress import BUFFER_BYTES, Counted, bar
from zizq.cli.root import root_dir_option
from zizq.cli.texts import count_of
from zizq.cli.waiting import waiting
from zizq.clock import SystemClock
from zizq.store.opening import restoring
from zizq.words import printable

_SHOWN = 10


@click.command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@root_dir_option
@click.option("--force", is_flag=True, help="Restore into a folder that is not empty: its data is kept aside.")
@click.option("--skip-check", is_flag=True, help="Restore even a backup that is damaged inside.")
def restore(path: Path, root_dir: Path, force: bool, skip_check: bool) -> None:
    """Put the backup PATH into the folder of a server that does not run.

    It is unpacked beside what is there, checked as `zizq check` does it, and then moved to its place in one step.
    """
    now = SystemClock().wall_ms()
    with restoring(root_dir, force=force) as steps:
        with path.open("rb") as file, bar(path.stat().st_size, "Unpacking") as shown:
            steps.unpack(io.BufferedReader(Counted(file, shown.update), BUFFER_BYTES))
        if not skip_check:
            doing = ["checking"]
            flaws = waiting(lambda: steps.check(now, lambda text: doing.__setitem__(0, text)), lambda: doing[0])
            _judge(flaws, path)
        aside = steps.replace(now)
    click.echo(f"Restored {path} to {root_dir}", err=True)
    if aside is not None:
        click.echo(f"The data that was there is in {aside}: delete it when you need it no more", err=True)


def _judge(flaws: Sequence[str], path: Path) -> None:
    """Refuse a backup that has flaws, and tell the first of them."""
    for flaw in flaws[:_SHOWN]:
        click.echo(printable(flaw), err=True)
    if flaws:
        raise click.ClickException(
            f"{path} is damaged: {count_of(len(flaws), 'violation')}; take another backup, or say --skip-check"
        )
