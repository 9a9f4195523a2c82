"""From a store's address to a store: the only file that names the adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from zizq.clock import Clock, Dice, SharedClock, SystemDice
from zizq.engine.budgets import MAX_BUDGETS
from zizq.errors import ConfigError
from zizq.policy import Defaults
from zizq.store.base import CommitMode, Store
from zizq.store.contents import Sum
from zizq.store.copying import copy
from zizq.store.facts import DatabaseFacts, StoreFacts
from zizq.store.memory import MemoryStore
from zizq.store.url import StoreUrl

if TYPE_CHECKING:
    from zizq.store.findings import Checked
    from zizq.store.postgres.migrating import Migrated
    from zizq.store.sqlite.restoring import Restoring


@dataclass(frozen=True)
class StoreOptions:
    """How a store behaves, whichever it is.

    Args:
        defaults: What jobs get where they say nothing.
        enqueue_mode: The commit mode of enqueues.
        default_mode: The commit mode of all other writes.
        cache_bytes: Memory for pages of the database file.
        enqueue_batch: How many enqueue calls share a commit at most.
        complete_batch: How many other calls share a commit at most.
        max_budgets: How many budgets there may be.
    """

    defaults: Defaults = field(default_factory=Defaults)
    enqueue_mode: CommitMode = CommitMode.FSYNC
    default_mode: CommitMode = CommitMode.BUFFERED
    cache_bytes: int = 8 * 2**20
    enqueue_batch: int = 1000
    complete_batch: int = 1000
    max_budgets: int = MAX_BUDGETS


def make_store(place: Path | StoreUrl | None, options: StoreOptions, dice: Dice, clock: Clock | None = None) -> Store:
    """A store that is not open yet.

    Args:
        place: The folder of an embedded store, made when it is missing; the URL of a database; None keeps everything in
            memory.
        options: How it behaves.
        dice: Places retries inside their jitter.
        clock: The time of its server; one that is shared hears of that of a database.

    Raises:
        ConfigError: When the extra that the store needs is not installed.
    """
    if place is None:
        return MemoryStore(options.defaults, dice, options.max_budgets)
    if isinstance(place, StoreUrl):
        return _make_postgres(place, options, dice, clock)
    try:
        from zizq.store.sqlite.store import SqliteStore
    except ModuleNotFoundError as error:
        raise _needs(error) from error
    return SqliteStore(
        place,
        options.defaults,
        dice,
        enqueue_mode=options.enqueue_mode,
        default_mode=options.default_mode,
        cache_bytes=options.cache_bytes,
        enqueue_batch=options.enqueue_batch,
        complete_batch=options.complete_batch,
        max_budgets=options.max_budgets,
    )


def _make_postgres(url: StoreUrl, options: StoreOptions, dice: Dice, clock: Clock | None) -> Store:
    try:
        from zizq.store.postgres.store import PostgresStore
    except ModuleNotFoundError as error:
        raise _lacks(error) from error
    return PostgresStore(
        url.dsn,
        options.defaults,
        dice,
        enqueue_mode=options.enqueue_mode,
        default_mode=options.default_mode,
        max_budgets=options.max_budgets,
        prepared=url.prepared,
        clock=clock if isinstance(clock, SharedClock) else None,
    )


async def migrate_store(url: StoreUrl, *, dry_run: bool) -> Migrated:
    """Make the tables of a database, or bring them to the form that this program knows.

    Args:
        url: Where it is.
        dry_run: Only say what that would do.

    Raises:
        ConfigError: When it cannot be reached or is newer than this program, or the extra that it needs is not
            installed.
        Unavailable: When the database refuses it; nothing is changed.
    """
    try:
        from zizq.store.postgres.migrating import migrate
    except ModuleNotFoundError as error:
        raise _lacks(error) from error
    return await migrate(url, dry_run=dry_run)


async def copy_store(source: Path | StoreUrl, target: Path | StoreUrl, progress: Callable[[str, Sum], None]) -> Sum:
    """Copy all that one store holds to another (`copying.copy`); returns what was copied.

    Args:
        source: The folder or URL of the store to copy.
        target: That of an empty one.
        progress: Hears what is done, and what was done so far of it.

    Raises:
        ConfigError: When one of them cannot be used, or the extra that it needs is not installed.
        DecodeError: When what arrived is not what was sent.
        Unavailable: When the target cannot be written.
    """
    dice, options = SystemDice(), StoreOptions()
    return await copy(make_store(source, options, dice), make_store(target, options, dice), progress)


def check_store(place: Path | StoreUrl, now: int, progress: Callable[[str], None] = lambda text: None) -> Checked:
    """Read a whole store and say what is wrong with it; nothing is changed.

    Args:
        place: Its folder, which no server may be using; or the URL of its database.
        now: The wall clock, in Unix milliseconds.
        progress: Hears what is being done.

    Raises:
        ConfigError: When there is no store, it is in use or of another version, or the extra that it needs is not
            installed.
        Unavailable: When the database cannot be read to the end.
    """
    if isinstance(place, StoreUrl):
        try:
            from zizq.store.postgres.check import check as check_database
        except ModuleNotFoundError as error:
            raise _lacks(error) from error
        return asyncio.run(check_database(place, now, progress))
    try:
        from zizq.store.sqlite.check import check
    except ModuleNotFoundError as error:
        raise _needs(error) from error
    return check(place, now, progress)


def survey_store(place: Path) -> StoreFacts | None:
    """What can be told of an embedded store from outside, beside a server that may run on it; None where there is none.

    Args:
        place: Its folder.

    Raises:
        ConfigError: When the extra that it needs is not installed.
    """
    try:
        from zizq.store.sqlite.survey import survey
    except ModuleNotFoundError as error:
        raise _needs(error) from error
    return survey(place)


async def survey_database(url: StoreUrl, clock: Clock) -> DatabaseFacts:
    """What can be told of a database that servers may share.

    Args:
        url: Where it is.
        clock: That of this machine.

    Raises:
        ConfigError: When the extra that it needs is not installed.
    """
    try:
        from zizq.store.postgres.survey import survey
    except ModuleNotFoundError as error:
        raise _lacks(error) from error
    return await survey(url, clock)


def restoring(place: Path, *, force: bool) -> Restoring:
    """A restore of a backup into the folder of an embedded store, to be done step by step.

    Args:
        place: The folder.
        force: Whether it may have content: then its data is kept aside.

    Raises:
        ConfigError: When the folder has content and may not, it cannot be used, or the extra that the store needs is
            not installed.
    """
    try:
        from zizq.store.sqlite.restoring import Restoring
    except ModuleNotFoundError as error:
        raise _needs(error) from error
    return Restoring(place, force=force)


def _needs(error: ModuleNotFoundError) -> ConfigError:
    return ConfigError(f"the embedded store needs {error.name}: pip install 'zizq[server]'")


def _lacks(error: ModuleNotFoundError) -> ConfigError:
    return ConfigError(f"a store on PostgreSQL needs {error.name}: pip install 'zizq[postgres]'")
