"""The server as a process: its endpoints, its signals, and what it tells."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from zizq.errors import ConfigError
from zizq.server import descriptors
from zizq.server.app import App
from zizq.server.net.endpoint import Endpoint
from zizq.server.settings import Settings
from zizq.systemd import Manager, manager_of

log = logging.getLogger("zizq.serve")

SWITCH_INTERVAL_S = 0.0005
"""How long a busy thread keeps the interpreter from the others. At the default, 5 ms, the writer waits that long for
its turn beside a busy event loop, at every statement."""
GC_THRESHOLDS = (50_000, 20, 50)
"""Allocations before the garbage collector looks. Jobs are not tracked by it and requests leave no cycles, so at the
default, 700, it searches the windows again and again for nothing: 3 % of the time, and pauses."""


@asynccontextmanager
async def listening(settings: Settings, app: App) -> AsyncIterator[dict[str, Endpoint]]:
    """Serve an application that was started, on HTTP/1.1 and HTTP/2, for as long as the block lasts.

    Yields what is served by its name: `primary`, and `admin` where that is wanted. At the end take streams end cleanly
    and other requests may finish within the shutdown timeout.

    Raises:
        ConfigError: When an address cannot be listened on, or a certificate is wrong.
    """
    wanted = [Endpoint(settings.primary, app.asgi, settings)]
    if not settings.no_admin:
        wanted.append(Endpoint(settings.admin, app.admin, settings))
    started: dict[str, Endpoint] = {}
    try:
        for endpoint in wanted:
            await endpoint.start()
            started[endpoint.api] = endpoint
        yield started
    finally:
        for endpoint in started.values():
            endpoint.stop_soon()
        app.end_streams()
        await asyncio.gather(*(endpoint.stopped() for endpoint in started.values()))


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; a second one ends the process at once, as a crash would.

    Raises:
        ConfigError: When the store cannot be opened or the address cannot be listened on.
    """
    manager = manager_of(os.environ, os.getpid())
    descriptors.raise_limit()
    descriptors.warn_if_short(settings.max_connections)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        import uvloop
    except ModuleNotFoundError:
        asyncio.run(_serve(settings, manager))
    else:
        uvloop.run(_serve(settings, manager))


async def _serve(settings: Settings, manager: Manager) -> None:
    stopped, hung_up = _stop_on_signals(), _note_hang_ups()
    app = App(settings)
    manager.status("opening the store")
    await app.start()
    living = asyncio.create_task(manager.keep_alive())
    try:
        log.info("store opened", extra={"fields": {"store": str(settings.place)}})
        async with listening(settings, app) as endpoints:
            for api, one in endpoints.items():
                log.info("listening", extra={"fields": {"api": api, "addr": one.addr, "scheme": one.scheme}})
                _tell(f"Listening on {one.url} ({api})")
            warn_of_exposure(settings)
            status = "listening on " + ", ".join(f"{one.url} ({api})" for api, one in endpoints.items())
            manager.ready(status)
            reloading = asyncio.create_task(_reload_on(hung_up, endpoints.values(), manager, status))
            await stopped.wait()
            reloading.cancel()
            streams = app.broker.stream_count()
            manager.stopping(f"stopping: {streams} take streams end, open requests may finish")
            log.info("stopping", extra={"fields": {"streams": streams}})
    finally:
        await app.stop()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        living.cancel()
    log.info("stopped")
    _tell("Server stopped.")


def warn_of_exposure(settings: Settings) -> None:
    """Say in the log where the network can read tokens, or do everything without any."""
    for address in (settings.primary, settings.admin):
        if address.is_local or (address.api == "admin" and settings.no_admin):
            continue
        fields = {"api": address.api, "host": address.host}
        if settings.auth == "tokens" and address.tls_cert is None:
            log.warning("tokens travel in the clear: serve TLS, here or by a proxy", extra={"fields": fields})
        if settings.auth == "off" and address.tls_client_ca is None:
            log.info("whoever reaches this address may do everything: see --auth", extra={"fields": fields})


def _stop_on_signals() -> asyncio.Event:
    """An event that the first SIGINT or SIGTERM sets; the second ends the process."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopped.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            # Not Python's own handler of SIGINT, whose exception would wait for all that is still open.
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    return stopped


def _note_hang_ups() -> asyncio.Event:
    """An event that SIGHUP sets; from now on that signal does not end the process.

    Python's own handler, for that of the event loop goes with the loop, before the process has ended.
    """
    hung_up = asyncio.Event()
    loop = asyncio.get_running_loop()
    signal.signal(signal.SIGHUP, lambda number, frame: loop.call_soon_threadsafe(hung_up.set))
    return hung_up


async def _reload_on(hung_up: asyncio.Event, endpoints: Collection[Endpoint], manager: Manager, status: str) -> None:
    """Read certificates anew whenever SIGHUP comes; signals that come meanwhile are one."""
    while await hung_up.wait():
        hung_up.clear()
        manager.reloading()
        for endpoint in endpoints:
            fields = {"api": endpoint.api}
            try:
                log.info("certificates reloaded" if await endpoint.reload() else "nothing to reload",
                         extra={"fields": fields})  # fmt: skip
            except ConfigError as error:
                log.error("certificates not reloaded", extra={"fields": fields | {"error": str(error)}})  # noqa: TRY400
        # Also after an error: those from before are in force.
        manager.ready(status)


def _tell(text: str) -> None:
    """Say it to a person; programs read the log."""
    if sys.stderr.isatty():
        sys.stderr.write(text + "\n")
