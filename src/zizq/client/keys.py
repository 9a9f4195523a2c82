"""Keys of unique and batched jobs: texts that callers give, or hashes of what a payload says.

A hash is the same in every process and for every order of members. Other clients of the protocol hash one of two
texts: compact JSON with sorted members (Rust, Ruby), or the same with a comma after the last member and element too
(Node, Elixir).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import msgspec

from zizq.client.payload import encode_payload
from zizq.errors import ConfigError
from zizq.wire.codec import Format, read_payload

Scope = Literal["queued", "active", "exists"]
"""How far a job that holds a unique key must be for the key to be free: taken, finished, or gone."""
Canonical = Literal["compact", "trailing"]
"""Which text of a value is hashed: with no comma after the last of its parts, or with one."""
Paths = str | Collection[str]
"""One path into a payload, or several."""
Path = tuple[str | int, ...]
"""A path that was read: names of members and indexes of elements; empty is the whole payload."""


@dataclass(frozen=True)
class Unique:
    """What makes the jobs of a kind unique: while one is about, another with the same key is a duplicate of it.

    Without any argument the key is computed from the whole payload. A key holds for all queues and types; one that
    is computed begins with the type of the job, and so never meets another type's.

    Args:
        key: The key itself, or a function that makes it of an instance; None computes it from the payload.
        only: The path or paths of the payload that count, such as `.to` or `.items[0]["unit price"]`; None is all.
        exclude: The path or paths of the payload that do not count; instead of `only`.
        scope: Until when another job is a duplicate: `queued` is until the first is taken, `active` until it is
            completed or dead, `exists` until it is deleted. It is sent as `unique_while`.
        prefix: Whether a computed key begins with the type of the job.
        canonical: How a payload is written down to be hashed: `compact` is as the Rust and Ruby clients do it,
            `trailing` as the Node and Elixir clients do.

    Raises:
        ConfigError: When arguments contradict each other, or one has no such value.
    """

    key: str | Callable[[Any], str] | None = None
    _: KW_ONLY
    only: Paths | None = None
    exclude: Paths | None = None
    scope: Scope = "queued"
    prefix: bool = True
    canonical: Canonical = "compact"

    def __post_init__(self) -> None:
        check_scope("scope", self.scope)
        if self.only is not None and self.exclude is not None:
            raise ConfigError("only and exclude contradict each other: give the paths that count, or those that do not")
        if self.key is not None:
            self._check_key()
        _ = self._computed  # what is wrong with a path is said where it was written

    def _check_key(self) -> None:
        if not isinstance(self.key, str) and not callable(self.key):
            raise ConfigError(f"key={self.key!r} is no key: give text, or a function that returns it")
        if (self.only, self.exclude, self.prefix, self.canonical) != (None, None, True, "compact"):
            raise ConfigError(f"key={self.key!r} is all of the key: leave out only, exclude, prefix and canonical")

    @cached_property
    def _computed(self) -> PayloadKey:
        only = None if self.only is None else parse_paths("only", self.only)
        exclude = () if self.exclude is None else parse_paths("exclude", self.exclude)
        return PayloadKey(only, exclude, self.prefix, self.canonical)

    def key_for(self, type: str, source: Any) -> str:
        """The key of one job.

        Args:
            type: The type of the job.
            source: The payload; or what `key` is called with, when that is a function.

        Raises:
            ConfigError: When the function returns anything but text.
            EncodeError: When the payload cannot travel.
        """
        if self.key is None:
            return self._computed.of(type, source)
        key = self.key(source) if callable(self.key) else self.key
        if not isinstance(key, str):
            raise ConfigError(f"the unique key of {type!r} is {key!r}: let the function return text")
        return key


def check_scope(name: str, scope: object) -> None:
    """Hold a scope to those that there are.

    Raises:
        ConfigError: When it is another.
    """
    if scope not in get_args(Scope):
        raise ConfigError(f"{name}={scope!r} is no scope: choose from {', '.join(get_args(Scope))}")


@dataclass(frozen=True)
class PayloadKey:
    """A key that is computed from a payload; the arguments are those of `Unique`, with paths that were read.

    Raises:
        ConfigError: When there is no such canonical form.
    """

    only: tuple[Path, ...] | None = None
    exclude: tuple[Path, ...] = ()
    prefix: bool = True
    canonical: Canonical = "compact"

    def __post_init__(self) -> None:
        if self.canonical not in get_args(Canonical):
            choice = ", ".join(get_args(Canonical))
            raise ConfigError(f"canonical={self.canonical!r} is no canonical form: choose from {choice}")

    def of(self, type: str, payload: object) -> str:
        """The key of a job with this type and payload.

        Raises:
            EncodeError: When the payload cannot travel.
        """
        # What is hashed is the payload as it will be read: text for datetimes, no tuples, a copy that may be changed.
        plain = read_payload(encode_payload(payload, Format.JSON, "deterministic"), Format.JSON)
        if self.only is not None:
            plain = only(plain, self.only)
        for path in self.exclude:
            plain = without(plain, path)
        hashed = hash_of(plain, self.canonical)
        return f"{type}:{hashed}" if self.prefix else hashed


# ── hashes ───────────────────────────────────────────────────────────────────────────────────────────

# Strings are matched too, so that a bracket inside one is not taken for a closing one.
_STRING_OR_END = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|(?<![\[{])[\]}]')


def hash_of(value: object, canonical: Canonical) -> str:
    """The SHA-256 of a plain value's canonical text, in hexadecimal."""
    text = canonical_text(value, canonical)
    return hashlib.sha256(text).hexdigest()


