"""The time of the database, by which all its servers go."""

from __future__ import annotations

import logging

from zizq.store.postgres.parts import Parts

log = logging.getLogger("zizq.store")

NOW_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::float8"
"""The time, in Unix milliseconds, at the instant when it is asked for, and not when the transaction began."""
APART_MS = 1000
"""Clocks that are further apart than this are worth a line in the log."""


class Timed(Parts):
    """Tells the clock of the server what the time is."""

    _is_apart = False

    async def _measure(self) -> None:
        """Ask the database for its time.

        Raises:
            Unavailable: When it does not answer.
        """
        clock = self._clock
        if clock is None:
            return
        async with self._db.reading() as db:
            asked_s = clock.mono_s()
            wall_ms = await db.fetchval(f"SELECT {NOW_MS}")
            clock.heard(asked_s, clock.mono_s(), wall_ms)
        was_apart, self._is_apart = self._is_apart, abs(clock.own_lead_ms()) > APART_MS
        if self._is_apart and not was_apart:
            log.warning(
                "the clock of this machine is not that of the database, which counts",
                extra={"fields": {"ahead_ms": clock.own_lead_ms()}},
            )
