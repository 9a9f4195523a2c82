"""Connections to one PostgreSQL database, and what its errors mean.

Every statement runs inside a transaction, and none expects anything of the session: a pooler in transaction mode may
stand between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from asyncpg.pool import PoolConnectionProxy

from zizq.errors import ConfigError, Unavailable, Unprocessable
from zizq.store.meter import Meter

if TYPE_CHECKING:
    # Generic in their stubs alone.
    Transaction: TypeAlias = PoolConnectionProxy[Any]
    Connection: TypeAlias = asyncpg.Connection[Any]
else:
    Transaction, Connection = PoolConnectionProxy, asyncpg.Connection
CONNECTIONS = 10
"""How many a server has at most; a database takes a hundred as it comes."""
SPARE = 5
"""How many of them are kept for what must not wait behind long reads: takes, what settles jobs, the lease."""
PATIENCE_S = 10.0
"""The longest that a statement may take, or the wait for a connection: beyond it the call is refused."""
ABANDONED_S = 60
"""How long a transaction may stay without a word from us before the database ends it: of a server whose machine is gone
it does not hear otherwise, and what is locked stays so."""
LONG_S = 3600.0
"""The same of upkeep, which other calls do not wait for."""
AT_ODDS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""Two transactions were in each other's way, and this one was undone: it may be tried again."""
UNFIT = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)
"""What was to be written is too large for its place; all else goes on."""
TROUBLE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What is raised where the database cannot be reached, or cannot do it."""
ATTEMPTS = 5
"""How often a transaction is begun that others are in the way of."""
_WAYS = ("seqscan", "bitmapscan", "hashjoin", "mergejoin")
_SORTS = ("sort", "incremental_sort")
_BEGIN_READING = "; ".join(
    [
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        # What is asked changes much: a plan that was good for one question is not for the next.
        "SET LOCAL plan_cache_mode = force_custom_plan",
        # A part of one index is in order: what another one gives is not to be sorted, whatever the planner guesses.
        "SET LOCAL enable_sort = off",
        "SET LOCAL enable_incremental_sort = off",
        "SET LOCAL jit = off",
        # Room for the set of all jobs in flight.
        "SET LOCAL work_mem = '64MB'",
    ]
)
_WRITES = SessionAttribute.read_write
_IDLE = "idle_in_transaction_session_timeout"
T = TypeVar("T")


class AtOdds(Unavailable):
    """Another transaction was in the way, and everything is as before."""


class _Plain(Connection):
    """A connection that keeps nothing from one transaction to the next, so that there is nothing to put back."""

    def get_reset_query(self) -> str:
        return ""


class Database:
    """A pool of connections.

    Args:
        url: Where the database is; several hosts may be named, of which the one that can write is taken.
        prepared: Whether statements may be prepared; not where a pooler shares sessions.
    """

    def __init__(self, url: str, *, prepared: bool = True) -> None:
        self._url = url
        self._cache = 200 if prepared else 0
        self._pool: asyncpg.Pool[Any] | None = None
        self._room = asyncio.Semaphore(CONNECTIONS - SPARE)
        self.meter = Meter()
        self.trouble: str | None = None
        """Why the last write was refused; None when writes succeed."""

    async def open(self) -> None:
        """Connect.

        Raises:
            ConfigError: When there is no such database, or it does not let us in.
        """
        settings = {"application_name": "zizq"} if self._cache else {}
        try:
            try:
                self._pool = await self._connect(settings | {_IDLE: f"{ABANDONED_S}s"})
            except asyncpg.PostgresError:
                # A pooler may refuse a setting that it does not know, and each in its own way.
                self._pool = await self._connect(settings)
        except (*TROUBLE, ValueError) as error:
            raise ConfigError(f"cannot reach the database: {error}: is it up, and is the address right?") from error

    async def _connect(self, settings: dict[str, str]) -> asyncpg.Pool[Any]:
        return await asyncpg.create_pool(
            self._url,
            min_size=1,
            max_size=CONNECTIONS,
            command_timeout=PATIENCE_S,
            timeout=PATIENCE_S,
            target_session_attrs=_WRITES,
            statement_cache_size=self._cache,
            connection_class=_Plain,
            server_settings=settings,
        )

    async def close(self) -> None:
        """Give up all connections; a second call does nothing."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Transaction]:
        """A transaction that sees one instant throughout, and changes nothing.

        Raises:
            Unavailable: When the database cannot be asked.
        """
        async with self._in_room(), self._transaction(_BEGIN_READING) as db:
            yield db

    @asynccontextmanager
    async def writing(
        self, *, durable: bool, hot: bool = False, in_order: bool = False, calls: int = 1
    ) -> AsyncIterator[Transaction]:
        """A transaction; it is committed where the block ends well.

        Args:
            durable: Whether it is to be safe from a power cut when it is over. Where not, the last moments may be lost.
            hot: Whether its statements find their rows by indexes, whatever the planner guesses. It does not wait for
                those that do not.
            in_order: Whether they also read them in the order of these indexes, and sort nothing.
            calls: How many calls share it.

        Raises:
            Unavailable: When the database cannot write; nothing was changed, or, where the connection broke in the very
                commit, all of it.
        """
        began_us = self.meter.now_us()
        off = [f"enable_{way}" for way in (*(_WAYS if hot else ()), *(_SORTS if in_order else ()))]
        off += ["jit"] if durable else ["jit", "synchronous_commit"]
        begin = "; ".join(["BEGIN", *(f"SET LOCAL {name} = off" for name in off)])
        async with nullcontext() if hot else self._in_room(), self._transaction(begin) as db:
            yield db
        self.meter.note(began_us, calls, durable)

    async def copy(self, table: str, columns: Sequence[str], records: Sequence[Sequence[Any]], calls: int = 1) -> None:
        """Add rows to a table, in a transaction of their own that is safe from a power cut when it is over.

        It is one statement, and so a transaction without a word before and after it, each of which would be a message
        to the database and back.

        Args:
            table: Its name in our schema.
            columns: What the records have.
            records: The rows.
            calls: How many calls share it.

        Raises:
            Unavailable: When the database cannot write; as for `writing`.
        """
        began_us = self.meter.now_us()
        async with self._connection() as db:
            await db.copy_records_to_table(table, schema_name="zizq", columns=columns, records=records)
        self.trouble = None
        self.meter.note(began_us, calls, durable=True)

    async def notify(self, channel: str, text: str) -> None:
        """Send a notification, in a transaction of its own; it waits for no disk, since it changes nothing.

        Raises:
            Unavailable: When the database cannot do it.
        """
        async with self._connection() as db:
            await db.execute("SELECT pg_notify($1, $2)", channel, text)

    @asynccontextmanager
    async def _in_room(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._room.acquire()
        except TimeoutError as error:
            raise Unavailable(f"too much is asked of the database already: try again in {PATIENCE_S:.0f} s") from error
        try:
            yield
        finally:
            self._room.release()

    async def again(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what is one transaction, and do it again where others were in its way.

        Raises:
            Unavailable: When they are in its way every time, or the database cannot do it; nothing was changed.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return await work()
            except AtOdds:
                continue
        return await work()

    async def alone(self, statement: str) -> None:
        """Do a statement that cannot be in a transaction, and may take its time.

        Raises:
            Unavailable: When the database cannot do it.
        """
        if self._pool is None:
            raise Unavailable("the store is closed")
        try:
            async with self._pool.acquire(timeout=PATIENCE_S) as db:
                await db.execute(statement, timeout=LONG_S)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Unavailable(f"the database cannot do it just now ({type(error).__name__}: {error})") from error

    @asynccontextmanager
    async def listening(self, channel: str, heard: Callable[[str], None]) -> AsyncIterator[asyncio.Event]:
        """A connection of its own on which notifications are heard; the event is set when it has ended.

        Raises:
            Unavailable: When there is none to be had.
        """
        ended = asyncio.Event()
        try:
            db: Connection = await asyncpg.connect(
                self._url,
                timeout=PATIENCE_S,
                command_timeout=PATIENCE_S,
                statement_cache_size=0,
                target_session_attrs=_WRITES,
            )
        except (*TROUBLE, ValueError) as error:
            raise Unavailable(f"cannot listen ({error})") from error
        try:
            db.add_termination_listener(lambda _: ended.set())
            await db.add_listener(channel, lambda connection, pid, name, payload: heard(str(payload)))
            yield ended
        except TROUBLE as error:
            raise Unavailable(f"cannot listen ({error})") from error
        finally:
            db.terminate()

    @asynccontextmanager
    async def _transaction(self, begin: str) -> AsyncIterator[Transaction]:
        async with self._connection() as db:
            await db.execute(begin)
            yield db
            await db.execute("COMMIT")
        if begin is not _BEGIN_READING:
            self.trouble = None

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Transaction]:
        """A connection; what was begun on it ends where something is raised, and the error is told as ours."""
        if self._pool is None:
            raise Unavailable("the store is closed")
        try:
            async with self._pool.acquire(timeout=PATIENCE_S) as db:
                try:
                    yield db
                except BaseException as error:
                    await _undo(db, error)
                    raise
        except AT_ODDS as error:
            raise AtOdds(f"others change the same jobs just now ({error}): try again") from error
        except UNFIT as error:
            raise Unprocessable(f"the database cannot hold it: {str(error).splitlines()[0]}") from error
        except TROUBLE as error:
            self.trouble = f"{type(error).__name__}: {error}"
            raise Unavailable(f"the database cannot do it just now ({self.trouble})") from error


async def _undo(db: Transaction, error: BaseException) -> None:
    """End a transaction in which something was raised. A connection that does not answer is given up."""
    try:
        if isinstance(error, TimeoutError):
            db.terminate()
        else:
            await asyncio.shield(db.execute("ROLLBACK"))
    except TROUBLE:
        # It may be gone already, and then the pool has it back.
        with suppress(asyncpg.InterfaceError):
            db.terminate()
