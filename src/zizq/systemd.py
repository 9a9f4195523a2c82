"""Tells systemd how the process is doing, by the protocol of sd_notify(3); any other service manager may speak it too.

Nothing is told where nobody asks for it, which is everywhere outside a unit with `Type=notify`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import MutableMapping

from zizq.clock import Clock, SystemClock

logger = logging.getLogger("zizq")

_PATIENCE_S = 0.25
"""How long a message may wait for room in the manager's queue; what is lost after that is logged."""
_MOST_CHARACTERS = 400
"""Of a status: it is a line for people."""


class Manager:
    """Who started this process, and wants to know how it is.

    Args:
        address: The datagram socket that it listens on, as a path or as `@` and an abstract name; None for nobody.
        alive_every_s: How often it wants to hear that the process lives, in seconds; None for never.
        clock: Says when a reload began.
    """

    def __init__(
        self, address: str | None = None, alive_every_s: float | None = None, clock: Clock | None = None
    ) -> None:
        self._address = address
        self._clock = clock or SystemClock()
        self._stops = False
        self.alive_every_s = alive_every_s

    def ready(self, status: str) -> None:
        """Say that the start, or a reload, is done."""
        self._tell("READY=1", _status(status))

    def status(self, status: str) -> None:
        """Say what goes on, for people; that is no news any more once the process stops."""
        if not self._stops:
            self._tell(_status(status))

    def reloading(self) -> None:
        """Say that settings are read anew; `ready` says that they are."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={int(self._clock.mono_s() * 1_000_000)}")

    def stopping(self, status: str) -> None:
        """Say that the end has begun."""
        self._stops = True
        self._tell("STOPPING=1", _status(status))

    def alive(self) -> None:
        """Say that the process lives."""
        self._tell("WATCHDOG=1")

    async def keep_alive(self) -> None:
        """Say so as often as is wanted, for as long as the event loop turns."""
        while self.alive_every_s is not None:
            self.alive()
            await asyncio.sleep(self.alive_every_s)

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        place = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.settimeout(_PATIENCE_S)
                out.sendto("\n".join(lines).encode(), place)
        except OSError as error:
            logger.warning(
                "the service manager was not told", extra={"fields": {"what": lines[0], "error": str(error)}}
            )


def manager_of(environment: MutableMapping[str, str], pid: int) -> Manager:
    """The service manager that an environment names, and that is forgotten there.

    What this process starts, and the HTTP server within it, which would speak up as well, must not speak for it.

    Args:
        environment: Variables; `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are taken out of them.
        pid: Of this process.
    """
    address = environment.pop("NOTIFY_SOCKET", "")
    usec, watched = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return Manager()
    is_watched = usec.isdecimal() and int(usec) > 0 and watched in ("", str(pid))
    # Twice within the time that it waits, as sd_watchdog_enabled(3) advises.
    return Manager(address, int(usec) / 2_000_000 if is_watched else None)


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())[:_MOST_CHARACTERS]}"
