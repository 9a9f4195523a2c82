"""What a worker is told, and what it tells at the end: plain values."""

from __future__ import annotations

from dataclasses import dataclass

from zizq.errors import ConfigError, ResponseError


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How long to wait between attempts to reach the server.

    Args:
        first: Seconds before the first new attempt.
        longest: The delay grows up to this many seconds and stays there.
        factor: Each delay is the one before times this.
        jitter: How far a delay may stray either way, as a share of it, so that a fleet does not come back at once.

    Raises:
        ConfigError: When a number is out of range.
    """

    first: float = 0.5
    longest: float = 30.0
    factor: float = 2.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if self.first <= 0 or self.longest < self.first or self.factor < 1 or not 0 <= self.jitter <= 1:
            raise ConfigError(f"{self} needs 0 < first <= longest, factor >= 1 and jitter from 0 to 1")

    def delay(self, failures: int, unit: float, error: Exception | None = None) -> float:
        """Seconds to wait after so many failures in a row.

        Args:
            failures: Failures in a row, at least 1.
            unit: A number in [0, 1) that places the delay inside its jitter.
            error: The last of them; where the server says in it when to come again, it is not before.
        """
        # The power is capped, for a float overflows long before an outage of a week ends.
        steady = min(self.first * self.factor ** min(failures - 1, 64), self.longest)
        told = error.retry_after if isinstance(error, ResponseError) else None
        return max(steady * (1 + self.jitter * (2 * unit - 1)), min(told or 0.0, self.longest))


@dataclass(slots=True)
class Summary:
    """What a worker did, from its start to now."""

    processed: int = 0
    """Jobs whose handler returned."""
    failed: int = 0
    """Jobs whose handler raised, or could not run."""
    redelivered: int = 0
    """Jobs that came again while their first run, or the report of it, was still under way."""
    not_found: int = 0
    """Reports that the server had no use for: the job was no longer in flight. It may run again."""
    ack_dropped: int = 0
    """Reports that were given up: refused by the server, or still unsent when the worker had to end."""
    abandoned: int = 0
    """Handlers still running when the shutdown timeout ended; their jobs go to another worker."""

    def __str__(self) -> str:
        parts = [f"{self.processed:,} processed", f"{self.failed:,} failed"]
        rest = {
            "redelivered": self.redelivered,
            "not found": self.not_found,
            "acks dropped": self.ack_dropped,
            "abandoned": self.abandoned,
        }
        return ", ".join(parts + [f"{count:,} {what}" for what, count in rest.items() if count])


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a worker asks of its take streams; `Worker` says what each means."""

    queues: list[str]
    prefetch: int
    concurrency: int
    job_timeout: float | None


@dataclass(frozen=True, slots=True)
class Limits:
    """The numbers of a worker; `Worker` says what each means."""

    concurrency: int
    prefetch: int
    shutdown_timeout: float | None
    ack_max_batch: int
    job_timeout: float | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "prefetch", "ack_max_batch"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"{name}={value!r} must be at least 1")
        if self.job_timeout == 0:
            raise ConfigError("job_timeout=0 must be a millisecond or more (None is no limit)")
        if self.shutdown_timeout is not None and self.shutdown_timeout < 0:
            raise ConfigError(f"shutdown_timeout={self.shutdown_timeout!r} must not be negative (None is unbounded)")

    @property
    def reserve(self) -> float:
        """Seconds of the shutdown timeout kept for sending reports once handlers were cancelled."""
        return 0.25 if self.shutdown_timeout is None else min(0.25, 0.05 * self.shutdown_timeout)
