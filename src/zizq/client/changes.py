"""What a patch says of a job: which options change, which are cleared, and which stay (protocol.md#2.9)."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any, Final, TypedDict

from zizq.client.options import Backoff, Duration, Retention, instant_ms, limit_ms
from zizq.errors import ConfigError


class Keep(Enum):
    """The type of `KEEP`."""

    KEEP = "KEEP"

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = Keep.KEEP
"""In a patch: leave this option as it is, as if it were not named."""


class Changes(TypedDict, total=False):
    """Options of a job that a patch changes; None clears, and what is left out or `KEEP` stays as it is.

    `queue` and `priority` cannot be cleared. `ready_at` is an aware datetime; None makes a scheduled job ready at once.
    Without a `retry_limit`, `backoff` or `retention` of its own a job goes by the server's, and without a `timeout` by
    the worker's. Members of a `Retention` that are None stay as they are.
    """

    queue: str | Keep
    priority: int | Keep
    ready_at: datetime | Keep | None
    retry_limit: int | Keep | None
    backoff: Backoff | Keep | None
    retention: Retention | Keep | None
    timeout: Duration | Keep | None


def to_wire(changes: Changes) -> dict[str, Any]:
    """The body of a patch.

    Raises:
        ConfigError: When an option is unknown, or has no such value.
    """
    if not changes.keys() <= Changes.__annotations__.keys():
        unknown, choice = min(changes.keys() - Changes.__annotations__.keys()), ", ".join(Changes.__annotations__)
        raise ConfigError(f"unknown option {unknown!r}: choose from {choice}")
    return {_SENT_AS.get(name, name): _value(name, value) for name, value in changes.items() if value is not KEEP}


_KINDS: dict[str, type] = {
    "queue": str, "priority": int, "ready_at": datetime, "retry_limit": int, "backoff": Backoff, "retention": Retention,
}  # fmt: skip
_SENT_AS = {"timeout": "timeout_ms"}


def _value(name: str, value: Any) -> Any:
    if value is None:
        if name in ("queue", "priority"):
            raise ConfigError(f"{name}=None: every job has a {name}; leave it out to keep it")
        return None
    if name == "timeout":
        return limit_ms(name, value)
    if not isinstance(value, _KINDS[name]) or isinstance(value, bool):
        raise ConfigError(f"{name}={value!r} is no {_KINDS[name].__name__}: give one, or leave it out to keep it")
    if isinstance(value, Backoff | Retention):
        return value.to_wire()
    return instant_ms(name, value) if isinstance(value, datetime) else value
