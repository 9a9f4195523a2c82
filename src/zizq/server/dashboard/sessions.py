"""Who is logged in: sessions in memory, and the tokens of forms that go with them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import NamedTuple

from zizq.clock import Clock
from zizq.server.access import Caller

MOST = 256
"""Sessions at a time; with one more, the oldest is over."""
LASTS_S = 12 * 3600
"""How long a session is good for, whatever is done in it: a working day."""
_BYTES = 32


class _Session(NamedTuple):
    caller: Caller
    ends_at_s: float


class Sessions:
    """Those who showed a token, and have a cookie instead since.

    A session is found by the hash of its identifier: how long that takes tells nothing of the identifier.

    Args:
        clock: Tells when they are over.
        random: Gives so many random bytes, which nobody can foresee.
    """

    def __init__(self, clock: Clock, random: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random = random
        self._sessions: dict[bytes, _Session] = {}
        self._key = random(_BYTES)

    def begin(self, caller: Caller) -> str:
        """Begin a session; returns its identifier, which is a secret."""
        if len(self._sessions) >= MOST:
            del self._sessions[next(iter(self._sessions))]
        session_id = self._random(_BYTES).hex()
        self._sessions[_hash(session_id)] = _Session(caller, self._clock.mono_s() + LASTS_S)
        return session_id

    def find(self, session_id: str) -> Caller | None:
        """Whose session it is; None when there is none, or it is over."""
        session = self._sessions.get(_hash(session_id))
        if session is None:
            return None
        if self._clock.mono_s() >= session.ends_at_s:
            self.end(session_id)
            return None
        return session.caller

    def end(self, session_id: str) -> None:
        """End a session; one that is not there is over already."""
        self._sessions.pop(_hash(session_id), None)

    def form_token(self, holder: str) -> str:
        """What forms carry to show that they came from a page of this process, made for this holder."""
        return hmac.new(self._key, holder.encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, token: str, holder: str) -> bool:
        """Whether a form carries it."""
        return hmac.compare_digest(token.encode(), self.form_token(holder).encode())


def _hash(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode()).digest()
