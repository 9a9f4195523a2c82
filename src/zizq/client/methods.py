"""What the methods of both clients make their calls by, whatever file they are in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

from zizq.client.call import Call
from zizq.client.calls import Calls

T = TypeVar("T")


class Methods(ABC):
    """Methods of `Client`."""

    _calls: Calls

    @abstractmethod
    async def _send(self, call: Call[T]) -> T: ...


class SyncMethods(ABC):
    """Methods of `SyncClient`."""

    _calls: Calls

    @abstractmethod
    def _send(self, call: Call[T]) -> T: ...
