"""The server as a whole: builds all parts, and owns the order in which they start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from zizq.clock import Clock, Dice, SharedClock, SystemClock, SystemDice
from zizq.server.auth import Auth
from zizq.server.bindings import Bindings
from zizq.server.broker import Broker
from zizq.server.budgets import Budgets
from zizq.server.catalog import Catalog
from zizq.server.crontab import Crontab
from zizq.server.dashboard.opening import make_dashboard
from zizq.server.duties import Promoter, Reaper, Ticker, Timekeeper
from zizq.server.http.admin.api import AdminApi
from zizq.server.http.admin.events import EventHandler
from zizq.server.http.admin.metrics import MetricsHandler
from zizq.server.http.api import Api
from zizq.server.http.departures import Departures
from zizq.server.http.load import Load
from zizq.server.inbox import Mover
from zizq.server.insight.feed import Feed
from zizq.server.insight.keeping import Keeping
from zizq.server.insight.service import Insights
from zizq.server.jq import Jq
from zizq.server.payloads import Payloads
from zizq.server.settings import Settings
from zizq.server.upkeep import Upkeep
from zizq.store.base import Store
from zizq.store.inbox import Inbox
from zizq.store.opening import make_store
from zizq.zones import zone

if TYPE_CHECKING:
    from zizq.server.dashboard.app import Dashboard

HISTORY = "insight.history"
"""The file in the folder of the server in which the history outlasts it."""


class App:
    """A server without sockets: an ASGI application, and the duties behind it.

    Args:
        settings: The options.
        store: Where jobs rest; None for where the settings say.
        clock: The time for everything; None for the database's where the settings name one, and else the machine's.
        dice: The randomness for everything.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store | None = None,
        clock: Clock | None = None,
        dice: Dice | None = None,
    ) -> None:
        clock, dice = clock or _clock(settings), dice or SystemDice()
        # Beside a database the folder may be anywhere, and gone tomorrow.
        history = settings.root_dir / HISTORY if store is None and settings.store is None else None
        store = store or make_store(settings.place, settings.store_options, dice, clock)
        self._jq = Jq(settings.filter_timeout, settings.filter_memory)
        self.broker = Broker(store, clock, dice, self._jq, settings.global_in_flight_limit)
        self.catalog = Catalog(store, clock, self._jq)
        budgets = Budgets(store, clock)
        local = zone(None)
        self.crontab = Crontab(store, self.broker, clock, lambda name: local if name is None else zone(name))
        self._departures = Departures()
        self._payloads = Payloads()
        load = Load(
            clock, streams=settings.max_streams, requests=settings.max_requests, memory=settings.max_body_memory
        )
        self.auth = Auth(settings.tokens_path if settings.auth == "tokens" else None, clock)
        self.asgi = Api(
            self.broker,
            self.catalog,
            self.crontab,
            budgets,
            Bindings(store, clock, self.catalog, budgets),
            self.auth,
            clock,
            self._departures,
            version("zizq"),
            heartbeat_ms=settings.heartbeat_interval,
            max_body=settings.max_body_size,
            load=load,
            payloads=self._payloads,
            may_reset=settings.reset == "enabled",
        )
        self.upkeep = Upkeep(store, clock)
        self.insights = Insights(self.broker, store, self.crontab, clock, version("zizq"), Keeping(history))
        self.dashboard = self._make_dashboard(settings, clock)
        # Who must show a token or a certificate is safe from pages of foreign names: those have no cookies of ours.
        self.admin = self._make_admin(store, clock, settings.admin.is_local and not self.auth.is_on)
        self._works = self._make_works(settings, store, clock)
        self._duties: list[asyncio.Task[None]] = []

    def _make_dashboard(self, settings: Settings, clock: Clock) -> Dashboard | None:
        return make_dashboard(settings, self.insights, self.catalog, self.crontab, self.catalog, self.auth, clock)

    def _make_admin(self, store: Store, clock: Clock, local_only: bool) -> AdminApi:
        events = EventHandler(lambda tell: Feed(self.insights, store, clock, tell), self.catalog, clock, self.auth)
        metrics = MetricsHandler(self.insights, self.asgi.requests, self.auth.refused)
        return AdminApi(
            self.upkeep, self.insights, metrics, events, clock, self._departures, self.auth, self.dashboard,
            local_only=local_only,
        )  # fmt: skip

    def _make_works(
        self, settings: Settings, store: Store, clock: Clock
    ) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What goes on beside the requests."""
        works = [
            Promoter(self.broker, clock, settings.scheduler_batch_size).run,
            Ticker(self.crontab, clock, settings.scheduler_batch_size).run,
            Timekeeper(self.broker, clock).run,
            Reaper(self.broker, settings.reaper_check_interval).run,
            self.insights.run,
        ]
        if isinstance(store, Inbox):
            works.append(Mover(store, self.broker, self._payloads, clock).run)
        return works

    async def start(self) -> None:
        """Open the store, then begin the duties; requests may be served after that.

        Raises:
            ConfigError: When the store cannot be opened, or the file of tokens cannot be read.
        """
        self.auth.start()
        await self.broker.start()
        self._departures.open()
        self._duties = [asyncio.create_task(work()) for work in self._works]

    def end_streams(self) -> None:
        """Ask all take streams to give their jobs back and end, and end what never does; other requests go on."""
        self.broker.close_streams()
        self.admin.end_events()
        if self.dashboard is not None:
            self.dashboard.close()

    async def stop(self) -> None:
        """End the duties and close the store; requests must have ended."""
        for duty in self._duties:
            duty.cancel()
        await asyncio.gather(*self._duties, return_exceptions=True)
        await self.insights.stop()
        self._departures.close()
        await self._jq.stop()
        await self._payloads.stop()
        await self.broker.stop()


def _clock(settings: Settings) -> Clock:
    """The time of a server: where others share its store, it is that of the database."""
    return SystemClock() if settings.store is None else SharedClock(SystemClock())