def canonical_text(value: object, canonical: Canonical) -> bytes:
    """The JSON of a plain value that is the same whatever the order of members; members are sorted by code points."""
    compact = msgspec.json.encode(value, order="sorted")
    if canonical == "compact":
        return compact
    return _STRING_OR_END.sub(_with_comma, compact.decode()).encode()


def _with_comma(part: re.Match[str]) -> str:
    return part[0] if part[0].startswith('"') else f",{part[0]}"


# ── paths ────────────────────────────────────────────────────────────────────────────────────────────

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_BRACKET = r'\[(?:[0-9]+|"(?:[^"\\]|\\.)*")\]'
_PATH = re.compile(rf"\.|\.(?:{_NAME}|{_BRACKET})(?:\.{_NAME}|{_BRACKET})*", re.DOTALL)
_STEP = re.compile(rf'({_NAME})|\[([0-9]+)\]|\["((?:[^"\\]|\\.)*)"\]', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse_path(name: str, text: object) -> Path:
    """A path into a payload: `.`, `.name`, `.a.b`, `.a[0]`, `.[0]`, `.["any key"]`.

    Args:
        name: Whose path it is, for the error message.
        text: The path; inside quotes a backslash takes the next character as it is.

    Raises:
        ConfigError: When it is no such path.
    """
    if not isinstance(text, str) or not _PATH.fullmatch(text):
        raise ConfigError(f"""{name}: {text!r} is no path: write one such as .to, .items[0].id or .["unit price"]""")
    return tuple(_step(*part.groups()) for part in _STEP.finditer(text))


def _step(name: str | None, index: str | None, quoted: str | None) -> str | int:
    if index is not None:
        return int(index)
    return name if name is not None else _ESCAPED.sub(r"\1", quoted or "")


def parse_paths(name: str, paths: Paths) -> tuple[Path, ...]:
    """One path, or several.

    Raises:
        ConfigError: When there is none, or one is no path.
    """
    if isinstance(paths, str):
        return (parse_path(name, paths),)
    if not isinstance(paths, Collection) or not paths:
        raise ConfigError(f"{name}={paths!r} names no path: give one or several, or leave {name} out")
    return tuple(parse_path(name, path) for path in paths)


def path_text(path: Path) -> str:
    """A path as jq reads it."""
    text = "".join(map(_step_text, path))
    return text if text.startswith(".") else f".{text}"


def _step_text(step: str | int) -> str:
    if isinstance(step, str) and re.fullmatch(_NAME, step):
        return f".{step}"
    # JSON doubles each backslash, so that jq cannot find the one which begins an interpolation.
    return f"[{msgspec.json.encode(step).decode()}]"


# ── parts of payloads ────────────────────────────────────────────────────────────────────────────────


def only(value: Any, paths: Collection[Path]) -> Any:
    """A value of nothing but what is at some paths, nested as it was; `{}` where nothing is.

    The elements of a list before one that is kept are null, so that it stays in its place.
    """
    kept = None
    for path in paths:
        if not path:
            return value
        with suppress(LookupError):
            kept = _placed(kept, path, _found(value, path))
    return {} if kept is None else kept


def without(value: Any, path: Path) -> Any:
    """A value less what is at a path; the elements of a list after it move up. The whole value less itself is null."""
    if not path:
        return None
    with suppress(LookupError):
        parent = _found(value, path[:-1])
        _found(parent, path[-1:])
        del parent[path[-1]]
    return value


_CONTAINERS: dict[type, Any] = {str: dict, int: list}
"""What a step of each type leads into."""


def _found(value: Any, path: Path) -> Any:
    for step in path:
        # Text has indexes too, and they are no elements.
        if type(value) is not _CONTAINERS[type(step)]:
            raise LookupError(step)
        value = value[step]
    return value


def _placed(target: Any, path: Path, value: Any) -> Any:
    """A value with another put at a path; None is where nothing is yet."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, str):
        target = {} if target is None else target
        target[step] = _placed(target.get(step), rest, value)
    else:
        target = [] if target is None else target
        target += [None] * (step + 1 - len(target))
        target[step] = _placed(target[step], rest, value)
    return target
