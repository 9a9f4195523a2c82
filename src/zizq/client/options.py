"""Values that callers hand in: durations, retry and retention policies, certificates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from zizq import policy
from zizq.errors import ConfigError
from zizq.wire.messages import BackoffBody, RetentionBody

Duration = timedelta | float
"""A timedelta, or a number of seconds."""

_MAX_U32 = 2**32 - 1


def to_ms(name: str, value: Duration) -> int:
    """A duration in whole milliseconds.

    Args:
        name: What the duration is, for the error message.
        value: A timedelta or a number of seconds, not negative.

    Raises:
        ConfigError: When it is negative, not finite or no duration at all.
    """
    try:
        ms = round((value.total_seconds() if isinstance(value, timedelta) else value) * 1000)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{name}={value!r} is not a duration: give a timedelta or seconds") from error
    if ms < 0:
        raise ConfigError(f"{name}={value!r} is negative")
    return ms


def seconds(name: str, value: Duration | None) -> float | None:
    """A duration in seconds; None stays None.

    Raises:
        ConfigError: As `to_ms`.
    """
    return None if value is None else to_ms(name, value) / 1000


def limit_ms(name: str, value: Duration | None) -> int | None:
    """A time limit in whole milliseconds; None, for no limit, stays None.

    Raises:
        ConfigError: When it is shorter than a millisecond, or as `to_ms`.
    """
    ms = None if value is None else to_ms(name, value)
    if ms == 0:
        raise ConfigError(f"{name}={value!r} must be a millisecond or more (None is no limit)")
    return ms


def instant_ms(name: str, value: datetime) -> int:
    """An aware datetime in Unix milliseconds.

    Raises:
        ConfigError: When it is naive, before 1970 or no datetime.
    """
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ConfigError(f"{name}={value!r} is not an aware datetime: give it a time zone")
    ms = round(value.timestamp() * 1000)
    if ms < 0:
        raise ConfigError(f"{name}={value!r} is before 1970")
    return ms


def instant_of(ms: int) -> datetime:
    """An instant in Unix milliseconds as an aware datetime, in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def maybe_instant_of(ms: int | None) -> datetime | None:
    """The same of an instant that may not be there."""
    return None if ms is None else instant_of(ms)


def _from_ms(ms: int | None) -> timedelta | None:
    return None if ms is None else timedelta(milliseconds=ms)


@dataclass(frozen=True)
class Backoff:
    """How long a failed job waits: `attempts ** exponent` seconds, plus `base`, plus jitter for each attempt.

    Args:
        base: The least delay, as a timedelta or in seconds; the server's default is 15.
        exponent: The power of the number of failures; the server's default is 4.0.
        jitter: Up to this much more for each failure so far, as a timedelta or in seconds; the server's default is 30.

    Raises:
        ConfigError: When a duration is negative or over 49 days, or the exponent is no number from 0.
    """

    base: Duration
    exponent: float
    jitter: Duration

    def __post_init__(self) -> None:
        self.to_wire()

    def to_wire(self) -> BackoffBody:
        """The policy as it is sent, in milliseconds."""
        base, jitter = to_ms("base", self.base), to_ms("jitter", self.jitter)
        if max(base, jitter) > _MAX_U32:
            raise ConfigError(f"{self} is too long: base and jitter must be under 49 days")
        if not 0 <= self.exponent < float("inf"):
            raise ConfigError(f"exponent={self.exponent!r} is not a number from 0")
        return BackoffBody(float(self.exponent), base, jitter)

    @classmethod
    def from_wire(cls, sent: policy.Backoff) -> Backoff:
        """The policy that was received."""
        base, jitter = timedelta(milliseconds=sent.base_ms), timedelta(milliseconds=sent.jitter_ms)
        return cls(base, policy.shortest_f32(sent.exponent), jitter)


@dataclass(frozen=True)
class Retention:
    """How long a finished job is kept.

    Args:
        completed: After success, as a timedelta or in seconds; None is the server's default (not at all).
        dead: After the last failure, as a timedelta or in seconds; None is the server's default (7 days).

    Raises:
        ConfigError: When a duration is negative.
    """

    completed: Duration | None = None
    dead: Duration | None = None

    def __post_init__(self) -> None:
        self.to_wire()

    def to_wire(self) -> RetentionBody:
        """The policy as it is sent, in milliseconds."""
        return RetentionBody(
            None if self.completed is None else to_ms("completed", self.completed),
            None if self.dead is None else to_ms("dead", self.dead),
        )

    @classmethod
    def from_wire(cls, sent: policy.Retention) -> Retention:
        """The policy that was received."""
        return cls(_from_ms(sent.completed_ms), _from_ms(sent.dead_ms))


@dataclass(frozen=True)
class TLS:
    """Certificates for an `https://` server.

    Args:
        ca: Whom to trust beside the system's roots: the path of a PEM file, or PEM bytes.
        client_cert: What to show to a server that asks (mutual TLS): the path of a PEM file, or PEM bytes.
        client_key: The key of `client_cert`, not encrypted: the path of a PEM file, or PEM bytes.

    Raises:
        ConfigError: When a certificate comes without its key or a key without its certificate.
    """

    ca: str | Path | bytes | None = None
    client_cert: str | Path | bytes | None = None
    client_key: str | Path | bytes | None = None

    def __post_init__(self) -> None:
        if (self.client_cert is None) != (self.client_key is None):
            raise ConfigError("client_cert and client_key belong together: give both or neither")

    def ca_pem(self) -> bytes | None:
        """The additional roots.

        Raises:
            ConfigError: When the file cannot be read or holds no certificate.
        """
        return _pem("ca", self.ca, b"-----BEGIN CERTIFICATE-----")

    def identity_pem(self) -> bytes | None:
        """The key and the certificate of this client, in one text.

        Raises:
            ConfigError: When a file cannot be read or holds something else.
        """
        key = _pem("client_key", self.client_key, b"PRIVATE KEY-----")
        cert = _pem("client_cert", self.client_cert, b"-----BEGIN CERTIFICATE-----")
        return None if key is None or cert is None else key + b"\n" + cert


def _pem(name: str, source: str | Path | bytes | None, mark: bytes) -> bytes | None:
    if source is None:
        return None
    where = "what was given"
    if not isinstance(source, bytes):
        where = str(source)
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            raise ConfigError(f"{name}: cannot read {where}: {error.strerror}") from error
    if mark not in source:
        raise ConfigError(f"{name}: {where} is not PEM: it has no {mark.decode()}")
    return source
