"""Kinds: classes whose instances are payloads.

A class becomes a kind by the decorator `job_kind` or by deriving from `JobKind`. How its instances travel is
chosen by what the class is: its own `to_payload` and `from_payload`, a pydantic model, or anything msgspec knows
(dataclass, `msgspec.Struct`, attrs). Neither pydantic nor attrs is imported here: their classes are known by their
attributes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar, Unpack, cast

import msgspec

from zizq.client.batch import Batch, RawBatch
from zizq.client.budgets import Draws, draws_of
from zizq.client.enqueue import Enqueue, Options, check_metadata
from zizq.client.keys import Unique
from zizq.client.options import Backoff, Duration, Retention, limit_ms
from zizq.client.payload import encode_payload
from zizq.errors import ConfigError, DecodeError, EncodeError, PayloadDecodeError
from zizq.wire.codec import Format, read_payload

T = TypeVar("T")
C = TypeVar("C", bound=type)
_ATTRIBUTE = "__zizq_kind__"


class Kind(Generic[T]):
    """How the instances of one class travel.

    Args:
        cls: The class.
        name: The type of its jobs.
        unique: What makes its jobs unique, unless an enqueue gives a key itself; None is nothing.
        options: What its jobs say of themselves unless an enqueue overrides it.

    Raises:
        ConfigError: When the class is nothing that can be a payload, or an option is unknown, or `unique` comes with
            `batch`, or `budgets` names something else, or `timeout` is no duration, or `metadata` is no mapping of
            texts.
    """

    def __init__(self, cls: type[T], name: str, unique: Unique | None = None, **options: Unpack[Options]) -> None:
        self.cls = cls
        self.name = name
        self._unique = unique
        self._template = Enqueue(name, None, unique_while=unique.scope if unique else None).with_(**options)
        if unique is not None and self._template.batch is not None:
            raise ConfigError(f"{name!r} has both unique and batch, which exclude each other: give one")
        # What is wrong with these is said where they were written.
        draws_of(self._template.budgets)
        limit_ms("timeout", self._template.timeout)
        check_metadata(self._template.metadata or {})
        self._to_plain, self._from_plain = _shape(cls)

    def __repr__(self) -> str:
        return f"<Kind {self.name!r} of {self.cls.__qualname__}>"

    @property
    def queue(self) -> str:
        """The queue of its jobs."""
        return self._template.queue

    def request(self, instance: T, **overrides: Unpack[Options]) -> Enqueue:
        """A request to enqueue an instance.

        Raises:
            ConfigError: When an override is unknown, or the function that makes the unique key returns no text.
            EncodeError: When the instance cannot be turned into plain values.
        """
        plain = self._plain(instance)
        request = msgspec.structs.replace(self._template, payload=plain)
        if self._unique is not None and "unique_key" not in overrides:
            source = instance if callable(self._unique.key) else plain
            overrides["unique_key"] = self._unique.key_for(self.name, source)
        return request.with_(**overrides)

    def encode(self, instance: T, form: Format) -> msgspec.Raw:
        """An instance as a payload.

        Raises:
            EncodeError: When it cannot travel.
        """
        return encode_payload(self._plain(instance), form)

    def decode(self, raw: msgspec.Raw | bytes, form: Format) -> T:
        """The instance in a payload.

        Raises:
            PayloadDecodeError: When the payload does not fit; the message names the field.
        """
        try:
            return self._from_plain(read_payload(raw, form))
        except (DecodeError, LookupError, TypeError, ValueError, AttributeError) as error:
            detail = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else error
            raise PayloadDecodeError(f"payload of {self.name!r} does not fit {self.cls.__name__}: {detail}") from error

    def _plain(self, instance: T) -> object:
        try:
            return self._to_plain(instance)
        except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
            raise EncodeError(f"{self.cls.__name__} cannot be sent: {error}") from error


class JobKind:
    """The long form of a kind: a base class, with options as class attributes.

    A subclass is a dataclass, or defines `to_payload` and the class method `from_payload`. Always give NAME:
    without it the class's own name is the type, and renaming the class strands the jobs that are queued.

    A method `unique_key` that returns text makes its jobs unique by that key; another scope than `queued` is said
    below the method, by `UNIQUE = Unique(unique_key, scope=...)`.
    """

    NAME: ClassVar[str]
    QUEUE: ClassVar[str] = "default"
    PRIORITY: ClassVar[int | None] = None
    RETRY_LIMIT: ClassVar[int | None] = None
    BACKOFF: ClassVar[Backoff | None] = None
    RETENTION: ClassVar[Retention | None] = None
    UNIQUE: ClassVar[Unique | None] = None
    BATCH: ClassVar[Batch | RawBatch | None] = None
    BUDGETS: ClassVar[Draws | None] = None
    TIMEOUT: ClassVar[Duration | None] = None
    METADATA: ClassVar[Mapping[str, str] | None] = None

    def with_(self, **overrides: Unpack[Options]) -> Enqueue:
        """A request to enqueue this with some options overridden.

        Raises:
            ConfigError: When an override is unknown.
        """
        return request_for(self, **overrides)


def job_kind(  # noqa: PLR0913 - a kind has as many arguments as its jobs have options
    name: str | None = None,
    *,
    queue: str = "default",
    priority: int | None = None,
    retry_limit: int | None = None,
    backoff: Backoff | None = None,
    retention: Retention | None = None,
    unique: Unique | None = None,
    batch: Batch | RawBatch | None = None,
    budgets: Draws | None = None,
    timeout: Duration | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Callable[[C], C]:
    """Make a kind of a dataclass, `msgspec.Struct`, pydantic model or attrs class.

    The class gets a method `with_(**overrides)`, which returns an `Enqueue`.

    Args:
        name: The type of its jobs; None is the class's own name, which a later renaming would change.
        queue: Their queue.
        priority: 0 to 65535, lower runs first; None is the server's default.
        retry_limit: How many failures are retried; None is the server's default.
        backoff: How long they wait after a failure; None is the server's default.
        retention: How long they are kept when finished; None is the server's default.
        unique: What makes them unique; None is nothing.
        batch: How those that wait are folded into one, instead of `unique`; None is not at all.
        budgets: What they draw from budgets: a key, a pair of key and cost, a `Draw`, or several; None is nothing.
        timeout: How long a worker may hold one, as a timedelta or in seconds; None is what the worker says.
        metadata: Names and texts for others than their handlers; None is nothing.

    Raises:
        ConfigError: When the class is nothing that can be a payload, or `unique` comes with `batch`, or `budgets` names
            something else, or `timeout` is no duration, or `metadata` is no mapping of texts.
    """

    def decorate(cls: C) -> C:
        kind: Kind[Any] = Kind(
            cls, name or cls.__name__, unique,
            queue=queue, priority=priority, retry_limit=retry_limit, backoff=backoff, retention=retention, batch=batch,
            budgets=budgets, timeout=timeout, metadata=metadata,
        )  # fmt: skip
        setattr(cls, _ATTRIBUTE, kind)
        if not hasattr(cls, "with_"):
            cls.with_ = request_for  # type: ignore[attr-defined]
        return cls

    return decorate


def kind_of(source: type[T] | T) -> Kind[T]:
    """The kind of a class, or of an instance of it.

    Raises:
        ConfigError: When the class is no kind.
    """
    cls = cast("type[T]", source if isinstance(source, type) else type(source))
    # The class's own attribute, never an inherited one: a subclass is a kind of its own.
    kind = cls.__dict__.get(_ATTRIBUTE)
    if kind is None:
        kind = _derive(cls)
        setattr(cls, _ATTRIBUTE, kind)
    return cast("Kind[T]", kind)


def request_for(source: object, **overrides: Unpack[Options]) -> Enqueue:
    """A request to enqueue an instance of a kind, or the given request, with some options overridden.

    Raises:
        ConfigError: When the source is neither, or an override is unknown.
        EncodeError: When the instance cannot travel.
    """
    if isinstance(source, Enqueue):
        return source.with_(**overrides) if overrides else source
    if isinstance(source, type):
        raise ConfigError(f"{source.__qualname__} is a class: enqueue an instance of it")
    return kind_of(source).request(source, **overrides)


def payload_of(source: object, form: Format) -> msgspec.Raw:
    """A payload in a format: an instance of a kind as it travels, or any other value that can.

    Raises:
        EncodeError: When it cannot travel.
    """
    if isinstance(source, JobKind) or _ATTRIBUTE in type(source).__dict__:
        return kind_of(source).encode(source, form)
    return encode_payload(source, form)


def _derive(cls: type[T]) -> Kind[T]:
    if not issubclass(cls, JobKind):
        raise ConfigError(f"{cls.__qualname__} is no kind: decorate it with @zizq.job_kind, or use enqueue_raw")
    return Kind(
        cls, getattr(cls, "NAME", cls.__name__), _unique_of(cls),
        queue=cls.QUEUE, priority=cls.PRIORITY, retry_limit=cls.RETRY_LIMIT,
        backoff=cls.BACKOFF, retention=cls.RETENTION, batch=cls.BATCH, budgets=cls.BUDGETS,
        timeout=cls.TIMEOUT, metadata=cls.METADATA,
    )  # fmt: skip


def _unique_of(cls: type[JobKind]) -> Unique | None:
    """What UNIQUE says, or the method `unique_key`."""
    method = getattr(cls, "unique_key", None)
    if not callable(method):
        return cls.UNIQUE
    if cls.UNIQUE is not None and cls.UNIQUE.key is not method:
        raise ConfigError(
            f"{cls.__qualname__} has both UNIQUE and a method unique_key: below the method, write "
            f"UNIQUE = zizq.Unique(unique_key, ...)"
        )
    return cls.UNIQUE or Unique(method)


# ── how instances travel ─────────────────────────────────────────────────────────────────────────────


class _Explicit(Protocol):
    def to_payload(self) -> object: ...
    @classmethod
    def from_payload(cls, payload: Any) -> Any: ...


class _Pydantic(Protocol):
    def model_dump(self, *, mode: str) -> object: ...
    @classmethod
    def model_validate(cls, payload: Any) -> Any: ...


def _shape(cls: type[T]) -> tuple[Callable[[T], object], Callable[[Any], T]]:
    """The two ways between instances of a class and plain values."""
    if hasattr(cls, "to_payload") and hasattr(cls, "from_payload"):
        explicit = cast("type[_Explicit]", cls)
        return lambda instance: instance.to_payload(), explicit.from_payload
    if hasattr(cls, "model_dump") and hasattr(cls, "model_validate"):
        model = cast("type[_Pydantic]", cls)
        return lambda instance: instance.model_dump(mode="json"), model.model_validate
    if issubclass(cls, msgspec.Struct):
        return _to_plain, lambda plain: msgspec.convert(plain, cls, str_keys=True)
    names = _field_names(cls)
    if names is None:
        raise ConfigError(
            f"{cls.__qualname__} cannot be a payload: make it a dataclass, a msgspec.Struct, a pydantic model or an "
            f"attrs class, or give it to_payload and from_payload"
        )
    return _to_plain, lambda plain: _checked(plain, cls, names)


def _field_names(cls: type) -> frozenset[str] | None:
    if dataclasses.is_dataclass(cls):
        return frozenset(field.name for field in dataclasses.fields(cls) if field.init)
    if hasattr(cls, "__attrs_attrs__"):
        return frozenset(field.name for field in cls.__attrs_attrs__ if field.init)
    return None


def _to_plain(instance: object) -> object:
    # Sets are sorted, so that equal instances have equal keys.
    return msgspec.to_builtins(instance, str_keys=True, order="deterministic")


def _checked(plain: Any, cls: type[T], names: frozenset[str]) -> T:
    # msgspec refuses missing and ill-typed fields, but ignores unexpected ones here.
    if isinstance(plain, dict) and (unexpected := plain.keys() - names):
        raise ValueError(f"unexpected field `{min(unexpected)}`")
    return msgspec.convert(plain, cls, str_keys=True)
