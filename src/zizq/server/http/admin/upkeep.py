"""Handlers of backups and compaction (protocol.md#10)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from zizq.server.http.admin.answers import Routes, refuse
from zizq.server.http.exchange import NO_CONTENT, Scope, Send, respond
from zizq.server.upkeep import Upkeep
from zizq.wire import operations as op

STALL_S = 300
"""Seconds after which a client that takes no more of a backup is cut off: its files take room, and no other is made."""


class UpkeepHandlers:
    """The calls that look after the store."""

    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep

    @property
    def routes(self) -> Routes:
        """Which of them does what."""
        return {
            ("POST", "/backup"): (self._backup, op.Scope.ADMIN),
            ("POST", "/compact"): (self._compact, op.Scope.ADMIN),
        }

    async def _backup(self, scope: Scope, send: Send) -> int:
        """POST /backup: the whole store, while it is in use."""
        made = False
        try:
            async with self._upkeep.backup() as pieces:
                made = True
                await _stream(pieces, send)
        except Exception as error:
            if made:
                # The status is out already. A stream that breaks off tells the client.
                raise
            return await refuse(error, "backup failed", send)
        # Only now: who has heard the end may leave, and may ask for the next.
        await send({"type": "http.response.body", "body": b""})
        return 200

    async def _compact(self, scope: Scope, send: Send) -> int:
        """POST /compact: answers when it is done."""
        try:
            await self._upkeep.compact()
        except Exception as error:
            return await refuse(error, "compact failed", send)
        await respond(send, NO_CONTENT)
        return NO_CONTENT.status


async def _stream(pieces: AsyncIterator[bytes], send: Send) -> None:
    headers = [
        (b"content-type", b"application/gzip"),
        (b"content-disposition", b'attachment; filename="backup.tar.gz"'),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for piece in pieces:
        async with asyncio.timeout(STALL_S):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
