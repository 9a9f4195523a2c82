"""What servers tell each other: which queues have ready jobs, and who is rid of some. Pure.

News are a hint and no more. They may be lost, and whoever hears none finds all of it by looking.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice

import msgspec

from zizq.engine.purse import Key
from zizq.engine.transitions import Cause

CHANNEL = "zizq"
MOST_BYTES = 7900
"""A notification has less than 8000."""


_SHORT = {"server": "s", "ready": "r", "freed": "f", "due": "d", "moved": "m", "lanes": "l", "budgets": "b"}


class Bulletin(msgspec.Struct, omit_defaults=True, rename=_SHORT):
    """One message.

    Args:
        server: Who says so: the fence of the server.
        ready: By queue, the first of the jobs that became ready.
        freed: The fences of servers of whose jobs some have been ended by others.
        due: When the next of the jobs is due that were scheduled, in Unix milliseconds.
        moved: What has happened to jobs at all.
        lanes: By lane, the first of the jobs that became ready and draw on budgets.
        budgets: Budgets that have tokens again, or shorter lines.
    """

    server: int
    ready: dict[str, Key] = {}
    freed: list[int] = []
    due: int | None = None
    moved: list[Cause] = []
    lanes: dict[str, Key] = {}
    budgets: list[str] = []

    @property
    def text(self) -> str:
        """As it is sent."""
        return _encode(self).decode()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Bulletin).decode


def read(text: str) -> Bulletin | None:
    """A message; None where it is none of ours."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


class News:
    """What has happened since the last bulletin."""

    def __init__(self) -> None:
        self.on_urgent: Callable[[], None] = lambda: None
        """Hears that somebody may wait for what there is to tell."""
        self.clear()

    def clear(self) -> None:
        """Nobody needs to hear it."""
        self._ready: dict[str, Key] = {}
        self._freed: set[int] = set()
        self._due: int | None = None
        self._moved: set[Cause] = set()
        self._lanes: dict[str, Key] = {}
        self._budgets: set[str] = set()

    @property
    def is_urgent(self) -> bool:
        """Whether somebody may wait for it."""
        return bool(self._ready or self._freed or self._budgets or self._due is not None)

    def __bool__(self) -> bool:
        return self.is_urgent or bool(self._moved)

    def ready(self, keys: Mapping[str, Key]) -> None:
        """Jobs became ready: by queue, the first of them."""
        for queue, key in keys.items():
            self._ready[queue] = min(self._ready.get(queue, key), key)
        self.on_urgent()

    def lanes(self, keys: Mapping[str, Key]) -> None:
        """Of jobs that became ready, the first by lane of those that draw on budgets."""
        for name, key in keys.items():
            self._lanes[name] = min(self._lanes.get(name, key), key)

    def budgets(self, keys: Iterable[str]) -> None:
        """Budgets have got tokens, or somebody has left the line for them."""
        self._budgets.update(keys)
        self.on_urgent()

    def freed(self, fences: Collection[int]) -> None:
        """Jobs have been ended that other servers hold."""
        self._freed.update(fences)
        self.on_urgent()

    def scheduled(self, at: int) -> None:
        """A job was scheduled."""
        self._due = at if self._due is None else min(self._due, at)
        self.on_urgent()

    def moved(self, cause: Cause) -> None:
        """Something happened to jobs; nobody waits for this."""
        self._moved.add(cause)

    def bulletin(self, server: int) -> str:
        """All of it as one message, no longer than a notification may be; the rest is found by looking."""
        most = max(len(self._ready), len(self._lanes), len(self._budgets))
        text = ""
        while not text or len(text.encode()) > MOST_BYTES:
            ready, lanes = (dict(islice(keys.items(), most)) for keys in (self._ready, self._lanes))
            budgets = sorted(self._budgets)[:most]
            freed = sorted(self._freed)[:100]
            text = Bulletin(server, ready, freed, self._due, sorted(self._moved), lanes, budgets).text
            most //= 2
        self.clear()
        return text
