"""`zizq migrate`: bring a database to the form that this program knows."""

from __future__ import annotations

import asyncio

import click

from zizq.cli.root import store_option
from zizq.store.opening import migrate_store
from zizq.store.url import StoreUrl


@click.command()
@store_option
@click.option("--dry-run", is_flag=True, help="Print the SQL that would be run, and change nothing.")
def migrate(store: StoreUrl, dry_run: bool) -> None:
    """Make the tables of a store on PostgreSQL, or bring them to the form that this zizq knows.

    It is one transaction, and servers may run meanwhile. `zizq serve` makes the tables of an empty database by itself,
    and refuses to run on one of another form.
    """
    migrated = asyncio.run(migrate_store(store, dry_run=dry_run))
    if not migrated.script:
        click.echo(f"{store} is up to date: format {migrated.after}", err=True)
    elif dry_run:
        click.echo(f"Would bring {store} from format {migrated.before} to {migrated.after} by:", err=True)
        click.echo(migrated.script)
    else:
        click.echo(f"Brought {store} from format {migrated.before} to {migrated.after}", err=True)
