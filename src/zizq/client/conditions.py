"""Which jobs a query is about: what callers say, as the parameters that travel (protocol.md#2.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import msgspec

from zizq.client.kinds import kind_of, payload_of
from zizq.client.options import instant_ms
from zizq.errors import ConfigError
from zizq.job import MAX_PRIORITY
from zizq.wire.codec import Format, read_payload

T = TypeVar("T")
_Class = type[Any]  # below, `type` is a keyword of ours


class Where(TypedDict, total=False):
    """Conditions on jobs; all of them must hold.

    `id`, `status`, `queue`, `type` and `budgets` are one text or several, of which one must fit; a type may be a kind's
    class, and a budget is named by its key.
    `priority` and `attempts` are a whole number, or a pair of the lowest and the highest that fit, where None is open;
    `ready_at` is the same of aware datetimes. `payload` is what the payload must equal. `payload_contains` is an
    object whose members it must have, a list that it must begin with, or a single value that it must equal. `filter`
    is a jq expression on the payload.
    """

    id: str | Iterable[str]
    status: str | Iterable[str]
    queue: str | Iterable[str]
    type: str | _Class | Iterable[str | _Class]
    priority: int | tuple[int | None, int | None]
    ready_at: datetime | tuple[datetime | None, datetime | None]
    attempts: int | tuple[int | None, int | None]
    budgets: str | Iterable[str]
    payload: Any
    payload_contains: Any
    filter: str


_FILTERS = ("payload", "payload_contains", "filter")
_PARAMETERS = {
    "status": "status", "queue": "queue", "type": "type", "id": "id", "priority": "priority", "ready_at": "ready_at",
    "attempts": "attempts", "budgets": "budgets.key",
}  # fmt: skip
"""What travels as which parameter."""
_MAX_U32 = 2**32 - 1


class Conditions(msgspec.Struct, frozen=True):
    """Conditions in the form in which they travel.

    Args:
        terms: By keyword of `Where`, what is sent; None for an empty collection, which no job meets.
    """

    terms: dict[str, str | None] = {}

    def with_(self, **where: Unpack[Where]) -> Conditions:
        """These conditions and some more; a keyword that is there already is replaced.

        Raises:
            ConfigError: When a keyword is unknown or a value no condition.
            EncodeError: When a payload cannot travel.
        """
        added = {name: _term(name, value) for name, value in where.items()}
        return Conditions({**self.terms, **added})

    def only(self, ids: Iterable[str]) -> Conditions:
        """These conditions for some of the jobs that met them."""
        # Payloads never change, so there is no need to judge them again.
        kept = {name: term for name, term in self.terms.items() if name not in _FILTERS}
        return Conditions({**kept, "id": _names("id", ids)})

    def by_default(self, **where: Unpack[Where]) -> Conditions:
        """These conditions, and those of the given ones whose keywords are not there."""
        return Conditions({**Conditions().with_(**where).terms, **self.terms})

    @property
    def is_everything(self) -> bool:
        """Whether there is no condition at all."""
        return not self.terms

    @property
    def is_nothing(self) -> bool:
        """Whether no job can meet them."""
        return None in self.terms.values()

    def parameters(self) -> str:
        """The query of a request, without its question mark; empty for every job.

        Raises:
            ConfigError: When no job can meet them, for the server takes an empty value for no condition.
        """
        if self.is_nothing:
            raise ConfigError("an empty collection fits no job, and there is no request that says so")
        sent = {sent: self.terms[name] or "" for name, sent in _PARAMETERS.items() if name in self.terms}
        filters = [self.terms[name] or "" for name in _FILTERS if name in self.terms]
        if filters:
            sent["filter"] = filters[0] if len(filters) == 1 else " and ".join(map(_enclosed, filters))
        return "&".join(f"{name}={_quoted(name, text)}" for name, text in sent.items())

    def __str__(self) -> str:
        return " ".join(f"{name}={term}" for name, term in self.terms.items()) or "all jobs"


def _enclosed(filter_: str) -> str:
    # The new line ends a comment, which would otherwise swallow the bracket.
    return f"({filter_}\n)" if "#" in filter_ else f"({filter_})"


def _quoted(name: str, text: str) -> str:
    try:
        return quote(text, safe="" if name == "filter" else ",")
    except UnicodeEncodeError as error:
        raise ConfigError(f"{name}={text!r} is not text that UTF-8 can say") from error


# ── values ───────────────────────────────────────────────────────────────────────────────────────────


def _term(name: str, value: Any) -> str | None:
    convert = _TERMS.get(name)
    if convert is None:
        raise ConfigError(f"unknown condition {name!r}: choose from {', '.join(_TERMS)}")
    if value is None and name not in ("payload", "payload_contains"):
        raise ConfigError(f"{name}=None is no condition: leave it out where any {name} will do")
    return convert(name, value)


def _names(name: str, value: Any) -> str | None:
    if isinstance(value, str | type):
        value = [value]
    if not isinstance(value, Iterable):
        raise ConfigError(f"{name}={value!r} is neither text nor a collection of texts")
    return ",".join(sorted({_member(name, one) for one in value})) or None


def _member(name: str, value: Any) -> str:
    if name == "type" and isinstance(value, type):
        return kind_of(value).name
    if not isinstance(value, str):
        raise ConfigError(f"{name}: {value!r} is not text")
    if not value or "," in value:
        raise ConfigError(f"{name}: {value!r} can name no job: it is empty or has a comma; give several as a list")
    return value


def _range(name: str, value: Any, number: Callable[[str, Any], int]) -> str:
    if isinstance(value, range):
        raise ConfigError(f"{name}={value!r} leaves its end out: write ({value.start}, {value.stop - 1})")
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2 or pair == (None, None):
        raise ConfigError(f"{name}={value!r} is no range: write (lowest, highest), with None where it is open")
    low, high = (None if end is None else number(name, end) for end in pair)
    if low is not None and high is not None and low > high:
        raise ConfigError(f"{name}={value!r} is upside down: write the lowest first")
    return str(low) if low == high else f"{_end(low)}..{_end(high)}"


def _end(number: int | None) -> str:
    return "" if number is None else str(number)


def _numbers(most: int) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(f"{name}: {value!r} is no whole number: give one, or a tuple of the lowest and highest")
        if not 0 <= value <= most:
            raise ConfigError(f"{name}: {value} is out of range: give a number from 0 to {most}")
        return value

    return lambda name, value: _range(name, value, check)


def _instants(name: str, value: Any) -> str:
    return _range(name, value, instant_ms)


# ── payloads ─────────────────────────────────────────────────────────────────────────────────────────


def _equal(_: str, value: Any) -> str:
    return f". == {_json(value)[0]}"


def _contains(name: str, value: Any) -> str:
    text, plain = _json(value)
    if isinstance(plain, dict):
        return f". | contains({text})"
    if isinstance(plain, list):
        return f".[0:{len(plain)}] == {text}"
    return _equal(name, value)


def _json(value: Any) -> tuple[str, Any]:
    """A payload as JSON, the same text for the same value, and as it is read."""
    plain = read_payload(payload_of(value, Format.JSON), Format.JSON)
    return msgspec.json.encode(plain, order="sorted").decode(), plain


def _expression(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{name}={value!r} is no jq expression: write one such as '.to == \"ada@example.com\"'")
    return value


_TERMS: dict[str, Callable[[str, Any], str | None]] = {
    "id": _names,
    "status": _names,
    "queue": _names,
    "type": _names,
    "priority": _numbers(MAX_PRIORITY),
    "ready_at": _instants,
    "attempts": _numbers(_MAX_U32),
    "budgets": _names,
    "payload": _equal,
    "payload_contains": _contains,
    "filter": _expression,
}
