"""Batched jobs: jobs that wait are folded into one, by jq expressions that travel with them (protocol.md#6)."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

from zizq.client.keys import Canonical, Path, Paths, PayloadKey, parse_path, parse_paths, path_text
from zizq.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class _Keyed:
    """Which jobs share a batch: those with the same key."""

    key: str | None = None
    keyed_by: Paths | None = None
    canonical: Canonical = "compact"

    def __post_init__(self) -> None:
        if self.key is not None and not isinstance(self.key, str):
            raise ConfigError(f"key={self.key!r} is not text: give text, or keyed_by with paths of the payload")
        if self.key is not None and (self.keyed_by, self.canonical) != (None, "compact"):
            raise ConfigError(f"key={self.key!r} is all of the key: leave out keyed_by and canonical")
        _ = self._computed  # what is wrong with a path is said where it was written

    @cached_property
    def _computed(self) -> PayloadKey:
        only = None if self.keyed_by is None else parse_paths("keyed_by", self.keyed_by)
        return PayloadKey(only, canonical=self.canonical)

    def key_for(self, type: str, payload: Any) -> str:
        """The key of the batch that a job belongs to.

        Raises:
            EncodeError: When the payload cannot travel.
        """
        return self._computed.of(type, payload) if self.key is None else self.key


@dataclass(frozen=True)
class Batch(_Keyed):
    """Folds jobs that wait into one job: their lists at a path of the payload are joined.

    As long as a job with the same key is ready, another one adds its list to that job's, if the joined list has
    at most `limit` elements. Else the waiting job is full: it takes no more, and the other begins the next batch.
    A job with a time to come neither folds nor is folded into.

    Args:
        path: Where the list is, such as `.device_ids`; `.` is a payload that is itself a list. Every payload has one.
        limit: The most elements of a joined list, counted before `dedup` drops any. One job alone may have more.
        dedup: Whether joining drops elements that are there already; it sorts the list, too.
        sorted: Whether joining sorts the list.
        key: The key: jobs with the same one share a batch, whatever their types and queues. None computes it.
        keyed_by: The path or paths of the payload that must be equal for jobs of one type to share a batch; None is
            all of the payload but the list.
        canonical: How the payload is written down to compute the key; see `Unique`.

    Raises:
        ConfigError: When arguments contradict each other, or one has no such value.
    """

    path: str
    _: KW_ONLY
    limit: int
    dedup: bool = False
    sorted: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._path
        if not isinstance(self.limit, int) or isinstance(self.limit, bool) or self.limit < 1:
            raise ConfigError(f"limit={self.limit!r} is no limit: give a whole number from 1")

    @cached_property
    def _path(self) -> Path:
        return parse_path("path", self.path)

    @cached_property
    def _computed(self) -> PayloadKey:
        if self.keyed_by is not None:
            return super()._computed
        return PayloadKey(exclude=(self._path,), canonical=self.canonical)

    @cached_property
    def when(self) -> str:
        """The jq expression that says whether a waiting job takes another: `$existing` and `$new` are the payloads."""
        at = path_text(self._path)
        return f"(($existing | {at}) + ($new | {at})) | length <= {self.limit}"

    @cached_property
    def fold(self) -> str:
        """The jq expression that makes one payload of the two."""
        at = path_text(self._path)
        if self.dedup or self.sorted:
            return f"$existing | {at} = (({at}) + ($new | {at}) | {'unique' if self.dedup else 'sort'})"
        return f"$existing | {at} += ($new | {at})"


@dataclass(frozen=True, kw_only=True)
class RawBatch(_Keyed):
    """Folds jobs that wait into one job, by jq expressions of your own, in which `$existing` and `$new` are payloads.

    Args:
        when: Whether the waiting job takes the other: anything but false, null, an error and nothing at all is yes.
        fold: The payload that the waiting job has then.
        key: The key: jobs with the same one share a batch, whatever their types and queues.
        keyed_by: The path or paths of the payload that must be equal for jobs of one type to share a batch; `.` is
            all of it. Give this or `key`.
        canonical: How the payload is written down to compute the key; see `Unique`.

    Raises:
        ConfigError: When arguments contradict each other, or one has no such value.
    """

    when: str
    fold: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.key is None and self.keyed_by is None:
            raise ConfigError("a RawBatch needs a key: give key, or keyed_by with the paths that tell batches apart")
        for name, text in (("when", self.when), ("fold", self.fold)):
            if not isinstance(text, str) or not text.strip():
                raise ConfigError(f"{name}={text!r} is no jq expression: write one such as '$existing + $new'")
